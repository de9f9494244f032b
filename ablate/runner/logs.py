"""The logs of attempts: one per attempt at a part, `logs/<part>-<seed>/attempt-<n>.log` in the study's folder. Trials that share
a part share its logs.

A log holds what the trainer, its subprocesses and C libraries printed to stdout and stderr, after a header line. It is bounded
(see logwriter.py), and so is the number of logs of a part."""

import contextlib
import ctypes
import datetime
import os
import platform
import re
import select
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from ablate.runner import leftovers, logwriter
from ablate.store.places import Place
from ablate.store.results import TrialResult
from ablate.text import printable

KEPT = 20  # how many logs of a part are kept: the last ones
OURS = "[ablate]"  # lines that the trainer did not print begin with this
# How long to wait for the log of an ended attempt, which a leftover process may hold open.
WAIT_S = 2.0
END_BYTES = 1 << 16  # how much of a log's end is searched for its last line
_ATTEMPT = re.compile(r"attempt-(\d+)\.log")
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")  # codes for colours and cursor movement


class Logbook:
    """Sends what this process prints to logs, through a process that writes them."""

    def __init__(self, show: bool = False) -> None:
        """`show`: print everything to stderr too."""
        self._show = show
        self._start()

    @contextlib.contextmanager
    def writing(self, log: Path) -> Iterator[None]:
        """Send everything printed here to `log`: redirects descriptors 1 and 2, so libraries and subprocesses are included."""
        pipe, printing = os.pipe()
        ended, end = os.pipe()
        self._send(log, pipe, end)
        _flush()
        kept = [(os.dup(number), number) for number in (1, 2)]
        for number in (1, 2):
            os.dup2(printing, number)
        os.close(printing)
        try:
            yield
        finally:
            _flush()
            for descriptor, number in kept:
                os.dup2(descriptor, number)
                os.close(descriptor)
            select.select([ended], [], [], WAIT_S)
            os.close(ended)

    def _send(self, log: Path, pipe: int, end: int) -> None:
        if self._writer.poll() is not None:
            self._control.close()
            self._start()
        socket.send_fds(self._control, [os.fsencode(log)], [pipe, end])
        os.close(pipe)
        os.close(end)

    def _start(self) -> None:
        self._control, writer_end = socket.socketpair()
        environment = dict(os.environ)
        # Under the worker's own name, it would be killed with the worker's leftovers, and a crash's stack would be lost.
        if word := environment.pop(leftovers.NAME, None):
            environment[leftovers.WRITER_NAME] = word
        with writer_end:
            self._writer = subprocess.Popen(
                # -I and -S: it needs no packages, and starts sooner without them.
                [sys.executable, "-I", "-S", logwriter.__file__, str(writer_end.fileno()), str(os.getpid())]
                + ["--show"] * self._show,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[writer_end.fileno()],
                env=environment,
                start_new_session=True,
            )

    def close(self) -> None:
        """Let the writer end as soon as everything that may print has ended."""
        with contextlib.suppress(OSError):
            self._control.send(logwriter.BYE)
        self._control.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._writer.wait(WAIT_S)


def _flush() -> None:
    """Flush Python's and C's buffers."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    ctypes.CDLL(None).fflush(None)


def new_log(folder: Path, what: str) -> Path:
    """Return the log of the next attempt at part `what`, in its folder of logs; only the last KEPT logs are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    there = attempts(folder)
    number = _number(there[-1]) + 1 if there else 1
    log = folder / f"attempt-{number}.log"
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    log.write_text(f"{OURS} attempt {number} at {what}: {platform.node()}, process {os.getpid()}, {now}\n")
    for old in [*there, log][:-KEPT]:
        old.unlink(missing_ok=True)
    return log


def attempts(folder: Path) -> list[Path]:
    """Return the logs in a part's folder, oldest first."""
    return sorted((log for log in folder.glob("attempt-*.log") if _ATTEMPT.fullmatch(log.name)), key=_number)


def _number(log: Path) -> int:
    match = _ATTEMPT.fullmatch(log.name)
    assert match is not None
    return int(match[1])


def logs_of(place: Place, trial: TrialResult) -> list[Path]:
    """Return the logs of a trial's parts, in the order in which they ended."""
    every = [log for part in trial.parts.values() for log in attempts(place.log_folder(part, trial.seed))]
    return sorted(every, key=lambda log: (log.stat().st_mtime, log))


def last_printed(place: Place, trial: TrialResult) -> str | None:
    """Return the last line that a trial printed and that is not blank."""
    for log in reversed(logs_of(place, trial)):
        with log.open("rb") as opened:
            opened.seek(max(0, log.stat().st_size - END_BYTES))
            lines = [shown_line(line) for line in opened.read().split(b"\n")]
        if printed := [line for line in lines if line.strip() and not line.startswith(OURS)]:
            return printed[-1].strip()
    return None


def shown_line(line: bytes) -> str:
    """Return a line as a terminal would finally show it: only the last state of a progress bar, without colours.

    Other characters that a terminal would act on are escaped."""
    text = _ESCAPES.sub("", line.decode(errors="replace"))
    return printable(text.rstrip("\r").rpartition("\r")[2].expandtabs())


class Reader:
    """Reads logs that may still grow."""

    def __init__(self) -> None:
        self._read: dict[Path, int] = {}
        self._begun: dict[Path, bytes] = {}  # lines without an end yet

    def new_lines(self, logs: Iterable[Path], ended: bool) -> list[str]:
        """Return the lines that were added since the last call. `ended`: nothing more is coming."""
        return [shown_line(line) for log in logs for line in self._new(log, ended)]

    def _new(self, log: Path, ended: bool) -> list[bytes]:
        before, size = self._read.get(log, 0), log.stat().st_size
        with log.open("rb") as opened:
            # A log shrinks when its middle is cut out. Then it is unknown which lines are new.
            opened.seek(min(before, size))
            added = opened.read(max(0, size - before))
        self._read[log] = size
        *lines, rest = (self._begun.pop(log, b"") + added).split(b"\n")
        if rest and not ended:
            self._begun[log] = rest
        return [*lines, rest] if rest and ended else lines
