"""What a model says of a split: predictions per item, and the metrics of one look at dev."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ablate.contract import Context
from ablate.errors import TrialError
from ablate.trainer.data.tokens import TaskSplit
from ablate.trainer.encoders.embedding import Pair
from ablate.trainer.tasks.heads import TaskHead
from ablate.trainer.tasks.table import PAPER, mean_metric, means

ITEMS_AT_ONCE = 4096


@dataclass(frozen=True)
class Evaluation:
    """One look at the dev split."""

    step: int
    metrics: dict[str, float]  # by task
    predicted: dict[str, Tensor]  # task -> [items], fp64 on the CPU

    @property
    def score(self) -> float:
        """The mean metric, by which the best evaluation is chosen."""
        return mean_metric(self.metrics)

    def named(self, split: str, suffix: str = "", tasks: Sequence[str] = PAPER) -> dict[str, float]:
        """Return the metrics as `<split>/<task><suffix>`, with the mean where all the study's `tasks` are there."""
        named = {f"{split}/{task}{suffix}": value for task, value in self.metrics.items()}
        return named | means(named, tasks)

    def state(self) -> dict[str, Any]:
        """Return this as plain values for a checkpoint."""
        return {"step": self.step, "metrics": self.metrics, "predicted": self.predicted}


def predict(head: TaskHead, pair: Pair, where: str) -> Tensor:
    """Return the predictions [items] of `head` on embeddings, fp64 on the CPU, without dropout.

    Raises:
        TrialError: the head gives a number that is not finite, of which a class would still be the largest; names
            `where`.
    """
    first, second = pair
    head.eval()
    with torch.no_grad():
        outputs = [
            head(
                first[start : start + ITEMS_AT_ONCE],
                second[start : start + ITEMS_AT_ONCE] if second is not None else None,
            )
            for start in range(0, len(first), ITEMS_AT_ONCE)
        ]
        predicted = torch.cat([head.predict(output) for output in outputs]).cpu()
    head.train()
    if not all(output.isfinite().all() for output in outputs):
        raise TrialError(f"{where}: a prediction is not a finite number; a lower learning rate would do")
    return predicted


def keep_predictions(context: Context, split: str, task: str, items: TaskSplit, predicted: Tensor) -> None:
    """Give the context what was predicted [items]: beside it NaN for labels that are kept back, and the clusters of rows
    that share a sentence, where there are any."""
    gold = items.labels.tolist() if items.labels is not None else [math.nan] * items.n
    shared = {} if items.clusters is None else {"clusters": [f"{task}-{label}" for label in items.clusters]}
    context.predictions(split, task, items.ids, predicted.tolist(), gold, **shared)


def evaluation_from(state: Mapping[str, Any]) -> Evaluation:
    """Return the evaluation that `Evaluation.state` described."""
    return Evaluation(int(state["step"]), dict(state["metrics"]), dict(state["predicted"]))
