"""Create what is missing of a database: its tables, and a study in it. One process at a time; a study that is there takes over
what its file says now, and what that changes for its conclusions is kept."""

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from ablate.design.model import Design
from ablate.errors import StoreError
from ablate.spec.model import StudySpec
from ablate.store import engine as databases
from ablate.store import optuna_tables as optuna
from ablate.store import tables
from ablate.store.optuna_tables import TrialState
from ablate.store.writing import Store


def create_store(
    url: str, spec: StudySpec, design: Design, defaults: Mapping[str, str] | None = None
) -> Store:
    """Create what is missing of the database, its tables and the study; open it. `defaults`: of the trainer's settings.

    A study that is there takes over what `spec` says: whether it may is for the caller to know.
    Several processes may call this at once for one file: they take turns.

    Raises:
        StoreError: the database is locked, damaged or of another version.
    """
    file = databases.sqlite_file(url)
    with _taking_turns(url):
        if file is not None:
            databases.touch_private(file)
        engine = databases.connect(url)
        with databases.explained(url):
            if not sa.inspect(engine).has_table(tables.studies.name):
                optuna.create_schema(databases.parse_url(url))
            with engine.begin() as connection:
                tables.metadata.create_all(connection)
                there = connection.execute(
                    sa.select(tables.studies).where(tables.studies.c.name == spec.study)
                ).first()
                if there is None:
                    _insert_study(connection, spec, design, defaults)
                elif there.schema_version != tables.SCHEMA_VERSION:
                    raise StoreError(
                        f"{databases.printable(url)}: written by a version of ablate with tables {there.schema_version}, "
                        f"this one has {tables.SCHEMA_VERSION}; use the version that wrote it"
                    )
                else:
                    connection.execute(
                        sa.update(tables.studies)
                        .where(tables.studies.c.name == spec.study)
                        .values(
                            **_study_columns(
                                spec, design, defaults, _changes(connection, there, spec, design)
                            )
                        )
                    )
        engine.dispose()
    return Store(url, spec.study)


def _insert_study(
    connection: sa.Connection, spec: StudySpec, design: Design, defaults: Mapping[str, str] | None
) -> None:
    study_id = optuna.create_study(connection, spec.study, maximize=spec.metric.goal == "maximize")
    connection.execute(
        sa.insert(tables.studies).values(
            study_id=study_id,
            name=spec.study,
            schema_version=tables.SCHEMA_VERSION,
            **_study_columns(spec, design, defaults),
        )
    )


def _changes(
    connection: sa.Connection, there: sa.Row[Any], spec: StudySpec, design: Design
) -> list[dict[str, Any]]:
    """Return the recorded changes of a study, with this one if trials have results: conclusions rest on what changed."""
    past: list[dict[str, Any]] = there.design.get("changes", [])
    old = StudySpec.model_validate(there.spec)
    before = {
        name: value
        for name, value in there.spec.items()
        if name in ("metric", "baseline") and getattr(old, name) != getattr(spec, name)
    }
    if set(old.seeds) != set(spec.seeds):
        before["seeds"] = list(old.seeds)
    if there.design["raw_cells"] != design.raw_cells:
        before["combinations"] = there.design["raw_cells"]
    complete = connection.scalar(
        sa.select(sa.func.count()).where(
            optuna.trials.c.study_id == there.study_id, optuna.trials.c.state == TrialState.COMPLETE
        )
    )
    return [*past, {"complete": complete, "before": before}] if before and complete else past


def _study_columns(
    spec: StudySpec,
    design: Design,
    defaults: Mapping[str, str] | None,
    changes: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    return {
        "spec": spec.model_dump(mode="json"),
        "design": {
            "kind": design.kind,
            "raw_cells": design.raw_cells,
            "reference": design.reference,
            "resolution": design.resolution,
            "aliases": design.aliases,
            "defaults": dict(defaults or {}),
            "changes": list(changes),
            "file": str(spec.path) if spec.path else None,
        },
        "folder": str(spec.folder.resolve()),
    }


@contextmanager
def _taking_turns(url: str) -> Iterator[None]:
    """Hold the database's creation lock: first opens of one database race otherwise."""
    file = databases.sqlite_file(url)
    if file is None:
        with databases.explained(url), databases.lock_session(url) as session:
            session.execute(sa.select(sa.func.pg_advisory_lock(databases.advisory_key("create"))))
            yield
        return
    databases.refuse_network_file_system(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    with databases.creation_lock(file).open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        yield
