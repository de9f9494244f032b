"""One training run of `ablate check`, in its own process: `python -m ablate.runner.check.one_run`, with the job on stdin.

The process works like a worker, with the same contexts and checkpoints, but without a trial. Events are written to a file line
by line, since the job may require that the process is killed midway."""

import dataclasses
import json
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablate.contract import Stopped, Trainer, load_trainer
from ablate.runner.cadence import Cadence
from ablate.runner.context import Owner, PartContext
from ablate.runner.machine import choose_device, gpus_for
from ablate.runner.outcome import finite, reason
from ablate.runner.prefix_files import PrefixFiles


@dataclass(frozen=True)
class Training:
    """A part to train with one seed, and when to ask it to stop."""

    settings: dict[str, Any]
    seed: int
    workdir: str
    cache: str
    limit_s: float
    stop_at: int | None = None  # the step to stop at; None: train to the end
    prefixes: dict[str, str] = field(default_factory=dict)  # name -> hash
    ends: str | None = None  # folder to save the ends of prefixes in and to continue from; None: neither


@dataclass(frozen=True)
class Job:
    """What one process does."""

    trainer: str
    study_folder: str
    training: Training
    trace: str  # the file to write events to
    before: Training | None = None  # another part, trained first in the same process
    save_at: int | None = None  # step to save at; at the next step the process is killed
    kill_after_s: float | None = None

    @property
    def is_to_be_killed(self) -> bool:
        """Whether the process will be killed before it ends."""
        return self.save_at is not None or self.kill_after_s is not None

    def to_json(self) -> str:
        """Return the job on one line."""
        return json.dumps(dataclasses.asdict(self))


def read_job(line: bytes) -> Job:
    """Return the job that `to_json` wrote."""
    fields = json.loads(line)
    before = fields.pop("before")
    training = Training(**fields.pop("training"))
    return Job(training=training, before=Training(**before) if before else None, **fields)


@dataclass
class Trace:
    """What was recorded of a training run."""

    points: dict[tuple[int, str], float] = field(default_factory=dict)  # (step, curve) -> value
    steps: list[tuple[int, float]] = field(default_factory=list)  # each step that was reported, and its time
    metrics: dict[str, float] | None = None  # None: it did not finish
    predictions: dict[str, bytes] = field(default_factory=dict)  # file name -> content
    error: str | None = None
    error_before: str | None = None  # of the part trained first in the same process
    cut: bool = False  # stopped before its end, as the job asked
    saved: int | None = None  # step of the checkpoint
    restored: list[str] | None = None  # names in the state that it resumed from; None: it did not resume
    device: str = "cpu"
    seconds: float = 0.0
    ends: dict[str, int] = field(default_factory=dict)  # prefix -> its last step

    @property
    def has_ended(self) -> bool:
        """Whether the trainer returned, stopped or failed; else its process died."""
        errors = self.error, self.error_before
        return self.metrics is not None or self.cut or errors != (None, None)

    @property
    def last_step(self) -> int | None:
        """The last step that was reported; None if the trainer reports none."""
        return self.steps[-1][0] if self.steps else None


def read_trace(file: Path, killed: bool = False) -> Trace:
    """Return what a process wrote. If it was `killed`, points after its checkpoint are left out, since a run loses them."""
    lines = file.read_bytes().splitlines() if file.is_file() else []
    if killed:
        saved = [index for index, line in enumerate(lines) if line.startswith(b'{"saved"')]
        lines = [line for line in lines[: saved[0] + 1] if line] if saved else []
    trace = Trace()
    for line in lines:
        _add(trace, json.loads(line))
    return trace


def _add(trace: Trace, event: dict[str, Any]) -> None:
    if "point" in event:
        step, values = event["point"]
        trace.points.update({(step, name): value for name, value in values.items()})
    elif "end" in event:
        name, step = event["end"]
        trace.ends[name] = step
    elif "step" in event:
        trace.steps.append((event["step"], event["at"]))
    else:
        for name, value in event.items():
            setattr(trace, name, value)


class Writer:
    """Writes events to the trace."""

    def __init__(self, file: str | None) -> None:
        self._out = os.open(file or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def __call__(self, **event: Any) -> None:
        """Write an event and flush it."""
        os.write(self._out, json.dumps(event).encode() + b"\n")


class SaveOnce(Cadence):
    """A checkpoint is due once, from step `save_at` on."""

    def __init__(self, save_at: int | None, write: Writer) -> None:
        super().__init__(math.inf)
        self.step, self.has_saved = 0, False
        self._save_at, self._write = save_at, write

    def is_due(self) -> bool:
        """Return whether to save now."""
        return self._save_at is not None and not self.has_saved and self.step >= self._save_at

    def saved(self, took_s: float) -> None:
        """Note that it is done."""
        self.has_saved = True
        self._write(saved=self.step)


class Observer(Owner):
    """Records everything reported; stops training at its step or time limit, or kills the process one step after a save."""

    def __init__(self, training: Training, cadence: SaveOnce, write: Writer) -> None:
        self._stop_at = math.inf if training.stop_at is None else training.stop_at
        self._ends = time.monotonic() + training.limit_s
        self._cadence, self._write = cadence, write

    def is_stopping(self) -> bool:
        """Return whether to save and stop."""
        return self._cadence.step >= self._stop_at or time.monotonic() >= self._ends

    def should_prune(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Note a point; never prune."""
        self._write(point=[step, dict(metrics)])
        return False

    def stepped(self, step: int, latest: Mapping[str, float]) -> None:
        """Note a step."""
        if self._cadence.has_saved:
            os.kill(os.getpid(), signal.SIGKILL)
        self._cadence.step = step
        self._write(step=step, at=time.perf_counter())


class ProbeEnds(PrefixFiles):
    """The ends of prefixes, all saved or none."""

    def __init__(self, training: Training) -> None:
        super().__init__(Path(training.ends or training.workdir), training.prefixes, training.seed, print)
        self._are_saved = training.ends is not None

    def is_needed(self, name: str) -> bool:
        """Return whether the job is to save it."""
        return self._are_saved


class ProbeContext(PartContext):
    """A part's context that also records what training resumes from, and where its prefixes end."""

    def __init__(self, owner: Owner, write: Writer, **rest: Any) -> None:
        super().__init__(owner, **rest)
        self._write = write

    def restore(self) -> dict[str, Any] | None:
        """Return the state saved last, or None."""
        state = super().restore()
        if state is not None:
            self._write(restored=[str(name) for name in state])
        return state

    def prefix(self, name: str, step: int, state: Callable[[], dict[str, Any]]) -> None:
        """Note that a prefix ends; save its end if the job says so."""
        super().prefix(name, step, state)
        self._write(end=[name, self.steps])


def main() -> int:
    """Do the job on stdin."""
    # What a trainer prints goes to stderr.
    os.dup2(2, 1)
    job = read_job(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    trainer = load_trainer(job.trainer, Path(job.study_folder))
    # Relative paths in a study start at its file.
    os.chdir(job.study_folder)
    if job.before is not None and (failed := _train(trainer, job.before, Writer(None), None)):
        Writer(job.trace)(error_before=failed)
        return 0
    if job.kill_after_s is not None:
        threading.Timer(job.kill_after_s, os.kill, (os.getpid(), signal.SIGKILL)).start()
    _train(trainer, job.training, Writer(job.trace), job.save_at)
    return 0


def _end_with_the_parent() -> None:
    while os.read(0, 4096):
        continue
    os.killpg(0, signal.SIGKILL)


def _train(trainer: Trainer, training: Training, write: Writer, save_at: int | None) -> str | None:
    """Train a part; return why it failed, if it did."""
    cadence = SaveOnce(save_at, write)
    settings = trainer.Settings.model_validate(training.settings)
    context = ProbeContext(
        Observer(training, cadence, write),
        write,
        seed=training.seed,
        device=choose_device(),
        gpus=gpus_for(trainer.gpus(settings)),
        workdir=Path(training.workdir),
        cache=Path(training.cache),
        cadence=cadence,
        prefixes=ProbeEnds(training) if training.prefixes else None,
    )
    write(device=context.device)
    try:
        metrics = finite(trainer.train(settings, context), "the trainer")
    except Stopped:
        _kill_if(save_at)
        write(cut=True, seconds=context.seconds)
    # A trainer's `exit(0)` would look as if the job were done.
    except (Exception, SystemExit) as error:
        failed = reason(error, context.steps, Path(trainer.file).parent)
        write(error=failed)
        return failed
    else:
        _kill_if(save_at)
        write(metrics=metrics, seconds=context.seconds)
    return None


def _kill_if(save_at: int | None) -> None:
    """Kill the process if it was to be killed but made no step after its save."""
    if save_at is not None:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
