"""Rules about the results themselves: selection, duplicates, seeds that did nothing, useless predictions."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ablate.report.cells import cell_name
from ablate.report.flags_evidence import CAUTION, NOTE, STOP, Evidence, Flag
from ablate.report.words import listed, plural, signed


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
            {grid.index[cell] for cell in cells if cell in grid.index},
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


def conflicting_duplicates(evidence: Evidence) -> Iterator[Flag]:
    """Two complete trials of one cell and seed that do not agree."""
    grid = evidence.grid
    first = {(t.cell, t.seed): t for t in grid.trials.values()}
    clashes = [
        trial
        for trial in grid.repeats
        if trial.state == "COMPLETE" and trial.metrics != first[trial.cell, trial.seed].metrics
    ]
    if clashes:
        yield Flag(
            STOP,
            "conflicting_duplicates",
            f"{plural(len(clashes), 'trial')} repeat a cell and seed with other results: "
            + listed(f"{cell_name(grid, grid.index[t.cell])}, seed {t.seed}" for t in clashes),
            "training is not deterministic, or code or data changed in between; find out which before any claim",
            {grid.index[trial.cell] for trial in clashes},
        )


def seeds_without_effect(evidence: Evidence) -> Iterator[Flag]:
    """All metrics, and where they are kept all predictions, equal to the last digit under different seeds."""
    grid = evidence.grid
    stuck = [row for row in range(len(grid.cells)) if _is_stuck(evidence, row)]
    if stuck:
        yield Flag(
            STOP,
            "seeds_without_effect",
            f"every metric is the same under all seeds in {plural(len(stuck), 'cell')}: "
            f"{listed(cell_name(grid, row) for row in stuck)}",
            "see that the trainer takes its randomness from `context.seed`; such seeds are no replicates",
            stuck,
            undoes_p=True,
        )


def _is_stuck(evidence: Evidence, row: int) -> bool:
    grid, names = evidence.grid, evidence.grid.dev_metrics
    complete = np.flatnonzero(grid.states[row] == "COMPLETE").tolist()
    values = np.array([grid.values[name][row, complete] for name in names])  # [metrics, seeds]
    if len(complete) < 2 or not values.size or not np.isfinite(values).all() or np.ptp(values, axis=1).any():
        return False
    # Accuracies of two seeds are often equal by chance.
    trials = [grid.trials[row, column] for column in complete]
    kept = [[evidence.items.files.predicted(trial, name) for trial in trials] for name in names]
    return all(len({one.predicted.tobytes() for one in found if one}) <= 1 for found in kept)


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
            {row for low, high, *_ in found for row in (low, high)},
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
                {row for _, row in useless},
            )


def not_finite(evidence: Evidence) -> Iterator[Flag]:
    """Metrics that are not numbers."""
    grid = evidence.grid
    found = [
        (trial, name)
        for trial in grid.results.trials
        for name, value in trial.metrics.items()
        if not math.isfinite(value)
    ]
    if found:
        yield Flag(
            CAUTION,
            "not_finite",
            f"not a finite number, left out: {listed(f'{name} of trial {trial.number}' for trial, name in found)}",
            "see these trials' curves",
            {grid.index[trial.cell] for trial, _ in found if trial.cell in grid.index},
        )


def _majority(gold: "np.ndarray[Any, Any]") -> float:
    _, counts = np.unique(gold, return_counts=True)
    return float(counts.max()) / len(gold)
