"""Which combinations each kind of design runs, and what they can estimate.

A new kind needs a model in `spec/designs.py`, a line in `CHOOSERS`, and a file of its own if it takes more than a few lines."""

from collections.abc import Callable
from typing import Any

from ablate.design.factorial import Chosen, Combination, Space, distinct
from ablate.design.fractional import fractional
from ablate.errors import BadInput
from ablate.spec.designs import Fractional, Full, LeaveOneOut, OneAtATime, Search
from ablate.spec.model import Factor, levels_text

FULL = "main effects and every interaction"
SEARCHED = (
    "a search picks cells and does not estimate effects: only its finalists, trained again on seeds that took no part "
    "in the choice, can be compared with the baseline"
)


def choose(space: Space) -> Chosen:
    """Return what the study's design runs.

    Raises:
        BadInput: the design is impossible with these factors, or too large.
    """
    return CHOOSERS[type(space.spec.design)](space)


def full(space: Space) -> Chosen:
    """Return every valid combination."""
    return Chosen(space.full(), FULL)


def one_at_a_time(space: Space) -> Chosen:
    """Return the baseline, each other level of each factor alone, then `best` where the study names it.

    A factor that does not exist under the baseline is varied where its conditions are met: its parents at
    their first allowed level. That combination is a cell too, so each factor has a comparison of its own.
    """
    start = space.baseline()
    combinations = [start]
    for factor in space.spec.factors:
        origin = start if factor.name in start else _with_needs_met(space, start, factor)
        combinations.append(origin)
        combinations += [space.switched(origin, {factor.name: index}) for index in range(len(factor.levels))]
    if space.spec.best:
        combinations.append(space.best())
    estimates = "each effect from the baseline only; no interactions"
    return Chosen(distinct(combinations), estimates, variance=2.0)


def _with_needs_met(space: Space, start: Combination, factor: Factor) -> Combination:
    changes: Combination = {}
    for name, allowed in space.needs[factor.name].items():
        levels = space.factors[name].levels
        now = start.get(name, space.preferred[name])
        fits = levels[now].name in allowed
        changes[name] = now if fits else next(i for i, level in enumerate(levels) if level.name in allowed)
    return space.switched(start, changes)


def leave_one_out(space: Space) -> Chosen:
    """Return the best combination, then the same with each factor back at its baseline level.

    Raises:
        BadInput: a factor is at its baseline level already.
    """
    start = space.best()
    if same := [name for name in start if start[name] == space.preferred[name]]:
        raise BadInput(*(_nothing_to_leave_out(space, name) for name in same))
    combinations = [start, *(space.switched(start, {name: space.preferred[name]}) for name in start)]
    estimates = "what each level adds to the best cell only; no interactions"
    return Chosen(distinct(combinations), estimates, variance=2.0)


def _nothing_to_leave_out(space: Space, name: str) -> str:
    level = levels_text({name: space.factors[name].levels[space.preferred[name]].name})
    of_baseline = "the baseline's level" if name in space.spec.baseline else "the level it starts from"
    return (
        f"{space.spec.place('best', 'design')}: best: {level} is {of_baseline}, so leave_one_out has nothing to leave out; "
        f"write another level of {name}, or move it to settings"
    )


def search(space: Space) -> Chosen:
    """Return the baseline: the sampler chooses the rest while the study runs."""
    return Chosen([space.baseline()], "which cells are best", warnings=[SEARCHED])


CHOOSERS: dict[type[Any], Callable[[Space], Chosen]] = {
    Full: full,
    OneAtATime: one_at_a_time,
    LeaveOneOut: leave_one_out,
    Fractional: fractional,
    Search: search,
}
