"""What stands on the sentence embeddings: one head per task, and its loss.

Heads compute in fp32 whatever the encoder's precision: bfloat16 would round a similarity to steps of 0.02.

Scales: sentiment gives five logits; paraphrase one logit; similarity a number on the labels' own scale, 0 to
5."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from ablate.trainer.settings import Settings

SENTIMENT_LEVELS = 5
TOP_SIMILARITY = 5.0


class Head(nn.Module):
    """Dropout, a dense layer with GELU (none if `dense_size` is 0), dropout, and `outputs` numbers."""

    def __init__(self, inputs: int, outputs: int, dense_size: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.dense = nn.Linear(inputs, dense_size) if dense_size else None
        self.out = nn.Linear(dense_size or inputs, outputs)

    def score(self, features: Tensor) -> Tensor:
        """[n, inputs] -> [n, outputs]."""
        hidden = self.dropout(features)
        if self.dense is not None:
            hidden = self.dropout(F.gelu(self.dense(hidden)))
        scores: Tensor = self.out(hidden)
        return scores


class SentimentHead(Head):
    """Five-way classification of one sentence."""

    def __init__(self, hidden: int, settings: Settings) -> None:
        super().__init__(hidden, SENTIMENT_LEVELS, settings.dense_size, settings.dropout)

    def forward(self, u: Tensor, v: Tensor | None) -> Tensor:
        """[n, hidden] -> logits [n, 5]."""
        return self.score(u)

    @staticmethod
    def loss(output: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy in nats."""
        return F.cross_entropy(output, labels.long())

    @staticmethod
    def predict(output: Tensor) -> Tensor:
        """Return the likeliest class, 0 to 4 [n]."""
        return output.argmax(dim=1).double()


class ParaphraseHead(Head):
    """Same meaning or not, from [u, v] or [u, v, |u - v|]."""

    def __init__(self, hidden: int, settings: Settings) -> None:
        self.with_difference = settings.paraphrase_head == "difference"
        super().__init__(
            hidden * (3 if self.with_difference else 2), 1, settings.dense_size, settings.dropout
        )

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        """[n, hidden] twice -> logits [n]."""
        pair = [u, v, (u - v).abs()] if self.with_difference else [u, v]
        return self.score(torch.cat(pair, dim=1)).squeeze(1)

    @staticmethod
    def loss(output: Tensor, labels: Tensor) -> Tensor:
        """Return the mean binary cross-entropy in nats."""
        return F.binary_cross_entropy_with_logits(output, labels.float())

    @staticmethod
    def predict(output: Tensor) -> Tensor:
        """Return 1 for a paraphrase, else 0 [n]."""
        return (output > 0).double()


class _Regression(nn.Module):
    @staticmethod
    def loss(output: Tensor, labels: Tensor) -> Tensor:
        """Return the mean squared error on the scale 0 to 5."""
        return F.mse_loss(output, labels.float())

    @staticmethod
    def predict(output: Tensor) -> Tensor:
        """Return the similarity [n] as it is: cutting it to 0..5 would create ties."""
        return output.double()


class ConcatSimilarity(_Regression):
    """Regression on [u, v]."""

    def __init__(self, hidden: int, settings: Settings) -> None:
        super().__init__()
        self.head = Head(hidden * 2, 1, settings.dense_size, settings.dropout)
        nn.init.constant_(self.head.out.bias, TOP_SIMILARITY / 2)  # start at the middle of the scale

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        """[n, hidden] twice -> [n]."""
        return self.head.score(torch.cat([u, v], dim=1)).squeeze(1)


class SiameseSimilarity(_Regression):
    """5 cos(Wu, Wv) with one shared dense layer W (Reimers and Gurevych 2019, whose cosine is fitted to label
    / 5).

    Unrelated sentences are orthogonal, not opposite: hence 5 cos, and not 5 (cos + 1) / 2.
    """

    def __init__(self, hidden: int, settings: Settings) -> None:
        super().__init__()
        self.dropout = nn.Dropout(settings.dropout)
        self.dense = nn.Linear(hidden, settings.dense_size) if settings.dense_size else nn.Identity()

    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        """[n, hidden] twice -> [n]."""
        both = self.dense(self.dropout(torch.cat([u, v])))
        return TOP_SIMILARITY * F.cosine_similarity(both[: len(u)], both[len(u) :], dim=1)


TaskHead = SentimentHead | ParaphraseHead | ConcatSimilarity | SiameseSimilarity


def build_head(task: str, hidden: int, settings: Settings) -> TaskHead:
    """Return the head that `settings` give `task`, on embeddings of size `hidden`; weights from torch's
    generator."""
    if task == "sentiment":
        return SentimentHead(hidden, settings)
    if task == "paraphrase":
        return ParaphraseHead(hidden, settings)
    if settings.similarity_head == "siamese":
        return SiameseSimilarity(hidden, settings)
    return ConcatSimilarity(hidden, settings)
