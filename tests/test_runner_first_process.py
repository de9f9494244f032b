"""Commands as process 1 of a container, with what the kernel asks of it alone."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fixture_types import WalkStudy, not_none
from test_runner_run import wait_for

# Its orphans are process 1's, and a tenth of a second later zombies.
ORPHANS = """
import os, subprocess, time
from pydantic import BaseModel

class Settings(BaseModel, extra="forbid"):
    steps: int = 5
    seconds_per_step: float = 0.0
    slope: float = 1.0
    noise: float = 0.1

def train(settings, context):
    for _ in range(20):
        subprocess.run(["sh", "-c", "(setsid ./orphan 0.1 &)"], env={"PATH": os.environ["PATH"]})
    time.sleep(0.5)
    return {"dev/position": 1.0}
"""


CONTAINER = ["unshare", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]

Start = Callable[[str], subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start `ablate` with some words as process 1 of a namespace."""
    if (
        shutil.which("unshare") is None
        or subprocess.run([*CONTAINER, "true"], capture_output=True).returncode
    ):
        pytest.skip("needs process namespaces")
    started: list[subprocess.Popen[bytes]] = []

    def call(words: str) -> subprocess.Popen[bytes]:
        command = [*CONTAINER, sys.executable, "-m", "ablate", *words.split()]
        with (tmp_path / "said").open("w") as said:
            started.append(subprocess.Popen(command, cwd=tmp_path, stdout=said, stderr=said))
        return started[-1]

    yield call
    for process in started:
        process.kill()
        process.wait()


def inside(container: subprocess.Popen[bytes]) -> int:
    """Its process 1, as this namespace calls it."""
    return int(Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text())


def sleeping(state: str) -> int:
    """How many orphans there are, or how many of them are in this state."""
    found = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            found += f"(orphan) {state}" in status.read_text()
    return found


def test_orphans_are_reaped(start: Start, walk_study: WalkStudy, tmp_path: Path) -> None:
    study = walk_study(seeds="[1]")
    (tmp_path / "walk.py").write_text(ORPHANS)
    shutil.copy(not_none(shutil.which("sleep")), tmp_path / "orphan")
    container = start(f"run {study.name}")
    seen = zombies = 0
    while container.poll() is None:
        seen, zombies = max(seen, sleeping("")), max(zombies, sleeping("Z"))
    assert container.returncode == 0, (tmp_path / "said").read_text()
    assert seen
    # Those of a moment may wait for the process that reaps them.
    assert zombies < 20
    print(f"of 80 orphans at most {zombies} were zombies at once")


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, 138, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
    ],
)
def test_a_run_is_stopped_by_a_signal_to_process_1(
    number: signal.Signals, code: int, start: Start, walk_study: WalkStudy, tmp_path: Path
) -> None:
    study = walk_study(steps=400, seconds_per_step=0.05, seeds="[1]")
    container = start(f"run {study.name}")
    wait_for(lambda: list(tmp_path.glob("runs/walk/trials/*/steps.log")))
    os.kill(inside(container), number)
    assert container.wait() == code, (tmp_path / "said").read_text()
    assert list(tmp_path.glob("runs/walk/trials/*/step-*.checkpoint"))


def test_an_exit_code_is_passed_on(start: Start, tmp_path: Path) -> None:
    assert start("run missing.yaml").wait() == 2
    assert "missing.yaml" in (tmp_path / "said").read_text()


def test_a_run_that_is_killed_ends_the_container(start: Start, walk_study: WalkStudy, tmp_path: Path) -> None:
    study = walk_study(steps=400, seconds_per_step=0.05, seeds="[1]")
    container = start(f"run {study.name}")
    wait_for(lambda: list(tmp_path.glob("runs/walk/trials/*/steps.log")))
    first = inside(container)
    (command,) = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    os.kill(int(command), signal.SIGKILL)
    assert container.wait() == 137
