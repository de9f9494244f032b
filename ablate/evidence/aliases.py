"""Partial aliasing: which interactions bias the main effects of a fractional design, given the cells that have results.

Only interactions of two factors are examined. An interaction that the model estimates does not bias any effect."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ablate.design.factorial import Space
from ablate.design.fractional import MOST_EXAMINED
from ablate.design.optimal import PartialAlias, d_efficiency, interactions_in_effects, strongest
from ablate.evidence.frames import Grid
from ablate.evidence.models import Model

LEAST_SHARE = 0.3  # an interaction with this share in an effect, or more, counts as its alias
ROUNDING = 1e-9


@dataclass(frozen=True)
class AliasShare:
    """An interaction that biases an effect, and the share of it that enters the effect."""

    factor: str
    interaction: tuple[str, ...]
    share: float


@dataclass(frozen=True)
class Fraction:
    """What a fractional design can estimate."""

    d_efficiency: float | None  # information per combination with results, as a share of a full design's
    mixing: tuple[AliasShare, ...]  # for each effect, the interaction with the largest share


def partial_aliases(grid: Grid, model: Model | None) -> list[PartialAlias]:
    """Return which interactions bias which effects of a fractional design, apart from full aliases; the largest share first.

    A factor's own interactions are left out: they cannot make a factor without an effect seem to have one."""
    spec = grid.results.spec
    if not (model and model.mean_weights) or not 1 < len(spec.factors) <= MOST_EXAMINED:
        return []
    # The cells of a full design that have a result may be a fraction, too.
    if not spec.design.is_fraction and np.isfinite(grid.values[grid.primary]).any(axis=1).all():
        return []
    space = Space(spec)
    combinations = [space.combination(levels) for levels in grid.combinations]
    owners = [factor for factor, _ in model.mean_weights]
    chains = aliases(grid)
    return [
        alias
        for alias in interactions_in_effects(
            space, combinations, owners, np.array(list(model.mean_weights.values()))
        )
        if alias.share > ROUNDING
        and alias.effect not in alias.interaction
        and ":".join(alias.interaction) not in chains[alias.effect]
    ]


def aliases(grid: Grid, partial: Sequence[PartialAlias] = ()) -> dict[str, list[str]]:
    """Return, for each factor, what the design cannot separate from it: full aliases, then interactions with a large share."""
    chains = grid.results.aliases
    return {
        factor.name: [
            *(other for chain in chains if factor.name in chain for other in chain if other != factor.name),
            *(
                f"{share:.2f} of {':'.join(interaction)}"
                for share, effect, interaction in partial
                if effect == factor.name and share >= LEAST_SHARE
            ),
        ]
        for factor in grid.results.spec.factors
    }


def fraction_of(grid: Grid, partial: Sequence[PartialAlias]) -> Fraction:
    """Return what a fractional design can estimate; its D-efficiency only if it is not a regular fraction."""
    efficiency = None
    irregular = grid.results.spec.design.is_fraction and grid.results.resolution is None
    if irregular and grid.primary in grid.values:
        present = np.flatnonzero(np.isfinite(grid.values[grid.primary][grid.row_of]).any(axis=1))
        space = Space(grid.results.spec)
        efficiency = d_efficiency(space, [space.combination(grid.combinations[i]) for i in present])
    largest = tuple(AliasShare(name, pair, share) for share, name, pair in strongest(partial))
    return Fraction(efficiency, largest)
