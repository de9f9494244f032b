"""How much each task's loss counts in joint training: fixed, or adapted to the losses during training.

The weights are factors of the losses. They act on heads and encoder (before surgery). Without a method the losses are summed.
Methods that define a mean (dwa, famo) have their weights scaled to sum to the number of tasks, so that they do not change the
learning rate as well. Uncertainty learns its scale.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ablate.trainer.encoders.flat_parameters import Flat, Gradients
from ablate.trainer.settings import Settings
from ablate.trainer.tasks.task import Task

Losses = Mapping[str, float]  # task -> the mean loss of its batch

LOG_VARIANCES = "log variances"  # no task can have this name
DWA_TEMPERATURE = 2.0
FAMO_RATE, FAMO_DECAY, FAMO_EPSILON = 0.025, 1e-3, 1e-8


def build_balancing(
    settings: Settings, tasks: Sequence[str], steps_per_epoch: int, device: torch.device
) -> "Balancing":
    """Return the method of a stage that trains `tasks`; with one task, there is nothing to balance."""
    trained = [task for task in settings.trained if task.name in tasks]
    if settings.balancing == "uncertainty":
        return Uncertainty(trained, device)
    if settings.balancing == "dwa":
        return DynamicWeightAverage(tasks, steps_per_epoch)
    if settings.balancing == "famo":
        return Famo(tasks)
    fixed = {task: settings.loss_weights[task] for task in tasks}
    return Fixed(fixed) if len(tasks) > 1 and set(fixed.values()) != {1.0} else Balancing()


class Balancing:
    """The plain sum of the losses: the base class of all methods.

    Attributes:
        flats: parameters of the method that the optimizer trains beside the model's.
    """

    def __init__(self) -> None:
        self.flats: dict[str, Flat] = {}

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum that is minimised; `losses` may be those of only some tasks of a step."""
        return torch.stack(list(losses.values())).sum()

    def before_step(self, losses: Mapping[str, Tensor], gradients: Mapping[str, Gradients]) -> None:
        """Complete a step's gradients, given its losses and the gradients of their `total`. Must not wait for a device."""

    def after_step(self, losses: Losses, again: Callable[[], Losses]) -> None:
        """Learn from a step's losses; `again` recomputes the losses of the same batches after the step, with the same dropout."""

    def weights(self) -> dict[str, float]:
        """Return the weights that the next step will have, by task."""
        return {}

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs to continue from here."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from where `state` was taken."""


class Fixed(Balancing):
    """Constant weights by task."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self._weights = dict(weights)

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum."""
        return super().total({task: loss * self._weights[task] for task, loss in losses.items()})


class DynamicWeightAverage(Fixed):
    """DWA (Liu et al. 2019, End-to-End Multi-Task Learning with Attention): a task whose loss falls slowly gets a high weight.

    In epoch t, w_k = K softmax_k(r_k / 2) with r_k = L_k(t-1) / L_k(t-2),
    the mean losses of the last two epochs; 1 in the first two epochs.
    """

    def __init__(self, tasks: Sequence[str], steps_per_epoch: int) -> None:
        super().__init__(dict.fromkeys(tasks, 1.0))
        self._steps_per_epoch = steps_per_epoch
        self._sums, self._steps = dict.fromkeys(tasks, 0.0), 0  # sums over this epoch
        self._means: list[dict[str, float]] = []  # mean losses of the last two epochs

    def after_step(self, losses: Losses, again: Callable[[], Losses]) -> None:
        """Note the losses; compute new weights at the end of an epoch."""
        self._sums = {task: total + losses[task] for task, total in self._sums.items()}
        self._steps += 1
        if self._steps < self._steps_per_epoch:
            return
        means = {task: total / self._steps for task, total in self._sums.items()}
        self._means = [*self._means, means][-2:]
        self._sums, self._steps = dict.fromkeys(self._sums, 0.0), 0
        if len(self._means) == 2:
            before, last = self._means
            # A loss that was 0 has no rate; it counts as constant.
            rates = [last[task] / before[task] if before[task] else 1.0 for task in means]
            shares = torch.softmax(torch.tensor(rates, dtype=torch.float64) / DWA_TEMPERATURE, 0).tolist()
            self._weights = {task: len(means) * share for task, share in zip(means, shares, strict=True)}

    def weights(self) -> dict[str, float]:
        """Return the weights that the next step will have, by task."""
        return self._weights

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs to continue from here."""
        return {"weights": self._weights, "sums": self._sums, "steps": self._steps, "means": self._means}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from where `state` was taken."""
        self._weights, self._sums = dict(state["weights"]), dict(state["sums"])
        self._steps, self._means = int(state["steps"]), [dict(means) for means in state["means"]]


class Uncertainty(Balancing):
    """Uncertainty weighting (Kendall, Gal and Cipolla 2018): minimises the sum of a_k exp(-s_k) L_k + s_k / 2.

    s_k, the log-variance of task k, starts at 0 and is trained by the optimizer at the heads' rate. a_k is 1/2 for squared errors
    (the likelihood of a Gaussian) and 1 for cross-entropies (that of a softmax).
    """

    def __init__(self, tasks: Sequence[Task], device: torch.device) -> None:
        super().__init__()
        self._tasks = [task.name for task in tasks]
        module = nn.Module()
        module.register_parameter("s", nn.Parameter(torch.zeros(len(tasks), device=device)))
        self.flats = {LOG_VARIANCES: Flat(module)}
        gaussian = [task.loss in ("squared_error", "cosine") for task in tasks]
        self._factors = torch.tensor([0.5 if squared else 1.0 for squared in gaussian], device=device)

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum; `before_step` gives the gradients of s."""
        weights = dict(zip(self._tasks, self._weights(), strict=True))
        return super().total({task: loss * weights[task] for task, loss in losses.items()})

    def before_step(self, losses: Mapping[str, Tensor], gradients: Mapping[str, Gradients]) -> None:
        """Write the gradients of s: 1/2 - a exp(-s) L."""
        values = torch.stack([losses[task] for task in self._tasks])
        gradients[LOG_VARIANCES].dense[0] = 0.5 - self._weights() * values

    def weights(self) -> dict[str, float]:
        """Return a exp(-s) by task."""
        return dict(zip(self._tasks, self._weights().tolist(), strict=True))

    def _weights(self) -> Tensor:
        return self._factors * torch.exp(-self.flats[LOG_VARIANCES].values)

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs to continue from here; the moments are the optimizer's."""
        return {"log_variances": self.flats[LOG_VARIANCES].values}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from where `state` was taken."""
        self.flats[LOG_VARIANCES].values.copy_(state["log_variances"])


class Famo(Balancing):
    """FAMO (Liu et al. 2023) makes all losses fall at the same rate.

    The gradient is c times the sum of z_k grad log L_k, with z = softmax(w) and 1 / c = the sum of z_k / L_k. After each step,
    Adam updates w by how much log L_k of the same batches has fallen: the more a task's loss fell, the less weight it gets.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        super().__init__()
        self._tasks = tuple(tasks)
        # On the CPU: a few numbers, which the host needs.
        self._logits = nn.Parameter(torch.zeros(len(tasks), dtype=torch.float64))
        self._adam = torch.optim.Adam([self._logits], lr=FAMO_RATE, weight_decay=FAMO_DECAY)

    def total(self, losses: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum without c, which depends on all losses; `before_step` multiplies by it."""
        z = self._shares()
        return super().total(
            {task: loss * (z[task] / (loss.detach() + FAMO_EPSILON)) for task, loss in losses.items()}
        )

    def before_step(self, losses: Mapping[str, Tensor], gradients: Mapping[str, Gradients]) -> None:
        """Multiply all gradients by c and by the number of tasks, to which the weights c z_k / L_k then sum."""
        z = self._shares()
        weights = torch.stack([share / (losses[task] + FAMO_EPSILON) for task, share in z.items()])
        scale = len(z) / weights.sum()
        for of_one in gradients.values():
            for piece in of_one.pieces():
                piece.mul_(scale)

    def after_step(self, losses: Losses, again: Callable[[], Losses]) -> None:
        """Update w."""
        after = again()
        fallen = [self._log(losses[task]) - self._log(after[task]) for task in self._tasks]
        z, change = torch.softmax(self._logits.detach(), 0), torch.tensor(fallen, dtype=torch.float64)
        # The gradient of z @ change.
        self._logits.grad = z * (change - z @ change)
        self._adam.step()

    def _shares(self) -> dict[str, float]:
        z = torch.softmax(self._logits.detach(), 0).tolist()
        return dict(zip(self._tasks, z, strict=True))

    @staticmethod
    def _log(loss: float) -> float:
        return math.log(loss + FAMO_EPSILON)

    def weights(self) -> dict[str, float]:
        """Return z times the number of tasks: the weights of log L_k."""
        return {task: len(self._tasks) * share for task, share in self._shares().items()}

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs to continue from here."""
        return {"logits": self._logits.detach(), "moments": dict(self._adam.state[self._logits])}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from where `state` was taken."""
        self._logits.data.copy_(state["logits"])
        self._adam.state[self._logits] = {name: value.clone() for name, value in state["moments"].items()}
