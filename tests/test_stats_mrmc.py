import math

import numpy as np
import pytest
from fixture_types import not_none

from ablate.stats.mrmc import hillis_df, mrmc
from ablate.stats.paired import paired_t


def test_by_hand() -> None:
    """Seeds average 1 and −1, so V_seed = 2/2; all items average 0, so V_item = 0: V = 1 on 1 degree of freedom."""
    found = mrmc([[1.0, 0.0, 2.0], [-1.0, 0.0, -2.0]])
    assert (found.delta, found.se, found.df) == pytest.approx((0.0, 1.0, 1.0))


def test_formula_of_variance_and_degrees_of_freedom() -> None:
    d = np.random.default_rng(2).normal(size=(4, 30)) + np.random.default_rng(3).normal(size=30)
    v_seed, v_item = d.mean(axis=1).var(ddof=1) / 4, d.mean(axis=0).var(ddof=1) / 30
    residual = d - d.mean(axis=1, keepdims=True) - d.mean(axis=0) + d.mean()
    v = v_seed + max(v_item - (residual**2).sum() / (3 * 29) / (4 * 30), 0)
    found = mrmc(d)
    assert (found.se**2, found.df) == pytest.approx((v, v**2 / (v_seed**2 / 3)))


def test_seeds_alone_give_the_paired_t() -> None:
    """Items that all agree add nothing: what is left is the paired t over seeds."""
    by_seed = np.array([0.01, 0.03, 0.02, 0.05])
    found, test = mrmc(np.tile(by_seed[:, None], (1, 20))), not_none(paired_t(by_seed))
    assert (found.se, found.df, found.p) == pytest.approx((test.se, test.df, test.p))


def test_seeds_that_agree_leave_the_noise_of_items() -> None:
    items = np.array([1.0, 0.0, 0.0, -1.0, 1.0, 1.0, 0.0, 0.0])
    found = mrmc([items, items, items])
    assert (found.se, found.df) == pytest.approx((items.std(ddof=1) / np.sqrt(8), math.inf))


def test_nothing_varies_and_nothing_differs() -> None:
    assert mrmc(np.zeros((3, 10))).p == 1.0


def test_nothing_varies_but_there_is_a_difference() -> None:
    assert mrmc(np.ones((3, 10))).p is None


def test_noise_is_split_into_seed_item_and_both() -> None:
    rng = np.random.default_rng(0)
    d = rng.normal(0, 0.3, (40, 1)) + rng.normal(0, 0.5, (1, 2000)) + rng.normal(0, 0.8, (40, 2000))
    found = mrmc(d)
    assert found.sigma_seed == pytest.approx(0.3, rel=0.25)
    assert found.sigma_item == pytest.approx(0.5, rel=0.05)
    assert found.sigma_seed_item == pytest.approx(0.8, rel=0.02)


def test_where_only_seeds_vary_the_degrees_of_freedom_are_those_of_the_seeds() -> None:
    assert hillis_df(1.0, 4) == 3


def test_where_seeds_do_not_vary_the_normal_holds() -> None:
    assert hillis_df(0.0, 4) == math.inf


def test_half_the_variance_of_seeds() -> None:
    """V² / (V_seed² / 3) with V = 2 V_seed."""
    assert hillis_df(0.5, 4) == 12
