"""What a head's outputs mean: their loss, and the predictions that they give.

A new loss is a class here, a line in `OBJECTIVES`, its name in `task.Loss`, and its place in `declared_kinds.py`.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from ablate.errors import TrialError
from ablate.trainer.tasks.task import Loss, Task


class Objective(Protocol):
    """The loss of a head's outputs, and what they predict."""

    outputs: int  # outputs of the head per item

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of outputs for labels [n], or [n, labels] where several can hold."""

    def predict(self, output: Tensor) -> Tensor:
        """Return predictions in the shape of the labels, fp64."""


class CrossEntropy:
    """Outputs [n, classes] are the logits of the classes 0, 1, ...

    Label smoothing e is Szegedy et al.'s (2016): the label's class has a share of 1 - e, and e is spread over all classes.
    """

    def __init__(self, task: Task, class_weights: Tensor | None) -> None:
        self.outputs = task.labels.count
        self.smoothing, self.class_weights = task.loss_options.label_smoothing, class_weights

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats, each item weighted by its class.

        The sum is divided by the number of items, not by the sum of their weights as in torch, where the weights cancel in a
        batch of one class.
        """
        classes = labels.long()
        if self.class_weights is None:
            return F.cross_entropy(output, classes, label_smoothing=self.smoothing)
        losses = F.cross_entropy(output, classes, label_smoothing=self.smoothing, reduction="none")
        return (losses * self.class_weights[classes]).mean()

    def predict(self, output: Tensor) -> Tensor:
        """Return the likeliest class [n]."""
        return output.argmax(dim=1).double()


class BinaryCrossEntropy:
    """Outputs are logits: one of class 1 [n], or one of each label [n, labels]."""

    def __init__(self, task: Task, class_weights: Tensor | None) -> None:
        self.outputs = task.labels.count if task.labels.several else 1
        self.smoothing, self.class_weights = task.loss_options.label_smoothing, class_weights

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Return the mean binary cross-entropy in nats, with smoothing and weights as in `CrossEntropy` with two classes."""
        target = labels.float()
        if self.smoothing:
            target = (1 - self.smoothing) * target + self.smoothing / 2
        weights = None if self.class_weights is None else self.class_weights[labels.long()]
        return F.binary_cross_entropy_with_logits(output, target, weights)

    def predict(self, output: Tensor) -> Tensor:
        """Return 1 or 0."""
        return (output > 0).double()


class SquaredError:
    """Outputs [n] are on STS-B's scale 0 to 5, whatever the labels' range: the default learning rates are tuned for it."""

    TOP = 5

    def __init__(self, task: Task, class_weights: None = None) -> None:
        self.outputs = 1
        self.low, self.unit = task.labels.low, (task.labels.top - task.labels.low) / self.TOP
        self.options = task.loss_options

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Return the mean squared error on the scale 0 to 5."""
        return F.mse_loss(output, self._on_scale(labels))

    def predict(self, output: Tensor) -> Tensor:
        """Return the number [n] on the labels' scale; not clipped to their range, which would create ties."""
        return output.double() * self.unit + self.low

    def _on_scale(self, labels: Tensor) -> Tensor:
        return ((labels - self.low) / self.unit).float()


class Cosine(SquaredError):
    """The siamese head's output is 5 x the cosine. The cosine is fitted to the label, mapped from its range to 0 to 1.

    This is sentence-transformers' CosineSimilarityLoss: the squared error above, divided by 25.
    """

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Return the mean squared error on the scale 0 to 1."""
        return F.mse_loss(output / self.TOP, self._on_scale(labels) / self.TOP)


class CoSENT(SquaredError):
    """CoSENT (Su 2022, kexue.fm/archives/8847): of two pairs, the one with the higher label should have the higher cosine.

    Only the order of the labels counts. Predictions are still the cosine mapped to the labels' range.
    """

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Return log(1 + sum of exp(scale x (cos_j - cos_i)) over all i, j with label_i > label_j); 0 if all labels are equal."""
        cosines = output * (self.options.scale / self.TOP)
        too_high = cosines[None, :] - cosines[:, None]  # [i, j]
        ordered = labels[:, None] > labels[None, :]
        # masked_fill rather than a selection, which would make the host wait for the GPU.
        exponents = too_high.masked_fill(~ordered, -torch.inf).flatten()
        return torch.logsumexp(torch.cat([exponents.new_zeros(1), exponents]), 0)


class MultipleNegatives(SquaredError):
    """Multiple negatives ranking (Henderson et al. 2017): each positive pair's second sentence against all others of the batch.

    In training, outputs [n, n] are 5 x the cosine of each first with each second sentence. Pairs whose label is below
    `positive_from` of the range are not positives, but their second sentences are negatives for the others. Labels have no
    other effect. Predictions are still the cosine mapped to the labels' range.
    """

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Return the positives' mean cross-entropy in nats; 0 without a positive, and for a batch of one pair."""
        positive = self.positive(labels).float()
        targets = torch.arange(len(output), device=output.device)
        losses = F.cross_entropy(output * (self.options.scale / self.TOP), targets, reduction="none")
        return (losses * positive).sum() / positive.sum().clamp(min=1)

    def positive(self, labels: Tensor) -> Tensor:
        """Return whether each pair is a positive [n]."""
        return self._on_scale(labels) >= self.TOP * self.options.positive_from


OBJECTIVES: dict[Loss, Callable[[Task, Tensor | None], Objective]] = {
    "cross_entropy": CrossEntropy,
    "binary_cross_entropy": BinaryCrossEntropy,
    "squared_error": lambda task, _: SquaredError(task),
    "cosine": lambda task, _: Cosine(task),
    "cosent": lambda task, _: CoSENT(task),
    "mnrl": lambda task, _: MultipleNegatives(task),
}


def class_weights(task: Task, labels: npt.NDArray[np.float64]) -> list[float] | None:
    """Return the weight of each class in the loss for training labels [n], or None if all count the same.

    `balanced` is scikit-learn's: n / (classes x count of the class). A class without labels does not count.
    """
    chosen = task.loss_options.class_weights
    if chosen != "balanced":
        return None if chosen is None else list(chosen)
    counts = np.bincount(labels.astype(np.int64), minlength=task.labels.count)
    weights = len(labels) / (np.count_nonzero(counts) * counts.clip(min=1))
    return [float(weight) for weight in weights]


def refuse_no_positive(task: Task, labels: npt.NDArray[np.float64]) -> None:
    """Check the training labels [n].

    Raises:
        TrialError: the loss is `mnrl`, and no pair is a positive, so nothing would be learnt.
    """
    if task.loss == "mnrl" and not MultipleNegatives(task).positive(torch.from_numpy(labels)).any():
        least = task.labels.low + task.loss_options.positive_from * (task.labels.top - task.labels.low)
        raise TrialError(
            f"{task.name}: loss: mnrl needs pairs with a label from {least:g}, found none above {labels.max():g} in the "
            "training data; choose a lower positive_from"
        )
