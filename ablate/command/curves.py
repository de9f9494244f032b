"""A program's curves: lines such as `{"step": 10, "dev/loss": 0.3}`, printed or appended to points.jsonl in the workdir."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ablate.contract import Context

LONGEST_NAME = 128  # characters of a metric's name
LARGEST_STEP = 2**31  # databases store it in 32 bits
LARGEST_INTEGER = 1 << 62
CHUNK = 1 << 20


class Curves:
    """Passes points on to the context, and remembers how much of the file has been read."""

    def __init__(self, workdir: Path, context: Context) -> None:
        # The values of the last printed line that is a JSON object of numbers only.
        self.last_numbers: dict[str, float] = {}
        self._file = workdir / "points.jsonl"
        self._context = context
        state = context.restore() or {"read": 0, "step": 0}
        # Read before the program starts, which may begin a new file.
        self._read = min(state["read"], self._file.stat().st_size if self._file.is_file() else 0)
        self._step: int = state["step"]
        self._rest = b""

    def follow(self, printed: Iterable[bytes], to_the_end: bool = False) -> None:
        """Report the points among the lines `printed`, and the new ones of the file.

        `to_the_end`: the program has ended, so the file's last line is complete even without a line break.

        Raises:
            Stopped, Pruned: from the context.
        """
        seen = [self._report(values) for values in map(json_object, printed) if self._is_printed(values)]
        seen += [self._report(values) for values in map(json_object, self._appended(to_the_end))]
        if any(seen):
            self.save()

    def save(self) -> None:
        """Record the program's step; if the run has to stop, the time spent so far is saved with it.

        Raises:
            Stopped: from the context.
        """
        self._context.checkpoint(self._step, lambda: {"read": self._read, "step": self._step})

    def _is_printed(self, values: dict[str, Any]) -> bool:
        numbers = numbers_of(values)
        # Names that cannot be a metric's are left out.
        if numbers and all(_is_number(value) for value in values.values()):
            self.last_numbers = numbers
        return bool(numbers)

    def _report(self, values: dict[str, Any]) -> bool:
        numbers = numbers_of(values)
        step = numbers.pop("step", -1.0)
        if not numbers or not 0 <= step < LARGEST_STEP or step != int(step):
            return False
        self._step = int(step)
        self._context.report(self._step, numbers)
        return True

    def _appended(self, to_the_end: bool) -> Iterable[bytes]:
        """Yield the complete lines that were added to the file."""
        if not self._file.is_file():
            return
        with self._file.open("rb") as file:
            if os.fstat(file.fileno()).st_size < self._read:
                self._read, self._rest = 0, b""
            file.seek(self._read + len(self._rest))
            while chunk := file.read(CHUNK):
                *lines, self._rest = (self._rest + chunk).split(b"\n")
                for line in lines:
                    self._read += len(line) + 1
                    yield line
        if to_the_end:
            yield self._rest


def json_object(line: bytes) -> dict[str, Any]:
    """Return the JSON object that a line consists of; an empty one for any other line."""
    if not line.strip().startswith(b"{"):
        return {}
    try:
        document = json.loads(line.decode(errors="replace"))
    # Nested too deeply, or a number too long for Python.
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def numbers_of(values: dict[str, Any]) -> dict[str, float]:
    """Return the values that are numbers (not true or false) and whose name can be a metric's."""
    numbers: dict[str, float] = {}
    for name, value in values.items():
        is_name = name.isprintable() and name.strip() and len(name) <= LONGEST_NAME
        if is_name and _is_number(value):
            numbers[name] = value
    return numbers


def _is_number(value: object) -> bool:
    # Python's integers are unbounded, the database's are not.
    return isinstance(value, float) or (type(value) is int and abs(value) < LARGEST_INTEGER)
