"""How the effect of one factor depends on another: interactions, and effects that turn around."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ablate.evidence.contrasts import Contrast, same_level
from ablate.evidence.effects import Effect, Kind, infer_all
from ablate.evidence.items import Items
from ablate.evidence.models import Array, Model
from ablate.evidence.verdicts import Qualifier
from ablate.spec.model import Scalar
from ablate.stats.factorial import Key
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


def simple_effects(
    items: Items, effect: Effect, interactions: Sequence[Interaction], model: Model
) -> tuple[Simple, Simple] | None:
    """Return the effect at two levels of a factor that it depends on; None if it depends on no other factor.

    It depends on another factor if their interaction is significant (Benjamini-Hochberg) and its effects at the two levels
    differ in kind (`unlike`). A factor that turns the effect around comes first.
    """
    if effect.kind is Kind.SLOPE:
        return None
    depends = None
    sizes = {name: len(levels) for name, levels in model.coding.levels.items()}
    for one in interactions:
        if one.p_bh is None or one.p_bh >= 0.05 or effect.contrast.factor not in one.factors:
            continue
        at = one.factors.index(effect.contrast.factor)
        if not _same_change(effect.contrast, one.low[at], one.high[at]):
            continue
        other, levels = one.factors[1 - at], (one.low[1 - at], one.high[1 - at])
        places = [(model.coding.place(other, level) or 0) for level in levels]
        own = (effect.contrast.factor, model.coding.place(effect.contrast.factor, effect.contrast.high) or 0)
        weights = [simple_effect(model.weights, sizes, own, (other, place)) for place in places]
        found = infer_all(items, effect.metric, weights)
        if which := unlike(found):
            first, second = (Simple(other, levels[place], found[place]) for place in which)
            if qualifier_of(found) is Qualifier.TURNS_AROUND:
                return first, second
            depends = depends or (first, second)
    return depends


def simple_effect(
    weights: Mapping[Key, Array], levels: Mapping[str, int], effect: tuple[str, int], at: tuple[str, int]
) -> Array | None:
    """Return what each row adds to an effect (factor, number of its level) where another factor has a level (its number).

    `weights` are those of the model's effects and interactions, `levels` how many each factor has. In the model's coding
    (`stats.linear`) the effect at one level is the effect on average and, for each level of the other factor, the difference
    of differences times 1 or 0, less the mean of that. None where the model lacks one of these.
    """
    (factor, place), (other, level) = effect, at
    total = weights.get(((factor,), (place,)))
    for k in range(1, levels[other]):
        both = weights.get(((factor, other), (place, k)), weights.get(((other, factor), (k, place))))
        if total is None or both is None:
            return None
        # An interaction is half a difference of differences.
        total = total + 2 * ((k == level) - 1 / levels[other]) * both
    return total


def unlike(found: Sequence[Inference]) -> tuple[int, int] | None:
    """Return the places of two simple effects that differ in kind; None if they do not.

    One is significantly positive and the other significantly negative; or one is significant and the other is not.
    """
    signs = [_clear(one) for one in found]
    if {1, -1} <= set(signs):
        return signs.index(1), signs.index(-1)
    if len(set(signs)) == 1:
        return None
    return signs.index(next(sign for sign in signs if sign)), signs.index(0)


def qualifier_of(found: Sequence[Inference]) -> Qualifier:
    """Return what two unlike effects make of the verdict on their mean."""
    return Qualifier.TURNS_AROUND if all(_clear(one) for one in found) else Qualifier.DEPENDS


def _same_change(contrast: Contrast, low: Scalar, high: Scalar) -> bool:
    return same_level(contrast.low, low) and same_level(contrast.high, high)


def _clear(inference: Inference) -> int:
    """Return the sign of an effect that is significant by itself, else 0."""
    if inference.p is None or inference.p >= 0.05 or inference.estimate is None:
        return 0
    return 1 if inference.estimate > 0 else -1
