"""What a study could have seen: the noise of one run, and the minimal detectable effect."""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from statistics import NormalDist


def mde(se: float, df: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """Return the true effect that a two-sided t test finds with probability `power`, in the unit of `se`.

    `se` is the effect's standard error on `df` degrees of freedom (`inf`: known). The other tail, which adds
    less than 1e-4 to the power, is left out. Source: noncentral t, Cohen 1988.
    """
    return _effect_in_se(df, power, alpha) * se


@functools.cache
def _effect_in_se(df: float, power: float, alpha: float) -> float:
    """Return the noncentrality. `scipy.special` has it too, and takes a quarter of `ablate plan` to import."""
    if math.isinf(df):
        return NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(power)

    def found(effect: float, critical: float, shown: list[tuple[float, float]]) -> float:
        return math.fsum(
            share * math.erfc((critical * sd - effect) / math.sqrt(2)) / 2 for sd, share in shown
        )

    coarse = _shown_sds(df, 0.25)
    critical = _root(lambda c: alpha / 2 - found(0, c, coarse))
    # With few degrees of freedom the critical value is far out, and what is found climbs within a step of the coarse grid.
    fine = _shown_sds(df, min(0.25, math.sqrt(2 * df) / (2 * critical)))
    return _root(lambda effect: found(effect, critical, fine) - power)


def _shown_sds(df: float, step: float) -> list[tuple[float, float]]:
    """Return what `df` degrees of freedom make of a standard deviation of 1, and how often: sqrt(chi² / df) on a grid.

    Its logarithm is about normal with variance 1 / 2df, its left tail longer; steps of a quarter of its standard deviation
    sum it up to the last digits."""
    logs = [k * step / math.sqrt(2 * df) for k in range(-int(40 / step), int(10 / step) + 1)]
    density = {math.exp(log): math.exp(df * (log - math.expm1(2 * log) / 2)) for log in logs}  # 1 at its mode
    total = math.fsum(density.values())
    return [(sd, value / total) for sd, value in density.items() if value > 1e-16]


def _root(rising: Callable[[float], float]) -> float:
    low, high = 0.0, 1.0
    while rising(high) < 0:
        low, high = high, 2 * high
    while high - low > 1e-10 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2


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
