"""A verdict in words: the only place that turns numbers into them."""

from typing import Literal

from ablate.stats.distributions import interval

Verdict = Literal["helps", "hurts", "no difference that matters", "inconclusive"]


def verdict(
    estimate: float,
    p: float | None,
    se: float | None,
    df: float | None,
    smallest_effect: float | None = None,
    goal: str = "maximize",
    alpha: float = 0.05,
) -> Verdict:
    """Return what may be said of an effect with (adjusted) `p`.

    *helps* / *hurts* when p < alpha; *no difference that matters* when the 90 % interval lies inside ±
    smallest_effect (two one-sided tests, Schuirmann 1987); else *inconclusive*. `goal` says which direction
    is good.
    """
    if p is not None and p < alpha:
        return "helps" if (estimate > 0) == (goal == "maximize") else "hurts"
    if se is not None and df is not None and smallest_effect is not None:
        return verdict_of_interval(interval(estimate, se, df, 0.90), smallest_effect)
    return "inconclusive"


def verdict_of_interval(ci90: tuple[float, float], smallest_effect: float) -> Verdict:
    """Return *no difference that matters* when a 90 % interval lies inside ± smallest_effect."""
    inside = -smallest_effect < ci90[0] and ci90[1] < smallest_effect
    return "no difference that matters" if inside else "inconclusive"
