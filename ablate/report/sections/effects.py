"""Rows of the effects table: every factor's contrast on every metric, corrected and put into a word.

Holm's correction runs over the contrasts on the primary metric. All other metrics are exploratory (Benjamini-
Hochberg) and get no verdict of helping or hurting: which direction is better is declared for the primary metric only."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ablate.evidence.contrasts import by_seed
from ablate.evidence.effects import Effect, Kind
from ablate.evidence.frames import Grid
from ablate.evidence.interactions import Interaction, Simple
from ablate.evidence.items import Items
from ablate.evidence.verdicts import Judged, judge_exploratory, judge_primary
from ablate.report.phrases import BOUNDS_DECLARED, BOUNDS_SEEN, NOTES, SCALES, Note
from ablate.report.sections.sensitivity import of_one_seed, sign_flip
from ablate.report.words import interval, listed, number, p_text, signed
from ablate.spec.model import level_text
from ablate.stats.inference import Inference, Method
from ablate.stats.verdicts import Verdict


def effect_row(
    items: Items,
    effect: Effect,
    judged: Judged,
    aliased_with: Sequence[str],
    turns: tuple[Simple, Simple] | None,
    borrowed: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return one effect as the report's JSON has it."""
    contrast, slope, lost = effect.contrast, effect.slope, effect.lost
    notes = effect_notes(effect, turns)
    return {
        "factor": contrast.factor,
        "from": contrast.low,
        "to": contrast.high,
        "when": contrast.when,
        "metric": effect.metric,
        "role": "primary" if effect.metric == items.grid.primary else "exploratory",
        "kind": effect.kind,
        **inference_row(effect.inference),
        **judged_row(judged),
        "notes": list(notes),
        "note": "; ".join(notes.values()),
        "slope": slope
        and {"scale": slope.scale, "levels": list(slope.levels), "p_lack_of_fit": slope.p_lack_of_fit},
        "last": effect.last and inference_row(effect.last),
        "turns": [_simple_row(one) for one in turns or ()],
        "bounds": lost and list(lost.bounds),
        "bounds_as_seen": lost and lost.is_as_seen,
        "lost": lost and [lost.low, lost.high],
        "by_seed": _by_seed(items, effect),
        "sensitivity": [*_other_tests(items, effect), *([borrowed] if borrowed else [])],
        "matches": effect.differences.matches,
        "matches_done": effect.differences.matches_done,
        "aliased_with": list(aliased_with),
    }


def inference_row(found: Inference) -> dict[str, Any]:
    """Return the fields that every row of the report has, in the metric's unit; `df` is null for a normal."""
    df, ci95 = found.df, found.interval()
    return {
        "estimate": found.estimate,
        "se": found.se,
        "df": df if df is not None and math.isfinite(df) else None,
        "ci95": ci95 and list(ci95),
        "p": found.p,
        "n": found.seeds,
        "method": found.method,
        "v_seed": found.v_seed,
        "v_item": found.v_item,
    }


def judged_row(judged: Judged) -> dict[str, Any]:
    """Return the fields of a verdict."""
    return {
        "p_holm": judged.p_holm,
        "p_bh": judged.p_bh,
        "verdict": judged.verdict,
        "mde80": judged.mde80,
        "qualifiers": list(judged.qualifiers),
    }


def interaction_row(one: Interaction) -> dict[str, Any]:
    """Return one interaction as the report's JSON has it."""
    return {
        "factors": list(one.factors),
        "from": list(one.low),
        "to": list(one.high),
        "metric": one.metric,
        **inference_row(one.inference),
        "mde80": one.inference.mde80(),
        "p_bh": one.p_bh,
    }


def judge(grid: Grid, effects: Sequence[Effect], aliases: Mapping[str, Sequence[str]]) -> list[Judged]:
    """Judge the effects on one metric together: by the study's goal on the one that decides."""
    if not effects or effects[0].metric != grid.primary:
        return judge_exploratory([e.inference for e in effects], [e.identical for e in effects])
    declared = grid.results.spec.metric
    return judge_primary(effects, declared.smallest_effect, declared.goal, aliases)


def tradeoffs(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the changes that are decided upwards on one metric and downwards on another.

    Metrics are compared by the direction of their numbers alone: that more is better is declared for one only.
    """
    changes: dict[str, list[dict[str, Any]]] = {}
    for row in document["effects"]:
        if row["kind"] == Kind.LEVELS:
            changes.setdefault(repr((row["factor"], row["from"], row["to"])), []).append(row)
    found = []
    for rows in changes.values():
        goal_sign = 1 if document["metric"]["goal"] == "maximize" else -1
        up = [row for row in rows if _sign(row, goal_sign) > 0]
        down = [row for row in rows if _sign(row, goal_sign) < 0]
        if up and down:
            first = rows[0]
            found.append(
                {
                    **{key: first[key] for key in ("factor", "from", "to", "when")},
                    "raises": {row["metric"]: row["estimate"] for row in up},
                    "lowers": {row["metric"]: row["estimate"] for row in down},
                }
            )
    return found


def effect_notes(effect: Effect, turns: tuple[Simple, Simple] | None) -> dict[Note, str]:
    """Return what a reader must know beside the numbers, by its code."""
    found: dict[Note, dict[str, object]] = {}
    differences, estimate = effect.differences, effect.inference.estimate
    if estimate is None and effect.confounded_with:
        found[Note.CONFOUNDED] = {"others": listed(effect.confounded_with)}
    elif estimate is None:
        found[Note.NO_CELLS if differences.matches == 0 else Note.NOTHING_YET] = {}
    elif effect.identical:
        found[Note.SAME_PART] = {}
    elif effect.inference.method is Method.NO_VARIANCE:
        found[Note.NO_NOISE] = {}
    elif differences.identical:
        found[Note.PARTLY_SAME] = {"identical": differences.identical, "compared": differences.compared}
    if 0 < differences.matches_done < differences.matches:
        found[Note.PARTIAL] = {"done": differences.matches_done, "matches": differences.matches}
    if effect.contrast.averaged_over:
        found[Note.AVERAGED] = {"factors": ", ".join(effect.contrast.averaged_over)}
    if effect.slope:
        levels = listed(map(number_text, sorted(effect.slope.levels)), 8)
        found[Note.SLOPE] = {
            "levels": levels,
            "scale": SCALES[effect.slope.scale],
            "p": p_text(effect.slope.p_lack_of_fit),
        }
    if effect.lost and estimate is not None:
        ends = BOUNDS_SEEN if effect.lost.is_as_seen else BOUNDS_DECLARED
        found[Note.BOUNDS] = {"bounds": interval(list(effect.lost.bounds)), "ends": ends}
    if turns:
        up, down = turns
        found[Note.TURNS_AROUND] = {
            "up": signed(up.inference.estimate),
            "up_at": f"{up.factor} {level_text(up.level)}",
            "down": signed(down.inference.estimate),
            "down_at": f"{down.factor} {level_text(down.level)}",
        }
    return {note: NOTES[note].format(**values) for note, values in found.items()}


def number_text(value: float) -> str:
    """Return `16`, `0.01`, `1e-05`."""
    return f"{value:.6g}" if value else number(0.0, 0)


def _simple_row(one: Simple) -> dict[str, Any]:
    return {"factor": one.factor, "level": one.level, **inference_row(one.inference)}


def _by_seed(items: Items, effect: Effect) -> dict[str, float]:
    if effect.weights is None:
        return {}
    values = by_seed(effect.weights, items.values(effect.metric))
    return {str(seed): float(v) for seed, v in zip(items.grid.seeds, values, strict=True) if math.isfinite(v)}


def _other_tests(items: Items, effect: Effect) -> list[dict[str, Any]]:
    if effect.identical or effect.weights is None:
        return []
    values = by_seed(effect.weights, items.values(effect.metric))
    values = values[np.isfinite(values)]
    if len(values) > 1:
        return [sign_flip(values)]
    cells = effect.contrast.two_cells
    return of_one_seed(items, *cells, effect.metric) if cells and len(values) else []


def _sign(row: Mapping[str, Any], goal_sign: int) -> int:
    if row["verdict"] in (Verdict.HELPS, Verdict.HURTS):
        return goal_sign if row["verdict"] == Verdict.HELPS else -goal_sign
    return int(row["verdict"] == Verdict.RAISES) - int(row["verdict"] == Verdict.LOWERS)
