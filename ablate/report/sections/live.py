"""How far a running study has got: counts, the time left, the cost so far, and the progress of each running trial.

The only part of the report that reads the clock; only the page of `ablate report --watch` shows it."""

import datetime
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ablate.design.search import most_trials
from ablate.report.sections.cells import name_beside
from ablate.store.reading import read_history
from ablate.store.results import Point, Results, TrialResult, seconds_trained

MAX_SHOWN = 12  # running trials, those with the smallest numbers

Key = tuple[str, int]  # part hash, seed


@dataclass(frozen=True)
class RunningTrial:
    """A trial that is running, as of its last checkpoint."""

    number: int
    cell: str  # its name
    seed: int
    attempts: int
    seconds: float | None  # since this attempt began to train the part
    step: int | None  # None: nothing is saved yet
    latest: Mapping[str, float]
    points: Sequence[Point]  # of the part that is being trained


@dataclass(frozen=True)
class Live:
    """Progress at one moment."""

    written: datetime.datetime
    every: float  # seconds between refreshes
    command: str  # the command that continues the study
    planned: int
    growing: bool  # whether trials may be added, depending on the results
    states: Mapping[str, int]
    seconds_left: float | None  # None: unknown, since no part is trained yet
    seconds_trained: float  # including the running trials
    usd: float | None
    trials: tuple[RunningTrial, ...]

    @property
    def more_running(self) -> int:
        """How many running trials are not shown."""
        return self.states["RUNNING"] - len(self.trials)


def live_of(results: Results, now: datetime.datetime, every: float) -> Live:
    """Return how far a study has got.

    Raises:
        StoreError: the database is locked or damaged.
    """
    running = sorted((t for t in results.trials if t.state == "RUNNING"), key=lambda trial: trial.number)
    begun = _begun(results, running, now)
    spec = results.spec
    seconds = seconds_trained(results.parts.values()) + math.fsum(begun.values())
    per_hour = spec.budget.usd_per_hour
    return Live(
        written=now,
        every=every,
        command=results.run_command(),
        planned=_planned(results),
        growing=spec.looking is not None,
        states=Counter(trial.state for trial in results.trials),
        seconds_left=_seconds_left(results, begun, len(running)),
        seconds_trained=seconds,
        usd=None if per_hour is None else seconds / 3600 * per_hour,
        trials=_running(results, running[:MAX_SHOWN], begun),
    )


def _planned(results: Results) -> int:
    """Return how many trials there will be; if the study adds seeds, those planned so far."""
    now = len(results.trials)
    return max(now, most_trials(results.spec)) if results.spec.search else now


def _begun(results: Results, running: Sequence[TrialResult], now: datetime.datetime) -> dict[Key, float]:
    """Return how many seconds ago each part in training was begun."""
    open_parts = {key for trial in running for key in _untrained(results, trial)}
    last = {
        (event.part, event.seed): event
        for event in (read_history(results.place) if results.place and open_parts else ())
        if (event.part, event.seed) in open_parts
    }
    return {
        key: max(
            0.0,
            (now - datetime.datetime.fromisoformat(event.when).replace(tzinfo=datetime.UTC)).total_seconds(),
        )
        for key, event in last.items()
        if event.what == "begun"
    }


def _untrained(results: Results, trial: TrialResult) -> list[Key]:
    keys = [(part, trial.seed) for part in trial.parts.values()]
    return [key for key in keys if key not in results.parts]


def _seconds_left(results: Results, begun: Mapping[Key, float], workers: int) -> float | None:
    """Return how long the remaining parts will take with the current number of workers.

    A part takes as long as it did with other seeds, or else as long as parts take on average."""
    if not results.parts:
        return None
    seconds: dict[str, list[float]] = {}
    for part in results.parts.values():
        seconds.setdefault(part.part, []).append(part.seconds)
    mean = {part: statistics.fmean(took) for part, took in seconds.items()}
    any_part = statistics.fmean(part.seconds for part in results.parts.values())
    left = {
        key
        for trial in results.trials
        if trial.state in ("RUNNING", "WAITING")
        for key in _untrained(results, trial)
    }
    known = sum(max(0.0, mean.get(key[0], any_part) - begun.get(key, 0.0)) for key in left)
    to_come = (_planned(results) - len(results.trials)) * any_part
    return (known + to_come) / max(1, workers)


def _running(
    results: Results, running: Sequence[TrialResult], begun: Mapping[Key, float]
) -> tuple[RunningTrial, ...]:
    cells = {cell.hash: cell for cell in results.cells}
    reference, kind = cells.get(results.reference), results.spec.design.kind
    points = results.points({part for trial in running for part, _ in _untrained(results, trial)})
    shown = []
    for trial in running:
        keys = _untrained(results, trial)
        # A trial trains one part at a time.
        current = [key for key in keys if key in begun] or keys
        of_trial = [point for point in points if (point.part, point.seed) in current]
        step = max((point.step for point in of_trial), default=None)
        shown.append(
            RunningTrial(
                trial.number,
                name_beside(reference, cells[trial.cell], kind),
                trial.seed,
                trial.attempts,
                max((begun[key] for key in current if key in begun), default=None),
                step,
                _latest(of_trial, results.spec.metric.name),
                of_trial,
            )
        )
    return tuple(shown)


def _latest(points: Sequence[Point], primary: str) -> dict[str, float]:
    """Return the last value of each curve, the primary metric first, then those on dev."""
    last: dict[str, Point] = {}
    for point in points:
        if point.name not in last or point.step >= last[point.name].step:
            last[point.name] = point
    names = sorted(last, key=lambda name: (name != primary, not name.startswith("dev/"), name))
    return {name: last[name].value for name in names[:4]}
