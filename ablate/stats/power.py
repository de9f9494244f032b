"""What a study could have seen: the noise of one run, and the minimal detectable effect."""

import math
from collections.abc import Iterable, Sequence

from scipy import special

from ablate.stats.distributions import t_quantile


def mde(se: float, df: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """Return the true effect that a two-sided t test finds with probability `power`, in the unit of `se`.

    `se` is the effect's standard error on `df` degrees of freedom (`inf`: known). The other tail, which adds
    less than 1e-4 to the power, is left out. Source: noncentral t, Cohen 1988.
    """
    critical = t_quantile(1 - alpha / 2, df)
    if math.isinf(df):
        return (critical + t_quantile(power, df)) * se
    return float(special.nctdtrinc(df, 1 - power, critical)) * se


def mde_paired(sigma: float, seeds: int, power: float = 0.8, alpha: float = 0.05) -> float | None:
    """Return the detectable difference of two cells over `seeds` pairs; `sigma` is the sd of one difference.

    None: 1 seed.
    """
    return mde(sigma / math.sqrt(seeds), seeds - 1, power, alpha) if seeds > 1 else None


def pooled_sd(groups: Iterable[Sequence[float]]) -> tuple[float | None, int]:
    """Return the standard deviation within groups, weighted by their degrees of freedom, and these; None: 0 df."""
    squares, df = 0.0, 0
    for values in groups:
        mean = math.fsum(values) / len(values)
        squares += math.fsum((value - mean) ** 2 for value in values)
        df += len(values) - 1
    return (math.sqrt(squares / df) if df else None), df
