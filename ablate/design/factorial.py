"""Which combinations of levels a design runs, as level indices. Knows no settings and no trainer.

Raw combinations are counted, never listed; only what exists is expanded."""

import math
from collections.abc import Iterable, Mapping, Sequence

from ablate.errors import BadInput
from ablate.spec import conditions
from ablate.spec.model import Factor, Scalar, StudySpec
from ablate.spec.yaml_tree import same

MAX_RAW_CELLS = 100_000

Combination = dict[str, int]  # factor -> index of its level, in file order; one that does not exist is absent


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

    def one_at_a_time(self) -> list[Combination]:
        """Return the baseline, each other level of each factor alone, then `best` where the study names it.

        A factor that does not exist under the baseline is varied where its conditions are met: its parents at
        their first allowed level. That combination is a cell too, so each factor has a comparison of its own.
        """
        start = self.baseline()
        found = [start]
        for factor in self.spec.factors:
            home = start if factor.name in start else self._with_needs_met(start, factor)
            found.append(home)
            found += [self._switched(home, {factor.name: index}) for index in range(len(factor.levels))]
        if self.spec.best:
            found.append(self.best())
        return _distinct(found)

    def leave_one_out(self) -> list[Combination]:
        """Return the best combination, then the same with each factor back at its baseline level."""
        start = self.best()
        return _distinct([start, *(self._switched(start, {name: self.preferred[name]}) for name in start)])

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

    def _with_needs_met(self, start: Combination, factor: Factor) -> Combination:
        changes: Combination = {}
        for name, allowed in self.needs[factor.name].items():
            levels = self.factors[name].levels
            now = start.get(name, self.preferred[name])
            met = levels[now].name in allowed
            changes[name] = now if met else next(i for i, level in enumerate(levels) if level.name in allowed)
        return self._switched(start, changes)

    def _switched(self, start: Combination, changes: Combination) -> Combination:
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


def _distinct(found: Sequence[Combination]) -> list[Combination]:
    return list({tuple(one.items()): one for one in found}.values())


def _index(factor: Factor, name: Scalar) -> int:
    return next(index for index, level in enumerate(factor.levels) if level.name == name)
