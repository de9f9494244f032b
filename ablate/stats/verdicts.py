"""Verdicts: the only place where numbers become a conclusion."""

from enum import StrEnum

from ablate.stats.inference import Inference


class Verdict(StrEnum):
    """The conclusion about an effect."""

    HELPS = "helps"
    HURTS = "hurts"
    NO_DIFFERENCE = "no difference that matters"
    INCONCLUSIVE = "inconclusive"
    # For a metric without a declared good direction.
    RAISES = "raises"
    LOWERS = "lowers"

    @property
    def is_decided(self) -> bool:
        """Whether it names a direction."""
        return self in (Verdict.HELPS, Verdict.HURTS, Verdict.RAISES, Verdict.LOWERS)


def verdict(
    result: Inference,
    p: float | None,
    smallest_effect: float | None = None,
    goal: str = "maximize",
    alpha: float = 0.05,
) -> Verdict:
    """Return the conclusion about an effect with (adjusted) `p`.

    *helps* / *hurts* if p < alpha; *no difference that matters* if the 90 %
    interval lies inside ± smallest_effect (two one-sided tests, Schuirmann
    1987); else *inconclusive*. `goal` says which direction is good.
    """
    if p is not None and p < alpha and result.estimate is not None:
        return direction(result.estimate, goal)
    if smallest_effect is not None and (ci90 := result.interval(0.90)):
        return verdict_of_interval(ci90, smallest_effect)
    return Verdict.INCONCLUSIVE


def direction(estimate: float, goal: str) -> Verdict:
    """Return *helps* or *hurts* for an effect whose sign is beyond doubt."""
    return Verdict.HELPS if (estimate > 0) == (goal == "maximize") else Verdict.HURTS


def verdict_of_interval(ci90: tuple[float, float], smallest_effect: float) -> Verdict:
    """Return *no difference that matters* if a 90 % interval lies inside ± smallest_effect."""
    inside = -smallest_effect < ci90[0] and ci90[1] < smallest_effect
    return Verdict.NO_DIFFERENCE if inside else Verdict.INCONCLUSIVE
