import numpy as np
import pytest
from fixture_types import not_none
from scipy import stats

from ablate.stats.moderated import moderate


def test_variances_that_differ_as_chance_has_it_are_taken_for_one() -> None:
    rng = np.random.default_rng(0)
    found = not_none(moderate(rng.chisquare(4, 2000) / 4, [4] * 2000))
    assert found.df.min() > 100
    assert found.variances == pytest.approx(np.ones(2000), abs=0.1)


def test_the_prior_of_scaled_inverse_chi_squares_is_found_again() -> None:
    """Smyth's model: 1 / σ² is χ²(6) / (6 · 2), s² is σ² χ²(3) / 3."""
    rng = np.random.default_rng(1)
    sigma2 = 6 * 2 / rng.chisquare(6, 20000)
    s2 = sigma2 * rng.chisquare(3, 20000) / 3
    found = not_none(moderate(s2, [3] * 20000))
    assert found.df[0] == pytest.approx(6 + 3, rel=0.05)
    assert found.variances == pytest.approx((6 * 2 + 3 * s2) / 9, rel=0.05)


def test_a_moderated_t_is_t_on_its_own_and_the_borrowed_degrees_of_freedom() -> None:
    rng = np.random.default_rng(2)
    sigma2 = 8 / rng.chisquare(8, 20000)
    s2 = sigma2 * rng.chisquare(2, 20000) / 2
    found = not_none(moderate(s2, [2] * 20000))
    t = rng.normal(0, np.sqrt(sigma2)) / np.sqrt(found.variances)
    assert stats.kstest(t, stats.t(found.df[0]).cdf).pvalue > 0.01


@pytest.mark.parametrize("variances", [[1.0, 2.0], [1.0, 2.0, 0.0]])
def test_too_few_variances_or_none_lend_nothing(variances: list[float]) -> None:
    assert moderate(variances, [2] * len(variances)) is None
