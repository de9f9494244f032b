"""The metrics of predictions. Those of classes agree with scikit-learn's.

A new one needs its function here, its name in `metric_names.py` and its range in `ablate/evidence/ranges.py`.
Arrays are [n]; with several labels per item they are [n, labels], of 1 and 0.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ablate.errors import TrialError
from ablate.trainer.tasks.task import Task

Numbers = npt.NDArray[np.float64]
Metric = Callable[[Numbers, Numbers], float]

METRICS: dict[str, Metric] = {}

# Predictions that differ by no more than this fraction of their size count as equal. Heads compute in fp32, whose numbers are
# 6e-8 to 1.2e-7 apart, and a dot product is off by a few of these steps; a correlation of such differences is noise.
ROUNDING = 1e-6


def metric(function: Metric) -> Metric:
    """Register a metric under its function's name."""
    METRICS[function.__name__] = function
    return function


def scores(task: Task, predicted: Tensor, gold: Numbers, where: str) -> dict[str, float]:
    """Return the task's metrics: `<task>`, then `<task>.<metric>` for each further one.

    A further metric that is undefined is left out.

    Raises:
        TrialError: the first metric is undefined; the message names `where`.
    """
    metrics: dict[str, float] = {}
    for name, kind in task.named_metrics.items():
        try:
            metrics[name] = METRICS[kind](predicted.numpy(), gold)
        except ValueError as error:
            if name == task.name:
                raise TrialError(f"{where}: {error}") from error
    return metrics


@metric
def accuracy(predicted: Numbers, gold: Numbers) -> float:
    """Return the share of predictions that equal their label."""
    return float(np.mean(predicted == gold))


@metric
def macro_f1(predicted: Numbers, gold: Numbers) -> float:
    """Return the mean F1 = 2 TP / (2 TP + FP + FN) of the classes that occur in predictions or labels.

    With several labels per item it is the mean over all labels; one that nobody has and nobody predicts counts as 0.
    """
    if gold.ndim == 2:
        return float(np.mean([_f1(p == 1, g == 1) for p, g in zip(predicted.T, gold.T, strict=True)]))
    classes = np.union1d(predicted, gold)
    return float(np.mean([_f1(predicted == one, gold == one) for one in classes]))


def _f1(predicted: npt.NDArray[np.bool_], gold: npt.NDArray[np.bool_]) -> float:
    return 2 * int(np.sum(predicted & gold)) / max(1, int(np.sum(predicted)) + int(np.sum(gold)))


@metric
def mcc(predicted: Numbers, gold: Numbers) -> float:
    """Return Matthews' correlation for any number of classes (Gorodkin 2004); 0 if predictions or labels are all the same."""
    classes = np.union1d(predicted, gold)
    p, g = (numbers[:, None] == classes for numbers in (predicted, gold))  # [n, classes]
    n_p, n_g, n = p.sum(0), g.sum(0), len(gold)
    scale = np.sqrt(float((n**2 - n_p @ n_p) * (n**2 - n_g @ n_g)))
    return float((n * np.sum(p & g) - n_p @ n_g) / scale) if scale else 0.0


@metric
def pearson(predicted: Numbers, gold: Numbers) -> float:
    """Return Pearson's correlation of x [n] and y [n].

    Raises:
        ValueError: the labels are all the same, or the predictions are (except for rounding).
    """
    _refuse_constant(predicted, gold, "Pearson's r")
    return _correlation(predicted, gold)


@metric
def spearman(predicted: Numbers, gold: Numbers) -> float:
    """Return Spearman's rank correlation of x [n] and y [n]; equal numbers share their mean rank.

    Raises:
        ValueError: as in `pearson`.
    """
    _refuse_constant(predicted, gold, "Spearman's correlation")
    return _correlation(_ranks(predicted), _ranks(gold))


@metric
def r2(predicted: Numbers, gold: Numbers) -> float:
    """Return R², the share of the labels' variance that the predictions explain; negative if their mean would predict better.

    Raises:
        ValueError: the labels are constant.
    """
    if np.ptp(gold) == 0:
        raise ValueError(f"all {len(gold)} labels are {gold[0]:g}, so R² is undefined (NaN)")
    centred = gold - gold.mean()
    return 1.0 - float(np.sum((gold - predicted) ** 2) / (centred @ centred))


def _refuse_constant(predicted: Numbers, gold: Numbers, metric: str) -> None:
    for what, numbers, rounding in (("predictions", predicted, ROUNDING), ("labels", gold, 0.0)):
        if np.ptp(numbers) <= rounding * np.abs(numbers).max():
            raise ValueError(f"all {len(numbers)} {what} are {numbers[0]:g}, so {metric} is undefined (NaN)")


def _correlation(a: Numbers, b: Numbers) -> float:
    x, y = a - a.mean(), b - b.mean()
    r = float(x @ y / np.sqrt((x @ x) * (y @ y)))
    # Rounding errors can exceed 1.
    return min(1.0, max(-1.0, r))


def _ranks(numbers: Numbers) -> Numbers:
    _, places, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    ranks: Numbers = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranks
