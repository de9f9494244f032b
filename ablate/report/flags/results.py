"""Rules about the results themselves: selection, the test split, seeds that did nothing, predictions."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ablate.evidence import diverged
from ablate.report.document import Flag
from ablate.report.flags.evidence import CAUTION, NOTE, STOP, Evidence
from ablate.report.phrases import SIGNS, WHY_REFUSED
from ablate.report.sections.cells import cell_name
from ablate.report.words import listed, number, plural, signed

FEW_CLUSTERS = 20


def best_of_epochs(evidence: Evidence) -> Iterator[Flag]:
    """Scores of the best epoch by the split they are reported on: the last epoch's stand beside them as `…@last`."""
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
            "the epoch was chosen on the split that is reported; against the last epoch: "
            + listed(f"{name} {signed(gap)}" for name, gap in gaps.items()),
            "compare the `@last` columns too, or choose with a split of its own",
        )


def worse_than_worst(evidence: Evidence) -> Iterator[Flag]:
    """Values worse than the worst that the study file says the metric can have."""
    grid = evidence.grid
    declared = grid.results.spec.metric.worst
    if declared is None or grid.primary not in grid.values:
        return
    beyond = (grid.values[grid.primary] - declared) * grid.sign < 0
    if beyond.any():
        found = grid.values[grid.primary][beyond]
        most = float(found[np.argmin(found * grid.sign)])
        yield Flag(
            STOP,
            "worse_than_worst",
            f"{plural(int(beyond.sum()), 'trial')} scored worse than {number(declared)}, the `worst` of {grid.primary}; "
            f"the worst seen is {number(most)}",
            "correct `metric: {worst: ...}` (and `goal`): what is said of lost trials rests on it",
            frozenset(np.flatnonzero(beyond.any(axis=1)).tolist()),
        )


def test_metric_used(evidence: Evidence) -> Iterator[Flag]:
    """The test split has taken part in choosing: it decides, or was scored before the end or more than once."""
    grid = evidence.grid
    uses = grid.results.test_uses
    cells = {t.cell for t in grid.results.trials if any(name.startswith("test/") for name in t.metrics)}
    if grid.primary.startswith("test/"):
        yield Flag(
            STOP, "test_metric_decides", f"the study decides by {grid.primary}", "decide by a dev metric"
        )
    elif len(cells) > 1 or len(uses) > 1:
        times = listed(f"{use.when} by {use.who}" for use in uses)
        yield Flag(
            STOP,
            "test_used_more_than_once",
            f"{plural(len(cells), 'cell')} scored on the test split"
            + (f", {plural(len(uses), 'time')} in all: {times}" if uses else ""),
            "choose on the dev split, then score the chosen cell once; report how often it was scored",
            frozenset(grid.index[cell] for cell in cells if cell in grid.index),
        )
    if early := [use for use in uses if use.unfinished]:
        yield Flag(
            STOP,
            "test_used_early",
            f"the test split was scored on {early[0].when}, when {plural(early[0].unfinished, 'trial')} had no result",
            "the choice could still have changed: report that it was made with the test score known",
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
            "dev rows whose text is in the training data too: "
            + listed(f"{plural(rows, 'row')} of {task}" for task, rows in sorted(most.items())),
            "leave them out of one side; until then the dev scores are somewhat too high",
        )


def diverged_runs(evidence: Evidence) -> Iterator[Flag]:
    """Runs that ended in numbers that are not finite, or scored grossly worse than the other seeds and cells."""
    grid = evidence.grid
    by_cell = diverged.diverged_runs(grid).sum(axis=1)
    ended = np.isin(grid.states, ["COMPLETE", "FAIL"]).sum(axis=1)
    if rows := np.flatnonzero(by_cell).tolist():
        most_first = sorted(rows, key=lambda row: (-by_cell[row] / ended[row], row))
        yield Flag(
            CAUTION,
            "diverged_runs",
            f"{plural(int(by_cell.sum()), 'run')} of {ended.sum()} diverged: {grid.primary} is far worse than in the other "
            "seeds and cells, or no finite number: "
            + listed(f"{by_cell[row]} of {ended[row]} of {cell_name(grid, row)}" for row in most_first),
            "see their curves; a mean over runs of two kinds describes neither: report how often a cell diverges, and its "
            "median beside the mean",
            frozenset(rows),
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
            "rows that have no label were dropped: "
            + listed(
                f"{plural(rows, 'row')} of {task} {split}" for (task, split), rows in sorted(most.items())
            ),
            "label them, or say beside the scores that they are left out",
        )


def seeds_without_effect(evidence: Evidence) -> Iterator[Flag]:
    """All metrics equal to the last digit under different seeds, and all predictions and curves that were kept."""
    grid = evidence.grid
    stuck = [row for row in range(len(grid.cells)) if _is_stuck(evidence, row)]
    if stuck:
        yield Flag(
            STOP,
            "seeds_without_effect",
            f"every metric is the same under all seeds in {plural(len(stuck), 'cell')}: "
            f"{listed(cell_name(grid, row) for row in stuck)}",
            "see that the trainer takes its randomness from `context.seed`; such seeds are no replicates",
            frozenset(stuck),
            undoes_p=True,
        )


def _is_stuck(evidence: Evidence, row: int) -> bool:
    """Say whether nothing tells the seeds of a cell apart. An accuracy on few items may tie by chance; a curve does not."""
    grid = evidence.grid
    complete = np.flatnonzero(grid.states[row] == "COMPLETE").tolist()
    values = np.array([grid.values[name][row, complete] for name in grid.dev_metrics])  # [metrics, seeds]
    if len(complete) < 2 or not values.size or not np.isfinite(values).all() or np.ptp(values, axis=1).any():
        return False
    trials = [grid.trials[row, column] for column in complete]
    for metric in grid.dev_metrics:
        found = [evidence.items.files.predicted(trial, metric) for trial in trials]
        if len({one.predicted.tobytes() for one in found if one}) > 1:
            return False
    curves: dict[tuple[str, str, int], set[float]] = {}
    for point in grid.results.points({part for trial in trials for part in trial.parts.values()}):
        curves.setdefault((point.part, point.name, point.step), set()).add(point.value)
    return all(len(at) == 1 for at in curves.values())


def unaligned_items(evidence: Evidence) -> Iterator[Flag]:
    """Predictions of two cells for different items: no paired test."""
    grid = evidence.grid
    if found := sorted(evidence.items.unaligned):
        differing = listed(sorted({what for *_, what in found}))
        yield Flag(
            CAUTION,
            "unaligned_items",
            f"not the same {differing}, so that items could not be paired: "
            + listed(
                f"{metric} of {cell_name(grid, low)} and {cell_name(grid, high)}"
                for low, high, metric, _ in found
            ),
            "score all cells and seeds on the same items in the same order",
            frozenset(row for low, high, *_ in found for row in (low, high)),
        )


def predictions_unused(evidence: Evidence) -> Iterator[Flag]:
    """Predictions that were kept and say nothing of the metric: they are refused, or give another value."""
    grid, files = evidence.grid, evidence.items.files
    for trial in grid.trials.values():
        if trial.state == "COMPLETE":
            for metric in grid.dev_metrics:
                files.scores(trial, metric)
    if unused := files.unused:
        rows = {one.row for one in unused}
        names = sorted({(one.metric, cell_name(grid, one.row), WHY_REFUSED[one.why]) for one in unused})
        said = listed(f"{metric} of {name} ({why})" for metric, name, why in names)
        yield Flag(
            CAUTION,
            "predictions_unused",
            f"predictions of {plural(len(rows), 'cell')} do not give the recorded metric, so that the items are left out of "
            f"its error: {said}",
            "give `context.predictions` what the metric was computed from (an accuracy or Pearson's r), of the same weights",
            frozenset(rows),
        )


def clusters_not_named(evidence: Evidence) -> Iterator[Flag]:
    """Items that depend on one another, by their ids or their order in the file, and no clusters named."""
    weights = [e.weights for e in evidence.effects if e.weights is not None and not e.identical]
    found = evidence.items.unnamed_clusters(weights, evidence.grid.primary) if weights else None
    if found:
        yield Flag(
            CAUTION,
            "clusters_not_named",
            f"items {SIGNS[found.sign]} agree more than independent ones do: the variance of a mean is {found.design_effect:.1f} "
            "times as large, and every interval and p takes them for independent",
            "name what items belong to: `context.predictions(..., clusters=...)`",
        )


def few_clusters(evidence: Evidence) -> Iterator[Flag]:
    """So few clusters that their variance is hardly known, and of unequal sizes that it is found too small."""
    grid, files = evidence.grid, evidence.items.files
    counts: dict[str, int] = {}
    for metric in evidence.items.made_of(grid.primary) if grid.primary in grid.values else ():
        found = (files.scores(trial, metric) for trial in grid.trials.values() if metric in trial.metrics)
        if (first := next(found, None)) and first.clusters:
            counts[metric] = len(set(first.clusters))
    few = {metric: count for metric, count in counts.items() if count < FEW_CLUSTERS}
    if few:
        yield Flag(
            CAUTION,
            "few_clusters",
            "items are in few clusters: "
            + listed(f"{plural(count, 'cluster')} of {metric}" for metric, count in few.items()),
            f"score items of more of them: below some {FEW_CLUSTERS}, of unequal sizes, an effect that is not there is claimed "
            "in .06 of studies rather than .05",
        )


def useless_predictions(evidence: Evidence) -> Iterator[Flag]:
    """Predictions that are all the same, or no better than always naming the commonest label."""
    grid = evidence.grid
    constant: set[tuple[str, int]] = set()
    majority: set[tuple[str, int]] = set()
    for (row, _), trial in sorted(grid.trials.items()):
        if trial.state != "COMPLETE":
            continue
        for metric in grid.dev_metrics:
            found = evidence.items.files.predicted(trial, metric)
            if found is None or len(found.ids) < 2:
                continue
            scores = evidence.items.files.scores(trial, metric)
            if np.ptp(found.predicted) == 0:
                constant.add((metric, row))
            elif scores and scores.kind == "accuracy" and scores.scores.mean() <= _majority(found.gold):
                majority.add((metric, row))
    for useless, rule, said in (
        (constant, "constant_predictions", "every item gets the same prediction"),
        (majority, "majority_class", "accuracy is not above always naming the commonest label"),
    ):
        if useless:
            names = sorted(f"{metric} of {cell_name(grid, row)}" for metric, row in useless)
            yield Flag(
                CAUTION,
                rule,
                f"{said}: {listed(names)}",
                "these models have learnt nothing for this task: train longer or mend the learning rate first",
                frozenset(row for _, row in useless),
            )


def _majority(gold: "np.ndarray[Any, Any]") -> float:
    _, counts = np.unique(gold, return_counts=True)
    return float(counts.max()) / len(gold)
