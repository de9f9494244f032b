"""Rows of the cells table: levels, seeds done and planned, every metric, and the difference from the reference."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.design.model import Cell
from ablate.evidence.contrasts import differences_from_reference, same_level
from ablate.evidence.estimates import over_seeds
from ablate.evidence.frames import Grid
from ablate.evidence.pairs import Pairing
from ablate.report.effects import judged
from ablate.spec.model import levels_text
from ablate.store.results import best_cell

SAME_PART = "same part, identical by construction"
MAX_WITH_ITEMS = 40  # differences with prediction files behind them; beyond, reading takes minutes


def cell_rows(pairing: Pairing) -> list[dict[str, Any]]:
    """Return one row per cell in design order."""
    grid = pairing.grid
    best = best_row(grid)
    planned = len(grid.results.spec.seeds)  # columns; seeds that the study file does not name come after them
    differences = {metric: _differences(pairing, metric, best) for metric in grid.dev_metrics}
    return [
        {
            "cell": cell.hash,
            "name": cell_name(grid, row),
            "reference": row == grid.reference,
            "best": row == best,
            "levels": cell.levels,
            "seeds_done": int((grid.states[row, :planned] == "COMPLETE").sum()),
            "seeds_planned": planned,
            "states": {str(seed): state for seed, state in zip(grid.seeds, grid.states[row], strict=True)},
            "metrics": {metric: _over_seeds(grid, grid.values[metric][row]) for metric in grid.metrics},
            "difference": {
                metric: differences[metric][row] for metric in grid.dev_metrics if differences[metric][row]
            },
            "seconds": _finite_sum(grid.seconds[row]),
        }
        for row, cell in enumerate(grid.cells)
    ]


def cell_name(grid: Grid, row: int) -> str:
    """Return what tells the cell from the reference: `training=joint, l2=0.01`; or `reference`."""
    if row == grid.reference:
        return "reference"
    if grid.reference is None:
        return levels_text(grid.cells[row].levels)
    return levels_text(_changed(grid.cells[row], grid.cells[grid.reference])) or levels_text(
        grid.cells[row].levels
    )


def best_row(grid: Grid) -> int | None:
    """Return the row of the best cell (`store.results.best_cell`); None when no cell is complete."""
    best = best_cell(grid.results)
    return None if best is None else grid.index[best]


def _differences(pairing: Pairing, metric: str, best: int | None) -> list[dict[str, Any] | None]:
    """One entry per cell, corrected together; None for the reference and for what was not compared."""
    grid = pairing.grid
    found = differences_from_reference(grid, metric)
    compared = [
        (row, difference) for row, difference in enumerate(found) if difference and difference.compared
    ]
    estimates = [
        pairing.estimate(grid.reference, row, metric, difference)
        if grid.reference is not None and (len(compared) <= MAX_WITH_ITEMS or row == best)
        else over_seeds(difference.per_seed)
        for row, difference in compared
    ]
    identical = [difference.all_identical for _, difference in compared]
    rows: list[dict[str, Any] | None] = [None] * len(found)
    for (row, _), estimate, same, judgement in zip(
        compared, estimates, identical, judged(estimates, identical, grid, metric), strict=True
    ):
        rows[row] = {**estimate.row(), **judgement.row(), "note": SAME_PART if same else ""}
    return rows


def _over_seeds(grid: Grid, values: NDArray[np.float64]) -> dict[str, Any]:
    estimate = over_seeds(values)
    sd = estimate.se * math.sqrt(estimate.n) if estimate.se is not None else None
    by_seed = {str(seed): float(v) for seed, v in zip(grid.seeds, values, strict=True) if math.isfinite(v)}
    return {
        "mean": estimate.value,
        "sd": sd,
        "n": estimate.n,
        "ci95": estimate.interval(0.95),
        "by_seed": by_seed,
    }


def _changed(cell: Cell, reference: Cell) -> dict[str, Any]:
    return {
        name: level
        for name, level in cell.levels.items()
        if name not in reference.levels or not same_level(level, reference.levels[name])
    }


def _finite_sum(seconds: NDArray[np.float64]) -> float:
    return math.fsum(seconds[np.isfinite(seconds)])
