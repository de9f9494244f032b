import math

import pytest
from fixture_types import not_none
from scipy import stats

from ablate.stats.inference import Inference, Method
from ablate.stats.optimism import expected_best
from ablate.stats.power import mde, mde_paired, pooled_sd
from ablate.stats.verdicts import verdict


@pytest.mark.parametrize("df", [1.3, 2, 4, 20, 300])
def test_power_at_the_detectable_effect_is_80_percent(df: float) -> None:
    critical = stats.t.ppf(0.975, df)
    assert stats.nct.sf(critical, df, mde(1.0, df)) == pytest.approx(0.8, abs=1e-9)


def test_detectable_effect_with_known_noise() -> None:
    assert mde(2.0, math.inf) == pytest.approx(2 * (1.959964 + 0.841621), abs=1e-5)


def test_cohens_paired_sample() -> None:
    """Cohen 1988: a paired effect of .5 sd needs 34 pairs for a power of 80 %."""
    assert not_none(mde_paired(1.0, 33)) > 0.5 >= not_none(mde_paired(1.0, 34)) - 5e-4


def test_one_seed_detects_nothing() -> None:
    assert mde_paired(0.01, 1) is None


def test_noise_is_pooled_by_degrees_of_freedom() -> None:
    sd, df = pooled_sd([[1.0, 2.0, 6.0], [5.0], [3.0, 4.0]])
    assert (sd, df) == pytest.approx((math.sqrt((14 + 0 + 0.5) / 3), 3))


def test_nothing_repeated_has_no_known_noise() -> None:
    assert pooled_sd([[1.0], [2.0]]) == (None, 0)


@pytest.mark.parametrize(
    ("k", "expected"), [(1, 0.0), (2, 0.56419), (5, 1.16296), (10, 1.53875), (100, 2.50759)]
)
def test_best_of_equals_is_tippetts_table(k: int, expected: float) -> None:
    assert expected_best(k) == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize(
    ("estimate", "p", "goal", "word"),
    [
        (0.02, 0.01, "maximize", "helps"),
        (-0.02, 0.01, "maximize", "hurts"),
        (0.02, 0.01, "minimize", "hurts"),
        (-0.02, 0.01, "minimize", "helps"),
        (0.02, 0.2, "maximize", "inconclusive"),
        (0.001, 0.2, "maximize", "no difference that matters"),
        (0.001, None, "maximize", "no difference that matters"),
    ],
)
def test_verdicts(estimate: float, p: float | None, goal: str, word: str) -> None:
    assert verdict(Inference(estimate, 21, Method.SEEDS, 0.001, 20, p), p, 0.005, goal) == word


def test_without_a_smallest_effect_nothing_is_called_no_difference() -> None:
    assert verdict(Inference(0.0, 21, Method.SEEDS, 1e-9, 20, 0.9), 0.9) == "inconclusive"


def test_without_noise_nothing_is_concluded() -> None:
    assert verdict(Inference(0.5, 3, Method.NO_VARIANCE), None, 0.005) == "inconclusive"
