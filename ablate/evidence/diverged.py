"""Runs that diverged: they ended in numbers that are not finite, or far from the other runs of their cell."""

import re

import numpy as np
from numpy.typing import NDArray

from ablate.evidence.frames import Grid
from ablate.stats.robust import gross_outliers

# A diverged run is off by at least this many smallest effects or, if none is declared, by this fraction of the median.
LEAST_EFFECTS = 5.0
LEAST_SHARE = 0.05

# The reason of a failed trial is recorded only as text, which may come from a user's own trainer.
_NOT_FINITE = re.compile(r"\b(nan|inf|infinity)\b|not (a )?finite", re.IGNORECASE)


def diverged_runs(grid: Grid) -> NDArray[np.bool_]:
    """[cells, seeds]: trials that failed because a number was not finite, or whose primary metric is far worse than that of
    the other seeds and cells."""
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
