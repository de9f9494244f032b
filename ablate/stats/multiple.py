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


def gatekept_holm(p: Sequence[float | None], gates: Sequence[int | None]) -> list[float | None]:
    """Return p values whose rejection at α keeps the familywise error at α, some tests behind a gate.

    `gates` names for each test the place of the one before it, or None. A test without a gate starts with an equal share of
    α; one behind a gate has nothing until its gate is rejected, and then the gate's share, split by Holm among those behind
    it. What they have no more use for goes to the tests without a gate. Without any gate this is Holm's procedure.
    Source: the graphical procedures of Bretz, Maurer, Brannath & Posch 2009, Stat. Med. 28, 586-604.
    """
    if all(gate is None for gate in gates):
        return holm(p)
    known = [place for place, value in enumerate(p) if value is not None]
    values = np.array([p[place] for place in known], dtype=float)
    gate_of = [gates[place] for place in known]
    share = np.array([float(gate is None) for gate in gate_of])
    share /= max(1.0, share.sum())
    flow = np.array([_heirs(one, known, gate_of) for one in range(len(known))])
    flow = flow.reshape(len(known), len(known))
    adjusted, highest, left = np.ones(len(known)), 0.0, np.full(len(known), True)
    while (left & (share > 0)).any():
        ratio = np.where(left & (share > 0), values / np.where(share > 0, share, 1.0), np.inf)
        first = int(ratio.argmin())
        highest = adjusted[first] = max(highest, min(1.0, float(ratio[first])))
        left[first] = False
        share = np.where(left, share + share[first] * flow[first], 0.0)
        through = np.outer(flow[:, first], flow[first])
        kept = 1 - np.diag(through)[:, None]
        flow = np.where(
            (kept > 1e-12) & left[:, None] & left, (flow + through) / np.maximum(kept, 1e-12), 0.0
        )
        np.fill_diagonal(flow, 0.0)
    back = iter(adjusted.tolist())
    return [None if value is None else next(back) for value in p]


def _heirs(one: int, known: Sequence[int], gate_of: Sequence[int | None]) -> list[float]:
    """Return to whom a rejected test passes its share of α on, [tests]."""
    open_ = np.array([float(gate is None and other != one) for other, gate in enumerate(gate_of)])
    own = gate_of[one]
    near = np.array(
        [
            float(other != one and gate is not None and gate == (known[one] if own is None else own))
            for other, gate in enumerate(gate_of)
        ]
    )
    # What is left when the last of those behind a gate is rejected goes to the open ones: a flow that is next to nothing
    # until then.
    far = open_ / max(1.0, open_.sum())
    if not near.any():
        return [float(flow) for flow in far]
    return [float(flow) for flow in (1 - 1e-9) * near / near.sum() + 1e-9 * far]


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
