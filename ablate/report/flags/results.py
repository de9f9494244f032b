"""Rules about the results themselves: selection, the test split, seeds without effect, predictions."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ablate.evidence import diverged
from ablate.evidence.frames import MOST_METRICS, Grid
from ablate.evidence.predictions import Refusal, file_name
from ablate.report.document import Flag
from ablate.report.flags.evidence import CAUTION, NOTE, STOP, Evidence, rows_where
from ablate.report.formatting import number, signed
from ablate.report.phrases import SIGNS, WHY_REFUSED
from ablate.report.sections.cells import cell_name
from ablate.text import listed, plural

FEW_CLUSTERS = 20


def best_of_epochs(evidence: Evidence) -> Iterator[Flag]:
    """Scores of the epoch that was best on the reported split; those of the last epoch are recorded as `…@last`."""
    grid = evidence.grid
    gaps = {}
    for best, last in grid.of_last_epoch.items():
        gap = grid.values[best] - grid.values[last]
        if np.isfinite(gap).any() and float(np.nanmean(gap)) != 0:
            gaps[best] = float(np.nanmean(gap))
    if gaps:
        yield Flag(
            NOTE,
            "best_of_epochs",
            "the epoch was chosen on the split that is reported; compared with the last epoch: "
            + listed(f"{name} {signed(gap)}" for name, gap in gaps.items()),
            "also compare the `@last` columns, or choose the epoch on a separate split",
        )


def worse_than_worst(evidence: Evidence) -> Iterator[Flag]:
    """Values worse than `worst`, the worst possible value according to the study file."""
    grid = evidence.grid
    declared = grid.results.spec.metric.worst
    if declared is None or grid.primary not in grid.values:
        return
    beyond = (grid.values[grid.primary] - declared) * grid.sign < 0
    if beyond.any():
        worse = grid.values[grid.primary][beyond]
        most = float(worse[np.argmin(worse * grid.sign)])
        yield Flag(
            STOP,
            "worse_than_worst",
            f"{plural(int(beyond.sum()), 'trial')} scored worse than {number(declared)}, the `worst` of {grid.primary}; "
            f"the worst value is {number(most)}",
            "correct `metric: {worst: ...}` (and `goal`): statements about lost trials depend on it",
            rows_where(beyond.any(axis=1)),
        )


def test_metric_used(evidence: Evidence) -> Iterator[Flag]:
    """The test split influenced the choice: it decides, or was scored early or more than once."""
    grid = evidence.grid
    uses = grid.results.test_uses
    cells = {t.cell for t in grid.results.trials if any(name.startswith("test/") for name in t.metrics)}
    if grid.primary.startswith("test/"):
        yield Flag(STOP, "test_metric_decides", f"the primary metric is {grid.primary}", "use a dev metric")
    elif len(cells) > 1 or len(uses) > 1:
        times = listed(f"{use.when} by {use.who}" for use in uses)
        yield Flag(
            STOP,
            "test_used_more_than_once",
            f"{plural(len(cells), 'cell')} scored on the test split"
            + (f", {plural(len(uses), 'time')} in all: {times}" if uses else ""),
            "choose on the dev split, then score the chosen cell once; report how often it was used",
            frozenset(grid.index[cell] for cell in cells if cell in grid.index),
        )
    elif uses and not cells:
        yield Flag(
            CAUTION,
            "test_used_without_scores",
            f"the test split was used on {uses[0].when} by {uses[0].who}, and no score was recorded: the use was cut off or "
            "failed, or the split has no labels",
            "say so with any score on the test split, or make no claim about it",
        )
    if early := [use for use in uses if use.unfinished]:
        yield Flag(
            STOP,
            "test_used_early",
            f"the test split was scored on {early[0].when}, when {plural(early[0].unfinished, 'trial')} had no result yet",
            "the choice could still have changed: report that the test score was known before the choice was final",
        )


def dev_rows_in_train(evidence: Evidence) -> Iterator[Flag]:
    """Dev items that the models were trained on (`context.facts["dev_rows_in_train"]`, {task: count})."""
    most: dict[str, int] = {}
    for part in evidence.grid.results.parts.values():
        shared = part.facts.get("dev_rows_in_train")
        for task, rows in shared.items() if isinstance(shared, Mapping) else ():
            if isinstance(rows, int) and rows > 0:
                most[str(task)] = max(rows, most.get(str(task), 0))
    if most:
        yield Flag(
            CAUTION,
            "dev_rows_in_train",
            "dev rows whose text is also in the training data: "
            + listed(f"{plural(rows, 'row')} of {task}" for task, rows in sorted(most.items())),
            "remove them from the training data or from dev; until then the dev scores are somewhat too high",
        )


def diverged_runs(evidence: Evidence) -> Iterator[Flag]:
    """Runs that ended in non-finite numbers, or scored far worse than the other seeds and cells."""
    grid = evidence.grid
    by_cell = diverged.diverged_runs(grid).sum(axis=1)
    ended = np.isin(grid.states, ["COMPLETE", "FAIL"]).sum(axis=1)
    if rows := np.flatnonzero(by_cell).tolist():
        most_first = sorted(rows, key=lambda row: (-by_cell[row] / ended[row], row))
        yield Flag(
            CAUTION,
            "diverged_runs",
            f"{plural(int(by_cell.sum()), 'run')} of {ended.sum()} diverged: {grid.primary} is far worse than in the other "
            "seeds and cells, or not a finite number: "
            + listed(
                (
                    f"{by_cell[row]} of {plural(int(ended[row]), 'run')} of {cell_name(grid, row)}"
                    for row in most_first
                ),
                sep="; ",
            ),
            "look at their curves; a mean over diverged and normal runs describes neither: report how often a cell diverges, "
            "and its median as well as its mean",
            frozenset(rows),
        )


def many_metrics(evidence: Evidence) -> Iterator[Flag]:
    """More metrics than a report can show the effects on."""
    if left_out := evidence.grid.left_out_metrics:
        yield Flag(
            NOTE,
            "many_metrics",
            f"effects are computed for {MOST_METRICS} metrics only; the last {left_out:,} in alphabetical order are left out",
            "report per-class or per-layer numbers as curves instead; all values are in results.csv (`ablate export`)",
        )


def dropped_rows(evidence: Evidence) -> Iterator[Flag]:
    """Rows of the data that the trainer left out (`context.facts["dropped_rows"]`, {task: {split: count}})."""
    most: dict[tuple[str, str], int] = {}
    for part in evidence.grid.results.parts.values():
        tasks = part.facts.get("dropped_rows")
        for task, splits in tasks.items() if isinstance(tasks, Mapping) else ():
            for split, rows in splits.items() if isinstance(splits, Mapping) else ():
                if isinstance(rows, int) and rows > 0:
                    place = str(task), str(split)
                    most[place] = max(rows, most.get(place, 0))
    if most:
        yield Flag(
            NOTE,
            "dropped_rows",
            "rows without a label were dropped: "
            + listed(
                f"{plural(rows, 'row')} of {task} {split}" for (task, split), rows in sorted(most.items())
            ),
            "label them, or state with the scores that they are left out",
        )


def seeds_without_effect(evidence: Evidence) -> Iterator[Flag]:
    """Metrics, saved predictions and curves are identical under different seeds."""
    grid = evidence.grid
    stuck = [row for row in range(len(grid.cells)) if _is_stuck(evidence, row)]
    if stuck:
        yield Flag(
            STOP,
            "seeds_without_effect",
            f"every metric is identical under all seeds in {plural(len(stuck), 'cell')}: "
            f"{listed((cell_name(grid, row) for row in stuck), sep='; ')}",
            "make the trainer take its randomness from `context.seed` (a script: from {seed} or ABLATE_SEED); these seeds are "
            "not replicates",
            frozenset(stuck),
            undoes_p=True,
        )


def _is_stuck(evidence: Evidence, row: int) -> bool:
    """Return whether all seeds of a cell gave the same results. An accuracy on few items may tie by chance; a curve does not."""
    grid = evidence.grid
    complete = np.flatnonzero(grid.states[row] == "COMPLETE").tolist()
    values = np.array([grid.values[name][row, complete] for name in grid.dev_metrics])  # [metrics, seeds]
    if len(complete) < 2 or not values.size or not np.isfinite(values).all() or np.ptp(values, axis=1).any():
        return False
    trials = [grid.trials[row, column] for column in complete]
    for metric in grid.dev_metrics:
        predictions = [evidence.items.files.predicted(trial, metric) for trial in trials]
        if len({predicted.predicted.tobytes() for predicted in predictions if predicted}) > 1:
            return False
    curves: dict[tuple[str, str, int], set[float]] = {}
    for point in grid.results.points({part for trial in trials for part in trial.parts.values()}):
        curves.setdefault((point.part, point.name, point.step), set()).add(point.value)
    return all(len(at) == 1 for at in curves.values())


def unaligned_items(evidence: Evidence) -> Iterator[Flag]:
    """Predictions of two cells for different items: no paired test."""
    grid = evidence.grid
    if unaligned := sorted(evidence.items.unaligned):
        differing = listed(sorted({what for *_, what in unaligned}))
        yield Flag(
            CAUTION,
            "unaligned_items",
            f"different {differing}, so items could not be paired: "
            + listed(
                f"{metric} of {cell_name(grid, low)} and {cell_name(grid, high)}"
                for low, high, metric, _ in unaligned
            ),
            "score all cells and seeds on the same items in the same order",
            frozenset(row for low, high, *_ in unaligned for row in (low, high)),
        )


def predictions_unused(evidence: Evidence) -> Iterator[Flag]:
    """Saved predictions that cannot be used: refused, or their value differs from the metric."""
    grid, files = evidence.grid, evidence.files
    without_items = {u for u in files.unused if u.why is Refusal.STATED_OTHER}
    if without_items:
        metrics = listed(sorted({u.metric for u in without_items}))
        yield Flag(
            NOTE,
            "predictions_unused",
            f"{metrics}: no value can be computed for each item, so the error includes the seeds but not the items",
            "report accuracy or Pearson's r as well if the error due to items matters",
            frozenset(u.row for u in without_items),
        )
    if unused := files.unused - without_items:
        rows = {u.row for u in unused}
        names = sorted({(u.metric, cell_name(grid, u.row), WHY_REFUSED[u.why]) for u in unused})
        reasons = listed(f"{metric} of {name} ({why})" for metric, name, why in names)
        yield Flag(
            CAUTION,
            "predictions_unused",
            f"saved predictions of {plural(len(rows), 'cell')} cannot be used, so the error of the metric does not include the "
            f"items: {reasons}",
            "pass to `context.predictions` what the metric (accuracy or Pearson's r) was computed from, predicted by the same "
            "state of the model: not by the last epoch's if the metric is that of the best",
            frozenset(rows),
        )


def predictions_unmatched(evidence: Evidence) -> Iterator[Flag]:
    """Saved predictions that are not named after a metric, and from which none can be recomputed."""
    grid = evidence.grid
    if not (names := evidence.files.unmatched()) or grid.primary not in grid.values:
        return
    if evidence.items.made_of(grid.primary):
        how = "name a file after its metric (`dev.accuracy.csv` belongs to `dev/accuracy`)"
    elif "/" in grid.primary:
        how = f"call the file with the predictions behind {grid.primary} `{file_name(grid.primary)}`"
    else:
        how = f"call the metric `dev/{grid.primary}`, and the file with its predictions `dev.{grid.primary}.csv`"
    yield Flag(
        NOTE,
        "predictions_unmatched",
        f"saved predictions that belong to no metric are not used: {listed(names)}",
        how,
    )


def clusters_not_named(evidence: Evidence) -> Iterator[Flag]:
    """Items that look dependent, by their ids or their order in the file, while no clusters are named."""
    weights = [e.weights for e in evidence.effects if e.weights is not None and not e.identical]
    dependence = evidence.items.unnamed_clusters(weights, evidence.grid.primary) if weights else None
    if dependence:
        yield Flag(
            CAUTION,
            "clusters_not_named",
            f"items {SIGNS[dependence.sign]} agree more than independent items do: the variance of a mean is "
            f"{dependence.design_effect:.1f} times as large, but every interval and p assumes independence",
            "name the clusters: `context.predictions(..., clusters=...)`",
        )


def few_clusters(evidence: Evidence) -> Iterator[Flag]:
    """Too few clusters: their variance is poorly estimated, and too low where sizes are unequal."""
    grid, files = evidence.grid, evidence.items.files
    counts: dict[str, int] = {}
    for metric in evidence.items.made_of(grid.primary) if grid.primary in grid.values else ():
        scores = (files.scores(trial, metric) for trial in grid.trials.values() if metric in trial.metrics)
        if (first := next(scores, None)) and first.clusters:
            counts[metric] = len(set(first.clusters))
    few = {metric: count for metric, count in counts.items() if count < FEW_CLUSTERS}
    if few:
        yield Flag(
            CAUTION,
            "few_clusters",
            "items are in few clusters: "
            + listed(f"{plural(count, 'cluster')} of {metric}" for metric, count in few.items()),
            f"score items from more clusters: with fewer than about {FEW_CLUSTERS} of unequal sizes, false positives occur in "
            "6 % of studies rather than 5 %",
        )


def useless_predictions(evidence: Evidence) -> Iterator[Flag]:
    """Predictions that are all the same, or no better than always predicting the commonest label."""
    grid = evidence.grid
    constant, majority, scored = (Counter[tuple[str, int]]() for _ in range(3))
    for (row, _), trial in sorted(grid.trials.items()):
        if trial.state != "COMPLETE":
            continue
        for metric in grid.dev_metrics:
            predicted = evidence.items.files.predicted(trial, metric)
            if predicted is None or len(predicted.ids) < 2:
                continue
            scored[metric, row] += 1
            scores = evidence.items.files.scores(trial, metric)
            if np.ptp(predicted.predicted) == 0:
                constant[metric, row] += 1
            elif scores and scores.kind == "accuracy" and scores.scores.mean() <= _majority(predicted.gold):
                majority[metric, row] += 1
    if constant:
        yield Flag(
            CAUTION,
            "constant_predictions",
            f"every item gets the same prediction: {_of_seeds(grid, constant, scored)}",
            _NOTHING_LEARNED,
            frozenset(row for _, row in constant),
        )
    if majority:
        yield Flag(
            CAUTION,
            "majority_class",
            f"accuracy is no better than always predicting the commonest label: {_of_seeds(grid, majority, scored)}",
            _NOTHING_LEARNED,
            frozenset(row for _, row in majority),
        )


_NOTHING_LEARNED = (
    "with these seeds the models learned nothing for this task: train longer or fix the learning rate first"
)


def _of_seeds(grid: Grid, useless: Counter[tuple[str, int]], scored: Counter[tuple[str, int]]) -> str:
    names = sorted(
        f"{metric} of {cell_name(grid, row)} ({count} of {plural(scored[metric, row], 'seed')})"
        for (metric, row), count in useless.items()
    )
    return listed(names, sep="; ")


def _majority(gold: "np.ndarray[Any, Any]") -> float:
    _, counts = np.unique(gold, return_counts=True)
    return float(counts.max()) / len(gold)
