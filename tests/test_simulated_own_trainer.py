"""The shipped study of one's own trainer, with other seeds and other dev items each time: do its intervals hold the truth?

Least squares with seeds as blocks held it in .41, .38, .26 of cases (3, 5, 10 seeds): dev items, which all cells share, were no
part of its errors."""

import math
import sys
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.random import default_rng
from simulated_studies import Given, Plan, Regime, Study, judged, of_the_design, on_all_cores, results_of

from ablate.contract import load_trainer
from ablate.design.cells import build_design
from ablate.evidence.frames import grid
from ablate.evidence.items import Items
from ablate.evidence.predictions import ItemScores, Kind
from ablate.spec.reading import read_study

STUDY = Path(__file__).parents[1] / "studies" / "own_trainer.yaml"
STUDIES = 200
# Models trained once for each cell; a simulated study has some of these seeds.
TRAINED = 120
ITEMS = 400


class Keeping:
    """A context that keeps the weights of the last step."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.weights: list[float] = []

    def restore(self) -> None:
        return None

    def report(self, step: int, metrics: dict[str, float]) -> None:
        """Drop the point: no curve is looked at."""

    def checkpoint(self, step: int, state: Any) -> None:
        self.weights = state()["weights"]

    def predictions(self, *given: Any, **more: Any) -> None:
        """Drop them: those on the simulated items are made from the weights."""


@cache
def trained() -> tuple[Any, Any, list[Any], np.ndarray]:
    """Return the study, its design, the weights [cells][seeds] of all models, and the true accuracy [cells]."""
    spec, design, settings = declared()
    models = list(zip(*on_all_cores(weights, TRAINED), strict=True))
    truth = [
        float(right(one, of_cell, default_rng(1), 20_000).mean())
        for one, of_cell in zip(settings, models, strict=True)
    ]
    return spec, design, models, np.array(truth)


@cache
def declared() -> tuple[Any, Any, list[Any]]:
    """Return the study, its design, and the settings of each cell."""
    spec = read_study(STUDY)
    trainer = load_trainer(spec.trainer, STUDY.parent)
    design = build_design(spec, trainer)
    return spec, design, [trainer.Settings(**cell.settings) for cell in design.cells]


def weights(numbers: list[int]) -> list[list[list[float]]]:
    return [[weights_of(settings, seed) for settings in declared()[2]] for seed in numbers]


def weights_of(settings: Any, seed: int) -> list[float]:
    context = Keeping(seed)
    sys.modules["my_trainer"].train(settings, context)
    return context.weights


def right(settings: Any, models: Any, rng: np.random.Generator, items: int) -> np.ndarray:
    """[models, items]: whether each is right on each item."""
    x, y = sys.modules["my_trainer"].half_moons(rng, items, settings)
    return np.asarray(((np.array(models) @ x.T > 0) == y).astype(float))


def simulated(seeds: int, number: int) -> Study:
    spec, design, models, truth = trained()
    rng = default_rng([seeds, number])
    spec = spec.model_copy(update={"seeds": tuple(range(1, seeds + 1))})
    chosen, dev = rng.choice(TRAINED, seeds, replace=False), int(rng.integers(2**32))
    ids, ones = tuple(map(str, range(ITEMS))), np.ones(ITEMS)
    given, values = {}, np.zeros((len(design.cells), seeds))
    for row, (cell, settings) in enumerate(zip(design.cells, declared()[2], strict=True)):
        hits = right(settings, [models[row][k] for k in chosen], default_rng(dev), ITEMS)
        values[row] = hits.mean(axis=1)
        (part,) = cell.parts.values()
        for seed, one in zip(spec.seeds, hits, strict=True):
            given[part.hash, seed, "dev/accuracy"] = ItemScores(ids, one, one, ones, Kind.ACCURACY)
    every = np.arange(len(design.cells))
    hashes = [next(iter(cell.parts.values())).hash for cell in design.cells]
    made = Plan(spec, design, ("dev/accuracy",), {"dev/accuracy": every}, {}, {"dev/accuracy": hashes})
    states = np.full(values.shape, "COMPLETE", dtype=object)
    arranged = grid(results_of(made, {"dev/accuracy": values}, {}, states))
    items = Items(arranged, Given(given, arranged))
    return Study(Regime("own_trainer", effects={"degree": 1.0}), made, arranged, items, truth)


def covered(seeds: int, numbers: list[int]) -> list[float]:
    """Return of each study the share of effects whose interval holds the truth."""
    found = []
    for number in numbers:
        study = simulated(seeds, number)
        held = [
            low <= of_the_design(study, effect) <= high
            for effect, _ in judged(study)
            if (interval := effect.inference.interval())
            for low, high in [interval]
        ]
        found.append(float(np.mean(held)))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_intervals_of_the_shipped_study_hold_the_truth(seeds: int) -> None:
    trained()
    rates = np.array(on_all_cores(partial(covered, seeds), STUDIES))
    error = float(rates.std()) / math.sqrt(STUDIES)
    print(f"\nown_trainer, {seeds} seeds: coverage {rates.mean():.3f} ± {error:.3f}")
    assert rates.mean() >= 0.95 - 2 * error
