"""The inference behind every verdict: a contrast, its value per seed and, where known, per seed and item.

The difference of two cells, a factor's effect in a full grid, an interaction, an effect in a fraction, a composite
metric and the two sides of `ablate compare` are all contrasts: weighted sums of measurements. Seeds and items are
both random samples, and the effect may vary over either, so the variance is estimated from the contrast itself: from
its variation over seeds, and over items (or clusters of items). No variance is pooled across cells.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from ablate.stats import behrens_fisher
from ablate.stats.distributions import interval, t_p
from ablate.stats.power import mde

Array = NDArray[np.float64]

# Variation below this share of the largest value is rounding error.
ROUNDING = 1e-12
# So is a difference below this share of the metric's size: metrics are sums of 32-bit numbers, which have seven digits.
SINGLE_PRECISION = 1e-6


class Method(StrEnum):
    """How an estimate's standard error and p were obtained."""

    NOTHING = "none"
    ONE_SEED = "one_seed"
    NO_VARIANCE = "no_variance"
    SEEDS = "paired_t"
    SEEDS_AND_ITEMS = "mrmc_behrens_fisher"
    ITEMS = "items"
    LEAST_SQUARES = "least_squares"
    LENTH = "lenth"

    @property
    def is_over_seeds(self) -> bool:
        """Whether its p generalises to other seeds."""
        return self in (Method.SEEDS, Method.SEEDS_AND_ITEMS)


@dataclass(frozen=True)
class Inference:
    """A contrast's estimate and its error; fields are None where the data do not determine them."""

    estimate: float | None
    seeds: int
    method: Method = Method.NOTHING
    se: float | None = None
    # None where seeds and items both vary: each variance then has its own degrees of freedom.
    t_df: float | None = None
    p: float | None = None
    # Components of se²: the seeds', which includes seed × item, and the items' without seed × item.
    v_seed: float | None = None
    v_item: float | None = None
    item_df: float = math.inf

    @property
    def share(self) -> float | None:
        """The seeds' share of the variance; None if the analysis has no items."""
        if self.v_seed is None or self.v_item is None:
            return None
        return self.v_seed / (self.v_seed + self.v_item)

    @property
    def df(self) -> float | None:
        """The degrees of freedom of the t distribution that gives the 95 % interval; inf for the normal."""
        if self.share is None:
            return self.t_df
        return behrens_fisher.equivalent_df(0.05, self.share, self.seeds - 1, self.item_df)

    def interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """Return the two-sided interval at `level`; None without a standard error."""
        if self.estimate is None or self.se is None:
            return None
        if self.share is None:
            return None if self.t_df is None else interval(self.estimate, self.se, self.t_df, level)
        half = self.se * behrens_fisher.critical(1 - level, self.share, self.seeds - 1, self.item_df)
        return self.estimate - half, self.estimate + half

    def mde80(self, share: float = 1.0) -> float | None:
        """Return the minimum detectable effect at 80 % power, tested at this share of .05."""
        if self.se is None:
            return None
        alpha = 0.05 * share
        if self.share is None:
            return None if self.t_df is None else mde(self.se, self.t_df, alpha=alpha)
        return self.se * _detectable(round(self.share, 2), self.seeds - 1, _rounded_df(self.item_df), alpha)


@dataclass(frozen=True)
class ItemNoise:
    """The items' contribution to the variance of a contrast's mean over seeds and items."""

    item: float  # the items' variance without seed × item, at least 0
    seed_item: float  # the variance of seed × item, which the seeds' variance already includes
    df: float  # degrees of freedom of `item`


def infer(by_seed: ArrayLike, items: "ItemNoise | None" = None, scale: float = 0.0) -> Inference:
    """Analyse a contrast's values per seed [S], with its item noise where known; a seed without a value is NaN.

    With items, V = V_seed + V_item, where V_seed = var(by_seed)/S has S − 1 degrees of freedom (Obuchowski & Rockette
    1995, Commun. Stat. 24, 285-308), and the reference is the Behrens-Fisher distribution. Without items, it is a t
    test over seeds (Student 1908). One seed, or values that do not vary, give an estimate alone: without noise there
    is no p. `scale` is the magnitude of the numbers that the contrast was computed from: accuracies that cancel leave
    1e-16, or 1e-8 if they were recorded in single precision, which is neither an effect nor noise.
    """
    values = np.asarray(by_seed, dtype=float)
    values = values[np.isfinite(values)]
    seeds = len(values)
    if seeds == 0:
        return Inference(None, 0)
    rounding = max(SINGLE_PRECISION * scale, ROUNDING * float(np.abs(values).max()))
    values = np.where(np.abs(values) <= rounding, 0.0, values)
    estimate = float(values.mean())
    if abs(estimate) <= rounding:
        estimate = 0.0
    if seeds == 1:
        return Inference(estimate, 1, Method.ONE_SEED)
    v_seed = float(values.var(ddof=1)) / seeds
    if items is None:
        if v_seed <= rounding**2:
            return Inference(estimate, seeds, Method.NO_VARIANCE)
        se = math.sqrt(v_seed)
        return Inference(estimate, seeds, Method.SEEDS, se, seeds - 1, t_p(estimate / se, seeds - 1), v_seed)
    v = v_seed + items.item
    if v <= rounding**2:
        return Inference(estimate, seeds, Method.NO_VARIANCE)
    se, shape = math.sqrt(v), (v_seed / v, seeds - 1, items.df)
    p = behrens_fisher.two_sided_p(estimate / se, *shape)
    return Inference(estimate, seeds, Method.SEEDS_AND_ITEMS, se, None, p, v_seed, items.item, items.df)


def detectable_effect(v_seed: float, v_item: float, seeds: int, alpha: float) -> float:
    """Return the minimum detectable effect at `alpha` and 80 % power, given its variance components."""
    v = v_seed + v_item
    return math.sqrt(v) * _detectable(round(v_seed / v, 2), seeds - 1, math.inf, alpha)


def contributions(
    differences: ArrayLike, clusters: Sequence[str] | None = None
) -> tuple[Array, list[str] | None]:
    """Return what each unit (item or cluster) adds to the deviation of a contrast's mean, [S, units], and the labels.

    `differences` is [S seeds, n items]. The clusters' labels are in the order of the columns, None without clusters. A
    unit's contribution is how far the mean moves if the unit is left out, times √((G − 1) / G) for G units, so that the
    sum of squares is the jackknife variance of the mean (Tukey 1958): over items, var(d)/n. Items of one cluster are
    dependent and are left out together. Leaving out a large cluster moves the mean by more than its sum over n, hence
    the division by 1 − share.
    """
    d = np.asarray(differences, dtype=float)
    added = (d - d.mean(axis=1, keepdims=True)) / d.shape[1]
    labels, share = None, np.full(d.shape[1], 1 / d.shape[1])
    if clusters is not None:
        labels, place = _groups(clusters)
        totals = np.zeros((len(d), len(labels)))
        for total, row in zip(totals, added, strict=True):
            np.add.at(total, place, row)
        added, share = totals, np.bincount(place) / d.shape[1]
    units = added.shape[1]
    return added / (1 - share) * math.sqrt(1 - 1 / units) if units > 1 else added * math.nan, labels


def item_noise(added: Array) -> ItemNoise | None:
    """Return the items' variance of a mean from `contributions` [S ≥ 2, units]; None if it cannot be estimated.

    V_item = Σ_g (mean over seeds)² and V_seed×item = Σ (deviations from that mean)² / (S (S − 1)); over items without
    clusters these are var(d̄_·i)/n and MS_residual/(S n). V_item gets Satterthwaite's degrees of freedom, from the
    spread of the squares: for accuracies that differ on m items about 2m, however many items agree. The net variance,
    V_item − V_seed×item, gets a proportional share of them.
    """
    S, units = added.shape
    if S < 2 or units < 2 or not np.isfinite(added).all():
        return None
    mean = added.mean(axis=0)
    squares = mean**2
    v_item = float(squares.sum())
    v_both = float(((added - mean) ** 2).sum()) / (S * (S - 1))
    net = max(v_item - v_both, 0.0)
    if net == 0:
        return ItemNoise(0.0, v_both, math.inf)
    # Satterthwaite's formula squares this share, which leaves almost no degrees of freedom where items matter least and
    # costs a fifth of the power. With the share itself, the type I error rate stays below .05 for two to ten seeds and
    # three or more degrees of freedom.
    return ItemNoise(net, v_both, max(1.0, _df_of_items(squares) * net / v_item))


def infer_from_items(estimate: float, added: Array, scale: float = 0.0) -> Inference:
    """Analyse one seed: a t test over its items, or clusters of items, from `contributions` [1, units].

    The result holds for this seed only. `scale`: as in `infer`.
    """
    squares = added[0] ** 2
    variance, rounding = float(squares.sum()), max(SINGLE_PRECISION * scale, ROUNDING * abs(estimate))
    if not variance > rounding**2:
        return Inference(0.0 if abs(estimate) <= rounding else estimate, 1, Method.ONE_SEED)
    se, df = math.sqrt(variance), _df_of_items(squares)
    return Inference(estimate, 1, Method.ITEMS, se, df, t_p(estimate / se, df))


def _df_of_items(squares: Array) -> float:
    """Return Satterthwaite's degrees of freedom of a sum of squared contributions [units]."""
    units = len(squares)
    kurtosis = units * float((squares**2).sum()) / float(squares.sum()) ** 2
    return max(1.0, min(units - 1, 2 * units / max(kurtosis - 1, 1e-9)))


def _groups(clusters: Sequence[str]) -> tuple[list[str], NDArray[np.intp]]:
    places: dict[str, int] = {}
    index = np.array([places.setdefault(cluster, len(places)) for cluster in clusters], dtype=np.intp)
    return list(places), index


def _rounded_df(df: float) -> float:
    """Round to one of 51 values, so that `_detectable` hits its cache; the result changes by 3 % at most."""
    steps = round(50 / df)
    return 50 / steps if steps else math.inf


@lru_cache(maxsize=1024)
def _detectable(share: float, df_seed: float, df_item: float, alpha: float) -> float:
    """Return the minimum detectable effect in standard errors: its p is below `alpha` with probability .8.

    The estimated variance components are taken as the true ones; their estimates in another study vary as χ² does.
    Rejections in the wrong direction, which add less than 1e-4 to the power, are ignored.
    """
    ranks = (np.arange(400) + 0.5) / 400
    seed = share * special.chdtri(df_seed, ranks) / df_seed
    # The two variances are estimated independently, so the quantiles of one are permuted against the other's.
    item = np.full(len(ranks), 1 - share)
    if math.isfinite(df_item):
        item = item * np.random.default_rng(0).permutation(special.chdtri(df_item, ranks) / df_item)
    v = seed + item
    needed = np.interp(seed / v, _SHARES, _criticals(alpha, df_seed, df_item)) * np.sqrt(v)

    def missing_power(effect: float) -> float:
        return 0.8 - float(special.ndtr(effect - needed).mean())

    return float(optimize.brentq(missing_power, 0.0, float(needed.max()) + 10))


_SHARES = np.linspace(0, 1, 21)


@lru_cache(maxsize=1024)
def _criticals(alpha: float, df_seed: float, df_item: float) -> Array:
    return np.array([behrens_fisher.critical(alpha, share, df_seed, df_item) for share in _SHARES.tolist()])
