"""Retry while the database's server is unreachable."""

import time
from collections.abc import Callable
from typing import TypeVar

from ablate.store.database_errors import Cut, Disconnected
from ablate.text import duration

R = TypeVar("R")
RECONNECT_S = 120.0  # how long a server may be unreachable
RETRY_S = 0.2


def lasting(work: Callable[[], R], stopping: Callable[[], bool] = lambda: False) -> R:
    """Return `work()`; while the server is unreachable, retry it for up to RECONNECT_S or until asked to stop.

    Raises:
        Disconnected: the server was not reachable again in time.
    """
    give_up = time.monotonic() + RECONNECT_S
    while True:
        try:
            return work()
        except Disconnected as error:
            if stopping():
                raise
            if time.monotonic() > give_up:
                raise Disconnected(
                    f"{error}; waited {duration(RECONNECT_S)}: once it is back, the same command continues from the last "
                    "checkpoints"
                ) from error
            time.sleep(RETRY_S)


def unless_cut(work: Callable[[], R]) -> R:
    """Return `work()`, retried if the server ends the connection meanwhile. Does not wait for a server that does not answer."""
    try:
        return work()
    except Cut:
        return lasting(work)
