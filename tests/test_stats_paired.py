import numpy as np
import pytest
from fixture_types import not_none
from published_tables import DARWIN, SLEEP

from ablate.stats.paired import bootstrap, bootstrap_mean, paired_t, sign_flip_p, smallest_sign_flip_p


def test_paired_t_of_students_sleep_data() -> None:
    test = not_none(paired_t(SLEEP))
    assert test.df == 9
    assert test.t == pytest.approx(4.0621, abs=5e-5)
    assert test.p == pytest.approx(0.002833, abs=5e-7)
    assert test.ci95 == pytest.approx((0.7001142, 2.4598858), abs=5e-8)


def test_paired_t_of_darwins_maize() -> None:
    test = not_none(paired_t(np.array(DARWIN) / 8))
    assert test.estimate == pytest.approx(2.6167, abs=5e-5)
    assert test.t == pytest.approx(2.148, abs=5e-4)
    assert test.p == pytest.approx(0.0497, abs=5e-5)


def test_sign_flip_of_darwins_maize_is_fishers_count() -> None:
    assert sign_flip_p(DARWIN) * 2**15 == 2 * 863


def test_sampled_sign_flip_agrees_with_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = sign_flip_p(DARWIN)
    monkeypatch.setattr("ablate.stats.paired.EXACT_UP_TO", 0)
    assert sign_flip_p(DARWIN) == pytest.approx(exact, abs=3 * np.sqrt(exact / 100_000))


@pytest.mark.parametrize("seeds", [1, 2, 5, 8])
def test_sign_flip_cannot_go_below_its_floor(seeds: int) -> None:
    assert sign_flip_p(np.arange(1.0, seeds + 1)) == smallest_sign_flip_p(seeds)


def test_sign_flip_of_no_difference_at_all_is_one() -> None:
    assert sign_flip_p([0.0, 0.0, 0.0]) == 1.0


def test_differences_that_do_not_vary_have_no_p() -> None:
    assert not_none(paired_t([0.02, 0.02, 0.02])).p is None


def test_one_difference_is_no_test() -> None:
    assert paired_t([0.02]) is None


def test_bootstrap_of_a_mean_is_close_to_the_normal_interval() -> None:
    d = np.random.default_rng(3).normal(0.1, 1.0, 900)
    half = 1.96 * d.std() / 30
    assert bootstrap_mean(d).ci95 == pytest.approx((d.mean() - half, d.mean() + half), abs=0.006)


def test_bootstrap_by_counts_agrees_with_bootstrap_by_items() -> None:
    d = np.random.default_rng(4).choice([-1.0, 0.0, 1.0], p=[0.1, 0.75, 0.15], size=400)
    by_items = bootstrap(lambda drawn: drawn @ d / len(d), len(d))
    assert bootstrap_mean(d).ci95 == pytest.approx(by_items.ci95, abs=0.006)


def test_bootstrap_repeats_exactly() -> None:
    assert bootstrap_mean(SLEEP) == bootstrap_mean(SLEEP)
