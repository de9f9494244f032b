"""Predictions per item, and the metrics of one evaluation on dev."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ablate.contract import Context
from ablate.errors import TrialError
from ablate.trainer.data.tokens import TaskSplit
from ablate.trainer.encoders.embedding import Pair
from ablate.trainer.tasks.heads import TaskHead
from ablate.trainer.tasks.registry import mean_of
from ablate.trainer.tasks.task import Task

ITEMS_AT_ONCE = 4096


@dataclass(frozen=True)
class Evaluation:
    """One evaluation on dev."""

    step: int
    metrics: dict[str, float]  # `<task>`, and `<task>.<metric>` for further metrics of a task
    predicted: dict[str, Tensor]  # task -> [items] or [items, labels], fp64 on the CPU

    def named(self, tasks: Sequence[Task], suffix: str = "") -> dict[str, float]:
        """Return the metrics as `dev/<task><suffix>`, with the mean if all of the study's `tasks` have one."""
        named = {f"dev/{name}{suffix}": value for name, value in self.metrics.items()}
        return named | mean_of(named, tasks, "dev", suffix)


def stated_metrics(tasks: Sequence[Task]) -> dict[str, dict[str, str]]:
    """Return what each metric of `tasks` is, for the report."""
    return {
        "metrics": {f"dev/{name}": metric for task in tasks for name, metric in task.named_metrics.items()}
    }


def predict(head: TaskHead, pair: Pair, where: str) -> Tensor:
    """Return the predictions [items] or [items, labels] of `head` on embeddings, fp64 on the CPU, without dropout.

    Raises:
        TrialError: an output of the head is not finite; names `where`. (argmax would still return a class for such outputs.)
    """
    columns = [torch.split(column, ITEMS_AT_ONCE) for column in pair if column is not None]
    head.eval()
    with torch.no_grad():
        outputs = [head(*batch) for batch in zip(*columns, strict=True)]
        predicted = torch.cat([head.predict(output) for output in outputs]).cpu()
    head.train()
    if not all(output.isfinite().all() for output in outputs):
        raise TrialError(f"{where}: a prediction is not a finite number; try a lower learning rate")
    return predicted


def keep_predictions(context: Context, split: str, task: Task, items: TaskSplit, predicted: Tensor) -> None:
    """Pass predictions to the context, with NaN for hidden labels, and the clusters of rows that share a sentence.

    If items have several labels, each label becomes a separate item `<id>/<label>`, and the labels of an item form a cluster.
    """
    ids, groups = items.ids, items.ids if task.labels.several else None
    if items.clusters is not None:
        groups = [str(cluster) for cluster in items.clusters]
    clusters = None if groups is None else [f"{task.name}-{group}" for group in groups]
    if task.labels.several:
        names = task.labels.names or range(task.labels.count)
        ids = [f"{item}/{name}" for item in ids for name in names]
        clusters = [cluster for cluster in clusters or () for _ in names]
    flat = predicted.flatten()
    gold = items.labels.flatten().tolist() if items.labels is not None else [math.nan] * len(flat)
    shared = {} if clusters is None else {"clusters": clusters}
    context.predictions(split, task.name, ids, flat.tolist(), gold, **shared)
