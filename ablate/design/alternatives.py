"""The designs that a study's factors allow: what each costs and what it can tell, for `ablate plan`.

Counts combinations and knows no trainer: two that mean the same to it are counted twice."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ablate.design.choosing import FULL, choose
from ablate.design.factorial import Combination, Space, raw_count
from ablate.errors import BadInput
from ablate.spec.kinds import KINDS, AnyKind, Fractional, Full, Search
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
    own = spec.design
    kinds = [own if isinstance(own, kind) else kind() for kind in KINDS.values() if kind is not Search]
    found = [_alternative(spec, kind) for kind in kinds]
    return sorted((one for one in found if one is not None), key=lambda one: one.cells)


def _alternative(spec: StudySpec, kind: AnyKind) -> Alternative | None:
    raw = raw_count(spec.factors)
    if isinstance(kind, Full) and not any(factor.only_when for factor in spec.factors):
        # Balanced: there is nothing to list, however many cells there are.
        most = max(len(factor.levels) for factor in spec.factors)
        return Alternative(kind.kind, raw, 2 * most / raw, FULL)
    space = Space(spec.model_copy(update={"design": kind}))
    try:
        chosen = choose(space)
    except BadInput:
        return None
    cells = chosen.combinations
    if isinstance(kind, Fractional) and len(cells) == raw:  # so few factors that it is the full design
        return None
    found = chosen.variance or variance(space, cells)
    return Alternative(kind.kind, len(cells), found, chosen.estimates, chosen.aliases, chosen.resolution)


def variance(space: Space, cells: Sequence[Combination]) -> float:
    """Return the variance of the least certain difference of a level from the baseline's, by least squares.

    The model has main effects only; a conditional factor counts inside its parent. One run's variance is 1.
    """
    from ablate.design.optimal import effect_weights  # NumPy is not needed to count

    return float((effect_weights(space, cells) ** 2).sum(axis=1).max())
