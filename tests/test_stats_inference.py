"""The one analysis behind every verdict: t over seeds, seeds by items, clusters, and what it says without noise."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from fixture_types import not_none
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from ablate.stats.inference import (
    Inference,
    ItemNoise,
    Method,
    contributions,
    infer,
    infer_from_items,
    item_noise,
)
from ablate.stats.mrmc import mrmc
from ablate.stats.paired import paired_t

numbers = st.floats(-10, 10).map(lambda x: round(x, 6))


def differences(
    seeds: int = 3,
    items: int = 50,
    sd_seed: float = 0.05,
    sd_item: float = 0.4,
    sd_both: float = 0.5,
    mean: float = 0.1,
    key: int = 0,
) -> NDArray[np.float64]:
    """[seeds, items] of a contrast, with every source of variation."""
    rng = np.random.default_rng([key, seeds, items])
    by_item = rng.normal(0, sd_item, items) + rng.normal(0, sd_both, (seeds, items))
    return mean + rng.normal(0, sd_seed, (seeds, 1)) + by_item


def analysed(d: NDArray[np.float64], clusters: Sequence[str] | None = None) -> Inference:
    return infer(d.mean(axis=1), item_noise(contributions(d, clusters)[0]))


@pytest.mark.parametrize("by_seed", [[0.01, 0.03, 0.02, 0.05], [0.4, -0.1], [1.0, 2.0, 9.0]])
def test_without_items_it_is_the_paired_t_over_seeds(by_seed: list[float]) -> None:
    found, test = infer(by_seed), not_none(paired_t(by_seed))
    assert (found.estimate, found.se, found.df, found.p) == pytest.approx(
        (test.estimate, test.se, test.df, test.p)
    )
    assert found.interval() == pytest.approx(test.ci95)


def test_with_items_the_variance_is_that_of_obuchowski_and_rockette() -> None:
    d = differences(seeds=4)
    found = analysed(d)
    assert found.method is Method.SEEDS_AND_ITEMS
    assert (found.estimate, found.se) == pytest.approx((mrmc(d).delta, mrmc(d).se))
    assert found.share == pytest.approx(mrmc(d).seed_share)


def test_the_components_of_the_items_are_those_of_a_two_way_table() -> None:
    d = differences(seeds=4)
    S, n = d.shape
    rest = d - d.mean(axis=1, keepdims=True) - d.mean(axis=0) + d.mean()
    v_item = d.mean(axis=0).var(ddof=1) / n
    v_both = (rest**2).sum() / ((S - 1) * (n - 1)) / (S * n)
    noise = not_none(item_noise(contributions(d)[0]))
    assert (noise.item, noise.seed_item) == pytest.approx((v_item - v_both, v_both))


def test_items_that_add_less_than_seed_by_item_does_add_nothing() -> None:
    d = differences(sd_item=0.0, key=2)
    noise = not_none(item_noise(contributions(d)[0]))
    assert (noise.item, noise.df) == (0.0, math.inf)
    assert analysed(d).p == pytest.approx(infer(d.mean(axis=1)).p)


def test_clusters_of_one_item_are_no_clusters() -> None:
    d = differences()
    own, labels = contributions(d, [f"item {i}" for i in range(50)])
    assert np.array_equal(own, contributions(d)[0])
    assert labels == [f"item {i}" for i in range(50)]


def test_items_given_five_times_count_once_in_clusters() -> None:
    """As fifty questions, each asked in five words, answered alike."""
    d = differences()
    five = np.repeat(d, 5, axis=1)
    found = analysed(five, [str(i // 5) for i in range(250)])
    assert (found.se, found.item_df) == pytest.approx((analysed(d).se, analysed(d).item_df))
    assert not_none(analysed(five).se) < 0.7 * not_none(found.se)


def test_one_cluster_alone_tells_no_noise() -> None:
    assert item_noise(contributions(differences(), ["all"] * 50)[0]) is None


def test_one_seed_tells_no_noise_of_items_beside_that_of_seeds() -> None:
    assert item_noise(contributions(differences(seeds=1))[0]) is None


def test_items_have_degrees_of_freedom_by_how_many_differ() -> None:
    """Twenty of a thousand differ: about twice as many, not a thousand."""
    d = np.zeros((1, 1000))
    d[0, :20] = 1.0
    assert infer_from_items(0.02, contributions(d)[0]).df == pytest.approx(40, abs=5)


def test_one_seed_over_its_items_is_the_one_sample_t_of_them() -> None:
    d = differences(seeds=1)
    found, test = infer_from_items(float(d.mean()), contributions(d)[0]), stats.ttest_1samp(d[0], 0)
    assert found.method is Method.ITEMS
    assert not_none(found.estimate) / not_none(found.se) == pytest.approx(test.statistic)


def test_no_seed_says_nothing() -> None:
    assert infer([math.nan, math.nan]) == Inference(None, 0)


def test_one_seed_says_an_estimate_and_no_more() -> None:
    found = infer([0.3])
    assert (found.estimate, found.method, found.se, found.df, found.interval(), found.p, found.mde80()) == (
        0.3, Method.ONE_SEED, None, None, None, None, None,
    )  # fmt: skip


def test_a_seed_that_cannot_tell_does_not_count() -> None:
    assert infer([0.1, math.nan, 0.4, 0.3]) == infer([0.1, 0.4, 0.3])


@pytest.mark.parametrize("by_seed", [[0.1, 0.1, 0.1], [0.0, 0.0]])
@pytest.mark.parametrize("items", [None, ItemNoise(0.0, 0.0, math.inf)])
def test_without_noise_there_is_no_p(by_seed: list[float], items: ItemNoise | None) -> None:
    found = infer(by_seed, items)
    assert (found.method, found.p, found.interval()) == (Method.NO_VARIANCE, None, None)


def test_what_rounding_leaves_of_nothing_is_nothing() -> None:
    """1 · .99 − (1 − 1e-15) · .99, in each of three seeds: no effect, and no noise."""
    found = infer([1e-15, 9e-16, 1.1e-15], ItemNoise(1e-34, 1e-34, 5.0), scale=0.99)
    assert (found.estimate, found.method) == (0.0, Method.NO_VARIANCE)


@pytest.mark.parametrize("seeds", [2, 3, 10])
def test_the_degrees_of_freedom_give_the_interval(seeds: int) -> None:
    found = analysed(differences(seeds))
    half = found.se * stats.t.ppf(0.975, found.df)
    assert found.interval() == pytest.approx((found.estimate - half, found.estimate + half), rel=1e-6)


@given(
    by_seed=st.lists(numbers, min_size=2, max_size=6),
    item=st.none() | st.floats(0, 4),
    item_df=st.sampled_from([1.0, 7.5, 300.0, math.inf]),
)
def test_p_is_below_5_percent_where_the_95_percent_interval_excludes_0(
    by_seed: list[float], item: float | None, item_df: float
) -> None:
    found = infer(by_seed, None if item is None else ItemNoise(item, 0.0, item_df))
    if found.p is not None and abs(found.p - 0.05) > 1e-9:
        low, high = not_none(found.interval())
        assert (found.p < 0.05) == (not low <= 0 <= high)


@given(by_seed=st.lists(numbers, min_size=2, max_size=6), item=st.none() | st.floats(0, 4))
def test_the_sign_of_the_contrast_changes_nothing_but_signs(by_seed: list[float], item: float | None) -> None:
    items = None if item is None else ItemNoise(item, 0.0, 30.0)
    found, turned = infer(by_seed, items), infer([-x for x in by_seed], items)
    assert (turned.estimate, turned.se, turned.p) == (-not_none(found.estimate), found.se, found.p)


@pytest.mark.parametrize(("seeds", "share", "item_df"), [(2, 0.7, math.inf), (3, 0.3, 40.0), (5, 0.8, 100.0)])
@pytest.mark.parametrize("comparisons", [1, 6])
def test_the_detectable_effect_is_found_four_times_out_of_five(
    seeds: int, share: float, item_df: float, comparisons: int
) -> None:
    """In studies whose true noise is what one study found. Monte Carlo error .0089."""
    rng, studies = np.random.default_rng(seeds), 2000
    v_seed, v_item = share, 1 - share
    shape = Inference(0.0, seeds, Method.SEEDS_AND_ITEMS, 1.0, v_seed=v_seed, v_item=v_item, item_df=item_df)
    effect = not_none(shape.mde80(1 / comparisons))
    found = 0
    for by_seed in rng.normal(0, np.sqrt(v_seed * seeds), (studies, seeds)):
        drawn = v_item * (rng.chisquare(item_df) / item_df if math.isfinite(item_df) else 1.0)
        of_items = rng.normal(0, np.sqrt(v_item))
        p = infer(effect + of_items + by_seed, ItemNoise(drawn, 0.0, item_df)).p
        found += not_none(p) < 0.05 / comparisons
    assert found / studies == pytest.approx(0.8, abs=3 * 0.0089)


def test_a_smaller_share_of_alpha_needs_a_larger_effect() -> None:
    found = analysed(differences())
    assert not_none(found.mde80()) < not_none(found.mde80(1 / 4)) < not_none(found.mde80(1 / 16))


def test_a_difference_below_single_precision_is_nothing() -> None:
    found = infer([5e-8, 6e-8, 5.5e-8], scale=0.8)
    assert (found.estimate, found.method) == (0.0, Method.NO_VARIANCE)
    assert infer([5e-8, 6e-8, 5.5e-8], scale=1e-4).method is Method.SEEDS
