"""The designs that a study's factors allow: what each costs and what it can tell, for `ablate plan`.

Counts combinations, knows no trainer: two that mean the same to it are counted twice."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ablate.design.factorial import MAX_RAW_CELLS, Combination, Space, raw_count
from ablate.design.fractional import Fraction, fractional
from ablate.errors import BadInput
from ablate.spec.kinds import Fractional
from ablate.spec.model import StudySpec


@dataclass(frozen=True)
class Alternative:
    """One design of the study's factors."""

    design: str
    cells: int
    variance: float  # of the least certain main effect, for one seed; one trial's variance is 1
    estimates: str  # what it can tell, in words
    aliases: list[list[str]] = field(default_factory=list)  # effects that it cannot tell apart
    resolution: int | None = None  # of a regular fraction


def alternatives(spec: StudySpec) -> list[Alternative]:
    """Return the designs in order of their cells; one that is impossible or too large to list is left out."""
    found = [_full(spec), _one_at_a_time(spec), _leave_one_out(spec), _fractional(spec)]
    return sorted((one for one in found if one is not None), key=lambda one: one.cells)


def _full(spec: StudySpec) -> Alternative | None:
    told = "main effects and every interaction"
    raw = raw_count(spec.factors)
    if not any(factor.only_when for factor in spec.factors):  # balanced: nothing to list
        return Alternative("full", raw, 2 * max(len(factor.levels) for factor in spec.factors) / raw, told)
    if raw > MAX_RAW_CELLS:
        return None
    space = Space(spec)
    cells = space.full()
    return Alternative("full", len(cells), variance(space, cells), told)


def _one_at_a_time(spec: StudySpec) -> Alternative:
    cells = Space(spec).one_at_a_time()
    return Alternative(
        "one_at_a_time", len(cells), 2.0, "each effect from the baseline only; no interaction is seen"
    )


def _leave_one_out(spec: StudySpec) -> Alternative:
    cells = Space(spec).leave_one_out()
    return Alternative(
        "leave_one_out", len(cells), 2.0, "what each level adds to the best only; no interaction is seen"
    )


def _fractional(spec: StudySpec) -> Alternative | None:
    space = Space(spec.model_copy(update={"design": Fractional()}))
    try:
        found = fractional(space)
    except BadInput:
        return None
    cells = found.combinations
    if len(cells) == raw_count(spec.factors):  # so few factors that it would be the full design
        return None
    if found.resolution:
        return Alternative(
            "fractional", len(cells), 4 / len(cells), _told_by(found), found.aliases, found.resolution
        )
    return Alternative("fractional", len(cells), variance(space, cells), _told_by(found))


def _told_by(found: Fraction) -> str:
    """Say what a fraction tells. Resolution R: no effect of a factors is aliased with one of fewer than R − a."""
    if found.resolution is None:
        return "main effects; interactions are mixed into them"
    if found.resolution == 3:
        return "main effects, each aliased with interactions of two factors"
    if found.resolution == 4:
        return "main effects; interactions of two factors are aliased with one another"
    return "main effects and interactions of two factors"


def variance(space: Space, cells: Sequence[Combination]) -> float:
    """Return the variance of the least certain difference of a level from the baseline's, by least squares.

    The model has main effects only; a conditional factor counts inside its parent. One run's variance is 1.
    """
    from ablate.design.optimal import effect_weights  # NumPy is not needed to count

    return float((effect_weights(space, cells) ** 2).sum(axis=1).max())
