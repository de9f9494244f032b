"""Trials: a row in Optuna's table and one in ours, always changed together.

Every function works in its caller's transaction."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ablate.store import optuna_tables as optuna
from ablate.store import parts, tables
from ablate.store.optuna_tables import TrialState

UNFINISHED = (TrialState.WAITING, TrialState.RUNNING)


class Superseded(Exception):
    """Another attempt has taken this trial, so this attempt must not record anything."""


@dataclass(frozen=True)
class Queued:
    """A trial that has no result yet."""

    trial_id: int
    number: int
    cell: str
    seed: int


@dataclass(frozen=True)
class Claim:
    """A trial that this process may work on."""

    trial_id: int
    attempt: int
    condemned: str | None = None  # why another attempt would be useless


def queue(connection: sa.Connection, study_id: int) -> list[Queued]:
    """Return the trials without a result, in order."""
    ours, theirs = tables.trials.c, optuna.trials.c
    rows = connection.execute(
        sa.select(theirs.trial_id, theirs.number, ours.cell, ours.seed)
        .join(tables.trials, ours.trial_id == theirs.trial_id)
        .where(theirs.study_id == study_id, theirs.state.in_(UNFINISHED))
        .order_by(theirs.number)
    )
    return [Queued(*row) for row in rows]


def locked(connection: sa.Connection, trial_id: int) -> sa.Row[Any, Any, Any, Any]:
    """Return a trial's two rows, locked until the commit, so that they cannot be outdated."""
    ours, theirs = tables.trials.c, optuna.trials.c
    return connection.execute(
        sa.select(theirs.state, theirs.datetime_start, ours.attempts, ours.fruitless)
        .join(tables.trials, ours.trial_id == theirs.trial_id)
        .where(theirs.trial_id == trial_id)
        .with_for_update()
    ).one()


def still_running(connection: sa.Connection, claim: Claim, then: TrialState) -> bool:
    """Return whether the trial still has to be put into state `then`. It already is if only the answer to a commit was lost.

    Raises:
        Superseded: another attempt has begun since.
    """
    row = locked(connection, claim.trial_id)
    if row.attempts != claim.attempt or row.state not in (TrialState.RUNNING, then):
        raise Superseded
    return bool(row.state is TrialState.RUNNING)


def start(
    connection: sa.Connection, trial_id: int, row: sa.Row[Any, Any, Any, Any], attempts: int, fruitless: int
) -> None:
    """Mark the trial of a locked row as RUNNING."""
    started = row.datetime_start or optuna.utc_now()
    optuna.change_trials(connection, [trial_id], state=TrialState.RUNNING, datetime_start=started)
    _change(connection, [trial_id], attempts=attempts, fruitless=fruitless)


def put_back(connection: sa.Connection, trial_ids: Sequence[int]) -> None:
    """Put trials back in the queue."""
    optuna.change_trials(connection, trial_ids, state=TrialState.WAITING, datetime_complete=None)
    _change(connection, trial_ids, fruitless=0, error=None)


def finish(connection: sa.Connection, trial_id: int, state: TrialState, error: str | None = None) -> None:
    """Put a trial into its final state."""
    optuna.change_trials(connection, [trial_id], state=state, datetime_complete=optuna.utc_now())
    _change(connection, [trial_id], error=error, **({"fruitless": 0} if error is None else {}))


def add_metrics(connection: sa.Connection, trial_id: int, metrics: Mapping[str, float], primary: str) -> None:
    """Write a trial's metrics; the primary one also where Optuna looks for it."""
    rows = [{"trial_id": trial_id, "name": name, "value": value} for name, value in metrics.items()]
    connection.execute(sa.insert(tables.metrics), rows)
    optuna.set_value(connection, trial_id, metrics[primary])


def show_curve(connection: sa.Connection, study_id: int, trial_id: int, part: str, metric: str) -> None:
    """Copy a part's curve to where dashboards expect a trial's curve."""
    key, ours = tables.points.c, tables.trials.c
    seed = sa.select(ours.seed).where(ours.trial_id == trial_id).scalar_subquery()
    points = connection.execute(
        sa.select(key.step, key.value).where(
            key.study_id == study_id, key.part == part, key.seed == seed, key.name == metric
        )
    )
    optuna.set_curve(connection, trial_id, [(step, value) for step, value in points])


def retry_failed(connection: sa.Connection, study_id: int, cells: Collection[str] | None) -> int:
    """Queue the failed trials (of `cells` only, if given) again, and forget which of their parts failed; return how many.

    The failed trials of other cells that share such a part are queued too, uncounted."""
    ours = tables.trials.c
    rows = connection.execute(
        sa.select(ours.trial_id, ours.cell, ours.seed, tables.cells.c.parts)
        .join(optuna.trials, optuna.trials.c.trial_id == ours.trial_id)
        .join(
            tables.cells, sa.and_(tables.cells.c.study_id == ours.study_id, tables.cells.c.cell == ours.cell)
        )
        .where(ours.study_id == study_id, optuna.trials.c.state == TrialState.FAIL)
    ).all()
    keys = {row.trial_id: {(part["hash"], row.seed) for part in row.parts.values()} for row in rows}
    chosen = [row.trial_id for row in rows if cells is None or row.cell in cells]
    retried = {key for id_ in chosen for key in keys[id_]}
    # Other trials failed because of the same parts, which may succeed now.
    blamed = parts.failed(connection, study_id) & retried
    put_back(connection, [id_ for id_ in keys if id_ in set(chosen) or keys[id_] & blamed])
    for part, seed in retried:
        parts.forget(connection, study_id, part, seed)
    return len(chosen)


def train_again(connection: sa.Connection, study_id: int, keys: Collection[tuple[str, int]]) -> None:
    """Requeue the trials that depend on any of these (part, seed), without their results, and forget the parts."""
    ours = tables.trials.c
    rows = connection.execute(
        sa.select(ours.trial_id, ours.seed, tables.cells.c.parts)
        .join(
            tables.cells, sa.and_(tables.cells.c.study_id == ours.study_id, tables.cells.c.cell == ours.cell)
        )
        .where(ours.study_id == study_id)
    )
    ids = [
        row.trial_id for row in rows if any((part["hash"], row.seed) in keys for part in row.parts.values())
    ]
    connection.execute(sa.delete(tables.metrics).where(tables.metrics.c.trial_id.in_(ids)))
    optuna.forget_values(connection, ids)
    put_back(connection, ids)
    for part, seed in keys:
        parts.forget(connection, study_id, part, seed)
        parts.forget_trained(connection, study_id, part, seed)


def replace_test_scores(
    connection: sa.Connection, study_id: int, cell: str, metrics: Mapping[int, Mapping[str, float]]
) -> None:
    """Write a cell's `test/...` metrics by seed in place of earlier ones."""
    ours, theirs = tables.trials.c, tables.metrics.c
    rows = connection.execute(
        sa.select(ours.seed, ours.trial_id).where(ours.study_id == study_id, ours.cell == cell)
    )
    ids: dict[int, int] = {row.seed: row.trial_id for row in rows}
    connection.execute(
        sa.delete(tables.metrics).where(
            theirs.trial_id.in_(list(ids.values())),
            # Not LIKE, which ignores case in SQLite: Test/f1 is a metric of training.
            sa.func.substr(theirs.name, 1, len("test/")) == "test/",
        )
    )
    scores = [
        {"trial_id": ids[seed], "name": name, "value": value}
        for seed, found in metrics.items()
        for name, value in found.items()
    ]
    if scores:
        connection.execute(sa.insert(tables.metrics), scores)


def _change(connection: sa.Connection, trial_ids: Sequence[int], **columns: Any) -> None:
    connection.execute(
        sa.update(tables.trials).where(tables.trials.c.trial_id.in_(list(trial_ids))).values(**columns)
    )
