"""p values and quantiles of the t, F and normal distributions.

From scipy.special alone: scipy.stats takes a second to import.
"""

import math

import numpy as np
from scipy import special

SMALLEST_P = float(np.finfo(float).tiny)  # a p that underflows is tiny, not 0


def t_p(t: float, df: float) -> float:
    """Return the two-sided p of `t` on `df` degrees of freedom (`inf` means normal)."""
    tail = special.ndtr(-abs(t)) if math.isinf(df) else special.stdtr(df, -abs(t))
    return max(min(2 * float(tail), 1.0), SMALLEST_P)


def t_quantile(probability: float, df: float) -> float:
    """Return the `probability` quantile of t on `df` degrees of freedom (`inf` means normal)."""
    return float(special.ndtri(probability) if math.isinf(df) else special.stdtrit(df, probability))


def z_p(z: float) -> float:
    """Return the two-sided p of a standard normal `z`."""
    return t_p(z, math.inf)


def f_p(F: float, df_between: float, df_within: float) -> float:
    """Return the upper tail of F."""
    return max(float(special.fdtrc(df_between, df_within, F)), SMALLEST_P)


def interval(estimate: float, se: float, df: float, level: float = 0.95) -> tuple[float, float]:
    """Return `estimate` ± t · `se` at `level`."""
    half = t_quantile((1 + level) / 2, df) * se
    return estimate - half, estimate + half
