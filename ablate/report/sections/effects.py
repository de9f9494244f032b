"""Rows of the effects table: every factor's contrast on every metric, corrected, with its verdict.

Holm's correction is over the contrasts on the primary metric. All other metrics are exploratory (Benjamini-Hochberg)
and never "help" or "hurt", since the study declares only for the primary metric which direction is better."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from ablate.evidence.contrasts import by_seed
from ablate.evidence.effects import Effect, Kind
from ablate.evidence.frames import Grid
from ablate.evidence.interactions import Interaction, Simple
from ablate.evidence.items import Items
from ablate.evidence.looks import LookResult
from ablate.evidence.verdicts import Judged, Qualifier, judge_exploratory, judge_primary
from ablate.report.document import (
    Change,
    Difference,
    EffectRow,
    Flag,
    InteractionRow,
    Numbers,
    OtherTest,
    SimpleEffect,
    Tradeoff,
)
from ablate.report.formatting import interval, number, p_text, signed
from ablate.report.phrases import BOUNDS_DECLARED, BOUNDS_SEEN, NOTES, SCALES, Note
from ablate.report.sections.looks import look_of
from ablate.report.sections.provenance import command_of_effect
from ablate.report.sections.sensitivity import of_one_seed, sign_flip
from ablate.spec.model import quoted_level
from ablate.stats.inference import Method
from ablate.stats.verdicts import Verdict
from ablate.text import listed

Row = TypeVar("Row", EffectRow, Difference)


def effect_row(
    items: Items,
    effect: Effect,
    judged: Judged,
    aliased_with: Sequence[str],
    turns: Sequence[Simple],
    borrowed: OtherTest | None,
) -> EffectRow:
    """Return the row of one effect."""
    contrast, lost = effect.contrast, effect.lost
    notes = effect_notes(effect, turns)
    return EffectRow(
        change=Change(contrast.factor, contrast.low, contrast.high, contrast.when),
        metric=effect.metric,
        role="primary" if effect.metric == items.grid.primary else "exploratory",
        kind=effect.kind,
        numbers=Numbers.of(effect.inference, size_of(items.grid, effect.metric)),
        judged=judged,
        notes=tuple(notes),
        note="; ".join(notes.values()),
        slope=effect.slope,
        last=Numbers.of(effect.last) if effect.last else None,
        turns=tuple(
            SimpleEffect(simple.factor, simple.level, Numbers.of(simple.inference)) for simple in turns
        ),
        bounds=lost.bounds if lost else None,
        bounds_as_seen=lost.from_observed if lost else None,
        lost=(lost.low, lost.high) if lost else None,
        by_seed=_by_seed(items, effect),
        sensitivity=(*_other_tests(items, effect), *([borrowed] if borrowed else [])),
        matches=effect.differences.matches,
        matches_done=effect.differences.matches_done,
        aliased_with=tuple(aliased_with),
        again=command_of_effect(items.grid, effect),
    )


def size_of(grid: Grid, metric: str) -> float:
    """Return the largest absolute value of a metric."""
    return float(np.nanmax(np.abs(grid.values[metric]), initial=0.0))


def at_last_look(row: Row, seen: LookResult | None) -> Row:
    """Return a row with the numbers of its last look; without interval and p if no look covers it."""
    if seen is None:
        note = "; ".join(filter(None, [row.note, NOTES[Note.NOT_LOOKED_AT]]))
        numbers = replace(row.numbers, ci95=None, p=None)
        judged = replace(row.judged, mde80=None)
        return replace(row, numbers=numbers, judged=judged, notes=(*row.notes, Note.NOT_LOOKED_AT), note=note)
    numbers = replace(
        row.numbers, estimate=seen.estimate, se=seen.se, df=seen.df, ci95=seen.ci95, p=seen.p, n=seen.seeds
    )
    # Not shown, since the detectable effect, unlike the interval, does not account for the looks.
    judged = replace(row.judged, mde80=None)
    return replace(row, numbers=numbers, judged=judged, look=look_of(seen))


def undone(row: Row, cells: Collection[int], raised: Sequence[Flag]) -> Row:
    """Return a row estimated from `cells`; flags that invalidate its p are noted and make it inconclusive."""
    rules = tuple(flag.rule for flag in raised if flag.undoes_p and flag.cells & set(cells))
    if not rules:
        return row
    verdict, qualifiers = row.judged.verdict, (*row.judged.qualifiers, Qualifier.STOP_FLAG)
    # That both sides are the same trained part is no inference.
    if Note.SAME_PART not in row.notes:
        verdict = Verdict.INCONCLUSIVE
    judged = replace(row.judged, verdict=verdict, qualifiers=qualifiers)
    return replace(row, judged=judged, undone_by=rules)


def interaction_row(interaction: Interaction) -> InteractionRow:
    """Return one interaction."""
    numbers, mde80 = Numbers.of(interaction.inference), interaction.inference.mde80()
    return InteractionRow(
        interaction.factors,
        interaction.low,
        interaction.high,
        interaction.metric,
        numbers,
        mde80,
        interaction.p_bh,
    )


def clearest_first(row: InteractionRow) -> tuple[float, float]:
    """Order interactions by their p, then by their size."""
    p, estimate = row.numbers.p, row.numbers.estimate
    return (2.0 if p is None else p), -abs(estimate or 0.0)


def judge(grid: Grid, effects: Sequence[Effect], aliases: Mapping[str, Sequence[str]]) -> list[Judged]:
    """Judge the effects on one metric together: by the study's goal if it is the primary metric."""
    if not effects or effects[0].metric != grid.primary:
        return judge_exploratory([e.inference for e in effects], [e.identical for e in effects])
    declared = grid.results.spec.metric
    return judge_primary(effects, declared.smallest_effect, declared.goal, aliases)


def tradeoffs(effects: Iterable[EffectRow], goal: str) -> tuple[Tradeoff, ...]:
    """Return the changes that raise one metric and lower another, by their verdicts.

    Only the direction of the numbers counts: the study declares just for one metric whether higher is better.
    """
    rows_of: dict[str, list[EffectRow]] = defaultdict(list)
    for row in effects:
        if row.kind is Kind.LEVELS:
            rows_of[repr((row.change.factor, row.change.low, row.change.high))].append(row)
    opposed = []
    for rows in rows_of.values():
        raises, lowers = (
            {
                row.metric: row.numbers.estimate or 0.0
                for row in rows
                if _sign(row.judged.verdict, goal) == sign
            }
            for sign in (1, -1)
        )
        if raises and lowers:
            opposed.append(Tradeoff(rows[0].change, raises, lowers))
    return tuple(opposed)


def effect_notes(effect: Effect, turns: Sequence[Simple]) -> dict[Note, str]:
    """Return the remarks beside the numbers of an effect, by their codes."""
    values_of: dict[Note, dict[str, object]] = {}
    differences, estimate = effect.differences, effect.inference.estimate
    if estimate is None and effect.confounded_with:
        values_of[Note.CONFOUNDED] = {"others": listed(effect.confounded_with)}
    elif estimate is None:
        values_of[Note.NO_CELLS if differences.matches == 0 else Note.NOTHING_YET] = {}
    elif effect.identical:
        values_of[Note.SAME_PART] = {}
    elif effect.inference.method is Method.NO_VARIANCE:
        values_of[Note.NO_NOISE] = {}
    if differences.identical and not effect.identical:
        values_of[Note.PARTLY_SAME] = {"identical": differences.identical, "compared": differences.compared}
    if 0 < differences.matches_done < differences.matches:
        values_of[Note.PARTIAL] = {"done": differences.matches_done, "matches": differences.matches}
    if effect.contrast.averaged_over:
        values_of[Note.AVERAGED] = {"factors": ", ".join(effect.contrast.averaged_over)}
    if effect.slope:
        levels = listed(map(number_text, sorted(effect.slope.levels)), 8)
        values_of[Note.SLOPE] = {
            "levels": levels,
            "scale": SCALES[effect.slope.scale],
            "p": p_text(effect.slope.p_lack_of_fit),
        }
    if effect.lost and estimate is not None:
        ends = BOUNDS_SEEN if effect.lost.from_observed else BOUNDS_DECLARED
        values_of[Note.BOUNDS] = {"bounds": interval(effect.lost.bounds), "ends": ends}
    if turns:
        at = [f"{signed(one.inference.estimate)} at {one.factor} {quoted_level(one.level)}" for one in turns]
        values_of[Note.TURNS_AROUND] = {"effects": ", ".join(at)}
    return {note: NOTES[note].format(**values) for note, values in values_of.items()}


def number_text(value: float) -> str:
    """Return `16`, `0.01`, `1e-05`."""
    return f"{value:.6g}" if value else number(0.0, 0)


def _by_seed(items: Items, effect: Effect) -> dict[str, float]:
    if effect.weights is None:
        return {}
    values = by_seed(effect.weights, items.values(effect.metric))
    return {str(seed): float(v) for seed, v in zip(items.grid.seeds, values, strict=True) if math.isfinite(v)}


def _other_tests(items: Items, effect: Effect) -> list[OtherTest]:
    # Differences that are rounding have signs too.
    if effect.identical or effect.weights is None or effect.inference.method is Method.NO_VARIANCE:
        return []
    values = by_seed(effect.weights, items.values(effect.metric))
    values = values[np.isfinite(values)]
    if len(values) > 1:
        return [sign_flip(values)]
    cells = effect.contrast.two_cells
    return of_one_seed(items, *cells, effect.metric) if cells and len(values) else []


def _sign(verdict: Verdict, goal: str) -> int:
    """1: up, −1: down, 0: not decided."""
    better = 1 if goal == "maximize" else -1
    signs = {Verdict.HELPS: better, Verdict.HURTS: -better, Verdict.RAISES: 1, Verdict.LOWERS: -1}
    return signs.get(verdict, 0)
