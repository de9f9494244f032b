"""Results as arrays and as a tidy table, from which every other file in `evidence` starts.

Nothing is dropped here: a trial that failed, was pruned or never ran keeps its place, with NaN as its metric."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from ablate.design.model import Cell
from ablate.spec.model import Scalar
from ablate.store.results import Results, TrialResult, compared, deciding_models

if TYPE_CHECKING:
    import pandas

T = TypeVar("T")

MISSING = "MISSING"  # planned, but the store has no such trial
SPARED = "SPARED"  # will not be run, since the comparisons that need its cell were decided with fewer seeds
# The most metrics that effects are computed for: nobody reads more tables, and thousands would take minutes.
MOST_METRICS = 100
SMALLEST_METRIC = 1e-150
LOST = ("FAIL", "PRUNED", MISSING)  # states of a planned trial that will never have a result


@dataclass(frozen=True)
class Grid:
    """The trials of a study as [cells, seeds] arrays, cells in design order, seeds in planned order."""

    results: Results
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]  # planned ones first, then any other that the store holds
    trials: dict[tuple[int, int], TrialResult]  # (cell index, seed index) -> its trial
    metrics: tuple[str, ...]  # the primary metric first, then by name
    values: dict[str, NDArray[np.float64]]  # metric -> [cells, seeds], NaN where there is none
    # The cache of `sources`.
    _sources: dict[str, NDArray[np.int64]] = field(default_factory=dict, repr=False)

    @property
    def primary(self) -> str:
        """The name of the primary metric."""
        return self.results.spec.metric.name

    @property
    def sign(self) -> int:
        """+1 if higher values of the primary metric are better, −1 if lower."""
        return 1 if self.results.spec.metric.goal == "maximize" else -1

    @cached_property
    def index(self) -> dict[str, int]:
        """Cell hash -> row."""
        return {cell.hash: row for row, cell in enumerate(self.cells)}

    @property
    def reference(self) -> int | None:
        """The row of the cell that differences are taken from; None if it was not selected."""
        return self.index.get(self.results.reference)

    @cached_property
    def states(self) -> NDArray[np.object_]:
        """[cells, seeds] of Optuna's names for states, or MISSING, or SPARED."""
        states = np.full((len(self.cells), len(self.seeds)), MISSING, dtype=object)
        if self.results.looks:
            seeds_needed = [set(self.results.seeds_of(cell.hash)) for cell in self.cells]
            for row, column in np.ndindex(*states.shape):
                if self.seeds[column] not in seeds_needed[row]:
                    states[row, column] = SPARED
        for place, trial in self.trials.items():
            states[place] = trial.state
        return states

    @cached_property
    def seconds(self) -> NDArray[np.float64]:
        """[cells, seeds] of training seconds, including parts shared with other trials."""
        seconds = np.full((len(self.cells), len(self.seeds)), math.nan)
        for place, trial in self.trials.items():
            seconds[place] = trial.seconds
        return seconds

    @cached_property
    def combinations(self) -> tuple[dict[str, Scalar], ...]:
        """The levels of every combination that the cells stand for: first those that name the cells, in the order of the cells.

        Several combinations with equal settings are one cell. Effects are taken over combinations: which of them names the cell
        must not change what it is compared with."""
        return (*(cell.levels for cell in self.cells), *(also for cell in self.cells for also in cell.also))

    @cached_property
    def row_of(self) -> NDArray[np.int64]:
        """[combinations] of the row of their cell."""
        rows = range(len(self.cells))
        return np.array([*rows, *(row for row in rows for _ in self.cells[row].also)], dtype=np.int64)

    @cached_property
    def levels(self) -> NDArray[np.int64]:
        """[combinations, factors] of the index of the level in the study file, −1 where the factor does not exist."""
        codes = np.full((len(self.combinations), len(self.results.spec.factors)), -1, dtype=np.int64)
        for column, factor in enumerate(self.results.spec.factors):
            known = {level_key(level.name): number for number, level in enumerate(factor.levels)}
            for place, levels in enumerate(self.combinations):
                if factor.name in levels:
                    codes[place, column] = known.setdefault(level_key(levels[factor.name]), len(known))
        return codes

    def rows_at(self, wanted: Mapping[str, Scalar]) -> list[int]:
        """Return the row of each combination that has all of these levels: a row once for each of its combinations."""
        keys = {name: level_key(level) for name, level in wanted.items()}
        return [
            row
            for row, levels in zip(self.row_of.tolist(), self.combinations, strict=True)
            if all(name in levels and level_key(levels[name]) == key for name, key in keys.items())
        ]

    @cached_property
    def of_last_epoch(self) -> dict[str, str]:
        """Metric at the epoch that the trainer chose -> the same metric at the last epoch, `…@last`."""
        known = set(self.metrics)
        return {name: f"{name}@last" for name in self.metrics if f"{name}@last" in known}

    @cached_property
    def dev_metrics(self) -> tuple[str, ...]:
        """The metrics that effects are computed for: the primary one
        and all others, except those of the test split and `…@last`."""
        return self._every_dev_metric[:MOST_METRICS]

    @property
    def left_out_metrics(self) -> int:
        """How many metrics get no effects because there are more than MOST_METRICS."""
        return max(0, len(self._every_dev_metric) - MOST_METRICS)

    @cached_property
    def _every_dev_metric(self) -> tuple[str, ...]:
        last_epoch = set(self.of_last_epoch.values())
        return tuple(
            name
            for name in self.metrics
            if name == self.primary or not (name.startswith("test/") or name in last_epoch)
        )

    def with_first_seeds(self, number: int) -> "Grid":
        """Return the grid as if only the first `number` seeds were planned; its arrays keep their shape."""
        spec = self.results.spec.model_copy(update={"seeds": self.seeds[:number]})
        kept = np.arange(len(self.seeds)) < number
        return Grid(
            replace(self.results, spec=spec),
            self.cells,
            self.seeds,
            {place: trial for place, trial in self.trials.items() if kept[place[1]]},
            self.metrics,
            {name: np.where(kept, values, math.nan) for name, values in self.values.items()},
        )

    def sources(self, metric: str) -> NDArray[np.int64]:
        """[cells, seeds] of numbers: two trials have the same number if `metric` comes from the same trained parts in both.

        These parts are those that report the metric, or all parts for a composite. −1 where there is no value.
        """
        if metric in self._sources:
            return self._sources[metric]
        numbers: dict[tuple[int, frozenset[tuple[str, int]]], int] = {}
        sources = np.full((len(self.cells), len(self.seeds)), -1, dtype=np.int64)
        for (row, column), trial in self.trials.items():
            if math.isfinite(self.values[metric][row, column]):
                models = deciding_models(self.results, trial, metric)
                sources[row, column] = numbers.setdefault((column, models), len(numbers))
        self._sources[metric] = sources
        return sources


def level_key(level: Scalar) -> tuple[bool, Scalar]:
    """Return a key that is equal for equal levels: 0 equals 0.0, but neither equals false."""
    return isinstance(level, bool), level


def grid(results: Results) -> Grid:
    """Arrange `results` by cell and seed; of a search only the trials that compare its finalists."""
    results = compared(results)
    row_of = {cell.hash: row for row, cell in enumerate(results.cells)}
    seeds = _distinct([*results.spec.seeds, *sorted(t.seed for t in results.trials)])
    column_of = {seed: column for column, seed in enumerate(seeds)}
    trials = {(row_of[trial.cell], column_of[trial.seed]): trial for trial in results.trials}
    primary = results.spec.metric.name
    reported = {name for trial in trials.values() for name in trial.metrics}
    metrics = _distinct([*([primary] if primary in reported else []), *sorted(reported)])
    values = {name: np.full((len(results.cells), len(seeds)), math.nan) for name in metrics}
    for place, trial in trials.items():
        if trial.state == "COMPLETE":
            for name, value in trial.metrics.items():
                # Squares of smaller numbers come near the smallest that a float can hold.
                near_0 = abs(value) < SMALLEST_METRIC
                values[name][place] = 0.0 if near_0 else value if math.isfinite(value) else math.nan
    return Grid(results, results.cells, tuple(seeds), trials, tuple(metrics), values)


def tidy_frame(results: Results) -> "pandas.DataFrame":
    """Return one row per trial: cell, seed, number, state, attempts, factors, metrics, seconds, error.

    Factors and metrics keep their names; a factor that does not exist in a cell is None there, a metric that was
    not measured is NaN. A factor or metric named like a column before it, or like one of ours, gets `factor.` or `metric.` before
    its name.
    """
    import pandas

    ours = ("cell", "seed", "number", "state", "attempts", "seconds", "error")
    factors = [factor.name for factor in results.spec.factors]
    metrics = sorted({name for trial in results.trials for name in trial.metrics})
    trials = sorted(results.trials, key=lambda trial: trial.number)
    columns: dict[str, object] = {name: [getattr(trial, name) for trial in trials] for name in ours[:5]}
    for name in factors:
        levels = [trial.factors.get(name) for trial in trials]
        columns[_unlike(name, {*ours, *columns}, "factor.")] = pandas.Series(levels, dtype=object)
    for name in metrics:
        columns[_unlike(name, {*ours, *columns}, "metric.")] = np.array(
            [trial.metrics.get(name, math.nan) for trial in trials], dtype=float
        )
    columns["seconds"] = np.array([trial.seconds for trial in trials], dtype=float)
    columns["error"] = pandas.Series([trial.error for trial in trials], dtype=object)
    return pandas.DataFrame(columns)


def _unlike(name: str, taken: Collection[str], prefix: str) -> str:
    while name in taken:
        name = prefix + name
    return name


def _distinct(items: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(items))
