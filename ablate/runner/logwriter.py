"""Writes what a worker's trainers print to their logs: `python logwriter.py SOCKET PID [--show]`, with the PID of the worker.
When the worker dies, it kills what the worker left behind (see leftovers.py).

It is a separate process, so that the output of a killed worker still reaches the log, and so that
code that prints while it holds the GIL cannot deadlock with the reader of its own pipe. Each message
on the socket is the path of a log, with the pipe that a trainer prints into and a descriptor to
close when the log is complete. Uses only the standard library, so that it starts in milliseconds."""

import contextlib
import io
import os
import runpy
import select
import selectors
import signal
import socket
import sys
from pathlib import Path

# A log keeps its beginning and its end: at most HEAD + 2 * TAIL bytes and a line that says what is missing.
HEAD = 1 << 20
TAIL = 4 << 20
CHUNK = 1 << 16
# Those of signals.py, which a script that imports nothing of the package cannot name.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
BYE = b"\0"  # sent in place of a path: the worker ends normally


class BoundedLog:
    """A log that keeps its first and last bytes."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("r+b", buffering=0)
        self._size = self._printed = self._file.seek(0, os.SEEK_END)

    def write(self, data: bytes) -> None:
        """Add what was printed. On a full disk, output is dropped and training continues."""
        with contextlib.suppress(OSError):
            self._printed += len(data)
            self._size += self._file.write(data) or 0
            if self._size > HEAD + 2 * TAIL:
                self._leave_out_the_middle()

    def _leave_out_the_middle(self) -> None:
        self._file.seek(self._size - TAIL)
        tail = self._file.read(TAIL).partition(b"\n")[2]
        left_out = self._printed - HEAD - len(tail)
        self._file.seek(HEAD)
        self._file.write(b"\n[ablate] %d bytes are left out here\n" % left_out + tail)
        self._file.truncate()
        self._size = self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Screen(io.RawIOBase):
    """A terminal or pipe that somebody may watch. What it does not take within a second is left out.

    A terminal that Ctrl-S has stopped takes nothing, and must not hold up training."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._room = select.poll()
        self._room.register(descriptor, select.POLLOUT)
        self._is_stopped = False

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Write what there is room for; return the length of `data` all the same."""
        # If poll reports room, writing this many bytes never blocks.
        for start in range(0, len(data), select.PIPE_BUF):
            if not self._room.poll(0 if self._is_stopped else 1000):
                self._is_stopped = True
                break
            self._is_stopped = False
            with contextlib.suppress(OSError):
                os.write(self._descriptor, data[start : start + select.PIPE_BUF])
        return len(data)

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return os.isatty(self._descriptor)


def main(control: socket.socket, worker: int, show: bool) -> None:
    """Write until the worker and everything that prints into its pipes have ended."""
    # Ctrl-C and batch systems signal a worker's whole group. Ignore the signals: what the worker prints while it stops belongs
    # in the log.
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    screen = Screen(2) if show else None
    with selectors.DefaultSelector() as sources:
        sources.register(control, selectors.EVENT_READ)
        life = _life_of(worker)
        sources.register(life, selectors.EVENT_READ)
        while sources.get_map():
            for key, _ in sources.select():
                if key.fileobj == life:
                    sources.unregister(life)
                    _end_leftovers()
                elif key.fileobj is control:
                    _begin(control, sources, life)
                else:
                    _copy(key, sources, screen)


def _life_of(worker: int) -> int:
    """Return a descriptor that can be read once a process has ended."""
    try:
        if os.getppid() == worker:
            return os.pidfd_open(worker)
    # Not available on this system: leftovers of the worker are not killed.
    except (AttributeError, OSError):
        return os.pipe()[0]
    dead, end = os.pipe()
    os.close(end)
    return dead


def _end_leftovers() -> None:
    leftovers = runpy.run_path(str(Path(__file__).with_name("leftovers.py")))
    if word := os.environ.get(leftovers["WRITER_NAME"]):
        leftovers["end"](word)


def _begin(control: socket.socket, sources: selectors.BaseSelector, life: int) -> None:
    path, descriptors, _, _ = socket.recv_fds(control, CHUNK, 2)
    if path in (b"", BYE):
        sources.unregister(control)
        if path == BYE and life in sources.get_map():
            sources.unregister(life)
        return
    pipe, ended = descriptors
    sources.register(pipe, selectors.EVENT_READ, (BoundedLog(Path(os.fsdecode(path))), ended))


def _copy(key: selectors.SelectorKey, sources: selectors.BaseSelector, screen: Screen | None) -> None:
    log, ended = key.data
    if data := os.read(key.fd, CHUNK):
        log.write(data)
        if screen:
            screen.write(data)
        return
    sources.unregister(key.fileobj)
    log.close()
    os.close(key.fd)
    os.close(ended)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]), show="--show" in sys.argv)
