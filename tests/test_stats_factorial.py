from collections.abc import Sequence

import numpy as np
import pytest
from fixture_types import not_none
from numpy.typing import NDArray
from published_tables import (
    BATTERY_LIFE,
    FILTRATION,
    FILTRATION_EFFECTS,
    PLASMA_ETCH,
    VASCULAR_GRAFT,
)

from ablate.stats.factorial import Factorial, conditions, factorial
from ablate.stats.linear import Factor


def two_level_factors(names: str, repeats: int = 1) -> list[Factor]:
    runs = np.arange(2 ** len(names))
    return [Factor(name, np.repeat(runs >> k & 1, repeats), 2) for k, name in enumerate(names)]


def squares(result: Factorial, kind: str = "II") -> dict[str, float]:
    return {row.term: row.ss for row in result.anova[kind]}


def estimates(result: Factorial) -> dict[str, float]:
    return {":".join(e.factors): e.estimate for e in (*result.effects, *result.interactions)}


def test_effects_of_the_filtration_rate_experiment() -> None:
    result = factorial(np.array(FILTRATION, float), two_level_factors("ABCD"), order="full")
    assert estimates(result) == pytest.approx(FILTRATION_EFFECTS, abs=1e-9)


def test_lenth_of_the_filtration_rate_experiment() -> None:
    found = not_none(factorial(np.array(FILTRATION, float), two_level_factors("ABCD"), order="full").lenth)
    assert (found.s0, found.pse) == pytest.approx((3.9375, 2.625))
    assert (found.me, found.sme) == pytest.approx((6.748, 13.699), abs=5e-4)


def test_unreplicated_two_level_effects_have_lenths_standard_error() -> None:
    result = factorial(np.array(FILTRATION, float), two_level_factors("ABCD"), order="full")
    assert [e.se for e in result.effects] == pytest.approx([2.625] * 4)
    assert [e.df for e in result.effects] == [5.0] * 4


def test_replicated_two_cubed() -> None:
    y = np.array(PLASMA_ETCH, float).ravel()
    result = factorial(y, two_level_factors("ABC", repeats=2))
    assert result.order == "full"
    assert squares(result) == pytest.approx(
        {"A": 41310.5625, "B": 217.5625, "C": 374850.0625, "A:B": 2475.0625, "A:C": 94402.5625, "B:C": 18.0625,
         "A:B:C": 126.5625, "residual": 18020.5}
    )  # fmt: skip
    assert estimates(result) == pytest.approx(
        {
            "A": -101.625,
            "B": 7.375,
            "C": 306.125,
            "A:B": -24.875,
            "A:C": -153.625,
            "B:C": -2.125,
            "A:B:C": 5.625,
        }
    )


def test_randomised_complete_blocks() -> None:
    pressure, batch = np.divmod(np.arange(24), 6)
    y = np.array(list(VASCULAR_GRAFT.values())).ravel()
    result = factorial(y, [Factor("pressure", pressure, 4)], Factor("batch", batch, 6))
    by_term = {row.term: row for row in result.anova["II"]}
    assert squares(result) == pytest.approx(
        {"batch": 192.25, "pressure": 178.17, "residual": 109.89}, abs=5e-3
    )
    f, p = by_term["pressure"].F, by_term["pressure"].p
    assert f == pytest.approx(8.11, abs=5e-3)
    assert p == pytest.approx(0.0019, abs=5e-5)


def test_three_by_three_with_interaction() -> None:
    material, temperature = np.divmod(np.repeat(np.arange(9), 4), 3)
    y = np.array(list(BATTERY_LIFE.values()), float).ravel()
    result = factorial(y, [Factor("material", material, 3), Factor("temperature", temperature, 3)])
    assert squares(result) == pytest.approx(
        {
            "material": 10683.72,
            "temperature": 39118.72,
            "material:temperature": 9613.78,
            "residual": 18230.75,
        },
        abs=5e-3,
    )
    assert [row.F for row in result.anova["II"][:3]] == pytest.approx([7.91, 28.97, 3.56], abs=5e-3)


def nested_study(seeds: int = 3) -> tuple[NDArray[np.float64], list[Factor], Factor]:
    """separate; joint with and without surgery; three seeds with known noise."""
    joint = np.tile([0, 1, 1], seeds)
    surgery = np.tile([-1, 0, 1], seeds)
    seed = np.repeat(np.arange(seeds), 3)
    y = np.tile([0.80, 0.83, 0.85], seeds) + 0.01 * seed + 0.001 * np.array([1, -1, 0, 0, 1, -1, -1, 0, 1])
    return y, [Factor("training", joint, 2), Factor("surgery", surgery, 2)], Factor("seed", seed, seeds)


def test_a_nested_factor_is_measured_inside_its_condition() -> None:
    y, factors, seed = nested_study()
    training, surgery = factorial(y, factors, seed).effects
    assert (training.estimate, surgery.estimate) == pytest.approx((0.04, 0.02))


def test_standard_errors_of_a_nested_design() -> None:
    y, factors, seed = nested_study()
    result = factorial(y, factors, seed)
    variance = not_none(result.anova["II"][-1].ms)
    training, surgery = result.effects
    assert surgery.se == pytest.approx(np.sqrt(variance * (1 / 3 + 1 / 3)))
    assert training.se == pytest.approx(np.sqrt(variance * (1 / 3 + 1 / 6)))


def test_a_nested_factor_has_no_product_with_its_parent() -> None:
    y, factors, seed = nested_study()
    assert factorial(y, factors, seed, order="2").interactions == ()


def test_conditions_are_read_off_the_table() -> None:
    _, factors, _ = nested_study()
    assert conditions(factors) == {"surgery": {"training": (1,)}}


def test_a_chain_of_conditions_names_the_nearest_parent() -> None:
    a = Factor("a", np.array([0, 0, 1, 1, 1, 1]), 2)
    b = Factor("b", np.array([-1, -1, 0, 0, 1, 1]), 2)
    c = Factor("c", np.array([-1, -1, -1, -1, 0, 1]), 2)
    assert conditions([a, b, c]) == {"b": {"a": (1,)}, "c": {"b": (1,)}}


def test_two_parents_are_both_named() -> None:
    a, b = np.divmod(np.repeat(np.arange(4), 2), 2)
    child = np.array([-1, -1, -1, -1, -1, -1, 0, 1])
    found = conditions([Factor("a", a, 2), Factor("b", b, 2), Factor("child", child, 2)])
    assert found == {"child": {"a": (1,), "b": (1,)}}


def test_siblings_under_one_condition_do_not_explain_each_other() -> None:
    parent = np.array([0, 0, 1, 1, 1, 1])
    left, right = np.array([-1, -1, 0, 0, 1, 1]), np.array([-1, -1, 0, 1, 0, 1])
    found = conditions([Factor("left", left, 2), Factor("right", right, 2), Factor("parent", parent, 2)])
    assert found == {"left": {"parent": (1,)}, "right": {"parent": (1,)}}


def test_a_gap_that_nothing_explains_keeps_the_effect_among_the_others() -> None:
    gappy = Factor("gappy", np.array([0, 1, 0, 1, -1, -1, 0, 1]), 2)
    y = np.array([1.0, 3.0, 1.2, 3.1, 40.0, 41.0, 0.9, 3.2])
    result = factorial(y, [gappy])
    assert result.unexplained == ("gappy",)
    assert result.effects[0].estimate == pytest.approx(np.mean([3.0, 3.1, 3.2]) - np.mean([1.0, 1.2, 0.9]))


def test_auto_keeps_to_main_effects_when_products_are_aliased() -> None:
    runs = np.arange(8)
    half = [Factor(name, runs >> k & 1, 2) for k, name in enumerate("ABC")]
    d = Factor("D", np.bitwise_xor.reduce([f.index for f in half]), 2)
    result = factorial(np.sin(runs.astype(float)), [*half, d])
    assert (result.order, len(result.interactions)) == ("1", 0)


def test_a_fraction_tells_which_products_it_cannot_tell_apart() -> None:
    runs = np.arange(8)
    half = [Factor(name, runs >> k & 1, 2) for k, name in enumerate("ABC")]
    d = Factor("D", np.bitwise_xor.reduce([f.index for f in half]), 2)
    result = factorial(np.sin(runs.astype(float)), [*half, d], order="2")
    assert result.left_out == (("B", "C"), ("B", "D"), ("C", "D"))


def test_a_saturated_fraction_has_lenth() -> None:
    """2^(7−4): seven main effects in eight runs, none left for noise."""
    runs = np.arange(8)
    a, b, c = (runs >> k & 1 for k in range(3))
    columns = {"A": a, "B": b, "C": c, "D": a ^ b, "E": a ^ c, "F": b ^ c, "G": a ^ b ^ c}
    y = np.array([69, 52, 60, 83, 71, 50, 59, 88], float)
    result = factorial(y, [Factor(name, index, 2) for name, index in columns.items()])
    found = not_none(result.lenth)
    assert (found.m, found.pse) == (7, result.effects[0].se)


def test_auto_takes_products_of_two_when_they_leave_enough() -> None:
    result = factorial(np.array(FILTRATION, float), two_level_factors("ABCD"))
    assert (result.order, result.anova["II"][-1].df) == ("2", 5)


def test_replicates_that_do_not_differ_give_no_p() -> None:
    a = Factor("a", np.array([0, 0, 0, 1, 1, 1]), 2)
    result = factorial(np.array([0.5, 0.5, 0.5, 0.7, 0.7, 0.7]), [a])
    assert result.degenerate
    assert result.effects[0].estimate == pytest.approx(0.2)
    assert (result.effects[0].p, result.anova["II"][0].p) == (None, None)


def test_there_is_no_lenth_when_runs_are_repeated() -> None:
    y = np.array(PLASMA_ETCH, float).ravel()
    assert factorial(y, two_level_factors("ABC", repeats=2)).lenth is None


def table(rows: Sequence[Sequence[int]], **levels: int) -> list[Factor]:
    """Factors over `rows`, a list of one level per factor."""
    columns = np.array(rows).T
    return [Factor(name, column, n) for (name, n), column in zip(levels.items(), columns, strict=True)]


def given(result: Factorial) -> set[tuple[object, ...]]:
    return {(*e.factors, *e.levels) for e in result.effects}


def test_two_factors_that_changed_together_have_no_effect() -> None:
    """The diagonal of a 2 × 2, three times: the first factor must not get what the second may have done."""
    result = factorial(np.sin(np.arange(6.0)), table([(0, 0), (1, 1)] * 3, a=2, b=2))
    assert (result.effects, result.confounded) == ((), {"a": ("b",), "b": ("a",)})


def test_a_factor_that_varies_within_both_keeps_its_effect() -> None:
    rows = [(a, a, c) for a in (0, 1) for c in (0, 1)] * 3
    result = factorial(np.sin(np.arange(12.0)), table(rows, a=2, b=2, c=2))
    assert given(result) == {("c", 1)}


@pytest.mark.parametrize("names", [("size", "batch"), ("batch", "size")])
def test_a_level_that_is_told_apart_keeps_its_effect(names: tuple[str, str]) -> None:
    """The third size ran only with the second batch, and that only with it; whichever factor is named first."""
    rows = {"size": [0, 1, 2] * 3, "batch": [0, 0, 1] * 3}
    factors = [Factor(name, np.array(rows[name]), {"size": 3, "batch": 2}[name]) for name in names]
    result = factorial(np.array([0.1, 0.3, 0.9] * 3) + 0.001 * np.sin(np.arange(9)), factors)
    (effect,) = result.effects
    assert (effect.factors, effect.levels) == (("size",), (1,))
    assert effect.estimate == pytest.approx(0.2, abs=0.002)


def test_what_is_left_out_of_a_factor_does_not_pass_to_another() -> None:
    """Level 2 of b never ran, b is therefore left out; it changes with a more often than not."""
    rows = [(0, 0), (0, 0), (0, 1), (1, 1), (1, 1), (1, 0)]
    y = np.array([0.1 * b for _, b in rows])
    result = factorial(y, table(rows, a=2, b=3), order="1")
    assert {e.factors: round(e.estimate, 9) for e in result.effects} == {("a",): 0, ("b",): 0.1}


def grid_with_a_hole(seeds: int = 3) -> tuple[NDArray[np.float64], list[Factor], Factor]:
    """size × batch × x × z without the pair (2, 2), and x : z = 0.05."""
    rows = [
        (size, batch, x, z, seed)
        for size, batch, x, z, seed in np.ndindex(3, 3, 2, 2, seeds)
        if (size, batch) != (2, 2)
    ]
    *factors, block = table(rows, size=3, batch=3, x=2, z=2, seed=seeds)
    x, z = factors[2].index, factors[3].index
    noise = 0.001 * np.random.default_rng(3).normal(size=len(rows))
    return 0.1 * (x - 0.5) * (z - 0.5) * 2 + noise, factors, block


def test_one_hole_does_not_hide_the_other_interactions() -> None:
    result = factorial(*grid_with_a_hole())
    assert (result.order, result.left_out, result.df_residual) == ("2", (("size", "batch"),), 78)
    assert estimates(result)["x:z"] == pytest.approx(0.1, abs=0.001)


def test_a_hole_and_uneven_losses_do_not_hide_them_either() -> None:
    y, factors, block = grid_with_a_hole()
    kept = np.arange(len(y)) % 13 != 4
    some = [Factor(f.name, f.index[kept], f.levels) for f in (*factors, block)]
    assert estimates(factorial(y[kept], some[:-1], some[-1]))["x:z"] == pytest.approx(0.1, abs=0.002)


def test_products_that_are_aliased_with_each_other_are_given_for_neither() -> None:
    """The half fraction with I = ABCD: A:B is C:D."""
    runs = np.repeat(np.arange(8), 3)
    half = [Factor(name, runs >> k & 1, 2) for k, name in enumerate("ABC")]
    d = Factor("D", np.bitwise_xor.reduce([f.index for f in half]), 2)
    result = factorial(np.sin(runs * 1.0) + 0.01 * np.cos(np.arange(24)), [*half, d], order="2", strict=True)
    assert (result.interactions, len(result.left_out)) == ((), 6)


def test_factors_that_never_exist_together_do_not_hide_the_other_interactions() -> None:
    """One exists under each level of a parent; x varies everywhere."""
    rows = [(p, c if p == 0 else -1, c if p == 1 else -1, x) for p, c, x in np.ndindex(2, 2, 2)] * 3
    seed = Factor("seed", np.repeat(np.arange(3), 8), 3)
    factors = table(rows, parent=2, left=2, right=2, x=2)
    found = factorial(np.random.default_rng(0).normal(size=24), factors, seed)
    assert {e.factors for e in found.interactions} == {("parent", "x"), ("left", "x"), ("right", "x")}


@pytest.mark.parametrize(("shift", "blocked"), [(0.0, False), (0.0, True), (0.02, True)])
def test_repeats_that_do_not_differ_give_no_p_whatever_the_model_leaves_out(
    shift: float, blocked: bool
) -> None:
    seed = np.tile(np.arange(3), 16)
    y = np.repeat(np.sin(np.arange(16.0)), 3) + shift * seed
    result = factorial(
        y, two_level_factors("ABCD", repeats=3), Factor("seed", seed, 3) if blocked else None, "1"
    )
    assert result.degenerate
    assert {(e.se, e.p) for e in result.effects} == {(None, None)}
    assert {row.F for row in result.anova["II"]} == {None}


def test_repeats_that_differ_once_give_a_p() -> None:
    y = np.repeat(np.sin(np.arange(16.0)), 3)
    y[7] += 1e-6
    assert not factorial(y, two_level_factors("ABCD", repeats=3), order="1").degenerate


def test_an_exactly_additive_table_has_no_lenth() -> None:
    result = factorial(0.7 + 0.01 * np.arange(8.0), two_level_factors("ABC"), order="full")
    assert (result.lenth, {e.p for e in result.effects}) == (None, {None})


def test_main_effects_are_given_where_the_rows_determine_them_and_then_without_error() -> None:
    """Small random tables without noise, with holes, conditions, and factors that change together."""
    rng = np.random.default_rng(1)
    for _ in range(100):
        levels, n = rng.integers(2, 4, 3), rng.integers(3, 12)
        first, second, third = (rng.integers(0, most, n) for most in levels)
        if rng.random() < 0.4:
            second = np.where(first == 1, second, -1)
        if rng.random() < 0.4:
            third = np.minimum(first, levels[2] - 1)
        factors = [Factor(*f) for f in zip("abc", (first, second, third), levels.tolist(), strict=True)]
        planted = [rng.normal(size=f.levels - 1) for f in factors]
        y = np.sum([f.columns() @ effects for f, effects in zip(factors, planted, strict=True)], axis=0)
        unexplained = [f for f in factors if conditions(factors).get(f.name, {}) is None]
        others = [np.ones((n, 1)), *(f.exists[:, None] for f in unexplained)]
        X = np.hstack([*(f.columns() for f in factors), *others])
        fixed = np.isclose(np.diag(np.linalg.pinv(X) @ X), 1)
        truth = [
            (f.name, level, pytest.approx(effect))
            for f, effects in zip(factors, planted, strict=True)
            for level, effect in enumerate(effects, 1)
        ]
        found = [(*e.factors, *e.levels, e.estimate) for e in factorial(y, factors, order="1").effects]
        assert sorted(found) == [one for one, is_fixed in zip(truth, fixed, strict=False) if is_fixed]


def test_one_effect_is_no_measure_of_its_own_noise() -> None:
    """Seen: an effect of .23 got the interval [-890, 890], and "could have detected 966" on an accuracy."""
    result = factorial(np.array([0.60, 0.83]), two_level_factors("A"), order="full")
    assert (result.lenth, {e.p for e in result.effects}) == (None, {None})


def test_an_unreplicated_table_of_two_factors_has_margins() -> None:
    result = factorial(np.array([0.60, 0.62, 0.81, 0.85]), two_level_factors("AB"), order="full")
    assert result.lenth is not None
    assert (result.lenth.m, result.lenth.df) == (3, 1.0)


def test_a_column_named_like_an_existence_is_another_factor() -> None:
    y, gaps = np.arange(8.0) ** 1.5, np.array([0, 1, 0, 1, -1, -1, 0, 1])
    other = np.array([0, 0, 1, 1, 0, 1, 1, 0])

    def effects(name: str) -> list[float]:
        return [
            e.estimate
            for e in factorial(y, [Factor("gap", gaps, 2), Factor(name, other, 2)], order="1").effects
        ]

    assert effects("gap exists") == effects("x")
    assert len(effects("x")) == 2
