"""A worker: a warm process that takes trials from the store, one after another, until none is left.

The store is the queue and a lock is the claim. For each trial: own it, train the parts that nobody has trained,
combine their metrics, record."""

import importlib
import os
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ablate.contract import Pruned, Stopped, Trainer
from ablate.design.model import Cell, Part
from ablate.errors import AblateError, StoreError, TrialError
from ablate.runner.checkpoint import remove_checkpoints, write_durably
from ablate.runner.context import PartContext
from ablate.runner.ownership import FileLocks
from ablate.runner.provenance import machine_facts
from ablate.store.reading import part_folder
from ablate.store.writing import Queued, Store, Trained

MAX_FRUITLESS_ATTEMPTS = 3  # deaths without new progress before a trial is given up
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
    checkpoint_seconds: float

    def __post_init__(self) -> None:
        self.locks = FileLocks(self.folder / "locks")
        self.device = choose_device()

    def run(self, numbers: Iterable[int] | None = None) -> None:
        """Work until every trial (or every one of `numbers`) has a result, or until asked to stop.

        A trial owned by another worker is waited for: its owner may die."""
        wanted = None if numbers is None else set(numbers)
        while queue := self.store.queue(wanted):
            advanced = False
            for queued in queue:
                if self.stopping():
                    return
                advanced |= self._try(queued)
            if not advanced:
                time.sleep(POLL_S)

    def _try(self, queued: Queued) -> bool:
        """Own a trial and work on it; say whether anything came of it."""
        key = f"trial-{queued.trial_id}"
        if not self.locks.acquire(key):
            return False
        try:
            return self._work(queued, self.store.cell(queued.cell))
        except StoreError:
            raise
        except Stopped:
            self.store.release(queued.trial_id)
            self.emit("released", number=queued.number)
        except Pruned:
            self.store.prune(queued.trial_id)
            self.emit("pruned", number=queued.number)
        except Exception as error:
            self._keep_traceback(queued)
            self.store.fail(queued.trial_id, reason(error))
            self.emit("failed", number=queued.number, error=reason(error))
        finally:
            self.locks.release(key)
        return True

    def _work(self, queued: Queued, cell: Cell) -> bool:
        """Train what parts of a trial nobody has trained, then record the trial.

        When others are training what is left, the trial goes back to the queue; nobody waits with a trial in hand."""
        claimed = False
        while True:
            left = [
                (name, part)
                for name, part in cell.parts.items()
                if not self.store.part(part.hash, queued.seed)
            ]
            mine = next(
                ((name, part) for name, part in left if self.locks.acquire(part_key(part, queued.seed))), None
            )
            if left and mine is None:
                if claimed:
                    self.store.release(queued.trial_id)
                    self.emit("released", number=queued.number)
                return claimed
            try:
                if not claimed:
                    if not self.store.claim(queued.trial_id, MAX_FRUITLESS_ATTEMPTS):
                        return True
                    claimed = True
                    self.emit("trial", number=queued.number, seed=queued.seed, factors=cell.levels)
                if mine is None:
                    break
                self._train_part(queued, *mine)
            finally:
                if mine is not None:
                    self.locks.release(part_key(mine[1], queued.seed))
        self._complete(queued, cell)
        return True

    def _complete(self, queued: Queued, cell: Cell) -> None:
        parts = {name: self.store.part(part.hash, queued.seed) for name, part in cell.parts.items()}
        settings = self.trainer.Settings.model_validate(cell.settings)
        metrics = self.trainer.combine(settings, {name: part.metrics for name, part in parts.items() if part})
        metrics = checked(metrics, self.store.spec.metric.name)
        self.store.complete(queued.trial_id, metrics, self._primary_curve(cell, queued.seed))
        self.emit("complete", number=queued.number, metrics=metrics)

    def _train_part(self, queued: Queued, name: str, part: Part) -> None:
        seed = queued.seed
        if self.store.part(part.hash, seed):  # recorded between our look and our lock
            return
        context = PartContext(
            seed=seed,
            device=self.device,
            workdir=part_folder(self.folder, part.hash, seed),
            cache=self.folder / "cache",
            checkpoint_seconds=self.checkpoint_seconds,
            stopping=self.stopping,
            add_points=lambda points: self.store.add_points(part.hash, seed, points),
            on_saved=lambda: self.store.progress(queued.trial_id),
            on_step=lambda step, latest: self.emit(
                "step", number=queued.number, part=name, step=step, latest=latest
            ),
            notice=lambda line: self.emit("notice", text=line),
        )
        settings = self.trainer.Settings.model_validate(part.settings)
        metrics = finite(self.trainer.train(settings, context), f"part {name!r}")
        context.flush()
        facts = {
            **machine_facts(self.trainer.file),
            "peak_memory_bytes": peak_memory_bytes(),
            **context.facts,
        }
        trained = Trained(metrics, context.seconds, context.steps, facts)
        self.store.record_part(part.hash, seed, trained)
        self.store.progress(queued.trial_id)
        remove_checkpoints(context.workdir)

    def _primary_curve(self, cell: Cell, seed: int) -> dict[int, float]:
        """The study's own metric over the steps, where one part trains it."""
        if len(cell.parts) != 1:
            return {}
        (part,) = cell.parts.values()
        return self.store.curve(part.hash, seed, self.store.spec.metric.name)

    def _keep_traceback(self, queued: Queued) -> None:
        folder = self.folder / "trials" / f"{queued.cell}-{queued.seed}"
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(folder / "error.txt", traceback.format_exc().encode())


def part_key(part: Part, seed: int) -> str:
    """Name the lock of a part and seed."""
    return f"part-{part.hash}-{seed}"


def reason(error: Exception) -> str:
    """Say in one line why a trial failed."""
    if isinstance(error, AblateError):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text} ({Path(place.filename).name}:{place.lineno})"


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


def peak_memory_bytes() -> int:
    """Return the largest resident size this process has had."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
