"""A delimited text file as rows with their line numbers, and every fault with its place.

Files are UTF-8 (with or without a BOM), with LF or CRLF, separated by tabs or commas (detected from
the header), with fields in double quotes as Python's csv reads them (or, with `quotes: none`, as
they are); plain, .gz or .xz. Refuses what would silently shift or swallow rows: rows of the wrong
width, a quote that is never closed, NUL, bytes that are not UTF-8, a truncated compressed file.
"""

import csv
from dataclasses import dataclass, field
from pathlib import Path

from ablate.errors import BadInput
from ablate.tables import LONE_QUOTE, NUMBER, UTF_8, Faults, read_text, records
from ablate.text import shown

_PLAIN = ", or write `quotes: none` where quotes are text like any other"
_NAMES = {"\t": "tab", ",": "comma"}


@dataclass
class Table:
    """A header and rows, and their faults so far."""

    header: list[str]
    faults: Faults
    # Line from 1, and fields as wide as the header.
    rows: list[tuple[int, list[str]]] = field(default_factory=list)


def read_file(path: Path, quotes: bool = True) -> Table:
    """Read a delimited file. Faults of single rows are left in the table; the caller adds its own and raises them.

    Without `quotes`, a double quote is a character like any other, and a row is a line.

    Raises:
        BadInput: the file cannot be read as a table at all.
    """
    # Not splitlines(), which also splits at U+2028 and its like inside a sentence.
    text = read_text(path, UTF_8).replace("\r\n", "\n")
    lines = text.split("\n")
    delimiter = _delimiter(next(line for line in lines if line.strip()), path)
    table = Table([], Faults(path))
    ended = [line + "\n" for line in lines]
    for line, fields in records(ended, delimiter, table.faults, quotes=quotes, advice=_PLAIN):
        if not fields:
            continue
        if not table.header:
            # No row can be read without the header.
            table.faults.raise_any()
            table.header = [name.strip() for name in fields]
        elif problem := _problem(fields, delimiter, len(table.header)):
            table.faults.add(problem, line)
        else:
            table.rows.append((line, fields))
    if not table.header:
        table.faults.raise_any()
    return table


def number_or_none(written: str) -> float | None:
    """Return the finite number in `written`, if it is one. Python's float() would accept nan, inf and 1_0 too."""
    return float(written) if NUMBER.fullmatch(written) else None


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
    if _swallows_lines(fields, delimiter, width):
        return LONE_QUOTE + _PLAIN
    if len(fields) == width:
        return ""
    quoted = any(delimiter in text for text in fields)
    why = (
        f"; a double quote opens a field that continues after a {_NAMES[delimiter]}{_PLAIN}" if quoted else ""
    )
    return f"{len(fields)} fields where the header has {width}{why}"


def _swallows_lines(fields: list[str], delimiter: str, width: int) -> bool:
    """Return whether a field has several lines that look like rows."""
    of_several_lines = [text for text in fields if "\n" in text]
    # Commas are common in text of several lines; tabs are not.
    if delimiter == "\t":
        return any("\t" in text or len(fields) != width for text in of_several_lines)
    return bool(of_several_lines) and (
        len(fields) != width
        or any(_is_several_rows(fields, at, delimiter) for at, text in enumerate(fields) if "\n" in text)
    )


def _is_several_rows(fields: list[str], at: int, delimiter: str) -> bool:
    """Return whether the lines of a field, with the fields around it, are rows that a lone quote has joined.

    The first row then ends in the first line of the field, and the last row begins in its last line. Where other columns have
    numbers, so have these rows."""
    first, *lines = (next(csv.reader([line], delimiter=delimiter), []) for line in fields[at].split("\n"))
    rows = [row for row in [fields[:at] + first, *lines[:-1], lines[-1] + fields[at + 1 :]] if row]
    if any(len(row) != len(fields) for row in rows):
        return False
    others = [column for column in range(len(fields)) if column != at and _is_number(fields[column])]
    inner = [cell for line in lines for cell in line]
    return all(_is_number(row[column]) for row in rows for column in others) and any(map(_is_number, inner))


def _is_number(cell: str) -> bool:
    return NUMBER.fullmatch(cell.strip()) is not None
