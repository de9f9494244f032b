import numpy as np
import pytest
from scipy import stats

from ablate.stats.mcnemar import mcnemar


def test_airway_responsiveness_before_and_after_transplantation() -> None:
    """Bentur et al. 2009, as analysed by Fagerland, Lydersen & Laake 2013, table 1."""
    test = mcnemar(1, 7, 21)
    assert (test.p_exact, test.p_mid) == pytest.approx((0.0703, 0.0391), abs=5e-5)


@pytest.mark.parametrize(("b", "c"), [(0, 1), (3, 9), (40, 61), (700, 800), (20_000, 20_500)])
def test_exact_p_is_the_binomial_test(b: int, c: int) -> None:
    assert mcnemar(b, c, 100_000).p_exact == pytest.approx(stats.binomtest(b, b + c).pvalue, rel=1e-9)


@pytest.mark.parametrize(("b", "c"), [(0, 1), (3, 9), (700, 800)])
def test_mid_p_gives_half_the_weight_to_what_was_seen(b: int, c: int) -> None:
    test = mcnemar(b, c, 5000)
    assert test.p_mid == pytest.approx(test.p_exact - stats.binom.pmf(b, b + c, 0.5), rel=1e-6)


def test_as_many_for_as_against_is_no_evidence() -> None:
    test = mcnemar(4, 4, 50)
    assert (test.p_exact, test.ci95[0]) == (1.0, -test.ci95[1])


def test_mid_p_of_a_tie_leaves_out_half_of_it() -> None:
    """Fagerland, Lydersen & Laake 2013, supplement: 1 − 0.5 · binompdf(n12, n, 0.5)."""
    assert mcnemar(4, 4, 50).p_mid == pytest.approx(1 - 0.5 * stats.binom.pmf(4, 8, 0.5))


def test_no_disagreement_at_all() -> None:
    test = mcnemar(0, 0, 100)
    assert test.p_exact == test.p_mid == 1.0
    assert test.ci95[0] < 0 < test.ci95[1]


def test_interval_covers_the_true_difference() -> None:
    """4000 tables of 200 items; the Monte Carlo error of the coverage is .0035."""
    drawn = np.random.default_rng(0).multinomial(200, [0.05, 0.12, 0.83], size=4000)
    intervals = [mcnemar(int(b), int(c), 200).ci95 for b, c, _ in drawn]
    covered = np.mean([low <= 0.07 <= high for low, high in intervals])
    assert 0.94 <= covered <= 0.97
