"""What the main effects of a fraction are mixed with, as the cells that have results make it, not as it was planned.

Only interactions of two factors are looked at; of one that the model estimates nothing is mixed into an effect."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ablate.design.factorial import Space
from ablate.design.fractional import MOST_MIXED
from ablate.design.optimal import Mixed, d_efficiency, mixing, strongest
from ablate.evidence.frames import Grid
from ablate.evidence.models import Model
from ablate.spec.kinds import Fractional

LEAST_SHARE = 0.3  # of an interaction, for an effect to count as aliased with it
ROUNDING = 1e-9


@dataclass(frozen=True)
class MixedIn:
    """An interaction of which an effect holds a share."""

    factor: str
    interaction: tuple[str, ...]
    share: float


@dataclass(frozen=True)
class Fraction:
    """What a fraction of all combinations can estimate."""

    d_efficiency: float | None  # of a cell with results, as a share of one of the full design
    mixing: tuple[MixedIn, ...]  # of each effect the largest


def mixed_effects(grid: Grid, model: Model | None) -> list[Mixed]:
    """Return what share of which interaction each effect of a fraction holds beside its aliases, the largest first.

    A factor's own interactions are left out: where the factor does nothing, they are nothing."""
    spec = grid.results.spec
    if (
        not (model and model.mean_weights)
        or not isinstance(spec.design, Fractional)
        or not 1 < len(spec.factors) <= MOST_MIXED
    ):
        return []
    space = Space(spec)
    cells = [space.combination(cell.levels) for cell in grid.cells]
    owners = [factor for factor, _ in model.mean_weights]
    chains = aliases(grid)
    return [
        one
        for one in mixing(space, cells, owners, np.array(list(model.mean_weights.values())))
        if one.share > ROUNDING
        and one.effect not in one.interaction
        and ":".join(one.interaction) not in chains[one.effect]
    ]


def aliases(grid: Grid, mixed: Sequence[Mixed] = ()) -> dict[str, list[str]]:
    """Return what the design cannot separate each factor from: whole effects, then large shares of interactions."""
    chains = grid.results.aliases
    return {
        factor.name: [
            *(other for chain in chains if factor.name in chain for other in chain if other != factor.name),
            *(
                f"{one.share:.2f} of {':'.join(one.interaction)}"
                for one in mixed
                if one.effect == factor.name and one.share >= LEAST_SHARE
            ),
        ]
        for factor in grid.results.spec.factors
    }


def fraction_of(grid: Grid, mixed: Sequence[Mixed]) -> Fraction:
    """Return what a fraction can estimate; its efficiency only where it is not regular."""
    efficiency = None
    irregular = isinstance(grid.results.spec.design, Fractional) and grid.results.resolution is None
    if irregular and grid.primary in grid.values:
        there = np.flatnonzero(np.isfinite(grid.values[grid.primary]).any(axis=1))
        space = Space(grid.results.spec)
        efficiency = d_efficiency(space, [space.combination(grid.cells[i].levels) for i in there])
    largest = tuple(MixedIn(name, pair, share) for share, name, pair in strongest(mixed))
    return Fraction(efficiency, largest)
