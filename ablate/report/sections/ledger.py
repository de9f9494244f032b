"""The outcome of every planned trial. Failed, pruned and missing trials are listed, never dropped."""

from ablate.evidence.frames import MISSING, SPARED, Grid
from ablate.report.document import Ledger, PartCounts, Progress, Tried, Unfinished
from ablate.report.sections.cells import cell_name
from ablate.spec.model import levels_text
from ablate.store.results import TrialResult, may_add, sharing


def progress(grid: Grid) -> Progress:
    """Return counts of the planned trials by state."""
    planned = grid.states[:, : len(grid.results.spec.seeds)]

    def count(state: str) -> int:
        return int((planned == state).sum())

    return Progress(
        planned=int((planned != SPARED).sum()),
        complete=count("COMPLETE"),
        running=count("RUNNING"),
        waiting=count("WAITING"),
        failed=count("FAIL"),
        pruned=count("PRUNED"),
        missing=count(MISSING),
        may_add=may_add(grid.results),
    )


def without_result(done: Progress) -> dict[str, int]:
    """Return the counts of planned trials without a result, by the name of their state."""
    return {state: getattr(done, state) for state in ("failed", "pruned", "running", "waiting", "missing")}


def ledger(grid: Grid) -> Ledger:
    """Return the counts and every trial that has no result, with its reason."""
    unfinished = tuple(
        Unfinished(
            cell.hash,
            cell_name(grid, row),
            seed,
            trial.number if (trial := grid.trials.get((row, column))) else None,
            str(grid.states[row, column]),
            trial.attempts if trial else 0,
            trial.error if trial else None,
        )
        for row, cell in enumerate(grid.cells)
        for column, seed in enumerate(grid.seeds)
        if grid.states[row, column] in ("FAIL", "PRUNED", "RUNNING")
        or (grid.states[row, column] == MISSING and column < len(grid.results.spec.seeds))
    )
    return Ledger(progress(grid), unfinished, _tried(grid), _parts(grid))


def _tried(grid: Grid) -> tuple[Tried, ...]:
    """Return the trials by which a search chose its finalists, in the order tried; empty for other designs."""
    last_step = _last_steps(grid, [trial for trial in grid.results.tried if trial.state == "PRUNED"])
    return tuple(
        Tried(
            trial.cell,
            levels_text(trial.factors),
            trial.seed,
            trial.state,
            trial.metrics.get(grid.results.spec.metric.name),
            trial.cell in grid.index,
            f"stopped at step {last_step[trial.number]}" if trial.number in last_step else trial.error,
        )
        for trial in sorted(grid.results.tried, key=lambda trial: trial.number)
    )


def _last_steps(grid: Grid, trials: list[TrialResult]) -> dict[int, int]:
    """Return trial number -> the last step of its curves."""
    steps: dict[tuple[str, int], int] = {}
    for point in grid.results.points({part for trial in trials for part in trial.parts.values()}):
        key = point.part, point.seed
        steps[key] = max(point.step, steps.get(key, 0))
    return {
        trial.number: max(last)
        for trial in trials
        if (last := [steps[part, trial.seed] for part in trial.parts.values() if (part, trial.seed) in steps])
    }


def _parts(grid: Grid) -> PartCounts:
    shared = sharing(grid.results, grid.trials.values())
    return PartCounts(
        shared.used, shared.unique, shared.continued, shared.seconds_trained, shared.seconds_saved
    )
