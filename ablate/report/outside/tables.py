"""What every reader of a table returns: text columns by name, the line of each row, notes; and checks of names."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from ablate.tables import Faults
from ablate.text import closest, shown, split_list

SHOWN = 20  # column names in a message; the others are counted


@dataclass(frozen=True)
class Table:
    """Some columns of a file, and the lines of their rows."""

    columns: dict[str, list[str]]
    lines: list[int]  # in the file, from 1; for a database, the trial numbers
    notes: list[str] = field(default_factory=list)  # what the reader assumed
    # Indices of rows that equal an earlier one in every column of the file.
    copies: frozenset[int] = frozenset()
    names: tuple[str, ...] = ()  # of all columns of a file

    def __len__(self) -> int:
        return len(self.lines)


MOST = 1e100  # a smallest effect, whose square must be a number too


def copies_of_earlier(rows: Iterable[Hashable]) -> frozenset[int]:
    """Return the indices of rows that equal an earlier one."""
    first: dict[Hashable, int] = {}
    return frozenset(place for place, row in enumerate(rows) if first.setdefault(row, place) != place)


def chosen_names(typed: str, names: Sequence[str]) -> list[str]:
    """Return the columns that `typed` means: one by its name, or several by a list with commas or a pattern such as `acc_*`."""
    if typed in names:
        return [typed]
    parts = [part for part in split_list(typed) if part]
    matched = (_matching(part, names) or [part] for part in parts)
    return list(dict.fromkeys(name for each in matched for name in each)) or [typed]


def _matching(part: str, names: Sequence[str]) -> list[str]:
    if part in names or not any(sign in part for sign in "*?"):
        return []
    return [name for name in names if name and fnmatchcase(name, part)]


def check_names(requested: Sequence[str], names: Sequence[str], faults: Faults, line: int | None) -> None:
    """Refuse `requested` columns that are not in `names`, or are there twice.

    Raises:
        BadInput: with all of them.
    """
    counts = Counter(names)
    missing = Faults(faults.place)
    for name in requested:
        if counts[name] > 1:
            missing.add(f"{counts[name]} columns have this name; keep one", line, name)
        elif not counts[name]:
            missing.add(f"no such column; {_hint(name, names)}", line, name)
    missing.raise_any()


def _hint(name: str, names: Sequence[str]) -> str:
    if whole := next((column for column in names if name != column and name in split_list(column)), None):
        return f"did you mean {whole!r}? Put a name with commas in double quotes, inside the shell's quotes: '\"{whole}\"'"
    if names and names[0].startswith("#"):
        return f"the first line, {shown(names[0])}, looks like a comment: delete it"
    lower = {column.lower(): column for column in names}
    if near := closest(name.lower(), lower):
        return f"did you mean {lower[near]!r}?"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"the columns are {', '.join(map(repr, names[:SHOWN]))}{more}"


def why_not_smallest(smallest_effect: float | None) -> list[str]:
    """Return what is wrong with a smallest effect, if anything."""
    if smallest_effect is None or 0 < smallest_effect <= MOST:
        return []
    return [f"smallest effect: {smallest_effect} is not a positive number of at most {MOST:g}"]


def why_not_decimal(decimal: str | None) -> list[str]:
    """Return what is wrong with a decimal mark, if anything."""
    return [] if decimal in (None, ".", ",") else [f"--decimal: {decimal!r} is neither '.' nor ','"]
