"""What a trainer is given: our side of `contract.Context`."""

import contextlib
import csv
import io
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ablate.contract import Stopped
from ablate.errors import StoreError
from ablate.runner.checkpoint import load_checkpoint, save_checkpoint, write_durably

MAX_CHECKPOINT_SHARE = 0.03  # of wall time: slow disks get fewer checkpoints, not slower training


@contextlib.contextmanager
def disk_explained(place: Path) -> Iterator[None]:
    """Turn a failing disk into an error that stops the worker: no trial is to blame, and none becomes FAIL for it."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{place}: {error.strerror}; free the disk and run again, it goes on from the last checkpoint"
        ) from error


class PartContext:
    """One part × one seed being trained in this process.

    Curve points are kept in memory until a checkpoint passes over them: what a kill loses is recomputed, points included."""

    def __init__(
        self,
        *,
        seed: int,
        device: str,
        workdir: Path,
        cache: Path,
        checkpoint_seconds: float,
        stopping: Callable[[], bool],
        add_points: Callable[[Sequence[tuple[int, str, float]]], None],
        on_saved: Callable[[], None],
        on_step: Callable[[int, Mapping[str, float]], None],
        notice: Callable[[str], None],
    ) -> None:
        self.seed = seed
        self.device = device
        self.workdir = workdir
        self.cache = cache
        self.facts: dict[str, Any] = {}
        self.steps = 0
        self._checkpoint_seconds = checkpoint_seconds
        self._stopping = stopping
        self._add_points = add_points
        self._on_saved = on_saved
        self._on_step = on_step
        self._notice = notice
        self._points: list[tuple[int, str, float]] = []
        self._latest: dict[str, float] = {}
        self._seconds_before = 0.0  # trained by earlier attempts, up to the checkpoint restored
        self._started = time.monotonic()
        self._due = self._started + checkpoint_seconds
        workdir.mkdir(parents=True, exist_ok=True)

    @property
    def seconds(self) -> float:
        """Seconds of training so far, over all attempts; steps that a kill took are counted once."""
        return self._seconds_before + time.monotonic() - self._started

    def restore(self) -> dict[str, Any] | None:
        """Return the state saved last, or None."""
        saved = load_checkpoint(self.workdir, self._notice)
        if saved is None:
            return None
        self.steps = saved["step"]
        self._seconds_before = saved["seconds"]
        self._started = time.monotonic()
        state = saved["state"]
        assert isinstance(state, dict)
        return state

    def checkpoint(self, step: int, state: Callable[[], dict[str, Any]]) -> None:
        """Note that `step` steps are done; save when due or when asked to stop."""
        self.steps = step
        self._on_step(step, self._latest)
        stop = self._stopping()
        if not stop and time.monotonic() < self._due:
            return
        began = time.monotonic()
        self.flush()
        with disk_explained(self.workdir):
            save_checkpoint(self.workdir, step, {"step": step, "seconds": self.seconds, "state": state()})
        self._on_saved()
        took = time.monotonic() - began
        self._due = time.monotonic() + max(self._checkpoint_seconds, took / MAX_CHECKPOINT_SHARE)
        if stop:
            raise Stopped

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one point to each named curve. A value that is not finite is left out: a database has no place for it."""
        self._latest.update(metrics)
        self._points += [
            (step, name, float(value)) for name, value in metrics.items() if math.isfinite(value)
        ]

    def predictions(
        self, split: str, task: str, ids: Sequence[str], predicted: Sequence[float], gold: Sequence[float]
    ) -> None:
        """Write `predictions/<split>.<task>.csv` with columns id, prediction, gold."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["id", "prediction", "gold"])
        writer.writerows(zip(ids, predicted, gold, strict=True))
        folder = self.workdir / "predictions"
        with disk_explained(folder):
            folder.mkdir(exist_ok=True)
            write_durably(folder / f"{split}.{task}.csv", text.getvalue().encode())

    def flush(self) -> None:
        """Write the points that are still in memory."""
        self._add_points(self._points)
        self._points = []
