"""Seeds × items, with clusters of items, against R 4.2.2.

The variance that clusters leave in a mean is that of the jackknife: `vcovCR(lm(x ~ 1), cluster, type = "CR3")` of clubSandwich
0.5.8 times (G − 1) / G; without clusters it is var(x) / n. What the items alone add to the variance of a mean over seeds is the
mean covariance of two seeds, each from three such variances: (V(x_i + x_j) − V(x_i) − V(x_j)) / 2, and 0 where that is less.
p and intervals come from numerical integration of the Behrens-Fisher distribution, items taken as many
(see `test_stats_behrens_fisher`).
"""

import math

import numpy as np
import pytest
from fixture_types import not_none
from r_tables import CLUSTERED, CLUSTERS, CLUSTERS_OF_ITEMS, RIGHT_BY_SEED, SEEDS_BY_ITEMS

from ablate.stats.inference import ItemNoise, contributions, infer, item_noise

# d [S, n], clusters; V_item, V_seed×item
NOISE = [
    (SEEDS_BY_ITEMS, None, 0.00950520833333, 0.0007421875),
    (SEEDS_BY_ITEMS, CLUSTERS_OF_ITEMS, 0.00405455994895, 0.000416562736206),
    (RIGHT_BY_SEED, None, 0.0124074074074, 0.00537037037037),
    (RIGHT_BY_SEED, list("aaabbccdee"), 0, 0.0060937106324),
]
# d [S, n]; V_item, V_seed×item; standard error, p, 95 % interval, 90 % interval
ANSWERS = [
    (SEEDS_BY_ITEMS, 0.00950520833333, 0.0007421875,
     0.124600054619, 0.249984781842, (-0.19831834459, 0.552485011256), (-0.102052467948, 0.456219134615)),
    (SEEDS_BY_ITEMS, 0.00488172743056, 0.000377423321759,
     0.104411171377, 0.199187572455, (-0.177333968354, 0.531500635021), (-0.07654988795, 0.430716554617)),
    (RIGHT_BY_SEED, 0.0124074074074, 0.00537037037037,
     0.1186342028, 0.0231206264668, (0.0463244617924, 0.553675538208), (0.0898511389756, 0.510148861024)),
    (RIGHT_BY_SEED, 0.000333333333333, 0.00566666666667,
     0.04472135955, 0.00531547283175, (0.166084401533, 0.433915598467), (0.19942255058, 0.40057744942)),
]  # fmt: skip


def test_standard_error_of_a_mean_over_clusters() -> None:
    """sqrt(vcovCR(lm(x ~ 1), cluster = g, type = "CR3") * 6 / 7)"""
    added, _ = contributions([CLUSTERED], CLUSTERS)
    assert math.sqrt((added**2).sum()) == pytest.approx(0.0814566504938, rel=1e-9)


def test_standard_error_of_a_mean_without_clusters() -> None:
    """sd(x) / sqrt(n)"""
    added, _ = contributions([CLUSTERED])
    assert math.sqrt((added**2).sum()) == pytest.approx(0.0784464540553, rel=1e-9)


@pytest.mark.parametrize(("d", "clusters", "item", "seed_item"), NOISE)
def test_what_the_items_add(
    d: list[list[float]], clusters: list[str] | None, item: float, seed_item: float
) -> None:
    found = not_none(item_noise(contributions(d, clusters)[0]))
    assert (found.item, found.seed_item) == pytest.approx((item, seed_item), rel=1e-9)


@pytest.mark.parametrize(("d", "item", "seed_item", "se", "p", "ci95", "ci90"), ANSWERS)
def test_a_contrast_over_seeds_and_items(
    d: list[list[float]],
    item: float,
    seed_item: float,
    se: float,
    p: float,
    ci95: tuple[float, float],
    ci90: tuple[float, float],
) -> None:
    found = infer(np.mean(d, axis=1), ItemNoise(item, seed_item, math.inf))
    assert (found.se, found.p) == pytest.approx((se, p), rel=1e-7)
    assert found.interval() == pytest.approx(ci95, rel=1e-7)
    assert found.interval(0.90) == pytest.approx(ci90, rel=1e-7)
