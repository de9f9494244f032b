"""Which interactions bias the main effects of a fraction, given the cells that have results (not the planned ones).

Only interactions of two factors are examined. An interaction that the model estimates does not bias any effect."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ablate.design.factorial import Space
from ablate.design.fractional import MOST_MIXED
from ablate.design.optimal import Mixed, d_efficiency, mixing, strongest
from ablate.evidence.frames import Grid
from ablate.evidence.models import Model

LEAST_SHARE = 0.3  # an interaction with this share in an effect, or more, counts as its alias
ROUNDING = 1e-9


@dataclass(frozen=True)
class MixedIn:
    """An interaction, a share of which biases an effect."""

    factor: str
    interaction: tuple[str, ...]
    share: float


@dataclass(frozen=True)
class Fraction:
    """What a fraction of all combinations can estimate."""

    d_efficiency: float | None  # information per cell with results, as a share of a full design's
    mixing: tuple[MixedIn, ...]  # the largest share of each effect


def mixed_effects(grid: Grid, model: Model | None) -> list[Mixed]:
    """Return the shares of interactions that bias each effect of a fraction, besides its aliases, the largest first.

    A factor's own interactions are left out: they cannot fake an effect of a factor that has none."""
    spec = grid.results.spec
    if (
        not (model and model.mean_weights)
        or not spec.design.is_fraction
        or not 1 < len(spec.factors) <= MOST_MIXED
    ):
        return []
    space = Space(spec)
    cells = [space.combination(cell.levels) for cell in grid.cells]
    owners = [factor for factor, _ in model.mean_weights]
    chains = aliases(grid)
    return [
        mixed
        for mixed in mixing(space, cells, owners, np.array(list(model.mean_weights.values())))
        if mixed.share > ROUNDING
        and mixed.effect not in mixed.interaction
        and ":".join(mixed.interaction) not in chains[mixed.effect]
    ]


def aliases(grid: Grid, mixed: Sequence[Mixed] = ()) -> dict[str, list[str]]:
    """Return what the design cannot separate each factor from: whole effects, then large shares of interactions."""
    chains = grid.results.aliases
    return {
        factor.name: [
            *(other for chain in chains if factor.name in chain for other in chain if other != factor.name),
            *(
                f"{share:.2f} of {':'.join(interaction)}"
                for share, effect, interaction in mixed
                if effect == factor.name and share >= LEAST_SHARE
            ),
        ]
        for factor in grid.results.spec.factors
    }


def fraction_of(grid: Grid, mixed: Sequence[Mixed]) -> Fraction:
    """Return what a fraction can estimate; its efficiency only if it is not regular."""
    efficiency = None
    irregular = grid.results.spec.design.is_fraction and grid.results.resolution is None
    if irregular and grid.primary in grid.values:
        present = np.flatnonzero(np.isfinite(grid.values[grid.primary]).any(axis=1))
        space = Space(grid.results.spec)
        efficiency = d_efficiency(space, [space.combination(grid.cells[i].levels) for i in present])
    largest = tuple(MixedIn(name, pair, share) for share, name, pair in strongest(mixed))
    return Fraction(efficiency, largest)
