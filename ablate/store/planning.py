"""A study's plan as rows: its file, its cells, and a trial for each cell and seed, in Optuna's tables and ours.

Never removes a trial. The caller holds the study's lock."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ablate.design.model import Cell, Design, Part
from ablate.errors import StoreError
from ablate.spec.model import Factor, StudySpec
from ablate.spec.yaml_tree import same
from ablate.store import optuna_tables as optuna
from ablate.store import tables
from ablate.store.optuna_tables import TrialState
from ablate.store.results import Look, UseOfTest


def lock_study(connection: sa.Connection, study_id: int) -> None:
    """Keep others from adding or requeueing trials until the commit. On SQLite every writing transaction has that lock."""
    ours = tables.studies.c
    connection.execute(sa.select(ours.study_id).where(ours.study_id == study_id).with_for_update())


def delete_study(connection: sa.Connection, study_id: int) -> None:
    """Delete a study and everything recorded for it."""
    mine = sa.select(tables.trials.c.trial_id).where(tables.trials.c.study_id == study_id)
    connection.execute(sa.delete(tables.metrics).where(tables.metrics.c.trial_id.in_(mine)))
    for table in tables.metadata.sorted_tables:
        if "study_id" in table.c:
            connection.execute(sa.delete(table).where(table.c.study_id == study_id))
    optuna.delete_study(connection, study_id)


def home(connection: sa.Connection, study_id: int) -> str | None:
    """Return the name of the folder of artifacts that a study's trials belong to."""
    key = optuna.study_attributes.c
    name = connection.scalar(sa.select(key.value_json).where(key.study_id == study_id, key.key == "home"))
    return None if name is None else str(json.loads(name))


def agree_on_home(connection: sa.Connection, study_id: int, proposed: str) -> str:
    """Set the name of the folder of artifacts if it has none; return its name."""
    if (agreed := home(connection, study_id)) is not None:
        return agreed
    row = {"study_id": study_id, "key": "home", "value_json": json.dumps(proposed)}
    connection.execute(sa.insert(optuna.study_attributes).values(row))
    return proposed


def add_look(connection: sa.Connection, study_id: int, look: Look) -> bool:
    """Record a look; return whether it is new."""
    ours = tables.looks.c
    if connection.scalar(sa.select(ours.number).where(ours.study_id == study_id, ours.number == look.number)):
        return False
    row = {
        **vars(look),
        "study_id": study_id,
        "cells": list(look.cells),
        "comparisons": list(look.comparisons),
    }
    connection.execute(sa.insert(tables.looks).values(row))
    return True


def add_use_of_test(connection: sa.Connection, study_id: int, use: UseOfTest, uses_before: int) -> None:
    """Record a use of the test split.

    Raises:
        StoreError: another process has used it since `uses_before` was read.
    """
    ours = tables.test_uses.c
    uses = connection.scalar(sa.select(sa.func.count()).where(ours.study_id == study_id))
    if uses != uses_before:
        raise StoreError(
            "the test split was scored by another process just now; `ablate report` has its scores"
        )
    row = {"number": uses_before + 1, "cell": use.cell, "time": use.when, "who": use.who}
    connection.execute(
        sa.insert(tables.test_uses).values({**row, "study_id": study_id, "unfinished": use.unfinished})
    )


def take_over(
    connection: sa.Connection, study_id: int, spec: StudySpec, design: Design, defaults: Mapping[str, str]
) -> None:
    """Update an existing study from its file; changes that affect its conclusions are recorded."""
    ours = tables.studies.c
    there = connection.execute(sa.select(tables.studies).where(ours.study_id == study_id)).one()
    columns = study_columns(spec, design, defaults, _changes(connection, there, spec, design))
    connection.execute(sa.update(tables.studies).where(ours.study_id == study_id).values(**columns))


def study_columns(
    spec: StudySpec, design: Design, defaults: Mapping[str, str], changes: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Return the columns of a study's row that describe its file and design."""
    return {
        "spec": spec.model_dump(mode="json"),
        "design": {
            "kind": design.kind,
            "raw_cells": design.raw_cells,
            "reference": design.reference,
            "resolution": design.resolution,
            "aliases": design.aliases,
            "defaults": dict(defaults),
            "changes": list(changes),
            "smoke": design.smoke,
            "also": {cell.hash: cell.also for cell in design.cells if cell.also},
            "file": str(spec.path) if spec.path else None,
            "overrides": list(spec.overrides),
        },
        "folder": str(spec.folder.resolve()),
    }


def _changes(
    connection: sa.Connection, there: sa.Row[Any], spec: StudySpec, design: Design
) -> list[dict[str, Any]]:
    """Return the recorded changes of a study, plus this one if trials already have results."""
    past: list[dict[str, Any]] = there.design.get("changes", [])
    old = StudySpec.model_validate(there.spec)
    before = {
        name: value
        for name, value in there.spec.items()
        if name in ("metric", "baseline") and getattr(old, name) != getattr(spec, name)
    }
    if set(old.seeds) != set(spec.seeds) or old.looking != spec.looking:
        before["seeds"] = list(old.seeds)
    if there.design["kind"] != design.kind:
        before["design"] = there.design["kind"]
    if there.design["raw_cells"] != design.raw_cells:
        before["combinations"] = there.design["raw_cells"]
    complete = connection.scalar(
        sa.select(sa.func.count()).where(
            optuna.trials.c.study_id == there.study_id, optuna.trials.c.state == TrialState.COMPLETE
        )
    )
    return [*past, {"complete": complete, "before": before}] if before and complete else past


def add_trials(
    connection: sa.Connection,
    study_id: int,
    factors: Sequence[Factor],
    cells: Sequence[Cell],
    order: Sequence[tuple[str, int]],
) -> int:
    """Write the cells of a design, and a WAITING trial for each missing (cell, seed) of `order`; return how many were added."""
    by_hash = {cell.hash: cell for cell in cells}
    ours = tables.trials.c
    rows = connection.execute(sa.select(ours.cell, ours.seed, ours.trial_id).where(ours.study_id == study_id))
    there = {(row.cell, row.seed): row.trial_id for row in rows}
    changed = _write_cells(connection, study_id, cells)
    new = [(by_hash[hash_], seed) for hash_, seed in order if (hash_, seed) not in there]
    if new or changed:
        ids = _insert_trials(connection, study_id, new, first=len(there)) if new else []
        old = {id_: by_hash[hash_] for (hash_, _), id_ in there.items()}
        of_new = dict(zip(ids, (cell for cell, _ in new), strict=True))
        _write_params(connection, study_id, factors, old, of_new)
    return len(new)


def _write_cells(connection: sa.Connection, study_id: int, cells: Sequence[Cell]) -> bool:
    """Write the design's cells unless they are unchanged; an extended study gets its new order and level names."""
    ours = tables.cells.c
    there = connection.execute(
        sa.select(ours.cell, ours.levels).where(ours.study_id == study_id).order_by(ours.position)
    ).all()
    if [(row.cell, repr(row.levels)) for row in there] == [(cell.hash, repr(cell.levels)) for cell in cells]:
        return False
    connection.execute(sa.delete(tables.cells).where(ours.study_id == study_id))
    connection.execute(
        sa.insert(tables.cells),
        [
            {
                "study_id": study_id,
                "cell": cell.hash,
                "position": position,
                "levels": cell.levels,
                "settings": cell.settings,
                "parts": {
                    name: {"hash": part.hash, "settings": part.settings} for name, part in cell.parts.items()
                },
            }
            for position, cell in enumerate(cells)
        ],
    )
    return True


def _insert_trials(
    connection: sa.Connection, study_id: int, new: list[tuple[Cell, int]], first: int
) -> Sequence[int]:
    ids: Sequence[int] = connection.scalars(
        sa.insert(optuna.trials).returning(optuna.trials.c.trial_id, sort_by_parameter_order=True),
        [
            {"number": first + offset, "study_id": study_id, "state": TrialState.WAITING}
            for offset in range(len(new))
        ],
    ).all()
    connection.execute(
        sa.insert(tables.trials),
        [
            {"trial_id": id_, "study_id": study_id, "cell": cell.hash, "seed": seed}
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
    return ids


def _write_params(
    connection: sa.Connection,
    study_id: int,
    factors: Sequence[Factor],
    old: Mapping[int, Cell],
    new: Mapping[int, Cell],
) -> None:
    """Write the levels of new trials, and of all trials if a factor got new or reordered levels: Optuna compares trials only if
    their factors have the same levels in the same order.
    """
    choices = {factor.name: tuple(level.name for level in factor.levels) for factor in factors}
    described = {name: optuna.choices_json(levels) for name, levels in choices.items()}
    key = optuna.params.c
    of_old = key.trial_id.in_(sa.select(tables.trials.c.trial_id).where(tables.trials.c.study_id == study_id))
    standing = connection.execute(
        sa.select(key.param_name, key.distribution_json).where(of_old).distinct()
    ).all()
    if any(described.get(name) != description for name, description in standing):
        connection.execute(sa.delete(optuna.params).where(of_old))
        new = {**old, **new}
    rows = [
        {
            "trial_id": id_,
            "param_name": factor,
            "param_value": float(next(i for i, one in enumerate(choices[factor]) if same(one, level))),
            "distribution_json": described[factor],
        }
        for id_, cell in new.items()
        for factor, level in cell.levels.items()
    ]
    if rows:
        connection.execute(sa.insert(optuna.params), rows)


def cell_from_row(row: Any, also: Mapping[str, Sequence[Mapping[str, Any]]] | None = None) -> Cell:
    """Build a cell from its row in `ablate_cells`. `also`: the other combinations of each cell, from the study's design."""
    parts = {name: Part(part["hash"], part["settings"]) for name, part in row.parts.items()}
    # A TypeError here means that another program changed the database.
    others = tuple({**levels} for levels in (also or {}).get(row.cell, ()))
    return Cell(row.cell, {**row.levels}, {**row.settings}, parts, others)
