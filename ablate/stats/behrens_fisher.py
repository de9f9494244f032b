"""Tests and intervals for an estimate whose variance is the sum of two independently estimated components.

With V = V₁ + V₂, V₁ estimated on ν₁ and V₂ on ν₂ degrees of freedom, Δ / √V is referred to the Behrens-Fisher
distribution: that of √share · T(ν₁) + √(1 − share) · T(ν₂) with share = V₁ / V (Fisher 1935, Ann. Eugen. 6, 391-398).
The type I error rate is at or below the nominal level for every true share (Robinson 1976, Ann. Stat. 4, 963-971),
far out in the tail too. Satterthwaite's degrees of freedom, and critical values weighted after Cochran and Cox, are
anticonservative there with two or three seeds.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from ablate.stats.distributions import SMALLEST_P, t_p, t_quantile

# A share within this distance of 0 or 1 leaves one variance component: a plain t distribution.
NEGLIGIBLE = 1e-9
# Above this many degrees of freedom, t equals the normal distribution to the digits that matter.
MANY = 1e4


def two_sided_p(t: float, share: float, df_seed: float, df_item: float) -> float:
    """Return P(|√share · T(df_seed) + √(1 − share) · T(df_item)| ≥ |t|); degrees of freedom may be `inf`."""
    if share >= 1 - NEGLIGIBLE:
        return t_p(t, df_seed)
    if share <= NEGLIGIBLE:
        return t_p(t, df_item)
    sd, weight = _mixture(share, df_seed, df_item)
    return float(np.clip(2 * weight @ special.ndtr(-abs(t) / sd), SMALLEST_P, 1.0))


@lru_cache(maxsize=4096)
def critical(alpha: float, share: float, df_seed: float, df_item: float) -> float:
    """Return the two-sided critical value: the |t| whose p is `alpha`."""
    if share >= 1 - NEGLIGIBLE:
        return t_quantile(1 - alpha / 2, df_seed)
    if share <= NEGLIGIBLE:
        return t_quantile(1 - alpha / 2, df_item)
    sd, weight = _mixture(share, df_seed, df_item)

    def excess(log_t: float) -> float:
        tail = 2 * float(weight @ special.ndtr(-math.exp(log_t) / sd))
        return math.log(max(tail, SMALLEST_P)) - math.log(alpha)

    fewest = t_quantile(1 - alpha / 2, min(df_seed, df_item))
    return math.exp(optimize.brentq(excess, math.log(fewest) - 12, math.log(fewest) + 3, xtol=1e-14))


def equivalent_df(alpha: float, share: float, df_seed: float, df_item: float) -> float:
    """Return the degrees of freedom of the t distribution with the same critical value at `alpha`."""
    if share >= 1 - NEGLIGIBLE:
        return df_seed
    if share <= NEGLIGIBLE:
        return df_item
    target = critical(alpha, share, df_seed, df_item)

    def excess(inverse: float) -> float:
        return t_quantile(1 - alpha / 2, 1 / inverse) - target

    if excess(1 / MANY) >= 0:
        return math.inf
    # With one degree of freedom each, the mixture has a heavier tail than t(1): the answer may be below 1.
    return 1 / float(optimize.brentq(excess, 1 / MANY, 2.0, xtol=1e-12))


@lru_cache(maxsize=512)
def _mixture(share: float, df_seed: float, df_item: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the distribution as a mixture of normals: their standard deviations and weights, both [nodes].

    Given both variance estimates, each t variable is normal, and so is their sum.
    """
    seed, of_seed = _variance_grid(df_seed)
    item, of_item = _variance_grid(df_item)
    sd = np.sqrt(share * seed[:, None] + (1 - share) * item[None, :]).ravel()
    return sd, (of_seed[:, None] * of_item[None, :]).ravel()


@lru_cache(maxsize=512)
def _variance_grid(df: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a grid of values of df / χ²(df) and their weights, both [nodes].

    log √(χ² / df) is roughly normal with variance 1 / 2df and a longer left tail. Grid steps of a third of its
    standard deviation give ten correct digits.
    """
    if df > MANY:
        return np.ones(1), np.ones(1)
    logs = np.arange(-160, 36) / 3 / math.sqrt(2 * df)
    density = np.exp(df * (logs - np.expm1(2 * logs) / 2))
    kept = density > 1e-15
    return np.exp(-2 * logs[kept]), density[kept] / density[kept].sum()
