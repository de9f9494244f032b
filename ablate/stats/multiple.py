"""Adjusted p values for several tests at once.

A test without a p (None) stays without one and is not counted.
"""

from collections.abc import Sequence

import numpy as np


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Return p values whose rejection at α keeps the familywise error at α.

    Source: Holm 1979, Scand. J. Stat. 6, 65-70.
    """
    known = np.array([value for value in p if value is not None], dtype=float)
    order = np.argsort(known)
    stepped = np.maximum.accumulate(known[order] * np.arange(len(known), 0, -1))
    return _back(p, order, stepped)


def benjamini_hochberg(p: Sequence[float | None]) -> list[float | None]:
    """Return p values whose rejection at q keeps the false discovery rate at q.

    Source: Benjamini & Hochberg 1995, J. R. Statist. Soc. B 57(1) 289-300.
    """
    known = np.array([value for value in p if value is not None], dtype=float)
    order = np.argsort(known)
    ratio = known[order] * len(known) / np.arange(1, len(known) + 1)
    stepped = np.minimum.accumulate(ratio[::-1])[::-1]
    return _back(p, order, stepped)


def _back(p: Sequence[float | None], order: np.ndarray, stepped: np.ndarray) -> list[float | None]:
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(stepped, 1.0)
    known = iter(adjusted.tolist())
    return [None if value is None else next(known) for value in p]
