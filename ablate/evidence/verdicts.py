"""Judge the effects on a metric jointly: corrected p, verdicts, and the qualifiers of these verdicts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from ablate.evidence.effects import Effect, Kind
from ablate.stats.inference import Inference
from ablate.stats.multiple import benjamini_hochberg, gatekept_holm, shares_of_alpha
from ablate.stats.verdicts import Verdict, verdict


class Qualifier(StrEnum):
    """Why a verdict is weaker than it looks."""

    ALIASED = "aliased"  # the design cannot separate the effect from another
    TURNS_AROUND = "turns_around"  # it helps at one level of another factor and hurts at another
    DEPENDS = "depends"  # it is significant at one level of another factor and not at another
    LOST_RUNS = "lost_runs"  # runs without a result could reverse it
    LAST_EPOCH = "last_epoch"  # significant at the chosen epoch, not at the last
    BENT = "bent"  # its factor's levels do not lie on a straight line
    STOP_FLAG = "stop_flag"  # a flag on its cells invalidates its p


# The effect is the mean of unlike effects at the levels of another factor.
UNLIKE = {Qualifier.TURNS_AROUND, Qualifier.DEPENDS}


@dataclass(frozen=True)
class Judged:
    """A corrected p, a verdict, and the true effect that 80 % of such studies would detect."""

    p_holm: float | None
    p_bh: float | None
    verdict: Verdict
    mde80: float | None
    qualifiers: tuple[Qualifier, ...] = ()
    # The 90 % interval: within ± the smallest effect, there is no difference that matters. None for exploratory metrics.
    ci90: tuple[float, float] | None = None
    alpha: float = 0.05  # of its test: its share of .05 at the first step of the correction

    @property
    def is_reserved(self) -> bool:
        """Whether the verdict is weaker than it looks.

        One that names no direction is weaker only if it is about the mean of unlike effects."""
        return bool(self.qualifiers if self.verdict.is_decided else UNLIKE & set(self.qualifiers))


def judge_primary(
    effects: Sequence[Effect],
    smallest_effect: float | None,
    goal: str,
    aliases: Mapping[str, Sequence[str]] | None = None,
) -> list[Judged]:
    """Judge the effects on the primary metric, with a familywise error rate of .05 over all of them.

    This is Holm's procedure, but the levels of a numeric factor get most of their share of alpha only once its slope is
    significant. An effect on a metric of a chosen epoch is also tested on the last epoch, and the larger p counts: choosing the
    best of several epochs favours the noisier side.
    """
    p, gate_of = [deciding_p(effect) for effect in effects], gates(effects)
    adjusted, shares = gatekept_holm(p, gate_of), shares_of_alpha(p, gate_of)
    return [
        _judged(
            effect,
            corrected,
            bool(aliases and aliases.get(effect.contrast.factor)),
            share or 1.0,
            smallest_effect,
            goal,
        )
        for effect, corrected, share in zip(effects, adjusted, shares, strict=True)
    ]


def gates(effects: Sequence[Effect]) -> list[int | None]:
    """Return for each effect the index of its gate: the slope for the levels of a numeric factor, otherwise None."""
    slope_at = {e.contrast.factor: place for place, e in enumerate(effects) if e.kind is Kind.SLOPE}
    return [None if e.kind is Kind.SLOPE else slope_at.get(e.contrast.factor) for e in effects]


def judge_exploratory(inferences: Sequence[Inference], identical: Sequence[bool]) -> list[Judged]:
    """Correct by Benjamini-Hochberg. These metrics have no declared goal, so a verdict only names the direction."""
    adjusted = benjamini_hochberg([inference.p for inference in inferences])
    return [
        Judged(None, p, Verdict.NO_DIFFERENCE if same else _direction(inference, p), inference.mde80())
        for inference, same, p in zip(inferences, identical, adjusted, strict=True)
    ]


def _judged(
    effect: Effect, p: float | None, aliased: bool, share: float, smallest_effect: float | None, goal: str
) -> Judged:
    conclusion = (
        Verdict.NO_DIFFERENCE if effect.identical else verdict(effect.inference, p, smallest_effect, goal)
    )
    return qualified(effect, conclusion, p, effect.inference.interval(0.90), aliased, share)


def qualified(
    effect: Effect,
    conclusion: Verdict,
    p: float | None,
    ci90: tuple[float, float] | None,
    aliased: bool,
    share: float,
) -> Judged:
    """Return a verdict with its qualifiers, some of which withdraw it. `share`: the share of alpha that its test starts with."""
    inference, qualifiers = effect.inference, []
    if aliased and conclusion is not Verdict.INCONCLUSIVE:
        qualifiers.append(Qualifier.ALIASED)
        if conclusion is Verdict.NO_DIFFERENCE:
            conclusion = Verdict.INCONCLUSIVE
    bend = effect.slope.p_lack_of_fit if effect.slope else None
    if conclusion.is_decided and bend is not None and bend < 0.05:
        qualifiers.append(Qualifier.BENT)
    if conclusion.is_decided and effect.lost and effect.lost.could_reverse:
        qualifiers.append(Qualifier.LOST_RUNS)
        if effect.lost.uneven:
            conclusion = Verdict.INCONCLUSIVE
    is_clear = inference.p is not None and inference.p < 0.05
    deciding = deciding_p(effect)
    if is_clear and not conclusion.is_decided and (deciding is None or deciding >= 0.05):
        qualifiers.append(Qualifier.LAST_EPOCH)
    return Judged(p, None, conclusion, inference.mde80(share), tuple(qualifiers), ci90, 0.05 * share)


def deciding_p(effect: Effect) -> float | None:
    """Return the p on the metric, or on the last epoch if that is larger; None if one of them has none."""
    if effect.last is None or effect.inference.p is None:
        return effect.inference.p
    if effect.last.p is None or effect.last.estimate is None or effect.inference.estimate is None:
        return None
    same_way = effect.last.estimate * effect.inference.estimate > 0
    return max(effect.inference.p, effect.last.p if same_way else 1.0)


def _direction(inference: Inference, p: float | None) -> Verdict:
    if p is None or p >= 0.05 or inference.estimate is None:
        return Verdict.INCONCLUSIVE
    return Verdict.RAISES if inference.estimate > 0 else Verdict.LOWERS
