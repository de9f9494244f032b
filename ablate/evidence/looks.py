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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ablate.evidence.contrasts import Contrast
from ablate.evidence.effects import Effect, Kind, study_contrasts, study_effects, study_models
from ablate.evidence.frames import Grid
from ablate.evidence.items import Items
from ablate.evidence.verdicts import Judged, deciding_p, gates, qualified
from ablate.spec.model import Looking, Scalar, StudySpec
from ablate.spec.rules import Frozen
from ablate.stats.behrens_fisher import critical
from ablate.stats.inference import Inference, Method
from ablate.stats.multiple import gatekept_holm, shares_of_alpha
from ablate.stats.sequential import (
    ALPHA,
    EQUIVALENCE_ALPHA,
    FUTILE_BELOW,
    chance_at_the_end,
    next_fraction,
    nominal_levels,
    sequential_p,
    share_of_information,
)
from ablate.stats.verdicts import Verdict
from ablate.store.results import Look

Interval = tuple[float, float]
# Kind, factor, from and to as Python shows them: 0 is not false.
Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Comparison:
    """One contrast on the study's metric."""

    kind: Kind
    factor: str
    low: Scalar
    high: Scalar
    inference: Inference
    p: float | None  # that decides; None: it has no noise to be compared with yet
    cells: frozenset[str] = frozenset()  # hashes of those that it is estimated from
    same: bool = False  # both sides are one and the same trained part
    gate: int | None = None  # the place of the comparison that must be rejected first

    @property
    def key(self) -> Key:
        """What identifies it among the others."""
        return self.kind, self.factor, repr(self.low), repr(self.high)

    @property
    def by_seeds(self) -> float:
        """The variance of the estimate that one seed would leave."""
        return (self.inference.v_seed or 0.0) * self.inference.seeds

    def variance(self, seeds: int) -> float:
        """Return the variance that the estimate has, or would have, over so many seeds: what the items add stays."""
        return self.by_seeds / seeds + (self.inference.v_item or 0.0)


class Stop(StrEnum):
    """Why a comparison needs no more seeds."""

    DECIDED = "decided"
    NO_DIFFERENCE = "no_difference"
    FUTILE = "futile"
    WIDTH = "width"
    SAME_PART = "same_part"


class Seen(Frozen):
    """A comparison as it was seen at its last look; once it has stopped, for ever."""

    kind: Kind
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
        """What identifies it among the others."""
        return self.kind, self.factor, repr(self.low), repr(self.high)

    def verdict(self, goal: str) -> Verdict:
        """Return what may be said."""
        if self.rejected and self.estimate is not None:
            return Verdict.HELPS if (self.estimate > 0) == (goal == "maximize") else Verdict.HURTS
        same = self.stop in (Stop.NO_DIFFERENCE, Stop.SAME_PART)
        return Verdict.NO_DIFFERENCE if same else Verdict.INCONCLUSIVE


def take_look(grid: Grid) -> Look:
    """Return the next look at results that are complete, as far as they ever will be, up to it."""
    results = grid.results
    assert results.spec.looking is not None
    number = len(results.looks) + 1
    found = comparisons(grid)
    seen = looked_at(found, [seen_in(look) for look in results.looks], results.spec)
    needed = {cell for one in found if seen[one.key].stop is None for cell in one.cells}
    return Look(
        number,
        results.spec.looking.looks[number - 1],
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
    corrected = gatekept_holm([seen.p_sequential for seen in every.values()], [one.gate for one in found])
    undecided = sum(p is None or p >= ALPHA for p in corrected)
    adjusted = dict(zip(every, corrected, strict=True))
    for one in going:
        p = adjusted[one.key]
        fractions = [look[one.key].fraction for look in (*before, fresh)]
        seen = fresh[one.key].model_copy(
            update={
                "p_holm": p,
                "rejected": p is not None and p < ALPHA,
                "chance": _chance(one, fractions, undecided, spec),
            }
        )
        every[one.key] = seen.model_copy(update={"stop": _stop(seen, one, spec)})
    return every


def _seen(one: Comparison, before: Sequence[Seen], looking: Looking) -> Seen:
    """Return a comparison as its own data show it, before it is corrected for the others and judged."""
    found, at_most = one.inference, looking.looks[-1]
    fractions, p = [seen.fraction for seen in before], [seen.p for seen in before]
    if not fractions or fractions[-1] < 1:  # else all alpha is spent, and seeds were added since
        share = share_of_information(found.v_seed or 0.0, found.v_item or 0.0, found.seeds, at_most)
        fractions.append(next_fraction(fractions, share, len(looking.looks)))
        p.append(one.p)
    level = float(nominal_levels(fractions)[-1])
    return Seen(
        kind=one.kind,
        factor=one.factor,
        low=one.low,
        high=one.high,
        look=len(before) + 1,
        seeds=found.seeds,
        estimate=found.estimate,
        se=found.se,
        df=found.df if found.df is not None and math.isfinite(found.df) else None,
        p=one.p,
        fraction=fractions[-1],
        level=level,
        p_sequential=sequential_p(p, fractions),
        p_holm=None,
        ci95=None if one.p is None else found.interval(1 - level),
        ci90=None
        if one.p is None
        else found.interval(1 - float(nominal_levels(fractions, EQUIVALENCE_ALPHA)[-1])),
        chance=None,
        rejected=False,
        stop=None,
    )


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


def _chance(one: Comparison, fractions: Sequence[float], undecided: int, spec: StudySpec) -> float | None:
    """Return the chance that the last look decides, at Holm's present step, or finds the effect too small to matter.

    None at the last look, and where there is no noise to go by."""
    assert spec.looking is not None
    found, looks = one.inference, spec.looking.looks
    if one.p is None or found.estimate is None or len(fractions) >= len(looks) or found.seeds >= looks[-1]:
        return None
    planned = list(fractions)
    for seeds in looks[len(fractions) :]:
        planned.append(next_fraction(planned, one.variance(looks[-1]) / one.variance(seeds), len(looks)))
    at_end = one.variance(looks[-1])
    shape = (round(one.by_seeds / looks[-1] / at_end, 3), looks[-1] - 1, found.item_df)

    def least(alpha: float) -> float:
        return critical(float(nominal_levels(planned, alpha)[-1]), *shape) * math.sqrt(at_end)

    return float(
        chance_at_the_end(
            found.estimate,
            one.variance(found.seeds),
            at_end,
            found.seeds - 1,
            beyond=least(ALPHA / max(undecided, 1)),
            within=(spec.metric.smallest_effect or 0.0) - least(EQUIVALENCE_ALPHA),
        )
    )


def comparisons(grid: Grid) -> list[Comparison]:
    """Return every effect of the study on the metric that decides; none while no trial has measured it."""
    if grid.primary not in grid.values:
        return []
    effects = study_effects(grid, Items(grid), grid.primary, study_models(grid).get(grid.primary))
    return [
        Comparison(
            effect.kind,
            effect.contrast.factor,
            effect.contrast.low,
            effect.contrast.high,
            effect.inference,
            deciding_p(effect) if effect.inference.method in _OF_SEEDS else None,
            _cells(grid, effect),
            effect.identical,
            gate,
        )
        for effect, gate in zip(effects, gates(effects), strict=True)
    ]


# What speaks of other seeds, and may therefore decide whether there is to be one.
_OF_SEEDS = (Method.SEEDS, Method.SEEDS_AND_ITEMS)


def judge_looked(
    grid: Grid, effects: Sequence[Effect], aliases: Mapping[str, Sequence[str]]
) -> list[tuple[Judged, Seen | None]]:
    """Return the verdict of each effect on the metric that decides as the last look left it, and what was seen then.

    Before the first look there is none to give."""
    seen = last_seen(grid)
    goal = grid.results.spec.metric.goal
    shares = shares_of_alpha([deciding_p(effect) for effect in effects], gates(effects))
    return [
        (
            qualified(
                effect,
                found.verdict(goal) if found else Verdict.INCONCLUSIVE,
                found.p_holm if found else None,
                bool(aliases.get(effect.contrast.factor)),
                share or 1.0,
            ),
            found,
        )
        for effect, share in zip(effects, shares, strict=True)
        for found in [seen.get(_key(effect.kind, effect.contrast))]
    ]


def last_seen(grid: Grid) -> dict[Key, Seen]:
    """Return the comparisons as the last look left them; none before the first."""
    looks = grid.results.looks
    return seen_in(looks[-1]) if looks else {}


def seen_of_cells(grid: Grid) -> dict[int, Seen]:
    """Return, for the rows that differ from the reference in nothing but a factor's level, how that factor was seen last."""
    seen = last_seen(grid)
    return {
        cells[1]: found
        for contrast in study_contrasts(grid)
        if (cells := contrast.two_cells)
        and cells[0] == grid.reference
        and (found := seen.get(_key(Kind.LEVELS, contrast)))
    }


def _key(kind: Kind, contrast: Contrast) -> Key:
    return kind, contrast.factor, repr(contrast.low), repr(contrast.high)


def _cells(grid: Grid, effect: Effect) -> frozenset[str]:
    """Return the cells that an effect rests on; those of its contrast too, where some of them have no result yet."""
    rows = {
        int(row)
        for side in (effect.contrast.rows_low, effect.contrast.rows_high)
        for row in side.ravel()
        if row >= 0
    }
    return frozenset(grid.cells[row].hash for row in rows | effect.cells)
