"""A program under its guard: what it prints, whether it runs, how it is stopped and how it ended."""

import contextlib
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from ablate.errors import TrialError
from ablate.text import shortened, without_codes

POLL_S = 0.05  # how often to check whether it ended or has to stop
LONGEST_LINE = 1 << 16  # bytes; only the end of a longer line is kept
SHOWN_LINE = 300  # characters of its last line in a message
GUARD = Path(__file__).with_name("guard.py")


class Program:
    """A running program. Leaving the `with` block stops it if it is still running."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], workdir: Path, grace_seconds: float
    ) -> None:
        """Start `command` as soon as no earlier program runs in `workdir` any more.

        `grace_seconds`: between SIGTERM and SIGKILL."""
        self._grace_s = grace_seconds
        self._name = command[0]
        self._lock = workdir / "running.lock"
        self._guard = subprocess.Popen(
            # -I and -S: load as little as possible.
            [sys.executable, "-I", "-S", str(GUARD), str(self._lock), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=environment,
            start_new_session=True,
        )
        self._out, self._err = Lines(), Lines()
        self._listening = selectors.DefaultSelector()
        self._listening.register(self._guard.stdout, selectors.EVENT_READ, self._out)  # type: ignore[arg-type]
        self._listening.register(self._guard.stderr, selectors.EVENT_READ, self._err)  # type: ignore[arg-type]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.is_running():
                self.stop()
        finally:
            self._kill()
            self._listening.close()
            for stream in (self._guard.stdout, self._guard.stderr):
                stream.close()  # type: ignore[union-attr]

    def is_running(self) -> bool:
        """Return whether it runs. If it does not, all its output has been read."""
        if self._guard.poll() is None:
            return True
        # Does not wait for the streams to close: a process that could not be killed may hold them open.
        while self._listening.select(0):
            self.listen()
        return False

    def listen(self) -> None:
        """Wait a moment for output, and pass it on to the log."""
        for key, _ in self._listening.select(POLL_S):
            chunk = os.read(key.fd, LONGEST_LINE)
            if not chunk:
                # End of the stream: the program has ended, or has closed its output and still runs.
                self._listening.unregister(key.fileobj)
            _log(chunk)
            key.data.add(chunk)

    def printed(self) -> list[bytes]:
        """Return the lines of stdout since the last call."""
        return self._out.taken()

    def stop(self) -> None:
        """Send SIGTERM to its process group; after the grace, SIGKILL."""
        with contextlib.suppress(BrokenPipeError):
            self._guard.stdin.write(b"\n")  # type: ignore[union-attr]
        end = time.monotonic() + self._grace_s
        while self.is_running():
            self.listen()
            if time.monotonic() > end:
                self._kill()

    def _kill(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._guard.stdin.close()  # type: ignore[union-attr]
        self._guard.wait()

    @property
    def peak_memory_bytes(self) -> int | None:
        """The peak memory of the program, or of its largest descendant, after its end; None if it is not known."""
        with contextlib.suppress(OSError, ValueError):
            return int(self._lock.read_bytes())
        return None

    @property
    def has_failed(self) -> bool:
        """Whether it ended other than with exit code 0."""
        return bool(self._guard.returncode)

    def raise_failure(self) -> None:
        """Raise an error if the program failed.

        Raises:
            TrialError: it failed; names the exit code or signal, and the last line of its stderr.
        """
        code = self._guard.returncode
        if code == 0:
            return
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if code == -signal.SIGKILL:
            how += " (out of memory?)"
        last = self._err.last or self._out.last
        last_line = shortened(_text(last), SHOWN_LINE) if last else "it printed nothing"
        raise TrialError(f"{self._name} {how}: {last_line}")


def _text(line: bytes) -> str:
    return without_codes(line.decode(errors="replace")).strip()


def _is_visible(line: bytes) -> bool:
    return bool(_text(line))


class Lines:
    """Bytes of a stream, line by line. A carriage return ends a line too, since progress bars print no line feeds."""

    def __init__(self) -> None:
        self._new: list[bytes] = []
        self._rest = b""
        self._last = b""

    def add(self, chunk: bytes) -> None:
        """Add bytes that were read; an empty `chunk` means the end of the stream."""
        *lines, rest = re.split(rb"[\r\n]", self._rest + chunk)
        if not chunk:
            lines, rest = [rest], b""
        self._rest = rest[-LONGEST_LINE:]
        lines = [line for line in lines if line.strip()]
        self._new += lines
        # Progress bars end with a code that shows the cursor again, which is no visible text.
        self._last = next((line for line in reversed(lines) if _is_visible(line)), self._last)

    def taken(self) -> list[bytes]:
        """Return the lines since the last call."""
        new, self._new = self._new, []
        return new

    @property
    def last(self) -> bytes:
        """The last line that is not blank, stripped."""
        return (self._rest.strip() or self._last.strip())[-LONGEST_LINE:]


def _log(chunk: bytes) -> None:
    # A log that cannot be written must not fail a trial. Results go to stdout, so the log goes to stderr.
    with contextlib.suppress(OSError):
        while chunk:
            chunk = chunk[os.write(2, chunk) :]
