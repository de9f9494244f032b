"""Whole studies that add seeds, simulated: how often they err, and what they cost beside a fixed number of seeds."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from fixture_types import not_none
from numpy.random import Generator, default_rng

from ablate.evidence.effects import Kind
from ablate.evidence.looks import Comparison, Key, LookResult, Stop, next_results
from ablate.spec.model import Looking, Metric, StudySpec
from ablate.spec.reading import parse_study
from ablate.stats.inference import Inference, ItemNoise, infer
from ablate.stats.multiple import holm

STUDY = """\
study: s
trainer: t
factors: {a: [0, 1]}
baseline: {a: 0}
design: one_at_a_time
seeds: {start: [1, 2], at_most: 10}
metric: {name: dev/score}
"""
SMALLEST = 1.0  # smallest effect of interest, in standard deviations of a paired difference


def spec_of(looks: tuple[int, ...], smallest: float | None = SMALLEST) -> StudySpec:
    return parse_study(STUDY).model_copy(
        update={
            "looking": Looking(start=looks[0], looks=looks),
            "metric": Metric(name="dev/score", smallest_effect=smallest),
        }
    )


def followed(
    spec: StudySpec, infer_at: Callable[[int, int], Inference], comparisons: int
) -> dict[Key, LookResult]:
    """Follow a study look by look; `infer_at(comparison, seeds)` is what the first so many seeds say."""
    before: list[dict[Key, LookResult]] = []
    for seeds in not_none(spec.looking).looks:
        found = []
        for k in range(comparisons):
            inference = infer_at(k, seeds)
            found.append(Comparison(Kind.LEVELS, f"f{k}", 0, 1, inference, inference.p))
        before.append(next_results(found, before, spec))
        if all(seen.stop for seen in before[-1].values()):
            break
    return before[-1]


def paired(
    rng: Generator, comparisons: int, effect: float, seeds: int = 10
) -> Callable[[int, int], Inference]:
    """Differences of a paired seed: their baseline is shared, as in one_at_a_time; sd 1."""
    noise = rng.standard_normal((comparisons + 1, seeds)) / math.sqrt(2)
    values = effect + noise[1:] - noise[0]
    return lambda k, first: infer(values[k, :first])


def with_items(
    rng: Generator, comparisons: int, sd_item: float, effect: float = 0.0
) -> Callable[[int, int], Inference]:
    """As `paired`, on items of their own, whose noise does not become less with seeds.

    What the items add is known to 200 degrees of freedom."""
    seeds_ = effect + rng.standard_normal((comparisons, 10))
    items = sd_item * rng.standard_normal(comparisons)
    found = sd_item**2 * rng.chisquare(200, comparisons) / 200
    return lambda k, seeds: infer(seeds_[k, :seeds] + items[k], ItemNoise(float(found[k]), 0.0, 200.0))


def monte_carlo_bound(studies: int) -> float:
    return 0.05 + 2 * math.sqrt(0.05 * 0.95 / studies)


@pytest.mark.slow
@pytest.mark.parametrize("comparisons", [1, 8])
@pytest.mark.parametrize(
    "looks",
    [(10,), (5, 10), (3, 5, 10), (3, 5, 8, 10), (2, 4, 6, 8, 10), tuple(range(2, 11)), tuple(range(3, 13))],
)
def test_however_often_one_looks_a_study_of_nothing_claims_something_in_five_of_a_hundred(
    looks: tuple[int, ...], comparisons: int
) -> None:
    rng, spec, studies = default_rng(comparisons), spec_of(looks, None), 4000 if comparisons == 1 else 1400
    claimed = sum(
        any(
            seen.rejected
            for seen in followed(spec, paired(rng, comparisons, 0.0, looks[-1]), comparisons).values()
        )
        for _ in range(studies)
    )
    print(
        f"looks {looks}, {comparisons} comparisons: familywise error {claimed / studies:.4f} ({studies} studies)"
    )
    assert claimed / studies <= monte_carlo_bound(studies)


@pytest.mark.slow
@pytest.mark.parametrize("sd_item", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("comparisons", [1, 8])
def test_noise_of_items_that_seeds_do_not_lower_leaves_the_error_at_five(
    sd_item: float, comparisons: int
) -> None:
    rng, spec, studies = default_rng(1), spec_of((3, 5, 10), None), 1200 if comparisons == 1 else 400
    claimed = sum(
        any(
            seen.rejected
            for seen in followed(spec, with_items(rng, comparisons, sd_item), comparisons).values()
        )
        for _ in range(studies)
    )
    print(
        f"items {sd_item}, {comparisons} comparisons: familywise error {claimed / studies:.4f} ({studies} studies)"
    )
    assert claimed / studies <= monte_carlo_bound(studies)


@pytest.mark.slow
@pytest.mark.parametrize("sd_item", [0.0, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("looks", [(3, 5, 10), (2, 4, 6, 8, 10)])
def test_repeated_intervals_hold_the_truth_at_every_look(looks: tuple[int, ...], sd_item: float) -> None:
    rng, spec, studies = default_rng(2), spec_of(looks, None), 1500
    held = 0
    for _ in range(studies):
        at, every = with_items(rng, 1, sd_item, 0.7) if sd_item else paired(rng, 1, 0.7), True
        before: list[dict[Key, LookResult]] = []
        for seeds in looks:
            found = at(0, seeds)
            seen = next_results([Comparison(Kind.LEVELS, "f", 0, 1, found, found.p)], before, spec)
            before.append({key: one.model_copy(update={"stop": None}) for key, one in seen.items()})
            (one,) = seen.values()
            low, high = not_none(one.ci95)
            every &= low <= 0.7 <= high
        held += every
    print(f"repeated intervals, looks {looks}, items {sd_item}: all hold in {held / studies:.4f}")
    # Where the share of the items in the noise is estimated too, looks take up to 5.7 % (see the documentation).
    least = 0.943 if sd_item else 0.95
    assert held / studies >= least - 2 * math.sqrt(0.05 * 0.95 / studies)


@pytest.mark.slow
@pytest.mark.parametrize("sd_item", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("looks", [(3, 5, 10), (3, 5, 8, 10), (2, 4, 6, 8, 10)])
def test_an_effect_that_just_matters_is_called_too_small_at_some_look_in_at_most_five_of_a_hundred(
    looks: tuple[int, ...], sd_item: float
) -> None:
    rng, spec, studies = default_rng(4), spec_of(looks), 2000
    called = 0
    for _ in range(studies):
        at = with_items(rng, 1, sd_item, SMALLEST) if sd_item else paired(rng, 1, SMALLEST)
        (seen,) = followed(spec, at, 1).values()
        called += seen.stop is Stop.NO_DIFFERENCE
    print(f"looks {looks}, items {sd_item}: called too small {called / studies:.4f} ({studies} studies)")
    assert called / studies <= monte_carlo_bound(studies)


@pytest.mark.slow
@pytest.mark.parametrize("times", [0, 1, 2, 4])
@pytest.mark.parametrize("comparisons", [1, 8])
def test_seeds_are_saved_and_power_is_that_of_a_fixed_number(times: int, comparisons: int) -> None:
    """Power within .06 of ten seeds for all; a large effect, or none, needs fewer seeds."""
    rng, spec, studies = default_rng(3), spec_of((3, 5, 8, 10)), 600 if comparisons == 1 else 150
    seeds, power, fixed, same = [], [], [], []
    for _ in range(studies):
        at = paired(rng, comparisons, times * SMALLEST)
        last = list(followed(spec, at, comparisons).values())
        seeds += [seen.seeds for seen in last]
        power += [seen.rejected for seen in last]
        same += [seen.stop is Stop.NO_DIFFERENCE for seen in last]
        fixed += [not_none(p) < 0.05 for p in holm([at(k, 10).p for k in range(comparisons)])]
    print(
        f"effect {times} × smallest, {comparisons} comparisons: {np.mean(seeds):.2f} seeds, claimed {np.mean(power):.3f} "
        f"(ten seeds: {np.mean(fixed):.3f}), no difference {np.mean(same):.3f}"
    )
    assert np.mean(seeds) < 10
    assert np.mean(power) >= np.mean(fixed) - (0.06 if times else 1)
