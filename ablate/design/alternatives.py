"""The designs that a study's factors allow: what each costs and what it can estimate, for `ablate plan`.

Counts combinations without the trainer, so combinations with equal settings are counted separately."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ablate.design.factorial import Combination, Space, raw_count
from ablate.design.registry import FULL, choose
from ablate.errors import BadInput
from ablate.spec.designs import KINDS, AnyKind, Full, Search
from ablate.spec.model import StudySpec


@dataclass(frozen=True)
class Alternative:
    """One design of the study's factors."""

    design: str
    cells: int
    variance: float  # of the least certain main effect, for one seed; one trial's variance is 1
    estimates: str  # what it can estimate, in words
    aliases: list[list[str]] = field(default_factory=list)  # effects that it cannot tell apart
    resolution: int | None = None  # of a regular fraction


def alternatives(spec: StudySpec) -> list[Alternative]:
    """Return the designs, smallest first; one that is impossible or too large to list is left out."""
    chosen = spec.design
    kinds = [chosen if isinstance(chosen, kind) else kind() for kind in KINDS.values() if kind is not Search]
    designs = [_alternative(spec, kind) for kind in kinds]
    return sorted((design for design in designs if design is not None), key=lambda design: design.cells)


def _alternative(spec: StudySpec, kind: AnyKind) -> Alternative | None:
    raw = raw_count(spec.factors)
    if isinstance(kind, Full) and not any(factor.only_when for factor in spec.factors):
        # A balanced design has a known variance, so its cells (possibly very many) need not be listed.
        most = max(len(factor.levels) for factor in spec.factors)
        return Alternative(kind.kind, raw, 2 * most / raw, FULL)
    space = Space(spec.model_copy(update={"design": kind}))
    try:
        chosen = choose(space)
    except BadInput:
        return None
    cells = chosen.combinations
    # With few factors, the fraction is the full design.
    if kind.is_fraction and len(cells) == raw:
        return None
    least_certain = chosen.variance or variance(space, cells)
    return Alternative(
        kind.kind, len(cells), least_certain, chosen.estimates, chosen.aliases, chosen.resolution
    )


def variance(space: Space, cells: Sequence[Combination]) -> float:
    """Return the variance of the least certain difference between a level and the baseline level, by least squares.

    The model has main effects only; a conditional factor is nested in its parent. One run's variance is 1.
    """
    # Imported here since counting cells does not need NumPy.
    from ablate.design.optimal import effect_weights

    return float((effect_weights(space, cells) ** 2).sum(axis=1).max())
