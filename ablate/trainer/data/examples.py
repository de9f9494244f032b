"""One split of one task as text, and which of its rows share text."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Examples:
    """One split of one task, as text."""

    ids: list[str]
    first: list[str]
    second: list[str] | None  # None for tasks with single sentences
    labels: npt.NDArray[np.float64] | None  # [n] or [n, labels]; None for a test split with hidden labels
    dropped: int = 0  # rows left out because their label was blank

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def columns(self) -> dict[str, list[str]]:
        """The text by column: `first`, and `second` for pairs."""
        return {"first": self.first} if self.second is None else {"first": self.first, "second": self.second}


def course_text(examples: Examples) -> Examples:
    """Return the examples with text as CS224N's reference loader normalises it (datasets.py of its default final project).

    Ids and single sentences are lower-cased and stripped; pairs are lower-cased, with single spaces and a space before each
    . ? , and '.
    """
    ids = [text.lower().strip() for text in examples.ids]
    if examples.second is None:
        return replace(examples, ids=ids, first=[text.lower().strip() for text in examples.first])
    first, second = ([_spaced(text) for text in column] for column in (examples.first, examples.second))
    return replace(examples, ids=ids, first=first, second=second)


def _spaced(text: str) -> str:
    text = text.lower()
    for mark in ".?,'":
        text = text.replace(mark, " " + mark)
    return " ".join(text.split())


def overlap(a: Examples, b: Examples) -> int:
    """Return how many rows of `b` are also in `a`, ignoring case, spaces and the order of a pair."""
    seen = set(_keys(a))
    return sum(key in seen for key in _keys(b))


def clusters(rows: Examples) -> npt.NDArray[np.int64] | None:
    """Return the cluster of each row [n], numbered by first appearance; None if no two rows share a sentence.

    Rows that share a sentence, ignoring case and spaces, are in one cluster, and so are rows connected through others: (a, b),
    (b, c) and (c, d) are one. Union-find with path halving (Tarjan & van Leeuwen 1984, J. ACM 31, 245-281).
    """
    parent = list(range(len(rows)))  # of each row, towards the first row of its cluster

    def first_of(row: int) -> int:
        while parent[row] != row:
            parent[row] = row = parent[parent[row]]
        return row

    seen: dict[str, int] = {}  # sentence -> the first row that has it
    for row, sentences in enumerate(_keys(rows)):
        for sentence in sentences:
            a, b = first_of(row), first_of(seen.setdefault(sentence, row))
            parent[max(a, b)] = min(a, b)
    firsts, numbers = np.unique([first_of(row) for row in range(len(rows))], return_inverse=True)
    return None if len(firsts) == len(rows) else numbers


def _keys(rows: Examples) -> Iterable[tuple[str, ...]]:
    for texts in zip(*rows.columns.values(), strict=True):
        yield tuple(sorted("".join(text.lower().split()) for text in texts))
