"""What looks at the results change in the report: which numbers an effect has, when it got them, and what was planned."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ablate.evidence.frames import Grid
from ablate.evidence.looks import Seen, Stop, seen_in
from ablate.report.phrases import NOTES, OPEN, STOPS, UNTIL_DECIDED, UNTIL_WIDTH, Note
from ablate.report.words import number, plural


def as_seen(row: Mapping[str, Any], seen: Seen | None) -> dict[str, Any]:
    """Return a row of an effect with the numbers of its last look; where none was taken at it nothing is claimed."""
    if seen is None:
        notes = [*row["notes"], Note.NOT_LOOKED_AT]
        note = "; ".join(filter(None, [row["note"], NOTES[Note.NOT_LOOKED_AT]]))
        return {**row, "ci95": None, "p": None, "look": None, "notes": notes, "note": note}
    return {
        **row,
        "estimate": seen.estimate,
        "se": seen.se,
        "df": seen.df,
        "ci95": seen.ci95 and list(seen.ci95),
        "p": seen.p,
        "n": seen.seeds,
        "look": {
            "number": seen.look,
            "seeds": seen.seeds,
            "stop": seen.stop,
            "p_sequential": seen.p_sequential,
            "level": seen.level,
            "fraction": seen.fraction,
            "chance": seen.chance,
        },
    }


def plan_row(grid: Grid) -> dict[str, Any] | None:
    """Return the plan by which seeds are added; None where they are not."""
    looking = grid.results.spec.looking
    if looking is None:
        return None
    return {
        "start": looking.start,
        "looks": list(looking.looks),
        "at_most": looking.looks[-1],
        "until": "decided" if looking.width is None else {"width": looking.width},
    }


def look_rows(grid: Grid) -> list[dict[str, Any]]:
    """Return the looks taken so far: of the comparisons how many stopped at each, and why, and how many go on."""
    rows = []
    for look in grid.results.looks:
        seen = seen_in(look).values()
        stopped = Counter(one.stop for one in seen if one.stop and one.look == look.number)
        rows.append(
            {
                "number": look.number,
                "seeds": look.seeds,
                "stopped": {str(stop): count for stop, count in stopped.items()},
                "open": sum(one.stop is None for one in seen),
                "cells": len(look.cells),
            }
        )
    return rows


def plan_text(plan: Mapping[str, Any]) -> str:
    """Return the plan in a sentence."""
    until = (
        UNTIL_DECIDED
        if plan["until"] == "decided"
        else UNTIL_WIDTH.format(width=number(plan["until"]["width"]))
    )
    looks = ", ".join(map(str, plan["looks"]))
    return f"Seeds are added {until}: {plan['start']} at the start, looks at {looks} seeds, {plan['at_most']} at most"


def look_text(row: Mapping[str, Any]) -> str:
    """Return what one look brought: `look 2 (5 seeds): 1 decided, 2 open`."""
    said = [f"{count} {STOPS[Stop(stop)]}" for stop, count in row["stopped"].items()]
    going = f"{row['open'] or 'none'} {OPEN}"
    return f"look {row['number']} ({plural(row['seeds'], 'seed')}): {', '.join([*said, going])}"


def when_seen(look: Mapping[str, Any]) -> str:
    """Return how an effect stood at its last look: `decided at look 2`."""
    how = STOPS[Stop(look["stop"])] if look["stop"] else OPEN
    return f"{how} at look {look['number']}"
