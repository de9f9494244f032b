"""Which combinations of levels a design runs, as level indices. Knows no settings and no trainer.

Raw combinations are counted, never listed; only what exists is expanded."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ablate.errors import BadInput
from ablate.spec import conditions
from ablate.spec.model import Factor, Scalar, StudySpec
from ablate.spec.yaml_tree import same

MAX_RAW_CELLS = 100_000

Combination = dict[str, int]  # factor -> index of its level, in file order; one that does not exist is absent


@dataclass(frozen=True)
class Chosen:
    """The combinations that a design runs, and what they can tell."""

    combinations: list[Combination]
    estimates: str  # in words, for `ablate plan`
    variance: float | None = None  # of the least certain main effect; None: by least squares
    resolution: int | None = None  # None: not a regular fraction, or a whole factorial without words
    aliases: list[list[str]] = field(default_factory=list)
    d_efficiency: float | None = None  # of a D-optimal subset: information per cell over the full design's
    warnings: list[str] = field(default_factory=list)


def raw_count(factors: Iterable[Factor]) -> int:
    """Return the number of combinations before conditions."""
    return math.prod(len(factor.levels) for factor in factors)


def level_names(factors: Mapping[str, Factor], combination: Combination) -> dict[str, Scalar]:
    """Return factor -> level name."""
    return {name: factors[name].levels[index].name for name, index in combination.items()}


class Space:
    """The combinations of one study's levels that its conditions allow."""

    def __init__(self, spec: StudySpec) -> None:
        self.spec = spec
        self.factors = {factor.name: factor for factor in spec.factors}
        self.parents_first = conditions.in_order(spec.factors)
        self.needs = conditions.needs(spec.factors)
        # The level a factor takes when nothing else is said: the baseline's, or else its first.
        self.preferred = {
            factor.name: _index(factor, spec.baseline[factor.name]) if factor.name in spec.baseline else 0
            for factor in spec.factors
        }

    def baseline(self) -> Combination:
        """Return the combination that `baseline` describes."""
        return self.existing(self.preferred)

    def best(self) -> Combination:
        """Return what `best` describes; a factor it leaves out takes its last level but the baseline's."""
        return self.existing({factor.name: self._best_level(factor) for factor in self.spec.factors})

    def full(self) -> list[Combination]:
        """Return every valid combination, sorted by level in factor order; absent factors sort first.

        Raises:
            BadInput: there are more than 100,000 raw combinations.
        """
        self._refuse_too_many()
        found: list[Combination] = [{}]
        for factor in self.parents_first:  # so that existence is known when a factor's turn comes
            found = [grown for one in found for grown in self._grown(one, factor)]
        names = list(self.factors)
        ordered = sorted(found, key=lambda one: [one.get(name, -1) for name in names])
        return [{name: one[name] for name in names if name in one} for one in ordered]

    def _best_level(self, factor: Factor) -> int:
        if factor.name in self.spec.best:
            return _index(factor, self.spec.best[factor.name])
        if factor.name not in self.spec.baseline:
            return len(factor.levels) - 1
        return max(index for index in range(len(factor.levels)) if index != self.preferred[factor.name])

    def _refuse_too_many(self) -> None:
        raw = raw_count(self.spec.factors)
        if raw > MAX_RAW_CELLS:
            shown = f"{raw:,}" if raw < 10**15 else f"about 10^{int(math.log10(raw))}"
            raise BadInput(
                f"{self.spec.place('design')}: design: {self.spec.design.kind} has {shown} raw cells, "
                f"more than {MAX_RAW_CELLS:,}; use one_at_a_time or leave_one_out, or fewer levels"
            )

    def _grown(self, one: Combination, factor: Factor) -> list[Combination]:
        if not conditions.exists(factor, level_names(self.factors, one)):
            return [one]
        return [{**one, factor.name: index} for index in range(len(factor.levels))]

    def switched(self, start: Combination, changes: Combination) -> Combination:
        """Return `start` with `changes`; what vanishes goes, what appears takes its preferred level."""
        return self.existing({**self.preferred, **start, **changes})

    def combination(self, levels: Mapping[str, Scalar]) -> Combination:
        """Return the level indices of what `level_names` has named."""
        return {
            name: next(i for i, one in enumerate(self.factors[name].levels) if same(one.name, level))
            for name, level in levels.items()
        }

    def existing(self, wished: Combination) -> Combination:
        """Return `wished` without the factors that do not exist under it."""
        levels: dict[str, Scalar] = {}
        for factor in self.parents_first:
            if conditions.exists(factor, levels):
                levels[factor.name] = factor.levels[wished[factor.name]].name
        return {name: wished[name] for name in self.factors if name in levels}


def distinct(found: Sequence[Combination]) -> list[Combination]:
    """Return each combination once, in the order found."""
    return list({tuple(one.items()): one for one in found}.values())


def _index(factor: Factor, name: Scalar) -> int:
    return next(index for index, level in enumerate(factor.levels) if level.name == name)
