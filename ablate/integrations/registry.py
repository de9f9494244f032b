"""The trackers that a study can log its curves to, and their interface. Trackers only receive: if one fails, training
continues without it.

A new tracker is a file beside this one with `open_tracker`, and its name in `TrackerName` of the study file (spec/model.py)."""

import importlib
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ablate.text import printable


@dataclass(frozen=True)
class Run:
    """What is logged: one part, trained with one seed."""

    study: str
    name: str  # e.g. `lr=0.1, width=8, seed 11`
    key: str  # the same in every attempt, until it is trained again with other code
    config: Mapping[str, Any]  # factors, seed and settings
    folder: Path  # the study's folder, for trackers that keep files


class Tracker(Protocol):
    """One run in a tracker."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add a point. After a kill, points since the last checkpoint are added again."""

    def close(self, metrics: Mapping[str, float] | None) -> None:
        """End the run, with the final metrics. None: it was interrupted or failed, and may be continued."""


class Trackers:
    """All trackers of a study, for everything that one process trains."""

    def __init__(self, names: Iterable[str], notice: Callable[[str], None]) -> None:
        self._names = list(names)
        self._notice = notice
        self._open: dict[str, Tracker] = {}

    def start(self, run: Run) -> None:
        """Open a run in each."""
        for name in list(self._names):
            self._try(name, partial(self._start, name, run))

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add a point to each."""
        for name, tracker in list(self._open.items()):
            self._try(name, partial(tracker.log, step, metrics))

    def close(self, metrics: Mapping[str, float] | None) -> None:
        """End the run in each."""
        for name, tracker in list(self._open.items()):
            self._try(name, partial(tracker.close, metrics))
        self._open.clear()

    def _start(self, name: str, run: Run) -> None:
        try:
            module = importlib.import_module(f"ablate.integrations.{name}")
        except ModuleNotFoundError as error:
            self._names.remove(name)
            self._notice(
                f"log_to: {name} needs the package {error.name}; pip install 'ablate-studies[{name}]'"
            )
            return
        self._open[name] = module.open_tracker(run)

    def _try(self, name: str, act: Callable[[], None]) -> None:
        try:
            with _random_numbers_kept():
                act()
        # A tracker's error, whatever it is, must not fail a trial.
        except (Exception, SystemExit) as error:
            self._open.pop(name, None)
            first = next(iter(printable(str(error)).strip().splitlines()), "")
            self._notice(
                f"log_to: {name} failed, and training continues without it: {type(error).__name__}: {first}"
            )


@contextmanager
def _random_numbers_kept() -> Iterator[None]:
    """Restore the random generators afterwards, since trackers draw random names and delays from them."""
    numpy = sys.modules.get("numpy")
    python, of_numpy = random.getstate(), numpy and numpy.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        if numpy:
            numpy.random.set_state(of_numpy)
