"""From differences per seed to the numbers of a row: estimate, standard error, interval, p, and a verdict in a word."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.stats.distributions import interval
from ablate.stats.mrmc import cautious_df, cautious_mde, cautious_p
from ablate.stats.multiple import benjamini_hochberg, holm
from ablate.stats.paired import paired_t, sign_flip_p, smallest_sign_flip_p
from ablate.stats.power import mde
from ablate.stats.verdicts import verdict

HELPS, HURTS = "helps", "hurts"
NO_DIFFERENCE, INCONCLUSIVE = "no difference that matters", "inconclusive"
RAISES, LOWERS = "raises", "lowers"


THESE_MODELS = "about these trained models, not the method: other seeds are not part of it"


@dataclass(frozen=True)
class Estimate:
    """A difference with what is known of its error; None where the data cannot say."""

    value: float | None
    n: int  # seeds it rests on
    se: float | None = None
    df: float | None = None  # inf: normal
    p: float | None = None
    method: str = "none"
    seed_share: float | None = None  # of the variance; None: there are no items in it

    def interval(self, level: float) -> list[float] | None:
        """Return the two-sided t interval, None without a standard error."""
        if self.value is None or self.se is None or self.df is None:
            return None
        return list(interval(self.value, self.se, self.df, level))

    def row(self) -> dict[str, Any]:
        """Return the fields that every row of the report has, in the metric's unit; `df` is null for a normal."""
        return {
            "estimate": self.value,
            "se": self.se,
            "df": self.df if self.df is not None and math.isfinite(self.df) else None,
            "ci95": self.interval(0.95),
            "p": self.p,
            "n": self.n,
            "method": self.method,
        }

    def mde80(self, comparisons: int = 1) -> float | None:
        """Return the true effect found with 80 % power, corrected over `comparisons` as the first of Holm's steps does."""
        if self.se is None or self.df is None:
            return None
        alpha = 0.05 / comparisons
        if self.seed_share is not None:
            return cautious_mde(self.se, self.seed_share, self.n, alpha=alpha)
        return mde(self.se, self.df, alpha=alpha)


def over_seeds(differences: NDArray[np.float64]) -> Estimate:
    """Paired t over seeds: [seeds] of differences, NaN where a side is missing. Zero variance gives no p."""
    found = differences[np.isfinite(differences)]
    if len(found) == 0:
        return Estimate(None, 0)
    test = paired_t(found)
    if test is None:
        return Estimate(float(found[0]), 1, method="one seed")
    if test.p is None:
        return Estimate(test.estimate, len(found), method="no variance over seeds")
    return Estimate(test.estimate, len(found), test.se, test.df, test.p, "paired t over seeds")


def seeds_and_items(differences: NDArray[np.float64], item_variance: float) -> Estimate:
    """Seeds × items as a multi-reader multi-case analysis: [seeds] of differences, and V_item − V_seed×item ≥ 0.

    V = V_seed + `item_variance`, as in `stats.mrmc`, but open to a composite, whose items are those of several metrics.
    """
    found = differences[np.isfinite(differences)]
    seeds = len(found)
    v_seed = float(found.var(ddof=1)) / seeds
    variance = v_seed + item_variance
    value = float(found.mean())
    if variance <= (1e-12 * float(np.abs(found).max())) ** 2:
        return Estimate(value, seeds, method="no variance over seeds and items")
    se, share = math.sqrt(variance), v_seed / variance
    p = cautious_p(value / se, share, seeds)
    return Estimate(value, seeds, se, cautious_df(share, seeds), p, "seeds × items", share)


def other_test(
    method: str,
    statistic: float | None,
    p: float | None,
    ci95: tuple[float, float] | None,
    note: str = THESE_MODELS,
) -> dict[str, Any]:
    """Return a test of the same difference under other assumptions, as an entry of `sensitivity`."""
    return {"method": method, "statistic": statistic, "p": p, "ci95": ci95 and list(ci95), "note": note}


def sign_flip(by_seed: NDArray[np.float64]) -> dict[str, Any]:
    """Return the exact sign-flip test of differences [seeds], with what it can say at best."""
    least = smallest_sign_flip_p(len(by_seed))
    note = f"seeds only; with {len(by_seed)} seeds p cannot be below {least:.3g}"
    return other_test("sign_flip", None, sign_flip_p(by_seed), None, note)


@dataclass(frozen=True)
class Judged:
    """A corrected p, what may be said, and the effect that it would have been said of in 80 % of such studies."""

    p_holm: float | None
    p_bh: float | None
    verdict: str
    mde80: float | None

    def row(self) -> dict[str, Any]:
        """Return the fields of a row."""
        return {"p_holm": self.p_holm, "p_bh": self.p_bh, "verdict": self.verdict, "mde80": self.mde80}


def judge_primary(
    estimates: Sequence[Estimate], identical: Sequence[bool], smallest_effect: float | None, goal: str
) -> list[Judged]:
    """Correct by Holm over all `estimates` on the metric that decides, and give a verdict to each."""
    adjusted = holm([estimate.p for estimate in estimates])
    comparisons = sum(p is not None for p in adjusted)
    judged = []
    for e, same, p in zip(estimates, identical, adjusted, strict=True):
        if same:
            word: str = NO_DIFFERENCE
        elif e.value is None:
            word = INCONCLUSIVE
        else:
            word = verdict(e.value, p, e.se, e.df, smallest_effect, goal)
        judged.append(Judged(p, None, word, e.mde80(max(1, comparisons))))
    return judged


def judge_exploratory(estimates: Sequence[Estimate], identical: Sequence[bool]) -> list[Judged]:
    """Correct by Benjamini-Hochberg; only the direction is named, as no goal is declared for these metrics."""
    adjusted = benjamini_hochberg([estimate.p for estimate in estimates])
    return [
        Judged(None, p, NO_DIFFERENCE if same else _direction(estimate, p), estimate.mde80())
        for estimate, same, p in zip(estimates, identical, adjusted, strict=True)
    ]


def _direction(estimate: Estimate, p: float | None) -> str:
    if p is None or p >= 0.05 or estimate.value is None:
        return INCONCLUSIVE
    return RAISES if estimate.value > 0 else LOWERS
