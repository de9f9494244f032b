"""Nothing that a trainer started outlives its worker, whatever group, session or parent it has."""

import os
import signal
import subprocess
from functools import partial
from pathlib import Path

import pytest
from chaos import children
from conftest import WALK
from fixture_types import Ablate, RunHere, StartAblate, not_none
from test_command_stopping import all_gone
from test_runner_run import is_alive, wait_for

from ablate.runner import leftovers

# A fork, a fork of a thread, a program, one in a session of its own, one that nobody waits for, one that ignores SIGTERM.
FORKS = """
import multiprocessing, os, subprocess, threading, time
from pydantic import BaseModel

class Settings(BaseModel, extra="forbid"):
    steps: int = 5
    seconds_per_step: float = 0.0
    slope: float = 1.0
    noise: float = 0.1

def sleep():
    note(os.getpid())
    time.sleep(600)

def note(pid):
    with open(os.environ["NOTES"], "a") as file:
        file.write(f"{pid}\\n")

def train(settings, context):
    os.environ["NOTES"] = str(context.workdir.parent / "pids")
    fork = multiprocessing.get_context("fork")
    fork.Process(target=sleep).start()
    thread = threading.Thread(target=lambda: fork.Process(target=sleep).start())
    thread.start()
    thread.join()
    program = 'echo $$ >> "$NOTES"; exec sleep 600'
    subprocess.Popen(["sh", "-c", program])
    subprocess.Popen(["sh", "-c", program], start_new_session=True)
    subprocess.run(["sh", "-c", '(setsid sh -c "$0" &)', program])
    subprocess.Popen(["sh", "-c", 'trap "" TERM; ' + program])
    time.sleep(60)
"""
PROCESSES = 6


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "walk.py").write_text(FORKS)
    file = tmp_path / "walk.yaml"
    file.write_text(WALK.format(steps=5, seconds_per_step=0, more="", slopes="[1.0, 2.0]", seeds="[1]"))
    return file


def started(folder: Path) -> list[int]:
    notes = folder / "runs/walk/trials/pids"
    wait_for(lambda: notes.exists() and notes.read_text().count("\n") == PROCESSES)
    pids = [int(line) for line in notes.read_text().split()]
    assert all(map(is_alive, pids))
    return pids


@pytest.mark.parametrize(
    "victims",
    [
        "worker and supervisor",
        *(pytest.param(victims, marks=pytest.mark.slow) for victims in ("worker", "worker and its writer")),
    ],
)
def test_nothing_outlives_a_killed_worker(
    study: Path, start_ablate: StartAblate, tmp_path: Path, victims: str
) -> None:
    run = start_ablate("run", study, "--limit", "1")
    pids = started(tmp_path)
    (worker,) = children(run.pid)
    killed = {
        "worker": [worker],
        "worker and its writer": [*writers(worker), worker],
        "worker and supervisor": [run.pid, worker],
    }
    for pid in killed[victims]:
        os.kill(pid, signal.SIGKILL)
    wait_for(partial(all_gone, pids))


@pytest.mark.slow
def test_nothing_outlives_a_second_interrupt(study: Path, start_ablate: StartAblate, tmp_path: Path) -> None:
    run = start_ablate("run", study, "--limit", "1")
    pids = started(tmp_path)
    run.send_signal(signal.SIGTERM)
    while "stopping" not in not_none(run.stderr).readline():
        continue
    run.send_signal(signal.SIGINT)
    assert run.wait() == 143
    wait_for(partial(all_gone, pids))


def test_what_a_worker_of_a_shell_starts_ends_with_it(
    study: Path, start_ablate: StartAblate, run_here: RunHere, tmp_path: Path
) -> None:
    """Its environment names no worker when it begins, so a fork of one of its threads is not known as its own."""
    run_here(study, limit=0)
    worker = start_ablate("worker", "walk")
    pids = started(tmp_path)
    worker.kill()
    wait_for(lambda: sum(map(is_alive, pids)) <= 1)
    for pid in filter(is_alive, pids):
        os.kill(pid, signal.SIGKILL)


ENDLESS = """
import atexit, threading, time
from pydantic import BaseModel

class Settings(BaseModel):
    slope: float = 1.0

def train(settings, context):
    if settings.slope == 1.0:
        atexit.register(time.sleep, 6000)
        threading.Thread(target=time.sleep, args=(6000,)).start()
    return {"dev/position": settings.slope}
"""


@pytest.mark.slow
@pytest.mark.parametrize("command", [("run",), ("worker",)])
def test_threads_and_exit_functions_that_never_end_do_not_keep_a_worker(
    ablate: Ablate, start_ablate: StartAblate, tmp_path: Path, command: tuple[str]
) -> None:
    (tmp_path / "walk.py").write_text(ENDLESS)
    study = tmp_path / "walk.yaml"
    study.write_text(
        "{study: walk, trainer: walk, factors: {slope: [1.0, 2.0]}, baseline: {slope: 1.0}, design: full, seeds: [1],\n"
        "metric: {name: dev/position}}\n"
    )
    assert ablate("run", study, "--limit", 0).returncode == 0
    run = start_ablate(*command, study)
    printed, errors = run.communicate()
    assert run.returncode == 0, errors
    said = (
        printed + errors + "".join(file.read_text() for file in tmp_path.glob("runs/walk/logs/worker-*.log"))
    )
    assert "did not end within 20 s; let `train` end it" in said


def writers(worker: int) -> list[int]:
    """Return the process that writes a worker's logs."""
    shown = [(pid, Path(f"/proc/{pid}/cmdline").read_bytes()) for pid in children(worker)]
    return [pid for pid, command in shown if b"logwriter.py" in command]


def test_another_worker_s_processes_are_left_alone() -> None:
    with subprocess.Popen(["sleep", "60"], env=os.environ | {leftovers.NAME: "other"}) as other:
        leftovers.end("one")
        assert other.poll() is None
        leftovers.end("other")
        assert other.wait() == -signal.SIGKILL
