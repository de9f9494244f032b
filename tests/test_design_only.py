"""`--only`."""

from typing import Any

import pytest
from design_examples import design_of, levels

from ablate.design.model import Design
from ablate.design.only import select
from ablate.errors import BadInput


@pytest.fixture
def design() -> Design:
    factors = '{a: [0, 1, 2], mode: {levels: {"one, two": one, many: many}}, b: {levels: [0, 1], only_when: {a: 1}}}'
    return design_of(factors, '{a: 0, mode: "one, two"}', more="best: {a: 1, mode: many, b: 1}")


def fault_of(design: Design, *only: str) -> str:
    with pytest.raises(BadInput) as caught:
        select(design, only)
    return "\n".join(caught.value.faults)


def test_nothing_asked_is_everything(design: Design) -> None:
    assert select(design, []) == list(design.cells)


def test_a_level_picks_the_cells_that_have_it(design: Design) -> None:
    assert {cell["a"] for cell in levels(select(design, ["a=1"]))} == {1}


def test_items_are_and_commas_are_or(design: Design) -> None:
    chosen = select(design, ["a=0,2", "mode=many"])
    assert levels(chosen) == [{"a": 0, "mode": "many"}, {"a": 2, "mode": "many"}]


def test_a_level_with_a_comma_in_its_name_is_meant_first(design: Design) -> None:
    assert len(select(design, ["mode=one, two", "a=0"])) == 1


def test_a_conditional_factor_picks_cells_where_it_exists(design: Design) -> None:
    assert {cell["a"] for cell in levels(select(design, ["b=0"]))} == {1}


def test_a_cell_is_picked_by_each_combination_that_it_stands_for() -> None:
    design = design_of("{a: {levels: {x: 1, y: 1, z: 2}}}", "{a: x}")
    assert levels(select(design, ["a=y"])) == [{"a": "x"}]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("baseline", {"a": 0, "mode": "one, two"}), ("best", {"a": 1, "mode": "many", "b": 1})],
)
def test_a_cell_can_be_called_by_its_name(design: Design, name: str, expected: dict[str, Any]) -> None:
    assert levels(select(design, [name])) == [expected]


@pytest.mark.parametrize(
    ("only", "fault"),
    [
        ("mood=many", "--only mood=many: no factor 'mood'; did you mean 'mode'?"),
        ("mode=mny", "--only mode=mny: 'mny' is not a level of mode; did you mean 'many'?"),
        ("a=0,7", "--only a=0,7: '7' is not a level of a; known: 0, 1, 2"),
        ("base", "--only base: no '='; write factor=level, baseline or best"),
        ("a=", "--only a=: '' is not a level of a; known: 0, 1, 2"),
    ],
)
def test_a_typo_is_told_with_what_would_do(design: Design, only: str, fault: str) -> None:
    assert fault_of(design, only) == fault


def test_all_typos_are_told_at_once(design: Design) -> None:
    assert len(fault_of(design, "x=1", "y=2").splitlines()) == 2


def test_a_choice_that_leaves_nothing_is_refused(design: Design) -> None:
    assert "no cell meets all of these" in fault_of(design, "a=0", "b=1")


def test_a_study_without_best_says_so() -> None:
    assert "the study names no `best`" in fault_of(design_of("{a: [0, 1]}", "{a: 0}"), "best")


@pytest.mark.parametrize(("typed", "count"), [("true", 1), ("True", 1), ('"true"', 1), ("false", 1)])
def test_true_and_the_text_true_are_told_apart(typed: str, count: int) -> None:
    factors = '{a: {levels: {true: 1, "true": 2, false: 3}}}'
    assert len(select(design_of(factors, "{a: true}"), [f"a={typed}"])) == count
