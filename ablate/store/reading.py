"""Read-only access to the store: a few bulk queries, however many trials there are."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ablate.design.model import Cell
from ablate.errors import BadInput
from ablate.spec.model import StudySpec
from ablate.store import optuna_tables as optuna
from ablate.store import tables
from ablate.store.opening import creation_lock, reading
from ablate.store.places import SMOKE, Place
from ablate.store.planning import cell_from_row
from ablate.store.results import Change, Event, Look, PartResult, Point, Results, TrialResult, UseOfTest
from ablate.store.retrying import unless_cut
from ablate.store.urls import sqlite_file, without_password


def read_results(place: Place) -> Results:
    """Read everything recorded for a study except its curves, which are read on demand.

    Raises:
        BadInput: there is no such database, or it holds no such study.
        StoreError: the database is locked or damaged.
    """
    return unless_cut(lambda: _read_results(place))


def _read_results(place: Place) -> Results:
    url = without_password(place.url)
    with reading(place.url) as connection:
        if not sa.inspect(connection).has_table(tables.studies.name):
            raise BadInput(f"{url}: {_why_it_holds_nothing(place.url)}")
        ours = tables.studies
        version = connection.execute(
            sa.select(ours.c.schema_version).where(ours.c.name == place.study)
        ).first()
        if version is None:
            held = ", ".join(_names(connection)) or "none"
            raise BadInput(f"{url}: contains no study {place.study!r}; it contains {held}")
        tables.refuse_other_versions(connection, version.schema_version, url)
        head = connection.execute(sa.select(ours).where(ours.c.name == place.study)).one()
        key = tables.cells.c
        rows = connection.execute(
            sa.select(tables.cells).where(key.study_id == head.study_id).order_by(key.position)
        )
        # Databases of earlier versions name only one combination of each cell.
        cells = tuple(cell_from_row(row, head.design.get("also")) for row in rows)
        parts = _parts(connection, head.study_id, place)
        # A study made from a mapping has no file.
        file = head.design.get("file") or "STUDY"
        path = Path(head.folder) / Path(file).name
        return Results(
            spec=StudySpec.model_validate(head.spec).model_copy(
                update={"path": path, "overrides": tuple(head.design.get("overrides", ()))}
            ),
            cells=cells,
            reference=head.design["reference"],
            resolution=head.design["resolution"],
            aliases=head.design["aliases"],
            raw_cells=head.design["raw_cells"],
            trials=_trials(connection, head.study_id, cells, parts),
            parts=parts,
            points=partial(_points, place.url, head.study_id),
            test_uses=_test_uses(connection, head.study_id),
            changes=tuple(Change(**change) for change in head.design.get("changes", ())),
            looks=looks_taken(connection, head.study_id),
            defaults=head.design.get("defaults", {}),
            file=file,
            is_smoke=bool(head.design.get("smoke")),
            place=place,
        )


def _why_it_holds_nothing(url: str) -> str:
    file = sqlite_file(url)
    if file is not None and not creation_lock(file).exists():
        return "not a database of ablate"
    return "contains no study yet; if `ablate run` is creating it, try again in a moment"


def study_names(url: str) -> list[str]:
    """Return the names of the studies in a database."""

    def read() -> list[str]:
        with reading(url) as connection:
            return _names(connection) if sa.inspect(connection).has_table(tables.studies.name) else []

    return unless_cut(read)


def has_run(place: Place) -> bool:
    """Return whether the study is in its database."""
    return place.exists() and place.study in study_names(place.url)


def is_smoke(place: Place) -> bool:
    """Return whether the study is in its database, as a smoke run."""

    def read() -> bool:
        with reading(place.url) as connection:
            design = sa.select(tables.studies.c.design).where(tables.studies.c.name == place.study)
            return bool((connection.scalar(design) or {}).get("smoke"))

    return place.study.endswith(SMOKE) and has_run(place) and unless_cut(read)


def _names(connection: sa.Connection) -> list[str]:
    return list(connection.scalars(sa.select(tables.studies.c.name).order_by(tables.studies.c.name)))


def _parts(connection: sa.Connection, study_id: int, place: Place) -> dict[tuple[str, int], PartResult]:
    key = tables.parts.c
    rows = connection.execute(
        sa.select(key.part, key.seed, key.metrics, key.seconds, key.steps, key.facts)
        .where(key.study_id == study_id)
        .order_by(key.part, key.seed)
    )
    return {
        (row.part, row.seed): PartResult(
            row.part,
            row.seed,
            # Adding 0 raises if another program wrote text, which SQLite accepts in a column of numbers.
            {str(name): value + 0.0 for name, value in row.metrics.items()},
            row.seconds + 0.0,
            row.steps,
            _facts(row.facts),
            place.part_folder(row.part, row.seed),
        )
        for row in rows
    }


def _facts(written: Any) -> dict[str, Any]:
    """Return a part's facts. In older databases, a trainer may have overwritten our facts with values of any type."""
    known = {"code": dict, "versions": dict, "gpu_energy_joules": int | float}
    facts = written if isinstance(written, dict) else {}
    return {
        name: value
        for name, value in facts.items()
        if value is None or name not in known or isinstance(value, known[name])
    }


def _trials(
    connection: sa.Connection,
    study_id: int,
    cells: Sequence[Cell],
    parts: Mapping[tuple[str, int], PartResult],
) -> tuple[TrialResult, ...]:
    ours, theirs, key = tables.trials.c, optuna.trials.c, tables.metrics.c
    metrics: dict[int, dict[str, float]] = defaultdict(dict)
    # The driver's own cursor: with millions of rows, SQLAlchemy's row objects are too slow.
    for trial_id, name, value in connection.execute(
        sa.select(key.trial_id, key.name, key.value)
        .where(key.trial_id.in_(sa.select(ours.trial_id).where(ours.study_id == study_id)))
        .order_by(key.trial_id, key.name)
    ).cursor:  # type: ignore[attr-defined]
        metrics[trial_id][name] = value + 0.0
    by_hash = {cell.hash: cell for cell in cells}
    hashes = {cell.hash: {name: part.hash for name, part in cell.parts.items()} for cell in cells}
    rows = connection.execute(
        sa.select(tables.trials, theirs.number, theirs.state)
        .join(optuna.trials, theirs.trial_id == ours.trial_id)
        .where(ours.study_id == study_id)
        .order_by(theirs.number)
    )
    return tuple(
        TrialResult(
            cell=row.cell,
            seed=row.seed + 0,
            number=row.number,
            state=row.state.name,
            attempts=row.attempts,
            factors=by_hash[row.cell].levels,
            metrics=metrics.get(row.trial_id, {}),
            seconds=sum(
                part.seconds
                for hash_ in hashes[row.cell].values()
                if (part := parts.get((hash_, row.seed))) is not None
            ),
            error=row.error,
            parts=hashes[row.cell],
        )
        for row in rows
    )


def _points(url: str, study_id: int, parts: Collection[str]) -> list[Point]:
    key = tables.points.c
    with reading(url) as connection:
        rows = connection.execute(
            sa.select(key.part, key.seed, key.step, key.name, key.value)
            .where(key.study_id == study_id, key.part.in_(sorted(parts)))
            .order_by(key.part, key.seed, key.name, key.step)
        )
        return [Point(*row) for row in rows]


def read_history(place: Place) -> list[Event]:
    """Return who began which part of a study, when, and how that ended, in order; empty for older studies.

    Raises:
        StoreError: the database is locked or damaged.
    """
    ours, key = tables.studies.c, tables.history.c
    with reading(place.url) as connection:
        if not sa.inspect(connection).has_table(tables.history.name):
            return []
        rows = connection.execute(
            sa.select(key.part, key.seed, key.event, key.who, key.time)
            .join(tables.studies, ours.study_id == key.study_id)
            .where(ours.name == place.study)
            .order_by(key.number)
        )
        return [Event(*row) for row in rows]


def _test_uses(connection: sa.Connection, study_id: int) -> tuple[UseOfTest, ...]:
    if not sa.inspect(connection).has_table(tables.test_uses.name):
        return ()
    key = tables.test_uses.c
    rows = connection.execute(
        sa.select(key.cell, key.time, key.who, key.unfinished)
        .where(key.study_id == study_id)
        .order_by(key.number)
    )
    return tuple(UseOfTest(*row) for row in rows)


def looks_taken(connection: sa.Connection, study_id: int) -> tuple[Look, ...]:
    """Return the looks at a study's results, in order."""
    if not sa.inspect(connection).has_table(tables.looks.name):
        return ()
    key = tables.looks.c
    rows = connection.execute(
        sa.select(key.number, key.seeds, key.cells, key.comparisons)
        .where(key.study_id == study_id)
        .order_by(key.number)
    )
    return tuple(Look(row.number, row.seeds, tuple(row.cells), tuple(row.comparisons)) for row in rows)
