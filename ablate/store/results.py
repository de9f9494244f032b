"""The content of a store as plain values, which is all that the report reads; the best cell; the parts behind a metric."""

import math
import shlex
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from ablate.design.model import Cell
from ablate.design.search import most_tried
from ablate.spec.designs import Search
from ablate.spec.model import Scalar, StudySpec
from ablate.store.places import Place


@dataclass(frozen=True)
class TrialResult:
    """One cell × one seed."""

    cell: str
    seed: int
    number: int  # Optuna's; also the order in which trials were queued
    state: str  # COMPLETE, RUNNING, WAITING, FAIL, PRUNED
    attempts: int
    factors: dict[str, Scalar]
    metrics: dict[str, float]  # empty until COMPLETE
    seconds: float  # training time of its parts, including those shared with other trials
    error: str | None
    parts: dict[str, str]  # the trainer's name for the part -> part hash


@dataclass(frozen=True)
class PartResult:
    """One part × one seed, fully trained."""

    part: str
    seed: int
    metrics: dict[str, float]
    seconds: float
    steps: int
    facts: dict[str, Any]  # provenance: versions, hardware, data hashes, peak memory
    # predictions/<split>.<task>.csv with columns id,prediction,gold[,cluster]; model/ if the trainer kept one
    folder: Path

    @property
    def is_continued(self) -> bool:
        """Whether another part trained its beginning, a prefix of both."""
        return self.own_seconds < self.seconds

    @property
    def own_seconds(self) -> float:
        """Seconds of training without those of a prefix that another part trained."""
        own = [seconds for name, seconds in self.seconds_by.items() if name.startswith(self.part)]
        return min(self.seconds, math.fsum(own))

    @property
    def seconds_by(self) -> dict[str, float]:
        """Seconds of training by training run. If two parts contain the same run, the larger number includes the smaller one."""
        match self.facts:
            case {"seconds_by": dict(seconds_by)} if any(name.startswith(self.part) for name in seconds_by):
                return seconds_by
            # As recorded before there was seconds_by.
            case {"continued": {"part": str(other), "seconds": float(before)}}:
                return {f"{self.part}-{self.seed}": self.seconds - before, f"{other}-{self.seed}": before}
        return {f"{self.part}-{self.seed}": self.seconds}


# A NamedTuple instead of a dataclass, since there are millions.
class Point(NamedTuple):
    """One point of a curve of a part."""

    part: str
    seed: int
    step: int
    name: str
    value: float


@dataclass(frozen=True)
class Event:
    """What happened to a part: who began it, when, and how that ended."""

    part: str
    seed: int
    what: str  # begun; recorded, left, lost, failed; forgotten: to be trained again
    who: str  # host, process id, and a random word, since process ids are reused
    when: str  # UTC, ISO 8601, by the clock of `who`


@dataclass(frozen=True)
class UseOfTest:
    """One scoring of a cell on the test split."""

    cell: str
    when: str  # UTC, ISO 8601, to the second
    who: str  # user@host
    unfinished: int  # trials that had no result then: if any, the choice of the cell could still have changed


@dataclass(frozen=True)
class Change:
    """A change of the study file after trials had results; holds the old values."""

    complete: int  # trials that had a result at that moment
    # The old values of those keys that changed: seeds, metric, baseline, number of combinations.
    before: dict[str, Any]


@dataclass(frozen=True)
class Look:
    """One look at the results of a study that adds seeds: the comparisons, and the cells that continue."""

    number: int  # from 1
    seeds: int  # of every cell that had not stopped before
    cells: tuple[str, ...]  # hashes of those that continue: an open comparison needs them
    comparisons: tuple[dict[str, Any], ...]  # as `evidence.looks` records them


@dataclass(frozen=True)
class Results:
    """Everything recorded for a study at one moment."""

    spec: StudySpec
    cells: tuple[Cell, ...]  # in design order
    reference: str  # hash of the cell that differences are taken from
    resolution: int | None
    aliases: list[list[str]]
    raw_cells: int
    trials: tuple[TrialResult, ...]
    parts: dict[tuple[str, int], PartResult]
    points: Callable[[Collection[str]], Sequence[Point]]  # reads the curves of these parts
    test_uses: tuple[UseOfTest, ...] = ()  # in time order; the report flags more than one
    changes: tuple[Change, ...] = ()  # in time order
    looks: tuple[Look, ...] = ()  # in time order; each decides which seeds are needed
    tried: tuple[TrialResult, ...] = ()  # by a search; `compared` separates them from `trials`
    search: Search | None = None  # the search that tried them
    # The trainer's defaults when trials were added, in the format of `defaults_of`.
    defaults: dict[str, str] = field(default_factory=dict)
    file: str = "STUDY"  # the study file as passed to `ablate run`
    is_smoke: bool = False  # of a smoke run
    place: Place | None = None  # where this was read from
    edited: tuple[str, ...] = ()  # changes of the study file since the run: `key: then → now`

    def run_command(self, *words: str) -> str:
        """Return the `ablate run` of this study as it was last typed, but with these options in place of those for one run."""
        sets = [word for override in self.spec.overrides for word in ("--set", override)]
        smoke = ["--smoke"] if self.is_smoke else []
        return shlex.join(["ablate", "run", self.file, *sets, *smoke, *words])

    @property
    def deciding_seeds(self) -> tuple[int, ...]:
        """The seeds that cells are compared on: all, or in a search all but its own seed (which `compared` leaves out)."""
        return self.spec.seeds if self.search else self.spec.deciding_seeds

    def seeds_of(self, cell: str) -> tuple[int, ...]:
        """Return the seeds that the study currently runs a cell with: all of them, unless it adds seeds after looks."""
        return self.spec.seeds[: seeds_wanted(self.spec, self.looks, cell)]

    def deciding_seeds_of(self, cell: str) -> list[int]:
        """Return the seeds of a cell that it is compared on."""
        return [seed for seed in self.seeds_of(cell) if seed in self.deciding_seeds]


def seeds_wanted(spec: StudySpec, looks: Sequence[Look], cell: str) -> int:
    """Return how many seeds a cell is run with: those of the first look, plus those of each further look that it continues to."""
    if spec.looking is None:
        return len(spec.seeds)
    seeds = spec.looking.looks[0]
    for look, following in zip(looks, spec.looking.looks[1:], strict=False):
        if cell not in look.cells:
            break
        seeds = following
    return seeds


def compared(results: Results) -> Results:
    """Return the results that may be compared: for a search, its finalists and the baseline, without the seed that chose them;
    for a study that adds seeds, those up to the current look.

    Before a search has finalists, only its baseline."""
    spec = results.spec
    if spec.looking:
        reached = max((len(results.seeds_of(cell.hash)) for cell in results.cells), default=0)
        return replace(results, spec=spec.model_copy(update={"seeds": spec.seeds[:reached]}))
    fresh = results.deciding_seeds
    if fresh == spec.seeds:
        return results
    finalists = {trial.cell for trial in results.trials if trial.seed in fresh} | {results.reference}
    return replace(
        results,
        spec=spec.model_copy(update={"seeds": fresh}),
        cells=tuple(cell for cell in results.cells if cell.hash in finalists),
        trials=tuple(trial for trial in results.trials if trial.cell in finalists and trial.seed in fresh),
        tried=tuple(trial for trial in results.trials if trial.seed == spec.seeds[0]),
        search=spec.search,
    )


def is_going_on(results: Results) -> bool:
    """Return whether trials are running or waiting, or a search or a look may add some."""
    if not results.trials or _are_open(results.trials):
        return True
    # A search without finalists ends when no untried cell is left, which only its trainer knows.
    search = results.spec.search
    return may_add(results) > 0 and not (search and (len(results.spec.seeds) == 1 or search.finalists == 0))


def may_add(results: Results) -> int:
    """Return how many trials a study's search or its coming looks may add at most; 0 for any other study, and at the end."""
    if results.spec.looking:
        return _may_add_by_looks(results)
    return _may_add_by_search(results) if results.spec.search else 0


def _may_add_by_looks(results: Results) -> int:
    spec, last = results.spec, results.looks[-1] if results.looks else None
    assert spec.looking is not None
    if len(results.looks) == len(spec.looking.looks):
        return 0
    # A look needs at least one result.
    reached = any(spec.metric.name in trial.metrics for trial in results.trials)
    if not reached and results.trials and not _are_open(results.trials):
        return 0
    added = Counter(trial.cell for trial in results.trials)
    going_on = [cell.hash for cell in results.cells if last is None or cell.hash in last.cells]
    return sum(max(0, spec.looking.looks[-1] - added[cell]) for cell in going_on)


def _may_add_by_search(results: Results) -> int:
    """`results` may be `compared`: its trials are then those of the finalists."""
    search, fresh, tried = results.search, results.spec.seeds, list(results.tried)
    if search is None:
        search, fresh = results.spec.search, results.spec.seeds[1:]
        tried = [trial for trial in results.trials if trial.seed not in fresh]
    assert search is not None
    if any(trial.seed in fresh for trial in results.trials):
        return 0
    left = max(0, most_tried(results.spec) - len(tried))
    scored = sum(trial.state == "COMPLETE" for trial in tried)
    if _are_open(tried) or left:
        scored = len(tried) + left
    finalists = min(search.finalists, scored)
    return left + ((finalists + 1) * len(fresh) if finalists else 0)


def _are_open(trials: Iterable[TrialResult]) -> bool:
    return any(trial.state in ("RUNNING", "WAITING") for trial in trials)


def seconds_trained(parts: Iterable[PartResult]) -> float:
    """Return the seconds of training of these parts and of what they continued from, each second once."""
    longest: dict[str, float] = {}
    for part in parts:
        for name, seconds in part.seconds_by.items():
            longest[name] = max(seconds, longest.get(name, 0.0))
    return math.fsum(sorted(longest.values()))


@dataclass(frozen=True)
class Sharing:
    """What was saved by sharing parts between trials and prefixes between parts."""

    used: int  # uses of parts by trials
    unique: int
    continued: int  # parts that continue from a prefix that another trained
    seconds_used: float  # what training would have taken without sharing
    seconds_trained: float

    @property
    def seconds_saved(self) -> float:
        """Return the seconds of training that sharing saved."""
        return self.seconds_used - self.seconds_trained


def sharing(results: Results, trials: Iterable[TrialResult]) -> Sharing:
    """Return what sharing saved the complete trials among `trials`."""
    complete = [trial for trial in trials if trial.state == "COMPLETE"]
    used = [(part, trial.seed) for trial in complete for part in trial.parts.values()]
    parts = {key: results.parts[key] for key in used if key in results.parts}
    return Sharing(
        used=len(used),
        unique=len(set(used)),
        continued=sum(part.is_continued for part in parts.values()),
        seconds_used=math.fsum(parts[key].seconds for key in used if key in parts),
        seconds_trained=seconds_trained(parts.values()),
    )


def deciding_parts(results: Results, trial: TrialResult, metric: str) -> frozenset[str]:
    """Return the hashes of the parts of `trial` that report `metric`; all of its parts if none does (a composite)."""
    reporting = frozenset(
        part
        for part in trial.parts.values()
        if (result := results.parts.get((part, trial.seed))) and metric in result.metrics
    )
    return reporting or frozenset(trial.parts.values())


def deciding_models(results: Results, trial: TrialResult, metric: str) -> frozenset[tuple[str, int]]:
    """Return what was trained for `metric`, as (part, steps).

    Of a part that continued from another one with no step left to train, it is that other part, up to there: the trainer says
    that they differ only in what acts later."""
    models = set()
    for part in deciding_parts(results, trial, metric):
        result = results.parts.get((part, trial.seed))
        steps = result.steps if result else 0
        # A trainer's own facts may lead in a circle.
        seen = {part}
        while result:
            match result.facts.get("continued"):
                case {"part": str(other), "steps": int(done)} if done == steps and other not in seen:
                    part = other
                case _:
                    break
            seen.add(part)
            result = results.parts.get((part, trial.seed))
        models.add((part, steps))
    return frozenset(models)


def repeated_values(results: Results, metric: str) -> list[list[float]]:
    """Return the values of each cell over its seeds, from which the noise between seeds is estimated.

    Cells that share all parts behind `metric` count once. So does a cell that agrees with another one, to the last digit, in all
    seeds that it has: what they differ in changed nothing."""
    groups: dict[frozenset[str], dict[int, float]] = defaultdict(dict)
    for trial in results.trials:
        value = trial.metrics.get(metric, math.nan)
        if trial.state == "COMPLETE" and math.isfinite(value):
            groups[deciding_parts(results, trial, metric)].setdefault(trial.seed, value)
    different: list[list[float]] = []
    # By one of their values: a large study has thousands of cells.
    by_value: dict[tuple[int, float], list[dict[int, float]]] = defaultdict(list)
    for values in sorted(groups.values(), key=len, reverse=True):
        alike = by_value[next(iter(values.items()))]
        if len(values) < 2 or not any(values.items() <= other.items() for other in alike):
            different.append(list(values.values()))
            for item in values.items():
                by_value[item].append(values)
    return different


def best_cell(results: Results) -> str | None:
    """Return the cell with the best mean of the primary metric among those whose planned seeds are all complete.

    The mean is over the deciding seeds: in a search, all but the one that chose the finalists; in a study that adds seeds,
    those that the cell was run with. The first in design order wins a tie; None when no cell is complete.
    """
    name, goal = results.spec.metric.name, results.spec.metric.goal
    values: dict[str, dict[int, float]] = defaultdict(dict)
    for trial in results.trials:
        if trial.state == "COMPLETE" and math.isfinite(trial.metrics.get(name, math.nan)):
            values[trial.cell][trial.seed] = trial.metrics[name]
    means = {
        cell.hash: math.fsum(values[cell.hash][seed] for seed in deciding) / len(deciding)
        for cell in results.cells
        for planned in [results.seeds_of(cell.hash)]
        for deciding in [results.deciding_seeds_of(cell.hash)]
        if set(planned) <= values[cell.hash].keys()
    }
    sign = 1 if goal == "maximize" else -1
    return max(means, key=lambda cell: sign * means[cell], default=None)
