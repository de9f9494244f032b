"""Which combinations of levels a design runs, as level indices. Knows no settings and no trainer.

A combination maps the factors that exist to the index of their level, in the order of the file. Raw combinations
are counted, never listed; only what exists is expanded."""

import math
from collections.abc import Mapping, Sequence

from ablate.errors import BadInput
from ablate.spec import conditions
from ablate.spec.model import Factor, Scalar, StudySpec

MAX_RAW_CELLS = 100_000

Combination = dict[str, int]  # factor -> index of its level; a factor that does not exist is absent


def raw_count(factors: Sequence[Factor]) -> int:
    """Return the number of combinations before conditions."""
    return math.prod(len(factor.levels) for factor in factors)


def full(spec: StudySpec) -> list[Combination]:
    """Return every valid combination, sorted by level in factor order; absent factors sort first.

    Raises:
        BadInput: there are more than 100,000 raw combinations.
    """
    raw = raw_count(spec.factors)
    if raw > MAX_RAW_CELLS:
        raise BadInput(
            f"{spec.place('design')}: design: {spec.design} of these factors has {raw:,} raw cells, more than "
            f"{MAX_RAW_CELLS:,}; use one_at_a_time or leave_one_out, or fewer factors and levels"
        )
    names = [factor.name for factor in spec.factors]
    found = _expand(conditions.in_order(spec.factors))
    return sorted(found, key=lambda one: [one.get(name, -1) for name in names])


def _expand(factors: Sequence[Factor]) -> list[Combination]:
    found: list[Combination] = [{}]
    by_name = {factor.name: factor for factor in factors}
    for factor in factors:  # parents first, so existence is known when a factor's turn comes
        grown: list[Combination] = []
        for one in found:
            if conditions.exists(factor, level_names(by_name, one)):
                grown += [{**one, factor.name: index} for index in range(len(factor.levels))]
            else:
                grown.append(one)
        found = grown
    return found


def level_names(factors: Mapping[str, Factor], combination: Combination) -> dict[str, Scalar]:
    """Return factor -> level name."""
    return {name: factors[name].levels[index].name for name, index in combination.items()}


def baseline(spec: StudySpec) -> Combination:
    """Return the combination that `baseline` describes."""
    return _completed(spec, {}, _preferred(spec))


def best(spec: StudySpec) -> Combination:
    """Return the combination that `best` describes; what it leaves out takes its last level but the baseline's."""
    wished = {}
    for factor in spec.factors:
        chosen = spec.best.get(factor.name)
        index = _index(factor, chosen) if factor.name in spec.best else None
        if index is None:
            others = [
                i for i, level in enumerate(factor.levels) if level.name != spec.baseline.get(factor.name)
            ]
            index = others[-1]
        wished[factor.name] = index
    return _completed(spec, {}, wished)


def one_at_a_time(spec: StudySpec) -> list[Combination]:
    """Return the baseline, then each other level of each factor alone, then `best` where the study names one.

    A factor that does not exist under the baseline is varied where its conditions are met: its parents at their
    first allowed level. That combination is a cell too, so that every factor has a comparison of its own.
    """
    start = baseline(spec)
    found = [start]
    needs = conditions.needs(spec.factors)
    for factor in spec.factors:
        home = start if factor.name in start else _with_needs_met(spec, start, needs[factor.name])
        found.append(home)
        found += [_switched(spec, home, {factor.name: index}) for index in range(len(factor.levels))]
    if spec.best:
        found.append(best(spec))
    return _distinct(found)


def leave_one_out(spec: StudySpec) -> list[Combination]:
    """Return the best combination, then the same with each factor put back to its baseline level."""
    start = best(spec)
    preferred = _preferred(spec)
    found = [start]
    for factor in spec.factors:
        if factor.name in start:
            found.append(_switched(spec, start, {factor.name: preferred[factor.name]}))
    return _distinct(found)


def _preferred(spec: StudySpec) -> Combination:
    """Return the level each factor takes when nothing else is said: the baseline's, or else its first."""
    return {
        factor.name: _index(factor, spec.baseline[factor.name]) if factor.name in spec.baseline else 0
        for factor in spec.factors
    }


def _with_needs_met(spec: StudySpec, start: Combination, needs: conditions.Needs) -> Combination:
    changes: Combination = {}
    for name, allowed in needs.items():
        factor = spec.factor(name)
        now = start.get(name, _preferred(spec)[name])
        if factor.levels[now].name not in allowed:
            now = next(i for i, level in enumerate(factor.levels) if level.name in allowed)
        changes[name] = now
    return _switched(spec, start, changes)


def _switched(spec: StudySpec, start: Combination, changes: Combination) -> Combination:
    """Return `start` with `changes`; factors that vanish go, factors that appear take their preferred level."""
    return _completed(spec, {**start, **changes}, _preferred(spec))


def _completed(spec: StudySpec, wished: Combination, otherwise: Combination) -> Combination:
    levels: dict[str, Scalar] = {}
    chosen: Combination = {}
    for factor in conditions.in_order(spec.factors):
        if conditions.exists(factor, levels):
            chosen[factor.name] = wished.get(factor.name, otherwise[factor.name])
            levels[factor.name] = factor.levels[chosen[factor.name]].name
    return {factor.name: chosen[factor.name] for factor in spec.factors if factor.name in chosen}


def _distinct(found: Sequence[Combination]) -> list[Combination]:
    return list({tuple(one.items()): one for one in found}.values())


def _index(factor: Factor, name: Scalar) -> int:
    return next(i for i, level in enumerate(factor.levels) if level.name == name)
