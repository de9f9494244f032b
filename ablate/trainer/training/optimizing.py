"""The optimizer on flat buffers, and the learning rate as a function of the step."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from ablate.trainer.encoders.flat_parameters import Flat, Gradients
from ablate.trainer.settings import Settings
from ablate.trainer.training.table_rows import TableRows

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Optimizer:
    """Adam over named flat buffers, of which each step updates some or all.

    Attributes:
        gradients: name -> the gradients that the next `step` uses.

    Args:
        flats: name -> parameters; `encoder` has its own learning rate, all others have that of the heads.
        settings: of the part.
        total_steps: length of the schedule.
        shares: parameter -> its share of the peak rate; 1 where it is not named.
    """

    def __init__(
        self,
        flats: Mapping[str, Flat],
        settings: Settings,
        total_steps: int,
        shares: Mapping[Tensor, float] = MappingProxyType({}),
    ) -> None:
        self._settings = settings
        self._total_steps = total_steps
        self.gradients = {name: Gradients(flat) for name, flat in flats.items()}
        self._tables = {
            name: TableRows(flat.table.data, whole=bool(settings.l2) or flat.table.device.type != "cpu")
            for name, flat in flats.items()
            if flat.table is not None
        }
        # The leaves of each buffer, with their gradients (None for a table, whose rows change from step to step).
        self._leaves: dict[str, list[tuple[nn.Parameter, Tensor | None]]] = {}
        # By peak rate and weight decay: each group is one fused call per step.
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, flat in flats.items():
            peak = settings.encoder_lr if name == "encoder" else settings.lr.heads
            values, gradient = flat.beside_table, self.gradients[name].dense[0]
            # A leaf shares its storage with the module's parameters.
            pieces: list[tuple[bool, float, nn.Parameter, Tensor | None]] = [
                (is_matrix, share, nn.Parameter(values[run]), gradient[run])
                for is_matrix, share, run in flat.runs(shares)
            ]
            if flat.table is not None:
                pieces.append((True, shares.get(flat.table, 1.0), self._tables[name].leaf, None))
            self._leaves[name] = []
            # Matrices first, then the table.
            for is_matrix, share, leaf, of_leaf in sorted(pieces, key=lambda piece: not piece[0]):
                self._leaves[name].append((leaf, of_leaf))
                groups.setdefault((peak * share, settings.l2 if is_matrix else 0.0), []).append(leaf)
        kind = torch.optim.AdamW if settings.l2_kind == "decoupled" else torch.optim.Adam
        described = [
            {"params": leaves, "peak": peak, "lr": peak, "weight_decay": decay}
            for (peak, decay), leaves in groups.items()
        ]
        self._adam: Any = kind(described, fused=True)

    def step(self, step: int, taking_part: Sequence[str]) -> Tensor | None:
        """Clip the gradients of `taking_part`, and apply them at the learning rate of `step` (from 0).

        Returns the norm of the whole gradient before clipping, on its device; None if clipping is off. Norms are summed in the
        order given: the order of a set would change from process to process, and with it the last bits of all weights.
        """
        norm = self._clip([piece for name in taking_part for piece in self.gradients[name].pieces()])
        factor = rate_factor(step, self._total_steps, self._settings.schedule, self._settings.warmup)
        for group in self._adam.param_groups:
            group["lr"] = group["peak"] * factor
        for name, leaves in self._leaves.items():
            for leaf, gradient in leaves:
                leaf.grad = gradient if name in taking_part else None
        used = [(self._tables[name], self.gradients[name]) for name in taking_part if name in self._tables]
        for table, gradients in used:
            table.before_step(gradients, self._adam.state[table.leaf])
            table.leaf.grad = table.gradient
        self._adam.step()
        for table, gradients in used:
            table.after_step(gradients)
        return norm

    def _clip(self, gradients: list[Tensor]) -> Tensor | None:
        """Make Adam's next call scale the gradients by `clip` / norm, in its own pass, if their norm exceeds `clip`."""
        if not self._settings.clip:
            return None
        # A head may have no parameters.
        norms = torch.stack([torch.linalg.vector_norm(given) for given in gradients if given.numel()])
        norm: Tensor = torch.linalg.vector_norm(norms)
        excess = (norm / self._settings.clip).clamp_(min=1)
        # Checking for 1 would wait for a GPU; on a CPU, dividing by 1 would cost a pass.
        needed = excess.device.type != "cpu" or float(excess) != 1
        self._adam.grad_scale = excess if needed else None
        return norm

    def state(self) -> list[dict[str, Tensor]]:
        """Return the moments of each leaf; one that was never updated has none."""
        words = {table.leaf: table.state() for table in self._tables.values()}
        return [dict(self._adam.state[leaf]) | words.get(leaf, {}) for leaf in self._all_leaves()]

    def restore(self, state: list[dict[str, Tensor]]) -> None:
        """Continue with the moments that `state` returned.

        Raises:
            ValueError: they belong to other parameters; the fused step would write past their ends.
        """
        tables = {table.leaf: table for table in self._tables.values()}
        for leaf, moments in zip(self._all_leaves(), state, strict=True):
            if leaf in tables:
                tables[leaf].restore(moments)
            if "exp_avg" in moments and moments["exp_avg"].shape != leaf.shape:
                raise ValueError(f"moments of {moments['exp_avg'].numel()} parameters for {leaf.numel()}")
            if "exp_avg" in moments:
                self._adam.state[leaf] = {name: moments[name].to(leaf.device, copy=True) for name in _MOMENTS}

    def _all_leaves(self) -> list[nn.Parameter]:
        return [leaf for leaves in self._leaves.values() for leaf, _ in leaves]


def rate_factor(step: int, total_steps: int, schedule: str, warmup: float) -> float:
    """Return the share of the peak learning rate at `step` (from 0) of `total_steps`.

    It rises linearly over the first `warmup` x `total_steps` steps, then stays (`constant`), falls linearly, or falls along
    half a cosine. It is never 0, so that the last step has an effect.
    """
    rising = round(warmup * total_steps)
    if step < rising:
        return (step + 1) / rising
    left = (total_steps - step) / (total_steps - rising)  # 1 at the peak, down to one step's share
    if schedule == "linear":
        return left
    if schedule == "cosine":
        return 0.5 * (1 - math.cos(math.pi * left))
    return 1.0
