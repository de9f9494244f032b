"""The report's tables as CSV files, one per section, for a spreadsheet or another program."""

import csv
import io
from collections.abc import Mapping, Sequence

from ablate.report.as_json import to_json
from ablate.report.document import CellRow, EffectRow, Report
from ablate.report.formatting import safe_field
from ablate.spec.model import quoted_level

_EFFECT = [
    "metric",
    "role",
    "kind",
    "factor",
    "from",
    "to",
    "when",
    "estimate",
    "se",
    "df",
    "ci95_low",
    "ci95_high",
    "ci90_low",
    "ci90_high",
    "p",
    "p_holm",
    "p_bh",
    "verdict",
    "qualifiers",
    "mde80",
    "bounds_low",
    "bounds_high",
    "n",
    "method",
    "note",
]
_CELL = ("cell", "name", "reference", "best", "seeds_done", "seeds_planned", "seconds")
_ANOVA = ("metric", "term", "df", "ss", "ms", "F", "p", "type", "share")
_FLAG = ("severity", "rule", "evidence", "fix")


Table = tuple[Sequence[str], Sequence[Mapping[str, object]]]  # columns, rows


def tables(report: Report) -> dict[str, Table]:
    """Return the flat tables of a report by name: cells, effects, anova and flags."""
    return {
        "cells": (_cell_columns(report), [_cell(cell, report.metric.name) for cell in report.cells]),
        "effects": (_EFFECT, [_effect(row) for row in report.effects]),
        "anova": (_ANOVA, to_json(report.anova)),
        "flags": (_FLAG, to_json(report.flags)),
    }


def csv_tables(report: Report) -> dict[str, bytes]:
    """Return `cells.csv`, `effects.csv`, `anova.csv` and `flags.csv` by name.

    Text that a spreadsheet would run as a formula is escaped.
    """
    return {f"{name}.csv": _table(*table) for name, table in tables(report).items()}


def _cell_columns(report: Report) -> list[str]:
    factors = [f"factor.{factor.name}" for factor in report.design.factors]
    metrics = dict.fromkeys(name for cell in report.cells for name in cell.metrics)
    measured = [
        f"{name}.{what}" for name in metrics for what in ("mean", "ci95_low", "ci95_high", "difference")
    ]
    return [*_CELL[:4], *factors, *_CELL[4:6], *measured, "verdict", "seconds", "flags"]


def _cell(cell: CellRow, primary: str) -> dict[str, object]:
    row = {key: value for key, value in to_json(cell).items() if key in _CELL}
    row |= {f"factor.{name}": quoted_level(level) for name, level in cell.levels.items()}
    for name, over_seeds in cell.metrics.items():
        low, high = over_seeds.ci95 or (None, None)
        row |= {f"{name}.mean": over_seeds.mean, f"{name}.ci95_low": low, f"{name}.ci95_high": high}
        difference = cell.difference.get(name)
        row[f"{name}.difference"] = difference.numbers.estimate if difference else None
    deciding = cell.difference.get(primary)
    row["verdict"] = deciding.judged.verdict if deciding else None
    row["flags"] = ", ".join(cell.flags)
    return row


def _effect(row: EffectRow) -> dict[str, object]:
    ci95_low, ci95_high = row.numbers.ci95 or (None, None)
    ci90_low, ci90_high = row.judged.ci90 or (None, None)
    bounds_low, bounds_high = row.bounds or (None, None)
    return {
        **to_json(row),
        "from": quoted_level(row.change.low),
        "to": quoted_level(row.change.high),
        "ci95_low": ci95_low,
        "ci95_high": ci95_high,
        "ci90_low": ci90_low,
        "ci90_high": ci90_high,
        "bounds_low": bounds_low,
        "bounds_high": bounds_high,
        "qualifiers": ", ".join(row.judged.qualifiers),
    }


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([safe_field(name) for name in columns])
    writer.writerows([safe_field(row.get(name)) for name in columns] for row in rows)
    return text.getvalue().encode()
