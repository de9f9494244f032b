import pytest
from published_tables import BH_1995

from ablate.stats.multiple import benjamini_hochberg, holm


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
