"""Faults of a study file: collected with their places, sorted as the file reads, raised all at once."""

import difflib
from collections.abc import Iterable, Iterator
from typing import Any

from ablate.errors import BadInput

SHOWN_CHARACTERS = 60  # of a found value or key: a fault stays one readable line
SHOWN_FAULTS = 100  # beyond this a file is not a study with mistakes but something else


class Faults:
    """The faults found so far in one file."""

    def __init__(self, file: str) -> None:
        self.file = one_line(file)
        self._found: dict[tuple[int, int, str], None] = {}  # a dict: each once, in order of discovery

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[str]:
        """Yield `file:line:column: key: message`, top to bottom; those of the command line (line 0) last."""
        for line, column, message in sorted(self._found, key=lambda fault: (fault[0] == 0, fault[:2])):
            yield f"{self.file}:{line}:{column}: {message}" if line else message

    def add(self, place: tuple[int, int], key: str, message: str) -> None:
        """Remember that the value called `key` at (line, column), both from 1, is wrong."""
        self._found[(*place, f"{shortened(one_line(key))}: {message}" if key else message)] = None

    def stop_if_any(self) -> None:
        """Raise what was found.

        Raises:
            BadInput: one line per fault.
        """
        if self._found:
            lines = list(self)
            hidden = len(lines) - SHOWN_FAULTS
            raise BadInput(
                *lines[:SHOWN_FAULTS], *([f"{self.file}: and {hidden} more faults"] if hidden > 0 else [])
            )


def suggestion(found: str, known: Iterable[Any]) -> str:
    """Return what to write instead of `found`: the nearest known name, or all of them."""
    names = [str(name) for name in known]
    if near := difflib.get_close_matches(found[:200], names, n=1, cutoff=0.6):
        return f"did you mean {shown(near[0])}?"
    if not names:
        return "there is none to name"
    listed = ", ".join(shortened(one_line(name)) for name in names[:12])
    return f"known: {listed}{', …' if len(names) > 12 else ''}"


def shown(value: Any) -> str:
    """Return `value` as a fault shows it: text in quotes, one line, not too long."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return shortened(repr(value))
    return shortened(one_line(str(value)))


def one_line(text: str) -> str:
    """Escape what does not print, newlines and terminal codes among it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str) -> str:
    """Cut `text` in the middle when it is long."""
    if len(text) <= SHOWN_CHARACTERS:
        return text
    return f"{text[:40]}…{text[-15:]}"
