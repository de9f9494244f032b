"""Dotted addresses: `data.sentiment` is a place in nested settings. Pure functions on plain dicts."""

from collections.abc import Iterator, Mapping
from typing import Any

from ablate.spec.rules import fault
from ablate.text import shown


def check_address(address: str) -> None:
    """Refuse text that cannot address a setting.

    Raises:
        PydanticCustomError: a fault of the study file.
    """
    if not (address and all(address.split(".")) and address.isprintable() and len(address) <= 200):
        raise fault(f"{shown(address)} is not the address of a setting; write e.g. batch_size.sentiment")


def put(nested: dict[str, Any], address: str, value: Any) -> bool:
    """Set `address` in `nested`, merging mappings; return False if a value is already there."""
    folder, name = _folder(nested, address)
    return isinstance(folder, dict) and _merge(folder, {name: value})


def replace(nested: dict[str, Any], address: str, value: Any) -> bool:
    """Set `address` in `nested`, replacing what is there; return False if one of its parents is a value, not a mapping."""
    folder, name = _folder(nested, address)
    if isinstance(folder, dict):
        folder[name] = copied(value)
    return isinstance(folder, dict)


def _folder(nested: dict[str, Any], address: str) -> tuple[Any, str]:
    """Return the mapping that holds the last part of `address` (or the value found in its place), and that last part."""
    *folders, name = address.split(".")
    inside: Any = nested
    for folder in folders:
        if isinstance(inside, dict):
            inside = inside.setdefault(folder, {})
    return inside, name


def leaves(nested: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the address of every value that is not itself a mapping."""
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def overlap(a: str, b: str) -> bool:
    """Return whether two addresses are the same or one lies inside the other."""
    return a == b or a.startswith(f"{b}.") or b.startswith(f"{a}.")


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> bool:
    free = True
    # Keys inside a value are names, not addresses: their dots do not separate anything.
    for key, value in more.items():
        if key not in into:
            into[key] = copied(value)
        elif isinstance(value, Mapping) and isinstance(into[key], dict):
            free &= _merge(into[key], value)
        else:
            free = False
    return free


def copied(value: Any) -> Any:
    """Return a copy that shares no mapping; its keys are plain text."""
    return {str(key): copied(inner) for key, inner in value.items()} if isinstance(value, Mapping) else value
