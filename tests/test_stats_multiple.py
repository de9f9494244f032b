from collections.abc import Callable, Sequence
from random import Random

import pytest
from fixture_types import not_none
from hypothesis import example, given
from hypothesis import strategies as st
from published_tables import BH_1995

from ablate.stats.multiple import benjamini_hochberg, gatekept_holm, holm, shares_of_alpha


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_benjamini_and_hochbergs_example_rejects_four() -> None:
    assert sum(not_none(p) <= 0.05 for p in benjamini_hochberg(BH_1995)) == 4


def test_holm_rejects_three_of_benjamini_and_hochbergs_example() -> None:
    assert sum(not_none(p) <= 0.05 for p in holm(BH_1995)) == 3


def test_benjamini_hochberg_by_hand() -> None:
    assert benjamini_hochberg([0.04, 0.01, 0.03]) == pytest.approx([0.04, 0.03, 0.04])


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_a_test_without_p_is_not_counted(
    adjust: Callable[[Sequence[float | None]], list[float | None]],
) -> None:
    assert adjust([0.02, None, 0.5]) == [pytest.approx(0.04), None, pytest.approx(0.5)]


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_nothing_to_adjust(adjust: Callable[[Sequence[float | None]], list[float | None]]) -> None:
    assert adjust([]) == []
    assert adjust([None]) == [None]


# Tests behind a gate: the levels of a numeric factor wait for its slope.


# The p of each test, and the place of its gate.
Family = tuple[list[float | None], list[int | None]]


@st.composite
def gated_families(draw: st.DrawFn) -> Family:
    """p values, and for each test the place of its gate: some are gates, some wait for one, some are free."""
    gates: list[int | None] = [None] * draw(st.integers(1, 4))
    gates += draw(st.lists(st.sampled_from([None, *range(len(gates))]), max_size=5))
    p = draw(st.lists(st.none() | st.floats(1e-6, 1), min_size=len(gates), max_size=len(gates)))
    return p, gates


@given(st.lists(st.none() | st.floats(0, 1), max_size=8))
def test_without_gates_it_is_holm(p: list[float | None]) -> None:
    assert gatekept_holm(p, [None] * len(p)) == pytest.approx(holm(p))


def test_a_gate_and_two_behind_it() -> None:
    """The gate has 3/4 of α. At .01 / .75 it hands that on: half of α to each, and the first rejected hands its half over."""
    assert gatekept_holm([0.01, 0.02, 0.03], [None, 0, 0]) == pytest.approx([0.01 / 0.75, 0.04, 0.04])


def test_behind_a_gate_that_stays_shut_a_quarter_is_left() -> None:
    assert gatekept_holm([0.06, 0.005, 0.9], [None, 0, 0]) == pytest.approx([0.08, 0.04, 0.9])


def test_a_gate_beside_a_free_test() -> None:
    """Half of α each, of which the gate has 3/4: .02 / .375. It opens for one test: .03 / .5; then the free one has all."""
    assert gatekept_holm([0.02, 0.03, 0.055], [None, 0, None]) == pytest.approx([0.02 / 0.375, 0.06, 0.06])


def test_what_is_left_behind_a_gate_goes_to_the_free_tests() -> None:
    """With the gate and the test behind it rejected at .001 / .375, the free test has all of α."""
    found = gatekept_holm([0.001, 0.001, 0.045], [None, 0, None])
    assert found == pytest.approx([0.001 / 0.375, 0.001 / 0.375, 0.045])


def test_a_free_test_leaves_its_share_to_the_gate() -> None:
    """With 3/8 of α, .04 would not have opened it; with 7/8 it does."""
    found = gatekept_holm([0.04, 0.001, 0.045], [None, None, 0])
    assert found == pytest.approx([0.04 / 0.875, 0.002, 0.04 / 0.875])


@given(gated_families())
def test_the_shares_of_alpha_add_up_to_one(family: Family) -> None:
    shares = [share for share in shares_of_alpha(*family) if share is not None]
    assert not shares or sum(shares) == pytest.approx(1)
    assert all(share > 0 for share in shares)


@given(gated_families())
@example(([None, 0.125, None, None, 0.25, 1.0], [None, 0, None, None, 0, None]))
def test_a_corrected_p_is_never_less_than_the_p_itself(family: Family) -> None:
    p, gates = family
    pairs = zip(p, gatekept_holm(p, gates), strict=True)
    assert all(
        after is None if before is None else before <= not_none(after) * (1 + 1e-9) and not_none(after) <= 1
        for before, after in pairs
    )


@given(gated_families(), st.randoms(use_true_random=False))
def test_the_order_of_the_tests_does_not_matter(family: Family, random: Random) -> None:
    p, gates = family
    order = list(range(len(p)))
    random.shuffle(order)
    moved = {before: after for after, before in enumerate(order)}
    turned = gatekept_holm(
        [p[place] for place in order],
        [None if gates[place] is None else moved[not_none(gates[place])] for place in order],
    )
    assert [turned[moved[place]] for place in range(len(p))] == pytest.approx(gatekept_holm(p, gates))


def test_behind_a_gate_without_a_p_is_its_whole_share() -> None:
    assert gatekept_holm([None, 0.001, 0.02], [None, 0, None]) == pytest.approx([None, 0.002, 0.02])
