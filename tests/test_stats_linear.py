from collections.abc import Callable

import numpy as np
import pytest
from published_tables import DRUG_DISEASE, DRUG_DISEASE_SS

from ablate.stats.linear import Factor, Fit, crossings, fit, type_i, type_ii, type_iii


def drug_disease() -> Fit:
    rows = [(int(drug), int(disease), y) for (drug, disease), values in DRUG_DISEASE.items() for y in values]
    drug, disease, y = np.array(rows).T
    factors = [Factor("drug", drug - 1, 4), Factor("disease", disease - 1, 3)]
    return fit(y.astype(float), factors, [("drug",), ("disease",), ("drug", "disease")])


@pytest.mark.parametrize(("kind", "squares"), [("I", type_i), ("II", type_ii), ("III", type_iii)])
def test_sums_of_squares_of_the_unbalanced_table_are_those_sas_prints(
    kind: str, squares: Callable[[Fit], list[float]]
) -> None:
    found = dict(zip(["drug", "disease", "drug:disease"], squares(drug_disease()), strict=True))
    assert found == pytest.approx(DRUG_DISEASE_SS[kind], abs=5e-7)


def test_residual_of_the_unbalanced_table_is_the_one_sas_prints() -> None:
    model = drug_disease()
    assert model.df_residual == 46
    assert model.ss_residual == pytest.approx(5080.816667, abs=5e-7)


def test_coefficients_are_differences_of_marginal_means() -> None:
    cell_means = np.array([[np.mean(DRUG_DISEASE[str(a), str(b)]) for b in (1, 2, 3)] for a in (1, 2, 3, 4)])
    by_drug = cell_means.mean(axis=1)
    assert drug_disease().beta[:3] == pytest.approx(by_drug[1:] - by_drug[0])


def test_types_agree_in_a_balanced_table() -> None:
    a, b = np.divmod(np.arange(12), 3)
    y = np.sin(np.arange(12.0))
    model = fit(y, [Factor("a", a, 4), Factor("b", b, 3)], [("a",), ("b",)])
    assert model.orthogonal
    assert type_i(model) == pytest.approx(type_ii(model))
    assert type_i(model) == pytest.approx(type_iii(model))


def test_type_ii_is_what_a_model_without_the_containing_terms_gains() -> None:
    rng = np.random.default_rng(5)
    factors = [
        Factor(name, rng.integers(0, levels, 60), levels) for name, levels in (("a", 2), ("b", 3), ("c", 2))
    ]
    y = rng.normal(size=60)
    names = [("a",), ("b",), ("c",), ("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c")]
    found = dict(zip(names, type_ii(fit(y, factors, names)), strict=True))
    for name in names:
        smaller = [other for other in names if not set(name) <= set(other)]
        gain = fit(y, factors, smaller).ss_residual - fit(y, factors, [*smaller, name]).ss_residual
        assert found[name] == pytest.approx(gain)


def test_a_term_that_repeats_an_earlier_one_is_left_out() -> None:
    a = np.array([0, 0, 1, 1, 0, 1])
    model = fit(np.arange(6.0), [Factor("a", a, 2), Factor("twin", 1 - a, 2)], [("a",), ("twin",)])
    assert (model.left_out, model.df_residual) == ((("twin",),), 4)


def test_a_term_without_room_is_left_out() -> None:
    index = np.arange(5)
    assert fit(np.arange(5.0), [Factor("row", index, 6)], [("row",)]).left_out == (("row",),)


def test_rounding_is_not_taken_for_noise() -> None:
    a = np.array([0, 0, 1, 1])
    assert fit(np.array([0.1, 0.1, 0.3, 0.3]), [Factor("a", a, 2)], [("a",)]).variance is None


def test_crossings_group_the_rows_of_each_combination() -> None:
    a, b = Factor("a", np.array([0, 1, 0, 1, 0]), 2), Factor("b", np.array([0, 0, 0, -1, 1]), 2)
    assert sorted(sorted(rows.tolist()) for rows in crossings([a, b])) == [[0, 2], [1], [3], [4]]
