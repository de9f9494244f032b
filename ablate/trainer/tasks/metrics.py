"""What predictions are worth: accuracy, Pearson's r."""

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ablate.errors import TrialError
from ablate.trainer.tasks.table import TASKS

Numbers = npt.NDArray[np.float64]


def metric(task: str, predicted: Tensor, gold: Numbers, where: str) -> float:
    """Return the task's metric of predictions [n] for labels [n].

    Raises:
        TrialError: it does not exist; names `where`.
    """
    return _METRICS[TASKS[task].metric](predicted.numpy(), gold, where)


def _accuracy(predicted: Numbers, gold: Numbers, where: str) -> float:
    return float(np.mean(predicted == gold))


def _pearson(predicted: Numbers, gold: Numbers, where: str) -> float:
    for what, numbers in (("predictions", predicted), ("labels", gold)):
        if np.ptp(numbers) == 0:
            raise TrialError(
                f"{where}: all {len(numbers)} {what} are {numbers[0]:g}, so Pearson's r does not exist (NaN)"
            )
    return pearson(predicted, gold)


def pearson(x: Numbers, y: Numbers) -> float:
    """Return Pearson's correlation of x [n] and y [n]."""
    x, y = x - x.mean(), y - y.mean()
    r = float(x @ y / np.sqrt((x @ x) * (y @ y)))
    return min(1.0, max(-1.0, r))


_METRICS = {"accuracy": _accuracy, "pearson": _pearson}
