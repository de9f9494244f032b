"""The levels of a text column: which texts are the same level, their order, and the column coded by level."""

from collections.abc import Sequence
from decimal import Decimal

import numpy as np

from ablate.report.outside.number_format import as_number
from ablate.stats.linear import Factor

Value = tuple[str, Decimal]  # unit ("%" or none) and number


def order_levels(column: Sequence[str], baseline: str | None = None) -> list[str]:
    """Return a column's levels: the baseline first, the others in numeric order if all are numbers, else in alphabetical order.

    Texts that are the same number (1 and 1.0) are one level, named as it is first written; "-" and "+" count as
    −1 and 1. Percentages count as numbers if all levels are percentages. Without a `baseline` the smallest comes first.
    """
    levels = list(dict.fromkeys(text for text in column if text))
    by_value: dict[Value, str] = {}
    for text in levels:
        if (value := _value(text)) is not None:
            by_value.setdefault(value, text)
    if all(map(_value, levels)) and len({unit for unit, _ in by_value}) == 1:
        levels = [by_value[value] for value in sorted(by_value)]
    else:
        levels = sorted(text for text in levels if (value := _value(text)) is None or by_value[value] == text)
    first = baseline and match_level(baseline, levels)
    return [first, *(text for text in levels if text != first)] if first else levels


def match_level(text: str, levels: Sequence[str]) -> str | None:
    """Return the level that `text` names, as text or as a number."""
    if text in levels:
        return text
    value = _value(text)
    return next((level for level in levels if value is not None and _value(level) == value), None)


def coded(name: str, column: Sequence[str], levels: Sequence[str]) -> Factor:
    """Return the column as a factor with the indices of `levels`; −1 where it is empty."""
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
