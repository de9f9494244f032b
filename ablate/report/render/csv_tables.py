"""The report's tables as CSV files, one per section, for a spreadsheet or another program."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from ablate.report.files import safe_field
from ablate.spec.model import level_text

_NUMBERS = ("estimate", "se", "df", "ci95_low", "ci95_high", "p", "p_holm", "p_bh")
_EFFECT = (
    "metric",
    "role",
    "kind",
    "factor",
    "from",
    "to",
    "when",
    *_NUMBERS,
    "verdict",
    "qualifiers",
    "mde80",
    "bounds_low",
    "bounds_high",
    "n",
    "method",
    "note",
)


def csv_tables(document: Mapping[str, Any]) -> dict[str, bytes]:
    """Return `cells.csv`, `effects.csv`, `anova.csv` and `flags.csv` by name. Texts that look like formulas are quoted."""
    return {
        "cells.csv": _table(
            list(_cell_columns(document)), [_cell(cell, document) for cell in document["cells"]]
        ),
        "effects.csv": _table(_EFFECT, [_effect(row) for row in document["effects"]]),
        "anova.csv": _table(
            ("metric", "term", "df", "ss", "ms", "F", "p", "type", "share"), document["anova"]
        ),
        "flags.csv": _table(("severity", "rule", "evidence", "fix"), document["flags"]),
    }


def _cell_columns(document: Mapping[str, Any]) -> list[str]:
    factors = [f"factor.{factor['name']}" for factor in document["design"]["factors"]]
    metrics = dict.fromkeys(name for cell in document["cells"] for name in cell["metrics"])
    measured = [
        f"{name}.{what}" for name in metrics for what in ("mean", "ci95_low", "ci95_high", "difference")
    ]
    return [
        "cell",
        "name",
        "reference",
        "best",
        *factors,
        "seeds_done",
        "seeds_planned",
        *measured,
        "verdict",
        "seconds",
        "flags",
    ]


def _cell(cell: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any]:
    row = {
        key: cell[key]
        for key in ("cell", "name", "reference", "best", "seeds_done", "seeds_planned", "seconds")
    }
    row |= {f"factor.{name}": level_text(level) for name, level in cell["levels"].items()}
    for name, found in cell["metrics"].items():
        low, high = found["ci95"] or (None, None)
        row |= {f"{name}.mean": found["mean"], f"{name}.ci95_low": low, f"{name}.ci95_high": high}
        row[f"{name}.difference"] = cell["difference"].get(name, {}).get("estimate")
    row["flags"] = ", ".join(cell["flags"])
    row["verdict"] = cell["difference"].get(document["metric"]["name"], {}).get("verdict")
    return row


def _effect(row: Mapping[str, Any]) -> dict[str, Any]:
    low, high = row["ci95"] or (None, None)
    levels = {side: level_text(row[side]) for side in ("from", "to")}
    least, most = row["bounds"] or (None, None)
    bounds = {"ci95_low": low, "ci95_high": high, "bounds_low": least, "bounds_high": most}
    return {**row, **levels, **bounds, "qualifiers": ", ".join(row["qualifiers"])}


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([safe_field(name) for name in columns])
    writer.writerows([safe_field(row.get(name)) for name in columns] for row in rows)
    return text.getvalue().encode()
