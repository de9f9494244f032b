"""`ablate plan`: what a study would cost and tell, and what other designs of its factors would."""

import numpy as np
import pytest
from design_examples import study, toy_trainer

from ablate.design.alternatives import alternatives, variance
from ablate.design.cells import build_design
from ablate.design.factorial import Space
from ablate.runner.plan import plan_document, plan_text
from ablate.store.places import place_of


def crossed(k: int, design: str = "full", levels: str = "[0, 1]"):
    names = "abcdefghijkl"[:k]
    factors, baseline = (", ".join(f"{name}: {value}" for name in names) for value in (levels, "0"))
    return study(f"{{{factors}}}", f"{{{baseline}}}", design)


def by_name(spec):
    return {one.design: one for one in alternatives(spec)}


def document(spec, tmp_path):
    return plan_document(spec, build_design(spec, toy_trainer()), place_of(spec.study, tmp_path))


def test_sixteen_cells_of_eight_factors_are_eight_times_as_certain_as_nine():
    found = by_name(crossed(8))
    assert (found["one_at_a_time"].cells, found["one_at_a_time"].variance) == (9, 2)
    assert (found["fractional"].cells, found["fractional"].variance) == (16, 1 / 4)
    assert (found["full"].cells, found["full"].variance) == (256, 1 / 64)


@pytest.mark.parametrize(
    ("k", "cells", "told"),
    [(8, 16, "aliased with one another"), (3, 4, "each aliased with interactions of two factors")],
)
def test_a_fraction_says_what_it_cannot_tell_apart(k, cells, told):
    spec = crossed(k).model_copy(update={"design": "fractional", "design_cells": cells})
    fraction = by_name(spec)["fractional"]
    assert fraction.estimates.endswith(told)
    assert fraction.aliases


def test_a_fraction_as_large_as_the_full_design_is_no_alternative():
    assert "fractional" not in by_name(crossed(2))


def test_designs_come_in_order_of_their_cells():
    cells = [one.cells for one in alternatives(crossed(8))]
    assert cells == sorted(cells)


def test_a_grid_too_large_to_list_is_counted_all_the_same():
    spec = crossed(12, "one_at_a_time", "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]")
    assert by_name(spec)["full"].cells == 10**12


def test_the_variance_is_that_of_least_squares():
    space = Space(study("{a: [0, 1, 2], b: [0, 1]}", "{a: 1, b: 0}"))
    cells = [cell for cell in space.full() if cell != {"a": 2, "b": 1}]
    dummies = np.array([[1, c["a"] == 0, c["a"] == 2, c["b"] == 1] for c in cells], dtype=float)
    expected = np.diag(np.linalg.inv(dummies.T @ dummies))[1:].max()
    assert variance(space, cells) == pytest.approx(expected)


def test_a_conditional_factor_is_judged_where_it_exists():
    spec = study("{a: [0, 1], b: {levels: [0, 1], only_when: {a: 1}}, c: [0, 1]}", "{a: 0, c: 0}")
    full = by_name(spec)["full"]
    assert (full.cells, full.variance) == (6, pytest.approx(1.0))  # of b: two cells against two


def test_the_plan_marks_its_own_design_and_multiplies_by_seeds(tmp_path):
    rows = document(crossed(4, "one_at_a_time"), tmp_path)["alternatives"]
    assert [(row["design"], row["trials"]) for row in rows if row["chosen"]] == [("one_at_a_time", 10)]
    assert {row["design"]: row["trials"] for row in rows}["full"] == 32


def test_cells_that_are_equal_to_the_trainer_are_counted_once(tmp_path):
    spec = study("{a: {levels: {one: {b: 0}, same: {b: 0}, other: {b: 1}}}, c: [0, 1]}", "{a: one, c: 0}")
    found = document(spec, tmp_path)
    (own,) = [row for row in found["alternatives"] if row["chosen"]]
    assert own["cells"] == found["cells"] == 4


def test_the_table_says_each_design_in_a_line(tmp_path):
    spec = crossed(4).model_copy(update={"design": "fractional", "design_cells": 8})
    lines = plan_text(document(spec, tmp_path)).splitlines()
    (line,) = [line for line in lines if line.startswith("  * fractional")]
    assert line.split()[2:5] == ["8", "16", "0.5"]
    assert line.endswith("aliased with one another, e.g. a:b = c:d")
