"""Settings as JSON and YAML text that every parser reads alike."""

import json
from collections.abc import Mapping
from typing import Any


def json_text(settings: Mapping[str, Any]) -> str:
    """Return settings as JSON."""
    return json.dumps(settings, indent=2, ensure_ascii=False) + "\n"


def yaml_text(settings: Mapping[str, Any], indent: str = "") -> str:
    """Return settings as YAML that means the same in version 1.1 (PyYAML) and 1.2: text in quotes, numbers with a point."""
    lines = []
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            lines.append(f"{indent}{_flow(name)}:\n{yaml_text(value, indent + '  ')}")
        else:
            lines.append(f"{indent}{_flow(name)}: {_flow(value)}\n")
    return "".join(lines) or "{}\n"


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(name)}: {_flow(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    text = json.dumps(value, ensure_ascii=False)
    # PyYAML reads 1e-05 as text.
    return text.replace("e", ".0e") if isinstance(value, float) and "." not in text else text
