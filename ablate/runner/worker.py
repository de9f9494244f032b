"""A worker: a warm process that takes trials from the store, one after another, until none is left.

The store is the queue and a lock is the claim. For each trial: own it, train the parts that nobody has trained,
combine their metrics, record."""

import contextlib
import faulthandler
import importlib
import math
import os
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.contract import Pruned, Stopped, Trainer
from ablate.design.model import Cell, Part
from ablate.errors import AblateError, StoreError, TrialError
from ablate.files import sync_tree, write_file
from ablate.runner.checkpoint import remove_checkpoints
from ablate.runner.context import Cadence, PartContext, disk_explained, disk_trouble, is_disk_trouble
from ablate.runner.fitting import peak_memory_bytes
from ablate.runner.looking import LOOK_LOCK, look_on
from ablate.runner.ownership import Lost, open_locks
from ablate.runner.provenance import joules_used, machine_facts
from ablate.runner.searching import SEARCH_LOCK, add_next, watch_of
from ablate.store.reading import part_folder
from ablate.store.writing import Claim, NewPart, Queued, Store, Superseded, Trained, lasting

POLL_S = 0.2  # how soon a trial whose owner died is taken over
Emit = Callable[..., None]


@dataclass
class Worker:
    """One process's view of a study: what it trains with, and how it is told to stop."""

    store: Store
    trainer: Trainer
    folder: Path  # the study's, with its artifacts
    stopping: Callable[[], bool]
    emit: Emit  # event name and fields, for whoever watches
    cadence: Cadence

    def __post_init__(self) -> None:
        self.watchdog = Watchdog(self.store.spec.hang_minutes)
        self.locks = open_locks(self.store, self.folder)
        self.device = choose_device()

    def run(self, numbers: Iterable[int] | None = None) -> None:
        """Work until every trial (or every one of `numbers`) has a result, or until asked to stop.

        A trial owned by another worker is waited for: its owner may die."""
        wanted = None if numbers is None else set(numbers)
        while True:
            queue = self.store.queue(wanted)
            advanced = False
            for queued in queue:
                if self.stopping():
                    return
                advanced |= self._try(queued)
            if advanced or (wanted is None and self._planned(queue)):
                continue
            if not queue:
                return
            time.sleep(POLL_S)

    def _planned(self, queue: Collection[Queued]) -> bool:
        """Let a search add what it tries next, or look at a stage that is done; say whether there may be something new."""
        if self.stopping():
            return False
        if self.store.spec.search is not None:
            return _search(self.store, self)
        return self.store.spec.looking is not None and not queue and _look(self.store, self)

    def _try(self, queued: Queued) -> bool:
        """Own a trial and work on it; say whether anything came of it."""
        key = f"trial-{queued.trial_id}"
        if not self.acquire(key):
            return False
        try:
            return Attempt(self, queued, self.store.cell(queued.cell)).work()
        finally:
            self.locks.release(key)

    def acquire(self, key: str) -> bool:
        """Take a lock if no living process has it; in a new session, if locks were taken from this process."""
        if self.locks.lost():
            self.locks.renew()
        return self.locks.acquire(key)

    def owned(self) -> None:
        """Make sure that what this worker trains is still its own.

        Raises:
            Lost: it is not.
        """
        if self.locks.lost():
            raise Lost


@lasting  # and with a new lock each time: a server that restarts takes it away
def _search(store: Store, worker: Worker) -> bool:
    if not worker.acquire(SEARCH_LOCK):
        time.sleep(POLL_S)
        return True
    try:
        return add_next(store, worker.trainer, worker.folder) > 0
    finally:
        worker.locks.release(SEARCH_LOCK)


@lasting
def _look(store: Store, worker: Worker) -> bool:
    if not worker.acquire(LOOK_LOCK):
        time.sleep(POLL_S)
        return True
    try:
        return look_on(store, worker.folder)
    finally:
        worker.locks.release(LOOK_LOCK)


class Watchdog:
    """Ends a process whose trainer told something and then nothing for too long; where it stood goes to the log.

    A trainer that never tells anything cannot be told from one that hangs, and is left alone. What is left of an ended
    process is a dead owner like any other. The interpreter may hang too, so this is not a Python thread."""

    def __init__(self, hang_minutes: float) -> None:
        self._hang_s = min(hang_minutes * 60, threading.TIMEOUT_MAX)
        self._slack_s = min(1.0, self._hang_s / 10)  # setting the alarm again costs more than a step may
        self._set_at = -math.inf

    def heard(self) -> None:
        """Note that training goes on."""
        now = time.monotonic()
        if now - self._set_at > self._slack_s:
            faulthandler.dump_traceback_later(self._hang_s, exit=True, file=2)
            self._set_at = now

    def rest(self) -> None:
        """Note that nothing is being trained."""
        faulthandler.cancel_dump_traceback_later()
        self._set_at = -math.inf


class LifeSign:
    """A note of how far an attempt came, which outlives its process, if not its machine.

    Before the first step it is the CPU time spent, in tenths of a second, below zero; then the last step done. Deaths at one
    and the same place are no accident; a kill from outside strikes anywhere."""

    NAME = "reached.txt"

    def __init__(self, workdir: Path) -> None:
        self._file = os.open(workdir / self.NAME, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._write(-1)
        self._stepped = threading.Event()
        self._preparing = threading.Thread(target=self._prepare, daemon=True)
        self._preparing.start()

    def _prepare(self) -> None:
        began = time.process_time()
        while not self._stepped.wait(0.1):
            self._write(-1 - int(10 * (time.process_time() - began)))

    def step(self, step: int) -> None:
        """Note that a step is done."""
        self._stepped.set()
        self._write(step)

    def _write(self, place: int) -> None:
        with contextlib.suppress(OSError):  # a full disk is told by what matters more
            os.pwrite(self._file, b"%12d" % place, 0)

    def close(self) -> None:
        """End, and leave the note."""
        self._stepped.set()
        self._preparing.join()
        os.close(self._file)

    @classmethod
    def take(cls, workdir: Path) -> int | None:
        """Return the note of the attempt before, and take it away."""
        file = workdir / cls.NAME
        try:
            return int(file.read_text())
        except (OSError, ValueError):
            return None
        finally:
            file.unlink(missing_ok=True)


class Attempt:
    """One owner's work on one trial."""

    def __init__(self, worker: Worker, queued: Queued, cell: Cell) -> None:
        self.worker, self.store, self.locks = worker, worker.store, worker.locks
        self.queued, self.cell = queued, cell
        self.claim: Claim | None = None
        self.part: Part | None = None  # whose lock is held
        self.step = 0

    def work(self) -> bool:
        """Do what can be done of the trial and put it into the state it then has; say whether anything came of it."""
        try:
            return self._advance()
        except (Lost, Superseded):
            self._emit(
                "notice", text=f"trial {self.queued.number}: taken by another worker; going on without it"
            )
        except Stopped:
            self._leave(self.store.release, "released")
        except Pruned:
            self._leave(self.store.prune, "pruned")
            self._tidy()
        except (Exception, SystemExit) as error:  # a trainer's `exit(0)` would look like our end
            if isinstance(error, StoreError):
                self._leave_if_possible()
                raise
            if is_disk_trouble(error):
                self._leave_if_possible()
                raise disk_trouble(self.worker.folder, reason(error, self.step)) from error
            if is_of_a_lost_gpu(error):
                raise  # this process can train nothing any more; its end is a death like any other
            self._fail(error)
        finally:
            self._release_part()
        return True

    def _advance(self) -> bool:
        """Train what parts nobody has trained, then record the trial.

        When others are training what is left, the trial goes back to the queue; nobody waits with a trial in hand."""
        parts = {part.hash: (name, part) for name, part in self.cell.parts.items()}
        while True:
            done = self.store.trained(parts, self.queued.seed)
            left = [part for part in parts if part not in done]
            if not left:
                self._claim()
                if self.claim is not None:
                    self._complete(done, None)
                return True
            mine = next((part for part in left if self.locks.acquire(self._lock(part))), None)
            if mine is None:
                if self.claim is not None:
                    self._leave(self.store.release, "released")
                return self.claim is not None
            name, self.part = parts[mine]
            if mine in self.store.trained([mine], self.queued.seed):  # recorded between our look and our lock
                self._release_part()
                continue
            if not self._begin():
                return True
            new = self._train(name, self.part)
            if left == [mine]:
                self._complete({**done, mine: new.trained}, new)
                return True
            self.store.record_part(new)
            self._tidy()
            self._release_part()

    def _lock(self, part: str) -> str:
        return f"part-{part}-{self.queued.seed}"

    def _begin(self) -> bool:
        """Claim the part that was locked, and the trial if it is not ours yet; say whether it is to be trained."""
        assert self.part is not None
        reached = LifeSign.take(self._workdir())
        if self.claim is None:
            self._claim((self.part.hash, self.queued.seed, reached))
        elif condemned := self.store.begin(self.part.hash, self.queued.seed, reached):
            raise TrialError(condemned)
        return self.claim is not None

    def _claim(self, part: tuple[str, int, int | None] | None = None) -> None:
        """Claim the trial, unless it is ours.

        Raises:
            TrialError: it was tried often enough.
        """
        if self.claim is not None:
            return
        self.claim = self.store.claim(self.queued.trial_id, part)
        if self.claim is None:
            return
        self._emit("trial", seed=self.queued.seed, factors=self.cell.levels)
        if self.claim.condemned:
            raise TrialError(self.claim.condemned)

    def _train(self, name: str, part: Part) -> NewPart:
        worker, seed = self.worker, self.queued.seed

        def on_step(step: int, latest: Mapping[str, float]) -> None:
            worker.owned()
            life.step(step)
            self.step = step
            self._emit("step", part=name, step=step, latest=latest)

        context = PartContext(
            seed=seed,
            device=worker.device,
            workdir=self._workdir(),
            cache=worker.folder / "cache",
            cadence=worker.cadence,
            stopping=worker.stopping,
            add_points=lambda points: self.store.add_points(part.hash, seed, points),
            on_saved=lambda: self.store.progress(part.hash, seed),
            on_step=on_step,
            on_sign=worker.watchdog.heard,
            is_hopeless=watch_of(self.store, worker.folder, self.queued.number),
            notice=lambda line: self._emit("notice", text=line),
        )
        settings = worker.trainer.Settings.model_validate(part.settings)
        self.step = 0
        life = LifeSign(context.workdir)
        joules = joules_used(worker.device)
        try:
            metrics = finite(worker.trainer.train(settings, context), f"part {name!r}")
        finally:
            worker.watchdog.rest()
            life.close()
        worker.owned()
        # Whatever the trainer wrote is on the disk before the database says that it is there.
        with disk_explained(context.workdir):
            sync_tree(context.workdir)
        facts = {
            **machine_facts(worker.trainer.file, worker.device),
            "peak_memory_bytes": peak_memory_bytes(),
            "gpu_energy_joules": joules(),
            **context.facts,
        }
        trained = Trained(metrics, context.seconds, context.steps, facts)
        return NewPart(part.hash, seed, trained, context.points)

    def _complete(self, done: Mapping[str, Trained], new: NewPart | None) -> None:
        """Record the trial, together with the part that was trained last."""
        assert self.claim is not None
        settings = self.worker.trainer.Settings.model_validate(self.cell.settings)
        of_parts = {name: done[part.hash].metrics for name, part in self.cell.parts.items()}
        try:
            metrics = checked(self.worker.trainer.combine(settings, of_parts), self.store.spec.metric.name)
        except Exception:
            if new is not None:  # it is sound all the same
                self.store.record_part(new)
                self._tidy()
                self._release_part()
            raise
        only = next(iter(done)) if len(done) == 1 else None
        self.store.complete(self.claim, metrics, new, curve_of=only)
        self._tidy()
        self._emit("complete", metrics=metrics)

    def _tidy(self) -> None:
        """Remove what only a part in the making needs."""
        if self.part is not None:
            remove_checkpoints(self._workdir())
            LifeSign.take(self._workdir())

    def _fail(self, error: BaseException) -> None:
        if self.claim is None:
            raise error
        folder = self.worker.folder / "trials" / f"{self.queued.cell}-{self.queued.seed}"
        with contextlib.suppress(OSError):  # a courtesy; the reason is in the store
            write_file(folder / "error.txt", traceback.format_exc().encode())
        text = reason(error, self.step)
        if self.part is not None:
            self.store.fail_part(self.part.hash, self.queued.seed, text)
        try:
            self.store.fail(self.claim, text)
        except Superseded:
            return
        self._emit("failed", error=text)

    def _leave(self, put: Callable[[Claim], None], event: str) -> None:
        """Leave the trial without a result, and its part as one whose owner did not die."""
        if self.part is not None:
            self.store.set_aside(self.part.hash, self.queued.seed)
        if self.claim is not None:
            try:
                put(self.claim)
            except Superseded:
                return
            self._emit(event)

    def _leave_if_possible(self) -> None:
        """Leave the trial when disk or database fail: if they cannot take that either, it counts as a death."""
        try:
            self._leave(self.store.release, "released")
        except (StoreError, OSError):
            return

    def _release_part(self) -> None:
        if self.part is not None:
            self.locks.release(self._lock(self.part.hash))
            self.part = None

    def _workdir(self) -> Path:
        assert self.part is not None
        return part_folder(self.worker.folder, self.part.hash, self.queued.seed)

    def _emit(self, event: str, **fields: Any) -> None:
        self.worker.emit(event, number=self.queued.number, **fields)


def reason(error: BaseException, step: int) -> str:
    """Say in one line why a trial failed, and after which step."""
    if isinstance(error, AblateError):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text} ({Path(place.filename).name}:{place.lineno}, after step {step})"


def finite(metrics: Mapping[str, float], what: str) -> dict[str, float]:
    """Return the metrics as plain floats.

    Raises:
        TrialError: there are none, or one is not a finite number.
    """
    if not isinstance(metrics, Mapping) or not metrics:
        raise TrialError(
            f"{what}: train returned {type(metrics).__name__}, not a dict of metrics with at least one in it"
        )
    plain = {}
    for name, value in metrics.items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise TrialError(f"{what}: metric {name!r} is {value!r}, not a number") from None
        if number != number or number in (float("inf"), float("-inf")):
            raise TrialError(
                f"{what}: metric {name!r} is {number}; look at its loss curve and the learning rate"
            )
        plain[str(name)] = number
    return plain


def checked(metrics: Mapping[str, float], primary: str) -> dict[str, float]:
    """Return a trial's metrics, the study's own among them."""
    plain = finite(metrics, "the trial")
    if primary not in plain:
        raise TrialError(
            f"metric.name: the trainer returned no {primary!r}; it returned {', '.join(sorted(plain))}"
        )
    return plain


def is_of_a_lost_gpu(error: BaseException) -> bool:
    """Say whether a trainer failed with an error that CUDA gives for every later call of the process too."""
    return not isinstance(error, AblateError) and "CUDA error" in str(error)


def choose_device() -> str:
    """Return the device to train on: ABLATE_DEVICE, or the first GPU that torch sees, or the CPU."""
    if named := os.environ.get("ABLATE_DEVICE"):
        return named
    if not (Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists()):
        return "cpu"
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return "cpu"
    return "cuda:0" if torch.cuda.is_available() else "cpu"
