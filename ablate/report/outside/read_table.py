"""Read columns of a table by name, without guessing: CSV as people write it, JSONL, a JSON list.

Text stays as it is: "NA", "null" and "None" are ordinary words, and only spaces around a field are removed. What the reader had
to assume becomes a note of the table. Refuses, with the place, what `ablate.tables`, `delimited` and `records` refuse, and a
header that lacks a requested name or has it twice."""

from collections.abc import Collection, Sequence
from pathlib import Path

from ablate.report.outside.delimited import read_grid
from ablate.report.outside.number_format import with_points
from ablate.report.outside.records import looks_like_json, read_records
from ablate.report.outside.tables import Table, check_names, chosen_names, copies_of_earlier
from ablate.tables import Faults, read_text


def read_columns(
    path: Path,
    requested: Sequence[str],
    faults: Faults,
    *,
    several: str | None = None,
    numbers: Collection[str] | None = None,
    decimal: str | None = None,
) -> Table:
    """Return the `requested` columns of the table at `path`; rows of a wrong length are noted in `faults`.

    Args:
        path: the file.
        requested: names of columns, or keys of records with dots.
        faults: collects what is wrong with single rows.
        several: the one of `requested` that may stand for several columns: a list with commas, or a pattern such as `acc_*`.
        numbers: those of `requested` that must be numbers; None to ignore decimal commas.
        decimal: the decimal mark, "." or ","; None to detect it.

    Raises:
        BadInput: the file cannot be read as a table at all, or a requested column is missing.
    """
    text = read_text(path)
    if looks_like_json(text):
        return read_records(text, requested, faults, several)
    grid = read_grid(text, lambda names: _known(names, requested, several), faults)
    named = _named(requested, grid.names, several)
    check_names(named, grid.names, faults, grid.header_line)
    if not grid.rows and not faults:
        faults.add("a header but no rows")
    at = {name: grid.names.index(name) for name in named}
    columns = {name: [row[i].strip() for row in grid.rows] for name, i in at.items()}
    if numbers is None:
        return Table(columns, grid.lines)
    must = [name for typed in numbers for name in _named([typed], grid.names, several)]
    columns, notes = with_points(columns, must, grid.lines, grid.delimiter, decimal, faults)
    copies = copies_of_earlier(tuple(field.strip() for field in row) for row in grid.rows)
    return Table(columns, grid.lines, notes, copies, tuple(grid.names))


def _named(requested: Sequence[str], names: Sequence[str], several: str | None) -> list[str]:
    """Return `requested` with `several` replaced by the columns that it stands for."""
    chosen = (chosen_names(typed, names) if typed == several else [typed] for typed in requested)
    return [name for each in chosen for name in each]


def _known(names: list[str], requested: Sequence[str], several: str | None) -> int:
    return sum(name in names for name in _named(requested, names, several))
