"""A study given as a mapping in Python, as the YAML text that a file would contain."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from ablate.spec.faults import Faults
from ablate.spec.yaml_tree import MAX_DEPTH
from ablate.text import shown


def as_yaml(value: object, faults: Faults, key: str = "", depth: int = 0) -> str:
    """Return a value as YAML in brackets; arrays and scalars of NumPy and pandas, and paths, as plain values.

    Whatever a file could not contain goes to `faults`."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if depth > MAX_DEPTH:
        faults.add((0, 0), f"study: {key}", f"nested deeper than {MAX_DEPTH} levels; a study needs a few")
        faults.stop_if_any()
    match value:
        case Mapping():
            texts = []
            for name, inner in value.items():
                inside = as_yaml(inner, faults, f"{key}.{name}" if key else str(name), depth + 1)
                texts.append(f"{_key(name, faults, key)}: {inside}")
            return _in_brackets("{", texts, "}", depth)
        case list() | tuple() | range():
            texts = [as_yaml(item, faults, f"{key}[{i}]", depth + 1) for i, item in enumerate(value)]
            return _in_brackets("[", texts, "]", depth)
        case str() | Path():
            return _quoted(str(value))
        case None | bool():
            return json.dumps(value)
        case int() if abs(value) < 2**64:
            return str(int(value))
        case float() if math.isfinite(value):
            return repr(float(value))
        case int():
            what = "does not fit in 64 bits; use a smaller number"
        case float():
            what = f"{value} is not a finite number; use a finite one, or text"
        case set() | frozenset():
            what = f"{shown(value)} is a set, which has no order; write a list, or a text in quotes"
        case _:
            what = (
                f"{shown(value)} is a {type(value).__name__}; "
                "write plain values: dict, list, str, int, float, bool, None"
            )
    faults.add((0, 0), f"study: {key}", what)
    return "null"


def _key(name: object, faults: Faults, key: str) -> str:
    if isinstance(name, str):
        return _quoted(name)
    # Without quotes, so that the levels 1 and "1" stay apart.
    if name is None or isinstance(name, bool | int | float) or hasattr(name, "tolist"):
        return as_yaml(name, faults, key)
    faults.add((0, 0), f"study: {key}", f"{shown(name)} cannot be a key; use text")
    return "null"


def _in_brackets(opening: str, texts: list[str], closing: str, depth: int) -> str:
    start = "\n" + " " * (depth + 1)
    return opening + ",".join(start + text for text in texts) + (start[:-1] if texts else "") + closing


def _quoted(text: str) -> str:
    """Return YAML's quoted text. Unlike JSON's, it may not have line separators and the like as they are."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)
