"""Parts that were begun and are not recorded: whose owners died, where, and when it was often enough."""

from typing import Any

import sqlalchemy as sa

from ablate.store import tables

MAX_DEATHS_THERE = 3  # at one and the same step: it is the trial's fault, and trying again would not help
MAX_DEATHS = 10  # with nothing saved between them


def begin(
    connection: sa.Connection, study_id: int, part: str, seed: int, reached: int | None
) -> tuple[str | None, bool]:
    """Mark a part as begun; return why it would be no use to train it, if so, and whether its last owner died.

    `reached`: how far that owner is known to have come, a step, or below zero."""
    key = tables.open_parts.c
    row = connection.execute(
        sa.select(tables.open_parts).where(key.study_id == study_id, key.part == part, key.seed == seed)
    ).first()
    if row is None:
        connection.execute(
            sa.insert(tables.open_parts).values(
                study_id=study_id, part=part, seed=seed, begun=True, deaths=0, deaths_there=0
            )
        )
        return None, False
    if row.error:
        return str(row.error), False
    if not row.begun:
        change(connection, study_id, part, seed, begun=True)
        return None, False
    deaths = row.deaths + 1
    there = row.deaths_there + 1 if _is_same_place(reached, row.reached) else 1
    error = None
    if there >= MAX_DEATHS_THERE or deaths >= MAX_DEATHS:
        where = f"after step {reached}" if reached and reached > 0 else "before its first step"
        error = f"its process died {deaths} times without progress, the last time {where}; the workers' logs may say why"
    change(connection, study_id, part, seed, deaths=deaths, deaths_there=there, reached=reached, error=error)
    return error, True


def change(connection: sa.Connection, study_id: int, part: str, seed: int, **columns: Any) -> None:
    """Set what is known of a part that was begun."""
    key = tables.open_parts.c
    connection.execute(
        sa.update(tables.open_parts)
        .where(key.study_id == study_id, key.part == part, key.seed == seed)
        .values(**columns)
    )


def remove(connection: sa.Connection, study_id: int, part: str, seed: int) -> None:
    """Forget a part, which was recorded or is to be tried again."""
    key = tables.open_parts.c
    connection.execute(
        sa.delete(tables.open_parts).where(key.study_id == study_id, key.part == part, key.seed == seed)
    )


def _is_same_place(one: int | None, other: int | None) -> bool:
    """Say whether two attempts died at the same step, or after about the same CPU time before the first (below zero)."""
    if one is None or other is None or one > 0 or other > 0:
        return one == other
    return abs(one - other) <= max(2, 0.1 * max(-one, -other))
