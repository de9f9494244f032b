"""Runs that diverged: they ended in numbers that are not finite, or far from what their cell gives otherwise."""

import re

import numpy as np
from numpy.typing import NDArray

from ablate.evidence.frames import Grid
from ablate.stats.robust import gross_outliers

LEAST_EFFECTS = 5.0  # a run that diverged is off by at least so many smallest effects,
LEAST_SHARE = 0.05  # or, where none is declared, by this share of the median cell

# Why a trial failed is known as text alone, which a trainer of the user's own wrote.
_NOT_FINITE = re.compile(r"\b(nan|inf|infinity)\b|not (a )?finite", re.IGNORECASE)


def diverged_runs(grid: Grid) -> NDArray[np.bool_]:
    """[cells, seeds]: trials that failed for a number that is not finite, or whose deciding metric is grossly worse than
    that of the other seeds and cells."""
    diverged = np.zeros((len(grid.cells), len(grid.seeds)), dtype=bool)
    for place, trial in grid.trials.items():
        diverged[place] = trial.state == "FAIL" and bool(_NOT_FINITE.search(trial.error or ""))
    if grid.primary in grid.values:
        values = grid.sign * grid.values[grid.primary]
        diverged |= gross_outliers(values, _least(grid, values))
    return diverged


def _least(grid: Grid, values: NDArray[np.float64]) -> float:
    smallest = grid.results.spec.metric.smallest_effect
    if smallest is not None:
        return LEAST_EFFECTS * smallest
    known = values[np.isfinite(values)]
    return LEAST_SHARE * abs(float(np.median(known))) if known.size else 0.0
