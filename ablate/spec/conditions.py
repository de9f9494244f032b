"""When a factor exists: follow `only_when` through its parents.

A factor exists when each parent exists and has an allowed level. Conditions are conjunctions, so what a
factor needs is one set of allowed levels per ancestor; it can exist exactly when none of these is empty."""

from collections.abc import Mapping, Sequence

from ablate.spec.model import Factor, Scalar

Needs = dict[str, tuple[Scalar, ...]]  # ancestor -> levels that allow it


def cycles(factors: Sequence[Factor]) -> list[list[str]]:
    """Return each cycle of conditions once, as the names on it in order."""
    parents = {factor.name: [name for name in factor.only_when] for factor in factors}
    cycles_by_members: dict[frozenset[str], list[str]] = {}
    finished: set[str] = set()
    for start in parents:
        path = [start]
        branches = [iter(parents[start])]
        # Depth first, without recursion: Python's recursion limit is lower than the longest chain of factors may be.
        while branches:
            name = next((name for name in branches[-1] if name in parents and name not in finished), None)
            if name is None:
                branches.pop()
                finished.add(path.pop())
            elif name in path:
                cycle = path[path.index(name) :]
                cycles_by_members.setdefault(frozenset(cycle), cycle)
            else:
                path.append(name)
                branches.append(iter(parents[name]))
    return list(cycles_by_members.values())


def in_order(factors: Sequence[Factor]) -> list[Factor]:
    """Return the factors with parents before children, otherwise in the order given. Conditions must have no cycles."""
    placed: dict[str, Factor] = {}
    waiting = list(factors)
    while waiting:
        ready = [factor for factor in waiting if all(parent in placed for parent in factor.only_when)]
        assert ready, "conditions have a cycle or name a missing factor"
        placed.update((factor.name, factor) for factor in ready)
        waiting = [factor for factor in waiting if factor.name not in placed]
    return list(placed.values())


def exists(factor: Factor, levels: Mapping[str, Scalar]) -> bool:
    """Return whether `factor` exists where the existing factors have `levels`."""
    return all(parent in levels and levels[parent] in allowed for parent, allowed in factor.only_when.items())


def needs(factors: Sequence[Factor]) -> dict[str, Needs]:
    """Return for each factor the levels that its ancestors may have; an empty tuple means that it can never exist."""
    closed: dict[str, Needs] = {}
    for factor in in_order(factors):
        closed[factor.name] = intersection(
            dict(factor.only_when), *(closed[parent] for parent in factor.only_when)
        )
    return closed


def intersection(*several: Needs) -> Needs:
    """Return, for each ancestor, the levels that all of `several` allow."""
    merged: Needs = {}
    for needs in several:
        for name, allowed in needs.items():
            before = merged.get(name, allowed)
            merged[name] = tuple(level for level in before if level in allowed)
    return merged


def possible(needs: Needs) -> bool:
    """Return whether some levels meet `needs`."""
    return all(needs.values())
