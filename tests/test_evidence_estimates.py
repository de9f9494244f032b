import numpy as np
import pytest

from ablate.evidence.estimates import INCONCLUSIVE, Estimate, judge_primary, over_seeds, seeds_and_items
from ablate.stats.mrmc import cautious_mde
from ablate.stats.power import mde


def estimates(*values: float) -> list[Estimate]:
    return [
        Estimate(value, 3, 0.01, 4, p, "paired t over seeds")
        for value, p in zip(values, (0.3, 0.5), strict=True)
    ]


def test_the_detectable_effect_is_that_of_the_corrected_verdict():
    first, _ = judge_primary(estimates(0.012, 0.007), [False, False], None, "maximize")
    assert (first.verdict, first.mde80) == (INCONCLUSIVE, pytest.approx(mde(0.01, 4, alpha=0.025)))


def test_a_comparison_without_p_is_not_corrected_for():
    unknown = over_seeds(np.array([0.02, 0.02, 0.02]))
    first, *_ = judge_primary([*estimates(0.012, 0.007), unknown], [False] * 3, None, "maximize")
    assert first.mde80 == pytest.approx(mde(0.01, 4, alpha=0.025))


def test_with_items_the_detectable_effect_follows_the_rule_of_its_p():
    found = seeds_and_items(np.array([0.01, 0.02, 0.04]), 4e-5)
    assert found.mde80(5) == pytest.approx(cautious_mde(found.se, found.seed_share, 3, alpha=0.01))
