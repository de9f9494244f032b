"""A task's head: from the sentence embeddings u and v to its output. For single sentences v is None.

Heads compute in fp32 whatever the encoder's precision: bfloat16 would round a similarity to steps of 0.02.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from ablate.trainer.tasks.objectives import OBJECTIVES, MultipleNegatives, Objective, SquaredError
from ablate.trainer.tasks.task import Task

# The input of a dense head, computed from the embeddings [n, hidden]: its width in multiples of `hidden`, and the function.
_FEATURES: dict[str, tuple[int, Callable[[Tensor, Any], Tensor]]] = {
    "sentence": (1, lambda u, v: u),
    "concat": (2, lambda u, v: torch.cat([u, v], dim=1)),
    "difference": (3, lambda u, v: torch.cat([u, v, (u - v).abs()], dim=1)),
    "product": (4, lambda u, v: torch.cat([u, v, (u - v).abs(), u * v], dim=1)),
    # u is the embedding of both sentences as one sequence.
    "cross": (1, lambda u, v: u),
}


def build_head(
    task: Task,
    chosen: str,
    hidden: int,
    dense_size: int,
    dropout: float,
    class_weights: Tensor | None = None,
) -> "TaskHead":
    """Return the head of `task` that is called `chosen`, on embeddings of size `hidden`; weights from torch's generator.

    `class_weights` [classes] are the loss's weights, on the device of the labels; only training needs them.
    """
    objective = OBJECTIVES[task.loss](task, class_weights)
    numbers = isinstance(objective, SquaredError)
    if isinstance(objective, MultipleNegatives):
        return InBatchSimilarity(hidden, dense_size, dropout, objective)
    if chosen == "siamese":
        return (SiameseSimilarity if numbers else Siamese)(hidden, dense_size, dropout, objective)
    dense = Dense(chosen, hidden, dense_size, dropout, objective)
    return Regression(dense) if numbers else dense


class TaskHead(nn.Module):
    """What all heads have: the loss of their outputs, and the predictions."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def loss(self, output: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss over the batch."""
        return self.objective.loss(output, labels)

    def predict(self, output: Tensor) -> Tensor:
        """Return predictions in the shape of the labels, fp64."""
        return self.objective.predict(output)


class Dense(TaskHead):
    """Dropout, a dense layer with GELU (none if `dense_size` is 0), dropout, a linear layer."""

    def __init__(
        self, features: str, hidden: int, dense_size: int, dropout: float, objective: Objective
    ) -> None:
        super().__init__(objective)
        widths, self.features = _FEATURES[features]
        inputs = widths * hidden
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(inputs, dense_size) if dense_size else None
        self.out = nn.Linear(dense_size or inputs, objective.outputs)

    def forward(self, u: Tensor, v: Tensor | None = None) -> Tensor:
        """[n, hidden] twice -> [n, outputs], or [n] for one output."""
        hidden = self.dropout(self.features(u, v))
        if self.dense is not None:
            hidden = self.dropout(F.gelu(self.dense(hidden)))
        return _squeezed(self.out(hidden))


class Regression(TaskHead):
    """A dense head with one number as output."""

    def __init__(self, head: Dense) -> None:
        super().__init__(head.objective)
        self.head = head
        # Start in the middle of the scale.
        nn.init.constant_(head.out.bias, SquaredError.TOP / 2)

    def forward(self, u: Tensor, v: Tensor | None = None) -> Tensor:
        """[n, hidden] twice -> [n]."""
        output: Tensor = self.head(u, v)
        return output


class SiameseSimilarity(TaskHead):
    """5 x cos(Wu, Wv) with one shared dense layer W (Reimers and Gurevych 2019, whose cosine is fitted to label / 5).

    Unrelated sentences are orthogonal, not opposite: hence 5 cos, and not 5 (cos + 1) / 2.
    """

    def __init__(self, hidden: int, dense_size: int, dropout: float, objective: Objective) -> None:
        super().__init__(objective)
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(hidden, dense_size) if dense_size else nn.Identity()

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        """[n, hidden] twice -> [n]."""
        return SquaredError.TOP * F.cosine_similarity(*self._compared(u, v), dim=1)

    def _compared(self, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        both = self.dense(self.dropout(torch.cat([u, v])))
        return both[: len(u)], both[len(u) :]


class InBatchSimilarity(SiameseSimilarity):
    """`SiameseSimilarity`; in training, for every pair (first i, second j) of the batch."""

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        """[n, hidden] twice -> [n]; in training, [n, n]."""
        if not self.training:
            return super().forward(u, v)
        first, second = (F.normalize(side, dim=1) for side in self._compared(u, v))
        return SquaredError.TOP * first @ second.T


class Siamese(SiameseSimilarity):
    """A linear layer on `SiameseSimilarity`, for classes."""

    def __init__(self, hidden: int, dense_size: int, dropout: float, objective: Objective) -> None:
        super().__init__(hidden, dense_size, dropout, objective)
        self.out = nn.Linear(1, objective.outputs)

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        """[n, hidden] twice -> [n, outputs], or [n] for one output."""
        return _squeezed(self.out(super().forward(u, v)[:, None]))


def _squeezed(output: Tensor) -> Tensor:
    return output.squeeze(1) if output.shape[1] == 1 else output
