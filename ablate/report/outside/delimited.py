"""Delimited text, one row per line: CSV as people write it.

The delimiter (comma, tab, semicolon or pipe) is detected from the header. Accepts quotes,
CRLF, spaces around fields, a delimiter at the end of every line, and markdown's rule under the
header. Refuses, with the place: a row with too few or too many fields; an unclosed quote."""

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ablate.errors import BadInput
from ablate.tables import Faults, records
from ablate.text import plural

DELIMITERS = {"\t": "tab", ";": "semicolon", "|": "pipe", ",": "comma"}
EXCEL_SEPARATOR = re.compile(r"sep=(.)\s*", re.IGNORECASE)  # a first line that only Excel writes
MARKDOWN_RULE = re.compile(r":?-{2,}:?|")


@dataclass(frozen=True)
class Grid:
    """All fields of a file."""

    names: list[str]
    header_line: int
    rows: list[list[str]]
    lines: list[int]  # of the rows, in the file
    delimiter: str


def read_grid(text: str, count_known: Callable[[list[str]], int], faults: Faults) -> Grid:
    """Return the fields of `text`; rows of a wrong length are noted in `faults`.

    Args:
        text: the text of the file.
        count_known: returns how many of the requested columns a header has, to choose the delimiter.
        faults: collects what is wrong with single rows.

    Raises:
        BadInput: the text is not a table: a lone quote, no header, no rows.
    """
    first = EXCEL_SEPARATOR.fullmatch(text.partition("\n")[0])
    delimiter = first[1] if first else _delimiter(text, count_known)
    names: list[str] | None = None
    header_line = 1
    rows: list[list[str]] = []
    lines: list[int] = []
    lines_of_text = io.StringIO(text, newline="").readlines()
    for line, row in records(lines_of_text, delimiter, faults, skip_blanks=True):
        is_blank = len(row) < 2 and not any(map(str.strip, row))
        if is_blank or (first and line == 1):
            continue
        if names is None:
            names, header_line = [name.strip() for name in row], line
        elif rows or not _is_rule(row, delimiter):
            rows.append(row)
            lines.append(line)
    faults.raise_any()
    if names is None or not rows:
        raise BadInput(f"{faults.place}: {'a header but no rows' if names else 'no header and no rows'}")
    _refuse_spaces(names, count_known, faults, header_line)
    names, rows = _without_last_delimiter(names, rows, faults)
    # Spreadsheets also save rows that were filled once and are empty now.
    while rows and not any(map(str.strip, rows[-1])):
        rows.pop()
        lines.pop()
    return _of_right_length(Grid(names, header_line, rows, lines, delimiter), faults)


def _delimiter(text: str, count_known: Callable[[list[str]], int]) -> str:
    """Return the delimiter that gives the header the most requested columns or, in case of a tie, the most fields."""

    def worth(delimiter: str) -> tuple[int, int]:
        reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
        )
        try:
            header = next((row for row in reader if any(field.strip() for field in row)), [])
        except csv.Error:
            return (-1, 0)
        return (count_known([name.strip() for name in header]), len(header))

    return max(DELIMITERS, key=worth)


def _is_rule(row: Sequence[str], delimiter: str) -> bool:
    return delimiter == "|" and all(MARKDOWN_RULE.fullmatch(field.strip()) for field in row)


def _refuse_spaces(
    names: list[str], count_known: Callable[[list[str]], int], faults: Faults, line: int
) -> None:
    if len(names) == 1 and not count_known(names) and count_known(names[0].split()):
        raise BadInput(
            f"{faults.place}:{line}: fields are separated by spaces; save the file with commas or tabs"
        )


def _without_last_delimiter(
    names: list[str], rows: list[list[str]], faults: Faults
) -> tuple[list[str], list[list[str]]]:
    """Remove the empty last field that results if every line ends with a delimiter.

    Rows with one field more than the header may also start with a row name, as R writes them. Then every column would be
    read from its neighbour, so a first column that counts the rows is refused."""
    width = len(names)
    if names[-1] == "" and all(len(row) == width - 1 for row in rows):
        return names[:-1], rows
    if any(len(row) != width + 1 or row[-1].strip() for row in rows):
        return names, rows
    if _are_row_numbers([row[0].strip() for row in rows]):
        what = "row numbers without a name in the header, or an extra delimiter at the end?"
        raise BadInput(
            f"{faults.place}: every row has one field more than the header: {what} Save the file without it"
        )
    return names, [row[:-1] for row in rows]


def _are_row_numbers(texts: Sequence[str]) -> bool:
    return any(texts == [str(first + i) for i in range(len(texts))] for first in (0, 1))


def _of_right_length(grid: Grid, faults: Faults) -> Grid:
    width, quoted = len(grid.names), f"quote a field with a {DELIMITERS.get(grid.delimiter, grid.delimiter)}"
    right = []
    for line, row in zip(grid.lines, grid.rows, strict=True):
        if len(row) == width:
            right.append((line, row))
        else:
            faults.add(f"{plural(len(row), 'field')}, the header has {width}; {quoted}", line)
    return Grid(
        grid.names, grid.header_line, [row for _, row in right], [line for line, _ in right], grid.delimiter
    )
