"""When a factor exists: `only_when` followed through its parents, on plain factors.

A factor exists when each parent exists and has an allowed level. Conditions are conjunctions, so what a
factor needs is one set of allowed levels per ancestor; it can exist exactly when none of these is empty."""

from collections.abc import Mapping, Sequence

from ablate.spec.model import Factor, Scalar

Needs = dict[str, tuple[Scalar, ...]]  # ancestor -> levels that allow it


def circles(factors: Sequence[Factor]) -> list[list[str]]:
    """Return each circle of conditions once, as the names on it in order."""
    parents = {factor.name: [name for name in factor.only_when] for factor in factors}
    found: dict[frozenset[str], list[str]] = {}
    finished: set[str] = set()
    for start in parents:
        path = [start]
        branches = [iter(parents[start])]
        while branches:  # depth first, without recursion: a chain may be thousands long
            name = next((name for name in branches[-1] if name in parents and name not in finished), None)
            if name is None:
                branches.pop()
                finished.add(path.pop())
            elif name in path:
                circle = path[path.index(name) :]
                found.setdefault(frozenset(circle), circle)
            else:
                path.append(name)
                branches.append(iter(parents[name]))
    return list(found.values())


def in_order(factors: Sequence[Factor]) -> list[Factor]:
    """Return the factors with parents before children, otherwise in the order given. No circles."""
    placed: dict[str, Factor] = {}
    waiting = list(factors)
    while waiting:
        ready = [factor for factor in waiting if all(parent in placed for parent in factor.only_when)]
        assert ready, "conditions have a circle or name a missing factor"
        placed.update((factor.name, factor) for factor in ready)
        waiting = [factor for factor in waiting if factor.name not in placed]
    return list(placed.values())


def exists(factor: Factor, levels: Mapping[str, Scalar]) -> bool:
    """Return whether `factor` exists where the existing factors have `levels`."""
    return all(parent in levels and levels[parent] in allowed for parent, allowed in factor.only_when.items())


def needs(factors: Sequence[Factor]) -> dict[str, Needs]:
    """Return for each factor what its ancestors must be; an empty tuple means that it can never exist."""
    closed: dict[str, Needs] = {}
    for factor in in_order(factors):
        closed[factor.name] = both(dict(factor.only_when), *(closed[parent] for parent in factor.only_when))
    return closed


def both(*several: Needs) -> Needs:
    """Return what meets all of `several`."""
    met: Needs = {}
    for one in several:
        for name, allowed in one.items():
            met[name] = tuple(level for level in met[name] if level in allowed) if name in met else allowed
    return met


def possible(what: Needs) -> bool:
    """Return whether `what` can be met."""
    return all(what.values())
