"""Reads a label column: numbers, names, or several of either per field.

Names are compared exactly, without spaces around them. If labels have names, a column of their numbers (from 0) is read too,
but not a mixture of both. Several labels are separated by | or are a JSON list; a blank field has none.
"""

import json
from collections.abc import Sequence
from typing import Any

from ablate.text import closest, shown
from ablate.trainer.data.tables import number_or_none
from ablate.trainer.tasks.task import Label, Labels


class Problem(str):
    """What is wrong with a label, and what to write instead."""


def read_labels(column: Sequence[str], labels: Labels) -> list[Label | Problem]:
    """Return the label in each field of a column, or what is wrong with it. The fields must be stripped of spaces."""
    if labels.several:
        fields = [_separated(field) for field in column]
        by_name = _has_names(
            [label for field in fields if isinstance(field, list) for label in field], labels
        )
        return [
            field if isinstance(field, Problem) else _indicators(field, labels, by_name) for field in fields
        ]
    by_name = _has_names(column, labels)
    return [_one(field, labels, by_name) for field in column]


def in_words(label: Label, labels: Labels) -> str:
    """Return a label as a user writes it."""
    if isinstance(label, tuple):
        held = [in_words(number, labels) for number, holds in enumerate(label) if holds]
        return "|".join(held) or "blank"
    return labels.names[int(label)] if labels.names else f"{label:g}"


def _has_names(column: Sequence[str], labels: Labels) -> bool:
    """Return whether a column has names, not numbers; numbers that are themselves names are names."""
    numbers = all(number_or_none(field) is not None for field in column if field)
    names_are_text = all(number_or_none(name) is None for name in labels.names)
    return bool(labels.names) and not (numbers and names_are_text)


def _one(written: str, labels: Labels, by_name: bool) -> float | Problem:
    if not written:
        return Problem(f"blank; write {labels.expected}, or leave such rows out with `blank_labels: drop`")
    if by_name:
        return _named(written, labels)
    value = number_or_none(written)
    if value is None:
        return Problem(f"{shown(written)} is not a number; write {labels.expected}")
    if not labels.allow(value):
        return Problem(f"{shown(written)} is out of range; write {labels.expected}")
    return value


def _named(written: str, labels: Labels) -> float | Problem:
    if written in labels.names:
        return float(labels.names.index(written))
    near = closest(written, labels.names)
    meant = f"; did you mean {shown(near)}?" if near else ""
    return Problem(f"{shown(written)} is not a label; write {labels.expected}{meant}")


def _separated(written: str) -> list[str] | Problem:
    """Split a field into labels."""
    if not written.startswith("["):
        return [label.strip() for label in written.split("|")] if written else []
    try:
        labels: Any = json.loads(written)
    # RecursionError: thousands of brackets.
    except (ValueError, RecursionError):
        return Problem(f"{shown(written)} is not a JSON list; separate labels by |, or write a list")
    return [str(label).strip() for label in labels]


def _indicators(field: list[str], labels: Labels, by_name: bool) -> tuple[float, ...] | Problem:
    """Return 1 for each label that is in a field, 0 for the others."""
    numbers: set[float] = set()
    for written in field:
        number = _one(written, labels, by_name)
        if isinstance(number, Problem):
            return number
        if number in numbers:
            return Problem(f"{shown(written)} appears twice; write each label once")
        numbers.add(number)
    return tuple(float(number in numbers) for number in range(labels.count))
