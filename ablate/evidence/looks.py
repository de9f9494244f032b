"""A look at the results of a study that adds seeds: which comparisons are decided, which go on, and with what cells.

Alpha is spent over the looks of each comparison (`stats.sequential`), Holm's correction runs over their sequential p. A
comparison that has stopped keeps what was seen of it then, whatever further seeds of its cells say. It stops

- decided: its corrected p is below ALPHA;
- without a difference: its repeated 90 % interval lies inside ± smallest_effect;
- as futile: the chance that the seeds still to come bring either is below FUTILE_BELOW. This bound does not bind: errors stay
  what they are if one goes on, and alpha is spent as if one did;
- or, where the study asks for it instead, when its repeated 95 % interval is narrow enough.

Of the same data the same is seen, whoever looks."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ablate.evidence.contrasts import FROM_REFERENCE, Contrast, contrasts, same_level, seed_differences
from ablate.evidence.estimates import (
    HELPS,
    HURTS,
    INCONCLUSIVE,
    NO_DIFFERENCE,
    Estimate,
    over_seeds,
)
from ablate.evidence.frames import Grid
from ablate.evidence.models import Model, fit_model
from ablate.evidence.pairs import Pairing
from ablate.spec.model import Frozen, Looking, Scalar, StudySpec
from ablate.stats.distributions import t_quantile
from ablate.stats.multiple import holm
from ablate.stats.sequential import (
    ALPHA,
    chance_at_the_end,
    next_fraction,
    nominal_levels,
    sequential_p,
    share_of_information,
)
from ablate.store.results import Look, Results

FUTILE_BELOW = 0.1
EQUIVALENCE_ALPHA = 2 * ALPHA  # of a two-sided interval: each of the two one-sided tests has ALPHA

Interval = tuple[float, float]
Key = tuple[str, str, str]  # factor, from and to as Python shows them: 0 is not false


@dataclass(frozen=True)
class Comparison:
    """One contrast on the study's metric, with what the seeds and the items add to its error."""

    factor: str
    low: Scalar
    high: Scalar
    cells: frozenset[str]  # hashes of those that it is estimated from
    seeds: int = 0  # that it rests on
    estimate: float | None = None
    se: float | None = None
    df: float | None = None
    p: float | None = None
    v_seed: float = 0.0  # variance of the estimate that more seeds would lower
    v_item: float = 0.0  # and that they would not
    same: bool = False  # both sides are one and the same trained part
    interval: Callable[[float], Interval | None] = lambda level: None  # two-sided, at a level

    @property
    def key(self) -> Key:
        """What tells it from the others."""
        return self.factor, repr(self.low), repr(self.high)


class Stop(StrEnum):
    """Why a comparison needs no more seeds."""

    DECIDED = "decided"
    NO_DIFFERENCE = "no_difference"
    FUTILE = "futile"
    WIDTH = "width"
    SAME_PART = "same_part"


class Seen(Frozen):
    """A comparison as it was seen at its last look; once it has stopped, for ever."""

    factor: str
    low: Scalar
    high: Scalar
    look: int  # from 1
    seeds: int  # that it rested on
    estimate: float | None
    se: float | None
    df: float | None  # None: infinite, or without a standard error
    p: float | None
    fraction: float  # of the final information
    level: float  # two-sided: the p below which this look alone rejects
    p_sequential: float | None
    p_holm: float | None
    ci95: Interval | None  # repeated: it holds the truth at every look of .95 of studies
    ci90: Interval | None
    chance: float | None  # of a verdict by the last look; None at the last
    rejected: bool  # no effect was ruled out
    stop: Stop | None  # None: open

    @property
    def key(self) -> Key:
        """What tells it from the others."""
        return self.factor, repr(self.low), repr(self.high)

    def verdict(self, goal: str) -> str:
        """Return what may be said, in the words of every other effect."""
        if self.rejected and self.estimate is not None:
            return HELPS if (self.estimate > 0) == (goal == "maximize") else HURTS
        return NO_DIFFERENCE if self.stop in (Stop.NO_DIFFERENCE, Stop.SAME_PART) else INCONCLUSIVE


def take_look(results: Results, pairing: Pairing) -> Look:
    """Return the next look at results that are complete, as far as they ever will be, up to it.

    `pairing` is that of the grid of `results`."""
    spec = results.spec
    assert spec.looking is not None
    number = len(results.looks) + 1
    found = comparisons(pairing)
    seen = looked_at(found, [seen_in(look) for look in results.looks], spec)
    needed = {cell for one in found if seen[one.key].stop is None for cell in one.cells}
    return Look(
        number,
        spec.looking.looks[number - 1],
        tuple(cell.hash for cell in results.cells if cell.hash in needed),
        tuple(one.model_dump(mode="json") for one in seen.values()),
    )


def seen_in(look: Look) -> dict[Key, Seen]:
    """Return the comparisons of a recorded look."""
    return {one.key: one for one in map(Seen.model_validate, look.comparisons)}


def looked_at(
    found: Sequence[Comparison], before: Sequence[Mapping[Key, Seen]], spec: StudySpec
) -> dict[Key, Seen]:
    """Return what is seen of each comparison at the look that follows those of `before`."""
    assert spec.looking is not None
    last = before[-1] if before else {}
    going = [one for one in found if not ((seen := last.get(one.key)) and seen.stop)]
    fresh = {one.key: _seen(one, [look[one.key] for look in before], spec.looking) for one in going}
    every = {one.key: fresh.get(one.key) or last[one.key] for one in found}
    corrected = holm([seen.p_sequential for seen in every.values()])
    adjusted = dict(zip(every, corrected, strict=True))
    rejected = sum(p is not None and p < ALPHA for p in corrected)
    for one in going:
        every[one.key] = _judged(
            fresh[one.key], one, adjusted[one.key], max(len(every) - rejected, 1), before, spec
        )
    return every


def _seen(one: Comparison, before: Sequence[Seen], looking: Looking) -> Seen:
    """Return a comparison as its own data show it, before it is corrected for the others and judged."""
    fractions, p = [seen.fraction for seen in before], [seen.p for seen in before]
    if not fractions or fractions[-1] < 1:  # else all alpha is spent, and seeds were added since
        share = share_of_information(one.v_seed, one.v_item, one.seeds, looking.looks[-1])
        fractions.append(next_fraction(fractions, share, len(looking.looks)))
        p.append(one.p)
    level = float(nominal_levels(fractions)[-1])
    return Seen(
        factor=one.factor,
        low=one.low,
        high=one.high,
        look=len(before) + 1,
        seeds=one.seeds,
        estimate=one.estimate,
        se=one.se,
        df=one.df if one.df is not None and math.isfinite(one.df) else None,
        p=one.p,
        fraction=fractions[-1],
        level=level,
        p_sequential=sequential_p(p, fractions),
        p_holm=None,
        ci95=one.interval(1 - level),
        ci90=one.interval(1 - float(nominal_levels(fractions, EQUIVALENCE_ALPHA)[-1])),
        chance=None,
        rejected=False,
        stop=None,
    )


def _judged(
    seen: Seen,
    one: Comparison,
    p_holm: float | None,
    undecided: int,
    before: Sequence[Mapping[Key, Seen]],
    spec: StudySpec,
) -> Seen:
    assert spec.looking is not None
    rejected = p_holm is not None and p_holm < ALPHA
    fractions = [*(look[one.key].fraction for look in before), seen.fraction]
    ends = seen.look >= len(spec.looking.looks)
    chance = (
        None
        if ends or one.se is None
        else _chance(one, fractions, undecided, spec.metric.smallest_effect, spec.looking)
    )
    judged = seen.model_copy(update={"p_holm": p_holm, "rejected": rejected, "chance": chance})
    return judged.model_copy(update={"stop": _stop(judged, one, spec)})


def _stop(seen: Seen, one: Comparison, spec: StudySpec) -> Stop | None:
    assert spec.looking is not None
    if one.same:
        return Stop.SAME_PART
    if (width := spec.looking.width) is not None:
        return Stop.WIDTH if seen.ci95 and seen.ci95[1] - seen.ci95[0] <= width else None
    if seen.rejected:
        return Stop.DECIDED
    smallest = spec.metric.smallest_effect
    if smallest is not None and seen.ci90 and -smallest < seen.ci90[0] and seen.ci90[1] < smallest:
        return Stop.NO_DIFFERENCE
    return Stop.FUTILE if seen.chance is not None and seen.chance < FUTILE_BELOW else None


def _chance(
    one: Comparison,
    fractions: Sequence[float],
    undecided: int,
    smallest_effect: float | None,
    looking: Looking,
) -> float:
    """Return the chance that the last look decides, at Holm's present step, or finds the effect too small to matter."""
    assert one.estimate is not None
    at_most, by_seeds = looking.looks[-1], one.v_seed * one.seeds
    planned = list(fractions)
    for seeds in looking.looks[len(fractions) :]:
        share = (by_seeds / at_most + one.v_item) / (by_seeds / seeds + one.v_item)
        planned.append(next_fraction(planned, share, len(looking.looks)))
    at_end = by_seeds / at_most + one.v_item
    seed_share = by_seeds / at_most / at_end

    def critical(alpha: float) -> float:
        """The mean of the t's and the normal's, by what the seeds and the items add to the variance."""
        tail = 1 - float(nominal_levels(planned, alpha)[-1]) / 2
        return seed_share * t_quantile(tail, at_most - 1) + (1 - seed_share) * t_quantile(tail, math.inf)

    beyond = critical(ALPHA / undecided) * math.sqrt(at_end)
    within = (smallest_effect or 0.0) - critical(EQUIVALENCE_ALPHA) * math.sqrt(at_end)
    now = one.v_seed + one.v_item
    return float(chance_at_the_end(one.estimate, now, at_end, max(one.seeds - 1, 1), beyond, within))


def comparisons(pairing: Pairing) -> list[Comparison]:
    """Return every contrast of the study on the metric that decides."""
    grid = pairing.grid
    if grid.primary not in grid.values:  # no trial has a result
        return [Comparison(c.factor, c.low, c.high, _cells(grid, c)) for c in contrasts(grid)]
    model = None if grid.results.spec.design in FROM_REFERENCE else fit_model(grid, grid.primary)
    return [_comparison(pairing, contrast, model) for contrast in contrasts(grid)]


def _comparison(pairing: Pairing, contrast: Contrast, model: Model | None) -> Comparison:
    grid = pairing.grid
    difference = seed_differences(grid, contrast, grid.primary)
    found = _estimate(pairing, contrast, model)
    variance = found.se**2 if found.se is not None else 0.0
    share = 1.0 if found.seed_share is None else found.seed_share

    def interval(level: float) -> Interval | None:
        bounds = found.interval(level)
        return (bounds[0], bounds[1]) if bounds else None

    return Comparison(
        contrast.factor,
        contrast.low,
        contrast.high,
        _cells(grid, contrast),
        found.n,
        found.value,
        found.se,
        found.df,
        found.p,
        v_seed=variance * share,
        v_item=variance * (1 - share),
        same=difference.all_identical,
        interval=interval,
    )


def _estimate(pairing: Pairing, contrast: Contrast, model: Model | None) -> Estimate:
    grid = pairing.grid
    difference = seed_differences(grid, contrast, grid.primary)
    if cells := contrast.two_cells:
        return pairing.estimate(*cells, grid.primary, difference)
    if model is None or difference.all_identical:
        return over_seeds(difference.per_seed)
    levels = model.coding.levels.get(contrast.factor, ())
    place = next((i for i, level in enumerate(levels) if same_level(level, contrast.high)), None)
    return (
        model.effects.get(((contrast.factor,), (place,)), Estimate(None, 0)) if place else Estimate(None, 0)
    )


def _cells(grid: Grid, contrast: Contrast) -> frozenset[str]:
    """Those of the contrast's own matches, or all: where every factor is varied, every cell tells something of each."""
    if grid.results.spec.design not in FROM_REFERENCE:
        return frozenset(cell.hash for cell in grid.cells)
    rows = {int(row) for side in (contrast.rows_low, contrast.rows_high) for row in side.ravel() if row >= 0}
    return frozenset(grid.cells[row].hash for row in rows)
