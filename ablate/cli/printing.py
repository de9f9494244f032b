"""Printing: results on stdout, messages on stderr, control characters escaped, lines wrapped at a terminal's width."""

import contextlib
import json
import shutil
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from ablate.text import printable, shortened, wrapped

LONGEST_LINE = 2000


def show(document: dict[str, Any], text: str, as_json: bool) -> None:
    """Print a result as one JSON document or as text."""
    if as_json:
        with _named("stdout"):
            print(
                printable(json.dumps(document, ensure_ascii=False), lambda c: json.dumps(c)[1:-1]), flush=True
            )
    else:
        say(text)


def complain(*lines: str) -> None:
    """Print to stderr, without the middle of very long lines. Errors of printing are ignored: they must not end the command."""
    if lines:
        with contextlib.suppress(OSError):
            _print((shortened(line, LONGEST_LINE) for line in lines), sys.stderr)


def say(text: str) -> None:
    """Print to stdout."""
    with _named("stdout"):
        _print(text.split("\n"), sys.stdout)
        sys.stdout.flush()


@contextlib.contextmanager
def _named(stream: str) -> Iterator[None]:
    """Name the stream in errors of the file system."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, stream) from error


def terminal_width(stream: TextIO | None = None) -> int | None:
    """Return the width in characters of the terminal that a stream (default: stdout) goes to; None if it is not a terminal."""
    is_terminal = (stream or sys.stdout).isatty()
    return shutil.get_terminal_size().columns if is_terminal else None


def _print(lines: Iterable[str], stream: TextIO) -> None:
    """Print lines, wrapped only on a terminal."""
    width = terminal_width(stream)
    safe = map(printable, lines)
    print(
        "\n".join(safe if width is None else (part for line in safe for part in wrapped(line, width))),
        file=stream,
    )
