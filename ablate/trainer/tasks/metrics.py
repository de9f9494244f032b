"""The metrics of predictions: accuracy, Pearson's r."""

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ablate.errors import TrialError
from ablate.trainer.tasks.task import Metric, Task

Numbers = npt.NDArray[np.float64]


def scores(task: Task, predicted: Tensor, gold: Numbers, where: str) -> dict[str, float]:
    """Return the task's metrics of predictions [n] for labels [n]: `<task>`, then `<task>.<metric>` for each further one.

    Raises:
        TrialError: a metric is undefined; names `where`.
    """
    first, *others = task.metrics
    named: dict[str, Metric] = {task.name: first, **{f"{task.name}.{metric}": metric for metric in others}}
    try:
        return {name: METRICS[metric](predicted.numpy(), gold) for name, metric in named.items()}
    except ValueError as error:
        raise TrialError(f"{where}: {error}") from error


def accuracy(predicted: Numbers, gold: Numbers) -> float:
    """Return the share of predictions that equal their label."""
    return float(np.mean(predicted == gold))


def pearson(predicted: Numbers, gold: Numbers) -> float:
    """Return Pearson's correlation of x [n] and y [n].

    Raises:
        ValueError: one of them is constant.
    """
    for what, numbers in (("predictions", predicted), ("labels", gold)):
        if np.ptp(numbers) == 0:
            raise ValueError(
                f"all {len(numbers)} {what} are {numbers[0]:g}, so Pearson's r is undefined (NaN)"
            )
    x, y = predicted - predicted.mean(), gold - gold.mean()
    r = float(x @ y / np.sqrt((x @ x) * (y @ y)))
    # Rounding errors can exceed 1.
    return min(1.0, max(-1.0, r))


METRICS = {"accuracy": accuracy, "pearson": pearson}
