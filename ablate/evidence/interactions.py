"""How the effect of one factor depends on another: interactions, and effects that turn around."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ablate.evidence.contrasts import Contrast, matched_weights, same_level
from ablate.evidence.effects import Effect, Kind, infer_all
from ablate.evidence.frames import Grid
from ablate.evidence.items import Items
from ablate.evidence.models import Model
from ablate.spec.model import Scalar
from ablate.stats.inference import Inference
from ablate.stats.multiple import benjamini_hochberg


@dataclass(frozen=True)
class Interaction:
    """Half the difference of the simple effects of two levels each of two factors."""

    factors: tuple[str, str]
    low: tuple[Scalar, Scalar]
    high: tuple[Scalar, Scalar]
    metric: str
    inference: Inference
    p_bh: float | None


@dataclass(frozen=True)
class Simple:
    """A factor's effect at one level of another."""

    factor: str
    level: Scalar
    inference: Inference


def study_interactions(items: Items, metric: str, model: Model) -> list[Interaction]:
    """Return every interaction of two factors that the model has."""
    keys = [key for key in (model.unreplicated or model.weights) if len(key[0]) == 2]
    if model.unreplicated:
        found = [model.unreplicated[key] for key in keys]
    else:
        found = infer_all(items, metric, [model.weights[key] for key in keys])
    levels = model.coding.levels
    return [
        Interaction(
            (names[0], names[1]),
            (levels[names[0]][0], levels[names[1]][0]),
            (levels[names[0]][places[0]], levels[names[1]][places[1]]),
            metric,
            inference,
            p,
        )
        for (names, places), inference, p in zip(
            keys, found, benjamini_hochberg([one.p for one in found]), strict=True
        )
    ]


def turned_around(
    items: Items, effect: Effect, interactions: Sequence[Interaction], there: NDArray[np.bool_]
) -> tuple[Simple, Simple] | None:
    """Return where an effect clearly goes up and where it clearly goes down; None where it does not.

    Looked for where an interaction is significant (Benjamini-Hochberg), over the matched cells at either level of the other
    factor; both simple effects must be significant by themselves, in opposite directions.
    """
    if effect.kind is Kind.SLOPE:
        return None
    for one in interactions:
        if one.p_bh is None or one.p_bh >= 0.05 or effect.contrast.factor not in one.factors:
            continue
        at = one.factors.index(effect.contrast.factor)
        if not _same_change(effect.contrast, one.low[at], one.high[at]):
            continue
        other = one.factors[1 - at]
        simple = _simple_effects(items, effect, other, (one.low[1 - at], one.high[1 - at]), there)
        for up, down in product(simple, repeat=2):
            if _clear(up.inference) > 0 > _clear(down.inference):
                return up, down
    return None


def _simple_effects(
    items: Items, effect: Effect, other: str, levels: Sequence[Scalar], there: NDArray[np.bool_]
) -> list[Simple]:
    contrasts = [_at_level(items.grid, effect.contrast, other, level) for level in levels]
    found = infer_all(items, effect.metric, [matched_weights(one, there) for one in contrasts])
    return [Simple(other, level, inference) for level, inference in zip(levels, found, strict=True)]


def _at_level(grid: Grid, contrast: Contrast, other: str, level: Scalar) -> Contrast:
    """Keep the matches in which another factor has `level`."""
    kept = [
        match
        for match, rows in enumerate(contrast.rows_low)
        if same_level(grid.cells[int(rows[0])].levels.get(other), level)
    ]
    return Contrast(
        contrast.factor,
        contrast.low,
        contrast.high,
        contrast.when,
        contrast.rows_low[kept],
        contrast.rows_high[kept],
        contrast.averaged_over,
        contrast.unmatched,
    )


def _same_change(contrast: Contrast, low: Scalar, high: Scalar) -> bool:
    return same_level(contrast.low, low) and same_level(contrast.high, high)


def _clear(inference: Inference) -> int:
    """Return the sign of an effect that is significant by itself, else 0."""
    if inference.p is None or inference.p >= 0.05 or inference.estimate is None:
        return 0
    return 1 if inference.estimate > 0 else -1
