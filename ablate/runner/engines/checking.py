"""Refuse an engine that cannot work, before anything is written."""

import importlib.util

from ablate.errors import BadInput, Unavailable
from ablate.runner.engines.registry import CLUSTERS, ENGINES
from ablate.store.opening import sqlite_file
from ablate.text import suggestion


def check_engine(name: str, url: str, address: str | None) -> None:
    """Refuse an engine that cannot work, before anything is written.

    Raises:
        BadInput: there is no such engine, or it does not fit the store or the address.
        Unavailable: what it needs is not installed.
    """
    if name not in ENGINES:
        raise BadInput(f"--engine: {name!r} is not an engine; {suggestion(name, ENGINES)}")
    if name not in CLUSTERS:
        if address is not None:
            raise BadInput(
                f"--address: found {address!r}, but the {name} engine has no address; use --engine {' or '.join(CLUSTERS)}"
            )
        return
    if sqlite_file(url) is not None:
        raise BadInput(
            f"--engine: {name} starts workers on several machines, but SQLite works on only one; set ABLATE_STORAGE=postgresql://..."
        )
    if importlib.util.find_spec(CLUSTERS[name]) is None:
        raise Unavailable(f"--engine: {name} needs {CLUSTERS[name]}; pip install 'ablate-studies[{name}]'")
