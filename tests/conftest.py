"""What every test gets: a clean environment, seeds, the command line as a process, and a study that takes no time."""

import functools
import io
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from fixture_types import Ablate, Json, RunHere, StartAblate, WalkStudy
from postgres_server import PostgresServer
from rich.console import Console
from warm_cli import WarmCommandLine, cold

from ablate.runner.engines.registry import ENGINES, Entry
from ablate.runner.run import Options, run_study
from ablate.runner.status import status_document
from ablate.store.reading import read_results

# A deadline would let the load of the machine decide a test.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

TRAINERS = Path(__file__).parent / "trainers"
WALK = """\
study: walk
trainer: walk
settings: {{steps: {steps}, seconds_per_step: {seconds_per_step}{more}}}
factors:
  slope: {slopes}
  noise: [0.1, 0.5]
baseline: {{slope: 1.0, noise: 0.1}}
design: full
seeds: {seeds}
metric: {{name: dev/position, smallest_effect: 0.1}}
"""


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ABLATE_") and name != "ABLATE_TEST_ASSETS"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # Two threads that wait for each other crawl on a busy machine, and other bits come out of them.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    if (torch := sys.modules.get("torch")) is not None:
        # Where it is loaded already, the variable comes too late.
        torch.set_num_threads(1)
        torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)


def write_walk(
    folder: Path,
    steps: int = 5,
    seconds_per_step: float = 0.0,
    slopes: str = "[1.0, 2.0]",
    seeds: str = "[1, 2]",
    more: str = "",
) -> Path:
    """Write the walk study (see tests/trainers/walk.py) with some of its values changed; return its path."""
    shutil.copy(TRAINERS / "walk.py", folder)
    path = folder / "walk.yaml"
    path.write_text(
        WALK.format(steps=steps, seconds_per_step=seconds_per_step, slopes=slopes, seeds=seeds, more=more)
    )
    return path


@pytest.fixture
def walk_study(tmp_path: Path) -> WalkStudy:
    """Write the walk study into the test's folder."""
    return functools.partial(write_walk, tmp_path)


@pytest.fixture(scope="session")
def warm_command_line() -> Iterator[WarmCommandLine]:
    """One process for all tests, which forks one for each command."""
    warm = WarmCommandLine()
    yield warm
    warm.stop()


@pytest.fixture
def ablate(tmp_path: Path, warm_command_line: WarmCommandLine) -> Ablate:
    """Run the command line to its end, in an empty folder."""

    def call(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return warm_command_line.run([*map(str, words)], tmp_path, environment)

    return call


@pytest.fixture
def start_ablate(tmp_path: Path) -> Iterator[StartAblate]:
    """Start the command line and let it run."""
    started: list[subprocess.Popen[str]] = []

    def call(*words: object, **environment: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            cold(*words),
            cwd=tmp_path,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield call
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def run_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunHere:
    """Run a study with one worker in a thread, which starts at once; return `run --json` with its exit code and errors."""
    monkeypatch.setitem(ENGINES, "thread", Entry("thread_engine"))
    before = Path.cwd()

    def call(study: Path, home: str = "runs", **options: Any) -> Json:
        said = io.StringIO()
        os.chdir(before)
        try:
            code, place = run_study(
                study, Options(home=tmp_path / home, engine="thread", **options), Console(file=said)
            )
        finally:
            os.chdir(before)
            # A trainer of the same name in another test's folder is another module.
            for name, module in list(sys.modules.items()):
                if str(getattr(module, "__file__", None)).startswith(f"{tmp_path}/"):
                    del sys.modules[name]
        results = read_results(place)
        return status_document(results) | {"code": code, "said": said.getvalue()}

    return call


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests; each takes a database of its own."""
    server = PostgresServer()
    yield server
    server.stop()
