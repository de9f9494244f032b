"""State of the process that a trainer may change and the next trial depends on; it is restored however a trial ends."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from ablate.runner.signals import Handlers


@contextlib.contextmanager
def undone() -> Iterator[None]:
    """Put back the working folder, variables that were changed or removed, signal handlers, the recursion limit and the hook
    for exceptions."""
    folder, variables, handlers = Path.cwd(), dict(os.environ), _handlers()
    limit, hook = sys.getrecursionlimit(), sys.excepthook
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
        # No thread can be started without one.
        sys.excepthook = hook
        os.chdir(folder)
        # New variables stay: a library that sets one when it is imported relies on it in later trials, too.
        os.environ.update(variables)
        now = _handlers()
        for number, handler in handlers.items():
            if now[number] != handler:
                signal.signal(number, handler)


def _handlers() -> Handlers:
    """Return the handlers that can be put back; none outside the main thread, where Python sets no handler."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    numbers = set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}
    # None: set by a library in C.
    return {number: found for number in numbers if (found := signal.getsignal(number)) is not None}
