"""Signals of terminals and batch systems, and limits of time and cost: nothing is lost, the same command resumes."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Ablate, RunHere, StartAblate, WalkStudy
from test_runner_run import metrics, running_workers, wait_for

BATCH_SIGNALS = [
    signal.SIGUSR1,
    *(
        pytest.param(number, marks=pytest.mark.slow)
        for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGXCPU)
    ),
]


def is_training(folder: Path) -> bool:
    """Say whether a step of a trial of the walk study is done."""
    return any(log.read_text() for log in folder.glob("runs/walk/trials/*/steps.log"))


def slow_walk(walk_study: WalkStudy, **changes: Any) -> Path:
    values: dict[str, Any] = {"steps": 30, "seconds_per_step": 0.02, "seeds": "[1]"}
    return walk_study(**(values | changes))


@pytest.mark.parametrize("number", BATCH_SIGNALS, ids=lambda number: number.name)
def test_a_batch_system_s_signal_saves_the_step_and_counts_no_attempt(
    number: signal.Signals,
    run_here: RunHere,
    start_ablate: StartAblate,
    walk_study: WalkStudy,
    tmp_path: Path,
) -> None:
    study = slow_walk(walk_study)
    run = start_ablate("run", study)
    wait_for(lambda: is_training(tmp_path))
    run.send_signal(number)
    assert run.wait() == 128 + number
    assert list(tmp_path.glob("runs/walk/trials/*/step-*.checkpoint"))
    before = run_here(study, limit=0)
    assert {trial["state"] for trial in before["trials"]} <= {"WAITING", "COMPLETE"}
    assert {trial["attempts"] for trial in before["trials"] if trial["state"] == "WAITING"} <= {0, 1}
    assert metrics(run_here(study)) == metrics(run_here(study, home="reference"))


def test_a_trainer_that_ignores_signals_stops_all_the_same(
    run_here: RunHere, start_ablate: StartAblate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    study = slow_walk(walk_study, steps=300)
    trainer = tmp_path / "walk.py"
    ignoring = "\nimport signal\nfor number in (signal.SIGTERM, signal.SIGINT):\n    signal.signal(number, signal.SIG_IGN)\n"
    trainer.write_text(trainer.read_text() + ignoring)
    run = start_ablate("run", study)
    wait_for(lambda: is_training(tmp_path))
    run.send_signal(signal.SIGTERM)
    assert run.wait() == 128 + signal.SIGTERM
    assert list(tmp_path.glob("runs/walk/trials/*/step-*.checkpoint"))


def test_a_signal_to_supervisor_and_workers_at_once_is_one_stop(
    run_here: RunHere,
    start_ablate: StartAblate,
    walk_study: WalkStudy,
    tmp_path: Path,
) -> None:
    study = slow_walk(walk_study)
    run = start_ablate("run", study, "--workers", 2)
    wait_for(lambda: is_training(tmp_path) and len(running_workers(tmp_path)) == 2)
    for pid in [run.pid, *running_workers(tmp_path)]:
        os.kill(pid, signal.SIGUSR1)
    assert run.wait() == 128 + signal.SIGUSR1
    assert metrics(run_here(study)) == metrics(run_here(study, home="reference"))


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGXCPU], ids=lambda number: number.name)
def test_an_extra_worker_saves_and_waits_for_no_second_signal(
    number: signal.Signals,
    run_here: RunHere,
    start_ablate: StartAblate,
    walk_study: WalkStudy,
    tmp_path: Path,
) -> None:
    study = slow_walk(walk_study, seconds_per_step=0.3)
    run_here(study, limit=0)
    worker = start_ablate("worker", "walk")
    wait_for(lambda: is_training(tmp_path))
    # A limit of CPU time warns every second, Slurm once more by SIGTERM.
    worker.send_signal(number)
    worker.send_signal(number)
    worker.send_signal(signal.SIGTERM)
    # Of signals that arrive together Python handles the lowest first.
    assert worker.wait() in {128 + number, 128 + signal.SIGTERM}
    assert list(tmp_path.glob("runs/walk/trials/*/step-*.checkpoint"))


def test_a_closed_terminal_stops_nothing_under_nohup(
    walk_study: WalkStudy, ablate: Ablate, tmp_path: Path
) -> None:
    study = slow_walk(walk_study)
    with subprocess.Popen(
        ["nohup", str(Path(sys.executable).with_name("ablate")), "run", str(study)],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as run:
        wait_for(lambda: is_training(tmp_path))
        run.send_signal(signal.SIGHUP)
        assert run.wait() == 0
    assert json.loads(ablate("status", "--json").stdout)["complete"] == 4


def test_a_drained_worker_ends_after_its_trial(
    run_here: RunHere,
    start_ablate: StartAblate,
    ablate: Ablate,
    walk_study: WalkStudy,
    tmp_path: Path,
) -> None:
    study = slow_walk(walk_study)
    run_here(study, limit=0)
    worker = start_ablate("worker", "walk")
    wait_for(lambda: is_training(tmp_path))
    asked = ablate("worker", "--drain", worker.pid)
    assert (asked.returncode, asked.stdout) == (0, f"worker {worker.pid} ends after its trial\n")
    assert worker.wait() == 0
    states = [trial["state"] for trial in json.loads(ablate("status", "--json").stdout)["trials"]]
    assert sorted(set(states)) == ["COMPLETE", "WAITING"]


def test_a_drained_worker_of_a_run_is_not_started_again(
    start_ablate: StartAblate,
    ablate: Ablate,
    walk_study: WalkStudy,
    tmp_path: Path,
) -> None:
    run = start_ablate("run", slow_walk(walk_study))
    wait_for(lambda: is_training(tmp_path))
    ablate("worker", "--drain", running_workers(tmp_path)[0])
    assert run.wait() == 0
    assert json.loads(ablate("status", "--json").stdout)["complete"] < 4


def test_a_run_names_its_workers_instead_of_being_drained(
    start_ablate: StartAblate, ablate: Ablate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    run = start_ablate("run", slow_walk(walk_study, seconds_per_step=1))
    wait_for(lambda: is_training(tmp_path))
    asked = ablate("worker", "--drain", run.pid)
    (worker,) = running_workers(tmp_path)
    assert (asked.returncode, asked.stderr) == (
        2,
        f"--drain: process {run.pid} is `ablate run`; name one of its workers: {worker}\n",
    )


def test_only_a_worker_can_be_drained(ablate: Ablate) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        asked = ablate("worker", "--drain", other.pid)
        assert (asked.returncode, asked.stderr) == (
            2,
            f"--drain: process {other.pid} is not a worker of ablate; see `ps`\n",
        )
        other.terminate()
    gone = ablate("worker", "--drain", other.pid)
    assert (gone.returncode, "there is no process" in gone.stderr) == (2, True)


@pytest.mark.parametrize(
    ("options", "more"),
    [
        (["--max-hours", 4 / 3600], ""),
        pytest.param(["--max-usd", 4 / 1800], "budget: {usd_per_hour: 2}\n", marks=pytest.mark.slow),
        pytest.param([], "budget: {max_hours: 0.001}\n", marks=pytest.mark.slow),
        pytest.param([], "budget: {max_usd: 0.002, usd_per_hour: 2}\n", marks=pytest.mark.slow),
    ],
    ids=["hours", "usd", "budget's hours", "budget's usd"],
)
def test_a_run_ends_in_time_and_the_same_command_goes_on(
    options: list[object],
    more: str,
    run_here: RunHere,
    ablate: Ablate,
    walk_study: WalkStudy,
) -> None:
    study = walk_study(steps=30, seconds_per_step=0.1, seeds="[1]")
    study.write_text(study.read_text() + more)
    stopped = ablate("run", study, *options)
    assert stopped.returncode == 0
    # Of four trials of three seconds.
    assert re.search(r"stopped at the limit of hours or cost, [34] trials left", stopped.stderr)
    fast = study.read_text().replace(more, "")
    study.write_text(fast)
    assert run_here(study)["complete"] == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-hours", "0"], "--max-hours: found 0; write a number above 0"),
        (["--max-hours", "nan"], "--max-hours: found nan; write a number above 0"),
        (["--max-usd", "-1"], "--max-usd: found -1; write a number above 0"),
        (["--max-usd", "5"], "--max-usd: the study does not say what an hour costs"),
    ],
)
def test_a_limit_that_cannot_be_kept_is_refused(
    options: list[str],
    said: str,
    ablate: Ablate,
    walk_study: WalkStudy,
    tmp_path: Path,
) -> None:
    refused = ablate("run", walk_study(), *options)
    assert refused.returncode == 2
    assert refused.stderr.startswith(said)
    assert not (tmp_path / "runs").exists()


def test_a_signal_inside_a_finalizer_ends_the_command_all_the_same(tmp_path: Path) -> None:
    """Python ignores what a finalizer raises, and importing a library runs many."""
    script = """
import importlib, os, signal, sys, time
app = importlib.import_module("ablate.cli.app")

class Late:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(0.01)

def slow(standalone_mode):
    Late()
    time.sleep(30)

app.app = slow
app.main()
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (128 + signal.SIGUSR1, "")


def test_signals_at_every_line_of_the_handler_stop_a_worker_all_the_same() -> None:
    """Slurm signals every process of a job, and the job passes its signal on to the worker."""
    script = """
import os, signal, sys
from ablate.runner.process import Stop
stop = Stop()

def at_every_line(*_):
    for number in (signal.SIGTERM, signal.SIGURG):
        os.kill(os.getpid(), number)
    return at_every_line

sys.settrace(at_every_line)
os.kill(os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGURG)
sys.settrace(None)
print(stop(), stop.draining())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True True\n", "")


# Its training is a program of its own, as a pool's or a data loader's processes are.
HELPED = """
import os, subprocess
from pydantic import BaseModel

class Settings(BaseModel, extra="forbid"):
    steps: int = 5
    seconds_per_step: float = 0.0
    slope: float = 1.0
    noise: float = 0.1

def train(settings, context):
    helper = subprocess.Popen(["sleep", "600"])
    (context.workdir / "helper").write_text(f"{os.getpid()} {helper.pid}")
    if helper.wait():
        raise RuntimeError("the helper was killed")
"""


def test_a_training_that_fails_because_its_processes_were_stopped_too_has_not_failed(
    start_ablate: StartAblate, run_here: RunHere, walk_study: WalkStudy, tmp_path: Path
) -> None:
    study = walk_study(seeds="[1]")
    (tmp_path / "walk.py").write_text(HELPED)
    run = start_ablate("run", study)
    noted = "runs/walk/trials/*/helper"
    wait_for(lambda: [note for note in tmp_path.glob(noted) if note.read_text()])
    worker, helper = map(int, next(tmp_path.glob(noted)).read_text().split())
    for pid in (run.pid, worker, helper):
        os.kill(pid, signal.SIGTERM)
    assert run.wait() == 143, run.communicate()
    states = {trial["state"] for trial in run_here(study, limit=0)["trials"]}
    assert states == {"WAITING"}
