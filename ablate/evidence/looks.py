"""A look at the results of a study that adds seeds: which comparisons are decided, which continue, and which cells they need.

Alpha is spent over the looks of each comparison (`stats.sequential`), and Holm's
correction is applied to their sequential p. A comparison that has stopped keeps its
result from that look, even if its cells get more seeds for other comparisons. It stops as

- decided: its corrected p is below ALPHA;
- no difference: its repeated 90 % interval lies inside ± smallest_effect;
- futile: the chance that the remaining seeds bring either of these is below FUTILE_BELOW. This bound is non-binding: the error
  rate also holds if the study goes on, since alpha is spent as if it did;
- narrow enough, if the study asks for a width instead: its repeated 95 % interval is at most that wide.

A look depends on the data alone, so every worker that takes it gets the same result."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ablate.evidence.contrasts import Contrast
from ablate.evidence.effects import Effect, Kind, study_contrasts, study_effects, study_models
from ablate.evidence.frames import Grid
from ablate.evidence.items import Items
from ablate.evidence.models import Model, fit_model
from ablate.evidence.verdicts import Judged, deciding_p, gates, qualified
from ablate.spec.model import Looking, Scalar, StudySpec
from ablate.spec.rules import Frozen
from ablate.stats.behrens_fisher import critical
from ablate.stats.inference import Inference
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
from ablate.stats.verdicts import Verdict, direction, verdict_of_interval
from ablate.store.results import Look

Interval = tuple[float, float]
# Kind, factor, and the repr of both levels (0 and false are equal, but their reprs differ).
Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Comparison:
    """One contrast on the study's metric."""

    kind: Kind
    factor: str
    low: Scalar
    high: Scalar
    inference: Inference
    p: float | None  # the p that decides; None: there is no estimate of noise yet
    cells: frozenset[str] = frozenset()  # hashes of the cells that it is estimated from
    same: bool = False  # both sides are the same trained part
    gate: int | None = None  # the index of the comparison that must be rejected first

    @property
    def key(self) -> Key:
        """What identifies this comparison among the others."""
        return self.kind, self.factor, repr(self.low), repr(self.high)

    @property
    def seed_variance(self) -> float:
        """The variance that the seeds would contribute to the estimate if there were only one."""
        return (self.inference.v_seed or 0.0) * self.inference.seeds

    def variance(self, seeds: int) -> float:
        """Return the variance of the estimate with this many seeds; the items' part does not depend on their number."""
        return self.seed_variance / seeds + (self.inference.v_item or 0.0)


class Stop(StrEnum):
    """Why a comparison needs no more seeds."""

    DECIDED = "decided"
    NO_DIFFERENCE = "no_difference"
    FUTILE = "futile"
    WIDTH = "width"
    SAME_PART = "same_part"


class LookResult(Frozen):
    """The result of a comparison at its last look; final once it has stopped."""

    kind: Kind
    factor: str
    low: Scalar
    high: Scalar
    look: int  # from 1
    seeds: int  # number of seeds used
    estimate: float | None
    se: float | None
    df: float | None  # None: infinite, or without a standard error
    p: float | None
    fraction: float  # share of the information that the final planned look will have
    level: float  # this look rejects if its two-sided p is below this; ci95 has confidence 1 − level
    p_sequential: float | None
    p_holm: float | None
    # Repeated intervals: in 95 % (90 %) of studies, those of all looks contain the true effect.
    ci95: Interval | None
    ci90: Interval | None
    chance: float | None  # probability that the final look gives a verdict; None at the final look
    rejected: bool  # the null hypothesis is rejected
    stop: Stop | None  # None: open
    level90: float | None = None  # ci90 has confidence 1 − level90; None in records of earlier versions

    @property
    def key(self) -> Key:
        """What identifies this comparison among the others."""
        return self.kind, self.factor, repr(self.low), repr(self.high)

    def verdict(self, goal: str, smallest: float | None = None) -> Verdict:
        """Return the conclusion, given the smallest effect that matters."""
        if self.rejected and self.estimate is not None:
            return direction(self.estimate, goal)
        same = self.stop in (Stop.NO_DIFFERENCE, Stop.SAME_PART)
        # A study that asks for a width stops for that alone.
        if smallest is not None and self.ci90:
            same |= verdict_of_interval(self.ci90, smallest) is Verdict.NO_DIFFERENCE
        return Verdict.NO_DIFFERENCE if same else Verdict.INCONCLUSIVE


def take_look(grid: Grid) -> Look:
    """Return the next look. All trials that it needs must have ended."""
    results = grid.results
    assert results.spec.looking is not None
    number = len(results.looks) + 1
    compared = comparisons(grid)
    seen = next_results(compared, [results_of_look(look) for look in results.looks], results.spec)
    needed = {
        cell for comparison in compared if seen[comparison.key].stop is None for cell in comparison.cells
    }
    return Look(
        number,
        results.spec.looking.looks[number - 1],
        tuple(cell.hash for cell in results.cells if cell.hash in needed),
        tuple(result.model_dump(mode="json") for result in seen.values()),
    )


def results_of_look(look: Look) -> dict[Key, LookResult]:
    """Return the comparisons of a recorded look."""
    return {seen.key: seen for seen in map(LookResult.model_validate, look.comparisons)}


def next_results(
    compared: Sequence[Comparison], before: Sequence[Mapping[Key, LookResult]], spec: StudySpec
) -> dict[Key, LookResult]:
    """Return the result of each comparison at the look that follows the looks in `before`."""
    assert spec.looking is not None
    last = before[-1] if before else {}
    still_open = [c for c in compared if not ((seen := last.get(c.key)) and seen.stop)]
    # A comparison may begin after the first look: a slope, say, once all levels have a result.
    earlier = {c.key: [look[c.key] for look in before if c.key in look] for c in still_open}
    new = {c.key: _seen(c, earlier[c.key], len(before) + 1, spec.looking) for c in still_open}
    results = {c.key: new.get(c.key) or last[c.key] for c in compared}
    corrected = gatekept_holm([seen.p_sequential for seen in results.values()], [c.gate for c in compared])
    undecided = sum(p is None or p >= ALPHA for p in corrected)
    adjusted = dict(zip(results, corrected, strict=True))
    for c in still_open:
        p = adjusted[c.key]
        fractions = [seen.fraction for seen in (*earlier[c.key], new[c.key])]
        seen = new[c.key].model_copy(
            update={
                "p_holm": p,
                "rejected": p is not None and p < ALPHA,
                "chance": _chance(c, fractions, len(before) + 1, undecided, spec),
            }
        )
        results[c.key] = seen.model_copy(update={"stop": _stop(seen, c, spec)})
    return results


def _seen(comparison: Comparison, before: Sequence[LookResult], number: int, looking: Looking) -> LookResult:
    """Return the result of one comparison at look `number`, not yet corrected for the other comparisons and not yet decided."""
    inference, at_most = comparison.inference, looking.looks[-1]
    fractions, p = [seen.fraction for seen in before], [seen.p for seen in before]
    # At a fraction of 1 all alpha is spent: seeds that were added since cannot spend more.
    if not fractions or fractions[-1] < 1:
        v_seed, v_item = inference.v_seed or 0.0, inference.v_item or 0.0
        share = share_of_information(v_seed, v_item, inference.seeds, at_most)
        fractions.append(next_fraction(fractions, share, len(looking.looks)))
        p.append(comparison.p)
    level = float(nominal_levels(fractions)[-1])
    level90 = float(nominal_levels(fractions, EQUIVALENCE_ALPHA)[-1])
    return LookResult(
        kind=comparison.kind,
        factor=comparison.factor,
        low=comparison.low,
        high=comparison.high,
        look=number,
        seeds=inference.seeds,
        estimate=inference.estimate,
        se=inference.se,
        df=inference.df if inference.df is not None and math.isfinite(inference.df) else None,
        p=comparison.p,
        fraction=fractions[-1],
        level=level,
        p_sequential=sequential_p(p, fractions),
        p_holm=None,
        ci95=None if comparison.p is None else inference.interval(1 - level),
        ci90=None if comparison.p is None else inference.interval(1 - level90),
        chance=None,
        rejected=False,
        stop=None,
        level90=level90,
    )


def _stop(seen: LookResult, comparison: Comparison, spec: StudySpec) -> Stop | None:
    """Return why no more seeds are added for a comparison; `runner/expected_trials.py` predicts with the same rule."""
    assert spec.looking is not None
    if comparison.same:
        return Stop.SAME_PART
    if (width := spec.looking.width) is not None:
        return Stop.WIDTH if seen.ci95 and seen.ci95[1] - seen.ci95[0] <= width else None
    if seen.rejected:
        return Stop.DECIDED
    smallest = spec.metric.smallest_effect
    same = smallest is not None and seen.ci90 and verdict_of_interval(seen.ci90, smallest)
    if same == Verdict.NO_DIFFERENCE:
        return Stop.NO_DIFFERENCE
    return Stop.FUTILE if seen.chance is not None and seen.chance < FUTILE_BELOW else None


def _chance(
    comparison: Comparison, fractions: Sequence[float], number: int, undecided: int, spec: StudySpec
) -> float | None:
    """Return the chance that the final look gives a verdict, with alpha from the current step of Holm's procedure.

    None at the final look, and if there is no estimate of noise."""
    assert spec.looking is not None
    inference, looks = comparison.inference, spec.looking.looks
    is_last = number >= len(looks) or inference.seeds >= looks[-1]
    if comparison.p is None or inference.estimate is None or is_last:
        return None
    planned, at_end = list(fractions), comparison.variance(looks[-1])
    for seeds in looks[number:]:
        planned.append(next_fraction(planned, at_end / comparison.variance(seeds), len(looks)))
    shape = (round(comparison.seed_variance / looks[-1] / at_end, 3), looks[-1] - 1, inference.item_df)

    def threshold(alpha: float) -> float:
        return critical(float(nominal_levels(planned, alpha)[-1]), *shape) * math.sqrt(at_end)

    return float(
        chance_at_the_end(
            inference.estimate,
            comparison.variance(inference.seeds),
            at_end,
            inference.seeds - 1,
            beyond=threshold(ALPHA / max(undecided, 1)),
            within=(spec.metric.smallest_effect or 0.0) - threshold(EQUIVALENCE_ALPHA),
        )
    )


def comparisons(grid: Grid) -> list[Comparison]:
    """Return every effect of the study on the primary metric; none before a trial has reported it."""
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
            deciding_p(effect) if effect.inference.method.is_over_seeds else None,
            _cells(grid, effect),
            effect.identical,
            gate,
        )
        for effect, gate in zip(effects, gates(effects), strict=True)
    ]


def effects_at_last_look(
    grid: Grid, items: Items, effects: Sequence[Effect], model: Model | None
) -> list[Effect]:
    """Return the effects on the primary metric, each from the seeds of its last look.

    Its cells may have been given more seeds since, for other comparisons."""
    seen, seeds = last_results(grid), seeds_of_last_look(grid)
    keys = [_key(effect.kind, effect.contrast) for effect in effects]
    then: dict[tuple[int, Key], Effect] = {}
    for number in {seeds[key] for key in keys if key in seen} - {len(grid.seeds)}:
        earlier = grid.with_first_seeds(number)
        of_then = study_effects(earlier, items, grid.primary, model and fit_model(earlier, grid.primary))
        then |= {(number, _key(effect.kind, effect.contrast)): effect for effect in of_then}
    return [then.get((seeds.get(key, 0), key), effect) for key, effect in zip(keys, effects, strict=True)]


def seeds_of_last_look(grid: Grid) -> dict[Key, int]:
    """Return how many seeds were planned at the last look at each comparison; none before the first look."""
    looks = grid.results.looks
    return {key: looks[last.look - 1].seeds for key, last in last_results(grid).items()}


def judge_at_last_look(
    grid: Grid, effects: Sequence[Effect], aliases: Mapping[str, Sequence[str]]
) -> list[tuple[Judged, LookResult | None]]:
    """Return the verdict of each effect on the primary metric at the last look, and the result it had then.

    Before the first look, all are inconclusive."""
    seen = last_results(grid)
    goal, smallest = grid.results.spec.metric.goal, grid.results.spec.metric.smallest_effect
    shares = shares_of_alpha([deciding_p(effect) for effect in effects], gates(effects))
    return [
        (
            qualified(
                effect,
                last.verdict(goal, smallest) if last else Verdict.INCONCLUSIVE,
                last.p_holm if last else None,
                last.ci90 if last else None,
                bool(aliases.get(effect.contrast.factor)),
                share or 1.0,
            ),
            last,
        )
        for effect, share in zip(effects, shares, strict=True)
        for last in [seen.get(_key(effect.kind, effect.contrast))]
    ]


def last_results(grid: Grid) -> dict[Key, LookResult]:
    """Return the comparisons of the last look; none before the first."""
    looks = grid.results.looks
    return results_of_look(looks[-1]) if looks else {}


def last_results_of_cells(grid: Grid) -> dict[int, tuple[LookResult, int]]:
    """Return the last result of each row's comparison, for rows that differ from the reference in just one factor's level,
    and how many seeds were planned at that look."""
    seen, seeds = last_results(grid), seeds_of_last_look(grid)
    return {
        cells[1]: (last, seeds[last.key])
        for contrast in study_contrasts(grid)
        if (cells := contrast.two_cells)
        and cells[0] == grid.reference != cells[1]
        and (last := seen.get(_key(Kind.LEVELS, contrast)))
    }


def _key(kind: Kind, contrast: Contrast) -> Key:
    return kind, contrast.factor, repr(contrast.low), repr(contrast.high)


def _cells(grid: Grid, effect: Effect) -> frozenset[str]:
    """Return the cells that an effect is estimated from, and those of its contrast that have no result yet."""
    rows = {
        int(row)
        for side in (effect.contrast.rows_low, effect.contrast.rows_high)
        for row in side.ravel()
        if row >= 0
    }
    return frozenset(grid.cells[row].hash for row in rows | effect.cells)
