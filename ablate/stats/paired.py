"""Paired samples over seeds or items: t test, exact sign-flip test, bootstrap."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ablate.stats.distributions import interval, t_p

EXACT_UP_TO = 20  # pairs: 2^20 sums take a tenth of a second
# How many random assignments of signs, and how many samples of a bootstrap.
SIGNS, RESAMPLES = 100_000, 4000


@dataclass(frozen=True)
class PairedT:
    """A paired t test."""

    estimate: float
    se: float
    df: int
    t: float | None  # None if the differences do not vary
    p: float | None
    ci95: tuple[float, float] | None


def paired_t(differences: ArrayLike) -> PairedT | None:
    """Test whether `differences` [n] have mean 0; None if n < 2.

    Source: Student 1908, Biometrika 6, 1-25.
    """
    d = np.asarray(differences, dtype=float)
    if len(d) < 2:
        return None
    mean, se, df = float(d.mean()), float(d.std(ddof=1)) / math.sqrt(len(d)), len(d) - 1
    if np.ptp(d) <= 1e-12 * np.abs(d).max(initial=0):
        return PairedT(mean, 0.0, df, None, None, None)
    return PairedT(mean, se, df, mean / se, t_p(mean / se, df), interval(mean, se, df))


def sign_flip_p(differences: ArrayLike) -> float:
    """Return the p of the sign-flip test that `differences` [n] are symmetric about 0.

    It is the share of the 2^n sign assignments whose |sum| is at least the observed one. Exact up to 20
    pairs; beyond, estimated from 100,000 random assignments with a fixed seed. The smallest possible p is
    2^(1−n), so five seeds never reach .05. Source: Fisher 1935, The Design of Experiments, § 21.
    """
    d = np.asarray(differences, dtype=float)
    observed = abs(d.sum()) * (1 - 1e-12) - 1e-300
    if len(d) <= EXACT_UP_TO:
        sums = np.zeros(1)
        for value in d:
            sums = np.concatenate([sums + value, sums - value])
        return float(np.mean(np.abs(sums) >= observed))
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(SIGNS, len(d)))
    return float((1 + np.sum(np.abs(signs @ d) >= observed)) / (SIGNS + 1))


def smallest_sign_flip_p(n: int) -> float:
    """Return the smallest p that the sign-flip test of `n` pairs can give."""
    return 2.0 ** (1 - n)


@dataclass(frozen=True)
class Bootstrap:
    """A percentile interval and the corresponding p."""

    ci95: tuple[float, float]
    p: float


def bootstrap_mean(values: ArrayLike, clusters: Sequence[str] | None = None) -> Bootstrap:
    """Return the percentile interval and p of the mean of `values` [n], resampled with a fixed seed.

    `clusters` [n] names items that depend on each other; whole clusters are then drawn. Source: Efron 1979.
    """
    d = np.asarray(values, dtype=float)
    distinct, counts = np.unique(d, return_counts=True)
    if clusters is not None or len(distinct) > 200:
        return bootstrap(lambda drawn: drawn @ d / drawn.sum(axis=1), len(d), clusters)
    # Differences of accuracies take few values: drawing the count of each costs the same for any number of items.
    drawn = np.random.default_rng(0).multinomial(len(d), counts / len(d), size=RESAMPLES)
    return _percentile(drawn @ distinct / len(d))


def bootstrap(
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    n: int,
    clusters: Sequence[str] | None = None,
) -> Bootstrap:
    """Return the percentile interval and p of a statistic of n items, resampled with a fixed seed.

    `statistic` maps how often each item was drawn, [batch, n], to values [batch]. With `clusters` [n], whole clusters are
    drawn. Draws 4000 samples, or 1000 beyond 10,000 items. Source: Efron 1979; of clusters: Davison &
    Hinkley 1997, Bootstrap Methods and their Application, section 3.8.
    """
    place = np.arange(n) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    units = int(place.max()) + 1
    rng = np.random.default_rng(0)
    resamples = RESAMPLES if n <= 10_000 else 1000
    batch = max(1, 2_000_000 // n)
    values = []
    for start in range(0, resamples, batch):
        rows = [
            rng.integers(0, units, size=units, dtype=np.int32) for _ in range(min(batch, resamples - start))
        ]
        drawn = np.stack([np.bincount(row, minlength=units)[place] for row in rows]).astype(float)
        values.append(statistic(drawn))
    return _percentile(np.concatenate(values))


def _percentile(values: NDArray[np.float64]) -> Bootstrap:
    values = values[np.isfinite(values)]
    low, high = np.quantile(values, [0.025, 0.975])
    tail = min(np.sum(values <= 0), np.sum(values >= 0))
    return Bootstrap((float(low), float(high)), min(1.0, 2 * (1 + float(tail)) / (len(values) + 1)))
