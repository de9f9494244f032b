"""Detect dependence between items from what each item contributes to the contrasts.

Contributions of related items (questions about one document, pairs that share a sentence) are positively correlated.
A permutation test over the items shows whether they are, and the design effect by how much: it is the factor by which
dependence inflates the variance of the mean (Kish 1965, Survey Sampling).
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# Sums over groups of related items: [n, contrasts] -> [groups, contrasts].
Sums = Callable[[Array], Array]

# Enough items to detect dependence that matters, and few enough to permute thousands of times.
MOST_ITEMS = 5000
# Number of neighbouring items summed together.
WINDOW = 10
# A smaller design effect widens an interval by less than a tenth.
LEAST_DESIGN_EFFECT = 1.2
MOST_P = 0.001
SHUFFLES = 4999
# Fewer groups are probably categories, not a sample of clusters.
LEAST_GROUPS = 5

_STEM = re.compile(r"(.*[^\W_])[\W_]+[^\W_]+")


class Sign(StrEnum):
    """The evidence that items are related: ids with a common stem, or similar neighbours in the file."""

    IDS = "ids"
    NEIGHBOURS = "neighbours"


@dataclass(frozen=True)
class Clustering:
    """Evidence that items are dependent."""

    sign: Sign
    design_effect: float
    p: float


def clustering(contributions: Array, ids: Sequence[str]) -> Clustering | None:
    """Return the strongest evidence of undeclared clusters; None unless p < .001 and the design effect exceeds 1.2.

    `contributions` [contrasts, n] is what each item adds to the deviation of each contrast, in the order of the file.
    Two kinds of groups are tested: items whose ids share a stem (`q12-1`, `q12-2`), and items next to each other.
    Only the first 5000 items are used.
    """
    contributions, ids = contributions[:, :MOST_ITEMS], ids[:MOST_ITEMS]
    x = _standardized(contributions)
    groupings: list[tuple[Sign, Sums]] = [
        *([(Sign.IDS, _SumsOfGroups(stems))] if (stems := common_stems(ids)) else []),
        *([(Sign.NEIGHBOURS, _sums_of_windows)] if len(x) > 2 * WINDOW else []),
    ]
    evidence = [
        Clustering(sign, effect, p)
        for sign, sums in groupings
        if x.size and (effect := _design_effect(x, sums)) > LEAST_DESIGN_EFFECT
        # Bonferroni over the kinds of groups.
        if (p := len(groupings) * _p_of_shuffles(x, sums, effect, MOST_P / len(groupings))) < MOST_P
    ]
    return max(evidence, key=lambda clustering: clustering.design_effect, default=None)


def common_stems(ids: Sequence[str]) -> list[str] | None:
    """Return the stem of each id: the part before the last separator.

    None unless there are at least five stems and more than half of the items share theirs with another.
    """
    stems = [match[1] if (match := _STEM.fullmatch(item_id)) else item_id for item_id in ids]
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
    """Return the sums of all windows, scaled so that each item counts once in total, as in groups."""
    to = np.cumsum(np.vstack([np.zeros((1, x.shape[1])), x]), axis=0)
    scale = math.sqrt(len(x) / ((len(x) - WINDOW + 1) * WINDOW))
    return np.asarray((to[WINDOW:] - to[:-WINDOW]) * scale)


def _standardized(contributions: Array) -> Array:
    """Return contributions [n, contrasts], centred and of unit norm, without constant contrasts."""
    x = contributions - contributions.mean(axis=1, keepdims=True)
    size = np.sqrt((x**2).sum(axis=1, keepdims=True))
    filled = size[:, 0] > 0
    return np.asarray((x[filled] / size[filled]).T)


def _design_effect(x: Array, sums: Sums) -> float:
    return float((sums(x) ** 2).sum() / x.shape[1])


def _p_of_shuffles(x: Array, sums: Sums, effect: float, least: float) -> float:
    """Return the permutation p of `effect`; 1.0 as soon as p can no longer be below `least`."""
    rng, as_large = np.random.default_rng(0), 1
    for _ in range(SHUFFLES):
        as_large += int(_design_effect(rng.permutation(x), sums) >= effect)
        if as_large >= least * (SHUFFLES + 1):
            return 1.0
    return as_large / (SHUFFLES + 1)
