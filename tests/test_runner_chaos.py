"""Nothing is lost, whoever is killed, frozen or started twice, whatever write fails."""

import fcntl
import functools
import hashlib
import itertools
import json
import os
import pty
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import thread_engine
from chaos import Chaos, children
from conftest import write_walk
from fixture_types import Ablate, Json, RunHere, StartAblate, WalkStudy, not_none
from history import assert_history
from hypothesis import HealthCheck, settings, strategies
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from postgres_server import PostgresServer
from test_runner_checkpoint import damages
from test_runner_run import metrics, running_workers, trained, wait_for
from warm_cli import cold

from ablate.runner import checkpoint, process
from ablate.runner.checkpoint import load_checkpoint, save_checkpoint
from ablate.store.places import place_of
from ablate.store.reading import read_results, study_names
from ablate.store.results import TrialResult


def assert_nothing_lost(
    chaos: Chaos, document: Json, reference: Json, steps: int, seconds_per_step: float
) -> None:
    """Hold a study that went through chaos against one that nobody disturbed."""
    assert chaos.killed >= chaos.kills, "done before its time"
    assert document["planned"] == document["complete"] == len(reference["trials"])
    assert len({(trial["cell"], trial["seed"]) for trial in document["trials"]}) == document["planned"]
    assert metrics(document) == metrics(reference)  # to the last bit
    # Every kill costs at most the steps between two checkpoints 0.1 s apart, and one more that was not noted.
    assert chaos.most_recomputed() <= 0.1 / seconds_per_step + 2, chaos.most_recomputed()
    lost = chaos.steps_computed() - steps * document["planned"]
    print(
        f"{chaos.killed} kills, {document['complete']}/{document['planned']} trials identical, "
        f"{lost / chaos.killed:.2f} steps recomputed a kill, at most {chaos.most_recomputed()}"
    )


def test_kills_at_random_instants_change_no_bit(
    run_here: RunHere, ablate: Ablate, walk_study: WalkStudy
) -> None:
    reference = run_here(walk_study(steps=80, seeds="[1]"), home="reference")
    study = walk_study(steps=80, seconds_per_step=0.03, seeds="[1]")
    chaos = Chaos(study, workers=2, kills=6, seed=1, mean_wait_s=0.2)
    chaos.run()
    document = json.loads(ablate("status", "walk", "--json").stdout)
    assert_nothing_lost(chaos, document, reference, 80, 0.03)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_200_kills_change_no_bit(
    run_here: RunHere,
    ablate: Ablate,
    walk_study: WalkStudy,
    postgres: PostgresServer,
    seed: int,
    backend: str,
) -> None:
    size: dict[str, Any] = {"steps": 500, "slopes": "[1.0, 2.0, 3.0, 4.0]", "seeds": "[1, 2, 3]"}
    reference = run_here(walk_study(**size), home="reference")
    study = walk_study(**size, seconds_per_step=0.03)
    environment = {"ABLATE_STORAGE": postgres.new_database()} if backend == "postgresql" else {}
    chaos = Chaos(study, workers=2, kills=200, seed=seed, mean_wait_s=0.3, environment=environment)
    chaos.run()
    document = json.loads(ablate("status", "walk", "--json", **environment).stdout)
    assert_nothing_lost(chaos, document, reference, 500, 0.03)


REAL = """\
study: real
trainer: ablate.trainer
settings: {encoder: tiny, dropout: 0.1, max_steps: 40, eval_every: 20, max_length: 32,
           training: joint, surgery: pcgrad, keep: model,
           data: {sentiment: {limit: {train: 120}}, paraphrase: {limit: {train: 120}}, similarity: {limit: {train: 120}}}}
factors: {reshuffle: [false, true]}
baseline: {reshuffle: false}
design: full
seeds: [11]
metric: {name: dev/mean}
"""


@pytest.mark.slow
def test_kills_change_no_weight_of_the_real_trainer(tmp_path: Path) -> None:
    study = tmp_path / "real.yaml"
    study.write_text(REAL)
    subprocess.run(cold("run", study, "--home", "reference"), cwd=tmp_path, check=True)
    # Threads are part of what bits depend on: one worker has all cores in both.
    chaos = Chaos(study, workers=1, kills=5, seed=1, mean_wait_s=1.0)
    chaos.run()
    assert chaos.killed == 5
    digests = weight_digests(tmp_path / "reference")
    assert len(set(digests.values())) == len(digests)  # reshuffling made a difference
    assert weight_digests(tmp_path / "runs") == digests
    print(f"real trainer: {chaos.killed} kills, {len(digests)} files of weights identical")


def weight_digests(home: Path) -> dict[str, str]:
    files = sorted((home / "real/trials").glob("*/model/**/*.safetensors"))
    assert len(files) >= 2
    return {str(file.relative_to(home)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def trials(tmp_path: Path) -> tuple[TrialResult, ...]:
    place = place_of("walk", tmp_path / "runs")
    return read_results(place).trials


def states(tmp_path: Path) -> list[str]:
    return [trial.state for trial in trials(tmp_path)]


def test_a_frozen_worker_keeps_its_trial(
    start_ablate: StartAblate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    study = walk_study(steps=30, seconds_per_step=0.02, seeds="[1]")
    first = start_ablate("run", study, "--only", "slope=1.0", "--only", "noise=0.1")
    wait_for(lambda: list(tmp_path.glob("runs/walk/trials/*/steps.log")))
    (worker,) = children(first.pid)
    os.kill(worker, signal.SIGSTOP)
    second = start_ablate("run", study)
    wait_for(lambda: states(tmp_path).count("COMPLETE") == 3)
    assert second.poll() is None  # it waits: the owner may die
    os.kill(worker, signal.SIGCONT)
    assert (first.wait(), second.wait()) == (0, 0)
    assert [trial.attempts for trial in trials(tmp_path)] == [1] * 4


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["sqlite", "postgresql"])
def test_a_living_worker_takes_over_within_two_seconds(
    ablate: Ablate,
    start_ablate: StartAblate,
    walk_study: WalkStudy,
    tmp_path: Path,
    postgres: PostgresServer,
    backend: str,
) -> None:
    """Two runs of one trial: one trains, the other waits. Each time the owner is killed."""
    study = walk_study(steps=4000, seconds_per_step=0.02, slopes="[1.0, 2.0]", seeds="[1]")
    environment = {"ABLATE_CHECKPOINT_SECONDS": "0.1"}
    if backend == "postgresql":
        environment["ABLATE_STORAGE"] = postgres.new_database()
    only = ("--only", "slope=1.0", "--only", "noise=0.1")
    runs = [start_ablate("run", study, *only, **environment) for _ in range(2)]
    took = []
    for _ in range(20):
        wait_for(lambda: running_workers(tmp_path))
        time.sleep(3)  # until the other has started, and waits
        owner = running_workers(tmp_path)[0]
        os.kill(owner, signal.SIGKILL)
        began = time.monotonic()
        wait_for(functools.partial(runs_without, owner, tmp_path))
        took.append(time.monotonic() - began)
    for run in runs:
        run.send_signal(signal.SIGTERM)
        assert run.wait() == 143
    print(f"{backend}: {len(took)} takeovers, {statistics.median(took):.2f} s, at most {max(took):.2f} s")


def runs_without(owner: int, tmp_path: Path) -> bool:
    return any(pid != owner for pid in running_workers(tmp_path))


def trains_again(before: int, tmp_path: Path) -> bool:
    return len(trained(tmp_path)) > before


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_costs_one_step_and_one_save(
    run_here: RunHere,
    start_ablate: StartAblate,
    walk_study: WalkStudy,
    tmp_path: Path,
    number: signal.Signals,
    code: int,
) -> None:
    reference = run_here(walk_study(steps=100, seeds="[1]"), home="reference", limit=1)
    study = walk_study(steps=100, seconds_per_step=0.2, seeds="[1]")
    took, steps = [], []
    for _ in range(10):
        before = len(trained(tmp_path))
        run = start_ablate("run", study)
        wait_for(functools.partial(trains_again, before, tmp_path))
        time.sleep(0.5)
        done = Chaos(study, 1, 0, 0).steps_computed()
        run.send_signal(number)
        began = time.monotonic()
        assert run.wait() == code
        took.append(time.monotonic() - began)
        steps.append(Chaos(study, 1, 0, 0).steps_computed() - done)
    assert max(steps) <= 1
    assert set(states(tmp_path)) == {"WAITING"}
    assert metrics(run_here(study, limit=1)) == metrics(reference)
    print(f"{len(took)} × {number.name}: {statistics.median(took):.2f} s to the end, steps of 0.2 s, "
          f"at most {max(took):.2f} s and {max(steps)} more step")  # fmt: skip


@pytest.mark.slow
def test_a_damaged_checkpoint_changes_no_bit(
    run_here: RunHere, walk_study: WalkStudy, tmp_path: Path
) -> None:
    study = walk_study(steps=6, seeds="[1]")
    reference = metrics(run_here(study, home="reference", limit=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ABLATE_CHECKPOINT_SECONDS", "0")
        patch.setattr(thread_engine, "STOP_AFTER", 3)
        run_here(study, home="stopped", limit=1)
    (newest,) = (tmp_path / "stopped").glob("walk/trials/*/step-*3.checkpoint")
    kinds = list(damages(newest.read_bytes()))
    assert len(kinds) >= 300
    for damaged in kinds:
        copy = shutil.copytree(tmp_path / "stopped", tmp_path / "damaged")
        (copy / newest.relative_to(tmp_path / "stopped")).write_bytes(damaged)
        document = run_here(study, home="damaged", limit=1)
        assert "damaged checkpoint skipped" in document["said"]
        assert metrics(document) == reference
        assert (
            "from 2" in (copy / newest.relative_to(tmp_path / "stopped")).with_name("trained.log").read_text()
        )
        shutil.rmtree(copy)
    print(f"{len(kinds)} damaged checkpoints: each skipped and named, each rerun identical")


def test_workers_finish_a_study_whose_supervisor_is_frozen(
    start_ablate: StartAblate, ablate: Ablate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    seeds = list(range(1, 9))
    study = walk_study(steps=20, seconds_per_step=0.01, seeds=str(seeds))
    run = start_ablate("run", study, "--workers", 2)
    wait_for(lambda: len(running_workers(tmp_path)) == 2)
    run.send_signal(signal.SIGSTOP)  # as a terminal's Ctrl-S does in the end
    # The smallest pipes there are: full after a few trials.
    pipes = [fd for fd in Path(f"/proc/{run.pid}/fd").iterdir() if os.readlink(fd).startswith("pipe:")]
    assert len(pipes) >= 4
    for pipe in pipes:
        with pipe.open("rb") as end:
            fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 4096)
    wait_for(lambda: states(tmp_path).count("COMPLETE") == 4 * len(seeds))
    assert run.poll() is None
    # A second run has nothing left to do, and takes nothing over.
    assert ablate("run", study).returncode == 0
    run.send_signal(signal.SIGCONT)
    output = "".join(run.communicate())
    assert run.returncode == 0
    assert output.count("dev/position ") == 4 * len(seeds), output
    assert [trial.attempts for trial in trials(tmp_path)] == [1] * 4 * len(seeds)


@pytest.mark.timeout(30)
def test_a_terminal_that_ctrl_s_has_stopped_does_not_hold_up_a_worker(
    ablate: Ablate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    ablate("run", walk_study(), "--limit", "0")
    ours, theirs = pty.openpty()
    termios.tcflow(theirs, termios.TCOOFF)
    command = [sys.executable, "-m", "ablate", "worker", "walk"]
    worker = subprocess.Popen(command, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs)
    place = place_of("walk", tmp_path / "runs")
    wait_for(lambda: all(trial.state == "COMPLETE" for trial in read_results(place).trials))
    termios.tcflow(theirs, termios.TCOON)
    assert worker.wait() == 0
    os.close(ours)
    os.close(theirs)


def test_a_frozen_supervisor_does_not_hold_up_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "STEP_EVENT_S", 0.0)
    unread, written = os.pipe()
    events = process.Events(written)
    for step in range(5000):  # more than a pipe holds
        events("step", step=step, latest={"loss": 0.5})
    os.close(unread)
    os.close(written)


def test_no_event_blocks_when_nobody_reads_and_none_is_lost_once_somebody_does() -> None:
    read, written = os.pipe()
    events = process.Events(written)
    for number in range(5000):
        events("complete", number=number, metrics={"dev/position": 1.0})
    reader = threading.Thread(target=lambda: lines.extend(iter(stream.readline, "")))
    lines: list[str] = []
    stream = open(read)  # noqa: SIM115  # closed below
    reader.start()
    events.finish()
    os.close(written)
    reader.join()
    stream.close()
    assert [json.loads(line)["number"] for line in lines] == list(range(5000))


# Failing writes


@pytest.mark.parametrize("name", ["fsync", "replace"])
def test_a_save_that_fails_anywhere_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    save_checkpoint(tmp_path, 1, {"step": 1})
    real = getattr(os, name)
    for nth in itertools.count(1):
        calls = itertools.count(1)

        def failing(*arguments: Any, calls: Iterator[int] = calls, nth: int = nth) -> Any:
            if next(calls) == nth:
                raise OSError(28, os.strerror(28))
            return real(*arguments)

        monkeypatch.setattr(os, name, failing)
        try:
            save_checkpoint(tmp_path, 2, {"step": 2})
        except OSError:
            assert not_none(load_checkpoint(tmp_path))["step"] in (1, 2)
            assert not list(tmp_path.glob(".*")), "no half-written file is left"
        else:
            break
    assert nth > 1
    assert load_checkpoint(tmp_path) == {"step": 2}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "every"), [("fsync", 1), ("rename", 1), ("fdatasync", 3), ("ftruncate", 3), ("pwrite64", 11)]
)
def test_any_failing_system_call_is_explained_and_the_rerun_is_identical(
    run_here: RunHere, walk_study: WalkStudy, tmp_path: Path, call: str, every: int
) -> None:
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    study = walk_study(steps=2, seeds="[1]")
    reference = metrics(run_here(study, home="reference"))
    for nth in itertools.count(1, every):
        home = tmp_path / f"{call}-{nth}"
        run_here(study, home=home.name, limit=0)
        inject = f"inject={call}:error={'EIO' if nth % 2 else 'ENOSPC'}:when={nth}"
        traced = ["strace", "-f", "-qq", "-o", str(tmp_path / "strace"), "-e", f"trace={call}", "-e", inject]
        done = subprocess.run(
            [*traced, *cold("worker", "walk", "--home", home)],
            cwd=tmp_path,
            env=os.environ | {"ABLATE_CHECKPOINT_SECONDS": "0"},
            capture_output=True,
            text=True,
        )
        if "(INJECTED)" not in (tmp_path / "strace").read_text():
            break
        assert "Traceback" not in done.stderr, done.stderr
        assert metrics(run_here(study, home=home.name)) == reference
    assert nth > 3 * every
    print(f"{call}: {len(range(1, nth, every))} failures of {nth} calls, each rerun identical")


# Freezes, clocks, several at once


def test_nothing_depends_on_a_wall_clock() -> None:
    rooms = Path(checkpoint.__file__).parents[1]
    clocks = re.compile(r"time\.time\(|datetime\.now\(|utcnow\(|st_[amc]time\b")
    allowed = {
        "timing.py",
        "optuna_tables.py",
        "test_split.py",
        "logs.py",
        "doctor.py",
        # Which file is the oldest, where losing any of them loses no work.
        "prefix_files.py",
    }  # when something happened, for people to read
    files = [file for room in ("runner", "store") for file in (rooms / room).rglob("*.py")]
    assert [file.name for file in files if clocks.search(file.read_text()) and file.name not in allowed] == []


# Anything in any order

STEPS = 30


class Life(RuleBasedStateMachine):
    """What a study goes through: started (twice, too), killed, frozen, edited, its files lost, looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="life"))
        self.study = write_walk(self.folder, steps=STEPS, seconds_per_step=0.02, seeds="[1]")
        self.runs: list[subprocess.Popen[bytes]] = []
        self.frozen: set[int] = set()

    @precondition(lambda self: len(self.runs) < 2)
    @rule()
    def start(self) -> None:
        self.runs.append(self.ablate("run", self.study, "--workers", 2))

    @rule(choice=strategies.integers(0, 10), seconds=strategies.floats(0, 1.5))
    def kill(self, choice: int, seconds: float) -> None:
        time.sleep(seconds)
        if alive := self.alive():
            os.kill(alive[choice % len(alive)], signal.SIGKILL)

    @rule(choice=strategies.integers(0, 10))
    def freeze(self, choice: int) -> None:
        if alive := self.alive():
            os.kill(alive[choice % len(alive)], signal.SIGSTOP)
            self.frozen.add(alive[choice % len(alive)])

    @rule()
    def thaw(self) -> None:
        for pid in self.frozen & set(self.alive()):
            os.kill(pid, signal.SIGCONT)
        self.frozen.clear()

    @rule()
    def edit_harmlessly(self) -> None:
        self.study.write_text("# a thought\n" + self.study.read_text())

    @precondition(lambda self: self.recorded())
    @rule()
    def edit_is_refused(self) -> None:
        text = self.study.read_text()
        self.study.write_text(text.replace(f"steps: {STEPS}", "steps: 7"))
        refused = self.ablate("run", self.study)
        assert refused.wait() == 2
        self.study.write_text(text)

    @rule()
    def lose_newest_checkpoint(self) -> None:
        for file in sorted(self.folder.glob("runs/walk/trials/*/step-*.checkpoint"))[-1:]:
            file.unlink(missing_ok=True)

    @precondition(lambda self: self.recorded())
    @rule()
    def report(self) -> None:
        assert self.ablate("report", "walk", "--format", "json").wait() == 0

    @invariant()
    def one_row_per_cell_and_seed(self) -> None:
        if self.recorded():
            rows = [(trial.cell, trial.seed) for trial in trials(self.folder)]
            assert len(rows) == len(set(rows))

    def teardown(self) -> None:
        self.thaw()
        for run in self.runs:
            run.wait()
        assert self.ablate("run", self.study).wait() == 0, self.log.read_text()
        assert_history(place_of("walk", self.folder / "runs"))
        assert {str(trial.factors): trial.metrics for trial in trials(self.folder)} == undisturbed()
        shutil.rmtree(self.folder)

    @property
    def log(self) -> Path:
        return self.folder / "life.log"

    def ablate(self, *words: object) -> subprocess.Popen[bytes]:
        environment = os.environ | {"ABLATE_CHECKPOINT_SECONDS": "0.1"}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                cold(*words),
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def alive(self) -> list[int]:
        self.runs = [run for run in self.runs if run.poll() is None]
        return [pid for run in self.runs for pid in (run.pid, *children(run.pid))]

    def recorded(self) -> bool:
        place = place_of("walk", self.folder / "runs")
        file = place.folder / "study.db"
        return file.exists() and bool(file.stat().st_size) and "walk" in study_names(place.url)


@functools.cache
def undisturbed() -> dict[str, dict[str, float]]:
    folder = Path(tempfile.mkdtemp(prefix="life"))
    subprocess.run(cold("run", write_walk(folder, steps=STEPS, seeds="[1]")), cwd=folder, check=True)
    found = {str(trial.factors): trial.metrics for trial in trials(folder)}
    shutil.rmtree(folder)
    return found


@pytest.mark.slow
def test_no_order_of_events_loses_anything() -> None:
    run_state_machine_as_test(
        Life,
        settings=settings(max_examples=15, stateful_step_count=12, derandomize=True, database=None,
                          suppress_health_check=list(HealthCheck)),
    )  # fmt: skip
