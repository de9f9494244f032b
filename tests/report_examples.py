"""Results for the report's tests: a small study with planted effects, as the store would hand it over."""

import hashlib
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ablate.design.factorial import Space, level_names
from ablate.design.fractional import fractional
from ablate.design.model import Cell, Part
from ablate.report.as_json import to_json
from ablate.report.report import report_of
from ablate.spec.model import Budget, Factor, Level, Metric, Scalar, StudySpec
from ablate.store.results import PartResult, Point, Results, TrialResult

TASKS = ("sentiment", "paraphrase", "similarity")
PLANTED = {
    "sentiment": {("training", "joint"): 0.012},
    "paraphrase": {("paraphrase_head", "difference"): 0.06},
    "similarity": {("similarity_head", "siamese"): 0.15, ("surgery", "pcgrad"): 0.02},
}
START = {"sentiment": 0.48, "paraphrase": 0.74, "similarity": 0.62}
FACTORS: dict[str, list[Scalar]] = {
    "similarity_head": ["concat", "siamese"],
    "paraphrase_head": ["concat", "difference"],
    "training": ["separate", "joint"],
    "surgery": ["none", "pcgrad"],
    "l2": [0.0, 0.01],
}


def factor(name: str, levels: list[Scalar], **only_when: tuple[Scalar, ...]) -> Factor:
    return Factor(
        name=name,
        levels=tuple(Level(name=level, settings={name: level}) for level in levels),
        only_when=only_when,
    )


def spec(
    design: str | dict[str, Any] = "one_at_a_time", seeds: tuple[int, ...] = (11, 22, 33), **changes: Any
) -> StudySpec:
    factors = tuple(
        factor(name, levels, **({"training": ("joint",)} if name == "surgery" else {}))
        for name, levels in FACTORS.items()
    )
    fields: dict[str, Any] = {
        "study": "example",
        "question": "Which choices help?",
        "trainer": "ablate.trainer",
        "factors": factors,
        "baseline": {name: levels[0] for name, levels in FACTORS.items() if name != "surgery"},
        "design": design,
        "seeds": seeds,
        "metric": Metric(name="dev/mean", smallest_effect=0.005),
        "budget": Budget(hours=1, usd_per_hour=1.212),
    }
    return StudySpec(**(fields | changes))


def digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:12]


def cell(levels: Mapping[str, Scalar]) -> Cell:
    """A cell with a part per task when trained separately: each decided by its own task's factors."""
    if levels.get("training") == "separate":
        mine = {
            "similarity": ("similarity_head", "l2"),
            "paraphrase": ("paraphrase_head", "l2"),
            "sentiment": ("l2",),
        }
        parts = {
            task: Part(digest((task, [(k, levels.get(k)) for k in mine[task]])), {"tasks": [task]})
            for task in TASKS
        }
    else:
        parts = {"all": Part(digest(dict(levels)), dict(levels))}
    return Cell(digest(dict(levels)), dict(levels), dict(levels), parts)


def cells_of(study: StudySpec) -> list[Cell]:
    if study.design.kind != "one_at_a_time":
        names = [f.name for f in study.factors]
        grid = (
            dict(zip(names, row, strict=True))
            for row in itertools.product(*([level.name for level in f.levels] for f in study.factors))
        )
        kept = [
            {
                f.name: levels[f.name]
                for f in study.factors
                if all(levels[parent] in allowed for parent, allowed in f.only_when.items())
            }
            for levels in grid
        ]
        return list({digest(levels): cell(levels) for levels in kept}.values())
    start = dict(study.baseline)
    found = [start]
    for f in study.factors:
        under = start | {parent: allowed[0] for parent, allowed in f.only_when.items()}
        for level in f.levels:
            levels = under | {f.name: level.name}
            for child in study.factors:
                if (
                    child.name not in levels
                    and child.only_when
                    and all(levels[p] in a for p, a in child.only_when.items())
                ):
                    levels[child.name] = child.levels[0].name
            found.append({name.name: levels[name.name] for name in study.factors if name.name in levels})
    return list({digest(levels): cell(levels) for levels in found}.values())


def example(
    study: StudySpec | None = None,
    noise: float = 0.003,
    folder: Path = Path("nowhere"),
    keep: Callable[[Cell, int], bool] = lambda cell, seed: True,
) -> Results:
    """A study run to its end; trials that `keep` refuses are WAITING."""
    study = study or spec()
    cells = cells_of(study)
    parts: dict[tuple[str, int], PartResult] = {}
    points: list[Point] = []
    trials: list[TrialResult] = []
    for number, (seed, one) in enumerate(itertools.product(study.seeds, cells)):
        done = keep(one, seed)
        for name, part in one.parts.items():
            if done and (part.hash, seed) not in parts:
                tasks = TASKS if name == "all" else (name,)
                scores = {f"dev/{task}": _score(task, one, part.hash, seed, noise) for task in tasks}
                parts[part.hash, seed] = PartResult(
                    part.hash,
                    seed,
                    scores,
                    30.0 * len(tasks),
                    200,
                    {"torch": "2.13.0"},
                    folder / f"{part.hash}-{seed}",
                )
                points += [
                    Point(part.hash, seed, step, metric, score - 0.3 * np.exp(-step / 60))
                    for metric, score in scores.items()
                    for step in (50, 100, 150, 200)
                ]
        metrics = (
            {k: v for part in one.parts.values() for k, v in parts[part.hash, seed].metrics.items()}
            if done
            else {}
        )
        if done and "dev/similarity" in metrics:
            metrics["dev/mean"] = (
                metrics["dev/sentiment"] + metrics["dev/paraphrase"] + (metrics["dev/similarity"] + 1) / 2
            ) / 3
        trials.append(
            TrialResult(
                one.hash,
                seed,
                number,
                "COMPLETE" if done else "WAITING",
                int(done),
                one.levels,
                metrics,
                90.0 if done else 0.0,
                None,
                {name: part.hash for name, part in one.parts.items()},
            )
        )
    return Results(study, tuple(cells), cells[0].hash, None, [], 32, tuple(trials), parts, points_of(points))


def report_document(results: Results) -> dict[str, Any]:
    """What `report.json` says."""
    document: dict[str, Any] = to_json(report_of(results))
    return document


def fraction(cells: int) -> Results:
    """The example's valid combinations as a D-optimal subset of so many, run to its end."""
    space = Space(spec({"kind": "fractional", "cells": cells}))
    chosen = [cell(level_names(space.factors, one)).hash for one in fractional(space).combinations]
    results = example(space.spec)
    return replace(
        results,
        cells=tuple(one for one in results.cells if one.hash in chosen),
        trials=tuple(trial for trial in results.trials if trial.cell in chosen),
    )


def searched(seeds: tuple[int, ...] = (11, 22, 33, 44)) -> Results:
    """A search that tried every cell on its first seed and gave one up; its finalist has the siamese head."""
    results = example(spec({"kind": "search", "finalists": 1}, seeds=seeds))
    siamese = next(one for one in results.cells if one.levels["similarity_head"] == "siamese")
    compared = (results.reference, siamese.hash)
    trials = [
        replace(t, state="PRUNED", metrics={}) if t.cell == results.cells[3].hash else t
        for t in results.trials
        if t.seed == seeds[0] or t.cell in compared
    ]
    return replace(results, trials=tuple(trials))


def valued(study: StudySpec, value: Callable[[Mapping[str, Scalar], int], float]) -> Results:
    """A study run to its end whose deciding metric is `value(levels, place of the seed)`, and its only one."""
    results = example(study)
    place = {seed: k for k, seed in enumerate(study.seeds)}
    trials = [replace(t, metrics={"dev/mean": value(t.factors, place[t.seed])}) for t in results.trials]
    parts = {key: replace(part, metrics={}) for key, part in results.parts.items()}
    return replace(results, trials=tuple(trials), parts=parts)


def points_of(points: Sequence[Point]) -> Callable[[Collection[str]], list[Point]]:
    """What the store gives: the points of the parts that are asked for."""
    return lambda parts: [point for point in points if point.part in parts]


def write_predictions(results: Results, items: int = 400) -> Results:
    """Per-item files behind every part, and the metrics they give: two accuracies and a Pearson r."""
    parts = {key: replace(part, metrics=_predict(part, items)) for key, part in results.parts.items()}
    trials = []
    for trial in results.trials:
        scores = {k: v for part in trial.parts.values() for k, v in parts[part, trial.seed].metrics.items()}
        mean = (scores["dev/sentiment"] + scores["dev/paraphrase"] + (scores["dev/similarity"] + 1) / 2) / 3
        trials.append(replace(trial, metrics=scores | {"dev/mean": mean}))
    return replace(results, parts=parts, trials=tuple(trials))


def _predict(part: PartResult, items: int) -> dict[str, float]:
    folder = part.folder / "predictions"
    folder.mkdir(parents=True)
    found = {}
    for metric, score in part.metrics.items():
        task = metric.removeprefix("dev/")
        shared = np.random.default_rng(TASKS.index(task))  # the items, the same for every part
        own = np.random.default_rng([int(part.part, 16) % 2**32, part.seed, TASKS.index(task)])
        if task == "similarity":
            gold = shared.uniform(0, 5, items).round(1)
            predicted = gold + np.sqrt(1 / score**2 - 1) * gold.std() * (
                0.8 * shared.standard_normal(items) + 0.6 * own.standard_normal(items)
            )
            found[metric] = float(np.corrcoef(predicted, gold)[0, 1])
        else:
            labels = 5 if task == "sentiment" else 2
            gold = shared.integers(0, labels, items).astype(float)
            difficulty = 0.7 * shared.uniform(size=items) + 0.3 * own.uniform(size=items)
            predicted = np.where(difficulty < np.quantile(difficulty, score), gold, (gold + 1) % labels)
            found[metric] = float(np.mean(predicted == gold))
        rows = [
            f"{task}-{i},{p!r},{g!r}"
            for i, (p, g) in enumerate(zip(predicted.tolist(), gold.tolist(), strict=True))
        ]
        (folder / f"dev.{task}.csv").write_text("\n".join(["id,prediction,gold", *rows]) + "\n")
    return found


def with_trial(results: Results, place: int, **changes: Any) -> Results:
    """The same results with one trial changed."""
    trials = list(results.trials)
    trials[place] = replace(trials[place], **changes)
    return replace(results, trials=tuple(trials))


def _score(task: str, one: Cell, part: str, seed: int, noise: float) -> float:
    rng = np.random.default_rng([int(part, 16) % 2**32, seed])
    planted = sum(gain for (name, level), gain in PLANTED[task].items() if one.levels.get(name) == level)
    return float(START[task] + planted + 0.004 * np.sin(seed) + noise * rng.standard_normal())
