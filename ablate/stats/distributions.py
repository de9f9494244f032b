"""p values and quantiles of the t, F and normal distributions.

Uses scipy.special only: importing scipy.stats takes a second.
"""

import math

import numpy as np
from scipy import special

# A p value that underflows is reported as tiny, not as 0.
SMALLEST_P = float(np.finfo(float).tiny)


def t_p(t: float, df: float) -> float:
    """Return the two-sided p of `t` with `df` degrees of freedom (`inf`: normal)."""
    tail = special.ndtr(-abs(t)) if math.isinf(df) else special.stdtr(df, -abs(t))
    return max(min(2 * float(tail), 1.0), SMALLEST_P)


def t_quantile(probability: float, df: float) -> float:
    """Return the `probability` quantile of t with `df` degrees of freedom (`inf`: normal)."""
    return float(special.ndtri(probability) if math.isinf(df) else special.stdtrit(df, probability))


def z_p(z: float) -> float:
    """Return the two-sided p of a standard normal `z`."""
    return t_p(z, math.inf)


def f_p(F: float, df_between: float, df_within: float) -> float:
    """Return the upper-tail p of `F`."""
    return max(float(special.fdtrc(df_between, df_within, F)), SMALLEST_P)


def variance_interval(variance: float, df: float, level: float) -> tuple[float, float]:
    """Return the confidence interval of a variance of normal data that was estimated on `df` degrees of freedom."""
    few, many = (float(special.chdtri(df, tail)) for tail in ((1 - level) / 2, (1 + level) / 2))
    return variance * df / few, variance * df / many


def interval(estimate: float, se: float, df: float, level: float = 0.95) -> tuple[float, float]:
    """Return the confidence interval `estimate` ± t · `se` at `level`."""
    half = t_quantile((1 + level) / 2, df) * se
    return estimate - half, estimate + half
