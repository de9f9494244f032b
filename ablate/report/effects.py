"""Rows of the effects table: every factor's contrast on every metric, corrected and put into a word.

Holm's correction runs over the contrasts on the primary metric. All other metrics are exploratory (Benjamini-
Hochberg) and get no verdict of helping or hurting: which direction is better is declared for the primary metric only."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ablate.evidence.contrasts import (
    FROM_REFERENCE,
    Contrast,
    SeedDifferences,
    same_level,
    seed_differences,
    worst_case,
)
from ablate.evidence.estimates import (
    HELPS,
    HURTS,
    LOWERS,
    RAISES,
    Estimate,
    Judged,
    judge_exploratory,
    judge_primary,
    over_seeds,
    sign_flip,
)
from ablate.evidence.frames import Grid
from ablate.evidence.models import Model, worst_cases
from ablate.evidence.pairs import Pairing
from ablate.report.words import interval, listed


def effect_rows(
    pairing: Pairing,
    found: list[Contrast],
    models: dict[str, Model],
    metric: str,
    aliases: Mapping[str, list[str]],
) -> list[dict[str, Any]]:
    """Return the effects on `metric`, one row per contrast; `aliases` are what each factor cannot be told from."""
    grid = pairing.grid
    differences = [seed_differences(grid, contrast, metric) for contrast in found]
    identical = [difference.all_identical for difference in differences]
    estimates = [
        _estimate(pairing, contrast, difference, models.get(metric), metric)
        for contrast, difference in zip(found, differences, strict=True)
    ]
    fitted = worst_cases(grid, metric) if metric in models else {}
    return [
        {
            "factor": contrast.factor,
            "from": contrast.low,
            "to": contrast.high,
            "when": contrast.when,
            "metric": metric,
            "role": "primary" if metric == grid.primary else "exploratory",
            **estimate.row(),
            **judgement.row(),
            "note": _note(contrast, difference, estimate, bounds, models.get(metric)),
            "bounds": bounds,
            "sensitivity": _other_tests(pairing, contrast, difference, metric),
            "matches": difference.matches,
            "matches_done": difference.matches_done,
            "aliased_with": aliases[contrast.factor],
        }
        for contrast, difference, estimate, judgement in zip(
            found, differences, estimates, judged(estimates, identical, grid, metric), strict=True
        )
        for bounds in [_bounds(grid, contrast, metric, fitted)]
    ]


def tradeoffs(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the changes that are decided upwards on one metric and downwards on another.

    Metrics are compared by the direction of their numbers alone: that more is better is declared for one only.
    """
    changes: dict[str, list[dict[str, Any]]] = {}
    for row in document["effects"]:
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


def judged(estimates: list[Estimate], identical: list[bool], grid: Grid, metric: str) -> list[Judged]:
    """Return the corrected p and the verdict of each estimate, all on `metric`."""
    if metric != grid.primary:
        return judge_exploratory(estimates, identical)
    declared = grid.results.spec.metric
    return judge_primary(estimates, identical, declared.smallest_effect, declared.goal)


def _estimate(
    pairing: Pairing, contrast: Contrast, difference: SeedDifferences, model: Model | None, metric: str
) -> Estimate:
    if cells := contrast.two_cells:
        return pairing.estimate(*cells, metric, difference)
    if pairing.grid.results.spec.design in FROM_REFERENCE or difference.all_identical:
        return over_seeds(difference.per_seed)
    return (model and _from_model(model, contrast)) or Estimate(None, 0)


def _bounds(
    grid: Grid, contrast: Contrast, metric: str, fitted: Mapping[tuple[str, str, str], list[float]]
) -> list[float] | None:
    """Return what lost trials could make of the estimate; None where none is lost."""
    if grid.results.spec.design in FROM_REFERENCE:
        return worst_case(grid, contrast, metric)
    return fitted.get((contrast.factor, repr(contrast.low), repr(contrast.high)))


def _other_tests(
    pairing: Pairing, contrast: Contrast, difference: SeedDifferences, metric: str
) -> list[dict[str, Any]]:
    if cells := contrast.two_cells:
        return pairing.other_tests(*cells, metric, difference)
    by_seed = difference.per_seed[np.isfinite(difference.per_seed)]
    return [sign_flip(by_seed)] if len(by_seed) > 1 and not difference.all_identical else []


def _from_model(model: Model, contrast: Contrast) -> Estimate | None:
    levels = model.coding.levels.get(contrast.factor, ())
    if not levels or not same_level(levels[0], contrast.low):
        return None
    place = next((i for i, level in enumerate(levels) if same_level(level, contrast.high)), None)
    return model.effects.get(((contrast.factor,), (place,))) if place else None


def _note(
    contrast: Contrast,
    difference: SeedDifferences,
    estimate: Estimate,
    bounds: list[float] | None,
    model: Model | None,
) -> str:
    """Return what a reader must know beside the numbers; empty when there is nothing."""
    said = []
    if estimate.value is None and model and contrast.factor in model.confounded:
        said.append(f"cannot be told from {listed(model.confounded[contrast.factor])} by what has run")
    elif estimate.value is None:
        said.append("no two cells to compare" if difference.matches == 0 else "nothing to compare yet")
    elif difference.all_identical:
        said.append("same part, identical by construction")
    elif estimate.method.startswith("no variance"):
        said.append("the same in every seed: there is no noise to compare with")
    elif difference.identical:
        said.append(f"{difference.identical} of {difference.compared} comparisons are of a part with itself")
    if 0 < difference.matches_done < difference.matches:
        said.append(f"{difference.matches_done} of {difference.matches} pairs of cells so far")
    if contrast.averaged_over:
        said.append(f"averaged over {', '.join(contrast.averaged_over)} where it exists")
    if bounds and estimate.value is not None:
        said.append(f"with the worst and the best value seen for lost trials: {interval(bounds)}")
    return "; ".join(said)


def _sign(row: Mapping[str, Any], goal_sign: int) -> int:
    if row["verdict"] in (HELPS, HURTS):
        return goal_sign if row["verdict"] == HELPS else -goal_sign
    return int(row["verdict"] == RAISES) - int(row["verdict"] == LOWERS)
