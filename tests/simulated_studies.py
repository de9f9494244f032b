"""Whole studies whose truth is known: real designs, and scores of items with every source of noise named.

An item of a cell and seed has a latent score; it is right where that is above 0 (accuracy), or the score is the prediction
(Pearson). All noise is drawn for the levels of a factor alike, whatever the level: without planted effects all cells have
one distribution, and every effect in the population is exactly 0. The studies are judged by the report's own pipeline."""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from design_examples import toy_trainer
from fixture_types import not_none
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from pydantic import BaseModel
from scipy import optimize, special

from ablate.design.cells import build_design
from ablate.design.model import Cell, Design
from ablate.evidence.aliases import aliases, partial_aliases
from ablate.evidence.contrasts import by_seed
from ablate.evidence.effects import Effect, study_effects, study_models
from ablate.evidence.frames import Grid, grid
from ablate.evidence.interactions import qualifier_of, simple_effects, study_interactions
from ablate.evidence.items import Items
from ablate.evidence.predictions import ItemScores, Kind, PredictionFiles
from ablate.evidence.verdicts import Judged, Qualifier
from ablate.report.sections.effects import judge
from ablate.spec.model import StudySpec
from ablate.spec.reading import parse_study
from ablate.stats import factorial
from ablate.stats.distributions import t_p
from ablate.stats.inference import Inference
from ablate.stats.linear import Factor
from ablate.stats.mrmc import mrmc
from ablate.stats.multiple import holm
from ablate.stats.verdicts import Verdict
from ablate.store.results import PartResult, Results, TrialResult

Array = NDArray[np.float64]

WORKERS = os.cpu_count() or 1


def two_level(k: int) -> tuple[str, str]:
    names = "abcdefgh"[:k]
    return (
        "{" + ", ".join(f"{name}: [0, 1]" for name in names) + "}",
        "{" + ", ".join(f"{name}: 0" for name in names) + "}",
    )


CONDITIONAL = (
    "{training: [separate, joint], surgery: {levels: [none, pcgrad], only_when: {training: joint}}, a: [0, 1]}",
    "{training: separate, a: 0}",
)
SHARED = (
    "{training: [separate, joint], a: [0, 1], b: [0, 1]}",
    "{training: separate, a: 0, b: 0}",
)
NUMERIC = ("{dose: [1.0, 2.0, 3.0, 4.0], a: [0, 1]}", "{dose: 1.0, a: 0}")

# Name -> factors, baseline, design.
DESIGNS: dict[str, tuple[str, str, str]] = {
    "two cells": (*two_level(1), "full"),
    "full 2^2": (*two_level(2), "full"),
    "full 2^3": (*two_level(3), "full"),
    "full 2^4": (*two_level(4), "full"),
    "full 2^6": (*two_level(6), "full"),
    "fraction III": (*two_level(7), "{kind: fractional, cells: 8}"),
    "half III": (*two_level(3), "{kind: fractional, cells: 4}"),
    "fraction IV": (*two_level(8), "{kind: fractional, cells: 16}"),
    "half IV": (*two_level(4), "{kind: fractional, cells: 8}"),
    "one at a time": (*two_level(6), "one_at_a_time"),
    "conditional": (*CONDITIONAL, "full"),
    "shared parts": (*SHARED, "full"),
    "shared parts, one at a time": (*SHARED, "one_at_a_time"),
    "numeric": (*NUMERIC, "full"),
}


class Settings(BaseModel):
    """What the studies' trainer may be told."""

    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0
    e: int = 0
    f: int = 0
    g: int = 0
    h: int = 0
    training: Literal["separate", "joint"] = "joint"
    surgery: Literal["none", "pcgrad"] = "none"
    dose: float = 1.0


def separate_parts(settings: Settings) -> dict[str, Settings]:
    """Trained separately, task x is decided by `a` and task y by `b`: cells share parts."""
    if settings.training == "joint":
        return {"both": settings}
    return {
        "x": Settings(training="separate", a=settings.a),
        "y": Settings(training="separate", b=settings.b, c=1),
    }


@dataclass(frozen=True)
class Regime:
    """A design, and how its scores come about. Standard deviations are of the latent score; `None` items: values alone."""

    design: str
    seeds: int = 3
    items: int | None = 200
    kind: Literal["accuracy", "pearson", "composite"] = "accuracy"
    accuracy: float = 0.9
    # Of an item, of one factor's choice on an item, of a cell on an item, of a run on an item, of a seed on an item.
    difficulty: float = 1.5
    choice_item: float = 0.0
    cell_item: float = 0.0
    run_item: float = 0.4
    seed_item: float = 0.0
    # Of a run as a whole, of one factor's choice under a seed, of a seed in all cells alike.
    run: float = 0.02
    choice_seed: float = 0.0
    seed: float = 0.0
    # Clusters: their sizes, named or not; noise of a cluster, and of a choice on it.
    cluster_sizes: tuple[int, int] = (1, 1)
    clusters_named: bool = True
    cluster: float = 0.0
    choice_cluster: float = 0.0
    heavy: bool = False  # t on 3 degrees of freedom instead of normal, wherever items are drawn
    diverged: float = 0.0  # share of runs that answer by chance
    epochs: int = 1  # the best of so many is reported, with noise of `epoch` each; twice that where a = 1
    epoch: float = 0.0
    lost: float = 0.0  # share of runs lost at random
    crashing: int = 0  # the worst so many runs of each cell with a = 1 are lost
    seeds_missing: tuple[int, ...] = ()  # of each cell in turn, so many of the last seeds were never run
    # Factor -> what its highest level adds; pair -> by how much the one's effect grows with the other.
    effects: Mapping[str, float] = field(default_factory=dict)
    interactions: Mapping[tuple[str, str], float] = field(default_factory=dict)
    smallest_effect: float | None = None

    def __str__(self) -> str:
        told = [f"{f.name} {value}" for f in fields(self) if (value := getattr(self, f.name)) != _default(f)]
        return ", ".join(told)

    @property
    def is_null(self) -> bool:
        return not self.effects and not self.interactions


def _default(one: Field[object]) -> object:
    return {} if one.default is MISSING else one.default


@dataclass(frozen=True)
class Plan:
    """A design, and of each metric which parts decide it."""

    spec: StudySpec
    design: Design
    metrics: tuple[str, ...]
    unit: dict[str, NDArray[np.intp]]  # metric -> [cells], the part that reports it
    levels: dict[str, NDArray[np.intp]]  # metric -> [units, factors], one beyond the last where it has no say
    part: dict[str, list[str]]  # metric -> the hashes of its units


@cache
def plan(design: str, seeds: int, metrics: tuple[str, ...], smallest_effect: float | None) -> Plan:
    factors, baseline, kind = DESIGNS[design]
    shared = "shared" in design
    primary = "dev/mean" if len(metrics) > 1 else metrics[0]
    spec = parse_study(
        f"study: s\ntrainer: toy\nfactors: {factors}\nbaseline: {baseline}\ndesign: {kind}\n"
        f"seeds: {list(range(1, seeds + 1))}\nmetric: {{name: {primary}"
        + (f", smallest_effect: {smallest_effect}" if smallest_effect else "")
        + "}\n"
    )
    made = build_design(spec, toy_trainer(Settings, **({"parts": separate_parts} if shared else {})))
    units, levels, parts = {}, {}, {}
    for metric in metrics:
        names = [_part_of(cell, metric) for cell in made.cells]
        parts[metric] = list(dict.fromkeys(names))
        units[metric] = np.array([parts[metric].index(name) for name in names])
        levels[metric] = np.array(
            [
                _levels(spec, [c for c, p in zip(made.cells, names, strict=True) if p == part])
                for part in parts[metric]
            ]
        )
    return Plan(spec, made, metrics, units, levels, parts)


def _part_of(cell: Cell, metric: str) -> str:
    name = metric.removeprefix("dev/")
    return (cell.parts.get(name) or next(iter(cell.parts.values()))).hash


def _levels(spec: StudySpec, cells: list[Cell]) -> list[int]:
    """Return of each factor the level that all `cells` have, or one beyond the last."""
    found = []
    for factor in spec.factors:
        names = [level.name for level in factor.levels]
        own = {names.index(c.levels[factor.name]) if factor.name in c.levels else len(names) for c in cells}
        found.append(own.pop() if len(own) == 1 else len(names))
    return found


@dataclass(frozen=True)
class Task:
    """A metric with items: those of one `pool` are the same in several metrics."""

    metric: str
    kind: Kind
    pool: str


def tasks(regime: Regime) -> tuple[Task, ...]:
    if "shared" in regime.design:
        return Task("dev/x", Kind.ACCURACY, "x"), Task("dev/y", Kind.ACCURACY, "y")
    if regime.kind == "composite":
        return (
            Task("dev/x", Kind.ACCURACY, "q"),
            Task("dev/y", Kind.ACCURACY, "q"),
            Task("dev/z", Kind.PEARSON, "z"),
        )
    return (Task("dev/score", Kind(regime.kind), "q"),)


@dataclass(frozen=True)
class Study:
    """A simulated study as the report's pipeline takes it, and what is true of it."""

    regime: Regime
    plan: Plan
    grid: Grid
    items: Items
    truth: Array  # [cells], of the primary metric


class Given(PredictionFiles):
    """Scores of items that stand in no file: what `Items` asks `PredictionFiles` for."""

    def __init__(self, found: Mapping[tuple[str, int, str], ItemScores], arranged: Grid) -> None:
        super().__init__(arranged)
        self._found = found

    def scores(self, trial: TrialResult, metric: str) -> ItemScores | None:
        return next(
            (
                scores
                for part in trial.parts.values()
                if (scores := self._found.get((part, trial.seed, metric)))
            ),
            None,
        )


def simulate(regime: Regime, rng: Generator) -> Study:
    """Run one study."""
    of_metric = tasks(regime)
    made = plan(regime.design, regime.seeds, tuple(task.metric for task in of_metric), regime.smallest_effect)
    pools = {pool: _Pool(regime, made, rng) for pool in dict.fromkeys(task.pool for task in of_metric)}
    values: dict[str, Array] = {}  # metric -> [units, seeds]
    last: dict[str, Array] = {}
    given: dict[tuple[str, int, str], ItemScores] = {}
    for task in of_metric:
        of_units, at_last, scores = _measured(regime, made, task, pools[task.pool], rng)
        values[task.metric] = of_units
        if at_last is not None:
            last[task.metric] = at_last
        for unit, part in enumerate(made.part[task.metric] if scores else ()):
            for column, seed in enumerate(made.spec.seeds):
                given[part, seed, task.metric] = scores[unit][column]
    results = results_of(made, values, last, _lost(regime, made, values, rng))
    arranged = grid(results)
    return Study(regime, made, arranged, Items(arranged, Given(given, arranged)), population(regime, made))


class _Pool:
    """Items, and what a choice, a cell and a seed do to each of them: the same in every metric that they serve."""

    def __init__(self, regime: Regime, made: Plan, rng: Generator) -> None:
        self.n = regime.items or 1
        self.rng, self.regime = rng, regime
        draw = self._draw
        sizes = rng.integers(regime.cluster_sizes[0], regime.cluster_sizes[1] + 1, self.n)
        self.cluster = np.repeat(np.arange(self.n), sizes)[: self.n]
        groups = int(self.cluster[-1]) + 1
        self.gold = draw(1.0, (self.n,))
        self.difficulty = draw(regime.difficulty, (self.n,)) + draw(regime.cluster, (groups,))[self.cluster]
        # [factors][levels, items], drawn when a metric asks for them
        half = math.sqrt(0.5)
        self.choice = [
            draw(regime.choice_item * half, (len(f.levels) + 1, self.n))
            + draw(regime.choice_cluster * half, (len(f.levels) + 1, groups))[:, self.cluster]
            for f in made.spec.factors
        ]
        self.choice_seed = [
            rng.normal(0, regime.choice_seed * half, (len(f.levels) + 1, regime.seeds))
            if regime.choice_seed
            else None
            for f in made.spec.factors
        ]
        self.seed = rng.normal(0, regime.seed, regime.seeds) if regime.seed else np.zeros(regime.seeds)
        self.seed_item = draw(regime.seed_item, (regime.seeds, self.n))

    def _draw(self, sd: float, shape: tuple[int, ...]) -> Array:
        if sd == 0:
            return np.zeros(shape)
        if self.regime.heavy:
            return self.rng.standard_t(3, shape) * (sd / math.sqrt(3))
        return self.rng.standard_normal(shape) * sd

    def whole(self, levels: NDArray[np.intp], mean: Array) -> Array:
        """[units, seeds]: what moves a run as a whole."""
        found = (
            mean[:, None] + self.seed + self.rng.normal(0, self.regime.run, (len(levels), self.regime.seeds))
        )
        for factor, of_seed in enumerate(self.choice_seed):
            if of_seed is not None:
                found += of_seed[levels[:, factor]]
        return found

    def of_items(self, levels: NDArray[np.intp]) -> Array:
        """[units, 1, items]: what is the same under every seed."""
        found = self.difficulty + self._draw(self.regime.cell_item, (len(levels), self.n))
        if self.regime.choice_item or self.regime.choice_cluster:
            found = found + sum(of_level[levels[:, factor]] for factor, of_level in enumerate(self.choice))
        return np.asarray(found)[:, None, :]

    def of_runs(self, units: int) -> Array:
        """[units, seeds, items]."""
        return self.seed_item + self._draw(self.regime.run_item, (units, self.regime.seeds, self.n))


def _measured(
    regime: Regime, made: Plan, task: Task, pool: _Pool, rng: Generator
) -> tuple[Array, Array | None, list[list[ItemScores]]]:
    """Return the metric [units, seeds], the same at the last epoch where another is chosen, and the items' scores."""
    levels = made.levels[task.metric]
    mean = _planted(regime, made, levels)
    if regime.items is None:
        whole = pool.whole(levels, mean)
        if regime.epochs == 1:
            return whole, None, []
        by_epoch = whole + _epochs(regime, made, levels, rng)
        return by_epoch.max(axis=0), by_epoch[-1], []
    whole = pool.whole(levels, mean + (_threshold(regime, made) if task.kind == "accuracy" else 1.0))
    base = pool.of_items(levels) + pool.of_runs(len(levels))
    strays = (
        rng.random(whole.shape) < regime.diverged if regime.diverged else np.zeros(whole.shape, dtype=bool)
    )
    ids, clusters = _ids(task.pool, pool.n), None
    if regime.cluster_sizes != (1, 1) and regime.clusters_named:
        clusters = _labels(pool.cluster.tobytes(), pool.n)
    if task.kind == "pearson":
        predicted = whole[..., None] * pool.gold + base
        predicted[strays] = rng.standard_normal((int(strays.sum()), pool.n))
        r, scores = pseudo(predicted, pool.gold)
        given = [
            [ItemScores(ids, s, p, pool.gold, Kind.PEARSON, clusters) for s, p in zip(*rows, strict=True)]
            for rows in zip(scores, predicted, strict=True)
        ]
        return r, None, given
    at_last = None
    if regime.epochs > 1:
        by_epoch = whole + _epochs(regime, made, levels, rng)
        right = np.array([(base + one[..., None] > 0).mean(axis=2) for one in by_epoch])
        at_last = right[-1]
        whole = np.take_along_axis(by_epoch, right.argmax(axis=0)[None], axis=0)[0]
    hits = (base + whole[..., None] > 0).astype(float)
    hits[strays] = rng.random((int(strays.sum()), pool.n)) < 0.5
    ones = _ones(pool.n)
    given = [[ItemScores(ids, h, h, ones, Kind.ACCURACY, clusters) for h in of_unit] for of_unit in hits]
    return hits.mean(axis=2), at_last, given


def _epochs(regime: Regime, made: Plan, levels: NDArray[np.intp], rng: Generator) -> Array:
    """[epochs, units, seeds]: twice as noisy where the first factor has its second level."""
    sd = regime.epoch * np.where(levels[:, 0] == 1, 2.0, 1.0)
    return rng.standard_normal((regime.epochs, len(levels), regime.seeds)) * sd[:, None]


def pseudo(predicted: Array, gold: Array) -> tuple[Array, Array]:
    """Return r [...] of predictions [..., items], and the items' pseudo-values: `pseudo_values` for many at once."""
    zg = (gold - gold.mean()) / gold.std()
    z = predicted - predicted.mean(axis=-1, keepdims=True)
    z /= z.std(axis=-1, keepdims=True)
    r = (z * zg).mean(axis=-1)
    return r, r[..., None] + z * zg - r[..., None] / 2 * (z**2 + zg**2)


def _planted(regime: Regime, made: Plan, levels: NDArray[np.intp]) -> Array:
    """[units]: the sum of planted effects, from 0 at a factor's first level to its whole at the last."""
    names = [f.name for f in made.spec.factors]
    at = {
        name: np.where(levels[:, k] < len(f.levels), levels[:, k], 0) / (len(f.levels) - 1)
        for k, (name, f) in enumerate(zip(names, made.spec.factors, strict=True))
    }
    found = np.zeros(len(levels))
    for name, effect in regime.effects.items():
        found += effect * at[name]
    for (one, other), size in regime.interactions.items():
        # The effect of each is half of `size` up or down, by the other: none on average.
        found += size * 2 * (at[one] - 0.5) * (at[other] - 0.5)
    return found


def _variance(regime: Regime, factors: int) -> float:
    of_items = (
        regime.difficulty**2,
        regime.cluster**2,
        regime.cell_item**2,
        regime.run_item**2,
        regime.seed_item**2,
    )
    of_choices = factors * (regime.choice_item**2 + regime.choice_cluster**2) / 2
    return sum(of_items) + of_choices


def _whole_variance(regime: Regime, factors: int) -> float:
    return regime.run**2 + regime.seed**2 + factors * regime.choice_seed**2 / 2


def _threshold(regime: Regime, made: Plan) -> float:
    factors = len(made.spec.factors)
    sd = math.sqrt(_variance(regime, factors) + _whole_variance(regime, factors))
    return float(special.ndtri(regime.accuracy)) * sd


def population(regime: Regime, made: Plan) -> Array:
    """[cells]: the primary metric over all seeds and items. Exact for normal noise; equal in all cells without effects."""
    found = [_population(regime, made, task)[made.unit[task.metric]] for task in tasks(regime)]
    if len(found) == 1:
        return found[0]
    kinds = [task.kind for task in tasks(regime)]
    scaled = [(one + 1) / 2 if kind == "pearson" else one for one, kind in zip(found, kinds, strict=True)]
    return np.asarray(np.mean(scaled, axis=0))


def _population(regime: Regime, made: Plan, task: Task) -> Array:
    return expected(regime, made, task.kind, _planted(regime, made, made.levels[task.metric]))


def expected(regime: Regime, made: Plan, kind: str, mean: Array) -> Array:
    """Return the expected metric where planted effects add up to `mean` [...]."""
    factors = len(made.spec.factors)
    of_items, whole = _variance(regime, factors), _whole_variance(regime, factors)
    if regime.items is None:
        return mean
    if kind == "pearson":
        points, weights = np.polynomial.hermite_e.hermegauss(31)
        slope = 1 + mean[..., None] + math.sqrt(whole) * points
        honest, chance = (slope / np.sqrt(slope**2 + of_items)) @ weights / weights.sum(), 0.0
    else:
        honest = special.ndtr((_threshold(regime, made) + mean) / math.sqrt(of_items + whole))
        chance = 0.5
    return np.asarray((1 - regime.diverged) * honest + regime.diverged * chance)


def _lost(regime: Regime, made: Plan, values: Mapping[str, Array], rng: Generator) -> NDArray[np.object_]:
    """[cells, seeds] of states."""
    primary = np.sum([of_units[made.unit[metric]] for metric, of_units in values.items()], axis=0)
    states = np.full(np.shape(primary), "COMPLETE", dtype=object)
    if regime.lost:
        states[rng.random(states.shape) < regime.lost] = "FAIL"
    if regime.crashing:
        for row, cell in enumerate(made.design.cells):
            if cell.levels["a"] == 1:
                states[row, np.argsort(primary[row])[: regime.crashing]] = "FAIL"
    for row, missing in enumerate(regime.seeds_missing):
        states[row, regime.seeds - missing :] = "MISSING"
    return states


def results_of(
    made: Plan, values: Mapping[str, Array], last: Mapping[str, Array], states: NDArray[np.object_]
) -> Results:
    """Return what a store would hold, from metrics [units, seeds] and states [cells, seeds]."""
    parts: dict[tuple[str, int], PartResult] = {}
    trials: list[TrialResult] = []
    for column, seed in enumerate(made.spec.seeds):
        for row, cell in enumerate(made.design.cells):
            state = states[row, column]
            if state == "MISSING":
                continue
            found = {m: float(v[made.unit[m][row], column]) for m, v in values.items()}
            found |= {f"{m}@last": float(v[made.unit[m][row], column]) for m, v in last.items()}
            if state == "COMPLETE":
                for part in cell.parts.values():
                    if (part.hash, seed) not in parts:
                        own = {
                            m: x
                            for m, x in found.items()
                            if _part_of(cell, m.removesuffix("@last")) == part.hash
                        }
                        parts[part.hash, seed] = PartResult(part.hash, seed, own, 1.0, 1, {}, Path("nowhere"))
            if made.spec.metric.name == "dev/mean":
                found["dev/mean"] = float(
                    np.mean([(x + 1) / 2 if m == "dev/z" else x for m, x in found.items()])
                )
            trials.append(
                TrialResult(
                    cell.hash,
                    seed,
                    len(trials),
                    state,
                    1,
                    cell.levels,
                    found if state == "COMPLETE" else {},
                    1.0,
                    None,
                    {name: part.hash for name, part in cell.parts.items()},
                )
            )
    design = made.design
    return Results(
        made.spec,
        design.cells,
        design.reference,
        design.resolution,
        design.aliases,
        design.raw_cells,
        tuple(trials),
        parts,
        lambda wanted: [],
    )


@cache
def _ids(pool: str, n: int) -> tuple[str, ...]:
    return tuple(f"{pool}{i}" for i in range(n))


@cache
def _ones(n: int) -> Array:
    return np.ones(n)


def _labels(cluster: bytes, n: int) -> tuple[str, ...]:
    return tuple(map(str, np.frombuffer(cluster, dtype=np.intp).tolist()))


def judged(study: Study) -> list[tuple[Effect, Judged]]:
    """Judge a study's effects on its primary metric as the report does."""
    arranged, primary = study.grid, study.grid.primary
    models = study_models(arranged)
    model = models.get(primary)
    aliased = aliases(arranged, partial_aliases(arranged, model))
    effects = study_effects(arranged, study.items, primary, model)
    found = judge(arranged, effects, aliased)
    if model and study.regime.interactions:
        interactions = study_interactions(study.items, primary, model)
        found = [
            replace(one, qualifiers=(*one.qualifiers, qualifier_of(turns)))
            if (turns := simple_effects(study.items, effect, interactions, model))
            else one
            for effect, one in zip(effects, found, strict=True)
        ]
    return list(zip(effects, found, strict=True))


@dataclass(frozen=True)
class Rates:
    """What became of the studies of one regime; each [studies], NaN where a study has nothing to say."""

    false: Array  # whether something false was claimed
    covered: Array  # the share of the effects whose 95 % interval holds the truth
    found: Array  # whether the first planted effect was claimed in its direction
    old_false: Array
    old_found: Array

    def __str__(self) -> str:
        return ", ".join(
            f"{name} {np.nanmean(one):.3f} ± {error(one):.3f}"
            for name, one in (
                ("error", self.false),
                ("coverage", self.covered),
                ("power", self.found),
                ("error before", self.old_false),
                ("power before", self.old_found),
            )
            if np.isfinite(one).any()
        )


def error(rates: Array) -> float:
    """Return the Monte Carlo error of a mean over studies."""
    known = rates[np.isfinite(rates)]
    return float(known.std() / math.sqrt(len(known)))


def assess(regime: Regime, studies: int, seed: int = 0, old: bool = False) -> Rates:
    """Simulate and judge so many studies, on all cores."""
    return Rates(*np.array(on_all_cores(partial(_rows, regime, seed, old), studies)).T)


def called_no_difference(regime: Regime, studies: int, seed: int = 0) -> float:
    """Return in what share of studies the first planted effect, exactly the smallest that matters, is said not to matter."""
    made = plan(regime.design, regime.seeds, tuple(task.metric for task in tasks(regime)), None)
    values = population(regime, made)
    name = next(iter(regime.effects))
    high = np.array([cell.levels[name] == 1 for cell in made.design.cells])
    at_margin = replace(regime, smallest_effect=float(values[high].mean() - values[~high].mean()))
    return float(np.mean(on_all_cores(partial(_called_no_difference, at_margin, name, seed), studies)))


def suspected(regime: Regime, studies: int, seed: int = 0) -> float:
    """Return in what share of studies the report finds clusters that nobody named."""
    return float(np.mean(on_all_cores(partial(_suspicions, regime, seed), studies)))


def on_all_cores(do: Callable[[list[int]], list[Any]], studies: int) -> list[Any]:
    """Return what `do` makes of the numbers of so many studies, in their order."""
    chunks = [chunk.tolist() for chunk in np.array_split(np.arange(studies), min(studies, 8 * WORKERS))]
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("fork")) as pool:
        return [one for chunk in pool.map(do, chunks) for one in chunk]


def _rows(regime: Regime, seed: int, old: bool, numbers: list[int]) -> list[tuple[float, ...]]:
    with detectable_effects_left_out():
        return [_row(simulate(regime, default_rng([seed, number])), old) for number in numbers]


def _called_no_difference(regime: Regime, name: str, seed: int, numbers: list[int]) -> list[bool]:
    with detectable_effects_left_out():
        return [
            any(
                one.verdict is Verdict.NO_DIFFERENCE
                for effect, one in judged(simulate(regime, default_rng([seed, number])))
                if effect.contrast.factor == name
            )
            for number in numbers
        ]


def _suspicions(regime: Regime, seed: int, numbers: list[int]) -> list[bool]:
    found = []
    with detectable_effects_left_out():
        for number in numbers:
            study = simulate(regime, default_rng([seed, number]))
            weights = [e.weights for e, _ in judged(study) if e.weights is not None and not e.identical]
            found.append(study.items.unnamed_clusters(weights, study.grid.primary) is not None)
    return found


def _row(study: Study, old: bool) -> tuple[float, ...]:
    effects = judged(study)
    claims = [_claim(one) for _, one in effects]
    truth = [of_the_design(study, effect) for effect, _ in effects]
    covered = [
        low <= true <= high
        for (effect, _), true in zip(effects, truth, strict=True)
        if (found := effect.inference.interval())
        for low, high in [found]
    ]
    return (
        float(any(_is_false(study, *one, claim) for one, claim in zip(effects, claims, strict=True))),
        float(np.mean(covered)) if covered else math.nan,
        _found(study, effects, claims),
        *(_before(study, effects, truth) if old else (math.nan, math.nan)),
    )


def _claim(one: Judged) -> int:
    """Return the sign of a claim, else 0; one that says that it may be otherwise is none."""
    if one.verdict not in (Verdict.HELPS, Verdict.HURTS) or set(one.qualifiers) - {
        Qualifier.ALIASED,
        Qualifier.DEPENDS,
    }:
        return 0
    return 1 if one.verdict is Verdict.HELPS else -1


def _is_false(study: Study, effect: Effect, one: Judged, claim: int) -> bool:
    """Whether a claim is of nothing that the design measures; or, where it names no alias, not of the factor itself."""
    if claim == 0:
        return False
    named = Qualifier.ALIASED in one.qualifiers
    return claim * of_the_design(study, effect) <= 0 or (
        not named and claim * of_the_factor(study, effect) <= 0
    )


def of_the_design(study: Study, effect: Effect) -> float:
    """Return an effect in the population, with its aliases: its own weights on the true values of the cells."""
    if study.regime.is_null or effect.weights is None:
        return 0.0
    told = np.isfinite(effect.weights).all(axis=0)
    exact = float((effect.weights[:, told] * study.truth[:, None]).sum(axis=0).mean()) if told.any() else 0.0
    return exact if abs(exact) > 1e-12 else 0.0


def of_the_factor(study: Study, effect: Effect) -> float:
    """Return an effect in the population: of a fraction the factor's over the whole factorial."""
    if study.plan.spec.design.kind != "fractional":
        return of_the_design(study, effect)
    k, names = len(study.plan.spec.factors), [f.name for f in study.plan.spec.factors]
    levels = (np.arange(2**k)[:, None] >> np.arange(k)) & 1
    (task,) = tasks(study.regime)
    values = expected(study.regime, study.plan, task.kind, _planted(study.regime, study.plan, levels))
    high = levels[:, names.index(effect.contrast.factor)] == 1
    found = float(values[high].mean() - values[~high].mean())
    return found if abs(found) > 1e-12 else 0.0


def _found(study: Study, effects: Sequence[tuple[Effect, Judged]], claims: Sequence[int]) -> float:
    """Whether the first planted effect was claimed in its direction; NaN where none was planted."""
    if not study.regime.effects:
        return math.nan
    name, size = next(iter(study.regime.effects.items()))
    signs = [claim for (e, _), claim in zip(effects, claims, strict=True) if e.contrast.factor == name]
    return float(any(sign * size > 0 for sign in signs))


def _before(
    study: Study, effects: Sequence[tuple[Effect, Judged]], truth: Sequence[float]
) -> tuple[float, float]:
    """Judge as verdicts once were: two cells after Cochran and Cox, other effects by least squares with seeds as blocks."""
    pooled = {} if all(e.contrast.two_cells for e, _ in effects) else _least_squares(study)
    p = [
        _cochran_cox(study, effect) if effect.contrast.two_cells else pooled.get(effect.contrast.factor)
        for effect, _ in effects
    ]
    claims = [
        int(np.sign(effect.inference.estimate or 0)) if one is not None and one < 0.05 else 0
        for (effect, _), one in zip(effects, holm(p), strict=True)
    ]
    false = float(any(claim * true <= 0 for claim, true in zip(claims, truth, strict=True) if claim))
    return false, _found(study, effects, claims)


def _cochran_cox(study: Study, effect: Effect) -> float | None:
    """Return p with the critical value of the mean of t(S − 1) and the normal, weighted by the shares of V (Cochran & Cox
    1957, Experimental Designs)."""
    values = by_seed(not_none(effect.weights), study.grid.values[study.grid.primary])
    values = values[np.isfinite(values)]
    seeds, d = len(values), study.items.differences(*not_none(effect.contrast.two_cells), study.grid.primary)
    v_seed = float(values.var(ddof=1)) / seeds
    v = v_seed + (mrmc(d).sigma_item ** 2 / d.shape[1] if d is not None else 0.0)
    if v == 0:
        return None
    t, share = abs(float(values.mean())) / math.sqrt(v), v_seed / v
    if t == 0 or share > 1 - 1e-9:
        return t_p(t, seeds - 1)
    if share < 1e-9:
        return t_p(t, math.inf)

    def tail(of_seeds: float) -> float:
        return max(float(special.stdtr(seeds - 1, -of_seeds)), 1e-300)

    def excess(of_seeds: float) -> float:
        return share * of_seeds - (1 - share) * float(special.ndtri(tail(of_seeds))) - t

    return min(2 * tail(optimize.brentq(excess, t, t / share, xtol=1e-12)), 1.0)


def _least_squares(study: Study) -> dict[str, float | None]:
    """Return factor -> p of a study with two levels each, seeds as blocks, everything that the model leaves out pooled."""
    values = study.grid.values[study.grid.primary]
    rows, columns = np.nonzero(np.isfinite(values))
    factors = [
        Factor(f.name, np.array([study.grid.cells[row].levels[f.name] for row in rows]), 2)
        for f in study.plan.spec.factors
    ]
    blocks = Factor("seed", columns, values.shape[1])
    found = factorial.factorial(values[rows, columns], factors, blocks, strict=True)
    if found.left_out and study.plan.spec.design.kind == "fractional":
        found = factorial.factorial(values[rows, columns], factors, blocks, "1", strict=True)
    return {e.factors[0]: None if found.degenerate else e.p for e in found.effects}


@contextmanager
def detectable_effects_left_out() -> Iterator[None]:
    """The detectable effect decides nothing and takes most of the time."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Inference, "mde80", lambda self, share=1.0: None)
        yield
