"""studies/own_trainer.yaml and its trainer: every cell trains, and goes on where it was stopped."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ablate.contract import Stopped, Trainer, load_trainer
from ablate.design.cells import build_design
from ablate.design.model import Cell
from ablate.spec.reading import read_study

STUDY = Path(__file__).parent.parent / "studies" / "own_trainer.yaml"


class Context:
    """Keeps the state saved last; asks to stop after a given step."""

    def __init__(self, seed: int, state: Any = None, stop_after: int | None = None) -> None:
        self.seed, self.state, self.stop_after = seed, state, stop_after
        self.steps: list[int] = []

    def restore(self) -> Any:
        return self.state

    def checkpoint(self, step: int, state: Callable[[], Any]) -> None:
        self.state = state()
        if step == self.stop_after:
            raise Stopped

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        self.steps.append(step)

    def predictions(
        self, split: str, task: str, ids: Sequence[str], predicted: Sequence[float], gold: Sequence[float]
    ) -> None:
        assert len(ids) == len(predicted) == len(gold)
        self.items = list(zip(ids, gold, strict=True))


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return load_trainer("my_trainer", STUDY.parent)


@pytest.fixture(scope="module")
def cells(trainer: Trainer) -> tuple[Cell, ...]:
    return build_design(read_study(STUDY), trainer).cells


def accuracy(trainer: Trainer, cell: Cell, context: Any) -> float:
    return trainer.train(trainer.Settings.model_validate(cell.settings), context)["dev/accuracy"]


def test_every_cell_trains_without_a_warning_and_beats_chance(
    trainer: Trainer, cells: tuple[Cell, ...]
) -> None:
    assert all(accuracy(trainer, cell, Context(seed=11)) > 0.7 for cell in cells)


def test_a_stopped_trial_goes_on_and_ends_the_same(trainer: Trainer, cells: tuple[Cell, ...]) -> None:
    stopped = Context(seed=11, stop_after=80)
    with pytest.raises(Stopped):
        accuracy(trainer, cells[-1], stopped)
    resumed, whole = Context(seed=11, state=stopped.state), Context(seed=11)
    assert accuracy(trainer, cells[-1], resumed) == accuracy(trainer, cells[-1], whole)
    assert resumed.steps[0] == 81
    assert resumed.state == whole.state


def test_every_cell_and_seed_is_scored_on_the_same_items(trainer: Trainer, cells: tuple[Cell, ...]) -> None:
    one, other = Context(seed=11), Context(seed=22)
    accuracy(trainer, cells[0], one)
    accuracy(trainer, cells[-1], other)
    assert one.items == other.items


def test_curved_features_help_and_noise_hurts(trainer: Trainer, cells: tuple[Cell, ...]) -> None:
    mean = {
        tuple(cell.levels.values()): sum(accuracy(trainer, cell, Context(seed)) for seed in (11, 22, 33)) / 3
        for cell in cells
    }
    assert mean[5, 0.1, 1.0] > mean[1, 0.1, 1.0] + 0.02
    assert mean[5, 0.4, 1.0] < mean[5, 0.1, 1.0] - 0.05
