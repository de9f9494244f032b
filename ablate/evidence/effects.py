"""The effects of a study on one metric: of each factor's levels, and of the slope of a numeric factor.

Numbers only: `report` puts them into words, and a run that adds seeds bases its decisions on them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from ablate.evidence.contrasts import (
    Contrast,
    SeedDifferences,
    between,
    by_seed,
    contrasts,
    lost_trials,
    matched_weights,
    same_level,
    seed_differences,
)
from ablate.evidence.frames import SPARED, Grid
from ablate.evidence.items import Items
from ablate.evidence.models import Model, fit_model
from ablate.evidence.ranges import metric_range
from ablate.spec.model import Factor
from ablate.stats.inference import Inference, ItemNoise, infer

Array = NDArray[np.float64]


class Kind(StrEnum):
    """What an effect compares."""

    LEVELS = "levels"
    SLOPE = "slope"


class Scale(StrEnum):
    """The scale on which the levels of a numeric factor are most evenly spaced."""

    LINEAR = "linear"
    LOG = "log"


@dataclass(frozen=True)
class Slope:
    """The scale on which the slope of a numeric factor was fitted, and how well the straight line fits."""

    scale: Scale
    levels: tuple[float, ...]
    # p of the largest deviation from the line, Bonferroni-corrected for all L − 2 of them; None if the noise is unknown.
    p_lack_of_fit: float | None


@dataclass(frozen=True)
class Lost:
    """How far an effect could move if the lost trials had results."""

    bounds: tuple[float, float]
    low: float  # share of the planned trials on the low side that were lost
    high: float
    # Whether a bound uses the worst or best value observed, since the metric's worst or best possible value is unknown.
    from_observed: bool

    @property
    def could_reverse(self) -> bool:
        """Whether lost trials could change the sign of the effect.

        Also true if one side lost many more trials and the bounds are only observed values: a run that never finished may
        have been worse than every run that did."""
        return self.bounds[0] <= 0 <= self.bounds[1] or (self.uneven and self.from_observed)

    @property
    def uneven(self) -> bool:
        """Whether one side lost many more of its trials than the other."""
        return abs(self.high - self.low) > 0.25


@dataclass(frozen=True)
class Effect:
    """One contrast on one metric."""

    contrast: Contrast
    metric: str
    kind: Kind
    weights: Array | None  # [cells, seeds]; None: it cannot be estimated yet
    inference: Inference
    differences: SeedDifferences
    slope: Slope | None = None
    last: Inference | None = None  # the effect on the last epoch, if the metric is that of a chosen epoch
    lost: Lost | None = None
    confounded_with: tuple[str, ...] = ()

    @property
    def identical(self) -> bool:
        """Whether both sides were the same trained part in every comparison."""
        return self.differences.all_identical

    @property
    def cells(self) -> set[int]:
        """The rows of the grid that it is estimated from."""
        if self.weights is None:
            return set()
        return set(np.flatnonzero((np.nan_to_num(self.weights) != 0).any(axis=1)).tolist())


def study_effects(grid: Grid, items: Items, metric: str, model: Model | None) -> list[Effect]:
    """Return the effects on `metric`, factor by factor: the slope if there are three or more numeric levels, then each level."""
    present: NDArray[np.bool_] = np.isfinite(grid.values[metric])
    planned: NDArray[np.bool_] = present | lost_trials(grid, metric)
    model_of_planned = model and replace(model, weights=model.weights_of(planned), present=planned)
    rows: list[tuple[Contrast, Array | None, _Line | None]] = []
    weights_of_planned: list[Array | None] = []
    for factor, group in groupby(study_contrasts(grid), key=lambda contrast: contrast.factor):
        levels = list(group)
        weights = [_weights(grid, contrast, present, model) for contrast in levels]
        if line := _line(grid, grid.results.spec.factor(factor), levels, weights):
            rows.append((line.contrast, line.weights, line))
            weights_of_planned.append(None)
        rows += [(contrast, w, None) for contrast, w in zip(levels, weights, strict=True)]
        weights_of_planned += [_weights(grid, contrast, planned, model_of_planned) for contrast in levels]
    weights = [w for _, w, _ in rows]
    last_metric = grid.of_last_epoch.get(metric)
    last = infer_all(items, last_metric, weights) if last_metric else [None] * len(rows)
    return [
        Effect(
            contrast,
            metric,
            Kind.SLOPE if line else Kind.LEVELS,
            w,
            (None if line else _unreplicated(model, contrast)) or inference,
            seed_differences(grid, contrast, metric),
            Slope(line.scale, line.values, _p_lack_of_fit(items, metric, line)) if line else None,
            of_last,
            _lost(grid, items, contrast, metric, of_plan),
            model.confounded.get(contrast.factor, ()) if model and w is None else (),
        )
        for (contrast, w, line), inference, of_last, of_plan in zip(
            rows, infer_all(items, metric, weights), last, weights_of_planned, strict=True
        )
    ]


def infer_all(items: Items, metric: str, weights: Sequence[Array | None]) -> list[Inference]:
    """Return the inference of each contrast of `metric`, given by its weights; without an estimate if the weights are None."""
    values = items.values(metric)
    per_seed = [math.nan * np.ones(values.shape[1]) if w is None else by_seed(w, values) for w in weights]
    # The noise of items can only be estimated from two seeds or more.
    usable = [k for k, of_seed in enumerate(per_seed) if np.isfinite(of_seed).sum() > 1]
    noise: dict[int, ItemNoise | None] = dict(
        zip(usable, items.noise([w for k in usable if (w := weights[k]) is not None], metric), strict=True)
    )
    return [
        infer(of_seed, noise.get(k), scale=_size(weights[k], values)) for k, of_seed in enumerate(per_seed)
    ]


def _size(weights: Array | None, values: Array) -> float:
    """Return how large the metric is on one side of a contrast (the mean absolute value), in the seed where it is largest."""
    if weights is None:
        return 0.0
    sides = np.abs(weights * np.where(weights == 0, 0.0, values)).sum(axis=0) / 2
    return float(np.nanmax(sides, initial=0.0))


def study_models(grid: Grid) -> dict[str, Model]:
    """Return the model of each metric; empty for a search, and for designs whose effects are differences of two cells."""
    if grid.results.spec.design.from_reference or grid.results.spec.search:
        return {}
    fitted = {metric: fit_model(grid, metric) for metric in grid.dev_metrics}
    return {metric: model for metric, model in fitted.items() if model}


def study_contrasts(grid: Grid) -> list[Contrast]:
    """Return the study's contrasts; none for a search, whose cells were chosen for their scores and estimate no effects."""
    return [] if grid.results.spec.search else contrasts(grid)


def even_scale(values: Sequence[float]) -> Scale:
    """Return the scale on which sorted `values` are more evenly spaced; linear in case of a tie."""
    if min(values) <= 0:
        return Scale.LINEAR
    return (
        Scale.LOG if _unevenness([math.log(v) for v in values]) < _unevenness(values) - 1e-9 else Scale.LINEAR
    )


def _unevenness(values: Sequence[float]) -> float:
    gaps = np.array([b - a for a, b in pairwise(sorted(values))])
    return float(gaps.std() / gaps.mean())


def _weights(grid: Grid, contrast: Contrast, present: NDArray[np.bool_], model: Model | None) -> Array | None:
    """Return the weight of each `present` trial in the contrast; None if they cannot estimate it."""
    # For two cells, least squares gives the same up to rounding.
    if grid.results.spec.design.from_reference or contrast.two_cells:
        return matched_weights(contrast, present)
    if model is None:
        return None
    low, high = (model.coding.level_index(contrast.factor, level) for level in (contrast.low, contrast.high))
    if low != 0 or not high:
        return None
    return model.weights.get(((contrast.factor,), (high,)))


def _unreplicated(model: Model | None, contrast: Contrast) -> Inference | None:
    if model is None or (high := model.coding.level_index(contrast.factor, contrast.high)) is None:
        return None
    return model.unreplicated.get(((contrast.factor,), (high,)))


@dataclass(frozen=True)
class _Line:
    """A straight line through the levels of a numeric factor, as a contrast from the smallest to the largest."""

    contrast: Contrast
    weights: Array
    scale: Scale
    values: tuple[float, ...]
    deviations: list[Array]  # weights of the deviations from the line, orthogonal to it and to one another


def _line(
    grid: Grid, factor: Factor, levels: Sequence[Contrast], weights: Sequence[Array | None]
) -> _Line | None:
    """Return the line of a numeric factor; None unless the effect of every level can be estimated."""
    values = factor.numbers
    # Where no seed can estimate a level's effect (all its runs failed, or the design does not have it), no seed can estimate a
    # line either. There is then no slope, so that the other levels are tested at once, not behind it.
    known = [w for w in weights if w is not None and np.isfinite(w).all(axis=0).any()]
    if not values or len(known) < len(values) - 1:
        return None
    # The weights of each level minus the baseline level, in the order of the levels; those of the baseline level are 0.
    from_baseline = [
        next(
            (w for contrast, w in zip(levels, known, strict=True) if same_level(contrast.high, level.name)),
            0 * known[0],
        )
        for level in factor.levels
    ]
    scale = even_scale(values)
    x = np.log(values) if scale is Scale.LOG else np.array(values)
    powers = np.vander((x - x.mean()) / np.ptp(x), increasing=True)
    basis = np.linalg.qr(powers)[0].T
    slope = (x - x.mean()) * np.ptp(x) / float(((x - x.mean()) ** 2).sum())

    def combined(shares: Array) -> Array:
        return np.asarray(sum(share * w for share, w in zip(shares, from_baseline, strict=True)))

    low, high = (factor.levels[int(at)].name for at in (np.argmin(x), np.argmax(x)))
    return _Line(
        between(grid, factor, low, high),
        combined(slope),
        scale,
        values,
        [combined(shares) for shares in basis[2:]],
    )


def _p_lack_of_fit(items: Items, metric: str, line: _Line) -> float | None:
    p = [one.p for one in infer_all(items, metric, line.deviations) if one.p is not None]
    return min(1.0, len(line.deviations) * min(p)) if p else None


def _lost(grid: Grid, items: Items, contrast: Contrast, metric: str, planned: Array | None) -> Lost | None:
    """Bound an effect by giving the lost trials the worst or the best value that the metric can have.

    An effect is a weighted sum of the trials, so each bound takes for every lost trial the value that moves it farthest.
    Trials that are still to run are left out. `grid` may have only the first seeds of that of `items`: those of a look.
    Source: Horowitz & Manski 2000, J. Am. Stat. Assoc. 95, 77-84.
    """
    values, lost = grid.values[metric], lost_trials(grid, metric)
    if planned is None or not (np.nan_to_num(planned)[lost] != 0).any() or not np.isfinite(values).any():
        return None
    least, most, from_observed = _extremes(grid, items, metric)
    bounds = []
    for if_positive, if_negative in ((least, most), (most, least)):
        filled = np.where(lost, np.where(planned > 0, if_positive, if_negative), values)
        bounds.append(float(np.nanmean(by_seed(planned, filled))))
    low, high = (_share_lost(lost, rows, grid) for rows in (contrast.rows_low, contrast.rows_high))
    return Lost((bounds[0], bounds[1]), low, high, from_observed)


def _extremes(grid: Grid, items: Items, metric: str) -> tuple[float, float, bool]:
    """Return the smallest and the largest value that `metric` can have, and whether one of them is only an observed value."""
    values = grid.values[metric]
    kind = items.kind(metric) or items.stated(metric)
    known = [end for end in metric_range(grid.results.spec, metric, kind) if end is not None]
    extremes = [*known, float(np.nanmin(values)), float(np.nanmax(values))]
    return min(extremes), max(extremes), len(known) < 2


def _share_lost(lost: NDArray[np.bool_], rows: NDArray[np.int64], grid: Grid) -> float:
    cells, planned = np.unique(rows[rows >= 0]), len(grid.results.spec.seeds)
    wanted = grid.states[cells, :planned] != SPARED
    return float(lost[cells, :planned][wanted].mean()) if wanted.any() else 0.0
