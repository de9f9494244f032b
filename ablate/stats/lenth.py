"""Lenth's method: estimate noise from the effects themselves when no combination is replicated."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ablate.stats.distributions import t_quantile

# An effect below this share of the largest is 0 up to rounding.
ROUNDING = 1e-12
# A 2^2 design has three effects. One or two would be measured against themselves and never be significant: the margins would be
# up to a thousand times the effect. If no true effect exists, an interval misses 0 in .003 of cases with three effects, .020 with
# seven, .029 with fifteen (200,000 simulations each).
FEWEST = 3
LEVEL = 0.95  # of both margins


@dataclass(frozen=True)
class Lenth:
    """Lenth's pseudo standard error and margins, in the unit of the effects."""

    s0: float  # initial estimate of the standard error of an effect
    pse: float  # pseudo standard error
    me: float  # margin of error of one effect
    sme: float  # simultaneous margin of error of all effects
    df: float  # m / 3
    m: int  # number of effects


def lenth(effects: ArrayLike) -> Lenth | None:
    """Return Lenth's margins for m orthogonal two-level `effects` [m].

    None for fewer than three effects, or if most are 0 up to rounding.

    Source: Lenth 1989, Technometrics 31(4) 469-473.
    """
    sizes = np.abs(np.asarray(effects, dtype=float))
    if sizes.size < FEWEST:
        return None
    s0 = 1.5 * float(np.median(sizes))
    rounding = ROUNDING * sizes.max()
    if s0 <= rounding:
        return None
    pse = 1.5 * float(np.median(sizes[sizes < 2.5 * s0]))
    if pse <= rounding:
        return None
    m = sizes.size
    df = m / 3
    each = (1 + LEVEL ** (1 / m)) / 2
    return Lenth(s0, pse, t_quantile((1 + LEVEL) / 2, df) * pse, t_quantile(each, df) * pse, df, m)
