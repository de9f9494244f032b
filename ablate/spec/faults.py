"""Faults of a study file: collected with their places, sorted in the order of the file, raised all at once."""

from collections.abc import Iterator

from ablate.errors import BadInput
from ablate.text import printable, shortened

# A file with more faults than this is probably not a study file.
SHOWN_FAULTS = 100


class Faults:
    """The faults found so far in one file."""

    def __init__(self, file: str) -> None:
        self.file = printable(file)
        # A dict keeps each fault once, in the order in which they were found.
        self._found: dict[tuple[int, int, str], None] = {}

    def __len__(self) -> int:
        return len(self._found)

    def __iter__(self) -> Iterator[str]:
        """Yield `file:line:column: key: message`, top to bottom; those of the command line (line 0) last."""
        for line, column, message in sorted(self._found, key=lambda fault: (fault[0] == 0, fault[:2])):
            yield f"{self.file}:{line}:{column}: {message}" if line else message

    def add(self, place: tuple[int, int], key: str, message: str) -> None:
        """Add a fault of the value called `key`, at `place`: (line, column), both from 1."""
        self._found[(*place, f"{shortened(printable(key))}: {message}" if key else message)] = None

    def stop_if_any(self) -> None:
        """Raise the faults, if there are any.

        Raises:
            BadInput: one line per fault.
        """
        if self._found:
            lines = list(self)
            hidden = len(lines) - SHOWN_FAULTS
            raise BadInput(
                *lines[:SHOWN_FAULTS], *([f"{self.file}: and {hidden} more faults"] if hidden > 0 else [])
            )
