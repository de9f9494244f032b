import math

import pytest
from scipy import stats

from ablate.stats.distributions import f_p, interval, t_p, t_quantile, variance_interval, z_p


@pytest.mark.parametrize(("t", "df"), [(0.0, 3), (2.1, 1.7), (-4.0, 12), (30.0, 400)])
def test_p_of_t(t: float, df: float) -> None:
    assert t_p(t, df) == pytest.approx(2 * stats.t.sf(abs(t), df), rel=1e-9)


def test_infinite_degrees_of_freedom_are_the_normal() -> None:
    assert t_p(1.5, math.inf) == z_p(1.5)
    assert t_quantile(0.975, math.inf) == pytest.approx(1.959964, abs=1e-6)


def test_a_p_that_underflows_is_not_zero() -> None:
    assert t_p(1e6, 5000) > 0
    assert f_p(1e9, 8, 18000) > 0


def test_interval_is_symmetric_and_wider_at_a_higher_level() -> None:
    low, high = interval(1.0, 0.5, 7, 0.90)
    assert low + high == pytest.approx(2.0)
    assert interval(1.0, 0.5, 7, 0.95)[0] < low


def test_the_interval_of_a_variance_is_that_of_chi_squared() -> None:
    low, high = variance_interval(2.0, 4, 0.80)
    assert (8 / low, 8 / high) == pytest.approx((stats.chi2.ppf(0.9, 4), stats.chi2.ppf(0.1, 4)))
