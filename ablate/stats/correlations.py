"""Pearson correlations, and the comparison of two that share a variable: r(A, gold) and r(B, gold).

In every function `r_a` and `r_b` are the correlations with the gold labels, `r_ab` is the correlation between
the two predictions, and n is the number of items; differences are B − A.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ablate.stats.distributions import SMALLEST_P, t_p, t_quantile, z_p


def pearson(x: ArrayLike, y: ArrayLike) -> float:
    """Return Pearson's r of `x` and `y` [n]; nan if one of them is constant, up to rounding."""
    if is_constant(x) or is_constant(y):
        return math.nan
    dx, dy = (_centred(v) for v in (x, y))
    scale = math.sqrt(float(dx @ dx)) * math.sqrt(float(dy @ dy))
    return max(-1.0, min(1.0, float(dx @ dy) / scale)) if scale > 0 else math.nan


def is_constant(x: ArrayLike) -> bool:
    """Return whether values [n] differ by rounding errors at most; any correlation would then be one of these errors.

    The threshold is that of SciPy's `pearsonr`, which warns below it."""
    values = np.asarray(x, dtype=float)
    return bool(np.ptp(values) <= 1e-13 * np.abs(values).max(initial=0))


def pseudo_values(x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
    """Return per-item values [n] whose mean is r(x, y): r + z_x z_y − (r/2)(z_x² + z_y²).

    This is r plus its influence function; z uses the population standard deviation. Source: Devlin,
    Gnanadesikan & Kettenring 1975, Biometrika 62(3) 531-545.
    """
    r = pearson(x, y)
    zx, zy = (centred / centred.std() for centred in (_centred(x), _centred(y)))
    return np.asarray(r + zx * zy - r / 2 * (zx**2 + zy**2))


def fisher_interval(r: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of a correlation over n > 3 items. Source: Fisher 1921, Metron 1, 3-32."""
    if abs(r) >= 1:
        return r, r
    half = t_quantile((1 + level) / 2, math.inf) / math.sqrt(n - 3)
    return math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)


@dataclass(frozen=True)
class Test:
    """A test statistic, its degrees of freedom and its two-sided p."""

    statistic: float
    df: float
    p: float


def williams_t(r_a: float, r_b: float, r_ab: float, n: int) -> Test:
    """Test r_b = r_a with n − 3 degrees of freedom.

    Sources: Williams 1959; Steiger 1980, Psychol. Bull. 87, eq. 7.
    """
    if _equal(r_a, r_b):
        return Test(0.0, n - 3, 1.0)
    determinant = 1 - r_a**2 - r_b**2 - r_ab**2 + 2 * r_a * r_b * r_ab
    mean = (r_a + r_b) / 2
    below = 2 * (n - 1) / (n - 3) * max(determinant, 0.0) + mean**2 * (1 - r_ab) ** 3
    t = (r_b - r_a) * math.sqrt((n - 1) * (1 + r_ab) / max(below, SMALLEST_P))
    return Test(t, n - 3, t_p(t, n - 3))


def steiger_z(r_a: float, r_b: float, r_ab: float, n: int) -> Test | None:
    """Test r_b = r_a on Fisher's z scale, with the covariance at the mean correlation; None if |r| is 1.

    Source: Steiger 1980, eq. 14.
    """
    if _equal(r_a, r_b):
        return Test(0.0, math.inf, 1.0)
    # Fisher's z is infinite there.
    if max(abs(r_a), abs(r_b)) >= 1:
        return None
    squared = ((r_a + r_b) / 2) ** 2
    covariance = (r_ab * (1 - 2 * squared) - squared / 2 * (1 - 2 * squared - r_ab**2)) / (1 - squared) ** 2
    z = (math.atanh(r_b) - math.atanh(r_a)) * math.sqrt((n - 3) / max(2 - 2 * covariance, SMALLEST_P))
    return Test(z, math.inf, z_p(z))


def zou_interval(r_a: float, r_b: float, r_ab: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the confidence interval of r_b − r_a.

    Source: Zou 2007, Psychol. Methods 12(4) 399-413, overlapping correlations.
    """
    (low_a, high_a), (low_b, high_b) = fisher_interval(r_a, n, level), fisher_interval(r_b, n, level)
    free = (r_ab - r_a * r_b / 2) * (1 - r_a**2 - r_b**2 - r_ab**2) + r_ab**3
    spread = (1 - r_a**2) * (1 - r_b**2)
    # A perfect correlation has no sampling error, and so no covariance.
    c = free / spread if spread > 0 else 0.0
    down, up = (r_b - low_b, high_a - r_a), (high_b - r_b, r_a - low_a)
    low, high = (math.sqrt(max(0.0, x * x + y * y - 2 * c * x * y)) for x, y in (down, up))
    return r_b - r_a - low, r_b - r_a + high


def _equal(r_a: float, r_b: float) -> bool:
    # Closer than this, the difference is lost in the rounding errors of the three correlations.
    return math.isclose(r_a, r_b, rel_tol=0, abs_tol=1e-9)


def _centred(x: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(x, dtype=float)
    return np.asarray(values - values.mean())
