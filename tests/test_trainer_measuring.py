"""What trainings would take: each kind of step timed once, the rest counted."""

import time
from pathlib import Path
from typing import Any

import pytest
from trainer_context import Notebook, small

from ablate.contract import Context
from ablate.trainer.settings import Settings
from ablate.trainer.training import measuring
from ablate.trainer.training.measuring import Pace, measure
from ablate.trainer.training.token_cache import tokens_of

PACE = Pace(step_s=2.0, items=12, token_s=0.0, rest_s=100.0)  # 12: 3 + 4 + 5 of `small`


@pytest.fixture
def paces(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """Give each kind `PACE` without timing it; return what was to be timed."""
    timed = []

    def instead(settings: Settings, context: Context) -> Pace:
        timed.append(settings)
        return Pace(PACE.step_s, measuring._items(settings), PACE.token_s, PACE.rest_s)

    monkeypatch.setattr(measuring, "_timed", instead)
    return timed


def seconds(tmp_path: Path, *settings: dict[str, Any]) -> list[float]:
    named = {str(number): small(**one) for number, one in enumerate(settings)}
    return list(measure(named, Notebook(tmp_path / "context")).values())


def test_a_training_takes_its_steps_and_what_is_around_them(paces: list[Settings], tmp_path: Path) -> None:
    assert seconds(tmp_path, {"max_steps": 7}, {"max_steps": 70}) == [114.0, 240.0]
    assert len(paces) == 1


def test_epochs_are_counted_in_the_data(paces: list[Settings], tmp_path: Path) -> None:
    (found,) = seconds(tmp_path, {"max_steps": None, "epochs": 2})
    assert found == 100.0 + 2.0 * 2 * 7  # sentiment: 21 items, 3 at a time


def test_each_stage_of_a_sequential_training_is_counted(paces: list[Settings], tmp_path: Path) -> None:
    (found,) = seconds(tmp_path, {"training": "sequential", "max_steps": 7})
    assert found == 100.0 + 3 * 7 * 2.0
    assert [stage.tasks for stage in paces] == [("sentiment",), ("paraphrase",), ("similarity",)]


@pytest.mark.parametrize(("every", "evaluations"), [(0, 2), (2, 5), (100, 1)])
def test_evaluations_are_counted_by_their_tokens(
    every: int, evaluations: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = Notebook(tmp_path / "context")
    settings = small(max_steps=9, eval_every=every)  # an epoch is 7 steps
    monkeypatch.setattr(measuring, "_timed", lambda *_: Pace(0.0, 12, 1.0, 0.0))
    splits = tokens_of(settings, context.cache).tasks
    dev_tokens = sum(found["dev"].total_tokens for found in splits.values())
    assert measure({"it": settings}, context) == {"it": evaluations * dev_tokens}


def test_what_a_frozen_encoder_embeds_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "_timed", lambda *_: Pace(0.0, 12, 1.0, 0.0))
    first, second = seconds(tmp_path, {"freeze_encoder": True}, {"freeze_encoder": True, "l2": 0.1})
    assert first > 0
    assert second == 0


@pytest.mark.parametrize(
    ("setting", "kinds"), [({"l2": 0.1}, 1), ({"surgery": "pcgrad"}, 2), ({"precision": "bf16"}, 2)]
)
def test_what_decides_the_time_of_a_step_is_timed_apart(
    setting: dict[str, Any], kinds: int, paces: list[Settings], tmp_path: Path
) -> None:
    seconds(tmp_path, {}, setting)
    assert len(paces) == kinds


def test_without_time_left_a_kind_goes_by_the_nearest_per_item(
    paces: list[Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "BUDGET_S", -1.0)  # the first is timed all the same
    larger = {"batch_size": {"sentiment": 6, "paraphrase": 8, "similarity": 10}, "max_steps": 7}
    context = Notebook(tmp_path / "context")
    found = measure({"it": small(max_steps=7), "larger": small(**larger)}, context)
    assert found == {"it": 100.0 + 14.0, "larger": 100.0 + 28.0}
    assert context.facts["measured"] == "1 of 2 kinds of steps"


def test_the_nearest_has_the_same_tasks() -> None:
    one = measuring._kind(small(tasks=("sentiment",), precision="bf16", dropout=0.0))
    paces = {
        measuring._kind(small(precision="bf16", dropout=0.0)): PACE,
        measuring._kind(small(tasks=("sentiment",))): PACE,
    }
    assert measuring._nearest(one, paces) == list(paces)[1]


@pytest.mark.parametrize(
    "mode",
    [
        {},
        {"surgery": "pcgrad"},
        {"freeze_encoder": True},
        pytest.param({"training": "sequential"}, marks=pytest.mark.slow),
    ],
)
def test_real_steps_are_timed_and_multiplied(
    mode: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "STEPS", 2)
    context = Notebook(tmp_path / "context")
    at = {str(steps): small(max_steps=steps, eval_every=10, **mode) for steps in (10, 100, 200, 300)}
    found = measure(at, context)
    assert 0 < found["200"] - found["100"] == pytest.approx(found["300"] - found["200"])


def test_the_first_step_warms_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(measuring, "STEPS_S", 100.0)
    done_at = iter([50.0, 50.5, 52.0, 54.0, 56.0])  # 50.5: looked in again while something was embedded
    monkeypatch.setattr(time, "perf_counter", lambda: next(done_at))
    watch = measuring._Stopwatch(Notebook(tmp_path))
    for step in (1, 1, 2, 3, 4):
        watch.checkpoint(step, dict)
    monkeypatch.undo()
    assert watch.step_s == 2.0
