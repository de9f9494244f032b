"""What stands on the sentence embeddings u and v: a task's head, with its loss and its predictions. Of one sentence v is None.

Heads compute in fp32 whatever the encoder's precision: bfloat16 would round a similarity to steps of 0.02.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from ablate.trainer.tasks.table import TASKS

# What a head sees of the embeddings [n, hidden] -> how many of their widths, and how it is made of them.
_FEATURES: dict[str, tuple[int, Callable[[Tensor, Any], Tensor]]] = {
    "sentence": (1, lambda u, v: u),
    "concat": (2, lambda u, v: torch.cat([u, v], dim=1)),
    "difference": (3, lambda u, v: torch.cat([u, v, (u - v).abs()], dim=1)),
}


class Choices(Protocol):
    """What heads take from a trial's settings."""

    @property
    def dense_size(self) -> int:
        """Width of the dense layer; 0: there is none."""

    @property
    def dropout(self) -> float:
        """Before each layer."""

    def head_of(self, task: str) -> str:
        """Return one of the task's `heads`."""


class Head(nn.Module):
    """Dropout, a dense layer with GELU (none if `dense_size` is 0), dropout, and `outputs` numbers."""

    def __init__(self, features: str, hidden: int, outputs: int, settings: Choices) -> None:
        super().__init__()
        widths, self.features = _FEATURES[features]
        inputs, dense_size = widths * hidden, settings.dense_size
        self.dropout = nn.Dropout(settings.dropout)
        self.dense = nn.Linear(inputs, dense_size) if dense_size else None
        self.out = nn.Linear(dense_size or inputs, outputs)

    def score(self, u: Tensor, v: Tensor | None) -> Tensor:
        """[n, hidden] twice -> [n, outputs]."""
        hidden = self.dropout(self.features(u, v))
        if self.dense is not None:
            hidden = self.dropout(F.gelu(self.dense(hidden)))
        scores: Tensor = self.out(hidden)
        return scores


class Classification(Head):
    """One of the classes 0 to `top`."""

    def __init__(self, features: str, hidden: int, top: int, settings: Choices) -> None:
        super().__init__(features, hidden, top + 1, settings)

    def forward(self, u: Tensor, v: Tensor | None) -> Tensor:
        """[n, hidden] twice -> logits [n, classes]."""
        return self.score(u, v)

    @staticmethod
    def loss(output: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats."""
        return F.cross_entropy(output, labels.long())

    @staticmethod
    def predict(output: Tensor) -> Tensor:
        """Return the likeliest class [n]."""
        return output.argmax(dim=1).double()


class YesOrNo(Head):
    """1 or 0, as one logit."""

    def __init__(self, features: str, hidden: int, top: int, settings: Choices) -> None:
        super().__init__(features, hidden, 1, settings)

    def forward(self, u: Tensor, v: Tensor | None) -> Tensor:
        """[n, hidden] twice -> logits [n]."""
        return self.score(u, v).squeeze(1)

    @staticmethod
    def loss(output: Tensor, labels: Tensor) -> Tensor:
        """Return the mean binary cross-entropy in nats."""
        return F.binary_cross_entropy_with_logits(output, labels.float())

    @staticmethod
    def predict(output: Tensor) -> Tensor:
        """Return 1 or 0 [n]."""
        return (output > 0).double()


class _OnScale(nn.Module):
    """A number on the labels' own scale, 0 to `top`."""

    @staticmethod
    def loss(output: Tensor, labels: Tensor) -> Tensor:
        """Return the mean squared error on the labels' scale."""
        return F.mse_loss(output, labels.float())

    @staticmethod
    def predict(output: Tensor) -> Tensor:
        """Return the number [n] as it is: cutting it to 0..top would create ties."""
        return output.double()


class Regression(_OnScale):
    """The number from a dense head."""

    def __init__(self, features: str, hidden: int, top: int, settings: Choices) -> None:
        super().__init__()
        self.head = Head(features, hidden, 1, settings)
        nn.init.constant_(self.head.out.bias, top / 2)  # start at the middle of the scale

    def forward(self, u: Tensor, v: Tensor | None) -> Tensor:
        """[n, hidden] twice -> [n]."""
        return self.head.score(u, v).squeeze(1)


class SiameseSimilarity(_OnScale):
    """top x cos(Wu, Wv) with one shared dense layer W (Reimers and Gurevych 2019, whose cosine is fitted to label / 5).

    Unrelated sentences are orthogonal, not opposite: hence 5 cos, and not 5 (cos + 1) / 2.
    """

    def __init__(self, hidden: int, top: int, settings: Choices) -> None:
        super().__init__()
        self.top = top
        self.dropout = nn.Dropout(settings.dropout)
        self.dense = nn.Linear(hidden, settings.dense_size) if settings.dense_size else nn.Identity()

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        """[n, hidden] twice -> [n]."""
        both = self.dense(self.dropout(torch.cat([u, v])))
        return self.top * F.cosine_similarity(both[: len(u)], both[len(u) :], dim=1)


TaskHead = Classification | YesOrNo | Regression | SiameseSimilarity

_FITTED_BY: dict[str, Callable[[str, int, int, Choices], TaskHead]] = {
    "cross_entropy": Classification,
    "binary_cross_entropy": YesOrNo,
    "squared_error": Regression,
}


def build_head(task: str, hidden: int, settings: Choices) -> TaskHead:
    """Return the head that `settings` give `task`, on embeddings of size `hidden`; weights from torch's generator."""
    chosen, top = settings.head_of(task), TASKS[task].labels.top
    if chosen == "siamese":
        return SiameseSimilarity(hidden, top, settings)
    return _FITTED_BY[TASKS[task].loss](chosen, hidden, top, settings)
