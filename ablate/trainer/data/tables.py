"""A delimited text file as rows with their line numbers, and every fault with its place.

UTF-8 (with or without a BOM), LF or CRLF, tab or comma as the header has it, fields in double quotes as Python's csv reads them;
plain, .gz or .xz. Refuses what would shift or swallow rows in silence: rows of the wrong width, a quote that is never closed,
NUL, bytes that are not UTF-8, a compressed file that ends too early."""

import csv
import re
from dataclasses import dataclass, field
from pathlib import Path

from ablate.errors import BadInput
from ablate.tables import LONE_QUOTE, UTF_8, Faults, read_text, records

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")


@dataclass
class Table:
    """A header and rows, with the faults found in them so far."""

    place: str  # the file, or the hub dataset and its split
    header: list[str]
    rows: list[tuple[int, list[str]]] = field(
        default_factory=list
    )  # (line from 1, fields as wide as the header)

    def __post_init__(self) -> None:
        self.faults = Faults(self.place)

    def fault(self, line: int, column: str, message: str) -> None:
        """Remember a fault."""
        self.faults.add(message, line, column)

    def refuse_faults(self) -> None:
        """Raise BadInput if there are faults."""
        self.faults.raise_any()


def read_file(path: Path) -> Table:
    """Read a delimited file. Faults of single rows are left in the table, for the caller to add its own to.

    Raises:
        BadInput: the file cannot be read as a table at all.
    """
    # Not splitlines(), which also splits at U+2028 and its like inside a sentence.
    text = read_text(path, UTF_8).replace("\r\n", "\n")
    lines = text.split("\n")
    delimiter = _delimiter(next(line for line in lines if line.strip()), path)
    table = Table(str(path), [])
    for line, fields in records([line + "\n" for line in lines], delimiter, table.faults):
        if not fields:
            continue
        if not table.header:
            # Without its header no row can be read.
            table.refuse_faults()
            table.header = [name.strip() for name in fields]
        elif problem := _problem(fields, delimiter, len(table.header)):
            table.faults.add(problem, line)
        else:
            table.rows.append((line, fields))
    return table


def number_or_none(written: str) -> float | None:
    """Return the finite number that `written` is. Python's own float() would also take nan, inf and 1_0."""
    return float(written) if _NUMBER.fullmatch(written) else None


def _delimiter(header: str, path: Path) -> str:
    for delimiter in "\t,":
        if delimiter in header:
            return delimiter
    for other, name in ((";", "semicolons"), ("|", "bars")):
        if other in header:
            raise BadInput(f"{path}:1: header: fields seem to be parted by {name}; tab or comma would do")
    shown = header if len(header) <= 60 else header[:57] + "..."
    raise BadInput(
        f"{path}:1: header: one column only ({shown!r}); columns parted by tab or comma are needed"
    )


def _problem(fields: list[str], delimiter: str, width: int) -> str:
    """Say what is wrong with a record, if anything."""
    inner = [line for text in fields if "\n" in text for line in text.split("\n")[1:]]
    if inner and (len(fields) != width or any(_looks_like_a_row(line, delimiter, width) for line in inner)):
        return LONE_QUOTE
    return "" if len(fields) == width else f"{len(fields)} fields where the header has {width}"


def _looks_like_a_row(line: str, delimiter: str, width: int) -> bool:
    cells = next(csv.reader([line], delimiter=delimiter), [])
    if len(cells) < width - 1:  # the last line of a swallowed stretch has lost what followed its quote
        return False
    return delimiter == "\t" or any(_NUMBER.fullmatch(cell.strip()) for cell in cells)
