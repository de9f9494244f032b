"""How much a metric varies when only the seed, or only the items it is scored on, change."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ablate.evidence.frames import Grid
from ablate.evidence.items import Items, misaligned
from ablate.stats.linear import ROUNDING
from ablate.stats.mrmc import mrmc
from ablate.stats.power import mde_paired, pooled_sd
from ablate.store.results import repeated_values


@dataclass(frozen=True)
class Noise:
    """How much a metric varies when only the seed changes."""

    metric: str
    sd_seed: float  # within a cell
    df: int
    detectable: float | None  # difference of two cells that 80 % of studies detect; None if there is no noise
    seeds: int
    sd_item: float | None  # on the scale of one item; None without saved predictions
    sd_seed_item: float | None
    items: int | None


def noise_of_metrics(items: Items) -> tuple[Noise, ...]:
    """Return the noise of each metric for which some cell has two seeds."""
    return tuple(noise for metric in items.grid.dev_metrics if (noise := _noise(items, metric)))


def _noise(items: Items, metric: str) -> Noise | None:
    grid = items.grid
    sd, df = seed_sd(grid, metric)
    if sd is None:
        return None
    seeds = len(grid.results.spec.seeds)
    detectable = mde_paired(sd * math.sqrt(2), seeds) if sd > 0 else None
    return Noise(metric, sd, df, detectable, seeds, *_of_items(items, metric))


def seed_sd(grid: Grid, metric: str) -> tuple[float | None, int]:
    """Return the standard deviation between seeds within a cell, pooled over cells, and its degrees of freedom.

    Cells with the same trained parts count once. None if no cell has two seeds.
    """
    return pooled_sd(repeated_values(grid.results, metric))


def sd_beyond_seeds(values: NDArray[np.float64]) -> float | None:
    """Return the standard deviation of `values` [cells, seeds] that neither the cell nor the seed explains.

    A seed's effect on all cells cancels when cells are compared on the same seeds. None without variance."""
    cells, seeds = values.shape
    # No cell is left if none has all seeds yet.
    if min(cells, seeds) < 2:
        return None
    residuals = values - values.mean(axis=1, keepdims=True)
    residuals = residuals - residuals.mean(axis=0)
    if np.abs(residuals).max() <= ROUNDING * np.abs(values).max():
        return None
    return float(np.sqrt((residuals**2).sum() / ((cells - 1) * (seeds - 1))))


def _of_items(items: Items, metric: str) -> tuple[float | None, float | None, int | None]:
    """σ of item and of seed × item in the scores of the reference, and how many items there are."""
    reference = items.grid.reference
    if reference is None or list(items.made_of(metric)) != [metric]:
        return None, None, None
    of_seeds = list(items.files.by_seed(reference, metric).values())
    if len(of_seeds) < 2 or misaligned(of_seeds):
        return None, None, None
    analysis = mrmc(np.array([scores.scores for scores in of_seeds]))
    return analysis.sigma_item, analysis.sigma_seed_item, len(of_seeds[0].ids)
