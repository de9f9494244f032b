"""Whole simulated studies, judged by the report's own pipeline: how often a false claim is made, and a planted effect found.

Sources of variation: see `simulated_studies.Regime`. Left out: drift of code or hardware between trials, items that appear in
train and dev, factors that change which items are scored."""

import math

import numpy as np
import pytest
from simulated_studies import Regime, assess

pytestmark = pytest.mark.slow

STUDIES = 400
# Over some 60 regimes, the largest of as many means that are exactly .05 stays below this in 95 of 100 runs.
Z = 3.1
BOUND = 0.05 + Z * math.sqrt(0.05 * 0.95 / STUDIES)

NULL = [
    # The issue that started this: designs that pool a residual claimed something in .40, .56, .68, .145 and .67 of these.
    Regime("full 2^3", 3, 200, choice_item=0.3),
    Regime("full 2^3", 5, 1000, accuracy=0.92, choice_item=0.3),
    Regime("full 2^4", 3, 500, choice_item=0.3),
    Regime("full 2^3", 3, None, run=1.0, choice_seed=1.0),
    Regime("full 2^6", 5, None, run=1.0, choice_seed=0.5),
    # Few items and accuracies near 1, where differences take few values.
    *[Regime("full 2^3", s, n, accuracy=acc) for s in (2, 3, 5) for n, acc in ((50, 0.5), (50, 0.99), (200, 0.99))],
    *[Regime("two cells", s, n, accuracy=acc) for s in (2, 3, 10) for n, acc in ((50, 0.9), (1000, 0.9), (5000, 0.99))],
    # Seeds from nothing to everything.
    *[Regime("full 2^3", 3, 500, run=run) for run in (0.0, 0.1, 0.5, 2.0)],
    *[Regime("one at a time", s, 500, run=0.3, choice_seed=0.3, choice_item=0.2) for s in (2, 3, 5, 10)],
    Regime("one at a time", 3, 500, cell_item=0.3, seed_item=0.3, seed=0.5),
    # Other designs.
    Regime("fraction III", 3, 200, choice_item=0.2, run=0.1),
    Regime("fraction IV", 3, 200, choice_item=0.2, run=0.1),
    Regime("conditional", 3, 200, choice_item=0.2, run=0.1),
    Regime("shared parts", 3, 200, kind="composite", choice_item=0.2, run=0.1),
    Regime("shared parts, one at a time", 3, 200, kind="composite", choice_item=0.2, run=0.1),
    Regime("numeric", 3, 200, choice_item=0.2, run=0.1),
    # Other metrics.
    Regime("two cells", 3, 200, kind="pearson", choice_item=0.3),
    Regime("two cells", 3, 200, kind="pearson", choice_item=0.3, heavy=True),
    Regime("full 2^3", 3, 200, kind="composite", choice_item=0.3),
    # Things that go wrong.
    Regime("full 2^3", 3, 200, diverged=0.1),
    Regime("one at a time", 5, 200, diverged=0.1),
    Regime("full 2^3", 5, 200, lost=0.1),
    Regime("full 2^3", 5, 200, seeds_missing=(2, 0, 1, 0, 3)),
    Regime("two cells", 5, 200, crashing=3, run=0.3),
    Regime("two cells", 5, None, crashing=3, run=1.0),
    *[Regime("two cells", s, None, run=0.3, epochs=10, epoch=1.0) for s in (3, 5, 10)],
    # Clusters.
    *[Regime("two cells", 5, 400, accuracy=0.8, cluster_sizes=(k, k), choice_cluster=0.5) for k in (5, 10, 20)],
]  # fmt: skip
# A choice that differs from epoch to epoch is scored by its best one: its interval is of that flattered score.
INTERVAL_OF_ANOTHER_SCORE = [regime for regime in NULL if regime.epochs > 1 or regime.crashing]


@pytest.mark.parametrize("regime", NULL, ids=str)
def test_without_an_effect_few_studies_claim_one(regime):
    found = assess(regime, STUDIES)
    print(f"\n{regime}: {found}")
    assert np.nanmean(found.false) <= BOUND
    if regime not in INTERVAL_OF_ANOTHER_SCORE:
        assert np.nanmean(found.covered) >= 1 - BOUND


@pytest.mark.parametrize("design", ["half III", "fraction III", "half IV", "fraction IV"])
def test_an_effect_that_an_interaction_makes_is_claimed_with_its_alias_only(design):
    found = assess(Regime(design, 5, None, run=1.0, interactions={("a", "b"): 3.0}), STUDIES)
    print(f"\n{design}: {found}")
    assert np.nanmean(found.false) <= BOUND


HONEST_BEFORE = [
    Regime("two cells", 3, 1000, run=0.05, effects={"a": 0.15}),
    Regime("two cells", 5, 1000, run=0.05, effects={"a": 0.15}),
    Regime("two cells", 5, 1000, run=0.2, effects={"a": 0.4}),
    Regime("two cells", 5, None, run=1.0, effects={"a": 2.0}),
    Regime("one at a time", 5, 1000, run=0.05, effects={"a": 0.2}),
]


@pytest.mark.parametrize("regime", HONEST_BEFORE, ids=str)
def test_power_of_two_cells_is_not_lost_where_the_old_test_was_honest(regime):
    """Before: critical values after Cochran and Cox. Power may be a tenth less, and what chance takes."""
    found = assess(regime, STUDIES, old=True)
    print(f"\n{regime}: {found}")
    before = float(np.nanmean(found.old_found))
    assert np.nanmean(found.found) >= 0.9 * before - 2 * math.sqrt(before * (1 - before) / STUDIES)
