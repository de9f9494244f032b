"""The levels of a column of texts: which texts are the same level, their order, and the column coded by level."""

from collections.abc import Sequence
from decimal import Decimal

import numpy as np

from ablate.report.outside.number_format import as_number
from ablate.stats.linear import Factor

Value = tuple[str, Decimal]  # unit ("%" or none) and number


def order_levels(column: Sequence[str], baseline: str | None = None) -> list[str]:
    """Return the levels of a column, the baseline first; by number where all are numbers, else by alphabet.

    Texts that are the same number (1 and 1.0) are one level, under the name met first; "-" and "+" count as
    −1 and 1. Numbers in percent are numbers where all are. Without a `baseline` the smallest comes first.
    """
    found = list(dict.fromkeys(text for text in column if text))
    by_value: dict[Value, str] = {}
    for text in found:
        if (value := _value(text)) is not None:
            by_value.setdefault(value, text)
    if all(map(_value, found)) and len({unit for unit, _ in by_value}) == 1:
        found = [by_value[value] for value in sorted(by_value)]
    else:
        found.sort()
    first = baseline and match_level(baseline, found)
    return [first, *(text for text in found if text != first)] if first else found


def match_level(text: str, levels: Sequence[str]) -> str | None:
    """Return the level that `text` names, by text or else by number."""
    if text in levels:
        return text
    value = _value(text)
    return next((level for level in levels if value is not None and _value(level) == value), None)


def coded(name: str, column: Sequence[str], levels: Sequence[str]) -> Factor:
    """Return the column as a factor, its levels numbered as in `levels`; −1 where it is empty."""
    by_text = {text: i for i, text in enumerate(levels)}
    by_value = {value: i for i, text in enumerate(levels) if (value := _value(text)) is not None}
    known = {"": -1} | by_text
    for text in set(column) - set(known):
        value = _value(text)
        known[text] = -1 if value is None else by_value.get(value, -1)
    return Factor(name, np.array([known[text] for text in column], dtype=np.intp), len(levels))


def _value(text: str) -> Value | None:
    if text in ("-", "−", "+"):
        return "", Decimal(1 if text == "+" else -1)
    unit = "%" if text.endswith("%") else ""
    number = as_number(text.removesuffix("%").rstrip() if unit else text)
    return None if number is None else (unit, number)
