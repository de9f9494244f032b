"""A task's head: from the sentence embeddings u and v to its output, loss and predictions. For single sentences v is None.

Heads compute in fp32 whatever the encoder's precision: bfloat16 would round a similarity to steps of 0.02.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from ablate.trainer.tasks.task import Task

# What a dense head sees of the embeddings [n, hidden]: how many times their width, and the function.
_FEATURES: dict[str, tuple[int, Callable[[Tensor, Any], Tensor]]] = {
    "sentence": (1, lambda u, v: u),
    "concat": (2, lambda u, v: torch.cat([u, v], dim=1)),
    "difference": (3, lambda u, v: torch.cat([u, v, (u - v).abs()], dim=1)),
}


def build_head(task: Task, chosen: str, hidden: int, dense_size: int, dropout: float) -> "TaskHead":
    """Return the head of `task` that is called `chosen`, on embeddings of size `hidden`; weights from torch's generator."""
    top = task.labels.top
    if chosen == "siamese":
        return SiameseSimilarity(hidden, top, dense_size, dropout)
    if task.loss == "cross_entropy":
        return Classification(chosen, hidden, top + 1, dense_size, dropout)
    if task.loss == "binary_cross_entropy":
        return YesOrNo(chosen, hidden, 1, dense_size, dropout)
    return Regression(Dense(chosen, hidden, 1, dense_size, dropout), top)


class Dense(nn.Module):
    """Dropout, a dense layer with GELU (none if `dense_size` is 0), dropout, a linear layer with `outputs` outputs."""

    def __init__(self, features: str, hidden: int, outputs: int, dense_size: int, dropout: float) -> None:
        super().__init__()
        widths, self.features = _FEATURES[features]
        inputs = widths * hidden
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(inputs, dense_size) if dense_size else None
        self.out = nn.Linear(dense_size or inputs, outputs)

    def forward(self, u: Tensor, v: Tensor | None = None) -> Tensor:
        """[n, hidden] twice -> [n, outputs]."""
        hidden = self.dropout(self.features(u, v))
        if self.dense is not None:
            hidden = self.dropout(F.gelu(self.dense(hidden)))
        output: Tensor = self.out(hidden)
        return output


class Classification(Dense):
    """Scores of each class from 0 on."""

    @staticmethod
    def loss(output: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats."""
        return F.cross_entropy(output, labels.long())

    @staticmethod
    def predict(output: Tensor) -> Tensor:
        """Return the likeliest class [n]."""
        return output.argmax(dim=1).double()


class YesOrNo(Dense):
    """1 or 0, as one logit."""

    def forward(self, u: Tensor, v: Tensor | None = None) -> Tensor:
        """[n, hidden] twice -> logits [n]."""
        return super().forward(u, v).squeeze(1)

    @staticmethod
    def loss(output: Tensor, labels: Tensor) -> Tensor:
        """Return the mean binary cross-entropy in nats."""
        return F.binary_cross_entropy_with_logits(output, labels.float())

    @staticmethod
    def predict(output: Tensor) -> Tensor:
        """Return 1 or 0 [n]."""
        return (output > 0).double()


class Scale(nn.Module):
    """A number on the labels' own scale, 0 to `top`."""

    @staticmethod
    def loss(output: Tensor, labels: Tensor) -> Tensor:
        """Return the mean squared error on the labels' scale."""
        return F.mse_loss(output, labels.float())

    @staticmethod
    def predict(output: Tensor) -> Tensor:
        """Return the number [n] unchanged: clipping it to 0..top would create ties."""
        return output.double()


class Regression(Scale):
    """The number a dense head gives."""

    def __init__(self, head: Dense, top: int) -> None:
        super().__init__()
        self.head = head
        # Start in the middle of the scale.
        nn.init.constant_(head.out.bias, top / 2)

    def forward(self, u: Tensor, v: Tensor | None = None) -> Tensor:
        """[n, hidden] twice -> [n]."""
        output: Tensor = self.head(u, v)
        return output.squeeze(1)


class SiameseSimilarity(Scale):
    """top x cos(Wu, Wv) with one shared dense layer W (Reimers and Gurevych 2019, whose cosine is fitted to label / 5).

    Unrelated sentences are orthogonal, not opposite: hence 5 cos, and not 5 (cos + 1) / 2.
    """

    def __init__(self, hidden: int, top: int, dense_size: int, dropout: float) -> None:
        super().__init__()
        self.top = top
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(hidden, dense_size) if dense_size else nn.Identity()

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        """[n, hidden] twice -> [n]."""
        both = self.dense(self.dropout(torch.cat([u, v])))
        return self.top * F.cosine_similarity(both[: len(u)], both[len(u) :], dim=1)


TaskHead = Classification | YesOrNo | Regression | SiameseSimilarity
