import pytest
from hypothesis import given
from hypothesis import strategies as st
from published_tables import BH_1995

from ablate.stats.multiple import benjamini_hochberg, gatekept_holm, holm


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_benjamini_and_hochbergs_example_rejects_four():
    assert sum(p <= 0.05 for p in benjamini_hochberg(BH_1995)) == 4


def test_holm_rejects_three_of_benjamini_and_hochbergs_example():
    assert sum(p <= 0.05 for p in holm(BH_1995)) == 3


def test_benjamini_hochberg_by_hand():
    assert benjamini_hochberg([0.04, 0.01, 0.03]) == pytest.approx([0.04, 0.03, 0.04])


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_a_test_without_p_is_not_counted(adjust):
    assert adjust([0.02, None, 0.5]) == [pytest.approx(0.04), None, pytest.approx(0.5)]


@pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])
def test_nothing_to_adjust(adjust):
    assert adjust([]) == []
    assert adjust([None]) == [None]


# Tests behind a gate: the levels of a numeric factor wait for its slope.


@st.composite
def gated_families(draw):
    """p values, and for each test the place of its gate: some are gates, some wait for one, some are free."""
    gates: list[int | None] = [None] * draw(st.integers(1, 4))
    gates += draw(st.lists(st.sampled_from([None, *range(len(gates))]), max_size=5))
    p = draw(st.lists(st.none() | st.floats(1e-6, 1), min_size=len(gates), max_size=len(gates)))
    return p, gates


@given(st.lists(st.none() | st.floats(0, 1), max_size=8))
def test_without_gates_it_is_holm(p):
    assert gatekept_holm(p, [None] * len(p)) == pytest.approx(holm(p))


def test_a_gate_and_two_behind_it():
    """The gate has all of α; at .01 it hands it on, half to each, and the first rejected hands its half to the other."""
    assert gatekept_holm([0.01, 0.02, 0.03], [None, 0, 0]) == pytest.approx([0.01, 0.04, 0.04])


def test_behind_a_gate_that_stays_shut_nothing_is_rejected():
    assert gatekept_holm([0.06, 1e-6], [None, 0]) == pytest.approx([0.06, 0.06])


def test_a_gate_beside_a_free_test():
    """Half of α each. At .02 (.04) the gate opens for one test, which takes its half: .03 / .5; then the free one has all."""
    assert gatekept_holm([0.02, 0.03, 0.055], [None, 0, None]) == pytest.approx([0.04, 0.06, 0.06])


def test_what_is_left_behind_a_gate_goes_to_the_free_tests():
    """With the gate and the test behind it rejected at .002, the free test has all of α."""
    assert gatekept_holm([0.001, 0.001, 0.045], [None, 0, None]) == pytest.approx([0.002, 0.002, 0.045])


def test_a_free_test_leaves_its_share_to_the_gate():
    """With half of α, .04 would not have opened it."""
    assert gatekept_holm([0.04, 0.001, 0.045], [None, None, 0]) == pytest.approx([0.04, 0.002, 0.045])


@given(gated_families())
def test_a_corrected_p_is_never_less_than_the_p_itself(family):
    p, gates = family
    pairs = zip(p, gatekept_holm(p, gates), strict=True)
    assert all(
        after is None if before is None else before <= after * (1 + 1e-9) and after <= 1
        for before, after in pairs
    )


@given(gated_families())
def test_behind_a_gate_p_is_never_less_than_at_it(family):
    p, gates = family
    found = gatekept_holm(p, gates)
    for after, gate in zip(found, gates, strict=True):
        if after is not None and gate is not None and found[gate] is not None:
            assert after >= found[gate]


@given(gated_families(), st.randoms(use_true_random=False))
def test_the_order_of_the_tests_does_not_matter(family, random):
    p, gates = family
    order = list(range(len(p)))
    random.shuffle(order)
    moved = {before: after for after, before in enumerate(order)}
    turned = gatekept_holm(
        [p[place] for place in order],
        [None if gates[place] is None else moved[gates[place]] for place in order],
    )
    assert [turned[moved[place]] for place in range(len(p))] == pytest.approx(gatekept_holm(p, gates))


def test_a_gate_without_a_p_stays_shut():
    assert gatekept_holm([None, 0.001, 0.02], [None, 0, None]) == pytest.approx([None, 1.0, 0.02])
