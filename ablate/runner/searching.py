"""Continue a search: add the next trial, or the finalists once all cells are tried.

One process at a time, under a lock. Every decision depends on the store alone, so a search survives any interruption and never
repeats a cell on a seed."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping

from ablate.contract import Trainer
from ablate.design.cell_settings import Validator
from ablate.design.cells import cell_of
from ablate.design.factorial import Space
from ablate.design.model import Cell
from ablate.design.search import finalists, search_seed
from ablate.store.reading import read_results
from ablate.store.results import Results, TrialResult
from ablate.store.retrying import lasting
from ablate.store.sampling import Tried, Watch, next_combination
from ablate.store.writing import Store


def add_next(store: Store, trainer: Trainer) -> int:
    """Queue the search's next trials; return how many: 0 while it waits for results, or at its end."""
    spec = store.spec
    assert spec.search is not None
    results = read_results(store.place)
    tried = trials_tried(results)
    if len(tried) < spec.search.trials:
        cell = _untried_cell(results, tried, trainer)
        if cell is not None:
            return store.add_trials(_with(results, cell), [(cell.hash, search_seed(spec))])
    if any(trial.state in ("WAITING", "RUNNING") for trial in tried):
        return 0
    name = spec.metric.name
    scores = {trial.cell: trial.metrics[name] for trial in tried if trial.state == "COMPLETE"}
    return store.add_trials(results.cells, finalists(spec, scores, results.reference))


def trials_tried(results: Results) -> list[TrialResult]:
    """Return the search's own trials in the order they were added."""
    seed = search_seed(results.spec)
    return sorted((trial for trial in results.trials if trial.seed == seed), key=lambda trial: trial.number)


def watch_of(store: Store, number: int) -> Callable[[int, Mapping[str, float]], bool]:
    """Return a function that says, at each point of a trial's curves, whether the study's pruner stops the trial."""
    watch, name = lasting(lambda: _watch(store, number), store.stopping), store.spec.metric.name

    def should_prune(step: int, metrics: Mapping[str, float]) -> bool:
        value = metrics.get(name, math.nan)
        return watch is not None and math.isfinite(value) and watch.should_prune(step, value)

    return should_prune


def _watch(store: Store, number: int) -> Watch | None:
    search = store.spec.search
    if search is None or search.pruner == "none":
        return None
    results = read_results(store.place)
    tried = trials_tried(results)
    current = next((trial for trial in tried if trial.number == number), None)
    # With several parts there is no curve of the study's metric.
    if current is None or len(current.parts) != 1:
        return None
    ended = [trial for trial in tried if trial.state in ("COMPLETE", "PRUNED")]
    *before, now = _history([*ended, current], results, Space(store.spec))
    return Watch(store.spec, before, now.curve)


def _untried_cell(results: Results, tried: list[TrialResult], trainer: Trainer) -> Cell | None:
    """Return a cell that was not tried, the baseline first; None if none is left.

    Combinations that the trainer refuses, or whose cell was already tried, are skipped."""
    validator, space = Validator(results.spec, trainer), Space(results.spec)
    known = {trial.cell for trial in tried}
    if not tried:
        return cell_of(space.baseline(), validator)
    history = _history(tried, results, space)
    while (proposed := next_combination(space, history)) is not None:
        cell = cell_of(proposed, validator)
        if cell is not None and cell.hash not in known:
            return cell
        history.append(Tried(proposed, "FAIL", None, {}))
    return None


def _history(trials: list[TrialResult], results: Results, space: Space) -> list[Tried]:
    name = results.spec.metric.name
    curves: dict[str, dict[int, float]] = defaultdict(dict)
    for point in results.points([_only_part(trial) for trial in trials]):
        if (point.seed, point.name) == (search_seed(results.spec), name):
            curves[point.part][point.step] = point.value
    return [
        Tried(
            space.combination(trial.factors),
            trial.state,
            trial.metrics.get(name),
            curves.get(_only_part(trial), {}),
        )
        for trial in trials
    ]


def _only_part(trial: TrialResult) -> str:
    """Return the part whose curve is the trial's; "" if the trial has several parts."""
    parts = list(trial.parts.values())
    return parts[0] if len(parts) == 1 else ""


def _with(results: Results, cell: Cell) -> list[Cell]:
    known = {one.hash: one for one in results.cells}
    return list((known | {cell.hash: known.get(cell.hash, cell)}).values())
