"""The signals that ask our processes to save and stop, and the one that asks a worker to stop after its trial.

Batch systems warn with different ones before they kill: Slurm with whatever --signal says (often SIGUSR1 or SIGUSR2) and SIGTERM,
SGE with SIGUSR1, LSF with SIGUSR2, a limit of CPU time with SIGXCPU; a terminal that closes sends SIGHUP."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from ablate.errors import BadInput

STOPPING = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")
    if hasattr(signal, name)
)
# Exit code of a worker that was asked to stop.
ASKED_TO_STOP = 128 + signal.SIGTERM
# Only these count as a second request: batch systems send SIGTERM after a warning, and SIGXCPU comes every second.
_URGENT = (signal.SIGINT, signal.SIGTERM)
# Processes that do not expect this signal ignore it, so a mistyped PID kills nothing.
_DRAIN = signal.SIGURG
# Found in the command line of a worker that `ablate run` started.
_WORKER = b"ablate.runner.process"

Handler = Callable[[int, FrameType | None], object]
Handlers = dict[signal.Signals, Handler | int | None]


def catch(handler: Handler, drain: Handler | None = None) -> Handlers:
    """Call `handler` when asked to stop, and `drain` when asked to stop after the trial; return the previous handlers.

    Under `nohup` a closed terminal stops nothing. Other signals are caught even if they were ignored: a shell starts background
    commands with SIGINT ignored.
    Outside the main thread this does nothing, since Python handles signals only in the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    before: Handlers = {
        number: signal.signal(number, handler)
        for number in STOPPING
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    }
    if drain is not None:
        before[_DRAIN] = signal.signal(_DRAIN, drain)
    return before


def is_urgent(number: int, seen: set[int]) -> bool:
    """Return whether this is a second request, which means: stop at once."""
    return number in _URGENT and not seen.isdisjoint(_URGENT)


def drain(pid: int) -> None:
    """Ask the worker with this process id, on this machine, to end after its trial.

    Raises:
        BadInput: there is no such process, it is not a worker, or it belongs to somebody else.
    """
    command = _command_of(pid)
    if command and b"ablate" not in command:
        raise BadInput(f"--drain: process {pid} is not a worker of ablate; see `ps`")
    if workers := [child for child in _children_of(pid) if _WORKER in _command_of(child)]:
        raise BadInput(
            f"--drain: process {pid} is `ablate run`; name one of its workers: {', '.join(map(str, workers))}"
        )
    try:
        os.kill(pid, _DRAIN)
    except ProcessLookupError:
        raise BadInput(f"--drain: there is no process {pid} on this machine; see `ps`") from None
    except PermissionError:
        raise BadInput(f"--drain: process {pid} belongs to another user; ask them to drain it") from None


def _command_of(pid: int) -> bytes:
    """Return the command line of a process where the system shows it (Linux); empty elsewhere."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _children_of(pid: int) -> list[int]:
    # Each thread has a command line of its own.
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]
