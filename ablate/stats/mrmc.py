"""Two cells over several seeds and many items: multi-reader multi-case analysis, seeds as readers."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ablate.stats.distributions import interval, t_p

# Below this share of the variance, the seeds do not matter and the normal distribution applies.
NEGLIGIBLE = 1e-9


@dataclass(frozen=True)
class Mrmc:
    """The difference of two cells, with a standard error that covers both seeds and items."""

    delta: float
    se: float
    df: float  # inf if the seeds do not differ at all
    p: float | None  # None if nothing varies and the difference is not 0
    ci95: tuple[float, float]
    seed_share: float  # V_seed / V, the seeds' share of the variance
    sigma_seed: float  # sd of the seed component of a difference
    sigma_item: float  # sd of the item component
    sigma_seed_item: float  # sd of the residual, seed × item


def mrmc(differences: ArrayLike) -> Mrmc:
    """Analyse per-item differences d [S seeds, n items], S ≥ 2, n ≥ 2: B − A for the same seed and item.

    The variance is V = V_seed + max(V_item − V_int, 0), with V_seed = var(d̄_s·)/S, V_item = var(d̄_·i)/n and
    V_int = MS_residual/(S n): Obuchowski & Rockette 1995, Commun. Stat. 24(2) 285-308. For the degrees of
    freedom see `hillis_df`.
    """
    d = np.asarray(differences, dtype=float)
    S, n = d.shape
    seeds, items = d.mean(axis=1), d.mean(axis=0)
    delta = float(d.mean())
    residual = d - seeds[:, None] - items[None, :] + delta
    ms_residual = float(np.sum(residual**2)) / ((S - 1) * (n - 1))
    var_seeds, var_items = float(seeds.var(ddof=1)), float(items.var(ddof=1))
    v_seed, v_item, v_both = var_seeds / S, var_items / n, ms_residual / (S * n)
    v = v_seed + max(v_item - v_both, 0.0)
    negligible = (1e-12 * np.abs(d).max(initial=0)) ** 2
    share = v_seed / v if v_seed > negligible else 0.0
    df = hillis_df(share, S)
    se = math.sqrt(v)
    without_noise = 1.0 if delta == 0 else None
    return Mrmc(
        delta,
        se,
        df,
        t_p(delta / se, df) if v > negligible else without_noise,
        interval(delta, se, df),
        share,
        math.sqrt(max(var_seeds - ms_residual / n, 0.0)),
        math.sqrt(max(var_items - ms_residual / S, 0.0)),
        math.sqrt(ms_residual),
    )


def hillis_df(share: float, seeds: int) -> float:
    """Return V² / (V_seed² / (S − 1)), with V_seed / V = `share`: Hillis 2007, Stat. Med. 26, 596-619.

    With two or three seeds V_seed is often small by chance, and its square then gives too many degrees of freedom:
    the coverage of 95 % intervals in simulated studies is .87-.95 (S = 2), .92-.95 (3) and .94-.95 (5).
    `stats.inference`, which gives the verdicts, does not use these degrees of freedom.
    """
    return (seeds - 1) / share**2 if share > NEGLIGIBLE else math.inf
