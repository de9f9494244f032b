"""How much a metric moves when nothing but the seed, or the items it is scored on, changes."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.evidence.frames import Grid
from ablate.evidence.items import Items, misaligned
from ablate.stats.linear import ROUNDING
from ablate.stats.mrmc import mrmc
from ablate.stats.power import mde_paired, pooled_sd
from ablate.store.results import repeated_values


def noise_rows(items: Items) -> list[dict[str, Any]]:
    """Return one row per metric: σ between seeds within a cell, and where items are known, of item and seed × item."""
    return [row for metric in items.grid.dev_metrics if (row := _row(items, metric))]


def _row(items: Items, metric: str) -> dict[str, Any] | None:
    grid = items.grid
    sd, df = seed_sd(grid, metric)
    if sd is None:
        return None
    seeds = len(grid.results.spec.seeds)
    return {
        "metric": metric,
        "sd_seed": sd,
        "df": df,
        "detectable": mde_paired(sd * math.sqrt(2), seeds) if sd > 0 else None,
        "seeds": seeds,
        **_items(items, metric),
    }


def seed_sd(grid: Grid, metric: str) -> tuple[float | None, int]:
    """Return the standard deviation between seeds within a cell, pooled over cells, and its degrees of freedom.

    Each trained part counts once, however many cells share it. None where no cell has two seeds.
    """
    return pooled_sd(repeated_values(grid.results, metric))


def sd_beyond_seeds(values: NDArray[np.float64]) -> float | None:
    """Return the standard deviation of [cells, seeds] that neither the cell nor the seed explains.

    What a seed adds to every cell alike cancels where cells of the same seeds are compared. None without variance."""
    cells, seeds = values.shape
    df = (cells - 1) * (seeds - 1)
    rest = values - values.mean(axis=1, keepdims=True)
    rest = rest - rest.mean(axis=0)
    if df < 1 or np.abs(rest).max() <= ROUNDING * np.abs(values).max():
        return None
    return float(np.sqrt((rest**2).sum() / df))


def _items(items: Items, metric: str) -> dict[str, Any]:
    """σ of item and of seed × item in the scores of the reference, on the scale of one item."""
    reference = items.grid.reference
    nothing: dict[str, Any] = {"sd_item": None, "sd_seed_item": None, "items": None}
    if reference is None or list(items.made_of(metric)) != [metric]:
        return nothing
    found = list(items.files.by_seed(reference, metric).values())
    if len(found) < 2 or misaligned(found):
        return nothing
    analysed = mrmc(np.array([scores.scores for scores in found]))
    return {
        "sd_item": analysed.sigma_item,
        "sd_seed_item": analysed.sigma_seed_item,
        "items": len(found[0].ids),
    }
