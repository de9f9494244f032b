import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import bartlett, trim_mean

from ablate.stats.robust import bartlett_p, gross_outliers, iqm


@pytest.mark.parametrize("runs", range(1, 21))
def test_iqm_is_rliable_s(runs: int) -> None:
    """rliable's `aggregate_iqm` is SciPy's trimmed mean."""
    values = np.random.default_rng(runs).normal(size=(4, runs))
    assert iqm(values) == pytest.approx(trim_mean(values, 0.25, axis=-1))


def test_iqm_is_not_moved_by_a_diverged_run() -> None:
    assert iqm([0.91, 0.92, 0.93, 0.92, 0.1]) == pytest.approx(np.mean([0.91, 0.92, 0.92]))


def test_iqm_leaves_out_what_is_missing() -> None:
    assert iqm([[1.0, np.nan, 2.0, 9.0, 3.0], [np.nan] * 5]) == pytest.approx([2.5, np.nan], nan_ok=True)


def table(cells: int = 6, seeds: int = 5) -> NDArray[np.float64]:
    return np.random.default_rng(1).normal(0.9, 0.01, (cells, seeds))


def test_noise_has_no_gross_outlier() -> None:
    assert not gross_outliers(table()).any()


@pytest.mark.parametrize("seeds", [[2], [0, 4], [0, 1, 2]])
def test_the_runs_of_a_cell_that_fell_are_found_even_where_they_are_most_of_it(seeds: list[int]) -> None:
    values = table()
    values[3, seeds] = 0.5
    found = gross_outliers(values)
    assert np.argwhere(found).tolist() == [[3, seed] for seed in seeds]


def test_a_cell_that_is_worse_in_every_seed_did_not_diverge() -> None:
    values = table()
    values[3] -= 0.4
    assert not gross_outliers(values).any()


def test_a_run_that_rose_is_no_outlier_below() -> None:
    values = table()
    values[3, 0] += 0.4
    assert not gross_outliers(values).any()


def test_what_falls_by_less_than_the_least_does_not_count() -> None:
    values = table()
    values[3, 0] -= 0.2
    assert gross_outliers(values, 0.1).sum() == 1
    assert not gross_outliers(values, 0.25).any()


def test_seeds_that_do_nothing_have_no_outlier_without_a_least_and_one_with_it() -> None:
    values = np.full((3, 4), 0.9)
    assert not gross_outliers(values).any()
    values[1, 1] = 0.5
    assert gross_outliers(values, 0.1).sum() == 1


def test_what_is_missing_is_no_outlier() -> None:
    values = table()
    values[0], values[1, 1] = np.nan, np.nan
    assert not gross_outliers(values).any()
    assert not gross_outliers(np.full((2, 3), np.nan)).any()


def test_bartletts_p_is_that_of_scipy() -> None:
    groups = [[8.88, 9.12, 9.04, 8.98], [8.88, 8.95, 9.29, 9.44, 9.15], [8.95, 9.12, 8.95, 8.85]]
    assert bartlett_p(groups) == pytest.approx(bartlett(*groups).pvalue, rel=1e-10)
    assert bartlett_p([[1.0, 1.0], [1.0, 2.0], [3.0]]) == 1.0
