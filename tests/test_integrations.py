"""A study logs its curves to trackers too, each the real one; whatever happens to a tracker, the results stay the same."""

import os
import random
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixture_types import Ablate, RunHere, StartAblate, WalkStudy
from test_runner_run import metrics, running_workers, wait_for

from ablate.integrations.registry import Run, Trackers

# Trackers warn of their own dependencies.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

Curve = list[tuple[int, float]]
CURVE = "dev/position"


def of_tensorboard(folder: Path) -> dict[str, Curve]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = {}
    for run in (folder / "tensorboard").iterdir():
        events = EventAccumulator(str(run))
        events.Reload()
        curves[run.name] = [(point.step, point.value) for point in events.Scalars(CURVE)]
    return curves


def of_mlflow(folder: Path) -> dict[str, Curve]:
    mlflow: Any = pytest.importorskip("mlflow")
    client = mlflow.tracking.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("walk").experiment_id
    return {
        run.info.run_name: [
            (point.step, point.value) for point in client.get_metric_history(run.info.run_id, CURVE)
        ]
        for run in client.search_runs([experiment])
    }


def of_wandb(folder: Path) -> dict[str, Curve]:
    internal: Any = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    curves: dict[str, Curve] = {}
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        curve, name = Curve(), ""
        for data in records_of(file.read_bytes()):
            record = internal.Record.FromString(data)
            name = record.run.display_name or name
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            if CURVE in items:
                curve.append((record.history.step.num, float(items[CURVE])))
        curves[name] = curve
    return curves


def records_of(log: bytes) -> list[bytes]:
    """Read a log of LevelDB's format behind W&B's header of 7 bytes: blocks of 32 KiB, records with a header of 7 bytes."""
    records, place = [b""], 7
    while place + 7 <= len(log):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        length, kind = int.from_bytes(log[place + 4 : place + 6], "little"), log[place + 6]
        records[-1] += log[place + 7 : place + 7 + length]
        # 1: a whole record, 2: its first piece, 3: a middle one, 4: the last one.
        if kind in (1, 4):
            records.append(b"")
        place += 7 + length
    return records[:-1]


def of_trackio(folder: Path) -> dict[str, Curve]:
    storage: Any = pytest.importorskip("trackio.sqlite_storage").SQLiteStorage
    return {
        run: [(log["step"], log[CURVE]) for log in storage.get_logs("walk", run) if CURVE in log]
        for run in storage.get_runs("walk")
    }


READERS = {"tensorboard": of_tensorboard, "mlflow": of_mlflow, "wandb": of_wandb, "trackio": of_trackio}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def logging_study(walk_study: WalkStudy, *trackers: str, **options: Any) -> Path:
    study = walk_study(slopes="[1.0, 2.0]", seeds="[1]", **options)
    study.write_text(f"{study.read_text()}log_to: [{', '.join(trackers)}]\n")
    return study


def recorded(tmp_path: Path) -> list[Curve]:
    """Return the curves that are in the study's database."""
    with sqlite3.connect(tmp_path / "runs/walk/study.db") as database:
        rows = database.execute(
            "SELECT part, step, value FROM ablate_points WHERE name = ? ORDER BY part, step", (CURVE,)
        ).fetchall()
    return sorted(
        [(step, value) for part, step, value in rows if part == one] for one in {row[0] for row in rows}
    )


@pytest.mark.parametrize("tracker", READERS)
def test_every_curve_is_logged(tracker: str, ablate: Ablate, walk_study: WalkStudy, tmp_path: Path) -> None:
    if tracker != "tensorboard":
        pytest.importorskip(tracker)
    done = ablate("run", logging_study(walk_study, tracker))
    assert done.returncode == 0, done.stderr
    assert "log_to" not in done.stderr
    curves = READERS[tracker](tmp_path / "runs/walk")
    assert {"slope=1.0, noise=0.1, seed 1", "slope=2.0, noise=0.5, seed 1"} < set(curves)
    assert sorted(map(rounded, curves.values())) == sorted(map(rounded, recorded(tmp_path)))


def rounded(curve: Curve) -> Curve:
    # TensorBoard keeps 32 bits.
    return [(step, round(value, 5)) for step, value in curve]


@pytest.mark.parametrize("tracker", ["tensorboard", "mlflow"])
def test_a_killed_training_goes_on_in_its_run(
    tracker: str, start_ablate: StartAblate, ablate: Ablate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    if tracker != "tensorboard":
        pytest.importorskip(tracker)
    study = logging_study(walk_study, tracker, steps=30, seconds_per_step=0.1)
    run = start_ablate("run", study, "--limit", 1, ABLATE_CHECKPOINT_SECONDS="0.5")
    wait_for(lambda: list(tmp_path.glob("runs/walk/trials/*/step-*.checkpoint")))
    run.kill()
    for pid in running_workers(tmp_path):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not running_workers(tmp_path))
    assert ablate("run", study, "--limit", 1).returncode == 0
    (curve,) = READERS[tracker](tmp_path / "runs/walk").values()
    steps = [step for step, _ in curve]
    assert sorted(set(steps)) == list(range(1, 31))
    assert tracker == "mlflow" or steps == list(range(1, 31))


def test_a_tracker_that_fails_takes_no_trial_with_it(
    run_here: RunHere, walk_study: WalkStudy, tmp_path: Path
) -> None:
    alone = run_here(walk_study(seeds="[1]"), home="alone")
    (tmp_path / "runs/walk").mkdir(parents=True)
    (tmp_path / "runs/walk/tensorboard").write_text("in its way\n")
    watched = run_here(logging_study(walk_study, "tensorboard"))
    assert watched["code"] == 0
    assert watched["said"].count("log_to: tensorboard failed, and training continues without it") == 4
    assert metrics(watched) == metrics(alone)


def test_a_tracker_that_is_not_installed_is_named_once(
    run_here: RunHere, walk_study: WalkStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "ablate.integrations.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto.event_pb2", None)
    done = run_here(logging_study(walk_study, "tensorboard"))
    assert done["code"] == 0
    assert done["said"].count("pip install 'ablate-studies[tensorboard]'") == 1


def test_trackers_may_change_between_two_runs(run_here: RunHere, walk_study: WalkStudy) -> None:
    assert run_here(walk_study(seeds="[1]"))["code"] == 0
    assert run_here(logging_study(walk_study, "tensorboard"))["code"] == 0


def test_an_unknown_tracker_is_refused_with_its_place(ablate: Ablate, walk_study: WalkStudy) -> None:
    done = ablate("plan", logging_study(walk_study, "tensorbord"))
    assert done.returncode == 2
    assert "walk.yaml:11:10" in done.stderr
    assert "tensorboard" in done.stderr


class Restless:
    """A tracker that draws random numbers and fails at its third point."""

    points = 0

    def log(self, step: int, metrics: object) -> None:
        random.random(), np.random.random()
        self.points += 1
        if self.points == 3:
            raise SystemExit(1)

    def close(self, metrics: object) -> None:
        raise AssertionError("it has failed before")


def test_trackers_leave_random_numbers_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from ablate.integrations import tensorboard

    restless = Restless()
    monkeypatch.setattr(tensorboard, "open_tracker", lambda run: restless)
    said: list[str] = []
    trackers = Trackers(["tensorboard"], said.append)
    before = random.getstate(), str(np.random.get_state())
    trackers.start(Run("walk", "slope=1.0, seed 1", "ab-1", {}, tmp_path))
    for step in range(5):
        trackers.log(step, {CURVE: 1.0})
    trackers.close({CURVE: 1.0})
    assert (random.getstate(), str(np.random.get_state())) == before
    assert restless.points == 3
    assert said == ["log_to: tensorboard failed, and training continues without it: SystemExit: 1"]


@pytest.mark.parametrize("tracker", ["tensorboard", "mlflow"])
def test_training_again_with_other_code_is_another_run(
    tracker: str, ablate: Ablate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    if tracker != "tensorboard":
        pytest.importorskip(tracker)
    study = logging_study(walk_study, tracker)
    assert ablate("run", study, "--limit", 2).returncode == 0
    before = recorded(tmp_path)
    code = (tmp_path / "walk.py").read_text()
    (tmp_path / "walk.py").write_text(
        code.replace("position += settings.slope", "position += 1 + settings.slope")
    )
    assert ablate("run", study, "--code", "rerun").returncode == 0
    curves = READERS[tracker](tmp_path / "runs/walk")
    assert sorted(map(rounded, curves.values())) == sorted(map(rounded, before + recorded(tmp_path)))
    assert sum(name.endswith("seed 1, code 2") for name in curves) == 2


def test_names_that_are_cleaned_to_the_same_are_two_folders(tmp_path: Path) -> None:
    from ablate.integrations.tensorboard import open_tracker

    for key, name in (("a", "data=a/b"), ("b", "data=a_b")):
        run = open_tracker(Run("walk", name, key, {}, tmp_path))
        run.log(1, {CURVE: 1.0})
        run.close(None)
    assert len(of_tensorboard(tmp_path)) == 2


def test_long_and_odd_names_are_folders(tmp_path: Path) -> None:
    from ablate.integrations.tensorboard import open_tracker

    for key in "ab":
        run = open_tracker(Run("walk", "data/file=" + "ü/" * 300, key, {}, tmp_path))
        run.log(1, {CURVE: 1.0})
        run.close(None)
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2
