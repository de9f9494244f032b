"""What a study plans, as rows: its cells, and a trial for each cell and seed, in Optuna's tables and ours. Removes no trial; the
caller holds the study's lock."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ablate.design.model import Cell, Part
from ablate.spec.model import Factor
from ablate.spec.yaml_tree import same
from ablate.store import optuna_tables as optuna
from ablate.store import tables
from ablate.store.optuna_tables import TrialState


def add_trials(
    connection: sa.Connection,
    study_id: int,
    factors: Sequence[Factor],
    cells: Sequence[Cell],
    order: Sequence[tuple[str, int]],
) -> int:
    """Write the cells of a design, and those (cell, seed) of `order` that are missing as WAITING trials; return how many."""
    by_hash = {cell.hash: cell for cell in cells}
    ours = tables.trials.c
    rows = connection.execute(sa.select(ours.cell, ours.seed, ours.trial_id).where(ours.study_id == study_id))
    there = {(row.cell, row.seed): row.trial_id for row in rows}
    _write_cells(connection, study_id, cells)
    new = [(by_hash[hash_], seed) for hash_, seed in order if (hash_, seed) not in there]
    if new:
        ids = _insert_trials(connection, study_id, new, first=len(there))
        old = {id_: by_hash[hash_] for (hash_, _), id_ in there.items()}
        of_new = dict(zip(ids, (cell for cell, _ in new), strict=True))
        _write_params(connection, study_id, factors, old, of_new)
    return len(new)


def _write_cells(connection: sa.Connection, study_id: int, cells: Sequence[Cell]) -> None:
    """Write the design's cells, unless they stand there already; an extended study gets its new order."""
    ours = tables.cells.c
    there = connection.scalars(
        sa.select(ours.cell).where(ours.study_id == study_id).order_by(ours.position)
    ).all()
    if there == [cell.hash for cell in cells]:
        return
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
    """Write the levels of new trials, and those of the old ones again where a factor gained levels or changed their order:
    Optuna compares only trials whose parameters have one description."""
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


def cell_from_row(row: Any) -> Cell:
    """Build a cell from its row in `ablate_cells`."""
    parts = {name: Part(part["hash"], part["settings"]) for name, part in row.parts.items()}
    return Cell(row.cell, row.levels, row.settings, parts)
