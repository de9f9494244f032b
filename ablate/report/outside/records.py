"""JSON as a table: one object per line (JSONL), or one list of objects. A key with dots names a nested value.

Numbers keep their digits as written; null and missing keys are empty; true and false stay these words."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from ablate.errors import BadInput
from ablate.report.outside.tables import Table, check_names, chosen_names, copies_of_earlier
from ablate.tables import Faults

BLANK = re.compile(r"[\s,]*")
SAMPLED = 100  # the names of keys are collected from this many records
DEPTH = 8  # of nested names


def looks_like_json(text: str) -> bool:
    """Return whether a file's text starts like JSON."""
    return text.lstrip()[:1] in ("{", "[")


def read_records(text: str, requested: Sequence[str], faults: Faults, several: str | None = None) -> Table:
    """Return the `requested` keys of every record as columns; lists and objects among the values are noted in `faults`.

    Raises:
        BadInput: the text is not JSON, or no record has a requested key.
    """
    records = list(_records(text, faults))
    if not records:
        raise BadInput(f"{faults.place}: no records")
    keys = list(dict.fromkeys(key for _, record in _sample(records, several) for key in _flat(record)))
    requested = [
        name for typed in requested for name in (chosen_names(typed, keys) if typed == several else [typed])
    ]
    values_of = {name: [_value(record, name) for _, record in records] for name in requested}
    present = [name for name, values in values_of.items() if any(value is not None for value in values)]
    check_names(requested, [*present, *(key for key in keys if key not in present)], faults, None)
    columns = {
        name: [_text(value, line, name, faults) for (line, _), value in zip(records, values, strict=True)]
        for name, values in values_of.items()
    }
    # Only `analyze` names several, and needs the copies; the records of an evaluation harness may be long.
    written = [json.dumps(record, sort_keys=True) for _, record in records if several]
    return Table(columns, [line for line, _ in records], copies=copies_of_earlier(written))


def _sample(records: list[tuple[int, Any]], several: str | None) -> list[tuple[int, Any]]:
    return records[:SAMPLED] if several is None else records


def _records(text: str, faults: Faults) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each object with the line in which it starts."""
    decoder = json.JSONDecoder(object_pairs_hook=_object, parse_int=str, parse_float=str, parse_constant=str)
    listed = text.lstrip().startswith("[")
    at, line, counted = (text.index("[") + 1 if listed else 0), 1, 0
    while True:
        at = _skip(text, at)
        line, counted = line + text.count("\n", counted, at), at
        if at == len(text) or (listed and text[at] == "]"):
            break
        try:
            record, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
            raise BadInput(
                f"{faults.place}:{line}: not JSON: {why}; one object a line, or one list of them"
            ) from None
        if not isinstance(record, dict):
            raise BadInput(
                f"{faults.place}:{line}: {str(record)[:40]!r} is not an object with keys; expected one per line"
            )
        yield line, record
    if listed and text[at:].strip() != "]":
        raise BadInput(f"{faults.place}:{line}: the list of records does not end here, or text follows it")


def _skip(text: str, at: int) -> int:
    blank = BLANK.match(text, at)
    return blank.end() if blank else at


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError("a key appears twice in one object")
    return record


def _flat(record: Any, before: str = "", depth: int = DEPTH) -> Iterator[str]:
    for key, value in record.items():
        if isinstance(value, dict) and depth:
            yield from _flat(value, f"{before}{key}.", depth - 1)
        else:
            yield f"{before}{key}"


def _value(record: Any, key: str) -> Any:
    """Return the value of `key`, which may contain dots itself, or else of the nested keys its dots separate; None if missing."""
    if isinstance(record, dict) and key in record:
        return record[key]
    head, dot, rest = key.partition(".")
    while dot:
        inner = _step(record, head)
        if inner is not None and (value := _value(inner, rest)) is not None:
            return value
        more, dot, rest = rest.partition(".")
        head = f"{head}.{more}"
    return _step(record, key) if isinstance(record, list) else None


def _step(record: Any, key: str) -> Any:
    if isinstance(record, list) and key.isascii() and key.isdigit() and int(key[:9]) < len(record):
        return record[int(key[:9])]
    return record.get(key) if isinstance(record, dict) else None


def _text(value: Any, line: int, key: str, faults: Faults) -> str:
    if isinstance(value, dict | list):
        what, inner = ("an object", next(iter(value), "key")) if isinstance(value, dict) else ("a list", "0")
        faults.add(f"{what} where one value is needed; name what is inside, such as {key}.{inner}", line, key)
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value).strip()
