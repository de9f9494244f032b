"""The context that a trainer receives: our implementation of `contract.Context`."""

import csv
import io
import math
import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from ablate.contract import Pruned, Stopped
from ablate.errors import TrialError
from ablate.files import make_folder, sweep, write_file
from ablate.runner.cadence import Cadence
from ablate.runner.checkpoint import load_checkpoint, save_checkpoint
from ablate.runner.disk import disk_explained
from ablate.runner.outcome import LARGEST, LARGEST_STEP, numbers, whole_step
from ablate.runner.prefix_files import PrefixFiles
from ablate.runner.thinning import Thinning
from ablate.text import shown

NAME_BYTES = 100  # limit of a split's name, and of a task's: a file name has both, and at most 255
Points = list[tuple[int, str, float]]


class Owner:
    """The owner of the part being trained: decides whether to continue, and is informed of progress.

    This base class records nothing; use it for training that belongs to no trial."""

    def is_stopping(self) -> bool:
        """Return whether to save and stop."""
        return False

    def should_prune(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Return whether to prune the trial at this point of its curves."""
        return False

    def alive(self) -> None:
        """Training is alive."""

    def stepped(self, step: int, latest: Mapping[str, float]) -> None:
        """A step is done; `latest` has the last value of each curve."""

    def reported(self, step: int, metrics: Mapping[str, float]) -> None:
        """A point of the curves was reported; it is not durable yet."""

    def saved(self) -> None:
        """A checkpoint of new steps is durable."""

    def add_points(self, points: Points) -> None:
        """Store these points of curves durably."""

    def notice(self, line: str) -> None:
        """A message for the user."""
        print(line, file=sys.stderr)


class PartContext:
    """One part × one seed being trained in this process.

    Curve points stay in memory until a checkpoint covers them: after a kill,
    the lost steps are trained again and their points computed again."""

    def __init__(
        self,
        owner: Owner,
        *,
        seed: int,
        device: str,
        workdir: Path,
        cache: Path,
        cadence: Cadence,
        attempt: int = 1,
        gpus: Sequence[str] = (),
        prefixes: PrefixFiles | None = None,
    ) -> None:
        self.seed = seed
        self.attempt = attempt
        self.device = device
        self.gpus = gpus
        self.workdir = workdir
        self.cache = cache
        self.facts: dict[str, Any] = {}
        self.steps = 0
        self.points: Points = []  # points that are not written yet
        # The prefix that another part trained: its name, who, steps, seconds; None if there is none.
        self.continued: dict[str, Any] | None = None
        self._owner = owner
        self._cadence = cadence
        self._latest: dict[str, float] = {}
        self._thinning = Thinning({})
        # Training time up to what was restored, by training run: part-seed.random -> seconds.
        self._seconds_by: dict[str, float] = {}
        self._me = self._new_name()
        self._restored_step = 0
        self._prefixes = prefixes
        # All points so far, for those who continue from a prefix; None: there is no prefix, or not all are known.
        self._history: Points | None = None if prefixes is None else []
        self._started = time.monotonic()
        cadence.restart()
        with disk_explained(workdir):
            make_folder(workdir)
            sweep(workdir)

    @property
    def seconds(self) -> float:
        """Seconds of training so far, over all attempts; steps that were repeated after a kill count once."""
        return math.fsum(self.seconds_by.values())

    @property
    def seconds_by(self) -> dict[str, float]:
        """Those seconds by training run (part-seed.random): of other parts, up to the prefix that this part continued from, then
        its own.

        If two saved states contain the same run, one was saved later in that run and includes the seconds of the other."""
        now = self._seconds_by.get(self._me, 0.0) + time.monotonic() - self._started
        return {**self._seconds_by, self._me: now}

    def restore(self) -> dict[str, Any] | None:
        """Return the state saved last, or that at the end of a prefix if it is further; None if there is neither."""
        own = load_checkpoint(self.workdir, self._owner.notice, self._check)
        end = None
        if self._prefixes is not None:
            end = self._prefixes.furthest(_check_end, -1 if own is None else own["step"])
        if (saved := end or own) is None:
            return None
        self.steps = self._restored_step = saved["step"]
        self._seconds_by = saved.get("seconds_by") or {self._name: saved["seconds"]}
        *_, self._me = self._seconds_by
        self._thinning = Thinning(saved.get("points", {}))
        self._started = time.monotonic()
        self.continued = saved.get("continued")
        if self._prefixes is not None:
            self._history = _points(own) if own else []
        if end is not None:
            self._continue_from(end)
        state: dict[str, Any] | None = saved["state"]
        return state

    def _continue_from(self, end: dict[str, Any]) -> None:
        """Add the points up to the end of a prefix; those that an earlier attempt covered with a checkpoint come first."""
        part, _, _ = end["by"].rpartition("-")
        if end["by"] != self._name:
            self._me = self._new_name()
            self.continued = {
                "prefix": end["prefix"],
                "part": part,
                "steps": end["step"],
                "seconds": end["seconds"],
            }
        points, self._history = _points(end) or [], self._history or []
        for step, at_step in groupby(points[len(self._history) :], key=itemgetter(0)):
            values = {name: value for _, name, value in at_step}
            self._owner.reported(step, values)
            self._add(step, values, values)

    @property
    def _name(self) -> str:
        """The name stored in a checkpoint, which is the folder's: the part (a hash of its settings) and the seed."""
        return self.workdir.name

    def _new_name(self) -> str:
        """Return a name for training that begins anew, or from what another part trained."""
        return f"{self._name}.{secrets.token_hex(4)}"

    def _check(self, saved: dict[str, Any]) -> None:
        """Refuse a checkpoint of another part or seed. Older checkpoints have no name and are accepted."""
        _check_saved({"of": self._name, **saved}, self._name)

    def checkpoint(self, step: int, state: Callable[[], dict[str, Any]]) -> None:
        """Note that `step` steps are done; save when due or when asked to stop."""
        self._owner.alive()
        self.steps = step = whole_step(step, "context.checkpoint")
        self._owner.stepped(step, self._latest)
        stop = self._owner.is_stopping()
        if stop or self._cadence.is_due():
            self._save(step, state)
        if stop:
            raise Stopped

    def stopping(self) -> bool:
        """Return whether the run was asked to stop."""
        return self._owner.is_stopping()

    def _save(self, step: int, state: Callable[[], dict[str, Any]]) -> None:
        began = time.monotonic()
        # Write the points before the checkpoint: points that it covers are never computed again.
        self._owner.add_points(self.points)
        self.points = []
        with disk_explained(self.workdir):
            save_checkpoint(self.workdir, step, self._saved(step, state))
        if step > self._restored_step:
            self._owner.saved()
        self._cadence.saved(time.monotonic() - began)

    def _saved(self, step: int, state: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        seconds_by = self.seconds_by
        saved = {
            "of": self._name,
            "step": step,
            "seconds": math.fsum(seconds_by.values()),
            "seconds_by": seconds_by,
            "points": dict(self._thinning.seen),
            "continued": self.continued,
            "state": state(),
        }
        if self._history is not None:
            saved["history"] = _columns(self._history)
        return saved

    def prefix(self, name: str, step: int, state: Callable[[], dict[str, Any]]) -> None:
        """Note that the prefix `name` is trained, in `step` steps; save its end if another part needs it."""
        self._owner.alive()
        self.steps = step = whole_step(step, "context.prefix")
        if self._prefixes is not None and self._history is not None:
            self._prefixes.save(name, lambda: {**self._saved(step, state), "by": self._name})

    def report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one point to each named curve. Values that are not finite are left out: databases cannot hold them."""
        self._owner.alive()
        step, metrics = whole_step(step, "context.report"), numbers(metrics, "context.report")
        self._latest.update(metrics)
        known = {name: value for name, value in metrics.items() if math.isfinite(value)}
        kept = {name: value for name, value in known.items() if self._thinning.keeps(name)}
        self._owner.reported(step, known)
        self._add(step, kept, metrics)

    def _add(self, step: int, kept: Mapping[str, float], metrics: Mapping[str, float]) -> None:
        """Add the `kept` ones of a step's metrics to the curves."""
        points = [(step, name, value) for name, value in kept.items()]
        self.points += points
        if self._history is not None:
            self._history += points
        if self._owner.should_prune(step, metrics):
            self._owner.add_points(self.points)
            self.points = []
            raise Pruned

    def predictions(
        self,
        split: str,
        task: str,
        ids: Sequence[str],
        predicted: Sequence[float],
        gold: Sequence[float],
        clusters: Sequence[str] | None = None,
    ) -> None:
        """Write `predictions/<split>.<task>.csv` with columns id, prediction, gold, and cluster if they are given.

        Raises:
            TrialError: a name cannot be part of the file's name, a cluster's
                label is blank, or a file is in the folder's place.
        """
        for what, name in (("split", split), ("task", task)):
            if not name or "/" in name or "\0" in name or len(os.fsencode(name)) > NAME_BYTES:
                raise TrialError(
                    f"context.predictions: the {what} {name!r} cannot name a file; use a name without / of at most "
                    f"{NAME_BYTES} bytes"
                )
        columns: dict[str, Sequence[Any]] = {"id": ids, "prediction": predicted, "gold": gold}
        if clusters is not None:
            columns["cluster"] = _labels(clusters, ids)
        columns = {name: list(values) for name, values in columns.items()}
        if len(set(map(len, columns.values()))) > 1:
            lengths = ", ".join(f"{name} {len(values)}" for name, values in columns.items())
            raise TrialError(f"context.predictions: not one value of each for every item: {lengths}")
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        folder = self.workdir / "predictions"
        # Otherwise this would look like a failing disk, which ends the run.
        if folder.exists() and not folder.is_dir():
            raise TrialError(f"{folder}: the trainer wrote a file of this name; give it another")
        with disk_explained(folder):
            write_file(folder / f"{split}.{task}.csv", text.getvalue().encode())


def _check_saved(saved: dict[str, Any], of: str) -> None:
    """Refuse what is not the state of a training run, or belongs to something else.

    Raises:
        ValueError: see above.
    """
    if (name := saved.get("of")) != of:
        raise ValueError(f"it belongs to {shown(name)}, not to {of}")
    match saved:
        case {"step": int(step), "seconds": int() | float() as seconds, "state": _}:
            # Older checkpoints do not count points.
            match saved.get("points", {}):
                case dict(points) if all(isinstance(count, int) for count in points.values()):
                    if 0 <= step <= LARGEST_STEP and 0 <= seconds < LARGEST and _are_seconds(saved):
                        return
    raise ValueError("not the state of a training run")


def _are_seconds(saved: dict[str, Any]) -> bool:
    """Return whether `seconds_by`, if it is there, maps names to numbers of seconds. Older checkpoints have none."""
    seconds_by = saved.get("seconds_by", {})
    return isinstance(seconds_by, dict) and all(
        isinstance(name, str) and isinstance(seconds, int | float) and 0 <= seconds < LARGEST
        for name, seconds in seconds_by.items()
    )


def _check_end(saved: dict[str, Any], of: str) -> None:
    """Refuse what is not the end of this prefix.

    Raises:
        ValueError: it is not. Malformed points may raise any other error.
    """
    _check_saved(saved, of)
    match saved:
        case {"by": str(), "prefix": str(), "continued": dict() | None} if _points(saved) is not None:
            return
    raise ValueError("not the end of a prefix")


def _columns(points: Points) -> tuple[Any, ...]:
    """Return points as columns, which take little space in a checkpoint."""
    steps, names, values = zip(*points, strict=True) if points else ((), (), ())
    return np.array(steps, np.int64), list(names), np.array(values, np.float64)


def _points(saved: dict[str, Any]) -> Points | None:
    """Return all points up to a saved state; None if it does not have them."""
    if "history" not in saved:
        return None
    steps, names, values = saved["history"]
    return list(zip(steps.tolist(), names, values.tolist(), strict=True))


def _labels(clusters: Sequence[str], ids: Sequence[str]) -> list[str]:
    """Return the clusters' labels as text; blank ones would put all unlabelled items into one cluster."""
    labels = ["" if label is None else str(label).strip() for label in clusters]
    if "" in labels:
        raise TrialError(
            f"context.predictions: item {ids[labels.index('')]!r} has no cluster; give an independent item "
            "a label of its own"
        )
    return labels
