"""The combinations of levels that a study allows, as level indices. Uses neither settings nor trainer.

Raw combinations are only counted; those that are listed satisfy the conditions."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ablate.errors import BadInput
from ablate.spec import conditions
from ablate.spec.model import Factor, Scalar, StudySpec
from ablate.spec.yaml_tree import same

MAX_RAW_CELLS = 100_000

# Factor -> index of its level, in file order; a factor that does not exist is absent.
Combination = dict[str, int]


@dataclass(frozen=True)
class Chosen:
    """The combinations that a design runs, and what they can estimate."""

    combinations: list[Combination]
    estimates: str  # in words, for `ablate plan`
    variance: float | None = None  # of the least certain main effect; None: by least squares
    resolution: int | None = None  # None: not a regular fraction, or all combinations
    aliases: list[list[str]] = field(default_factory=list)
    # For a D-optimal subset: information per cell, relative to the full design.
    d_efficiency: float | None = None
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
        # A factor's default level: the baseline's, or its first if the baseline has none.
        self.preferred = {
            factor.name: _index(factor, spec.baseline[factor.name]) if factor.name in spec.baseline else 0
            for factor in spec.factors
        }

    def baseline(self) -> Combination:
        """Return the combination that `baseline` describes."""
        return self.existing(self.preferred)

    def best(self) -> Combination:
        """Return what `best` describes; a factor it leaves out takes its last level that is not the baseline's."""
        return self.existing({factor.name: self._best_level(factor) for factor in self.spec.factors})

    def full(self) -> list[Combination]:
        """Return every valid combination, sorted by level in factor order; absent factors sort first.

        Raises:
            BadInput: there are more than 100,000 raw combinations.
        """
        self._refuse_too_many()
        partial: list[Combination] = [{}]
        # Parents first: whether a factor exists depends on their levels.
        for factor in self.parents_first:
            partial = [grown for combination in partial for grown in self._grown(combination, factor)]
        names = list(self.factors)
        in_order = sorted(partial, key=lambda combination: [combination.get(name, -1) for name in names])
        return [
            {name: combination[name] for name in names if name in combination} for combination in in_order
        ]

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

    def _grown(self, combination: Combination, factor: Factor) -> list[Combination]:
        if not conditions.exists(factor, level_names(self.factors, combination)):
            return [combination]
        return [{**combination, factor.name: index} for index in range(len(factor.levels))]

    def switched(self, start: Combination, changes: Combination) -> Combination:
        """Return `start` with `changes`. A factor that stops existing is dropped, a new one takes its preferred level."""
        return self.existing({**self.preferred, **start, **changes})

    def combination(self, levels: Mapping[str, Scalar]) -> Combination:
        """Return factor -> level index from factor -> level name: the inverse of `level_names`."""
        return {
            name: next(i for i, known in enumerate(self.factors[name].levels) if same(known.name, level))
            for name, level in levels.items()
        }

    def existing(self, combination: Combination) -> Combination:
        """Return a combination without the factors that do not exist at its levels."""
        levels: dict[str, Scalar] = {}
        for factor in self.parents_first:
            if conditions.exists(factor, levels):
                levels[factor.name] = factor.levels[combination[factor.name]].name
        return {name: combination[name] for name in self.factors if name in levels}


def distinct(combinations: Sequence[Combination]) -> list[Combination]:
    """Return each combination once, in the order given."""
    return list({tuple(combination.items()): combination for combination in combinations}.values())


def _index(factor: Factor, name: Scalar) -> int:
    return next(index for index, level in enumerate(factor.levels) if level.name == name)
