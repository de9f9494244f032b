"""Adjusted p values for several tests.

A test without a p (None) keeps None and does not count as a test.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

# The part of a gate's share of α that goes to the tests behind it. A slope that is the only gate then needs p < .0375, not .05.
BEHIND_GATES = 0.25


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Return Holm's adjusted p values, which control the familywise error rate.

    Source: Holm 1979, Scand. J. Stat. 6, 65-70.
    """
    known = np.array([value for value in p if value is not None], dtype=float)
    order = np.argsort(known)
    stepped = np.maximum.accumulate(known[order] * np.arange(len(known), 0, -1))
    return _back(p, order, stepped)


def gatekept_holm(p: Sequence[float | None], gates: Sequence[int | None]) -> list[float | None]:
    """Return adjusted p values that control the familywise error rate where some tests are behind a gate.

    `gates` has, for each test, the index of the test that is its gate, or None. Each test starts
    with its share of α (`shares_of_alpha`). When a gate is rejected, its share is split among the
    tests behind it, which pass it on to one another as in Holm's procedure; when all of them are
    rejected, it goes to the tests without a gate. If no test has a gate, this is Holm's procedure.
    Source: the graphical procedures of Bretz, Maurer, Brannath & Posch 2009, Stat. Med. 28, 586-604.
    """
    if all(gate is None for gate in gates):
        return holm(p)
    known = [place for place, value in enumerate(p) if value is not None]
    values = np.array([p[place] for place in known], dtype=float)
    gate_of = [gates[place] for place in known]
    share = np.array([share for share in shares_of_alpha(p, gates) if share is not None])
    flow = np.array([_passed_on(test, known, gate_of) for test in range(len(known))])
    flow = flow.reshape(len(known), len(known))
    adjusted, highest, left = np.ones(len(known)), 0.0, np.full(len(known), True)
    while (left & (share > 0)).any():
        ratio = np.where(left & (share > 0), values / np.where(share > 0, share, 1.0), np.inf)
        first = int(ratio.argmin())
        highest = adjusted[first] = max(highest, min(1.0, float(ratio[first])))
        left[first] = False
        # The flow of 1e-9 in `_passed_on` leaves rounding of 1e-7.
        share = np.where(left, np.minimum(1.0, share + share[first] * flow[first]), 0.0)
        through = np.outer(flow[:, first], flow[first])
        kept = 1 - np.diag(through)[:, None]
        flow = np.where(
            (kept > 1e-12) & left[:, None] & left, (flow + through) / np.maximum(kept, 1e-12), 0.0
        )
        np.fill_diagonal(flow, 0.0)
    back = iter(adjusted.tolist())
    return [None if value is None else next(back) for value in p]


def shares_of_alpha(p: Sequence[float | None], gates: Sequence[int | None]) -> list[float | None]:
    """Return the share of α that each test starts with; None for a test without a p.

    Tests without a gate have equal shares. A gate gives part of its share to the tests behind it, so that these can be rejected
    even if the gate is not: a factor with its optimum in the middle has no slope.
    """
    known = [place for place, value in enumerate(p) if value is not None]
    behind = Counter(gates[place] for place in known if gates[place] is not None)
    each = 1 / max(1, len({place if gates[place] is None else gates[place] for place in known}))
    shares: list[float | None] = [None] * len(p)
    for place in known:
        gate = gates[place]
        if gate is None:
            shares[place] = each * (1 - BEHIND_GATES * (place in behind))
        else:
            # A gate without a p is never rejected: the tests behind it have all of its share.
            shares[place] = each * (BEHIND_GATES if p[gate] is not None else 1.0) / behind[gate]
    return shares


def _passed_on(test: int, known: Sequence[int], gate_of: Sequence[int | None]) -> list[float]:
    """Return the shares [tests] of its α that `test` passes on to the others once it is rejected."""
    open_ = np.array([float(gate is None and other != test) for other, gate in enumerate(gate_of)])
    behind = gate_of[test]
    near = np.array(
        [
            float(other != test and gate is not None and gate == (known[test] if behind is None else behind))
            for other, gate in enumerate(gate_of)
        ]
    )
    # When the last test behind a gate is rejected, its α goes to
    # the tests without a gate. Until then that flow is negligible.
    far = open_ / max(1.0, open_.sum())
    if not near.any():
        return [float(flow) for flow in far]
    return [float(flow) for flow in (1 - 1e-9) * near / near.sum() + 1e-9 * far]


def benjamini_hochberg(p: Sequence[float | None]) -> list[float | None]:
    """Return Benjamini and Hochberg's adjusted p values, which control the false discovery rate.

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
