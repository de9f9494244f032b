"""A delimited text file as rows with their line numbers, and every fault with its place.

Files are UTF-8 (with or without a BOM), with LF or CRLF, separated by tabs or commas (detected from the header), with fields in
double quotes as Python's csv reads them; plain, .gz or .xz. Refuses what would silently shift or swallow rows: rows of the wrong
width, a quote that is never closed, NUL, bytes that are not UTF-8, a truncated compressed file.
"""

import csv
import re
from dataclasses import dataclass, field
from pathlib import Path

from ablate.errors import BadInput
from ablate.tables import LONE_QUOTE, UTF_8, Faults, read_text, records
from ablate.text import shown

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")


@dataclass
class Table:
    """A header and rows, and their faults so far."""

    header: list[str]
    faults: Faults
    # Line from 1, and fields as wide as the header.
    rows: list[tuple[int, list[str]]] = field(default_factory=list)


def read_file(path: Path) -> Table:
    """Read a delimited file. Faults of single rows are left in the table; the caller adds its own and raises them.

    Raises:
        BadInput: the file cannot be read as a table at all.
    """
    # Not splitlines(), which also splits at U+2028 and its like inside a sentence.
    text = read_text(path, UTF_8).replace("\r\n", "\n")
    lines = text.split("\n")
    delimiter = _delimiter(next(line for line in lines if line.strip()), path)
    table = Table([], Faults(path))
    for line, fields in records([line + "\n" for line in lines], delimiter, table.faults):
        if not fields:
            continue
        if not table.header:
            # Without its header no row can be read.
            table.faults.raise_any()
            table.header = [name.strip() for name in fields]
        elif problem := _problem(fields, delimiter, len(table.header)):
            table.faults.add(problem, line)
        else:
            table.rows.append((line, fields))
    return table


def number_or_none(written: str) -> float | None:
    """Return the finite number in `written`, if it is one. Python's float() would accept nan, inf and 1_0 too."""
    return float(written) if _NUMBER.fullmatch(written) else None


def _delimiter(header: str, path: Path) -> str:
    for delimiter in "\t,":
        if delimiter in header:
            return delimiter
    for other, name in ((";", "semicolons"), ("|", "bars")):
        if other in header:
            raise BadInput(f"{path}:1: header: fields seem to be separated by {name}; use tabs or commas")
    raise BadInput(f"{path}:1: header: only one column ({shown(header)}); separate columns by tab or comma")


def _problem(fields: list[str], delimiter: str, width: int) -> str:
    """Return what is wrong with a record, if anything."""
    inner = [line for text in fields if "\n" in text for line in text.split("\n")[1:]]
    if inner and (len(fields) != width or any(_looks_like_a_row(line, delimiter, width) for line in inner)):
        return LONE_QUOTE
    return "" if len(fields) == width else f"{len(fields)} fields where the header has {width}"


def _looks_like_a_row(line: str, delimiter: str, width: int) -> bool:
    cells = next(csv.reader([line], delimiter=delimiter), [])
    # The last line that a lone quote swallowed may lack a field: the text after the quote that closed it.
    if len(cells) < width - 1:
        return False
    return delimiter == "\t" or any(_NUMBER.fullmatch(cell.strip()) for cell in cells)
