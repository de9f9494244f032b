"""How the effect of one factor depends on another: interactions, and effects that change sign."""

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
    """Half the difference between a factor's effects at two levels of another factor."""

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
        inferences = [model.unreplicated[key] for key in keys]
    else:
        inferences = infer_all(items, metric, [model.weights[key] for key in keys])
    p_bh = benjamini_hochberg([inference.p for inference in inferences])
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
        for (names, places), inference, p in zip(keys, inferences, p_bh, strict=True)
    ]


def simple_effects(
    items: Items, effect: Effect, interactions: Sequence[Interaction], model: Model
) -> tuple[Simple, ...]:
    """Return the effect at two levels of each factor that it depends on, pair after pair; those that change its sign first.

    An effect depends on another factor if their interaction is significant (Benjamini-Hochberg) and its effects at the two
    levels differ in kind (`unlike`).
    """
    if effect.kind is Kind.SLOPE:
        return ()
    pairs = []
    sizes = {name: len(levels) for name, levels in model.coding.levels.items()}
    for interaction in interactions:
        p, factors, low, high = interaction.p_bh, interaction.factors, interaction.low, interaction.high
        if p is None or p >= 0.05 or effect.contrast.factor not in factors:
            continue
        at = factors.index(effect.contrast.factor)
        if not _same_change(effect.contrast, low[at], high[at]):
            continue
        other, levels = factors[1 - at], (low[1 - at], high[1 - at])
        indices = [(model.coding.level_index(other, level) or 0) for level in levels]
        of_effect = (
            effect.contrast.factor,
            model.coding.level_index(effect.contrast.factor, effect.contrast.high) or 0,
        )
        weights = [simple_effect(model.weights, sizes, of_effect, (other, index)) for index in indices]
        inferences = infer_all(items, effect.metric, weights)
        if pair := unlike(inferences):
            pairs.append([Simple(other, levels[k], inferences[k]) for k in pair])
    return one_per_factor(pairs)


def simple_effect(
    weights: Mapping[Key, Array], levels: Mapping[str, int], effect: tuple[str, int], at: tuple[str, int]
) -> Array | None:
    """Return the weights of `effect` at one level of another factor; both are (factor, index of its level).

    `weights` are those of the model's effects and interactions, `levels` the number of levels of each factor. In the model's
    coding (`stats.linear`), the effect at level l of a factor with L levels is the average effect plus the sum, over its levels
    k above 0, of the difference of differences at k times (1 if k = l, else 0, minus 1 / L). None if the model lacks a term.
    """
    (factor, index), (other, level) = effect, at
    total = weights.get(((factor,), (index,)))
    for k in range(1, levels[other]):
        interaction = weights.get(((factor, other), (index, k)), weights.get(((other, factor), (k, index))))
        if total is None or interaction is None:
            return None
        # An interaction is half a difference of differences.
        total = total + 2 * ((k == level) - 1 / levels[other]) * interaction
    return total


def unlike(effects: Sequence[Inference]) -> tuple[int, int] | None:
    """Return the indices of two simple effects that differ in kind; None if there are no such two.

    Either one is significantly positive and the other significantly negative, or one is significant and the other is not.
    """
    signs = [_significant_sign(effect) for effect in effects]
    if {1, -1} <= set(signs):
        return signs.index(1), signs.index(-1)
    if len(set(signs)) == 1:
        return None
    return signs.index(next(sign for sign in signs if sign)), signs.index(0)


def one_per_factor(pairs: Sequence[Sequence[Simple]]) -> tuple[Simple, ...]:
    """Return the first pair of each factor, pair after pair; pairs of different sign first."""
    ordered = sorted(pairs, key=lambda pair: qualifier_of(pair) is not Qualifier.TURNS_AROUND)
    firsts = {pair[0].factor: pair for pair in reversed(ordered)}
    return tuple(simple for factor in reversed(firsts) for simple in firsts[factor])


def qualifier_of(simples: Sequence[Simple]) -> Qualifier:
    """Return how unlike effects, pair after pair, qualify the verdict on their mean."""
    signs = [_significant_sign(simple.inference) for simple in simples[:2]]
    return Qualifier.TURNS_AROUND if all(signs) else Qualifier.DEPENDS


def _same_change(contrast: Contrast, low: Scalar, high: Scalar) -> bool:
    return same_level(contrast.low, low) and same_level(contrast.high, high)


def _significant_sign(inference: Inference) -> int:
    """Return the sign of an effect that is significant without correction; otherwise 0."""
    if inference.p is None or inference.p >= 0.05 or inference.estimate is None:
        return 0
    return 1 if inference.estimate > 0 else -1
