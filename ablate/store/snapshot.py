"""A study as plain data, independent of its database, for bundles and for merging two homes.

Work in progress is left out: RUNNING trials count as WAITING, and only trained parts are included."""

import datetime
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa

from ablate.design.model import Cell
from ablate.spec.model import StudySpec
from ablate.store import optuna_tables as optuna
from ablate.store import parts, planning, tables, trials
from ablate.store.opening import reading
from ablate.store.optuna_tables import TrialState
from ablate.store.parts import NewPart, Trained
from ablate.store.places import Place

Row = dict[str, Any]
Key = tuple[str, int]  # hash of a part or a cell, and seed
FINISHED = ("COMPLETE", "FAIL", "PRUNED")
# These tables are copied as they are; older databases lack some of them.
_COPIED = (tables.cells, tables.parts, tables.points, tables.test_uses, tables.looks)


@dataclass(frozen=True)
class Snapshot:
    """Everything recorded for a study, in JSON's types."""

    schema_version: int
    study: Row  # the content of its file, and its design
    cells: list[Row]
    trials: list[Row]  # by number: cell, seed, state, attempts, error, started, ended, metrics
    parts: list[Row]
    points: list[Row]
    test_uses: list[Row]
    looks: list[Row]

    @property
    def spec(self) -> StudySpec:
        """The study."""
        return StudySpec.model_validate(self.study["spec"])

    @property
    def design(self) -> tuple[Cell, ...]:
        """The cells, in design order."""
        ordered = sorted(self.cells, key=lambda row: int(row["position"]))
        return tuple(planning.cell_from_row(SimpleNamespace(**row)) for row in ordered)

    @property
    def finished(self) -> dict[Key, Row]:
        """The trials that have ended, by cell and seed."""
        return {(row["cell"], row["seed"]): row for row in self.trials if row["state"] in FINISHED}

    @property
    def trained(self) -> dict[Key, Row]:
        """The parts, by hash and seed."""
        return {(row["part"], row["seed"]): row for row in self.parts}


def take_snapshot(place: Place) -> Snapshot:
    """Return everything recorded for a study, as of one moment.

    Raises:
        StoreError: the database is locked or damaged.
    """
    with reading(place.url) as connection:
        ours = tables.studies.c
        head = connection.execute(sa.select(tables.studies).where(ours.name == place.study)).one()
        copied = {table.name: _rows(connection, table, head.study_id) for table in _COPIED}
        return Snapshot(
            schema_version=head.schema_version,
            study={"spec": head.spec, "design": head.design, "folder": head.folder},
            cells=copied[tables.cells.name],
            trials=_trials(connection, head.study_id),
            parts=copied[tables.parts.name],
            points=copied[tables.points.name],
            test_uses=copied[tables.test_uses.name],
            looks=copied[tables.looks.name],
        )


def add_study(connection: sa.Connection, snapshot: Snapshot) -> int:
    """Write a study that is not in the database, without its trials and parts; return its id."""
    spec = snapshot.spec
    study_id = optuna.create_study(connection, spec.study, maximize=spec.metric.goal == "maximize")
    row = {"study_id": study_id, "name": spec.study, "schema_version": tables.SCHEMA_VERSION}
    connection.execute(sa.insert(tables.studies).values(**row, **snapshot.study))
    order = [(trial["cell"], trial["seed"]) for trial in snapshot.trials]
    planning.add_trials(connection, study_id, spec.factors, snapshot.design, order)
    for table, rows in ((tables.test_uses, snapshot.test_uses), (tables.looks, snapshot.looks)):
        if rows:
            connection.execute(sa.insert(table), [{**row, "study_id": study_id} for row in rows])
    return study_id


def add_results(
    connection: sa.Connection,
    study_id: int,
    snapshot: Snapshot,
    wanted_parts: Collection[Key],
    wanted_trials: Collection[Key],
) -> None:
    """Record these parts (by hash and seed), and these trials' results (by cell and seed), where the study lacks them."""
    spec = snapshot.spec
    curves: dict[tuple[str, int], list[tuple[int, str, float]]] = {}
    for row in snapshot.points:
        curves.setdefault((row["part"], row["seed"]), []).append((row["step"], row["name"], row["value"]))
    for row in snapshot.parts:
        key = row["part"], row["seed"]
        if key in wanted_parts:
            gave = Trained(row["metrics"], row["seconds"], row["steps"], row["facts"])
            parts.record(connection, study_id, NewPart(*key, gave, curves.get(key, ())))
    part_of = {
        cell.hash: next(iter(cell.parts.values())).hash for cell in snapshot.design if len(cell.parts) == 1
    }
    ids = _ids(connection, study_id)
    for row in snapshot.trials:
        key = row["cell"], row["seed"]
        if key in wanted_trials:
            _finish(connection, study_id, ids[key], row, spec.metric.name, part_of.get(row["cell"]))


def add_uses_of_test(connection: sa.Connection, study_id: int, snapshot: Snapshot) -> None:
    """Record the uses of the test split that the study lacks, after its own."""
    ours = tables.test_uses.c
    rows = connection.execute(
        sa.select(ours.cell, ours.time, ours.who).where(ours.study_id == study_id)
    ).all()
    known = {tuple(row) for row in rows}
    new = [row for row in snapshot.test_uses if (row["cell"], row["time"], row["who"]) not in known]
    for number, row in enumerate(new, start=len(rows) + 1):
        connection.execute(
            sa.insert(tables.test_uses).values({**row, "study_id": study_id, "number": number})
        )


def add_test_scores(
    connection: sa.Connection, study_id: int, scores: Mapping[Key, Mapping[str, float]]
) -> None:
    """Record these scores on the test split of trials, by cell and seed, which have none."""
    ids = _ids(connection, study_id)
    rows = [
        {"trial_id": ids[key], "name": name, "value": value}
        for key, found in scores.items()
        for name, value in found.items()
    ]
    if rows:
        connection.execute(sa.insert(tables.metrics), rows)


def add_changes(connection: sa.Connection, study_id: int, snapshot: Snapshot) -> None:
    """Record the changes of the study's file after results that the study lacks, after its own."""
    ours = tables.studies.c.study_id == study_id
    design = connection.execute(sa.select(tables.studies.c.design).where(ours)).scalar_one()
    known = design.get("changes", [])
    new = [change for change in snapshot.study["design"].get("changes", []) if change not in known]
    if new:
        changed = {**design, "changes": [*known, *new]}
        connection.execute(sa.update(tables.studies).where(ours).values(design=changed))


def _finish(
    connection: sa.Connection, study_id: int, trial_id: int, row: Row, primary: str, part: str | None
) -> None:
    if row["metrics"]:
        trials.add_metrics(connection, trial_id, row["metrics"], primary)
        if part is not None:
            trials.show_curve(connection, study_id, trial_id, part, primary)
    optuna.change_trials(
        connection,
        [trial_id],
        state=TrialState[row["state"]],
        datetime_start=_time(row["started"]),
        datetime_complete=_time(row["ended"]),
    )
    ours = tables.trials.c
    connection.execute(
        sa.update(tables.trials)
        .where(ours.trial_id == trial_id)
        .values(attempts=row["attempts"], error=row["error"], fruitless=0)
    )


def _rows(connection: sa.Connection, table: sa.Table, study_id: int) -> list[Row]:
    if not sa.inspect(connection).has_table(table.name):
        return []
    columns = [column for column in table.c if column.name != "study_id"]
    rows = connection.execute(
        sa.select(*columns).where(table.c.study_id == study_id).order_by(*table.primary_key.columns)
    )
    return [dict(row) for row in rows.mappings()]


def _trials(connection: sa.Connection, study_id: int) -> list[Row]:
    ours, theirs, key = tables.trials.c, optuna.trials.c, tables.metrics.c
    metrics: dict[int, dict[str, float]] = {}
    mine = sa.select(ours.trial_id).where(ours.study_id == study_id)
    for row in connection.execute(sa.select(tables.metrics).where(key.trial_id.in_(mine)).order_by(key.name)):
        metrics.setdefault(row.trial_id, {})[row.name] = row.value
    rows = connection.execute(
        sa.select(tables.trials, theirs.state, theirs.datetime_start, theirs.datetime_complete)
        .join(optuna.trials, theirs.trial_id == ours.trial_id)
        .where(ours.study_id == study_id)
        .order_by(theirs.number)
    )
    return [
        {
            "cell": row.cell,
            "seed": row.seed,
            "state": row.state.name if row.state.name in FINISHED else "WAITING",
            "attempts": row.attempts,
            "error": row.error,
            "started": _text(row.datetime_start),
            "ended": _text(row.datetime_complete),
            "metrics": metrics.get(row.trial_id, {}),
        }
        for row in rows
    ]


def _ids(connection: sa.Connection, study_id: int) -> dict[tuple[str, int], int]:
    ours = tables.trials.c
    rows = connection.execute(sa.select(ours.cell, ours.seed, ours.trial_id).where(ours.study_id == study_id))
    return {(row.cell, row.seed): row.trial_id for row in rows}


def _text(time: datetime.datetime | None) -> str | None:
    return None if time is None else time.isoformat()


def _time(text: str | None) -> datetime.datetime | None:
    return None if text is None else datetime.datetime.fromisoformat(text)
