"""What the methods promise, seen in simulated studies. Every bound allows for the Monte Carlo error stated beside it."""

from collections.abc import Iterable

import numpy as np
import pytest
from fixture_types import not_none
from numpy.random import Generator, default_rng

from ablate.stats.factorial import Factorial, factorial
from ablate.stats.linear import Factor
from ablate.stats.mrmc import mrmc
from ablate.stats.multiple import holm
from ablate.stats.power import mde

EFFECTS = np.array([0.02, 0.01, 0.0, 0.0])  # planted on four two-level factors
SIGMA = 0.01  # of one run


def study(rng: Generator, seeds: int, effects: np.ndarray) -> Factorial:
    """Run a 2^4 design with `seeds` as blocks: noise of runs and, larger, of seeds."""
    runs = np.arange(16 * seeds)
    factors = [Factor(f"f{k}", runs >> k & 1, 2) for k in range(4)]
    seed = runs // 16
    y = sum(e * (f.index - 0.5) for e, f in zip(effects, factors, strict=True))
    y = y + rng.normal(0, SIGMA, len(runs)) + rng.normal(0, 3 * SIGMA, seeds)[seed]
    return factorial(y, factors, Factor("seed", seed, seeds), order="1")


def familywise_error(studies: int, seeds: int) -> float:
    rng = default_rng(seeds)
    return float(
        np.mean(
            [
                min(map(not_none, holm([e.p for e in study(rng, seeds, 0 * EFFECTS).effects]))) < 0.05
                for _ in range(studies)
            ]
        )
    )


def coverage_of_effects(studies: int, seeds: int) -> float:
    rng = default_rng(seeds)
    covered = [
        low <= truth <= high
        for _ in range(studies)
        for truth, effect in zip(EFFECTS, study(rng, seeds, EFFECTS).effects, strict=True)
        for low, high in [not_none(effect.ci95)]
    ]
    return float(np.mean(covered))


def classifiers(rng: Generator, seeds: int, items: int, shift: float) -> np.ndarray:
    """Return right(B) − right(A) [seeds, items] of two fine-tuned classifiers, by a latent score.

    Items differ in difficulty, the two methods differ on items, and every trained model differs on items and a little
    as a whole. About one answer in eight differs between A and B, as between two fine-tuned encoders.
    """
    difficulty = rng.normal(0.6, 1.5, items)
    method = rng.normal(0, 0.3, (2, 1, items)) + np.array([0.0, shift])[:, None, None]
    model = rng.normal(0, 0.4, (2, seeds, items)) + rng.normal(0, 0.02, (2, seeds, 1))
    right = difficulty + method + model > 0
    return np.asarray(right[1].astype(float) - right[0])


def true_difference(shift: float) -> float:
    """Return P(B right) − P(A right): the latent score is normal with mean .6 and the sum of the variances."""
    from scipy.stats import norm

    sd = np.sqrt(1.5**2 + 0.3**2 + 0.4**2 + 0.02**2)
    return float(norm.cdf((0.6 + shift) / sd) - norm.cdf(0.6 / sd))


def coverage_of_hillis(studies: int, seeds: int, shift: float = 0.1) -> float:
    rng = default_rng(seeds)
    d = (classifiers(rng, seeds, 500, shift) for _ in range(studies))
    return share_covering(true_difference(shift), d)


def coverage_where_seeds_matter(studies: int, seeds: int, ratio: float) -> float:
    """Let the seeds' share of a difference's variance be `ratio` times that of the items, in small studies of 60 items."""
    rng = default_rng(seeds)
    items = 60
    noise = rng.normal(0, 1, (studies, 1, items)) + rng.normal(0, np.sqrt(seeds) / 2, (studies, seeds, items))
    d = noise + rng.normal(0, np.sqrt(ratio * seeds / items), (studies, seeds, 1))
    return share_covering(0, d)


def share_covering(truth: float, studies: Iterable[np.ndarray]) -> float:
    """Of the 95 % intervals of studies [S, n] with the degrees of freedom of Hillis."""
    intervals = [mrmc(d).ci95 for d in studies]
    return float(np.mean([low <= truth <= high for low, high in intervals]))


def power_at_the_planned_effect(studies: int, seeds: int) -> float:
    """Plan with the σ of a run, then plant exactly the effect that is said to be detectable."""
    df = 16 * seeds - 1 - (seeds - 1) - 4
    effect = mde(SIGMA * np.sqrt(2 / (8 * seeds)), df)
    rng = default_rng(seeds)
    return float(
        np.mean(
            [
                not_none(study(rng, seeds, np.array([effect, 0, 0, 0])).effects[0].p) < 0.05
                for _ in range(studies)
            ]
        )
    )


def told(what: str, rate: float, trials: int) -> float:
    """Print a simulated rate with its Monte Carlo error, for `pytest -s`, and return it."""
    print(f"{what}: {rate:.4f} ± {np.sqrt(rate * (1 - rate) / trials):.4f}")
    return rate


def test_a_few_studies_without_effects_raise_few_false_alarms() -> None:
    assert familywise_error(300, seeds=3) <= 0.05 + 3 * 0.0126  # Monte Carlo error .0126


def test_a_few_intervals_of_effects_cover_the_truth() -> None:
    assert coverage_of_effects(150, seeds=3) == pytest.approx(0.95, abs=3 * 0.0089)  # Monte Carlo error .0089


def test_a_few_intervals_over_seeds_and_items_cover_the_truth() -> None:
    assert coverage_of_hillis(200, seeds=5) >= 0.95 - 3 * 0.0154  # Monte Carlo error .0154


def test_two_seeds_that_matter_more_than_the_items_cover_what_is_said() -> None:
    assert coverage_where_seeds_matter(3000, 2, 13) == pytest.approx(0.87, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_familywise_error_stays_below_five_percent(seeds: int) -> None:
    rate = told(f"familywise error, {seeds} seeds", familywise_error(6000, seeds), 6000)
    assert rate <= 0.05 + 2 * 0.0028  # Monte Carlo error .0028


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_planted_effects_lie_in_their_intervals(seeds: int) -> None:
    rate = told(f"coverage of planted effects, {seeds} seeds", coverage_of_effects(2000, seeds), 8000)
    assert rate == pytest.approx(0.95, abs=0.02)  # Monte Carlo error .0024


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "least"), [(3, 0.92), (5, 0.94)])
@pytest.mark.parametrize("ratio", [2, 7, 15])
def test_intervals_of_hillis_cover_the_truth_as_rarely_as_is_said(
    seeds: int, least: float, ratio: int
) -> None:
    rate = coverage_where_seeds_matter(10_000, seeds, ratio)
    told(f"the same with the df of Hillis, {seeds} seeds that matter {ratio} times as much", rate, 10_000)
    assert least - 3 * 0.0022 <= rate <= 0.95 + 3 * 0.0022  # Monte Carlo error .0022


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_power_at_the_planned_detectable_effect(seeds: int) -> None:
    rate = told(f"power at the planned effect, {seeds} seeds", power_at_the_planned_effect(3000, seeds), 3000)
    assert 0.7 <= rate <= 0.9  # Monte Carlo error .0073


@pytest.mark.slow
def test_planted_effects_are_found() -> None:
    """At five seeds an effect of twice the detectable one is called, after Holm, in nearly every study."""
    rng = default_rng(9)
    found = [not_none(holm([e.p for e in study(rng, 5, EFFECTS).effects])[0]) < 0.05 for _ in range(500)]
    assert EFFECTS[0] > 2 * mde(SIGMA / np.sqrt(20), 71)
    assert told("planted effects found, 5 seeds", float(np.mean(found)), 500) >= 0.99
