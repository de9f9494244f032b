"""Training that is asked to stop after chosen steps, or killed, and goes on from the checkpoint on the disk."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos import children
from history import Witness
from warm_cli import cold

from ablate.contract import Context, Stopped
from ablate.runner.cadence import Cadence
from ablate.runner.context import Owner, PartContext
from ablate.store.places import place_of
from ablate.store.reading import read_results


@dataclass
class Outcome:
    """What a training came to; equal if everything is, to the bit."""

    metrics: dict[str, float]
    points: list[tuple[int, str, float]]
    predictions: dict[str, str]
    attempts: int = field(compare=False)


class _Asked(Owner):
    """Asks to stop after the next of some steps."""

    def __init__(self, stops: Collection[int]) -> None:
        self.stops, self.step = set(stops), 0
        self.points: list[Any] = []

    def is_stopping(self) -> bool:
        asked = self.step in self.stops
        self.stops.discard(self.step)
        return asked

    def stepped(self, step: int, latest: Any) -> None:
        self.step = step

    def add_points(self, points: Any) -> None:
        self.points += points


def trained(
    train: Callable[[Context], dict[str, float]], folder: Path, stops: Collection[int] = ()
) -> Outcome:
    """Train in `folder` with seed 11, stopped after each of some steps and continued."""
    owner = _Asked(stops)
    for attempt in range(1, 1000):
        context = PartContext(
            owner,
            seed=11,
            device="cpu",
            workdir=folder,
            cache=folder / "cache",
            cadence=Cadence(interval_s=1e9),
        )
        try:
            metrics = train(context)
        except Stopped:
            continue
        owner.add_points(context.points)
        predictions = {file.name: file.read_text() for file in folder.glob("predictions/*")}
        return Outcome(dict(metrics), owner.points, predictions, attempt)
    raise AssertionError("stopped for ever")


def killed(study: Path, home: Path, kills: int, steps_between: int) -> Witness:
    """Run the first trial of `study`; kill -9 worker and supervisor each time it is so many steps further, `kills` times.

    Return what was seen committed before the kills."""
    reached, witness = 0, Witness(place_of(study.stem, home))
    for number in range(kills):
        supervisor = subprocess.Popen(
            cold("run", study, "--home", home, "--limit", 1),
            cwd=study.parent,
            env=os.environ | {"ABLATE_CHECKPOINT_SECONDS": "0"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while (now := _step_saved(home)) < reached + steps_between:
                assert supervisor.poll() is None, f"ended before kill {number + 1}, at step {now}"
                time.sleep(0.02)
            reached = now
            witness.look()
        finally:
            for pid in (*children(supervisor.pid), supervisor.pid):
                os.kill(pid, signal.SIGKILL)
            supervisor.wait()
    return witness


def finished(study: Path, home: Path, limit: int | None = 1) -> dict[str, Any]:
    """Run the first trials of `study`, or all, to their end and return `run --json`."""
    first = () if limit is None else ("--limit", limit)
    done = subprocess.run(
        cold("run", study, "--home", home, *first, "--json"),
        cwd=study.parent,
        env=os.environ | {"ABLATE_CHECKPOINT_SECONDS": "0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def _step_saved(home: Path) -> int:
    names = [file.stem for file in home.glob("*/trials/*/step-*.checkpoint")]
    return max((int(name.split("-")[1]) for name in names), default=0)


def recorded(study: str, home: Path) -> dict[str, Any]:
    """Return metrics, curves and predictions of a study that has run."""
    results = read_results(place_of(study, home))
    points = results.points({part.part for part in results.parts.values()})
    return {
        "metrics": {trial.cell: trial.metrics for trial in results.trials},
        "points": sorted((point.part, point.step, point.name, point.value) for point in points),
        "predictions": {file.name: file.read_text() for file in home.glob("*/trials/*/predictions/*")},
    }
