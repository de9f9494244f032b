"""Parts: the results and curves of trained ones, and those that were begun and have no result yet.

Every function works in its caller's transaction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ablate.store import optuna_tables as optuna
from ablate.store import tables

# After this many deaths at the same step, the trial itself is to blame, and another attempt would not help.
MAX_DEATHS_THERE = 3
# The same after this many deaths, anywhere, without a checkpoint between them.
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
    """Return the results of those of `parts` that are fully trained, by part."""
    key = tables.parts.c
    rows = connection.execute(
        sa.select(key.part, key.metrics, key.seconds, key.steps, key.facts).where(
            key.study_id == study_id, key.part.in_(list(parts)), key.seed == seed
        )
    )
    return {part: Trained(*gave) for part, *gave in rows}


def record(connection: sa.Connection, study_id: int, new: NewPart) -> None:
    """Record a fully trained part."""
    add_points(connection, study_id, new.part, new.seed, new.points)
    row = {"study_id": study_id, "part": new.part, "seed": new.seed, **vars(new.trained)}
    # It may exist already, if an earlier commit succeeded but its answer was lost.
    connection.execute(_insert(connection, tables.parts).values(row).on_conflict_do_nothing())
    forget(connection, study_id, new.part, new.seed)


def add_points(connection: sa.Connection, study_id: int, part: str, seed: int, points: Points) -> None:
    """Add points to a part's curves; a point that is computed again after a kill replaces the old one."""
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
    connection: sa.Connection, study_id: int, part: str, seed: int, reached: int | None, who: str
) -> tuple[str | None, bool]:
    """Mark a part as begun. Return why training it again would be useless, or None, and whether its last owner died.

    `reached`: how far that owner got, as in `ProgressNote`: a step, or a negative number."""
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
    # This process began the part before: either the answer to that commit was lost, or its locks were.
    if not row.begun or last_begun_by(connection, study_id, part, seed) == who:
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


def note(connection: sa.Connection, study_id: int, part: str, seed: int, event: str, who: str) -> None:
    """Write what happened to a part into the history."""
    row = {"study_id": study_id, "part": part, "seed": seed, "event": event, "who": who}
    time = optuna.utc_now().isoformat(timespec="milliseconds")
    connection.execute(sa.insert(tables.history).values(**row, time=time))


def times_forgotten(connection: sa.Connection, study_id: int, part: str, seed: int) -> int:
    """Return how often a part's results were thrown away to train it again with other code."""
    key = tables.history.c
    mine = key.study_id == study_id, key.part == part, key.seed == seed
    first = sa.select(sa.func.min(key.number)).where(*mine, key.event == "begun").scalar_subquery()
    # Parts that were never begun are forgotten along with the others.
    after = sa.select(sa.func.count()).where(*mine, key.event == "forgotten", key.number > first)
    return connection.scalar(after) or 0


def last_begun_by(connection: sa.Connection, study_id: int, part: str, seed: int) -> str | None:
    """Return who began a part last."""
    key = tables.history.c
    return connection.scalar(
        sa.select(key.who)
        .where(key.study_id == study_id, key.part == part, key.seed == seed, key.event == "begun")
        .order_by(key.number.desc())
        .limit(1)
    )


def change(connection: sa.Connection, study_id: int, part: str, seed: int, **columns: Any) -> None:
    """Update columns of a part that was begun."""
    connection.execute(sa.update(tables.open_parts).where(_is(study_id, part, seed)).values(**columns))


def take_back_death(connection: sa.Connection, study_id: int, part: str, seed: int) -> None:
    """Subtract one death of a part's owners: the last one is alive and only lost its lock."""
    ours = tables.open_parts
    connection.execute(
        sa.update(ours)
        .where(_is(study_id, part, seed), ours.c.deaths > 0)
        .values(deaths=ours.c.deaths - 1, deaths_there=0)
    )


def failed(connection: sa.Connection, study_id: int) -> set[tuple[str, int]]:
    """Return each (part, seed) that cannot be trained."""
    key = tables.open_parts.c
    rows = connection.execute(
        sa.select(key.part, key.seed).where(key.study_id == study_id, key.error.is_not(None))
    )
    return {(row.part, row.seed) for row in rows}


def forget(connection: sa.Connection, study_id: int, part: str, seed: int) -> None:
    """Forget that a part was begun, since it was recorded or will be retried."""
    connection.execute(sa.delete(tables.open_parts).where(_is(study_id, part, seed)))


def forget_trained(connection: sa.Connection, study_id: int, part: str, seed: int) -> None:
    """Forget a part's result and the points of its curves."""
    for table in (tables.parts, tables.points):
        key = table.c
        connection.execute(
            sa.delete(table).where(key.study_id == study_id, key.part == part, key.seed == seed)
        )


def _is(study_id: int, part: str, seed: int) -> sa.ColumnElement[bool]:
    key = tables.open_parts.c
    return sa.and_(key.study_id == study_id, key.part == part, key.seed == seed)


def _is_same_place(one: int | None, other: int | None) -> bool:
    """Return whether two attempts died at the same step or, before the first step (negative), after about the same time."""
    if one is None or other is None or one > 0 or other > 0:
        return one == other
    return abs(one - other) <= max(2, 0.1 * max(-one, -other))


def _insert(connection: sa.Connection, table: sa.Table) -> Any:
    """Return an INSERT with ON CONFLICT, in the database's dialect."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
    return insert(table)
