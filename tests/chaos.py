"""Kill -9 at random instants: workers, the supervisor, both, again and again, until a study is done.

Seeded: the same seed gives the same victims and waits, not the same instants. What a trial did step by step stands in its
`steps.log` (see trainers/walk.py), written before anything else could be lost."""

import contextlib
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from history import Witness
from warm_cli import cold

from ablate.store.places import place_of


@dataclass
class Chaos:
    """One study, run and killed; figures of what it cost."""

    study: Path
    workers: int
    kills: int
    seed: int
    mean_wait_s: float = 0.4
    environment: Mapping[str, str] = field(default_factory=dict)
    killed: int = 0

    def __post_init__(self) -> None:
        storage = self.environment.get("ABLATE_STORAGE")
        self.witness = Witness(place_of(self.study.stem, self.study.parent / "runs", storage))

    def run(self) -> None:
        """Kill `kills` times, then let the study come to its end, and hold its history against what may happen."""
        rng = random.Random(self.seed)
        supervisor = self._start()
        try:
            while self.killed < self.kills:
                self._wait_for_training(supervisor, rng)
                time.sleep(rng.expovariate(1 / self.mean_wait_s))
                if supervisor.poll() is not None:
                    assert supervisor.returncode in (0, -9), self._log().read_text()
                    if supervisor.returncode == 0:
                        break  # done before its time
                    supervisor = self._start()
                self._kill(rng.choices(["worker", "supervisor", "all"], [6, 2, 1])[0], supervisor, rng)
            # A study that hangs is for pytest's time limit: on a busy machine, hundreds of kills take an hour.
            while supervisor.wait() == -signal.SIGKILL:
                supervisor = self._start()
            assert supervisor.returncode == 0, self._log().read_text()
        finally:
            supervisor.kill()
            supervisor.wait()
        assert self.witness.violations() == []

    def _wait_for_training(self, supervisor: subprocess.Popen[bytes], rng: random.Random) -> None:
        """Let some training happen, mostly: a worker takes a while to start, and a kill at birth costs nothing."""
        # Not by a clock: on a busy machine every kill would come at birth, and a run gives up such a worker.
        if rng.random() < 0.1:
            return
        before = self._steps()
        while supervisor.poll() is None:
            now = self._steps()
            # A kill of all hits a part that is being prepared too, always after about the same time: a trial that dies there
            # four times is given up.
            if now != before and None not in now.values():
                return
            time.sleep(0.02)

    def _steps(self) -> dict[Path, int | None]:
        """Return the step that every part being trained has reached; None before its first step."""
        return {note: _step(note) for note in self.study.parent.glob("runs/*/trials/*/reached.txt")}

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log().open("ab") as log:
            return subprocess.Popen(
                cold("run", self.study, "--workers", self.workers),
                cwd=self.study.parent,
                env={**os.environ, "ABLATE_CHECKPOINT_SECONDS": "0.1", **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _log(self) -> Path:
        return self.study.parent / "chaos.log"

    def _kill(self, victim: str, supervisor: subprocess.Popen[bytes], rng: random.Random) -> None:
        self.witness.look()
        workers = children(supervisor.pid)
        if victim == "worker" and not workers:
            return
        # Mostly one that trains: a run gives up a worker that dies four times before it takes a trial.
        training = [pid for pid in workers if is_training(pid)] if rng.random() < 0.9 else []
        pids = {"worker": [rng.choice(training or workers or [0])], "supervisor": [supervisor.pid]}
        for pid in pids.get(victim, [*workers, supervisor.pid]):
            os.kill(pid, signal.SIGKILL)
            self.killed += 1
        if victim != "worker":
            supervisor.wait()

    def steps_computed(self) -> int:
        """Return how many steps were computed, those that a kill took and those that replaced them included."""
        return sum(log.read_bytes().count(b"\n") for log in self._step_logs())

    def most_recomputed(self) -> int:
        """Return the most steps that one kill cost."""
        return max((back for log in self._step_logs() for back in _steps_back(log.read_text())), default=0)

    def _step_logs(self) -> list[Path]:
        return sorted(self.study.parent.glob("runs/*/trials/*/steps.log"))


def _steps_back(log: str) -> list[int]:
    steps = [int(step) for step in re.findall(r" (\d+)$", log, re.MULTILINE)]
    return [before - after + 1 for before, after in pairwise(steps) if after <= before]


def is_training(pid: int) -> bool:
    """Return whether a worker has taken a step of its trial: it keeps the note of how far it got open."""
    try:
        files = [Path(os.readlink(file)) for file in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return False
    return any(file.name == "reached.txt" and _step(file) is not None for file in files)


def _step(note: Path) -> int | None:
    """Return the step in a note of how far training has got; None before the first step."""
    # It is removed as soon as the trial is complete.
    with contextlib.suppress(OSError, ValueError):
        step = int(note.read_text())
        return step if step >= 0 else None
    return None


def children(pid: int) -> list[int]:
    """Return the processes that a process started and that live."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
