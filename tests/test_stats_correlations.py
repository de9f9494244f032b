import math

import numpy as np
import pytest
from fixture_types import not_none

from ablate.stats.correlations import (
    fisher_interval,
    pearson,
    pseudo_values,
    steiger_z,
    williams_t,
    zou_interval,
)

# r with the gold of A and of B, r of A with B, n; then Williams' t, Steiger's z and Zou's interval for r_a − r_b as
# printed by R's cocor 1.1 in published analyses (the inputs are rounded to four digits there).
COCOR = [
    ((0.8066, 0.2383, 0.2255, 177), 9.3823, 8.5460, (0.4288, 0.7139)),
    ((-0.1741, 0.2015, 0.3734, 646), -9.0340, -8.6124, (-0.4568, -0.2921)),
    ((0.7245, 0.7108, 0.8972, 15549), 5.5544, 5.5498, (0.0088, 0.0185)),
]


@pytest.mark.parametrize(("given", "t", "z", "zou"), COCOR)
def test_published_comparisons_of_dependent_correlations(
    given: tuple[float, float, float, int], t: float, z: float, zou: tuple[float, float]
) -> None:
    assert williams_t(*given).statistic == pytest.approx(-t, rel=0.003)
    assert not_none(steiger_z(*given)).statistic == pytest.approx(-z, rel=0.003)
    assert zou_interval(*given) == pytest.approx((-zou[1], -zou[0]), abs=2e-4)


def test_williams_t_with_its_p() -> None:
    """cocor: r = .5447 and .8, r_ab = .0729, n = 70."""
    test = williams_t(0.8, 0.5447, 0.0729, 70)
    assert test.statistic == pytest.approx(-2.8114, abs=5e-4)
    assert test.df == 67
    assert test.p == pytest.approx(0.0065, abs=5e-5)


def test_steigers_own_example() -> None:
    """Steiger 1980, case A, as in R's psych: r = .4 and .5, r_ab = .1, n = 103: t = −.89, p = .37."""
    test = williams_t(0.5, 0.4, 0.1, 103)
    assert (test.statistic, test.p) == pytest.approx((-0.89, 0.37), abs=5e-3)


def test_zous_own_example() -> None:
    """Zou 2007, data of Olkin & Siotani: r = .396 and .179, r_ab = .088, n = 66."""
    assert zou_interval(0.179, 0.396, 0.088, 66) == pytest.approx((-0.093, 0.517), abs=5e-4)


def test_fisher_interval() -> None:
    """Fisher's z of .5 over 28 items is .5493 ± 1.96 / 5."""
    assert fisher_interval(0.5, 28) == pytest.approx(
        (math.tanh(0.5493 - 0.392), math.tanh(0.5493 + 0.392)), abs=1e-4
    )


def test_pseudo_values_average_to_r() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=50)
    y = x + rng.normal(size=50)
    assert pseudo_values(x, y).mean() == pytest.approx(pearson(x, y))


def test_pseudo_values_give_the_standard_error_of_r() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=4000)
    y = 0.6 * x + 0.8 * rng.normal(size=4000)
    r = pearson(x, y)
    assert pseudo_values(x, y).std() / np.sqrt(4000) == pytest.approx((1 - r**2) / np.sqrt(4000), rel=0.05)


def test_a_constant_has_no_correlation() -> None:
    assert math.isnan(pearson([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]))


def test_the_same_predictions_are_not_told_apart() -> None:
    assert (williams_t(0.7, 0.7, 1.0, 50).p, not_none(steiger_z(0.7, 0.7, 1.0, 50)).p) == (1.0, 1.0)


def test_a_perfect_correlation_still_has_an_interval() -> None:
    low, high = zou_interval(0.8, 1.0, 0.8, 40)
    assert low < 0.2 < high
    assert steiger_z(0.8, 1.0, 0.8, 40) is None
