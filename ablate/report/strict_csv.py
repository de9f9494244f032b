"""Read columns of somebody's CSV by name, believing nothing.

Comma or tab is read off the header; quotes, CRLF and a byte-order mark are understood; spaces around a field
are dropped. Texts stay as they are: "NA", "null" and "None" are words like any other. Refused, each with its
place: a file that is missing, empty, not UTF-8 or binary; a header without a wanted name or with a name
twice; a row with too few or too many fields; a lone quote.
"""

import csv
import difflib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ablate.errors import BadInput

SHOWN = 20  # faults of one file; more are counted


class Faults:
    """Everything found wrong with one file, told at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, what: str, line: int | None = None, column: str | None = None) -> None:
        """Note one fault: `file:line: column: what`."""
        place = f"{self.path}:{line}" if line else str(self.path)
        self._lines.append(": ".join(part for part in (place, column, what) if part))

    @property
    def lines(self) -> list[str]:
        """The faults, one a line; beyond the first twenty only their number."""
        more = len(self._lines) - SHOWN
        return [*self._lines[:SHOWN], f"{self.path}: and {more} more faults"] if more > 0 else self._lines

    def raise_any(self) -> None:
        """Raise BadInput if there is a fault."""
        if self._lines:
            raise BadInput(*self.lines)


@dataclass(frozen=True)
class Table:
    """Some columns of a file, and where their rows stand."""

    columns: dict[str, list[str]]
    lines: list[int]  # in the file, from 1

    def __len__(self) -> int:
        return len(self.lines)


def read_columns(path: Path, wanted: Sequence[str], faults: Faults) -> Table:
    """Return the `wanted` columns of the CSV at `path`; rows of a wrong length are noted in `faults`.

    Raises:
        BadInput: the file cannot be read as a table at all, or a wanted column is not there.
    """
    text = _text(path)
    first = text.split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if "\t" in first else ",", strict=True)
    header: list[str] | None = None
    lines: list[int] = []
    rows: list[list[str]] = []
    start = 1
    try:
        for row in reader:
            line, start = start, reader.line_num + 1
            if not any(field.strip() for field in row) and len(row) <= 1:
                continue
            if header is None:
                header = _header(path, line, row, wanted)
            elif len(row) != len(header):
                faults.add(
                    f"{_fields(len(row))}, the header has {len(header)}; quote a field with a comma", line
                )
            else:
                lines.append(line)
                rows.append(row)
    except csv.Error as error:
        raise BadInput(*faults.lines, f"{path}:{start}: {_lone_quote(str(error))}") from error
    if header is None:
        raise BadInput(f"{path}: no header and no rows; expected columns {', '.join(wanted)}")
    if not rows and not faults:
        raise BadInput(f"{path}: a header but no rows")
    at = {name: header.index(name) for name in wanted}
    return Table({name: [row[i].strip() for row in rows] for name, i in at.items()}, lines)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except IsADirectoryError:
        raise BadInput(f"{path}: a folder; name a CSV file") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not data.strip():
        raise BadInput(f"{path}: the file is empty")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(
            f"{path}:{line}: not UTF-8 (byte {data[error.start]:#04x}); save the file as UTF-8"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise BadInput(f"{path}:{line}: a NUL byte; this is not a text file")
    return text


def _header(path: Path, line: int, row: list[str], wanted: Sequence[str]) -> list[str]:
    header = [name.strip() for name in row]
    if len(header) == 1 and ";" in header[0]:
        raise BadInput(
            f"{path}:{line}: the fields are parted by ';'; save the file with commas or tabs, and decimals with a point"
        )
    faults = Faults(path)
    counts = Counter(header)
    for name in wanted:
        if counts[name] > 1:
            faults.add(f"{counts[name]} columns have this name; keep one", line, name)
        elif name not in counts:
            lower = {own.lower(): own for own in header}
            close = difflib.get_close_matches(name.lower(), lower, 1)
            hint = (
                f"did you mean {lower[close[0]]!r}?"
                if close
                else f"the columns are {', '.join(map(repr, header))}"
            )
            faults.add(f"no such column; {hint}", line, name)
    faults.raise_any()
    return header


def _fields(n: int) -> str:
    return "1 field" if n == 1 else f"{n} fields"


def _lone_quote(message: str) -> str:
    if "unexpected end" in message or "expected after" in message:
        return "a quote that is never closed, or text after a closing quote; double the quotes inside a field"
    return f"{message}; is this a CSV file?"
