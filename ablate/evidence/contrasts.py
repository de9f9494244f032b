"""Which cells are compared with which, and the difference seed by seed. Indices and arrays only; no verdicts.

A factor's effect is taken over *matched* cells: two cells match if they agree in every factor except this one and
those that exist only because of it. A cell that stands for several combinations of levels (their settings are equal)
matches by each of them; with itself, the difference is 0. In one-at-a-time and leave-one-out designs only the match with
the reference cell counts, so that an effect is the difference between two cells; in other designs it is the mean over all
matches."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ablate.evidence.frames import LOST, Grid, level_key
from ablate.spec.conditions import in_order
from ablate.spec.model import Factor, Scalar, StudySpec, quoted_level


@dataclass(frozen=True)
class Contrast:
    """One factor, from one level to another, and the rows of the grid to compare."""

    factor: str
    low: Scalar  # the baseline's level (or the factor's first)
    high: Scalar
    when: str | None  # the condition under which the factor exists
    # [matches, k] rows of the grid, padded with −1. A row that is there twice counts twice in the mean of its side.
    rows_low: NDArray[np.int64]
    rows_high: NDArray[np.int64]  # [matches, k]
    averaged_over: tuple[str, ...]  # factors that exist on one side only, averaged there
    unmatched: bool  # some cells with one of the levels have no match; a model of all cells still uses them

    @property
    def two_cells(self) -> tuple[int, int] | None:
        """The rows of the two cells, if the contrast is just one cell against another."""
        is_one_pair = self.rows_low.shape == self.rows_high.shape == (1, 1) and not self.unmatched
        return (int(self.rows_low[0, 0]), int(self.rows_high[0, 0])) if is_one_pair else None


@dataclass(frozen=True)
class SeedDifferences:
    """Differences (high − low) of one metric, paired by seed."""

    per_seed: NDArray[np.float64]  # [seeds], the mean over the complete matches; NaN if none is complete
    matches: int
    matches_done: int  # complete in at least one seed
    identical: int  # how many of `compared` have the same trained part on both sides
    compared: int  # how many pairs (match, seed) are complete on both sides

    @property
    def all_identical(self) -> bool:
        """Whether both sides were the same trained part in every comparison."""
        return self.compared > 0 and self.identical == self.compared


def contrasts(grid: Grid) -> list[Contrast]:
    """Return one contrast per factor and level other than the baseline's, in the order of the study file."""
    spec = grid.results.spec
    return [
        between(grid, factor, low, level.name)
        for factor in spec.factors
        for low in [low_level(spec, factor)]
        for level in factor.levels
        if not same_level(level.name, low)
    ]


def seed_differences(grid: Grid, contrast: Contrast, metric: str) -> SeedDifferences:
    """Return high − low for every seed, over the matches of `contrast`."""
    # [matches, seeds]
    low, high = (_side_mean(grid.values[metric], rows) for rows in (contrast.rows_low, contrast.rows_high))
    differences = high - low
    complete = np.isfinite(differences)
    sources = grid.sources(metric)
    same = complete & (_one_source(sources, contrast.rows_low) == _one_source(sources, contrast.rows_high))
    return SeedDifferences(
        per_seed=_nan_mean(differences),
        matches=len(differences),
        matches_done=int(complete.any(axis=1).sum()),
        identical=int(same.sum()),
        compared=int(complete.sum()),
    )


def matched_weights(contrast: Contrast, present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the weight [cells, seeds] of each trial in the mean over the matches that are complete in its seed.

    `present` [cells, seeds] are the trials with a value. A seed without a complete match gets a column of NaN."""
    weights = np.zeros(present.shape)
    complete = np.ones((len(contrast.rows_low), present.shape[1]), dtype=bool)
    for rows in (contrast.rows_low, contrast.rows_high):
        complete &= np.where(rows[:, :, None] >= 0, present[rows], True).all(axis=1)
    matches = complete.sum(axis=0)
    for rows, sign in ((contrast.rows_low, -1.0), (contrast.rows_high, 1.0)):
        for match, side in enumerate(rows):
            cells = side[side >= 0]
            # A cell that stands for several combinations may be there more than once.
            np.add.at(weights, cells, sign * complete[match] / len(cells))
    weights[:, matches == 0] = np.nan
    return np.asarray(weights / np.maximum(matches, 1))


def pair_weights(low: int, high: int, present: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the weights [cells, seeds] of row `high` minus row `low`; a column of NaN where one of them has no value."""
    weights = np.zeros(present.shape)
    weights[low], weights[high] = -1.0, 1.0
    weights[:, ~(present[low] & present[high])] = np.nan
    return weights


def between_rows(low: int, high: int) -> Contrast:
    """Return the contrast of two rows of the grid, whatever factors they differ in."""
    return Contrast("", None, None, None, np.array([[low]]), np.array([[high]]), (), unmatched=False)


def by_seed(weights: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weighted sum of `values` [cells, seeds] for each seed; NaN for a seed that cannot estimate it."""
    # 0 × NaN is NaN, so values that carry no weight are zeroed first.
    used = np.where(weights == 0, 0.0, values)
    return np.asarray((weights * used).sum(axis=0))


def lost_trials(grid: Grid, metric: str) -> NDArray[np.bool_]:
    """[cells, seeds]: planned trials that have no value of `metric` and never will."""
    planned = np.arange(len(grid.seeds)) < len(grid.results.spec.seeds)
    return planned & ~np.isfinite(grid.values[metric]) & np.isin(grid.states, (*LOST, "COMPLETE"))


def side_means(
    grid: Grid, contrast: Contrast, metric: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return low and high [seeds]: the mean of each side over the matches that are complete for that seed."""
    low, high = (_side_mean(grid.values[metric], rows) for rows in (contrast.rows_low, contrast.rows_high))
    incomplete = ~np.isfinite(high - low)
    return _nan_mean(np.where(incomplete, np.nan, low)), _nan_mean(np.where(incomplete, np.nan, high))


def differences_from_reference(grid: Grid, metric: str) -> list[SeedDifferences | None]:
    """Return cell − reference for every row; None for the reference itself, and for all rows if it was not selected."""
    if grid.reference is None:
        return [None] * len(grid.cells)
    values, sources = grid.values[metric], grid.sources(metric)
    differences = values - values[grid.reference]
    complete = np.isfinite(differences)
    same = complete & (sources == sources[grid.reference])
    return [
        None
        if row == grid.reference
        else SeedDifferences(
            per_seed=differences[row],
            matches=1,
            matches_done=int(complete[row].any()),
            identical=int(same[row].sum()),
            compared=int(complete[row].sum()),
        )
        for row in range(len(grid.cells))
    ]


def low_level(spec: StudySpec, factor: Factor) -> Scalar:
    """Return the level that effects of `factor` start from: the baseline's, or its first level if the baseline has none."""
    named = spec.baseline.get(factor.name, factor.levels[0].name)
    return next(
        (level.name for level in factor.levels if same_level(level.name, named)), factor.levels[0].name
    )


def same_level(a: Scalar, b: Scalar) -> bool:
    """Compare levels by their YAML value: 0 is 0.0, but neither is false."""
    return level_key(a) == level_key(b)


def condition_text(factor: Factor) -> str | None:
    """Return `training = joint` for a conditional factor, None for one that always exists."""
    clauses = [
        f"{parent} = {' or '.join(map(quoted_level, levels))}" for parent, levels in factor.only_when.items()
    ]
    return " and ".join(clauses) or None


def between(grid: Grid, factor: Factor, low: Scalar, high: Scalar) -> Contrast:
    """Return the contrast of any two levels of a factor."""
    spec = grid.results.spec
    below = _descendants(spec.factors, factor.name)
    names = [f.name for f in spec.factors]
    others = [column for column, name in enumerate(names) if name not in {factor.name, *below}]
    level_of, other_levels = grid.levels[:, names.index(factor.name)], grid.levels[:, others].tolist()
    keys = [level_key(level.name) for level in factor.levels]
    sides = {keys.index(level_key(low)): 0, keys.index(level_key(high)): 1}
    # Groups and matches hold combinations; the contrast has their rows.
    groups: dict[tuple[int, ...], tuple[list[int], list[int]]] = {}
    for place in np.flatnonzero(np.isin(level_of, list(sides))).tolist():
        groups.setdefault(tuple(other_levels[place]), ([], []))[sides[int(level_of[place])]].append(place)
    matches = [group for group in groups.values() if all(group)]
    unmatched = len(matches) < len(groups)
    if spec.design.from_reference:
        matches, unmatched = _with_reference(grid, matches, below), False
    averaged_over = {
        name
        for match in matches
        for name in below
        for side in match
        if len(side) > 1 and len({level_key(grid.combinations[place].get(name)) for place in side}) > 1
    }
    return Contrast(
        factor.name,
        low,
        high,
        condition_text(factor),
        rows_low=_padded([grid.row_of[_evenly(grid, match[0])].tolist() for match in matches]),
        rows_high=_padded([grid.row_of[_evenly(grid, match[1])].tolist() for match in matches]),
        averaged_over=tuple(sorted(averaged_over)),
        unmatched=unmatched,
    )


def _with_reference(
    grid: Grid, matches: list[tuple[list[int], list[int]]], below: frozenset[str]
) -> list[tuple[list[int], list[int]]]:
    """Keep only the match that contains the reference, by the levels that name it; if none does, keep them all.

    A side with the reference is reduced to it, any other side to the combinations whose child factors are at their low levels."""
    kept = [match for match in matches if grid.reference in (*match[0], *match[1])] or matches
    spec = grid.results.spec
    low_levels = {factor.name: low_level(spec, factor) for factor in spec.factors if factor.name in below}

    def has_low_levels(levels: Mapping[str, Scalar]) -> bool:
        return all(same_level(levels[name], level) for name, level in low_levels.items() if name in levels)

    def reduced(side: list[int]) -> list[int]:
        # The first combinations are those that name the cells, so the reference's has the reference's row.
        if grid.reference in side:
            return [grid.reference]
        return [place for place in side if has_low_levels(grid.combinations[place])] or side

    return [(reduced(low), reduced(high)) for low, high in kept]


def _evenly(grid: Grid, side: list[int]) -> list[int]:
    """Return the combinations of one side, repeated so that their mean weights the levels of each factor equally.

    A child that itself has children at only one of its levels has more combinations there. The model of all cells weights its
    levels equally, too."""
    if len(side) == 1:
        return side
    shares: dict[int, Fraction] = {}

    def split(places: list[int], factors: list[int], share: Fraction) -> None:
        if not factors:
            shares.update(dict.fromkeys(places, share / len(places)))
            return
        groups: dict[int, list[int]] = {}
        for place in places:
            groups.setdefault(int(grid.levels[place, factors[0]]), []).append(place)
        for group in groups.values():
            split(group, factors[1:], share / len(groups))

    names = [factor.name for factor in grid.results.spec.factors]
    parents_first = [names.index(factor.name) for factor in in_order(grid.results.spec.factors)]
    varied = [column for column in parents_first if len(set(grid.levels[side, column].tolist())) > 1]
    split(side, varied, Fraction(1))
    unit = math.lcm(*(share.denominator for share in shares.values()))
    return [place for place in side for _ in range(int(shares[place] * unit))]


def _descendants(factors: tuple[Factor, ...], name: str) -> frozenset[str]:
    """Names of the factors that exist only under some level of `name`."""
    below: set[str] = set()
    while new := {f.name for f in factors if {name, *below} & set(f.only_when)} - below:
        below |= new
    return frozenset(below)


def _padded(rows: list[list[int]]) -> NDArray[np.int64]:
    width = max(map(len, rows), default=1)
    return np.array([[*row, *[-1] * (width - len(row))] for row in rows], dtype=np.int64).reshape(-1, width)


def _side_mean(values: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """[matches, seeds]: the mean over the k cells of a side, NaN unless all are complete."""
    gathered = np.where(rows[:, :, None] >= 0, values[rows], 0.0)
    mean: NDArray[np.float64] = gathered.sum(axis=1) / (rows >= 0).sum(axis=1)[:, None]
    return mean


def _one_source(sources: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """[matches, seeds]: the number that all cells of a side share; otherwise NaN, which equals nothing."""
    gathered = np.where(rows[:, :, None] >= 0, sources[rows], sources[rows[:, :1]])
    same = (gathered == gathered[:, :1]).all(axis=1) & (gathered[:, 0] >= 0)
    return np.where(same, gathered[:, 0], np.nan)


def _nan_mean(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the finite values over axis 0; NaN where there are none. np.nanmean would warn about those."""
    finite = np.isfinite(differences)
    count = finite.sum(axis=0)
    total = np.where(finite, differences, 0.0).sum(axis=0)
    mean: NDArray[np.float64] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return mean
