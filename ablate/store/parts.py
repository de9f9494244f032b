"""Parts: those that are trained, the points of their curves, and those that were begun and have no result yet.

Every function works in its caller's transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ablate.store import tables

# Deaths at the same step are the trial's own fault: another attempt would not help.
MAX_DEATHS_THERE = 3
# Deaths with nothing saved between them.
MAX_DEATHS = 10

Points = Sequence[tuple[int, str, float]]  # (step, name, value)


@dataclass(frozen=True)
class Trained:
    """The result of training a part."""

    metrics: dict[str, float]
    seconds: float
    steps: int
    facts: dict[str, Any]


@dataclass(frozen=True)
class NewPart:
    """A newly trained part, with the points of its curves that are not written yet."""

    part: str
    seed: int
    trained: Trained
    points: Points


def trained(connection: sa.Connection, study_id: int, parts: Iterable[str], seed: int) -> dict[str, Trained]:
    """Return what those of `parts` gave that are trained to their end, by part."""
    key = tables.parts.c
    rows = connection.execute(
        sa.select(key.part, key.metrics, key.seconds, key.steps, key.facts).where(
            key.study_id == study_id, key.part.in_(list(parts)), key.seed == seed
        )
    )
    return {part: Trained(*gave) for part, *gave in rows}


def record(connection: sa.Connection, study_id: int, new: NewPart) -> None:
    """Record a part that was trained to its end."""
    add_points(connection, study_id, new.part, new.seed, new.points)
    row = {"study_id": study_id, "part": new.part, "seed": new.seed, **vars(new.trained)}
    # It may exist already: an earlier commit succeeded but its answer was lost.
    connection.execute(_insert(connection, tables.parts).values(row).on_conflict_do_nothing())
    forget(connection, study_id, new.part, new.seed)


def add_points(connection: sa.Connection, study_id: int, part: str, seed: int, points: Points) -> None:
    """Add points to a part's curves; a point recomputed after a kill replaces itself."""
    if not points:
        return
    rows = {
        (step, name): {
            "study_id": study_id,
            "part": part,
            "seed": seed,
            "step": step,
            "name": name,
            "value": value,
        }
        for step, name, value in points
    }
    statement = _insert(connection, tables.points)
    statement = statement.on_conflict_do_update(
        index_elements=list(tables.points.primary_key), set_={"value": statement.excluded.value}
    )
    connection.execute(statement, list(rows.values()))


def begin(
    connection: sa.Connection, study_id: int, part: str, seed: int, reached: int | None
) -> tuple[str | None, bool]:
    """Mark a part as begun; return why training it would be useless, if so, and whether its last owner died.

    `reached`: how far that owner is known to have come: a step, or below zero."""
    row = connection.execute(sa.select(tables.open_parts).where(_is(study_id, part, seed))).first()
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
        error = f"its process died {deaths} times without progress, the last time {where}; its log may say why (`ablate logs`)"
    change(connection, study_id, part, seed, deaths=deaths, deaths_there=there, reached=reached, error=error)
    return error, True


def change(connection: sa.Connection, study_id: int, part: str, seed: int, **columns: Any) -> None:
    """Update columns of a part that was begun."""
    connection.execute(sa.update(tables.open_parts).where(_is(study_id, part, seed)).values(**columns))


def forget(connection: sa.Connection, study_id: int, part: str, seed: int) -> None:
    """Forget that a part was begun, because it was recorded or will be retried."""
    connection.execute(sa.delete(tables.open_parts).where(_is(study_id, part, seed)))


def forget_trained(connection: sa.Connection, study_id: int, part: str, seed: int) -> None:
    """Forget what a part gave, and the points of its curves."""
    for table in (tables.parts, tables.points):
        key = table.c
        connection.execute(
            sa.delete(table).where(key.study_id == study_id, key.part == part, key.seed == seed)
        )


def _is(study_id: int, part: str, seed: int) -> sa.ColumnElement[bool]:
    key = tables.open_parts.c
    return sa.and_(key.study_id == study_id, key.part == part, key.seed == seed)


def _is_same_place(one: int | None, other: int | None) -> bool:
    """Say whether two attempts died at the same step, or after about the same time before the first (below zero)."""
    if one is None or other is None or one > 0 or other > 0:
        return one == other
    return abs(one - other) <= max(2, 0.1 * max(-one, -other))


def _insert(connection: sa.Connection, table: sa.Table) -> Any:
    """Return an INSERT that knows ON CONFLICT, in the database's own dialect."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
    return insert(table)
