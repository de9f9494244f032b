"""The training runs of `ablate check`, each in its own process and folder, so that they share nothing but the trainer."""

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.design.cell_settings import Validator
from ablate.design.cells import prefixes_of
from ablate.design.model import Part
from ablate.files import make_folder
from ablate.runner.check.comparisons import (
    FAIL,
    NOT_CHECKED,
    Check,
    first_difference,
    other_seed,
    prefix,
    resume,
    same_seed,
    warm_process,
)
from ablate.runner.check.one_run import Job, Trace, Training, read_trace
from ablate.runner.machine import worker_environment
from ablate.runner.prepare import Prepared
from ablate.runner.supervisor import last_line
from ablate.spec.seeds import further_seeds

# A run that ignores the time limit is killed after this multiple of it, plus the time that starting takes.
PATIENCE, STARTING_S = 2.0, 60.0
# How long a program whose guard was killed may still write.
REMOVING_S = 5.0


@dataclass(frozen=True, eq=False)
class Tried:
    """A part to train, as in the first cell that has it."""

    name: str
    part: Part
    where: str  # the levels in which that cell differs from the reference cell, in words

    @property
    def label(self) -> str:
        """Its name in messages."""
        return f"{self.name} ({self.where})"


class Bench:
    """Trains parts, each in a process and a folder of its own."""

    def __init__(self, prepared: Prepared, folder: Path, limit_s: float, say: Callable[[str], None]) -> None:
        self.limit_s = limit_s
        self.seed, *more = prepared.spec.seeds
        self.other_seeds = list(dict.fromkeys([*more, *further_seeds([self.seed], 2)]))[:2]
        self._spec, self._folder, self.say = prepared.spec, folder, say
        self._validator = Validator(prepared.spec, prepared.trainer)
        self._numbers = itertools.count()

    def train(self, one: Tried, how: str = "", seed: int | None = None, **rest: Any) -> Trace:
        """Train a part. `how`: what to tell the user about the run; `rest`: as in `run`."""
        self.say(f"training {one.label}{how and ', '}{how}")
        workdir = self.new_workdir()
        trace = self.run(one, workdir, self.seed if seed is None else seed, **rest)
        shutil.rmtree(workdir, ignore_errors=True)
        return trace

    def new_workdir(self) -> Path:
        """Return the folder of the next run."""
        return self._folder / str(next(self._numbers))

    def run(
        self,
        one: Tried,
        workdir: Path,
        seed: int,
        stop_at: int | None = None,
        before: tuple[Tried, int, int | None] | None = None,
        save_at: int | None = None,
        kill_after_s: float | None = None,
        ends: Path | None = None,
    ) -> Trace:
        """Train a part in a new process.

        `before`: a part, seed and last step to train first in the same process. `save_at`,
        `kill_after_s`: when it is killed, by step (after a checkpoint) or by the clock.
        `ends`: a folder to save the ends of its prefixes in, and to continue from.
        """

        trace_file = workdir / f"trace-{next(self._numbers)}"
        job = Job(
            trainer=self._spec.trainer,
            study_folder=str(self._spec.folder.resolve()),
            training=self._training(one, workdir / "work", seed, stop_at, ends),
            trace=str(trace_file),
            before=self._training(before[0], workdir / "before", *before[1:]) if before else None,
            save_at=save_at,
            kill_after_s=kill_after_s,
        )
        make_folder(workdir)
        log = workdir / "log"
        code = _run_process(job, log, (2 if before else 1) * PATIENCE * self.limit_s + STARTING_S)
        killed = job.is_to_be_killed and code == -signal.SIGKILL
        trace = read_trace(trace_file, killed)
        if code is None:
            trace.cut = True
        elif not killed and not trace.has_ended:
            trace.error = f"its process died ({_cause(code)}); {last_line(log)}"
        if trace.metrics is not None:
            files = sorted((workdir / "work" / "predictions").glob("*.csv"))
            trace.predictions = {file.name: file.read_bytes() for file in files}
        return trace

    def _training(
        self, one: Tried, workdir: Path, seed: int, stop_at: int | None, ends: Path | None = None
    ) -> Training:
        return Training(
            one.part.settings,
            seed,
            str(workdir),
            str(workdir.parent / "cache"),
            self.limit_s,
            stop_at,
            self.prefixes(one),
            None if ends is None else str(ends),
        )

    def prefixes(self, one: Tried) -> dict[str, str]:
        """Return the prefixes of a part: name -> hash."""
        return prefixes_of(one.part, self._validator)


def _run_process(job: Job, log: Path, patience_s: float) -> int | None:
    """Do a job and return its exit code; None if it took too long. However this ends, it leaves no process behind."""
    with log.open("ab") as errors:
        process = subprocess.Popen(
            # -P: modules in the working directory are not imported.
            [sys.executable, "-P", "-m", "ablate.runner.check.one_run"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=worker_environment(1),
            start_new_session=True,
        )
    assert process.stdin is not None
    try:
        # The process may die at once. The pipe stays open: when it closes, the process knows that its parent is gone.
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(job.to_json().encode() + b"\n")
            process.stdin.flush()
        return process.wait(patience_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        # Kill its children too: they outlive a process that was killed.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def _cause(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a folder that is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="ablate-check-"))
    try:
        yield folder
    finally:
        ends = time.monotonic() + REMOVING_S
        while folder.exists() and time.monotonic() < ends:
            shutil.rmtree(folder, ignore_errors=True)


class Probes:
    """The further runs of one part, which are compared with its first."""

    def __init__(self, bench: Bench, one: Tried, first: Mapping[Tried, Trace]) -> None:
        """`first`: the first run of each part."""
        self.predictions: dict[str, dict[str, bytes]] = {}  # of the runs with other seeds
        self.one = one
        self._bench, self._firsts, self._first = bench, first, first[one]
        self._others = [other for other, trace in first.items() if other is not one and _trained(trace)]
        # A run that was cut short is cut at the same step again.
        self._stop_at = self._first.last_step if self._first.cut else None

    def checks(self) -> list[Check]:
        """Return the results of the checks."""
        if not _trained(self._first):
            why = "it does not train" if self._first.error else "it took no step within the limit"
            return [
                Check(name, NOT_CHECKED, why)
                for name in ("same seed", "other seed", "resume", "warm process")
            ]
        again = self._train("the same seed again")
        answers = [same_seed(self._first, again), self._other_seed()]
        if again.error is None and first_difference(self._first, again) is None:
            return [*answers, self._resume(), self._warm_process(), *self._prefix()]
        why = "two runs with the same seed already differ without a kill or an earlier run"
        return [*answers, *(Check(name, NOT_CHECKED, why) for name in ("resume", "warm process"))]

    def _other_seed(self) -> Check:
        traces: dict[int, Trace] = {}
        for seed in self._bench.other_seeds:
            traces[seed] = self._train(f"seed {seed}", seed=seed)
            if traces[seed].metrics is not None:
                self.predictions[f"{self.one.label}, seed {seed}"] = traces[seed].predictions
            answer = other_seed(self._first, traces)
            # Two seeds may agree by chance, such as in an accuracy over a few items.
            if answer.result != FAIL or traces[seed].error:
                break
        return answer

    def _resume(self) -> Check:
        self._bench.say(f"training {self.one.label}, killed and started again")
        workdir, seed = self._bench.new_workdir(), self._bench.seed
        steps = [step for step, _ in self._first.steps]
        when: dict[str, Any] = (
            {"save_at": steps[(len(steps) - 1) // 2]} if steps else {"kill_after_s": self._first.seconds / 2}
        )
        killed = self._bench.run(self.one, workdir, seed, self._stop_at, **when)
        resumed = killed if killed.error else self._bench.run(self.one, workdir, seed, self._stop_at)
        shutil.rmtree(workdir, ignore_errors=True)
        return resume(self._first, killed, resumed)

    def _warm_process(self) -> Check:
        one, seed = self.one, self._bench.other_seeds[0]
        other = next((other for other in self._others if other.name == one.name), (*self._others, one)[0])
        before = other, seed, self._stop_at
        trace = self._train("after another in the same process", before=before)
        return warm_process(self._first, trace, f"{other.label} with seed {seed}")

    def _prefix(self) -> list[Check]:
        """Return one check if another part begins like this one."""
        alike = [other for other in self._others if self._common(other)]
        if not alike:
            return []
        # One that does not keep what `prefixes` promises, if there is any.
        another = next((other for other in alike if not self._begins_like(other)), alike[0])
        seed, workdir = self._bench.seed, self._bench.new_workdir()
        self._bench.say(f"training {self.one.label}, continued from {another.label}")
        _, continued = (
            self._bench.run(part, workdir / name, seed, self._stop_at, ends=workdir / "ends")
            for name, part in (("another", another), ("this", self.one))
        )
        shutil.rmtree(workdir, ignore_errors=True)
        return [prefix(self._first, continued, another.label)]

    def _common(self, other: Tried) -> list[str]:
        """Return the names of the prefixes that another part shares, first to last."""
        mine, its = (self._bench.prefixes(one) for one in (self.one, other))
        return [name for name, hash_ in mine.items() if its.get(name) == hash_]

    def _begins_like(self, other: Tried) -> bool:
        """Return whether another part reported the same up to the end of the last prefix that both share."""
        one, its = self._first, self._firsts[other]
        end = max((one.ends[name] for name in self._common(other) if name in one.ends), default=0)
        early = [key for key in one.points | its.points if key[0] <= end]
        return all(repr(one.points.get(key)) == repr(its.points.get(key)) for key in early)

    def _train(self, how: str, **rest: Any) -> Trace:
        return self._bench.train(self.one, how, stop_at=self._stop_at, **rest)


def _trained(trace: Trace) -> bool:
    return trace.error is None and (trace.metrics is not None or trace.last_step is not None)
