"""Rows of the effects table: every factor's contrast on every metric, corrected and put into a word.

Holm's correction runs over the contrasts on the primary metric. All other metrics are exploratory (Benjamini-Hochberg)
and get no verdict of helping or hurting: which direction is better is declared for the primary metric only."""

from typing import Any

from ablate.report.contrasts import Contrast, SeedDifferences, contrasts, seed_differences
from ablate.report.estimates import Estimate, Judged, judge_exploratory, judge_primary, over_seeds
from ablate.report.frames import Grid


def effect_rows(grid: Grid) -> list[dict[str, Any]]:
    """Return the rows of all metrics, the primary one first; within a metric in the order of the study file."""
    found = contrasts(grid)
    return [row for metric in grid.dev_metrics for row in _rows_of_metric(grid, found, metric)]


def judged(estimates: list[Estimate], identical: list[bool], grid: Grid, metric: str) -> list[Judged]:
    """Return the corrected p and the verdict of each estimate, all on `metric`."""
    if metric != grid.primary:
        return judge_exploratory(estimates, identical)
    declared = grid.results.spec.metric
    return judge_primary(estimates, identical, declared.smallest_effect, declared.goal)


def _rows_of_metric(grid: Grid, found: list[Contrast], metric: str) -> list[dict[str, Any]]:
    differences = [seed_differences(grid, contrast, metric) for contrast in found]
    estimates = [over_seeds(difference.per_seed) for difference in differences]
    identical = [is_identical(difference) for difference in differences]
    verdicts = judged(estimates, identical, grid, metric)
    rows = []
    for contrast, difference, estimate, same, judgement in zip(
        found, differences, estimates, identical, verdicts, strict=True
    ):
        rows.append(
            {
                "factor": contrast.factor,
                "from": contrast.low,
                "to": contrast.high,
                "when": contrast.when,
                "metric": metric,
                "role": "primary" if metric == grid.primary else "exploratory",
                **estimate.row(),
                **judgement.row(),
                "note": note(contrast, difference, same),
                "matches": difference.matches,
                "matches_done": difference.matches_done,
            }
        )
    return rows


def is_identical(difference: SeedDifferences) -> bool:
    """Say whether both sides were one and the same trained part wherever they were compared."""
    return difference.compared > 0 and difference.identical == difference.compared


def note(contrast: Contrast, difference: SeedDifferences, identical: bool) -> str:
    """Return what a reader must know beside the numbers; empty when there is nothing."""
    said = []
    if difference.matches == 0:
        said.append("no two cells to compare")
    elif difference.compared == 0:
        said.append("nothing to compare yet")
    elif identical:
        said.append("same part, identical by construction")
    elif difference.identical:
        said.append(
            f"{difference.identical} of {difference.compared} comparisons are the same part, identical by construction"
        )
    if 0 < difference.matches_done < difference.matches:
        said.append(f"{difference.matches_done} of {difference.matches} pairs of cells so far")
    if contrast.averaged_over:
        said.append(f"averaged over {', '.join(contrast.averaged_over)} where it exists")
    return "; ".join(said)
