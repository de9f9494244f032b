import math

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as t_dist

from ablate.stats.distributions import t_p
from ablate.stats.mrmc import cautious_df, cautious_mde, cautious_p, hillis_df, mrmc
from ablate.stats.paired import paired_t
from ablate.stats.power import mde


def test_by_hand():
    """Seeds average 1 and −1, so V_seed = 2/2; all items average 0, so V_item = 0: V = 1 on 1 degree of freedom."""
    found = mrmc([[1.0, 0.0, 2.0], [-1.0, 0.0, -2.0]])
    assert (found.delta, found.se, found.df) == (0.0, pytest.approx(1.0), pytest.approx(1.0))


def test_formula_of_variance_and_degrees_of_freedom():
    d = np.random.default_rng(2).normal(size=(4, 30)) + np.random.default_rng(3).normal(size=30)
    v_seed, v_item = d.mean(axis=1).var(ddof=1) / 4, d.mean(axis=0).var(ddof=1) / 30
    residual = d - d.mean(axis=1, keepdims=True) - d.mean(axis=0) + d.mean()
    v = v_seed + max(v_item - (residual**2).sum() / (3 * 29) / (4 * 30), 0)
    found = mrmc(d)
    assert (found.se**2, found.df) == (pytest.approx(v), pytest.approx(v**2 / (v_seed**2 / 3)))


def test_seeds_alone_give_the_paired_t():
    """Items that all agree add nothing: what is left is the paired t over seeds."""
    by_seed = np.array([0.01, 0.03, 0.02, 0.05])
    found, test = mrmc(np.tile(by_seed[:, None], (1, 20))), paired_t(by_seed)
    assert (found.se, found.df, found.p) == pytest.approx((test.se, test.df, test.p))


def test_seeds_that_agree_leave_the_noise_of_items():
    items = np.array([1.0, 0.0, 0.0, -1.0, 1.0, 1.0, 0.0, 0.0])
    found = mrmc([items, items, items])
    assert (found.se, found.df) == (pytest.approx(items.std(ddof=1) / np.sqrt(8)), math.inf)


def test_nothing_varies_and_nothing_differs():
    assert mrmc(np.zeros((3, 10))).p == 1.0


def test_nothing_varies_but_there_is_a_difference():
    assert mrmc(np.ones((3, 10))).p is None


def test_noise_is_split_into_seed_item_and_both():
    rng = np.random.default_rng(0)
    d = rng.normal(0, 0.3, (40, 1)) + rng.normal(0, 0.5, (1, 2000)) + rng.normal(0, 0.8, (40, 2000))
    found = mrmc(d)
    assert (found.sigma_seed, found.sigma_item, found.sigma_seed_item) == (
        pytest.approx(0.3, rel=0.25), pytest.approx(0.5, rel=0.05), pytest.approx(0.8, rel=0.02)
    )  # fmt: skip


@pytest.mark.parametrize("seeds", range(2, 40))
@pytest.mark.parametrize("t", [1e-9, 0.3, 2.5, 40.0, 1e6])
def test_the_cautious_p_lies_between_those_of_the_items_and_of_the_seeds(seeds, t):
    found = [cautious_p(t, share, seeds) for share in (0.0, 1e-6, 0.01, 0.5, 0.99, 1.0)]
    assert found == pytest.approx(sorted(found), rel=1e-6)
    assert (found[0], found[-1]) == (t_p(t, math.inf), t_p(t, seeds - 1))
    assert cautious_p(-t, 0.5, seeds) == cautious_p(t, 0.5, seeds)


@pytest.mark.parametrize("seeds", [2, 3, 4, 5, 10, 21])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
@pytest.mark.parametrize("alpha", [0.05, 0.005, 1e-6])
def test_the_cautious_p_inverts_the_weighted_critical_values(seeds, share, alpha):
    critical = share * t_dist.isf(alpha / 2, seeds - 1) + (1 - share) * norm.isf(alpha / 2)
    assert cautious_p(critical, share, seeds) == pytest.approx(alpha, rel=1e-6)


def test_no_difference_has_p_1():
    assert cautious_p(0.0, 0.4, 3) == 1.0


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_detectable_effects_are_those_of_t_and_of_the_normal_at_the_ends(seeds):
    assert cautious_mde(2.0, 1.0, seeds) == pytest.approx(mde(2.0, seeds - 1), rel=2e-3)
    assert cautious_mde(2.0, 0.0, seeds) == pytest.approx(mde(2.0, math.inf))


@pytest.mark.parametrize(("seeds", "share"), [(2, 0.2), (2, 0.7), (3, 0.5), (5, 0.8)])
def test_the_detectable_effect_is_found_four_times_out_of_five(seeds, share):
    rng, studies = np.random.default_rng(seeds), 4000
    effect = cautious_mde(1.0, share, seeds)
    v_seed = share * rng.chisquare(seeds - 1, studies) / (seeds - 1)
    v = v_seed + 1 - share
    t = rng.normal(effect, 1, studies) / np.sqrt(v)
    found = [cautious_p(*one, seeds) < 0.05 for one in zip(t, v_seed / v, strict=True)]
    assert np.mean(found) == pytest.approx(0.8, abs=3 * 0.0063)  # Monte Carlo error .0063


def test_where_only_seeds_vary_all_rules_are_the_t_of_the_seeds():
    assert (hillis_df(1.0, 4), cautious_df(1.0, 4)) == (3, 3)
    assert cautious_p(2.5, 1.0, 4) == pytest.approx(t_p(2.5, 3))


def test_where_seeds_do_not_vary_all_rules_are_the_normal():
    assert (hillis_df(0.0, 4), cautious_df(0.0, 4)) == (math.inf, math.inf)
    assert cautious_p(2.5, 0.0, 4) == pytest.approx(t_p(2.5, math.inf))


def test_half_the_variance_of_seeds():
    """1 / df is the mean of 1/3 and 0; a critical value the mean of those of t on 3 df (3.18) and the normal (1.96)."""
    assert (hillis_df(0.5, 4), cautious_df(0.5, 4)) == (12, 6)
    assert cautious_p((3.182446 + 1.959964) / 2, 0.5, 4) == pytest.approx(0.05, abs=1e-6)
