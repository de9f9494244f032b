"""The expected number of trials of a study that adds seeds: computed, not simulated, before anything runs.

Assumes normal noise of the size observed so far (without results: noise between seeds only, in standard deviations of one run),
the same effect in every comparison, Holm's first step for each, and comparisons that stop independently. Comparisons that share
a baseline, or that are rejected one after another, stop a little sooner or later. The noise is taken as known, which
overestimates the number of seeds by up to one."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.runner.detectable import Noise
from ablate.spec.model import Looking, StudySpec
from ablate.stats.distributions import t_quantile
from ablate.stats.sequential import (
    ALPHA,
    EQUIVALENCE_ALPHA,
    FUTILE_BELOW,
    chance_at_the_end,
    next_fraction,
    nominal_levels,
    stopping,
)

Array = NDArray[np.float64]

ASSUMED = (
    "normal noise of the size observed so far (before there are results, noise between seeds only); every choice has this "
    "effect, must pass Holm's first step, and stops independently of the others"
)


def looks_document(
    spec: StudySpec, cells: int, one_by_one: bool, sd_of_effect: float, noise: Noise | None
) -> dict[str, Any]:
    """Return the plan of looks with its expected numbers.

    Args:
        spec: A study that adds seeds.
        cells: Number of cells of its design.
        one_by_one: True: a cell stops with its own comparison. False: all cells stop with the last one.
        sd_of_effect: Standard deviation of one seed's effect, if that of a run is 1.
        noise: Estimated from the results so far, if there are any.
    """
    looking = spec.looking
    assert looking is not None
    smallest = spec.metric.smallest_effect
    unit = (smallest or noise.sd_run) if noise else 1.0
    sd = (noise.sd_effect or sd_of_effect * noise.sd_run) if noise else sd_of_effect
    variances = [sd**2 / seeds + (noise.v_item if noise else 0.0) for seeds in looking.looks]
    margin = smallest if noise else None
    rows = [_row(spec, looking, times * unit, variances, margin, cells, one_by_one) for times in (0, 1, 2)]
    known = looking.width is None or noise is not None
    return {
        "start": looking.start,
        "looks": list(looking.looks),
        "at_most": looking.looks[-1],
        "until": looking.until,
        "unit": "the metric's unit"
        if noise
        else "standard deviations of a run, since the noise is not known yet",
        "expected": rows if known else [],
        "assumed": ASSUMED,
    }


def _row(
    spec: StudySpec,
    looking: Looking,
    effect: float,
    variances: Sequence[float],
    margin: float | None,
    cells: int,
    one_by_one: bool,
) -> dict[str, float]:
    comparisons = sum(len(factor.levels) - 1 for factor in spec.factors)
    stopped, power = _stopping(looking, effect, variances, margin, comparisons)
    seeds = np.array(looking.looks)
    until_last = np.diff(np.cumsum(stopped).clip(0, 1) ** comparisons, prepend=0.0) @ seeds
    per_cell = stopped @ seeds if one_by_one else until_last
    return {
        "effect": effect,
        "seeds": float(stopped @ seeds),
        "trials": float((cells - 1) * per_cell + until_last),
        "power": power,
    }


def _stopping(
    looking: Looking, effect: float, variances: Sequence[float], margin: float | None, comparisons: int
) -> tuple[Array, float]:
    """Return the probability of stopping at each look, and that of claiming the effect."""
    looks = looking.looks
    fractions: list[float] = []
    for variance in variances:
        fractions.append(next_fraction(fractions, variances[-1] / variance, len(looks)))

    def reach(alpha: float) -> list[float]:
        levels = nominal_levels(fractions, alpha)
        return [
            t_quantile(1 - float(level) / 2, seeds - 1) * math.sqrt(v)
            for level, seeds, v in zip(levels, looks, variances, strict=True)
        ]

    claimed_beyond, same_within, half_width = (
        reach(ALPHA / comparisons),
        reach(EQUIVALENCE_ALPHA),
        reach(ALPHA),
    )

    def claims(look: int, estimates: Array) -> NDArray[np.bool_]:
        return np.abs(estimates) > claimed_beyond[look]

    def stops(look: int, estimates: Array) -> NDArray[np.bool_]:
        if looking.width is not None:
            return np.full(len(estimates), 2 * half_width[look] <= looking.width)
        within = (margin or 0.0) - same_within[look]
        chance = chance_at_the_end(
            estimates,
            variances[look],
            variances[-1],
            looks[look] - 1,
            beyond=claimed_beyond[-1],
            within=(margin or 0.0) - same_within[-1],
        )
        return claims(look, estimates) | (np.abs(estimates) < within) | (chance < FUTILE_BELOW)

    return stopping(variances, effect, stops, claims)
