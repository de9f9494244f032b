"""Two classifiers on the same items: only the items that exactly one of them gets right are informative."""

import math
from dataclasses import dataclass

from scipy import special

from ablate.stats.distributions import t_quantile


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of the discordant counts, and an interval for accuracy(B) − accuracy(A)."""

    only_a: int  # items that only A gets right
    only_b: int  # items that only B gets right
    p_exact: float
    p_mid: float
    ci95: tuple[float, float]


def mcnemar(only_a: int, only_b: int, n: int) -> McNemar:
    """Compare B with A on `n` items.

    Exact conditional p: McNemar 1947 with the binomial tail. Mid-p: Lancaster 1961, recommended by Fagerland,
    Lydersen & Laake 2013, BMC Med. Res. Methodol. 13:91; for equal counts it is 1 − ½ of the point
    probability. Interval for the difference of accuracies: Bonett & Price 2012, J. Educ. Behav. Stat. 37(4)
    479-488, a Wald interval with one added to each discordant count.
    """
    discordant = only_a + only_b
    tail = float(special.bdtr(min(only_a, only_b), discordant, 0.5))
    point = (
        float(special.binom(discordant, only_a)) * 0.5**discordant
        if discordant < 1000
        else _point(only_a, discordant)
    )
    p_exact = min(1.0, 2 * tail)
    p_mid = 2 * tail - point if only_a != only_b else 1 - point / 2 if discordant else 1.0
    return McNemar(only_a, only_b, p_exact, min(1.0, p_mid), paired_interval(only_a, only_b, n))


def paired_interval(only_a: int, only_b: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the Bonett-Price interval for accuracy(B) − accuracy(A)."""
    a, b = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    half = t_quantile((1 + level) / 2, math.inf) * math.sqrt((a + b - (b - a) ** 2) / (n + 2))
    return max(-1.0, b - a - half), min(1.0, b - a + half)


def _point(k: int, n: int) -> float:
    """Return the binomial probability of k in n at ½, by logarithms: n choose k overflows beyond n = 1000."""
    return math.exp(math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2))
