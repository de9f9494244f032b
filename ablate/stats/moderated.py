"""Variances of several effects shrunk towards one another: what borrowing noise would say, for those who want to know.

No verdict comes from it: where effects differ in how noisy they are it is wrong too often (.07 to .16 of studies in
simulations with two or three seeds), where they do not it finds more than each effect's own few seeds can."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special


@dataclass(frozen=True)
class Moderated:
    """Variances [k] after shrinking, and the degrees of freedom that they rest on."""

    variances: NDArray[np.float64]
    df: NDArray[np.float64]  # own plus borrowed; inf where all variances look alike


def moderate(variances: ArrayLike, df: Sequence[int]) -> Moderated | None:
    """Shrink `variances` [k] on `df` [k] degrees of freedom towards their common value; None for fewer than three above 0.

    Empirical Bayes: Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3(1) 3, section 6.2 for the prior's two numbers.
    """
    s2, d = np.asarray(variances, dtype=float), np.asarray(df, dtype=float)
    if len(s2) < 3 or not (s2 > 0).all() or not (d > 0).all():
        return None
    e = np.log(s2) - special.digamma(d / 2) + np.log(d / 2)
    spread = float(e.var(ddof=1) - special.polygamma(1, d / 2).mean())
    if spread <= 0:
        return Moderated(np.full(len(s2), math.exp(float(e.mean()))), np.full(len(s2), math.inf))
    prior_df = 2 * _inverse_trigamma(spread)
    prior = math.exp(float(e.mean() + special.digamma(prior_df / 2) - math.log(prior_df / 2)))
    return Moderated((prior_df * prior + d * s2) / (prior_df + d), prior_df + d)


def _inverse_trigamma(value: float) -> float:
    def excess(log_x: float) -> float:
        return float(special.polygamma(1, math.exp(log_x))) - value

    return math.exp(optimize.brentq(excess, -20.0, 20.0, xtol=1e-12))
