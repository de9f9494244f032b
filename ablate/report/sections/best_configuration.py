"""The best cell's settings, to copy into a study file."""

import json
import re
from typing import Any

from ablate.report.document import Report
from ablate.report.sections.provenance import without_folders
from ablate.spec.model import quoted_level
from ablate.spec.scalars import resolve


def best_configuration(report: Report) -> str | None:
    """Return the settings of the best cell's levels as YAML; None while no cell is complete."""
    if report.best is None:
        return None
    settings: dict[str, Any] = {}
    rows = {factor.name: factor for factor in report.design.factors}
    for name, level in report.best.levels.items():
        settings |= rows[name].originals.get(quoted_level(level), {name: level})
    return "\n".join(["settings:", *(_line(name, value) for name, value in settings.items())])


def _line(name: str, value: Any) -> str:
    # Folders may be private.
    short = without_folders(value) if isinstance(value, str) else value
    note = "  # without its folders" if short != value else ""
    return f"  {_yaml(name)}: {_yaml(short)}{note}"


def _yaml(value: Any) -> str:
    """Return a value as YAML without characters that could be markup."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w.-]*", value) and resolve(value) == value:
        return value
    # JSON is valid YAML, except that YAML does not join the two halves of an escaped character above U+FFFF.
    text = json.dumps(value, ensure_ascii=False)
    return "".join(_escaped(c) if c in "<`" or not c.isprintable() else c for c in text)


def _escaped(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"
