"""One owner's work on one trial: train the parts that are not trained yet, combine their metrics, record the result."""

import contextlib
import math
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablate.contract import Pruned, Stopped, Trainer
from ablate.design.cell_settings import flat
from ablate.design.model import Cell, Part
from ablate.errors import StoreError, StudyChanged, TrialError
from ablate.files import sync_tree, write_file
from ablate.integrations.registry import Run, Trackers
from ablate.runner.cadence import Cadence
from ablate.runner.checkpoint import remove_checkpoints
from ablate.runner.context import Owner, PartContext
from ablate.runner.disk import disk_explained, disk_trouble, is_disk_trouble
from ablate.runner.logs import Logbook, new_log
from ablate.runner.machine import choose_device, gpus_for, joules_used, peak_memory_bytes
from ablate.runner.other_code import (
    NOTE,
    Recorded,
    begin_note,
    joined,
    present_code,
    read_note,
    refuse_other_code,
)
from ablate.runner.outcome import checked, finite, is_of_a_lost_gpu, plain_facts, reason, stack_of
from ablate.runner.ownership import Lost, open_locks, regain
from ablate.runner.prefixes import PartPrefixes, Prefixes
from ablate.runner.provenance import commit_of, machine_facts
from ablate.runner.trial_code import Code, Sources
from ablate.runner.undoing import undone
from ablate.runner.watchdog import ProgressNote, Watchdog
from ablate.spec.model import levels_text
from ablate.store.database_errors import Disconnected, Locked
from ablate.store.parts import NewPart, Points, Trained
from ablate.store.trials import Claim, Queued, Superseded
from ablate.store.writing import Store


@dataclass
class Workbench:
    """What a worker process uses to train one trial after another, and how it is asked to stop."""

    store: Store
    trainer: Trainer
    stopping: Callable[[], bool]
    emit: Callable[..., None]  # event name and fields, for the supervisor
    cadence: Cadence
    logbook: Logbook
    draining: Callable[[], bool] = lambda: False  # whether this process was asked to stop after the trial
    # Modules loaded before the trainer.
    loaded_before: Collection[str] = field(default_factory=lambda: list(sys.modules))
    recorded: Recorded | None = None  # the code that this process's code must agree with

    def __post_init__(self) -> None:
        self.watchdog = Watchdog(self.store.spec.hang_minutes)
        self.trackers = Trackers(self.store.spec.log_to, lambda line: self.emit("notice", text=line))
        self.locks = open_locks(self.store.place)
        self.device = choose_device()
        self.prefixes = Prefixes(self.store, self.trainer)
        self.sources = Sources(self.trainer, self.store.study_folder, self.loaded_before)
        # Hash the files now, before anybody can edit them.
        self.sources.loaded()
        if self.recorded:
            self.refuse_other_code(present_code(self.sources, self.recorded))

    def refuse_other_code(self, code: Code) -> None:
        """Refuse code that differs from the recorded code, unless it is allowed to.

        Raises:
            StudyChanged: the code differs.
        """
        if self.recorded:
            refuse_other_code(code, self.recorded, str(self.store.spec.path or self.store.spec.study))

    def owned(self, part: str, seed: int) -> None:
        """Check that this process still owns the part it trains; take lost locks again.

        Raises:
            Lost: another process owns it.
            StoreError: the database server did not answer in time.
        """
        if self.locks.lost() and not (regain(self.locks, self.stopping) and self.store.owns(part, seed)):
            raise Lost


class Attempt:
    """One owner's work on one trial."""

    def __init__(self, worker: Workbench, queued: Queued, cell: Cell) -> None:
        self.worker, self.store, self.locks = worker, worker.store, worker.locks
        self.queued, self.cell = queued, cell
        self.claim: Claim | None = None
        self.part: Part | None = None  # whose lock is held
        self.step = 0

    def work(self) -> bool:
        """Do what can be done for the trial now and record its new state; return whether anything was done."""
        try:
            return self._advance()
        except (Lost, Superseded):
            if self.part is not None:
                self.store.lost_part(self.part.hash, self.queued.seed)
            self.emit(
                "notice",
                text=f"trial {self.queued.number}: taken over by another worker; continuing without it",
            )
        except Stopped:
            self._leave(self.store.release, "released")
        except Pruned:
            self._leave(self.store.prune, "pruned")
            self._tidy()
        # Also SystemExit and KeyboardInterrupt. Our signal handlers raise nothing, so they come from the trainer. Let through, a
        # SystemExit would make the worker look finished, and a KeyboardInterrupt would make it look killed.
        except BaseException as error:
            self._failed(error)
        finally:
            self._release_part()
        return True

    def _advance(self) -> bool:
        """Train the parts that are not trained yet, then record the trial.

        If others are training the remaining parts, the trial goes back to the queue: no worker holds a trial while it waits."""
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
            # Another worker recorded it after we looked and before we got the lock.
            if mine in self.store.trained([mine], self.queued.seed):
                self._release_part()
                continue
            if not self._begin(self.part):
                return True
            new = self._train(name, self.part)
            if left == [mine]:
                self._complete({**done, mine: new.trained}, new)
                return True
            self._record(new)

    def _lock(self, part: str) -> str:
        return f"part-{part}-{self.queued.seed}"

    def _begin(self, part: Part) -> bool:
        """Claim the locked part, and the trial if it is not ours yet; return whether to train it."""
        reached = ProgressNote.take(self._workdir(part))
        if self.claim is None:
            self._claim((part.hash, self.queued.seed, reached))
        elif condemned := self.store.begin(part.hash, self.queued.seed, reached):
            raise TrialError(condemned)
        return self.claim is not None

    def _claim(self, part: tuple[str, int, int | None] | None = None) -> None:
        """Claim the trial, unless it is ours.

        Raises:
            TrialError: all its attempts are used up.
        """
        if self.claim is not None:
            return
        self.claim = self.store.claim(self.queued.trial_id, part)
        if self.claim is None:
            return
        self.emit("trial", seed=self.queued.seed, factors=self.cell.levels)
        if self.claim.condemned:
            raise TrialError(self.claim.condemned)

    def _train(self, name: str, part: Part) -> NewPart:
        worker = self.worker
        self.step = 0
        owner = PartOwner(self, name, part)
        assert self.claim is not None
        settings = worker.trainer.Settings.model_validate(part.settings)
        code = worker.sources.named(settings) | worker.sources.loaded()
        worker.refuse_other_code(code)
        context = PartContext(
            owner,
            seed=self.queued.seed,
            attempt=self.claim.attempt,
            device=worker.device,
            gpus=gpus_for(worker.trainer.gpus(settings)),
            workdir=self._workdir(part),
            cache=self.store.place.cache,
            cadence=worker.cadence,
            prefixes=self._prefixes_of(part, code, owner),
        )
        joules = joules_used(worker.device)
        with disk_explained(context.workdir):
            begin_note(context.workdir, code)
            log = self._new_log(name, part)
        with undone(), worker.logbook.writing(log), owner.training(context.workdir):
            metrics = finite(worker.trainer.train(settings, context), f"part {name!r}")
            owner.trained(metrics)
        worker.owned(part.hash, self.queued.seed)
        # Everything that the trainer wrote must be on disk before the database says that it exists.
        with disk_explained(context.workdir):
            sync_tree(context.workdir)
        seconds_by = context.seconds_by
        machine = machine_facts(worker.device)
        made_with = joined(read_note(context.workdir), code | worker.sources.loaded())
        facts = {
            **machine,
            **commit_of(worker.sources.folder(settings)),
            "peak_memory_bytes": peak_memory_bytes(),
            "gpu_energy_joules": joules(),
            **plain_facts(context.facts),
            "versions": {**machine["versions"], **made_with["versions"]},
            "code": made_with["code"],
            **({"seconds_by": seconds_by} if worker.prefixes.of(part) else {}),
            **({"continued": context.continued} if context.continued else {}),
        }
        if worker.recorded:
            worker.recorded.add(facts)
        trained = Trained(metrics, math.fsum(seconds_by.values()), context.steps, facts)
        return NewPart(part.hash, self.queued.seed, trained, context.points)

    def _prefixes_of(self, part: Part, code: Code, owner: Owner) -> PartPrefixes | None:
        worker = self.worker
        if not worker.prefixes.of(part):
            return None
        return PartPrefixes(
            worker.prefixes,
            part,
            self.queued.seed,
            device=worker.device,
            sources=worker.sources,
            code=code,
            notice=owner.notice,
        )

    def _new_log(self, name: str, part: Part) -> Path:
        seed = self.queued.seed
        what = f"part {name} with seed {seed}, for trial {self.queued.number}"
        return new_log(self.store.place.log_folder(part.hash, seed), what)

    def tracked(self, name: str) -> Run:
        """Return the current part's name and settings for the trackers."""
        assert self.part is not None
        study, seed = self.store.spec.study, self.queued.seed
        of_several = f", {name}" if len(self.cell.parts) > 1 else ""
        # Otherwise the curves of the new code would continue those of the old.
        again = self.store.times_forgotten(self.part.hash, seed)
        code = f", code {again + 1}" if again else ""
        return Run(
            study=study,
            name=f"{levels_text(self.cell.levels)}, seed {seed}{of_several}{code}",
            key=f"{self.store.home()}-{self.part.hash}-{seed}{f'-{again + 1}' if again else ''}",
            config=_config(self.cell.levels, flat(self.part.settings), seed),
            folder=self.store.place.folder,
        )

    def _complete(self, done: Mapping[str, Trained], new: NewPart | None) -> None:
        """Record the trial, together with the part that was trained last."""
        assert self.claim is not None
        settings = self.worker.trainer.Settings.model_validate(self.cell.settings)
        of_parts = {name: done[part.hash].metrics for name, part in self.cell.parts.items()}
        try:
            metrics = checked(self.worker.trainer.combine(settings, of_parts), self.store.spec.metric.name)
        except Exception:
            # The part itself is fine, so record it.
            if new is not None:
                self._record(new)
            raise
        only = next(iter(done)) if len(done) == 1 else None
        self.store.complete(self.claim, metrics, new, curve_of=only)
        self._tidy()
        self.emit("complete", metrics=metrics)

    def _record(self, new: NewPart) -> None:
        """Record the trained part, and release its lock."""
        self.store.record_part(new)
        self._tidy()
        self._release_part()

    def _tidy(self) -> None:
        """Remove files that are only needed while a part is trained."""
        if self.part is not None:
            remove_checkpoints(self._workdir(self.part))
            (self._workdir(self.part) / NOTE).unlink(missing_ok=True)
            ProgressNote.take(self._workdir(self.part))

    def _failed(self, error: BaseException) -> None:
        """Record that the trial failed; an error that is not the trial's fault is raised instead."""
        text = reason(error, self.step, Path(self.worker.trainer.file).parent)
        if isinstance(error, StoreError | StudyChanged):
            # If the database did not answer in time, giving the trial back would only wait for it again.
            if not isinstance(error, Disconnected | Locked):
                self._leave_if_possible()
            raise error
        if is_disk_trouble(error):
            self._leave_if_possible()
            raise disk_trouble(self.store.place.folder, text) from error
        # The signal that stops this process may have ended the trainer's subprocesses first; such an error is not the trial's.
        if self.worker.stopping():
            self._leave(self.store.release, "released")
            return
        # After losing its GPU this process cannot train any more; let it die like any killed worker.
        if self.claim is None or is_of_a_lost_gpu(error):
            raise error
        # A failed write is ignored: the reason of the failure is in the store anyway.
        with contextlib.suppress(OSError):
            file = self.store.place.error_file(self.queued.cell, self.queued.seed)
            write_file(file, stack_of(error).encode(errors="backslashreplace"))
        if self.part is not None:
            self.store.fail_part(self.part.hash, self.queued.seed, text)
        with contextlib.suppress(Superseded):
            self.store.fail(self.claim, text)
            self.emit("failed", error=text)

    def _leave(self, put: Callable[[Claim], None], event: str) -> None:
        """Give the trial back unfinished; this does not count as a crash of its part."""
        if self.part is not None:
            self.store.set_aside(self.part.hash, self.queued.seed)
        if self.claim is not None:
            with contextlib.suppress(Superseded):
                put(self.claim)
                self.emit(event)

    def _leave_if_possible(self) -> None:
        """Try to leave the trial cleanly when disk or database fail; if that fails too, it counts as a crash."""
        with contextlib.suppress(StoreError, OSError):
            self._leave(self.store.release, "released")

    def _release_part(self) -> None:
        if self.part is not None:
            self.locks.release(self._lock(self.part.hash))
            self.part = None

    def _workdir(self, part: Part) -> Path:
        return self.store.place.part_folder(part.hash, self.queued.seed)

    def emit(self, event: str, **fields: Any) -> None:
        """Report an event of this trial to the supervisor."""
        self.worker.emit(event, number=self.queued.number, **fields)


def _pruner(store: Store, number: int) -> Callable[[int, Mapping[str, float]], bool]:
    """Return a function that says whether the study's pruner stops
    trial `number` at a point of its curves. Only searches have one."""
    if store.spec.search is None:
        return lambda step, metrics: False
    # Optuna takes a while to load.
    from ablate.runner.searching import watch_of

    return watch_of(store, number)


class PartOwner(Owner):
    """The owner of a part that is trained for a trial."""

    def __init__(self, attempt: Attempt, name: str, part: Part) -> None:
        self._attempt, self._name = attempt, name
        self._key = part.hash, attempt.queued.seed
        self._should_prune = _pruner(attempt.store, attempt.queued.number)
        self._metrics: Mapping[str, float] | None = None

    @contextlib.contextmanager
    def training(self, workdir: Path) -> Iterator[None]:
        """Note the progress while the trainer runs, and log to the study's trackers."""
        self._note = ProgressNote(workdir)
        trackers = self._attempt.worker.trackers
        try:
            if self._attempt.store.spec.log_to:
                trackers.start(self._attempt.tracked(self._name))
            yield
        finally:
            self._attempt.worker.watchdog.rest()
            self._note.close()
            trackers.close(self._metrics)

    def trained(self, metrics: Mapping[str, float]) -> None:
        """Keep the metrics for the trackers, which get them when they close."""
        self._metrics = metrics

    def reported(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log a point to the study's trackers."""
        self._attempt.worker.trackers.log(step, metrics)

    def is_stopping(self) -> bool:
        """Return whether this process was asked to stop."""
        return self._attempt.worker.stopping()

    def alive(self) -> None:
        """Reset the watchdog."""
        self._attempt.worker.watchdog.heard()

    def stepped(self, step: int, latest: Mapping[str, float]) -> None:
        """Note a step.

        Raises:
            Lost: this process does not own the part any more.
        """
        self._attempt.worker.owned(*self._key)
        self._note.step(step)
        self._attempt.step = step
        self._attempt.emit("step", part=self._name, step=step, latest=latest)

    def saved(self) -> None:
        """Note that a checkpoint was saved."""
        self._attempt.store.progress(*self._key)

    def add_points(self, points: Points) -> None:
        """Record points of the part's curves."""
        if points:
            self._attempt.store.add_points(*self._key, points)

    def should_prune(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Return whether the study's pruner stops the trial at this point."""
        return self._should_prune(step, metrics)

    def notice(self, line: str) -> None:
        """Report a message to the supervisor."""
        self._attempt.emit("notice", text=line)


def _config(levels: Mapping[str, Any], settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Return what trackers show of a part; a factor or setting that is itself named `seed` does not hide the seed."""
    named = {"factor.seed" if name == "seed" else name: level for name, level in levels.items()}
    named |= {"settings.seed" if name == "seed" else name: value for name, value in settings.items()}
    return {**named, "seed": seed}
