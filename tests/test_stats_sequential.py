"""Boundaries of looks: published values, independent integration, and what follows from them."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from fixture_types import not_none
from numpy.typing import ArrayLike, NDArray
from published_boundaries import BOUNDARIES_BY_SIDE
from scipy import special
from scipy.stats import multivariate_normal

from ablate.stats.sequential import (
    chance_at_the_end,
    next_fraction,
    nominal_levels,
    sequential_p,
    share_of_information,
    stopping,
)

UNEVEN = (0.2, 0.45, 0.6, 1.0)


def boundaries(fractions: Sequence[float], alpha: float = 0.05) -> NDArray[np.float64]:
    return np.asarray(-special.ndtri(nominal_levels(fractions, alpha) / 2))


def correlation(fractions: Sequence[float]) -> NDArray[np.float64]:
    return np.array([[np.sqrt(min(a, b) / max(a, b)) for b in fractions] for a in fractions])


def never_crossed(fractions: Sequence[float], limits: ArrayLike) -> float:
    """The probability of staying inside ± limits, by quasi Monte Carlo: nothing of ours is in it."""
    law = multivariate_normal(cov=correlation(fractions), seed=1, maxpts=2_000_000, abseps=1e-6)
    return float(law.cdf(limits, lower_limit=-np.asarray(limits)))


@pytest.mark.parametrize(("plan", "critical"), BOUNDARIES_BY_SIDE.items())
def test_boundaries_are_those_computed_in_r(
    plan: tuple[float, tuple[float, ...]], critical: tuple[float, ...]
) -> None:
    alpha, fractions = plan
    assert boundaries(fractions, alpha) == pytest.approx(critical, abs=1e-5)


@pytest.mark.parametrize(
    ("looks", "published"),
    [  # Reboussin, DeMets, Kim & Lan 2000, Controlled Clinical Trials 21, 190-207; the R packages ldbounds and gsDesign
        (2, [2.9626, 1.9686]),
        (3, [3.7103, 2.5114, 1.9930]),
        (4, [4.3326, 2.9631, 2.3590, 2.0141]),
        (5, [4.8769, 3.3569, 2.6803, 2.2898, 2.0310]),
    ],
)
def test_boundaries_of_equally_spaced_looks_are_the_published_ones(
    looks: int, published: list[float]
) -> None:
    assert boundaries([k / looks for k in range(1, looks + 1)]) == pytest.approx(published, abs=2e-4)


def test_one_look_is_an_ordinary_test() -> None:
    assert nominal_levels([1.0], 0.05) == pytest.approx([0.05], rel=1e-9)


@pytest.mark.parametrize("alpha", [0.001, 0.00625, 0.05, 0.1, 0.5])
@pytest.mark.parametrize("fractions", [UNEVEN, (0.3, 0.31, 1.0), (0.5, 0.98, 0.99, 1.0)])
def test_all_looks_together_err_with_alpha(fractions: tuple[float, ...], alpha: float) -> None:
    assert 1 - never_crossed(fractions, boundaries(fractions, alpha)) == pytest.approx(alpha, abs=2e-5)


def test_each_look_has_spent_what_the_function_says() -> None:
    """Lan & DeMets 1983: 4 − 4 Φ(z / √t) of a two-sided alpha, z the quantile of alpha / 4."""
    z = special.ndtri(1 - 0.05 / 4)
    for looks in range(1, 5):
        crossed = 1 - never_crossed(UNEVEN[:looks], boundaries(UNEVEN)[:looks])
        assert crossed == pytest.approx(4 - 4 * special.ndtr(z / np.sqrt(UNEVEN[looks - 1])), abs=2e-5)


def test_a_boundary_does_not_depend_on_later_looks() -> None:
    assert nominal_levels(UNEVEN[:2]) == pytest.approx(nominal_levels(UNEVEN)[:2], rel=1e-9)


@pytest.mark.parametrize("alpha", [1e-9, 1e-4, 0.00625, 0.05, 0.3])
def test_a_sequential_p_is_the_alpha_at_which_its_look_rejects(alpha: float) -> None:
    levels = nominal_levels(UNEVEN, alpha)
    for look, level in enumerate(levels):
        alone = [level if other == look else None for other in range(len(levels))]
        assert sequential_p(alone, UNEVEN) == pytest.approx(alpha, rel=1e-4)


def test_a_sequential_p_is_that_of_the_best_look_so_far() -> None:
    looked = [0.3, 0.0001, 0.9]
    each = [
        sequential_p([p if i == look else None for i in range(3)], UNEVEN[:3])
        for look, p in enumerate(looked)
    ]
    assert sequential_p(looked, UNEVEN[:3]) == min(map(not_none, each))


def test_a_sequential_p_never_rises_from_look_to_look() -> None:
    seen = [0.02, 0.4, 0.01, 0.2]
    so_far = [sequential_p(seen[:k], UNEVEN[:k]) for k in range(1, 5)]
    assert all(not_none(after) <= not_none(before) for before, after in itertools.pairwise(so_far))


def test_looks_without_a_p_have_no_sequential_p() -> None:
    assert sequential_p([None, None], [0.3, 1.0]) is None


def test_a_p_of_one_look_is_its_own_sequential_p() -> None:
    assert sequential_p([0.03], [1.0]) == pytest.approx(0.03, rel=1e-4)


def test_a_p_that_underflows_is_tiny_and_not_zero() -> None:
    assert 0 < not_none(sequential_p([0.0], [1.0])) < 1e-11


def test_sequential_ps_of_nothing_are_uniform_or_larger() -> None:
    rng = np.random.default_rng(0)
    steps = rng.standard_normal((4000, 4)) * np.sqrt(np.diff([0.0, *UNEVEN]))
    p = 2 * special.ndtr(-np.abs(steps.cumsum(axis=1) / np.sqrt(UNEVEN)))
    found = np.array([sequential_p(row, UNEVEN) for row in p])
    for alpha in (0.01, 0.05, 0.2):
        assert (found <= alpha).mean() == pytest.approx(alpha, abs=3 * np.sqrt(alpha / 4000))


def test_items_keep_their_share_of_the_noise_however_many_seeds() -> None:
    assert share_of_information(0.4, 0.0, 3, 10) == pytest.approx(0.3)
    assert share_of_information(0.0, 0.4, 3, 10) == 1.0
    # The seeds' variance may be as large as 2 / .2107, which is the tenth percentile of chi² on two degrees of freedom.
    bound = 2 / 0.21072
    assert share_of_information(1.0, 1.0, 3, 12) == pytest.approx((bound / 4 + 1) / (bound + 1), rel=1e-4)


def test_without_noise_information_is_the_seeds() -> None:
    assert share_of_information(0.0, 0.0, 3, 12) == 0.25


@pytest.mark.parametrize(
    ("before", "share", "looks", "next_one"),
    [
        ([], 0.301, 3, 0.30),  # rounded down
        ([0.6], 0.4, 3, 0.61),  # the noise looks larger than it did
        ([0.3], 1.0, 4, 0.98),  # room for the two looks to come
        ([0.3, 0.5], 0.1, 3, 1.0),  # the final look has all
        ([], 0.0, 5, 0.01),
    ],
)
def test_fractions_rise_and_end_at_one(
    before: list[float], share: float, looks: int, next_one: float
) -> None:
    assert next_fraction(before, share, looks) == pytest.approx(next_one)


def test_the_chance_at_the_end_is_that_of_simulated_ends() -> None:
    rng = np.random.default_rng(1)
    end = 0.4 + rng.standard_t(4, 200_000) * np.sqrt(0.5 - 0.2)
    share = np.mean((np.abs(end) > 1.0) | (np.abs(end) < 0.1))
    assert chance_at_the_end(0.4, 0.5, 0.2, 4, 1.0, 0.1) == pytest.approx(share, abs=0.004)


def test_an_estimate_that_can_no_longer_move_is_decided_by_where_it_is() -> None:
    assert chance_at_the_end([0.0, 0.5, 2.0], 0.2, 0.2, 4, 1.0, 0.1) == pytest.approx([1.0, 0.0, 1.0])


def test_where_a_study_stops_is_what_independent_integration_says() -> None:
    fractions, effect = (0.3, 0.6, 1.0), 2.0  # in standard errors at the end
    limits = boundaries(fractions)
    variances = [1 / f for f in fractions]

    def crosses(look: int, at: NDArray[np.float64]) -> NDArray[np.bool_]:
        return np.asarray(np.abs(at) > limits[look] * np.sqrt(variances[look]))

    found, claimed = stopping(variances, effect, crosses, crosses)
    law = multivariate_normal(mean=effect * np.sqrt(fractions), cov=correlation(fractions), seed=1)
    first = 1 - float(
        special.ndtr(limits[0] - effect * 0.3**0.5) - special.ndtr(-limits[0] - effect * 0.3**0.5)
    )
    two = multivariate_normal(law.mean[:2], law.cov[:2, :2], seed=1)
    second = 1 - first - float(two.cdf(limits[:2], lower_limit=-limits[:2]))
    assert found[:2] == pytest.approx([first, second], abs=1e-2)  # on a grid
    three = float(law.cdf(limits, lower_limit=-limits))
    assert claimed == pytest.approx(1 - three, abs=1e-2)
