"""Where a choice gains on one metric and loses on another. From the document alone."""

from collections.abc import Mapping
from typing import Any

from ablate.report.estimates import HELPS, HURTS, LOWERS, RAISES


def tradeoffs(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the changes that are decided upwards on one metric and downwards on another.

    Metrics are compared by the direction of their numbers alone: that more is better is declared for one only.
    """
    changes: dict[str, list[dict[str, Any]]] = {}
    for row in document["effects"]:
        changes.setdefault(repr((row["factor"], row["from"], row["to"])), []).append(row)
    found = []
    for rows in changes.values():
        goal_sign = 1 if document["metric"]["goal"] == "maximize" else -1
        up = [row for row in rows if _direction(row, goal_sign) > 0]
        down = [row for row in rows if _direction(row, goal_sign) < 0]
        if up and down:
            first = rows[0]
            found.append(
                {
                    **{key: first[key] for key in ("factor", "from", "to", "when")},
                    "raises": {row["metric"]: row["estimate"] for row in up},
                    "lowers": {row["metric"]: row["estimate"] for row in down},
                }
            )
    return found


def _direction(row: Mapping[str, Any], goal_sign: int) -> int:
    if row["verdict"] in (HELPS, HURTS):
        return goal_sign if row["verdict"] == HELPS else -goal_sign
    return int(row["verdict"] == RAISES) - int(row["verdict"] == LOWERS)
