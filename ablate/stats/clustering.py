"""Items that are not independent of one another: what their contributions to contrasts give away.

Contributions of items that belong together (questions of one document, pairs that share a sentence) lean the same way more
often than chance has it. Whether they do is tested by shuffling the items; how much it matters is the design effect, by which
the variance of the mean is larger than independent items make it (Kish 1965, Survey Sampling)."""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Sums = Callable[[Array], Array]  # of items that belong together: [n, contrasts] -> [groups, contrasts]

# Enough to see dependence that matters, and few enough to be shuffled thousands of times.
MOST_ITEMS = 5000
# Neighbours are looked at so many at a time.
WINDOW = 10
# A design effect below widens no interval by a tenth.
LEAST_DESIGN_EFFECT = 1.2
MOST_P = 0.001
SHUFFLES = 4999
# Fewer groups are categories rather than a sample of clusters.
LEAST_GROUPS = 5

_STEM = re.compile(r"(.*[^\W_])[\W_]+[^\W_]+")


class Sign(StrEnum):
    """By what items that belong together are known."""

    IDS = "ids"
    NEIGHBOURS = "neighbours"


@dataclass(frozen=True)
class Clustering:
    """Items that belong together, by what is known of them."""

    sign: Sign
    design_effect: float
    p: float


def clustering(contributions: Array, ids: Sequence[str]) -> Clustering | None:
    """Return the clearest clustering of items that nobody named; None unless p < .001 and the design effect is above 1.2.

    `contributions` is [contrasts, n], what each item adds to the deviation of each contrast, in the order of the file. Items
    are looked at together whose ids begin alike (`q12-1`, `q12-2`), and neighbours.
    """
    contributions, ids = contributions[:, :MOST_ITEMS], ids[:MOST_ITEMS]
    x = _even(contributions)
    looked: list[tuple[Sign, Sums]] = [
        *([(Sign.IDS, _SumsOfGroups(stems))] if (stems := common_stems(ids)) else []),
        *([(Sign.NEIGHBOURS, _sums_of_windows)] if len(x) > 2 * WINDOW else []),
    ]
    found = [
        Clustering(sign, effect, p)
        for sign, sums in looked
        if x.size and (effect := _design_effect(x, sums)) > LEAST_DESIGN_EFFECT
        # Bonferroni over the signs looked at.
        if (p := len(looked) * _p_of_shuffles(x, sums, effect, MOST_P / len(looked))) < MOST_P
    ]
    return max(found, key=lambda one: one.design_effect, default=None)


def common_stems(ids: Sequence[str]) -> list[str] | None:
    """Return what each id begins with, up to its last separator; None unless that makes five groups with most of the items."""
    stems = [match[1] if (match := _STEM.fullmatch(one)) else one for one in ids]
    sizes = Counter(stems)
    together = sum(size for size in sizes.values() if size > 1)
    return stems if len(sizes) >= LEAST_GROUPS and 2 * together > len(ids) else None


class _SumsOfGroups:
    def __init__(self, labels: Sequence[str]) -> None:
        _, groups = np.unique(labels, return_inverse=True)
        self._order = np.argsort(groups, kind="stable")
        self._starts = np.flatnonzero(np.diff(groups[self._order], prepend=-1))

    def __call__(self, x: Array) -> Array:
        return np.asarray(np.add.reduceat(x[self._order], self._starts, axis=0))


def _sums_of_windows(x: Array) -> Array:
    """Windows at every place, scaled so that each item counts once, as in groups."""
    to = np.cumsum(np.vstack([np.zeros((1, x.shape[1])), x]), axis=0)
    scale = math.sqrt(len(x) / ((len(x) - WINDOW + 1) * WINDOW))
    return np.asarray((to[WINDOW:] - to[:-WINDOW]) * scale)


def _even(contributions: Array) -> Array:
    """Return contributions [n, contrasts] about 0, every contrast of the same size; those that are all equal are left out."""
    x = contributions - contributions.mean(axis=1, keepdims=True)
    size = np.sqrt((x**2).sum(axis=1, keepdims=True))
    filled = size[:, 0] > 0
    return np.asarray((x[filled] / size[filled]).T)


def _design_effect(x: Array, sums: Sums) -> float:
    return float((sums(x) ** 2).sum() / x.shape[1])


def _p_of_shuffles(x: Array, sums: Sums, effect: float, least: float) -> float:
    """Return the share of shuffles of the items with as large an effect; stop where it cannot be below `least` any more."""
    rng, as_large = np.random.default_rng(0), 1
    for _ in range(SHUFFLES):
        as_large += int(_design_effect(rng.permutation(x), sums) >= effect)
        if as_large >= least * (SHUFFLES + 1):
            return 1.0
    return as_large / (SHUFFLES + 1)
