"""Which combinations each design runs."""

import itertools
from collections.abc import Mapping

import pytest
from design_examples import design_of, levels, study
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.design.factorial import Space
from ablate.design.registry import one_at_a_time
from ablate.errors import BadInput
from ablate.spec import conditions
from ablate.spec.model import Factor, Level, Scalar

CONDITIONAL = "{a: [0, 1], b: {levels: [0, 1], only_when: {a: 1}}, c: [0, 1]}"
CHAIN = "{c: {levels: [0, 1, 2], only_when: {b: 1}}, b: {levels: [0, 1], only_when: {a: 1}}, a: [0, 1]}"


def test_full_is_every_combination_in_file_order() -> None:
    design = design_of("{b: [1, 0], a: [0, 1]}", "{a: 0, b: 0}")
    assert levels(design.cells) == [{"b": b, "a": a} for b in (1, 0) for a in (0, 1)]


def test_a_factor_is_absent_where_its_condition_fails() -> None:
    design = design_of(CONDITIONAL, "{a: 0, c: 0}")
    assert (design.raw_cells, len(design.cells)) == (8, 6)
    assert all(("b" in cell.levels) == (cell.levels["a"] == 1) for cell in design.cells)


def test_conditions_chain_whatever_the_order_of_the_file() -> None:
    design = design_of(CHAIN, "{a: 0}")
    assert levels(design.cells) == [
        {"a": 0},
        {"b": 0, "a": 1},
        {"c": 0, "b": 1, "a": 1},
        {"c": 1, "b": 1, "a": 1},
        {"c": 2, "b": 1, "a": 1},
    ]


def test_one_at_a_time_varies_each_factor_alone() -> None:
    design = design_of("{a: [0, 1, 2], b: [0, 1]}", "{a: 1, b: 0}", "one_at_a_time")
    assert levels(design.cells) == [{"a": 1, "b": 0}, {"a": 0, "b": 0}, {"a": 2, "b": 0}, {"a": 1, "b": 1}]


def test_one_at_a_time_meets_the_conditions_of_a_factor_first() -> None:
    design = design_of(CONDITIONAL, "{a: 0, c: 0}", "one_at_a_time")
    assert levels(design.cells) == [
        {"a": 0, "c": 0},
        {"a": 1, "b": 0, "c": 0},  # a alone, b appearing at its first level; also where b is varied
        {"a": 1, "b": 1, "c": 0},
        {"a": 0, "c": 1},
    ]


def test_a_factor_that_appears_takes_the_level_that_the_baseline_names() -> None:
    design = design_of(CONDITIONAL, "{a: 0, b: 1, c: 0}", "one_at_a_time")
    assert levels(design.cells)[1] == {"a": 1, "b": 1, "c": 0}


def test_one_at_a_time_meets_chained_conditions() -> None:
    design = design_of(CHAIN, "{a: 0}", "one_at_a_time")
    assert [cell["c"] for cell in levels(design.cells) if "c" in cell] == [0, 1, 2]


def test_one_at_a_time_adds_the_best_where_the_study_names_it() -> None:
    design = design_of("{a: [0, 1], b: [0, 1]}", "{a: 0, b: 0}", "one_at_a_time", "best: {a: 1, b: 1}")
    assert levels(design.cells)[-1] == {"a": 1, "b": 1}
    assert design.named == {"baseline": design.cells[0].hash, "best": design.cells[-1].hash}


def test_leave_one_out_puts_each_factor_back_to_its_baseline() -> None:
    design = design_of("{a: [0, 1], b: [0, 1]}", "{a: 0, b: 0}", "leave_one_out")
    assert levels(design.cells) == [{"a": 1, "b": 1}, {"a": 0, "b": 1}, {"a": 1, "b": 0}]


def test_leave_one_out_is_compared_with_the_best() -> None:
    design = design_of("{a: [0, 1], b: [0, 1]}", "{a: 0, b: 0}", "leave_one_out")
    assert design.reference == design.cells[0].hash == design.named["best"]


def test_a_factor_that_best_leaves_out_takes_its_last_level_but_the_baselines() -> None:
    design = design_of("{a: [0, 1, 2], b: [0, 1, 2]}", "{a: 0, b: 2}", "leave_one_out", "best: {a: 1}")
    assert levels(design.cells)[0] == {"a": 1, "b": 1}


def test_leave_one_out_refuses_a_factor_that_is_at_its_baseline_already() -> None:
    with pytest.raises(BadInput) as refused:
        design_of("{a: [0, 1], b: [0, 1]}", "{a: 0, b: 0}", "leave_one_out", "best: {a: 0, b: 1}")
    (fault,) = refused.value.faults
    assert (
        "best: a=0 is the baseline's level, so leave_one_out has nothing to leave out; write another" in fault
    )


def test_a_factor_whose_levels_mean_the_same_is_named() -> None:
    same = "{a: {levels: {one: {a: 1}, uno: {a: 1}}}, b: [0, 1]}"
    design = design_of(same, "{a: one, b: 0}", "full")
    assert (
        "a has fewer than two levels among the cells, so the study says nothing about it" in design.warnings
    )
    assert design_of("{a: [0, 1], b: [0, 1]}", "{a: 0, b: 0}", "full").warnings == []


@pytest.mark.parametrize("kind", ["full", "one_at_a_time", "leave_one_out"])
def test_a_study_with_nothing_to_compare_is_refused(kind: str) -> None:
    with pytest.raises(BadInput, match="same settings, so there is nothing to compare"):
        design_of("{a: {levels: {one: {a: 1}, uno: {a: 1}}}}", "{a: one}", kind)


def test_leave_one_out_drops_a_factor_with_its_condition() -> None:
    design = design_of(CONDITIONAL, "{a: 0, c: 0}", "leave_one_out")
    assert {"a": 0, "c": 1} in levels(design.cells)


@pytest.mark.parametrize("design", ["full", "one_at_a_time", "leave_one_out", "fractional"])
def test_the_same_study_gives_the_same_cells(design: str) -> None:
    first, second = (design_of(CONDITIONAL, "{a: 0, c: 0}", design) for _ in range(2))
    assert first == second


def test_a_billion_cells_are_counted_without_being_built() -> None:
    factors = (
        "{" + ", ".join(f"f{i}: {{levels: {{x: {{a.x{i}: 0}}, y: {{a.x{i}: 1}}}}}}" for i in range(30)) + "}"
    )
    baseline = "{" + ", ".join(f"f{i}: x" for i in range(30)) + "}"
    with pytest.raises(BadInput, match=r"design: full has 1,073,741,824 raw cells, more than 100,000"):
        Space(study(factors, baseline)).full()
    assert len(one_at_a_time(Space(study(factors, baseline, "one_at_a_time"))).combinations) == 31


@st.composite
def spaces(draw: st.DrawFn) -> list[Factor]:
    """Factors f0, f1, ... with two or three levels and conditions on earlier ones, in any order."""
    n = draw(st.integers(1, 5))
    factors = []
    for i in range(n):
        names = tuple(range(draw(st.integers(2, 3))))
        parents = draw(st.lists(st.integers(0, i - 1), max_size=2, unique=True)) if i else []
        when = {
            f"f{parent}": tuple(draw(st.lists(st.sampled_from(range(2)), min_size=1, unique=True)))
            for parent in parents
        }
        levels_ = tuple(Level(name=name, settings={f"f{i}": name}) for name in names)
        factors.append(Factor(name=f"f{i}", levels=levels_, only_when=when))
    return draw(st.permutations(factors))


@given(spaces())
@settings(max_examples=100)
def test_full_equals_brute_force_over_the_product(factors: list[Factor]) -> None:
    def existing(names: Mapping[str, Scalar]) -> frozenset[tuple[str, Scalar]]:
        present: dict[str, Scalar] = {}
        for factor in conditions.in_order(factors):
            if conditions.exists(factor, present):
                present[factor.name] = names[factor.name]
        return frozenset(present.items())

    keys = [factor.name for factor in factors]
    product = itertools.product(*([level.name for level in factor.levels] for factor in factors))
    expected = {existing(dict(zip(keys, names, strict=True))) for names in product}
    spec = study("{a: [0, 1]}", "{a: 0}").model_copy(update={"factors": tuple(factors), "baseline": {}})
    assert {frozenset(one.items()) for one in Space(spec).full()} == expected


@given(spaces())
@settings(max_examples=100)
def test_a_factor_can_exist_exactly_when_its_needs_can_be_met(factors: list[Factor]) -> None:
    spec = study("{a: [0, 1]}", "{a: 0}").model_copy(update={"factors": tuple(factors), "baseline": {}})
    seen = {name for one in Space(spec).full() for name in one}
    assert seen == {name for name, needs in conditions.needs(factors).items() if conditions.possible(needs)}
