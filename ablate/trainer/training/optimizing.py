"""The optimizer on flat buffers, and the learning rate as a function of the step."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ablate.trainer.encoders.flat_parameters import Flat, Gradients
from ablate.trainer.settings import Settings

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class Optimizer:
    """Adam over named flat buffers, of which each step updates some or all.

    Attributes:
        gradients: name -> the gradients that the next `step` uses.

    Args:
        flats: name -> parameters; `encoder` has its own learning rate, all others have that of the heads.
        settings: of the part.
        total_steps: length of the schedule.
    """

    def __init__(self, flats: Mapping[str, Flat], settings: Settings, total_steps: int) -> None:
        self._settings = settings
        self._total_steps = total_steps
        self.gradients = {name: Gradients(flat) for name, flat in flats.items()}
        # Gradients of the whole tables, which the fused call needs; all 0 between steps.
        self._tables = {
            name: torch.zeros_like(flat.table) for name, flat in flats.items() if flat.table is not None
        }
        self._leaves: dict[str, list[tuple[nn.Parameter, Tensor]]] = {}  # of each buffer, with gradients
        # By peak rate and weight decay: each group is one fused call per step.
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for name, flat in flats.items():
            peak = settings.encoder_lr if name == "encoder" else settings.lr.heads
            values, gradient = flat.beside_table, self.gradients[name].dense[0]
            decayed = [(values[: flat.matrices], gradient[: flat.matrices])]
            if flat.table is not None:
                decayed.append((flat.table.data, self._tables[name]))
            spared = [(values[flat.matrices :], gradient[flat.matrices :])]
            self._leaves[name] = []
            for pairs, decay in ((decayed, settings.l2), (spared, 0.0)):
                # A leaf shares its storage with the module's parameters.
                leaves = [(nn.Parameter(part), grad) for part, grad in pairs if part.numel()]
                self._leaves[name] += leaves
                groups.setdefault((peak, decay), []).extend(leaf for leaf, _ in leaves)
        kind = torch.optim.AdamW if settings.l2_kind == "decoupled" else torch.optim.Adam
        described = [
            {"params": leaves, "peak": peak, "lr": peak, "weight_decay": decay}
            for (peak, decay), leaves in groups.items()
        ]
        self._adam = kind(described, fused=True)

    def step(self, step: int, taking_part: Sequence[str]) -> float | None:
        """Clip the gradients of `taking_part`, and apply them at the learning rate of `step` (from 0).

        Returns the norm of the whole gradient before clipping; None if clipping is off. Norms are summed in the order given: the
        order of a set would change from process to process, and with it the last bits of all weights.
        """
        norm = self._clip([piece for name in taking_part for piece in self.gradients[name].pieces()])
        factor = rate_factor(step, self._total_steps, self._settings.schedule, self._settings.warmup)
        for group in self._adam.param_groups:
            group["lr"] = group["peak"] * factor
        for name, leaves in self._leaves.items():
            for leaf, gradient in leaves:
                leaf.grad = gradient if name in taking_part else None
        used = {name: self.gradients[name] for name in taking_part if name in self._tables}
        for name, gradients in used.items():
            self._tables[name].index_copy_(0, gradients.words, gradients.rows[0])
        self._adam.step()
        for name, gradients in used.items():
            self._tables[name].index_fill_(0, gradients.words, 0)
        return norm

    def _clip(self, gradients: list[Tensor]) -> float | None:
        if not self._settings.clip:
            return None
        norms = torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients])
        norm = float(torch.linalg.vector_norm(norms))
        if norm > self._settings.clip:
            for gradient in gradients:
                gradient.mul_(self._settings.clip / norm)
        return norm

    def state(self) -> list[dict[str, Tensor]]:
        """Return the moments of each leaf; one that was never updated has none."""
        return [dict(self._adam.state[leaf]) for leaf in self._all_leaves()]

    def restore(self, state: list[dict[str, Tensor]]) -> None:
        """Continue with the moments that `state` returned.

        Raises:
            ValueError: they belong to other parameters. Without this check the fused step would write past their ends.
        """
        for leaf, moments in zip(self._all_leaves(), state, strict=True):
            if moments and moments["exp_avg"].shape != leaf.shape:
                raise ValueError(f"moments of {moments['exp_avg'].numel()} parameters for {leaf.numel()}")
            if moments:
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
