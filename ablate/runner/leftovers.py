"""Kills the processes that a worker leaves behind: a trainer started
them and they outlive it, whatever their group, session or parent.

Each worker has a unique word in its environment, which its children inherit; on Linux, /proc/PID/environ shows the environment
that a process was started with. Uses only the standard library, since the process that writes a worker's logs runs this file
when the worker dies."""

import contextlib
import os
import signal
import time
from pathlib import Path

NAME = "ABLATE_WORKER"  # environment variable with a word that is unique to a worker
# The same for the process that writes the worker's logs. It is no leftover: once everything printed is copied, it ends by itself.
WRITER_NAME = "ABLATE_LOGS_OF"
# A process stuck in the kernel, e.g. on a dead network disk, cannot be killed.
LONGEST_S = 10.0
WRITER_S = 2.0


def end(word: str) -> None:
    """Kill every process that was started with this word; repeat until there is none, since one may be starting another."""
    give_up = time.monotonic() + LONGEST_S
    while (pids := _named(f"{NAME}={word}")) and time.monotonic() < give_up:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def wait_for_logs(word: str) -> None:
    """Wait until the last words of a worker that has ended are in its logs."""
    give_up = time.monotonic() + WRITER_S
    while _named(f"{WRITER_NAME}={word}") and time.monotonic() < give_up:
        time.sleep(0.005)


def _named(entry: str) -> list[int]:
    """Return the processes that were started with this entry, `NAME=word`, in their environment."""
    wanted, pids = entry.encode(), []
    for name in filter(str.isdecimal, os.listdir("/proc") if os.path.isdir("/proc") else ()):
        # The file is empty or unreadable if the process has ended or belongs to another user.
        with contextlib.suppress(OSError):
            if int(name) != os.getpid() and wanted in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                pids.append(int(name))
    return pids
