"""Power: the minimum detectable effect, and the noise of one run."""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from statistics import NormalDist


def mde(se: float, df: float, power: float = 0.8, alpha: float = 0.05) -> float:
    """Return the minimum detectable effect of a two-sided t test: the one detected with probability `power`.

    `se` is the standard error of the effect, in the unit of the result, on `df` degrees of freedom (`inf`:
    known). Rejections in the wrong direction, which add less than 1e-4 to the power, are ignored. Source:
    noncentral t, Cohen 1988.
    """
    return _effect_in_se(df, power, alpha) * se


@functools.cache
def _effect_in_se(df: float, power: float, alpha: float) -> float:
    """Return the noncentrality that gives `power`.

    Computed here because importing `scipy.special`, which
    has it, takes a quarter of the time of `ablate plan`.
    """
    if math.isinf(df):
        return NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(power)

    def rejected(effect: float, critical: float, sds: list[tuple[float, float]]) -> float:
        return math.fsum(
            weight * math.erfc((critical * sd - effect) / math.sqrt(2)) / 2 for sd, weight in sds
        )

    coarse = _estimated_sds(df, 0.25)
    critical = _root(lambda c: alpha / 2 - rejected(0, c, coarse))
    # With few degrees of freedom the critical value is so large that power rises within one step of the coarse grid.
    fine = _estimated_sds(df, min(0.25, math.sqrt(2 * df) / (2 * critical)))
    return _root(lambda effect: rejected(effect, critical, fine) - power)


def _estimated_sds(df: float, step: float) -> list[tuple[float, float]]:
    """Return values of sqrt(χ² / df) on a grid and their weights: estimates of a standard deviation of 1.

    Its logarithm is roughly normal with variance 1 / 2df and a longer left tail. Grid steps of a quarter of its
    standard deviation give almost full precision.
    """
    logs = [k * step / math.sqrt(2 * df) for k in range(-int(40 / step), int(10 / step) + 1)]
    # Scaled to 1 at the mode.
    density = {math.exp(log): math.exp(df * (log - math.expm1(2 * log) / 2)) for log in logs}
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


def mde_paired(sigma: float, seeds: int) -> float | None:
    """Return the minimum detectable difference of two cells over `seeds` pairs; None with one seed.

    `sigma` is the standard deviation of one paired difference.
    """
    return mde(sigma / math.sqrt(seeds), seeds - 1) if seeds > 1 else None


def pooled_sd(groups: Iterable[Sequence[float]]) -> tuple[float | None, int]:
    """Return the pooled standard deviation within groups and its degrees of freedom; (None, 0) without any."""
    squares, df = 0.0, 0
    for values in groups:
        mean = math.fsum(values) / len(values)
        squares += math.fsum((value - mean) ** 2 for value in values)
        df += len(values) - 1
    return (math.sqrt(squares / df) if df else None), df
