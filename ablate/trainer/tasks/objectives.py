"""What a head's outputs mean: their loss, and the predictions they stand for.

A new loss is a class here, a line in `OBJECTIVES`, and its name in `task.Loss`.
"""

from collections.abc import Callable
from typing import Protocol

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from ablate.trainer.tasks.task import Labels, Loss


class Objective(Protocol):
    """The loss of a head's outputs, and what they predict."""

    outputs: int  # of the head, for each item

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of outputs for labels [n], or [n, labels] where several can hold."""

    def predict(self, output: Tensor) -> Tensor:
        """Return predictions in the shape of the labels, fp64."""


class CrossEntropy:
    """Outputs [n, classes] are scores of each class from 0 on."""

    def __init__(self, labels: Labels) -> None:
        self.outputs = labels.count

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats."""
        return F.cross_entropy(output, labels.long())

    def predict(self, output: Tensor) -> Tensor:
        """Return the likeliest class [n]."""
        return output.argmax(dim=1).double()


class BinaryCrossEntropy:
    """Outputs are logits: one of class 1 [n], or one of each label [n, labels]."""

    def __init__(self, labels: Labels) -> None:
        self.outputs = labels.count if labels.several else 1

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Return the mean binary cross-entropy in nats."""
        return F.binary_cross_entropy_with_logits(output, labels.float())

    def predict(self, output: Tensor) -> Tensor:
        """Return 1 or 0."""
        return (output > 0).double()


class SquaredError:
    """Outputs [n] are numbers on the scale 0 to 5 of STS-B, whatever the labels' range: the default learning rates fit it."""

    TOP = 5

    def __init__(self, labels: Labels) -> None:
        self.outputs = 1
        self.low, self.unit = labels.low, (labels.top - labels.low) / self.TOP

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Return the mean squared error on the scale 0 to 5."""
        return F.mse_loss(output, ((labels - self.low) / self.unit).float())

    def predict(self, output: Tensor) -> Tensor:
        """Return the number [n] on the labels' scale; not clipped to their range, which would create ties."""
        return output.double() * self.unit + self.low


OBJECTIVES: dict[Loss, Callable[[Labels], Objective]] = {
    "cross_entropy": CrossEntropy,
    "binary_cross_entropy": BinaryCrossEntropy,
    "squared_error": SquaredError,
}
