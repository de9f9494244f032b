"""Rows of the cells table: levels, seeds done and planned, every metric, and the difference from the reference."""

import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ablate.design.model import Cell
from ablate.evidence.contrasts import between_rows, differences_from_reference, pair_weights, same_level
from ablate.evidence.effects import Effect, Kind, infer_all
from ablate.evidence.frames import Grid
from ablate.evidence.items import Items
from ablate.evidence.looks import LookResult, last_results_of_cells
from ablate.evidence.verdicts import Judged
from ablate.report.document import CellRow, Difference, Numbers, OverSeeds
from ablate.report.phrases import reference_name
from ablate.report.sections.effects import at_last_look, effect_notes, judge, size_of
from ablate.spec.model import Scalar, levels_text
from ablate.stats.inference import infer
from ablate.stats.robust import iqm
from ablate.stats.verdicts import Verdict
from ablate.store.results import best_cell


def cell_rows(items: Items) -> tuple[CellRow, ...]:
    """Return one row per cell in design order."""
    grid = items.grid
    best = best_row(grid)
    # The first columns are the planned seeds; seeds that the study file does not name come after them.
    planned = len(grid.results.spec.seeds)
    differences = {metric: _differences(items, metric) for metric in grid.dev_metrics}
    numbers: dict[int, dict[int, int]] = defaultdict(dict)
    for (row, column), trial in sorted(grid.trials.items()):
        numbers[row][grid.seeds[column]] = trial.number
    return tuple(
        CellRow(
            cell=cell.hash,
            name=cell_name(grid, row),
            reference=row == grid.reference,
            best=row == best,
            levels=cell.levels,
            seeds_done=int((grid.states[row, :planned] == "COMPLETE").sum()),
            seeds_planned=len(grid.results.seeds_of(cell.hash)),
            states=dict(zip(map(str, grid.seeds), grid.states[row].tolist(), strict=True)),
            trials={str(seed): number for seed, number in numbers[row].items()},
            metrics={metric: _over_seeds(grid, grid.values[metric][row]) for metric in grid.metrics},
            difference={
                metric: difference
                for metric in grid.dev_metrics
                if (difference := differences[metric].get(row))
            },
            seconds=_finite_sum(grid.seconds[row]),
        )
        for row, cell in enumerate(grid.cells)
    )


def cell_name(grid: Grid, row: int) -> str:
    """Return how the cell differs from the reference, such as `training=joint, l2=0.01`; for the reference, its name."""
    reference = None if grid.reference is None else grid.cells[grid.reference]
    return name_beside(reference, grid.cells[row], grid.results.spec.design.kind)


def name_beside(reference: Cell | None, cell: Cell, design: str) -> str:
    """Return the name of a cell, given the one that it is compared with and the kind of design."""
    if reference is None:
        return levels_text(cell.levels)
    if cell.hash == reference.hash:
        return reference_name(design)
    return levels_text(_changed(cell, reference)) or levels_text(cell.levels)


def best_row(grid: Grid) -> int | None:
    """Return the row of the best cell (`store.results.best_cell`); None when no cell is complete."""
    best = best_cell(grid.results)
    return None if best is None else grid.index[best]


def _differences(items: Items, metric: str) -> dict[int, Difference]:
    """Return row -> its difference, corrected together; without the reference and rows that could not be compared."""
    grid = items.grid
    differences = differences_from_reference(grid, metric)
    compared = {
        row: difference for row, difference in enumerate(differences) if difference and difference.compared
    }
    if grid.reference is None or not compared:
        return {}
    measured = np.isfinite(grid.values[metric])
    looks = grid.results.spec.looking is not None and metric == grid.primary
    looked = last_results_of_cells(grid) if looks else {}
    # Of a comparison that has stopped, the seeds that its cells were given since do not count.
    columns = np.arange(len(grid.seeds))
    counted = [measured & (columns < looked[row][1]) if row in looked else measured for row in compared]
    weights = [pair_weights(grid.reference, row, there) for row, there in zip(compared, counted, strict=True)]
    at_last = grid.of_last_epoch.get(metric)
    last = infer_all(items, at_last, weights) if at_last else [None] * len(compared)
    effects = [
        Effect(between_rows(grid.reference, row), metric, Kind.LEVELS, w, inference, difference, last=of_last)
        for (row, difference), w, inference, of_last in zip(
            compared.items(), weights, infer_all(items, metric, weights), last, strict=True
        )
    ]
    rows = {
        row: _difference(effect, judged, size_of(grid, metric))
        for row, effect, judged in zip(compared, effects, judge(grid, effects, {}), strict=True)
    }
    if looks:
        return {
            row: _judged_at_last_look(difference, grid, looked[row][0] if row in looked else None)
            for row, difference in rows.items()
        }
    return rows


def _difference(effect: Effect, judged: Judged, size: float) -> Difference:
    notes = effect_notes(effect, ())
    last = Numbers.of(effect.last) if effect.last else None
    numbers = Numbers.of(effect.inference, size)
    return Difference(numbers, judged, tuple(notes), "; ".join(notes.values()), last)


def _judged_at_last_look(row: Difference, grid: Grid, seen: LookResult | None) -> Difference:
    """Return a difference as of the last look; inconclusive if no look covers it."""
    declared = grid.results.spec.metric
    verdict = seen.verdict(declared.goal, declared.smallest_effect) if seen else Verdict.INCONCLUSIVE
    p, ci90 = (seen.p_holm, seen.ci90) if seen else (None, None)
    judged = replace(row.judged, p_holm=p, verdict=verdict, ci90=ci90)
    return at_last_look(replace(row, judged=judged), seen)


def _over_seeds(grid: Grid, values: NDArray[np.float64]) -> OverSeeds:
    inference, known = infer(values), values[np.isfinite(values)]
    return OverSeeds(
        mean=inference.estimate,
        median=float(np.median(known)) if known.size else None,
        iqm=float(iqm(known)) if known.size else None,
        sd=inference.se * math.sqrt(inference.seeds) if inference.se is not None else None,
        n=inference.seeds,
        ci95=inference.interval(),
        by_seed={str(seed): float(v) for seed, v in zip(grid.seeds, values, strict=True) if math.isfinite(v)},
    )


def _changed(cell: Cell, reference: Cell) -> dict[str, Scalar]:
    return {
        name: level
        for name, level in cell.levels.items()
        if name not in reference.levels or not same_level(level, reference.levels[name])
    }


def _finite_sum(seconds: NDArray[np.float64]) -> float:
    return math.fsum(seconds[np.isfinite(seconds)])
