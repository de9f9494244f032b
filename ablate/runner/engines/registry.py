"""The engines by name, and their interface: start a worker, and ask it to stop. Nothing about trials."""

import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from ablate.errors import BadInput, Unavailable
from ablate.store.opening import sqlite_file
from ablate.text import suggestion

ENGINES = {  # name -> its module
    "local": "ablate.runner.engines.local",
    "ray": "ablate.runner.engines.ray",
    "slurm": "ablate.runner.engines.slurm",
}
CLUSTERS = {"ray": "ray", "slurm": "submitit"}  # engines of several machines -> the package they need


class WorkerProcess(Protocol):
    """A worker, wherever it runs."""

    log: Path  # what it printed

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield its events until it ends."""

    def wait(self) -> int:
        """Return its exit code once it has ended; a negative one is the signal that killed it."""

    def stop(self) -> None:
        """Ask it to save and stop."""

    def kill(self) -> None:
        """End it at once."""


class Engine(Protocol):
    """Starts workers on one job."""

    def start(self, index: int) -> WorkerProcess:
        """Start worker `index`, or restart it."""


def open_engine(name: str, job: dict[str, Any], workers: int, logs: Path, address: str | None) -> Engine:
    """Return the engine called `name` for `workers` workers on one job.

    Raises:
        BadInput: there is no such engine, or it does not fit the store or the address.
        Unavailable: what it needs is not installed, or its cluster does not answer.
    """
    logs.mkdir(parents=True, exist_ok=True)
    module = importlib.import_module(ENGINES[name])
    engine: Engine = module.open_engine(job, workers, logs, address)
    return engine


def check_engine(name: str, url: str, address: str | None) -> None:
    """Refuse what cannot work before anything is written.

    Raises:
        BadInput: there is no such engine, or it does not fit the store or the address.
        Unavailable: what it needs is not installed.
    """
    if name not in ENGINES:
        raise BadInput(f"--engine: {name!r} is not an engine; {suggestion(name, ENGINES)}")
    if name not in CLUSTERS:
        if address is not None:
            raise BadInput(
                f"--address: found {address!r}, but the {name} engine has no address; use --engine ray or slurm"
            )
        return
    if sqlite_file(url) is not None:
        raise BadInput(
            f"--engine: {name} starts workers on several machines, but SQLite works on only one; use --storage postgresql://..."
        )
    if importlib.util.find_spec(CLUSTERS[name]) is None:
        raise Unavailable(f"--engine: {name} needs {CLUSTERS[name]}; pip install 'ablate-studies[{name}]'")
