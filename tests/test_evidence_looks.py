"""What is seen at a look: sequential p under Holm, repeated intervals, and what stops a comparison for good."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from fixture_types import not_none
from test_evidence_looks_simulation import spec_of

from ablate.evidence.effects import Kind
from ablate.evidence.looks import Comparison, Key, LookResult, Stop, next_results
from ablate.spec.model import StudySpec
from ablate.stats.inference import Inference, ItemNoise, infer
from ablate.stats.multiple import holm
from ablate.stats.sequential import nominal_levels, sequential_p
from ablate.stats.verdicts import Verdict

LOOKS = (3, 5, 10)


def comparison(inference: Inference, factor: str = "f", **changes: Any) -> Comparison:
    return Comparison(Kind.LEVELS, factor, 0, 1, inference, inference.p, frozenset({"x"}), **changes)


def values(mean: float, seeds: int, sd: float = 1.0) -> Inference:
    """Seeds with exactly this mean and standard deviation."""
    spread = np.linspace(-1, 1, seeds)
    return infer(mean + sd * spread / spread.std(ddof=1))


def look(
    found: list[Comparison], before: Sequence[Mapping[Key, LookResult]], spec: StudySpec
) -> dict[str, LookResult]:
    return {one.factor: one for one in next_results(found, before, spec).values()}


def follow(spec: StudySpec, *of_looks: list[Comparison]) -> list[dict[Key, LookResult]]:
    before: list[dict[Key, LookResult]] = []
    for found in of_looks:
        before.append(next_results(found, before, spec))
    return before


def until_a_width(looks: tuple[int, ...], width: float) -> StudySpec:
    spec = spec_of(looks)
    return spec.model_copy(update={"looking": not_none(spec.looking).model_copy(update={"width": width})})


def one(looked: dict[Key, LookResult]) -> LookResult:
    (seen,) = looked.values()
    return seen


def test_holm_runs_over_sequential_p() -> None:
    spec = spec_of(LOOKS)
    p = {"a": values(2.0, 5), "b": values(1.0, 5), "c": values(0.1, 5)}
    first = [comparison(values(1.0, 3), name) for name in p]
    second = [comparison(found, name) for name, found in p.items()]
    seen = {s.factor: s for s in follow(spec, first, second)[-1].values()}
    sequential = [sequential_p([values(1.0, 3).p, found.p], [0.3, 0.5]) for found in p.values()]
    assert [seen[name].p_holm for name in p] == pytest.approx(holm(sequential))


def test_a_rejected_comparison_is_decided_and_helps() -> None:
    seen = one(next_results([comparison(values(50.0, 5, 0.1))], [], spec_of((5, 10))))
    assert (seen.rejected, seen.stop, seen.verdict("maximize")) == (True, Stop.DECIDED, Verdict.HELPS)
    assert seen.verdict("minimize") is Verdict.HURTS


def test_what_stopped_is_the_same_whatever_further_seeds_say() -> None:
    first, second = follow(
        spec_of((5, 10)), [comparison(values(50.0, 5, 0.1))], [comparison(values(-3.0, 10))]
    )
    assert second == first


def test_a_comparison_may_begin_at_a_later_look() -> None:
    """As a slope does whose last level had no result before: it spends its alpha from then on."""
    late = comparison(values(50.0, 5, 0.1), "late")
    first, second = follow(
        spec_of((3, 5, 10)), [comparison(values(0.9, 3))], [comparison(values(0.9, 5)), late]
    )
    assert [seen.factor for seen in first.values()] == ["f"]
    (seen,) = [seen for seen in second.values() if seen.factor == "late"]
    assert (seen.look, seen.stop, seen.level) == (2, Stop.DECIDED, nominal_levels([seen.fraction])[0])


def test_a_small_effect_known_well_is_no_difference_that_matters() -> None:
    seen = one(next_results([comparison(values(0.01, 5, 0.05))], [], spec_of((5, 10))))
    assert (seen.stop, seen.verdict("maximize")) == (Stop.NO_DIFFERENCE, Verdict.NO_DIFFERENCE)
    low, high = not_none(seen.ci90)
    assert -1 < low < high < 1


def test_no_difference_needs_the_repeated_interval_inside() -> None:
    """The plain 90 % interval is inside ± 1 here, that of the first of two looks is not."""
    found = values(0.2, 5)
    low, high = not_none(found.interval(0.90))
    assert -1.2 < low < high < 1.2
    assert one(next_results([comparison(found)], [], spec_of((5, 10), 1.2))).stop is not Stop.NO_DIFFERENCE


def test_a_comparison_without_a_chance_is_given_up() -> None:
    seen = one(next_results([comparison(values(0.3, 8))], [], spec_of((8, 10), 0.1)))
    assert not_none(seen.chance) < 0.1
    assert (seen.stop, seen.verdict("maximize")) == (Stop.FUTILE, Verdict.INCONCLUSIVE)


def test_a_comparison_with_a_chance_goes_on() -> None:
    seen = one(next_results([comparison(values(0.9, 5))], [], spec_of((5, 10))))
    assert (not_none(seen.chance) > 0.1, seen.stop) == (True, None)


def test_nothing_is_futile_at_the_last_look() -> None:
    seen = one(next_results([comparison(values(0.3, 10))], [], spec_of((10,), 0.1)))
    assert (seen.chance, seen.stop, seen.verdict("maximize")) == (None, None, Verdict.INCONCLUSIVE)


def test_the_repeated_interval_has_the_nominal_level_of_its_look() -> None:
    seen = one(next_results([comparison(values(0.9, 5))], [], spec_of((5, 10))))
    level = nominal_levels([0.5])[0]
    assert seen.level == pytest.approx(level)
    assert seen.ci95 == pytest.approx(values(0.9, 5).interval(1 - level))


def test_one_look_is_an_ordinary_study() -> None:
    found = values(0.9, 10)
    seen = one(next_results([comparison(found)], [], spec_of((10,))))
    assert seen.p_holm == pytest.approx(found.p, rel=1e-3)
    assert seen.ci95 == pytest.approx(found.interval(0.95), rel=1e-6)


def test_items_make_the_first_look_worth_more_of_the_alpha() -> None:
    with_items = infer(
        values(1.0, 5).estimate + np.array([-1, -0.5, 0, 0.5, 1.0]), ItemNoise(0.5, 0.0, 500.0)
    )
    without = one(next_results([comparison(values(1.0, 5))], [], spec_of((5, 10))))
    assert without.fraction == pytest.approx(0.5)
    assert one(next_results([comparison(with_items)], [], spec_of((5, 10)))).fraction > 0.7


def test_information_that_seems_to_shrink_spends_nothing_twice() -> None:
    spec = until_a_width((3, 5, 10), 1e-9)  # nothing stops
    sure = infer(np.array([1.0, 1.01, 1.02]) * 0.6, ItemNoise(0.1, 0.0, 500.0))
    unsure = infer(np.array([-3.0, 4, 0, 2, 1]), ItemNoise(0.01, 0.0, 500.0))
    first, second = (one(seen) for seen in follow(spec, [comparison(sure)], [comparison(unsure)]))
    assert first.stop is None
    assert (first.fraction, second.fraction) == pytest.approx((0.98, 0.99))


def test_alpha_that_is_spent_is_not_spent_again_when_seeds_are_added() -> None:
    done = one(next_results([comparison(values(0.9, 10, 1.3))], [], spec_of((10,), 0.1)))
    more = one(next_results([comparison(values(0.9, 20, 1.3))], [{done.key: done}], spec_of((10, 20), 0.1)))
    assert not_none(values(0.9, 20, 1.3).p) < not_none(done.p)
    assert more.p_sequential == pytest.approx(done.p_sequential)


def test_the_same_part_on_both_sides_needs_no_seeds() -> None:
    seen = one(next_results([comparison(infer(np.zeros(3)), same=True)], [], spec_of(LOOKS)))
    assert (seen.stop, seen.verdict("maximize")) == (Stop.SAME_PART, Verdict.NO_DIFFERENCE)


@pytest.mark.parametrize("found", [infer(np.array([])), infer(np.array([1.0])), infer(np.array([1.0, 1.0]))])
def test_without_noise_nothing_stops(found: Inference) -> None:
    seen = one(next_results([comparison(found)], [], spec_of(LOOKS)))
    assert (seen.stop, seen.p_sequential, seen.ci95) == (None, None, None)


def test_until_a_width_only_the_interval_stops_a_comparison() -> None:
    spec = until_a_width((5, 10), 1.0)
    wide = one(next_results([comparison(values(50.0, 5))], [], spec))
    narrow = one(next_results([comparison(values(0.0, 5, 0.1))], [], spec))
    assert (wide.rejected, wide.stop) == (True, None)
    low, high = not_none(narrow.ci95)
    assert narrow.stop is Stop.WIDTH
    assert high - low <= 1.0


def test_a_comparison_that_is_narrow_enough_may_show_no_difference_that_matters() -> None:
    narrow = one(next_results([comparison(values(0.0, 5, 0.1))], [], until_a_width((5, 10), 1.0)))
    assert narrow.verdict("maximize", smallest=1.0) is Verdict.NO_DIFFERENCE
    assert narrow.verdict("maximize", smallest=0.01) is Verdict.INCONCLUSIVE
    assert narrow.verdict("maximize") is Verdict.INCONCLUSIVE


def test_levels_of_a_number_have_a_quarter_of_alpha_until_their_slope_is_clear() -> None:
    found = values(2.0, 10)
    seen = look(
        [comparison(values(0.0, 10), "slope"), comparison(found, "level", gate=0)], [], spec_of((10,))
    )
    assert seen["level"].p_holm == pytest.approx(4 * not_none(seen["level"].p_sequential))


def test_a_record_reads_back_as_it_was() -> None:
    seen = one(next_results([comparison(values(0.9, 5))], [], spec_of((5, 10))))
    assert LookResult.model_validate(seen.model_dump(mode="json")) == seen
