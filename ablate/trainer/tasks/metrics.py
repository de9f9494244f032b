"""The metrics of predictions: accuracy, Pearson's r."""

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ablate.errors import TrialError
from ablate.trainer.tasks.task import Metric, Task

Numbers = npt.NDArray[np.float64]

# Predictions that differ by no more than this share of their size are equal: heads compute in fp32, in which neighbours
# are 6e-8 to 1.2e-7 apart, and a dot product is off by a few of those. The correlation of such differences would be noise.
ROUNDING = 1e-6


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
        ValueError: the labels are all the same, or the predictions are but for rounding.
    """
    for what, numbers, rounding in (("predictions", predicted, ROUNDING), ("labels", gold, 0.0)):
        if np.ptp(numbers) <= rounding * np.abs(numbers).max():
            raise ValueError(
                f"all {len(numbers)} {what} are {numbers[0]:g}, so Pearson's r is undefined (NaN)"
            )
    x, y = predicted - predicted.mean(), gold - gold.mean()
    r = float(x @ y / np.sqrt((x @ x) * (y @ y)))
    # Rounding errors can exceed 1.
    return min(1.0, max(-1.0, r))


METRICS = {"accuracy": accuracy, "pearson": pearson}
