"""Long curves take little space, and resuming keeps the same points."""

from math import log2
from pathlib import Path

import pytest
from stopping import trained

from ablate.contract import Context
from ablate.runner.thinning import WHOLE, Thinning

STEPS = 30_000


def walk(context: Context) -> dict[str, float]:
    """Report a long curve at every step, and a short one at every hundredth."""
    step = (context.restore() or {"step": 0})["step"]
    while step < STEPS:
        step += 1
        context.report(step, {"train/loss": 1 / step} | ({"dev/accuracy": step} if step % 100 == 0 else {}))
        if step % 1000 == 0:
            context.checkpoint(step, lambda: {"step": step})  # noqa: B023  it is called at once
    return {"dev/accuracy": 1.0}


def test_of_a_long_curve_all_of_its_beginning_and_ever_fewer_points_are_kept(tmp_path: Path) -> None:
    points = trained(walk, tmp_path).points
    long = [step for step, name, _ in points if name == "train/loss"]
    short = [step for step, name, _ in points if name == "dev/accuracy"]
    assert long == [*range(1, WHOLE + 1), *range(WHOLE + 1, 2 * WHOLE, 2), *range(2 * WHOLE + 1, STEPS, 4)]
    assert short == [*range(100, STEPS + 1, 100)]


@pytest.mark.parametrize("stops", [(5000, 15_000), (10_000, 20_000)])
def test_resuming_keeps_the_same_points(stops: tuple[int, ...], tmp_path: Path) -> None:
    assert trained(walk, tmp_path / "stopped", stops) == trained(walk, tmp_path / "whole")


@pytest.mark.parametrize("doublings", [1, 4, 7])
def test_a_curve_that_doubles_in_length_keeps_5000_points_more(doublings: int) -> None:
    thinning, length = Thinning({}), WHOLE << doublings
    kept = sum(thinning.keeps("loss") for _ in range(length))
    assert kept == WHOLE // 2 * (2 + log2(length / WHOLE))
