"""R-Drop (Liang et al. 2021): each item is computed twice, with different dropout, and the two outputs are pulled together.

The loss is the mean of both losses, as in the authors' example, so that its scale stays the same. The paper adds them, so its
alpha is twice ours.
"""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own name for it

from ablate.trainer.tasks.heads import TaskHead
from ablate.trainer.tasks.objectives import BinaryCrossEntropy, Cosine, CrossEntropy, Objective


def r_drop_loss(head: TaskHead, pair: tuple[Tensor, Tensor | None], labels: Tensor, alpha: float) -> Tensor:
    """Return the mean loss of both passes plus alpha times the distance between their outputs.

    Args:
        head: of the task.
        pair: embeddings [2 n, hidden] of the first and second sentences; row n + i is item i a second time.
        labels: [n] or [n, labels].
        alpha: weight of the distance between the two outputs.
    """
    halves = zip(*(torch.split(column, len(labels)) for column in pair if column is not None), strict=True)
    once, again = (head(*half) for half in halves)
    loss = (head.loss(once, labels) + head.loss(again, labels)) / 2
    return loss + alpha * distance(head.objective, once, again)


def distance(objective: Objective, a: Tensor, b: Tensor) -> Tensor:
    """Return the mean distance of two outputs of a head.

    For classes it is the symmetric Kullback-Leibler divergence, (KL(p|q) + KL(q|p)) / 2 in nats; for several labels per item,
    its mean over the labels; for numbers, the squared difference.
    """
    if isinstance(objective, CrossEntropy):
        return _divergence(F.log_softmax(a, 1), F.log_softmax(b, 1))
    if isinstance(objective, BinaryCrossEntropy):
        return _divergence(*(torch.stack([F.logsigmoid(x), F.logsigmoid(-x)], -1) for x in (a, b)))
    # On the scale of the loss itself.
    scale = Cosine.TOP if isinstance(objective, Cosine) else 1
    return F.mse_loss(a / scale, b / scale)


def _divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Log-probabilities [.., classes] -> the mean symmetric divergence."""
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1).mean() / 2
