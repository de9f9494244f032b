"""The engines by name, and their interface: start a worker, and ask it to stop. They know nothing about trials."""

import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Entry:
    """An engine's module, and what it needs."""

    module: str
    several_machines: bool = False
    package: str | None = None  # to be imported; the extra of `pip install` has the engine's name


ENGINES = {
    "local": Entry("ablate.runner.engines.local"),
    "ray": Entry("ablate.runner.engines.ray", several_machines=True, package="ray"),
    "slurm": Entry("ablate.runner.engines.slurm", several_machines=True, package="submitit"),
}


def clusters() -> list[str]:
    """Return the engines that use several machines."""
    return [name for name, entry in ENGINES.items() if entry.several_machines]


class WorkerProcess(Protocol):
    """A worker, wherever it runs."""

    log: Path  # what it printed
    cause: str  # why it ended, if the exit code does not say so

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield its events until it ends."""

    def wait(self) -> int:
        """Wait for its end and return its exit code; minus the signal if it was killed."""

    def stop(self) -> None:
        """Ask it to save and stop."""

    def kill(self) -> None:
        """End it at once."""


class Engine(Protocol):
    """Starts workers on one job."""

    def start(self, index: int) -> WorkerProcess:
        """Start worker `index`, or restart it.

        Raises:
            Unavailable: the engine cannot start it.
        """


def open_engine(name: str, job: dict[str, Any], workers: int, logs: Path, address: str | None) -> Engine:
    """Return the engine called `name` for `workers` workers on one job.

    Raises:
        BadInput: there is no such engine, or it does not fit the store or the address.
        Unavailable: what it needs is not installed, or its cluster does not answer.
    """
    logs.mkdir(parents=True, exist_ok=True)
    module = importlib.import_module(ENGINES[name].module)
    engine: Engine = module.open_engine(job, workers, logs, address)
    return engine
