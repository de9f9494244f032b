"""The store for those who only look: bulk queries on a read-only connection, a handful however many trials there are."""

from collections import defaultdict
from collections.abc import Collection
from functools import partial
from pathlib import Path

import sqlalchemy as sa

from ablate.errors import BadInput
from ablate.spec.model import StudySpec
from ablate.store import engine as databases
from ablate.store import optuna_tables as optuna
from ablate.store import tables
from ablate.store.planning import cell_from_row
from ablate.store.results import Change, Look, PartResult, Point, Results, TrialResult, UseOfTest


def read_results(url: str, study: str, folder: Path) -> Results:
    """Read everything recorded for `study` but its curves, which wait to be asked for; `folder` is that of its artifacts.

    Raises:
        BadInput: there is no such database, or it holds no such study.
        StoreError: the database is locked or damaged.
    """
    engine = databases.connect(url, read_only=True)
    with databases.explained(url), engine.connect() as connection:
        if not sa.inspect(connection).has_table(tables.studies.name):
            raise BadInput(f"{databases.without_password(url)}: {_why_it_holds_nothing(url)}")
        head = connection.execute(sa.select(tables.studies).where(tables.studies.c.name == study)).first()
        if head is None:
            raise BadInput(
                f"{databases.without_password(url)}: holds no study {study!r}; it holds {', '.join(_names(connection))}"
            )
        cell_rows = connection.execute(
            sa.select(tables.cells)
            .where(tables.cells.c.study_id == head.study_id)
            .order_by(tables.cells.c.position)
        ).all()
        cells = tuple(cell_from_row(row) for row in cell_rows)
        parts = _parts(connection, head.study_id, folder)
        file = head.design.get("file") or "STUDY"  # none is known of a study that was not in a file
        results = Results(
            spec=StudySpec.model_validate(head.spec).model_copy(
                update={"path": Path(head.folder) / Path(file).name}
            ),
            cells=cells,
            reference=head.design["reference"],
            resolution=head.design["resolution"],
            aliases=head.design["aliases"],
            raw_cells=head.design["raw_cells"],
            trials=_trials(connection, head.study_id, {cell.hash: cell for cell in cells}, parts),
            parts=parts,
            points=partial(_points, url, head.study_id),
            test_uses=_test_uses(connection, head.study_id),
            changes=tuple(Change(**change) for change in head.design.get("changes", ())),
            looks=looks_taken(connection, head.study_id),
            defaults=head.design.get("defaults", {}),
            file=file,
        )
    engine.dispose()
    return results


def _why_it_holds_nothing(url: str) -> str:
    file = databases.sqlite_file(url)
    if file is not None and not databases.creation_lock(file).exists():
        return "not a database of ablate"
    return "holds no study yet; if `ablate run` is creating it, ask again in a moment"


def study_names(url: str) -> list[str]:
    """Return the names of the studies in a database."""
    engine = databases.connect(url, read_only=True)
    with databases.explained(url), engine.connect() as connection:
        found = _names(connection) if sa.inspect(connection).has_table(tables.studies.name) else []
    engine.dispose()
    return found


def _names(connection: sa.Connection) -> list[str]:
    return list(connection.scalars(sa.select(tables.studies.c.name).order_by(tables.studies.c.name)))


def _parts(connection: sa.Connection, study_id: int, folder: Path) -> dict[tuple[str, int], PartResult]:
    rows = connection.execute(
        sa.select(tables.parts)
        .where(tables.parts.c.study_id == study_id)
        .order_by(tables.parts.c.part, tables.parts.c.seed)
    )
    return {
        (row.part, row.seed): PartResult(
            part=row.part,
            seed=row.seed,
            metrics=row.metrics,
            seconds=row.seconds,
            steps=row.steps,
            facts=row.facts,
            folder=part_folder(folder, row.part, row.seed),
        )
        for row in rows
    }


def part_folder(study_folder: Path, part: str, seed: int) -> Path:
    """Return where a part keeps its files: named by hash and seed, never by user text."""
    return study_folder.joinpath("trials", f"{part}-{seed}")


def _trials(connection, study_id, cells, parts) -> tuple[TrialResult, ...]:  # type: ignore[no-untyped-def]
    mine = sa.select(tables.trials.c.trial_id).where(tables.trials.c.study_id == study_id)
    metrics: dict[int, dict[str, float]] = defaultdict(dict)
    for trial_id, name, value in connection.execute(
        sa.select(tables.metrics.c.trial_id, tables.metrics.c.name, tables.metrics.c.value)
        .where(tables.metrics.c.trial_id.in_(mine))
        .order_by(tables.metrics.c.trial_id, tables.metrics.c.name)
    ).cursor:  # the driver's own rows: there are millions
        metrics[trial_id][name] = value
    hashes = {cell.hash: {name: part.hash for name, part in cell.parts.items()} for cell in cells.values()}
    rows = connection.execute(
        sa.select(tables.trials, optuna.trials.c.number, optuna.trials.c.state)
        .join(optuna.trials, optuna.trials.c.trial_id == tables.trials.c.trial_id)
        .where(tables.trials.c.study_id == study_id)
        .order_by(optuna.trials.c.number)
    )
    return tuple(
        TrialResult(
            cell=row.cell,
            seed=row.seed,
            number=row.number,
            state=row.state.name,
            attempts=row.attempts,
            factors=cells[row.cell].levels,
            metrics=metrics.get(row.trial_id, {}),
            seconds=sum(
                parts[hash_, row.seed].seconds
                for hash_ in hashes[row.cell].values()
                if (hash_, row.seed) in parts
            ),
            error=row.error,
            parts=hashes[row.cell],
        )
        for row in rows
    )


def _points(url: str, study_id: int, parts: Collection[str]) -> list[Point]:
    key = tables.points.c
    engine = databases.connect(url, read_only=True)
    with databases.explained(url), engine.connect() as connection:
        rows = connection.execute(
            sa.select(key.part, key.seed, key.step, key.name, key.value)
            .where(key.study_id == study_id, key.part.in_(sorted(parts)))
            .order_by(key.part, key.seed, key.name, key.step)
        ).all()
    engine.dispose()
    return [Point(*row) for row in rows]


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
