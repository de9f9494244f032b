"""Numbers as people write them: decimal points or commas, percent signs; thousands separators are never guessed.

A comma is a decimal mark if commas do not separate the fields and at least one number cannot be read in another way,
such as 87,5 or 0,874. 87,512 may mean thousands: a file with only such numbers is refused unless `--decimal` is given."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation

from ablate.tables import Faults

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
WITH_COMMA = re.compile(r"[+−-]?([0-9]+,[0-9]*|,[0-9]+)([eE][+-]?[0-9]+)?\s*%?")
WITH_POINT = re.compile(r"[+−-]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*%?")
WITHOUT_MARK = re.compile(r"[+−-]?[0-9]+([eE][+-]?[0-9]+)?\s*%?")
MAYBE_THOUSANDS = re.compile(r"[+−-]?[1-9][0-9]{0,2},[0-9]{3}\s*%?")
THOUSANDS = re.compile(r"[+−-]?[0-9]{1,3}([.,'’\s][0-9]{3})+([.,][0-9]+)?\s*%?")


def as_number(text: str) -> Decimal | None:
    """Return the number in `text`, exactly; None if it is not a number."""
    text = text.replace("−", "-")
    if not NUMBER.fullmatch(text):
        return None
    try:
        return Decimal(text)
    # An exponent of twenty digits, for example.
    except InvalidOperation:
        return None


def with_points(
    columns: Mapping[str, list[str]],
    numbers: Collection[str],
    lines: Sequence[int],
    delimiter: str,
    decimal: str | None,
    faults: Faults,
) -> tuple[dict[str, list[str]], list[str]]:
    """Return the columns with decimal commas turned into points, and a note if that was done.

    Columns that contain other text stay as they are, even those that must be `numbers`: their reader reports the fault.

    Raises:
        BadInput: the meaning of the commas is ambiguous.
    """
    commas = {name: texts for name, texts in columns.items() if _are_numbers(texts, ",")}
    if decimal == "." or (decimal is None and (delimiter == "," or not commas)):
        return dict(columns), []
    points = {name: texts for name, texts in columns.items() if _are_numbers(texts, ".")}
    if decimal is None and (why := _undecided(commas, points)):
        faults.add(f"{why}; pass --decimal ',' or --decimal '.'", column=next(iter(commas)))
        # Stop here: every single number would be a fault too.
        faults.raise_any()
    for name in [name for name in points if name in numbers]:
        line, text = next((line, text) for line, text in zip(lines, points[name], strict=True) if "." in text)
        faults.add(f"{text!r} has a decimal point, but other numbers have decimal commas", line, name)
    turned = {name: [text.replace(",", ".") for text in texts] for name, texts in commas.items()}
    notes = [f"decimal commas: {text} is read as {text.replace(',', '.')}" for text in _with(",", commas)[:1]]
    return {**columns, **turned}, notes


def without_percent(texts: Sequence[str]) -> list[str] | None:
    """Return percentages without their signs; None unless every text that is not empty has one."""
    filled = [text for text in texts if text not in ("", "NA")]
    if not filled or not all(text.endswith("%") for text in filled):
        return None
    return [text.removesuffix("%").rstrip() for text in texts]


def why_no_number(text: str) -> str:
    """Return what is wrong with a text that should be a number, and how to fix it."""
    fault = f"{text[:40]!r} is not a finite number"
    if THOUSANDS.fullmatch(text):
        return f"{fault}; write it without thousands separators"
    if WITH_COMMA.fullmatch(text):
        return f"{fault}; write all decimals with a point, or all with a comma and pass --decimal ','"
    return fault


def _are_numbers(texts: Iterable[str], mark: str) -> bool:
    """Return whether a column has only numbers, at least one with this decimal mark and none with the other."""
    filled = [text for text in texts if text not in ("", "NA")]
    decimal = WITH_COMMA if mark == "," else WITH_POINT
    return any(mark in text for text in filled) and all(
        decimal.fullmatch(text) or WITHOUT_MARK.fullmatch(text) for text in filled
    )


def _undecided(commas: Mapping[str, list[str]], points: Mapping[str, list[str]]) -> str | None:
    """Return why the meaning of the commas is ambiguous; None if it is not."""
    if points:
        return f"its numbers have commas, those of {next(iter(points))} have points"
    texts = _with(",", commas)
    if all(map(MAYBE_THOUSANDS.fullmatch, texts)):
        return f"{texts[0]!r} may be {texts[0].replace(',', '.')} or {texts[0].replace(',', '')}"
    return None


def _with(mark: str, columns: Mapping[str, Sequence[str]]) -> list[str]:
    return [text for texts in columns.values() for text in texts if mark in text]
