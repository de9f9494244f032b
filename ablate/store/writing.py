"""The store for those who train: add trials, claim them, record what they gave. Every method is one transaction.

Who may work on a trial is decided by ownership (a lock), not here: call these methods for trials you own."""

import fcntl
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ablate.design.model import Cell, Design, Part
from ablate.errors import BadInput, StoreError
from ablate.spec.model import StudySpec
from ablate.store import engine as databases
from ablate.store import optuna_tables as optuna
from ablate.store import tables
from ablate.store.optuna_tables import TrialState
from ablate.store.results import UseOfTest

UNFINISHED = (TrialState.WAITING, TrialState.RUNNING)


@dataclass(frozen=True)
class Queued:
    """A trial that has no result yet."""

    trial_id: int
    number: int
    cell: str
    seed: int


@dataclass(frozen=True)
class Trained:
    """What training a part gave."""

    metrics: dict[str, float]
    seconds: float
    steps: int
    facts: dict[str, Any]


class Store:
    """One study in a database, open for writing."""

    def __init__(self, url: str, study: str) -> None:
        self.url = url
        self.study = study
        self.engine = databases.connect(url)
        with self._transaction() as connection:
            found = connection.execute(
                sa.select(tables.studies).where(tables.studies.c.name == study)
            ).first()
        if found is None:
            raise BadInput(f"{databases.printable(url)}: holds no study {study!r}")
        self._id: int = found.study_id
        self.spec = StudySpec.model_validate(found.spec)
        self.study_folder = Path(found.folder)  # relative paths in the study start there

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with databases.explained(self.url), self.engine.begin() as connection:
            yield connection

    # What is planned

    def cell(self, hash_: str) -> Cell:
        """Return a cell of the design by its hash."""
        with self._transaction() as connection:
            row = connection.execute(
                sa.select(tables.cells).where(
                    tables.cells.c.study_id == self._id, tables.cells.c.cell == hash_
                )
            ).one()
        return cell_from_row(row)

    def add_trials(self, cells: Sequence[Cell], order: Sequence[tuple[str, int]]) -> int:
        """Add those (cell, seed) of `order` that are missing as WAITING trials, numbered in order; return how many."""
        by_hash = {cell.hash: cell for cell in cells}
        with self._transaction() as connection:
            rows = connection.execute(
                sa.select(tables.trials.c.cell, tables.trials.c.seed).where(
                    tables.trials.c.study_id == self._id
                )
            )
            there = {(row.cell, row.seed) for row in rows}
            self._write_cells(connection, cells)
            missing = [(hash_, seed) for hash_, seed in order if (hash_, seed) not in there]
            if missing:
                self._insert_trials(
                    connection, [(by_hash[hash_], seed) for hash_, seed in missing], first=len(there)
                )
        return len(missing)

    def _write_cells(self, connection: sa.Connection, cells: Sequence[Cell]) -> None:
        """Write the design's cells, unless they stand there already; an extended study gets its new order."""
        ours = tables.cells.c
        there = connection.scalars(
            sa.select(ours.cell).where(ours.study_id == self._id).order_by(ours.position)
        ).all()
        if there == [cell.hash for cell in cells]:
            return
        connection.execute(sa.delete(tables.cells).where(ours.study_id == self._id))
        connection.execute(
            sa.insert(tables.cells),
            [
                {
                    "study_id": self._id,
                    "cell": cell.hash,
                    "position": position,
                    "levels": cell.levels,
                    "settings": cell.settings,
                    "parts": {
                        name: {"hash": part.hash, "settings": part.settings}
                        for name, part in cell.parts.items()
                    },
                }
                for position, cell in enumerate(cells)
            ],
        )

    def _insert_trials(self, connection: sa.Connection, new: list[tuple[Cell, int]], first: int) -> None:
        ids = connection.scalars(
            sa.insert(optuna.trials).returning(optuna.trials.c.trial_id, sort_by_parameter_order=True),
            [
                {"number": first + offset, "study_id": self._id, "state": TrialState.WAITING}
                for offset in range(len(new))
            ],
        ).all()
        choices = {factor.name: [level.name for level in factor.levels] for factor in self.spec.factors}
        described = {name: optuna.choices_json(tuple(levels)) for name, levels in choices.items()}
        connection.execute(
            sa.insert(tables.trials),
            [
                {"trial_id": id_, "study_id": self._id, "cell": cell.hash, "seed": seed}
                for id_, (cell, seed) in zip(ids, new, strict=True)
            ],
        )
        connection.execute(
            sa.insert(optuna.user_attributes),
            [
                {"trial_id": id_, "key": key, "value_json": json.dumps(value)}
                for id_, (cell, seed) in zip(ids, new, strict=True)
                for key, value in (("cell", cell.hash), ("seed", seed))
            ],
        )
        params = [
            {
                "trial_id": id_,
                "param_name": factor,
                "param_value": float(choices[factor].index(level)),
                "distribution_json": described[factor],
            }
            for id_, (cell, _) in zip(ids, new, strict=True)
            for factor, level in cell.levels.items()
        ]
        if params:
            connection.execute(sa.insert(optuna.params), params)

    # Working on trials

    def queue(self, numbers: Iterable[int] | None = None) -> list[Queued]:
        """Return the trials without a result, in order; only those with one of `numbers`, if given."""
        with self._transaction() as connection:
            rows = connection.execute(
                sa.select(
                    optuna.trials.c.trial_id,
                    optuna.trials.c.number,
                    tables.trials.c.cell,
                    tables.trials.c.seed,
                )
                .join(tables.trials, tables.trials.c.trial_id == optuna.trials.c.trial_id)
                .where(optuna.trials.c.study_id == self._id, optuna.trials.c.state.in_(UNFINISHED))
                .order_by(optuna.trials.c.number)
            ).all()
        wanted = None if numbers is None else set(numbers)
        return [Queued(*row) for row in rows if wanted is None or row.number in wanted]

    def claim(self, trial_id: int, max_fruitless: int) -> bool:
        """Mark a trial that you own as RUNNING; say whether it is still to be done.

        A trial found RUNNING was left by an owner that died: it goes on in the same row. One that died `max_fruitless`
        times without progress becomes FAIL."""
        with self._transaction() as connection:
            row = connection.execute(
                sa.select(optuna.trials.c.state, optuna.trials.c.datetime_start, tables.trials.c.fruitless)
                .join(tables.trials, tables.trials.c.trial_id == optuna.trials.c.trial_id)
                .where(optuna.trials.c.trial_id == trial_id)
            ).one()
            if row.state not in UNFINISHED:
                return False
            if row.fruitless >= max_fruitless:
                reason = f"its process died {row.fruitless} times without progress"
                self._finish(connection, trial_id, TrialState.FAIL, reason)
                return False
            self._set(
                connection,
                trial_id,
                state=TrialState.RUNNING,
                datetime_start=row.datetime_start or optuna.utc_now(),
            )
            ours = tables.trials.c
            connection.execute(
                sa.update(tables.trials)
                .where(ours.trial_id == trial_id)
                .values(attempts=ours.attempts + 1, fruitless=ours.fruitless + 1)
            )
        return True

    def progress(self, trial_id: int) -> None:
        """Note that something of this trial became durable since it was claimed."""
        with self._transaction() as connection:
            connection.execute(
                sa.update(tables.trials).where(tables.trials.c.trial_id == trial_id).values(fruitless=0)
            )

    def release(self, trial_id: int) -> None:
        """Put a trial that stopped gracefully back in the queue."""
        with self._transaction() as connection:
            self._set(connection, trial_id, state=TrialState.WAITING)
            connection.execute(
                sa.update(tables.trials).where(tables.trials.c.trial_id == trial_id).values(fruitless=0)
            )

    def complete(self, trial_id: int, metrics: Mapping[str, float], curve: Mapping[int, float]) -> None:
        """Record a trial's metrics and its state in one commit. `curve`: the primary metric by step, for dashboards.

        Raises:
            KeyError: the study's own metric is not among `metrics`.
        """
        value = metrics[self.spec.metric.name]
        with self._transaction() as connection:
            connection.execute(
                sa.insert(tables.metrics),
                [{"trial_id": trial_id, "name": name, "value": value} for name, value in metrics.items()],
            )
            connection.execute(
                sa.insert(optuna.values).values(
                    trial_id=trial_id, objective=0, value=value, value_type=optuna.FINITE
                )
            )
            if curve:
                connection.execute(
                    sa.insert(optuna.curve),
                    [
                        {
                            "trial_id": trial_id,
                            "step": step,
                            "intermediate_value": value,
                            "intermediate_value_type": optuna.CURVE_FINITE,
                        }
                        for step, value in curve.items()
                    ],
                )
            self._finish(connection, trial_id, TrialState.COMPLETE)

    def fail(self, trial_id: int, reason: str) -> None:
        """Record that a trial has no result, and why."""
        with self._transaction() as connection:
            self._finish(connection, trial_id, TrialState.FAIL, reason)

    def prune(self, trial_id: int) -> None:
        """Record that a trial was given up by the pruner."""
        with self._transaction() as connection:
            self._finish(connection, trial_id, TrialState.PRUNED)

    def retry_failed(self) -> int:
        """Queue the failed trials again; return how many."""
        with self._transaction() as connection:
            failed = connection.scalars(
                sa.select(optuna.trials.c.trial_id).where(
                    optuna.trials.c.study_id == self._id, optuna.trials.c.state == TrialState.FAIL
                )
            ).all()
            connection.execute(
                sa.update(optuna.trials)
                .where(optuna.trials.c.trial_id.in_(failed))
                .values(state=TrialState.WAITING, datetime_complete=None)
            )
            connection.execute(
                sa.update(tables.trials)
                .where(tables.trials.c.trial_id.in_(failed))
                .values(fruitless=0, error=None)
            )
        return len(failed)

    def _set(self, connection: sa.Connection, trial_id: int, **columns: Any) -> None:
        connection.execute(
            sa.update(optuna.trials).where(optuna.trials.c.trial_id == trial_id).values(**columns)
        )

    def _finish(
        self, connection: sa.Connection, trial_id: int, state: TrialState, error: str | None = None
    ) -> None:
        self._set(connection, trial_id, state=state, datetime_complete=optuna.utc_now())
        connection.execute(
            sa.update(tables.trials)
            .where(tables.trials.c.trial_id == trial_id)
            .values(error=error, fruitless=0 if error is None else tables.trials.c.fruitless)
        )

    def record_test(
        self, use: UseOfTest, uses_before: int, metrics: Mapping[int, Mapping[str, float]]
    ) -> None:
        """Record a use of the test split and its `test/...` metrics by seed, in one commit. Later scores replace earlier.

        Raises:
            StoreError: it was used by somebody else since there were `uses_before`.
        """
        ours, theirs = tables.trials.c, tables.metrics.c
        with self._transaction() as connection:
            tables.test_uses.create(connection, checkfirst=True)
            uses = connection.scalar(
                sa.select(sa.func.count()).where(tables.test_uses.c.study_id == self._id)
            )
            if uses != uses_before:
                raise StoreError(f"{self.study}: the test split was scored by another process just now")
            connection.execute(
                sa.insert(tables.test_uses).values(
                    study_id=self._id,
                    number=uses_before + 1,
                    cell=use.cell,
                    time=use.when,
                    who=use.who,
                    unfinished=use.unfinished,
                )
            )
            ids: dict[int, int] = {
                row.seed: row.trial_id
                for row in connection.execute(
                    sa.select(ours.seed, ours.trial_id).where(
                        ours.study_id == self._id, ours.cell == use.cell
                    )
                )
            }
            connection.execute(
                sa.delete(tables.metrics).where(
                    theirs.trial_id.in_(list(ids.values())), theirs.name.startswith("test/")
                )
            )
            rows = [
                {"trial_id": ids[seed], "name": name, "value": value}
                for seed, found in metrics.items()
                for name, value in found.items()
            ]
            if rows:
                connection.execute(sa.insert(tables.metrics), rows)

    # Parts and curves

    def part(self, part: str, seed: int) -> Trained | None:
        """Return what a part gave for a seed, or None while it is not trained to its end."""
        key = tables.parts.c
        with self._transaction() as connection:
            row = connection.execute(
                sa.select(key.metrics, key.seconds, key.steps, key.facts).where(
                    key.study_id == self._id, key.part == part, key.seed == seed
                )
            ).first()
        return Trained(*row) if row else None

    def record_part(self, part: str, seed: int, trained: Trained) -> None:
        """Record a part that was trained to its end."""
        with self._transaction() as connection:
            connection.execute(
                sa.insert(tables.parts).values(
                    study_id=self._id,
                    part=part,
                    seed=seed,
                    metrics=trained.metrics,
                    seconds=trained.seconds,
                    steps=trained.steps,
                    facts=trained.facts,
                )
            )

    def add_points(self, part: str, seed: int, points: Sequence[tuple[int, str, float]]) -> None:
        """Add (step, name, value) points to a part's curves; a point recomputed after a kill replaces itself."""
        if not points:
            return
        with self._transaction() as connection:
            if connection.dialect.name == "postgresql":
                from sqlalchemy.dialects.postgresql import insert
            else:
                from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
            statement = insert(tables.points)
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=list(tables.points.primary_key), set_={"value": statement.excluded.value}
                ),
                [
                    {
                        "study_id": self._id,
                        "part": part,
                        "seed": seed,
                        "step": step,
                        "name": name,
                        "value": value,
                    }
                    for step, name, value in points
                ],
            )

    def curve(self, part: str, seed: int, name: str) -> dict[int, float]:
        """Return one curve of a part as {step: value}."""
        key = tables.points.c
        with self._transaction() as connection:
            rows = connection.execute(
                sa.select(key.step, key.value)
                .where(key.study_id == self._id, key.part == part, key.seed == seed, key.name == name)
                .order_by(key.step)
            )
            return {step: value for step, value in rows if math.isfinite(value)}


def cell_from_row(row: Any) -> Cell:
    """Build a cell from its row in `ablate_cells`."""
    parts = {name: Part(part["hash"], part["settings"]) for name, part in row.parts.items()}
    return Cell(row.cell, row.levels, row.settings, parts)


def create_store(url: str, spec: StudySpec, design: Design) -> Store:
    """Create what is missing of the database, its tables and the study; open it.

    A study that is there takes over what `spec` says: whether it may is for the caller to know.
    Several processes may call this at once for one file: they take turns.

    Raises:
        StoreError: the database is locked, damaged or of another version.
    """
    file = databases.sqlite_file(url)
    with _taking_turns(file):
        if file is not None:
            databases.touch_private(file)
        engine = databases.connect(url)
        with databases.explained(url):
            if not sa.inspect(engine).has_table(tables.studies.name):
                optuna.create_schema(databases.parse_url(url))
                with engine.begin() as connection:
                    tables.metadata.create_all(connection)
            with engine.begin() as connection:
                there = connection.scalar(
                    sa.select(tables.studies.c.schema_version).where(tables.studies.c.name == spec.study)
                )
                if there is None:
                    _insert_study(connection, spec, design)
                elif there != tables.SCHEMA_VERSION:
                    raise StoreError(
                        f"{databases.printable(url)}: written by a version of ablate with tables {there}, "
                        f"this one has {tables.SCHEMA_VERSION}; use the version that wrote it"
                    )
                else:
                    connection.execute(
                        sa.update(tables.studies)
                        .where(tables.studies.c.name == spec.study)
                        .values(**_study_columns(spec, design))
                    )
        engine.dispose()
    return Store(url, spec.study)


def _insert_study(connection: sa.Connection, spec: StudySpec, design: Design) -> None:
    study_id = optuna.create_study(connection, spec.study, maximize=spec.metric.goal == "maximize")
    connection.execute(
        sa.insert(tables.studies).values(
            study_id=study_id,
            name=spec.study,
            schema_version=tables.SCHEMA_VERSION,
            **_study_columns(spec, design),
        )
    )


def _study_columns(spec: StudySpec, design: Design) -> dict[str, Any]:
    return {
        "spec": spec.model_dump(mode="json"),
        "design": {
            "kind": design.kind,
            "raw_cells": design.raw_cells,
            "reference": design.reference,
            "resolution": design.resolution,
            "aliases": design.aliases,
        },
        "folder": str(spec.folder.resolve()),
    }


@contextmanager
def _taking_turns(file: Path | None) -> Iterator[None]:
    """Hold the creation lock of an SQLite file: first opens of one file race otherwise."""
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{file}.lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        yield
