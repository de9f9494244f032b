"""Refuse an engine that cannot work, before anything is written."""

import importlib.util

from ablate.errors import BadInput, Unavailable
from ablate.runner.engines.registry import ENGINES, clusters
from ablate.store.urls import sqlite_file
from ablate.text import suggestion


def check_engine(name: str, url: str, address: str | None) -> None:
    """Refuse an engine that cannot work, before anything is written.

    Raises:
        BadInput: there is no such engine, or it does not fit the store or the address.
        Unavailable: what it needs is not installed.
    """
    if name not in ENGINES:
        raise BadInput(f"--engine: {name!r} is not an engine; {suggestion(name, ENGINES)}")
    engine = ENGINES[name]
    if not engine.several_machines:
        if address is not None:
            raise BadInput(
                f"--address: found {address!r}, but the {name} engine has no address; use --engine {' or '.join(clusters())}"
            )
        return
    if sqlite_file(url) is not None:
        raise BadInput(
            f"--engine: {name} starts workers on several machines, but SQLite works on only one; set ABLATE_STORAGE=postgresql://..."
        )
    if engine.package and importlib.util.find_spec(engine.package) is None:
        raise Unavailable(f"--engine: {name} needs {engine.package}; pip install 'ablate-studies[{name}]'")
