"""Converts the report's frozen values to JSON. No other file does.

A JSON key is the name of its field, or the text that its type is annotated with. Keys are a contract with other programs: they
may be added, never renamed or removed."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel

# How a field appears in JSON. INLINE: its fields become fields of its parent. HIDDEN: never. OPTIONAL: unless it is None.
INLINE, HIDDEN, OPTIONAL = object(), object(), object()


def to_json(value: Any) -> Any:
    """Return a document as plain JSON data: dicts, lists, texts, numbers."""
    if is_dataclass(value) and not isinstance(value, type):
        return _object(value)
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    return value


def _object(value: Any) -> dict[str, Any]:
    row: dict[str, Any] = {}
    kind: Any = type(value)
    for name, key in _keys(kind):
        item = getattr(value, name)
        if key is INLINE:
            row |= to_json(item)
        elif key is not OPTIONAL or item is not None:
            row[name if key is OPTIONAL else key] = to_json(item)
    return row


# Cached since a large study has a hundred thousand rows, of some twenty types.
@cache
def _keys(row: Any) -> list[tuple[str, Any]]:
    """Return the names of the fields that are not hidden, with their keys."""
    keys = [(field.name, *getattr(field.type, "__metadata__", (field.name,))) for field in fields(row)]
    return [(name, key) for name, key in keys if key is not HIDDEN]
