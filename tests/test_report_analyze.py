import csv
import json
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixture_types import Ablate, Json
from outside_json import analyze_table, question
from published_tables import (
    ATMWTAG,
    BATTERY_LIFE,
    BICYCLE,
    BICYCLE_EFFECTS,
    BOYS_SHOES,
    DRUG_DISEASE,
    DRUG_DISEASE_SS,
    FILTRATION,
    FILTRATION_EFFECTS,
    NPK,
    PLASMA_ETCH,
    PURITY,
    ROCKET_PROPELLANT,
    SIRSTV,
    TOOTH_GROWTH,
    VASCULAR_GRAFT,
    simon_lesage,
    two_level,
    write_csv,
)

from ablate.errors import BadInput
from ablate.report.outside import analyze
from ablate.report.outside.levels import order_levels
from ablate.report.render.terminal import analysis_text


def by_term(document: Json) -> dict[str, Json]:
    return {row["term"]: row for row in document["anova"]}


def one_way(document: Json) -> tuple[float, float, float]:
    between, within = document["anova"]
    return between["ss"], within["ss"], between["F"]


@pytest.fixture
def filtration(tmp_path: Path) -> Path:
    rows = [(*run, y) for run, y in zip(two_level("ABCD"), FILTRATION, strict=True)]
    return write_csv(tmp_path / "filtration.csv", [*"ABCD", "rate"], rows)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Training separately or together, surgery only together, three seeds; the noise sums to zero everywhere."""
    noise = iter([1, -1, 0, 0, 1, -1, -1, 0, 1])
    rows = [
        (training, surgery, seed, f"{mean + 0.01 * seed + 0.001 * next(noise):.4f}")
        for seed in (1, 2, 3)
        for training, surgery, mean in (
            ("separate", "", 0.8),
            ("joint", "none", 0.83),
            ("joint", "pcgrad", 0.85),
        )
    ]
    return write_csv(tmp_path / "study.csv", ["training", "surgery", "seed", "dev/mean"], rows)


def faults_of(path: Path, *args: Any, **kwargs: Any) -> tuple[str, ...]:
    with pytest.raises(BadInput) as caught:
        analyze_table(path, *args, **kwargs)
    return tuple(fault.replace(f"{path.parent}/", "") for fault in caught.value.faults)


# Published answers


def test_nist_sirstv(tmp_path: Path) -> None:
    rows = [(lab, y) for lab, values in SIRSTV.items() for y in values.split()]
    document = analyze_table(write_csv(tmp_path / "t.csv", ["lab", "y"], rows), "y", ["lab"])
    assert one_way(document) == pytest.approx((5.11462616e-2, 2.1663656e-1, 1.18046237440255), rel=1e-12)


def test_nist_atmwtag(tmp_path: Path) -> None:
    rows = [(lab, f"107.868{tail}") for lab, values in ATMWTAG.items() for tail in values.split()]
    document = analyze_table(write_csv(tmp_path / "t.csv", ["lab", "y"], rows), "y", ["lab"])
    assert one_way(document) == pytest.approx(
        (3.638341875e-9, 1.04951729166667e-8, 15.946733567793), rel=1e-12
    )


@pytest.mark.parametrize("constant", [1, 1_000_000, 1_000_000_000_000])
@pytest.mark.parametrize(
    ("replicates", "between", "within", "F"),
    [(21, 1.68, 1.8, 21), (201, 16.08, 18, 201), (2001, 160.08, 180, 2001)],
)
def test_nist_smls_to_twelve_digits(
    tmp_path: Path, constant: int, replicates: int, between: float, within: float, F: int
) -> None:
    path = write_csv(tmp_path / "t.csv", ["treatment", "y"], list(simon_lesage(constant, replicates)))
    assert one_way(analyze_table(path, "y", ["treatment"])) == pytest.approx((between, within, F), rel=1e-12)


def test_filtration_rate(filtration: Path) -> None:
    document = analyze_table(filtration, "rate", list("ABCD"), order="full")
    found = {row["factor"]: row["estimate"] for row in document["effects"]}
    found |= {":".join(row["factors"]): row["estimate"] for row in document["interactions"]}
    assert found == pytest.approx(FILTRATION_EFFECTS, abs=1e-9)
    assert document["lenth"]["pse"] == pytest.approx(2.625)


def test_replicated_two_cubed(tmp_path: Path) -> None:
    rows = [(*run, y) for run, pair in zip(two_level("ABC"), PLASMA_ETCH, strict=True) for y in pair]
    document = analyze_table(write_csv(tmp_path / "t.csv", [*"ABC", "y"], rows), "y", list("ABC"))
    assert by_term(document)["A:C"]["ss"] == pytest.approx(94402.5625)
    assert (by_term(document)["residual"]["ss"], document["lenth"]) == (pytest.approx(18020.5), None)


def test_randomised_blocks(tmp_path: Path) -> None:
    rows = [(p, batch, y) for p, ys in VASCULAR_GRAFT.items() for batch, y in enumerate(ys)]
    path = write_csv(tmp_path / "t.csv", ["pressure", "batch", "y"], rows)
    terms = by_term(analyze_table(path, "y", ["pressure"], block="batch"))
    assert (terms["pressure"]["F"], terms["pressure"]["p"]) == (
        pytest.approx(8.11, abs=5e-3),
        pytest.approx(0.0019, abs=5e-5),
    )
    assert terms["batch"]["ss"] == pytest.approx(192.25, abs=5e-3)


def test_battery_life(tmp_path: Path) -> None:
    rows = [(m, t, y) for (m, t), ys in BATTERY_LIFE.items() for y in ys]
    document = analyze_table(write_csv(tmp_path / "t.csv", ["m", "t", "y"], rows), "y", ["m", "t"])
    assert [by_term(document)[term]["F"] for term in ("m", "t", "m:t")] == pytest.approx(
        [7.91, 28.97, 3.56], abs=5e-3
    )


def test_tooth_growth(tmp_path: Path) -> None:
    rows = [(supp, dose, y) for (supp, dose), ys in TOOTH_GROWTH.items() for y in ys]
    document = analyze_table(
        write_csv(tmp_path / "t.csv", ["supp", "dose", "len"], rows), "len", ["supp", "dose"]
    )
    ratios = [by_term(document)[term]["F"] for term in ("supp", "dose", "supp:dose")]
    assert ratios == pytest.approx([15.572, 92.000, 4.107], abs=5e-4)
    assert document["effects"][0]["ci95"] == pytest.approx([-5.5798, -1.8202], abs=5e-5)


def test_a_latin_square(tmp_path: Path) -> None:
    rows = [
        (batch, operator, formulation, y)
        for batch, (formulations, ys) in enumerate(ROCKET_PROPELLANT)
        for operator, (formulation, y) in enumerate(zip(formulations, ys, strict=True))
    ]
    path = write_csv(tmp_path / "t.csv", ["batch", "operator", "formulation", "rate"], rows)
    terms = by_term(analyze_table(path, "rate", ["formulation", "operator"], block="batch"))
    assert {term: row["ss"] for term, row in terms.items()} == pytest.approx(
        {"batch": 68, "formulation": 330, "operator": 150, "residual": 128}
    )
    assert (terms["formulation"]["F"], terms["formulation"]["p"]) == pytest.approx((7.73, 0.0025), abs=5e-3)


def test_two_treatments_in_blocks_of_two_are_a_paired_t_test(tmp_path: Path) -> None:
    rows = [(boy, sole, wear) for sole, each in BOYS_SHOES.items() for boy, wear in enumerate(each)]
    path = write_csv(tmp_path / "t.csv", ["boy", "sole", "wear"], rows)
    (effect,) = analyze_table(path, "wear", ["sole"], block="boy")["effects"]
    assert (effect["estimate"], effect["df"], effect["p"]) == pytest.approx((0.41, 9, 0.008539), abs=5e-7)
    assert effect["ci95"] == pytest.approx([0.1330, 0.6870], abs=5e-5)


def test_incomplete_blocks_with_a_product_confounded(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "npk.csv", ["block", "N", "P", "K", "yield"], NPK)
    document = analyze_table(path, "yield", ["N", "P", "K"], block="block", order="full")
    rows = by_term(document)
    assert rows["block"]["F"] == pytest.approx(4.447, abs=5e-4)
    published = {"N": 12.259, "P": 0.544, "K": 6.166, "N:P": 1.378, "N:K": 2.146, "P:K": 0.031}
    assert {term: rows[term]["F"] for term in published} == pytest.approx(published, abs=5e-4)
    assert (rows["residual"]["df"], rows["residual"]["ss"]) == (12, pytest.approx(185.2867, abs=5e-5))
    assert any(warning.endswith(": N:P:K") for warning in document["warnings"])


def test_a_saturated_fraction(tmp_path: Path) -> None:
    runs = [
        (a, b, c, a * b, a * c, b * c, a * b * c, y)
        for (a, b, c), y in zip(
            (tuple(int(f"{sign}1") for sign in run) for run in two_level("ABC")), BICYCLE, strict=True
        )
    ]
    path = write_csv(tmp_path / "bicycle.csv", [*"ABCDEFG", "seconds"], runs)
    effects = analyze_table(path, "seconds", list("ABCDEFG"))["effects"]
    assert {row["factor"]: row["estimate"] for row in effects} == pytest.approx(BICYCLE_EFFECTS)


def test_nested_factors(tmp_path: Path) -> None:
    """A column of batches for each supplier, empty under the others: their sums of squares add up to the published one."""
    rows = [
        (supplier, *(batch if one == supplier else "" for one in PURITY), y)
        for supplier, batches in PURITY.items()
        for batch, values in enumerate(batches, 1)
        for y in values
    ]
    path = write_csv(tmp_path / "purity.csv", ["supplier", "b1", "b2", "b3", "purity"], rows)
    found = by_term(analyze_table(path, "purity", ["supplier", "b1", "b2", "b3"]))
    nested = [found[f"b{supplier}"] for supplier in PURITY]
    assert found["supplier"]["ss"] == pytest.approx(15.06, abs=5e-3)
    assert sum(row["ss"] for row in nested) == pytest.approx(69.92, abs=5e-3)
    assert sum(row["df"] for row in nested) == 9
    assert (found["residual"]["df"], found["residual"]["ss"]) == (24, pytest.approx(63.33, abs=5e-3))


@pytest.mark.parametrize("factors", [["supplier", "batch"], ["batch", "supplier"]])
def test_a_nested_factor_with_labels_of_its_own_is_told_what_would_do(
    tmp_path: Path, factors: list[str]
) -> None:
    rows = [
        (supplier, f"{supplier}-{batch}", y)
        for supplier, batches in PURITY.items()
        for batch, values in enumerate(batches, 1)
        for y in values
    ]
    path = write_csv(tmp_path / "purity.csv", ["supplier", "batch", "purity"], rows)
    with pytest.raises(
        BadInput, match=r"give batch a column .* \(batch_1, batch_2, batch_3\), empty in all other"
    ):
        analyze_table(path, "purity", factors)


def test_unbalanced_table_reports_type_two_and_keeps_the_others(tmp_path: Path) -> None:
    rows = [(drug, disease, y) for (drug, disease), ys in DRUG_DISEASE.items() for y in ys]
    path = write_csv(tmp_path / "t.csv", ["drug", "disease", "y"], rows)
    document = analyze_table(path, "y", ["drug", "disease"])
    found = {
        (row["type"], row["term"]): row["ss"] for row in [*document["anova"][:-1], *document["anova_other"]]
    }
    expected = {(kind, term): ss for kind, rows in DRUG_DISEASE_SS.items() for term, ss in rows.items()}
    assert {row["type"] for row in document["anova"][:-1]} == {"II"}
    assert found == pytest.approx(expected, abs=5e-7)


# The document


def test_keys_are_those_promised(study: Path) -> None:
    document = analyze_table(study, "dev/mean", ["training", "surgery"], block="seed")
    assert {"metric", "n", "effects", "interactions", "anova", "lenth", "warnings"} <= set(document)
    assert {"factor", "from", "to", "when", "estimate", "se", "df", "ci95", "p", "p_holm", "verdict"} <= set(
        document["effects"][0]
    )
    assert {"term", "df", "ss", "ms", "F", "p", "type"} == set(document["anova"][0])


def test_interaction_keys_are_those_promised(filtration: Path) -> None:
    row = analyze_table(filtration, "rate", list("ABCD"))["interactions"][0]
    assert {"factors", "estimate", "se", "df", "ci95", "p"} <= set(row)


def test_the_document_is_strict_json(study: Path, filtration: Path) -> None:
    for document in (
        analyze_table(study, "dev/mean", ["training", "surgery"], block="seed"),
        analyze_table(filtration, "rate", list("ABCD"), order="full"),
    ):
        assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_the_last_row_of_the_anova_is_the_residual(filtration: Path) -> None:
    assert analyze_table(filtration, "rate", list("ABCD"))["anova"][-1]["term"] == "residual"


def test_a_conditional_factor_says_when(study: Path) -> None:
    training, surgery = analyze_table(
        study, "dev/mean", ["training", "surgery"], block="seed", baseline={"training": "separate"}
    )["effects"]
    assert (training["when"], surgery["when"]) == (None, "training = joint")
    assert (training["estimate"], surgery["estimate"]) == (pytest.approx(0.04), pytest.approx(0.02))
    assert (training["verdict"], surgery["verdict"]) == ("helps", "helps")


def test_the_baseline_turns_the_sign(study: Path) -> None:
    forward, back = (
        analyze_table(study, "dev/mean", ["training", "surgery"], "seed", {"training": level})["effects"][0]
        for level in ("separate", "joint")
    )
    assert (forward["from"], forward["to"], back["from"]) == ("separate", "joint", "joint")
    assert forward["estimate"] == pytest.approx(-back["estimate"])


def test_p_holm_is_over_the_main_effects(study: Path) -> None:
    effects = analyze_table(study, "dev/mean", ["training", "surgery"], block="seed")["effects"]
    smallest = min(effects, key=lambda row: row["p"])
    assert smallest["p_holm"] == pytest.approx(2 * smallest["p"])


def test_the_verdict_knows_the_smallest_effect_and_the_goal(tmp_path: Path) -> None:
    rows = [(a, f"{0.8 + 0.0001 * a + noise:.5f}") for a in (0, 1) for noise in (-2e-4, -1e-4, 0, 1e-4, 2e-4)]
    path = write_csv(tmp_path / "t.csv", ["a", "y"], rows)
    words = [
        analyze_table(path, "y", ["a"], smallest_effect=s)["effects"][0]["verdict"] for s in (None, 0.005)
    ]
    assert words == ["inconclusive", "no difference that matters"]


def test_the_interval_behind_no_difference_that_matters_stands_beside_it(tmp_path: Path) -> None:
    rows = [(a, f"{0.8 + 0.0001 * a + noise:.5f}") for a in (0, 1) for noise in (-2e-4, -1e-4, 0, 1e-4, 2e-4)]
    path = write_csv(tmp_path / "t.csv", ["a", "y"], rows)
    found = analyze.analyze_table(path, replace(question("y", ["a"]), smallest_effect=0.005))
    half = 1.859548 * 1e-4  # t(8) and SE: noise of variance 2.5e-8 in two groups of five
    assert found.effects[0].ci90 == pytest.approx((1e-4 - half, 1e-4 + half))
    assert ", 90 % interval [−0.0001, +0.0003], p = " in analysis_text(found)


def test_less_can_be_better(study: Path) -> None:
    loss = analyze_table(
        study, "dev/mean", ["training"], block="seed", baseline={"training": "separate"}, goal="minimize"
    )
    assert loss["effects"][0]["verdict"] == "hurts"


def test_several_levels_are_each_compared_with_the_baseline(tmp_path: Path) -> None:
    rows = [(m, t, y) for (m, t), ys in BATTERY_LIFE.items() for y in ys]
    path = write_csv(tmp_path / "t.csv", ["m", "t", "y"], rows)
    effects = analyze_table(path, "y", ["m", "t"], baseline={"t": "70"})["effects"]
    assert [(row["from"], row["to"]) for row in effects if row["factor"] == "t"] == [
        ("70", "15"),
        ("70", "125"),
    ]


def test_replicates_that_do_not_differ_are_flagged(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", ["a", "y"], [(0, 0.5), (0, 0.5), (1, 0.7), (1, 0.7)])
    document = analyze_table(path, "y", ["a"])
    assert (document["effects"][0]["p"], document["effects"][0]["verdict"]) == (None, "inconclusive")
    assert any("there is no noise, so no p" in warning for warning in document["warnings"])


def test_a_fraction_says_that_it_cannot_tell_products_apart(filtration: Path) -> None:
    """The half fraction with I = ABCD."""
    lines = filtration.read_text().splitlines()
    filtration.write_text(
        "\n".join([lines[0], *(line for line in lines[1:] if line.count("+") % 2 == 0)]) + "\n"
    )
    warnings = analyze_table(filtration, "rate", list("ABCD"))["warnings"]
    assert any(warning.startswith("main effects only: the table cannot separate") for warning in warnings)


@pytest.fixture
def crossover(tmp_path: Path) -> Path:
    """A choice that adds .05 at one level of the other and takes .03 at the other; noise of four seeds."""
    noise = np.random.default_rng(3).normal(0, 0.005, (2, 2, 4))
    rows = [
        (a, b, seed, 0.8 + a * (0.05 - 0.08 * b) + noise[a, b, seed])
        for a in (0, 1)
        for b in (0, 1)
        for seed in range(4)
    ]
    return write_csv(tmp_path / "crossover.csv", ["a", "b", "seed", "y"], rows)


@pytest.mark.parametrize("block", ["seed", None])
def test_an_effect_that_turns_around_says_where(crossover: Path, block: str | None) -> None:
    document = analyze_table(crossover, "y", ["a", "b"], block)
    up, down = document["effects"][0]["turns"]
    assert (up["factor"], up["level"], down["level"]) == ("b", "0", "1")
    assert up["ci95"][0] < 0.05 < up["ci95"][1]
    assert down["ci95"][0] < -0.03 < down["ci95"][1]
    text = analysis_text(analyze.analyze_table(crossover, question("y", ["a", "b"], block)))
    assert "a: 0 → 1: depends on b (+0.0" in text


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("seed", "means of the differences within each block"),
        (None, "differences of estimated marginal means"),
    ],
)
def test_the_caption_says_what_is_estimated(crossover: Path, block: str | None, said: str) -> None:
    text = analysis_text(analyze.analyze_table(crossover, question("y", ["a", "b"], block)))
    assert f"Effects are {said}; " in text


@pytest.mark.parametrize("block", ["seed", None])
def test_a_simple_effect_is_the_mean_difference_of_its_cells(crossover: Path, block: str | None) -> None:
    with crossover.open() as file:
        rows = list(csv.DictReader(file))
    (effect, _) = analyze_table(crossover, "y", ["a", "b"], block)["effects"]
    for simple in effect["turns"]:
        low, high = (
            np.mean([float(row["y"]) for row in rows if (row["a"], row["b"]) == (a, simple["level"])])
            for a in "01"
        )
        assert simple["estimate"] == pytest.approx(high - low, rel=1e-12)


def test_an_effect_that_is_clear_at_one_level_only_says_so(tmp_path: Path) -> None:
    noise = iter(np.random.default_rng(4).normal(0, 0.005, 16))
    rows = [
        (a, b, seed, 0.8 + 0.1 * a * b + next(noise)) for a in (0, 1) for b in (0, 1) for seed in range(4)
    ]
    table = write_csv(tmp_path / "one.csv", ["a", "b", "seed", "y"], rows)
    found = analyze.analyze_table(table, question("y", ["a", "b"], "seed"))
    assert found.effects[0].qualifiers == ("depends",)
    assert "a: 0 → 1: helps on average, but it depends on b (+0." in analysis_text(found)


def test_an_effect_at_some_levels_only_is_not_called_a_main_effect(tmp_path: Path) -> None:
    """a = b = 1 is missing, so the effect of a is that at b = 0."""
    noise = iter(np.random.default_rng(6).normal(0, 0.002, 32))
    cells = [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1) if not a == b == 1]
    rows = [
        (a, b, c, seed, 0.5 + 0.02 * a + 0.03 * a * b + next(noise)) for a, b, c in cells for seed in range(3)
    ]
    table = write_csv(tmp_path / "hole.csv", ["a", "b", "c", "seed", "y"], rows)
    found = analyze.analyze_table(table, question("y", ["a", "b", "c"], "seed"))
    assert (found.effects[0].qualifiers, found.effects[0].aliased_with) == (("aliased",), ("a:b",))
    assert found.effects[2].aliased_with == ()


def test_an_interaction_without_noise_says_so(tmp_path: Path) -> None:
    noise = iter(np.random.default_rng(6).normal(0, 0.01, 16))
    rows = [
        (a, b, seed, value)
        for seed in range(4)
        for shift in [next(noise)]
        for a, b, value in ((0, 0, 0.5), (0, 1, 0.5 + shift), (1, 0, 0.75), (1, 1, 1.0 + shift))
    ]
    table = write_csv(tmp_path / "same.csv", ["a", "b", "seed", "y"], rows)
    warnings = analyze.analyze_table(table, question("y", ["a", "b"], "seed")).warnings
    assert "a term of a × b is the same in every block: without noise it has no p" in warnings


def test_without_an_interaction_an_effect_depends_on_nothing(study: Path) -> None:
    assert not any(
        row["turns"] for row in analyze_table(study, "dev/mean", ["training", "surgery"], "seed")["effects"]
    )


def test_an_interaction_of_three_is_half_of_the_change_of_that_of_two(tmp_path: Path) -> None:
    rows = [
        (a, b, c, seed, a * b * c + 0.001 * ((a + 2 * b + 4 * c) * seed % 5))
        for a in (0, 1)
        for b in (0, 1)
        for c in (0, 1)
        for seed in range(3)
    ]
    table = write_csv(tmp_path / "three.csv", ["a", "b", "c", "seed", "y"], rows)
    analysis = analyze.analyze_table(table, question("y", ["a", "b", "c"], "seed"))
    assert analysis.interactions[-1].numbers.estimate == pytest.approx(1 / 4, abs=0.01)
    assert "; of three: half of how much that half changes with the third's level)" in analysis_text(analysis)


def test_an_effect_of_a_fraction_names_what_it_is_mixed_with(tmp_path: Path) -> None:
    noise = iter(np.random.default_rng(1).normal(0, 0.005, 16))
    rows = [
        (a, b, a * b, seed, 0.8 + 0.02 * a + 0.03 * a * b + next(noise))
        for a in (-1, 1)
        for b in (-1, 1)
        for seed in range(4)
    ]
    table = write_csv(tmp_path / "half.csv", ["a", "b", "c", "seed", "y"], rows)
    document = analyze_table(table, "y", ["a", "b", "c"], "seed", smallest_effect=0.5)
    assert [row["aliased_with"] for row in document["effects"]] == [["b:c"], ["a:c"], ["a:b"]]
    assert document["effects"][1]["verdict"] == "inconclusive"
    text = analysis_text(analyze.analyze_table(table, question("y", ["a", "b", "c"], "seed")))
    assert "c: -1 → 1: helps, or seems to because of a:b" in text


def test_halves_that_differ_between_blocks_are_aliased_as_far_as_they_do_not_cancel(tmp_path: Path) -> None:
    """Nine seeds ran the half with c = ab, one the other: within a seed, c cannot be separated from a:b."""
    noise = iter(np.random.default_rng(1).normal(0, 0.005, 40))
    rows = [
        (a, b, (-1 if seed == 9 else 1) * a * b, seed, 0.8 + 0.05 * a * b + next(noise))
        for a in (-1, 1)
        for b in (-1, 1)
        for seed in range(10)
    ]
    table = write_csv(tmp_path / "halves.csv", ["a", "b", "c", "seed", "y"], rows)
    document = analyze_table(table, "y", ["a", "b", "c"], "seed")
    assert document["effects"][2]["aliased_with"] == ["0.80 of a:b"]
    assert "aliased" in document["effects"][2]["qualifiers"]


def test_a_fraction_of_resolution_four_names_its_words_of_four(tmp_path: Path) -> None:
    noise = iter(np.random.default_rng(1).normal(0, 0.005, 32))
    rows = [
        (a, b, c, a * b * c, seed, 0.8 + 0.03 * a * b * c + next(noise))
        for a in (-1, 1)
        for b in (-1, 1)
        for c in (-1, 1)
        for seed in range(4)
    ]
    table = write_csv(tmp_path / "half.csv", ["a", "b", "c", "d", "seed", "y"], rows)
    document = analyze_table(table, "y", ["a", "b", "c", "d"], "seed")
    assert [row["aliased_with"] for row in document["effects"]] == [
        ["b:c:d"],
        ["a:c:d"],
        ["a:b:d"],
        ["a:b:c"],
    ]


@pytest.mark.parametrize(("sd", "warned"), [(0.05, True), (0.0015, False)])
def test_unequal_noise_without_a_block_is_warned_of(tmp_path: Path, sd: float, warned: bool) -> None:
    rng = np.random.default_rng(0)
    rows = [("a", y) for y in rng.normal(0.8, 0.001, 12)] + [("b", y) for y in rng.normal(0.8, sd, 3)]
    document = analyze_table(write_csv(tmp_path / "t.csv", ["head", "y"], rows), "y", ["head"])
    assert any("vary much more" in warning for warning in document["warnings"]) is warned


def test_a_full_table_does_not(filtration: Path) -> None:
    assert not any(
        "main effects only" in w for w in analyze_table(filtration, "rate", list("ABCD"))["warnings"]
    )


# Rows and runs


@pytest.fixture
def repeated(tmp_path: Path) -> Path:
    """Two levels by three seeds, each measured four times: twelve rows a level, but three runs."""
    noise = iter([0.3, -0.1, 0.2, -0.4, 0.1, 0.0] * 4)
    rows = [
        (a, seed, f"{a + seed / 4 + a * seed / 8 + next(noise):.3f}")
        for a in (0, 1)
        for seed in (1, 2, 3)
        for _ in range(4)
    ]
    return write_csv(tmp_path / "t.csv", ["a", "seed", "y"], rows)


def test_rows_of_one_combination_and_block_are_one_run(repeated: Path, tmp_path: Path) -> None:
    rows = [line.split(",") for line in repeated.read_text().splitlines()[1:]]
    cells = {(a, seed): [float(y) for a_, s_, y in rows if (a_, s_) == (a, seed)] for a, seed, _ in rows}
    means = write_csv(
        tmp_path / "means.csv", ["a", "seed", "y"], [(*cell, sum(y) / 4) for cell, y in cells.items()]
    )
    found, expected = (analyze_table(path, "y", ["a"], block="seed") for path in (repeated, means))
    assert (found["n"], found["rows"], found["effects"][0]["df"]) == (6, 24, 2)
    assert found["effects"][0]["ci95"] == pytest.approx(expected["effects"][0]["ci95"])


def test_averaging_is_told_with_its_counts(repeated: Path) -> None:
    warnings = analyze_table(repeated, "y", ["a"], block="seed")["warnings"]
    assert warnings == [
        "24 rows are 6 runs: the rows of one combination and one seed are averaged (4 each); "
        "--unit row counts each as a separate run"
    ]


def test_each_row_is_a_run_of_its_own_when_asked(repeated: Path) -> None:
    document = analyze_table(repeated, "y", ["a"], block="seed", unit="row")
    assert (document["n"], document["effects"][0]["df"]) == (24, 20)
    assert any("18 rows repeat a combination within its seed" in warning for warning in document["warnings"])


def test_without_a_block_repeated_rows_are_replicates(repeated: Path) -> None:
    document = analyze_table(repeated, "y", ["a"])
    assert (document["n"], document["effects"][0]["df"]) == (24, 22)
    assert not any("averaged" in warning for warning in document["warnings"])


def test_exact_copies_of_rows_are_counted_where_they_would_be_runs(tmp_path: Path) -> None:
    rows = [(a, s, a + s / 8) for a in (0, 1) for s in (1, 2, 3)]
    path = write_csv(tmp_path / "t.csv", ["a", "s", "y"], [*rows, rows[0], rows[5]])
    (note,) = analyze_table(path, "y", ["a"])["warnings"][:1]
    assert note.startswith(
        "rows that are exact copies of an earlier row: 2. Without --block each counts as one more run"
    )
    assert not any("copies" in note for note in analyze_table(path, "y", ["a"], block="s")["warnings"])
    by_row = analyze_table(path, "y", ["a"], block="s", unit="row")["warnings"]
    assert any("copies of an earlier row: 2. With --unit row each counts" in note for note in by_row)


def test_rows_that_differ_in_a_column_left_out_are_no_copies(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", ["a", "s", "y"], [(a, s, a) for a in (0, 1) for s in (1, 2)])
    assert not any("copies" in note for note in analyze_table(path, "y", ["a"])["warnings"])


def test_a_level_written_two_ways_is_one_run_of_a_seed(tmp_path: Path) -> None:
    rows = [("0", 1, 1), ("0.0", 1, 3), ("1", 1, 5), ("0", 2, 2), ("1", 2, 7)]
    document = analyze_table(write_csv(tmp_path / "t.csv", ["a", "s", "y"], rows), "y", ["a"], block="s")
    assert (document["n"], document["effects"][0]["estimate"]) == (4, pytest.approx(4.0))


def test_unequal_numbers_of_rows_do_not_weigh(tmp_path: Path) -> None:
    """Cell means 3, 1 / 2, 4: the marginal means of B are both 2.5, its raw means are not."""
    counts = {("1", "1"): (5, 3), ("1", "2"): (3, 1), ("2", "1"): (5, 2), ("2", "2"): (7, 4)}
    rows = [
        (a, b, mean + spread)
        for (a, b), (n, mean) in counts.items()
        for spread in [0.5, -0.5] * (n // 2) + [0] * (n % 2)
    ]
    path = write_csv(tmp_path / "t.csv", ["A", "B", "y"], rows)
    effects = {row["factor"]: row["estimate"] for row in analyze_table(path, "y", ["A", "B"])["effects"]}
    assert effects == pytest.approx({"A": 1.0, "B": 0.0}, abs=1e-9)


def test_a_missing_combination_is_named(tmp_path: Path) -> None:
    rows = [(*ab, y) for ab, y in zip(["00", "01", "10"] * 2, [1, 2, 4, 2, 4, 3], strict=True)]
    path = write_csv(tmp_path / "t.csv", ["a", "b", "y"], rows)
    assert (
        "1 of 4 combinations of levels has no row: a = 1, b = 1"
        in analyze_table(path, "y", ["a", "b"])["warnings"]
    )


def test_a_combination_that_lacks_a_block_is_named(study: Path) -> None:
    study.write_text("".join(study.read_text().splitlines(True)[:-1]))
    assert (
        "1 of 9 pairs of a combination and a seed has no row: training = joint, surgery = pcgrad in seed 3"
        in analyze_table(study, "dev/mean", ["training", "surgery"], block="seed")["warnings"]
    )


def test_a_combination_that_a_condition_excludes_is_not_missed(study: Path) -> None:
    warnings = analyze_table(study, "dev/mean", ["training", "surgery"], block="seed")["warnings"]
    assert not any("no row" in warning for warning in warnings)


# Wide tables


@pytest.fixture
def wide(study: Path) -> Path:
    """The study with a column for each seed."""
    runs: dict[tuple[str, str], list[str]] = {}
    for line in study.read_text().splitlines()[1:]:
        training, surgery, _, y = line.split(",")
        runs.setdefault((training, surgery), []).append(y)
    rows = [(*cell, *values) for cell, values in runs.items()]
    header = ["training", "surgery", "acc_s1", "acc_s2", "acc_s3"]
    return write_csv(study.with_name("wide.csv"), header, rows)


@pytest.mark.parametrize("metric", ["acc_s1,acc_s2,acc_s3", "acc_s1, acc_s2, acc_s3", "acc_*", "acc_s?"])
def test_one_column_a_seed_says_what_one_row_a_seed_says(study: Path, wide: Path, metric: str) -> None:
    long = analyze_table(study, "dev/mean", ["training", "surgery"], block="seed")
    document = analyze_table(wide, metric, ["training", "surgery"])
    assert document["n"] == 9
    for key in ("estimate", "se", "df", "p"):
        assert [e[key] for e in document["effects"]] == pytest.approx([e[key] for e in long["effects"]])
    assert document["anova"][0]["term"] == "seed"
    assert "acc_s1, acc_s2, acc_s3: one column for each seed" in document["warnings"]


def test_a_seed_that_failed_is_an_empty_field_of_a_wide_table(wide: Path) -> None:
    lines = wide.read_text().splitlines()
    wide.write_text("\n".join([*lines[:3], lines[3].rpartition(",")[0] + ","]))
    assert faults_of(wide, "acc_*", ["training", "surgery"]) == (
        "wide.csv:4: acc_s3: empty; fill it in, or leave such rows out with --drop-missing",
    )
    document = analyze_table(wide, "acc_*", ["training", "surgery"], drop_missing=True)
    assert (document["n"], document["dropped"]) == (8, 1)


def test_a_wide_table_has_its_blocks_already(wide: Path) -> None:
    assert faults_of(wide, "acc_*", ["surgery"], "training") == (
        "--block: acc_s1, acc_s2, acc_s3 are read as one column per seed, so leave --block out; if they are different "
        "metrics, analyze one at a time",
    )


def test_two_metrics_of_a_table_with_seeds_are_not_taken_for_seeds(tmp_path: Path) -> None:
    rows = [(a, s, 0.8 + 0.01 * s + 0.1 * a, 0.5 - 0.1 * a) for a in (0, 1) for s in (1, 2, 3)]
    path = write_csv(tmp_path / "t.csv", ["a", "seed", "acc", "loss"], rows)
    (fault,) = faults_of(path, "acc,loss", ["a"])
    assert fault.startswith(
        "--metric: acc, loss would be one column per seed, but 4 rows repeat the combination"
    )
    assert "name the column of seeds with --block" in fault


def test_columns_with_unlike_names_may_be_seeds_and_this_is_told(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", ["a", "acc", "loss"], [(0, 0.8, 0.5), (1, 0.9, 0.3)])
    assert (
        "acc, loss: one column for each seed; if they are different metrics, analyze one at a time"
        in analyze_table(path, "acc,loss", ["a"])["warnings"]
    )


def test_a_first_line_that_is_a_comment_is_named(ablate: Ablate, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text("# exported today\nlr,acc\n0.1,0.5\n0.2,0.6\n")
    refused = ablate("analyze", "runs.csv", "--metric", "acc", "--factors", "lr")
    assert "the first line, '# exported today', looks like a comment: delete it" in refused.stderr


def test_a_column_of_seeds_that_is_not_used_is_named(tmp_path: Path) -> None:
    rows = [(a, s, s + 0.1 * a + 0.01 * a * s) for a in (0, 1) for s in (1, 2, 3)]
    path = write_csv(tmp_path / "t.csv", ["a", "random_seed", "y"], rows)
    unused = "the column random_seed is not used; --block random_seed compares runs with the same seed, where there are any"
    factor = "random_seed counts as a factor; if it is the random seed, name it with --block instead"
    assert unused in analyze_table(path, "y", ["a"])["warnings"]
    assert factor in analyze_table(path, "y", ["a", "random_seed"])["warnings"]
    told = analyze_table(path, "y", ["a"], block="random_seed")["warnings"]
    assert not any("random_seed" in warning for warning in told)


def test_a_level_that_was_saved_as_an_empty_field_is_told_what_would_do(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", ["a", "y"], [("", 1), ("", 2), ("cosine", 3), ("cosine", 5)])
    assert faults_of(path, "y", ["a"]) == (
        "t.csv: a: only one level, 'cosine', and 2 empty fields; an empty field means that the factor does not exist in "
        "that row; if it is a level, write a name such as none",
    )


@pytest.mark.parametrize("values", [pytest.param(20, id="each once"), pytest.param(15, id="some twice")])
def test_a_column_of_values_drawn_from_a_range_is_named_and_not_its_neighbour(
    tmp_path: Path, values: int
) -> None:
    rows = [(0.001 * 1.1 ** (i % values), int(i % values > 7), i % 7) for i in range(20)]
    path = write_csv(tmp_path / "t.csv", ["lr", "wd", "y"], rows)
    (fault,) = faults_of(path, "y", ["lr", "wd"])
    assert fault.startswith(f"lr: {values} levels in 20 rows are too many: each different value")


def test_a_pattern_without_a_column_is_refused(wide: Path) -> None:
    assert faults_of(wide, "loss_*", ["training"]) == (
        "wide.csv:1: loss_*: no such column; the columns are 'training', 'surgery', 'acc_s1', 'acc_s2', 'acc_s3'",
    )


# Number formats


def test_percent_signs_are_told(study: Path) -> None:
    lines = study.read_text().splitlines()
    with_signs = [
        lines[0],
        *(f"{line.rpartition(',')[0]},{float(line.rpartition(',')[2]) * 100:.2f}%" for line in lines[1:]),
    ]
    study.write_text("\n".join(with_signs))
    document = analyze_table(study, "dev/mean", ["training", "surgery"], "seed", {"training": "separate"})
    assert document["effects"][0]["estimate"] == pytest.approx(4.0)
    assert any(w.startswith("percent signs: ") and "percentage points" in w for w in document["warnings"])


def test_percent_signs_among_plain_numbers_are_refused(study: Path) -> None:
    study.write_text(study.read_text() + "separate,,4,87.5%\nseparate,,5,88%\n")
    assert faults_of(study, "dev/mean", ["training"], block="seed") == (
        "study.csv:11: dev/mean: '87.5%' has a percent sign, others are without one; write all in one unit",
    )


EDGES = ["1e999999", "1e-999999", "-1e999999999999999999", "5e-324", "1e99999999999999999999999", "9" * 5000,
         "0." + "3" * 5000, "1e308"]  # fmt: skip


@pytest.mark.parametrize("edge", EDGES)
def test_levels_at_the_edge_of_numbers_are_levels(tmp_path: Path, edge: str) -> None:
    path = write_csv(tmp_path / "t.csv", ["a", "y"], [(edge, 1), (edge, 2), (0, 3), (0, 5)])
    (effect,) = analyze_table(path, "y", ["a"], baseline={"a": "0"})["effects"]
    assert (effect["to"], effect["estimate"]) == (edge, pytest.approx(-2.5))


@pytest.mark.parametrize("edge", ["1e-999999", "5e-324", "0." + "3" * 5000])
def test_small_metrics_at_the_edge_of_numbers_are_analysed(tmp_path: Path, edge: str) -> None:
    path = write_csv(tmp_path / "t.csv", ["a", "y"], [(0, edge), (0, 2), (1, 3), (1, 5)])
    assert analyze_table(path, "y", ["a"])["effects"][0]["estimate"] == pytest.approx(3 - float(edge) / 2)


@pytest.mark.parametrize(
    "edge", ["1e999999", "-1e999999999999999999", "1e99999999999999999999999", "9" * 5000, "1e308"]
)
def test_large_metrics_at_the_edge_of_numbers_are_refused(tmp_path: Path, edge: str) -> None:
    path = write_csv(tmp_path / "t.csv", ["a", "y"], [(0, edge), (0, 2), (1, 3), (1, 5)])
    (fault,) = faults_of(path, "y", ["a"])
    assert fault.startswith("t.csv:2: y: ") or fault == "t.csv: y: values span 1e+308; use another unit"


def test_a_metric_too_small_to_square_is_refused(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "t.csv", ["a", "y"], [(0, "1e-300"), (0, "2e-300"), (1, "3e-300"), (1, "5e-300")]
    )
    assert faults_of(path, "y", ["a"]) == ("t.csv: y: values span 4e-300; use another unit",)


def test_a_column_of_ids_is_refused_at_once(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", ["a", "y"], [(i, i % 7) for i in range(60_000)])
    assert faults_of(path, "y", ["a"])[0] == "a: 60000 levels; is it a number or an id?"


# Levels


def test_levels_sort_by_number_where_all_are_numbers() -> None:
    assert order_levels(["128", "1e3", "-5", "16"]) == ["-5", "16", "128", "1e3"]


def test_levels_sort_by_alphabet_otherwise() -> None:
    assert order_levels(["pcgrad", "none", "10"]) == ["10", "none", "pcgrad"]


def test_one_number_written_two_ways_is_one_level() -> None:
    assert order_levels(["0.01", "0", "0.0", "1e-2"]) == ["0", "0.01"]
    assert order_levels(["0.10", "none", "0.1"]) == ["0.10", "none"]


def test_levels_in_percent_sort_by_number() -> None:
    assert order_levels(["10%", "5%", "5.0 %"]) == ["5%", "10%"]


def test_minus_comes_before_plus() -> None:
    assert order_levels(["+", "-"]) == ["-", "+"]


def test_a_baseline_may_be_written_as_another_number() -> None:
    assert order_levels(["0.0", "0.5", "1"], baseline="1.0") == ["1", "0.0", "0.5"]


@pytest.mark.parametrize("word", ["NA", "null", "None", "nan", "false", ""])
def test_words_that_look_missing_are_levels(tmp_path: Path, word: str) -> None:
    rows = [(word or "empty", 1), (word or "empty", 2), ("x", 3), ("x", 5)]
    document = analyze_table(write_csv(tmp_path / "t.csv", ["a", "y"], rows), "y", ["a"])
    assert {document["effects"][0]["from"], document["effects"][0]["to"]} == {word or "empty", "x"}


# What is read


def test_missing_metrics_are_left_out_only_when_asked(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", ["a", "y"], [(0, 1), (0, ""), (0, 2), (1, 3), (1, 5), (1, "NA")])
    document = analyze_table(path, "y", ["a"], drop_missing=True)
    assert (document["n"], document["dropped"]) == (4, 2)
    assert document["warnings"][0] == "2 of 6 rows have no y and are left out"


def test_who_does_not_say_whether_less_is_better_is_told_what_counts(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", ["a", "val_loss"], [(0, 1), (0, 2), (1, 3), (1, 5)])
    said = "a larger val_loss counts as better; pass --goal minimize if it is a loss"
    assert analyze_table(path, "val_loss", ["a"])["warnings"][0] == said
    assert said not in analyze_table(path, "val_loss", ["a"], goal="minimize")["warnings"]


def test_a_run_that_is_there_twice_with_two_results_is_named(tmp_path: Path) -> None:
    rows = [(0, 1, 1.0), (0, 2, 2.0), (1, 1, 3.0), (1, 2, 5.0), (1, 2, 5.25)]
    document = analyze_table(write_csv(tmp_path / "t.csv", ["a", "s", "y"], rows), "y", ["a"], block="s")
    assert (
        "Rows of one run differ by up to 0.25 (a = 1, s = 2): look for duplicates" in document["warnings"][0]
    )


# What is refused


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "t.csv", ["a", "b", "y"], [(0, 0, ""), (0, 1, "nan"), (1, 0, 3, 4), (1, 0), (1, 0, "1_0")]
    )
    assert faults_of(path, "y", ["a", "b"]) == (
        "t.csv:2: y: empty; fill it in, or leave such rows out with --drop-missing",
        "t.csv:3: y: 'nan' is not a finite number; if the run has no result, leave the field empty",
        "t.csv:4: 4 fields, the header has 3; quote a field with a comma",
        "t.csv:5: 2 fields, the header has 3; quote a field with a comma",
        "t.csv:6: y: '1_0' is not a finite number; if the run has no result, leave the field empty",
    )


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1e999", "0x10", "high", "NaN", "²", "٣"])
def test_a_metric_that_is_no_finite_number_is_refused_even_when_dropping(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(f'a,y\n0,1\n0,2\n1,"{text}"\n1,3\n')
    assert faults_of(tmp_path / "t.csv", "y", ["a"], drop_missing=True) == (
        f"t.csv:4: y: {text!r} is not a finite number; if the run has no result, leave the field empty",
    )


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("1,5", "write all decimals with a point, or all with a comma and pass --decimal ','"),
        ("1 000", "write it without thousands separators"),
        ("1,234.5", "write it without thousands separators"),
        ("1'000", "write it without thousands separators"),
    ],
)
def test_a_number_in_another_format_is_refused_with_what_would_do(
    tmp_path: Path, text: str, advice: str
) -> None:
    (tmp_path / "t.csv").write_text(f'a,y\n0,1\n0,2\n1,"{text}"\n1,3\n')
    assert faults_of(tmp_path / "t.csv", "y", ["a"]) == (
        f"t.csv:4: y: {text!r} is not a finite number; {advice}",
    )


def test_rows_of_a_wrong_length_are_not_also_levels_that_lack(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", ["a", "y"], [(0, 1), (1, 2, 3), (1,)])
    assert [fault.split(": ")[0] for fault in faults_of(path, "y", ["a"])] == ["t.csv:3", "t.csv:4"]


def test_a_factor_with_one_level_is_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", ["a", "b", "y"], [(0, 7, 1), (0, 7, 2), (1, 7, 3), (1, 7, 4)])
    assert faults_of(path, "y", ["a", "b"]) == (
        "t.csv: b: only one level, '7'; leave it out, or add rows with another level",
    )


def test_a_mistyped_column_gets_a_suggestion(study: Path) -> None:
    assert faults_of(study, "dev/mena", ["training", "sugery"]) == (
        "study.csv:1: dev/mena: no such column; did you mean 'dev/mean'?",
        "study.csv:1: sugery: no such column; did you mean 'surgery'?",
    )


def test_a_baseline_that_is_no_level_is_refused(study: Path) -> None:
    assert faults_of(study, "dev/mean", ["training"], baseline={"training": "apart"}) == (
        "study.csv: training: the baseline 'apart' is not a level; the levels are 'joint', 'separate'",
    )


def test_wrong_arguments_are_all_told(study: Path) -> None:
    faults = faults_of(
        study, "seed", ["training", "training"], "seed", {"x": "1"}, order="3", smallest_effect=0.0, goal="up"
    )
    assert [fault.split(":")[0] for fault in faults] == [
        "'seed'", "'training'", "--baseline", "--order", "smallest effect", "--goal"
    ]  # fmt: skip


def test_two_factors_that_always_change_together_are_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", ["a", "b", "y"], [(0, 0, 1), (0, 0, 2), (1, 1, 3), (1, 1, 5)])
    assert faults_of(path, "y", ["a", "b"]) == ("b: changes together with a; leave one of them out",)


def test_a_factor_that_no_block_varies_is_refused(tmp_path: Path) -> None:
    rows = [(seed > 2, b, seed, seed * b) for seed in (1, 2, 3, 4) for b in (0, 1)]
    path = write_csv(tmp_path / "t.csv", ["a", "b", "seed", "y"], rows)
    assert faults_of(path, "y", ["a", "b"], block="seed") == (
        "a: every seed occurs with one level of it only, so the two cannot be told apart; leave --block seed out",
    )


def test_too_few_rows_are_refused(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", ["a", "b", "y"], [(0, "p", 1), (1, "q", 2), (1, "r", 3)])
    assert faults_of(path, "y", ["a", "b"]) == ("3 rows are too few for 3 effects; at least 4 are needed",)


def test_an_id_is_no_factor(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", ["a", "id", "y"], [(i % 2, i, i % 7) for i in range(1500)])
    assert "id: 1500 levels; is it a number or an id?" in faults_of(path, "y", ["a", "id"])


def test_all_products_of_too_many_factors_are_refused(tmp_path: Path) -> None:
    names = [f"f{k}" for k in range(11)]
    rows = [(*(i >> k & 1 for k in range(11)), i % 5) for i in range(64 * 64)]
    path = write_csv(tmp_path / "t.csv", [*names, "y"], rows)
    assert faults_of(path, "y", names, order="full") == (
        "--order full: 2048 combinations of levels; use --order 2",
    )


def test_na_as_a_level_of_a_conditional_factor_is_explained(study: Path) -> None:
    study.write_text(study.read_text().replace(",,", ",NA,"))
    assert (
        "counted as a level: 'NA'; leave a field empty where a factor does not exist"
        in faults_of(study, "dev/mean", ["training", "surgery"])[0]
    )


def test_an_empty_block_is_refused(study: Path) -> None:
    study.write_text(study.read_text() + "joint,none,,0.9\n")
    assert faults_of(study, "dev/mean", ["training"], block="seed") == (
        "study.csv:11: seed: empty; every row needs a block",
    )


# Through the command


def written(study: Path, delimiter: str, **how: str) -> str:
    """Return the study as another program writes it."""
    rows = [line.split(",") for line in study.read_text().splitlines()]
    decimal = [
        [*row[:-1], row[-1].replace(".", how.get("decimal", ".")) + how.get("unit", "")] for row in rows[1:]
    ]
    return "\n".join(delimiter.join(row) for row in [rows[0], *decimal]) + "\n"


FORMS = {
    "tabs": lambda study: written(study, "\t").encode(),
    "German Excel": lambda study: (
        b"\xef\xbb\xbf" + written(study, ";", decimal=",").replace("\n", "\r\n").encode()
    ),
    "Excel's Unicode text": lambda study: written(study, "\t", decimal=",").encode("utf-16"),
    "JSONL": lambda study: "\n".join(
        json.dumps(dict(zip(["training", "surgery", "seed", "dev/mean"], line.split(","), strict=True)))
        for line in study.read_text().splitlines()[1:]
    ).encode(),
    "pandas": lambda study: "\n".join(
        f"{'' if i == 0 else i - 1},{line}" for i, line in enumerate(study.read_text().splitlines())
    ).encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_a_table_does_not_change_what_is_said(study: Path, ablate: Ablate, form: str) -> None:
    (study.parent / "other").write_bytes(FORMS[form](study))
    words = ["--metric", "dev/mean", "--factors", "training,surgery", "--block", "seed", "--json"]
    expected, found = (json.loads(ablate("analyze", name, *words).stdout) for name in ("study.csv", "other"))
    notes = [note for note in found["warnings"] if note not in expected["warnings"]]
    assert found | {"warnings": []} == expected | {"warnings": []}
    assert notes == (["decimal commas: 0,8110 is read as 0.8110"] if "Excel" in form else [])


def test_commas_that_may_be_thousands_are_told_with_the_option_that_settles_it(
    ablate: Ablate, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text("a;y\n0;87,512\n0;88,119\n1;90,125\n1;91,002\n")
    words = ["analyze", "t.csv", "--metric", "y", "--factors", "a"]
    refused = ablate(*words)
    assert (refused.returncode, refused.stderr) == (
        2, "t.csv: y: '87,512' may be 87.512 or 87512; pass --decimal ',' or --decimal '.'\n"
    )  # fmt: skip
    assert json.loads(ablate(*words, "--decimal", ",", "--json").stdout)["effects"][0][
        "estimate"
    ] == pytest.approx(2.748)


def test_the_unit_of_analysis_is_an_option(repeated: Path, ablate: Ablate) -> None:
    words = ["analyze", repeated, "--metric", "y", "--factors", "a", "--block", "seed", "--json"]
    assert [json.loads(ablate(*words, "--unit", unit).stdout)["n"] for unit in ("run", "row")] == [6, 24]
    assert ablate(*words, "--unit", "seed").stderr == "--unit: 'seed' is neither run nor row\n"


def test_names_and_levels_with_commas_are_quoted(ablate: Ablate, tmp_path: Path) -> None:
    text = '"lr, max",head,"acc, dev"\n' + "".join(
        f'{lr},"{head}",{0.8 + i / 100}\n'
        for i, (lr, head) in enumerate([(1, "a, b"), (2, "a, b"), (1, "c"), (2, "c")])
    )
    (tmp_path / "t.csv").write_text(text)
    words = ["analyze", "t.csv", "--metric", "acc, dev", "--baseline", '"head=a, b","lr, max=2"', "--factors"]
    effects = json.loads(ablate(*words, 'head,"lr, max"', "--json").stdout)["effects"]
    assert [(row["factor"], row["from"], row["to"]) for row in effects] == [
        ("head", "a, b", "c"),
        ("lr, max", "2", "1"),
    ]
    refused = ablate("analyze", "t.csv", "--metric", "acc, dev", "--factors", "head,lr, max").stderr
    assert """no such column; did you mean 'lr, max'? Put a name with commas in double quotes""" in refused


# As text


def test_the_text_starts_with_sentences(study: Path) -> None:
    text = analysis_text(
        analyze.analyze_table(
            study, question("dev/mean", ["training", "surgery"], "seed", {"training": "separate"})
        )
    )
    assert text.startswith("dev/mean over 9 rows; model: main effects.\n\n")
    assert "training: separate → joint: helps (+0.0400, 95 % interval [" in text
    assert "surgery: none → pcgrad (when training = joint): helps (+0.0200" in text


def test_inconclusive_says_what_would_have_been_seen(filtration: Path) -> None:
    text = analysis_text(analyze.analyze_table(filtration, question("rate", list("ABCD"))))
    line = next(line for line in text.splitlines() if line.startswith("B: "))
    assert line.startswith("B: - → +: inconclusive (+3.1250, 95 % interval [−3.3734, +9.6234], p = .")
    assert " after Holm); a true effect of 8.8830 would be detected" in line


def test_a_sum_of_squares_that_is_rounding_is_0(tmp_path: Path) -> None:
    rows = [
        (a, b, s, y) for b in (1, 2) for a, s, y in [(0, 1, 0.81), (0, 2, 0.82), (1, 1, 0.84), (1, 2, 0.86)]
    ]
    rows[4] = (0, 2, 1, 0.80)
    rows[5] = (0, 2, 2, 0.83)
    path = write_csv(tmp_path / "t.csv", ["a", "b", "s", "y"], rows)
    text = analysis_text(analyze.analyze_table(path, question("y", ["a", "b"], "s")))
    (line,) = [line for line in text.splitlines() if line.startswith("b  ")]
    assert line.split()[:4] == ["b", "1", "0", "0"]


def test_text_without_noise_claims_nothing(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", ["a", "y"], [(0, 0.5), (0, 0.5), (1, 0.7), (1, 0.7)])
    assert "a: 0 → 1: +0.2000, without any measure of noise: inconclusive." in analysis_text(
        analyze.analyze_table(path, question("y", ["a"]))
    )


def test_a_difference_without_variation_is_said_to_be_the_same_everywhere(tmp_path: Path) -> None:
    rows = [(a, s, y) for s, y in [(1, 0.5), (2, 0.75)] for a, y in [(0, y), (1, y + 0.125)]]
    path = write_csv(tmp_path / "t.csv", ["a", "s", "y"], rows)
    assert (
        "a: 0 → 1: +0.1250, the same in every block, so its noise is unknown: inconclusive."
        in analysis_text(analyze.analyze_table(path, question("y", ["a"], "s")))
    )


def test_factors_and_baselines_may_be_given_one_by_one(study: Path, ablate: Ablate) -> None:
    common = ("analyze", study, "--metric", "dev/mean", "--block", "seed", "--json")
    at_once = ablate(*common, "--factors", "training,surgery", "--baseline", "training=separate,surgery=none")
    one_by_one = ablate(
        *common, "--factors", "training", "--factors", "surgery",
        "--baseline", "training=separate", "--baseline", "surgery=none",
    )  # fmt: skip
    assert json.loads(one_by_one.stdout)["effects"] == json.loads(at_once.stdout)["effects"]


def test_analysing_loads_neither_pandas_nor_statsmodels() -> None:
    heavy = "{'pandas', 'statsmodels', 'torch', 'scipy.stats'}"
    script = f"import sys, ablate.report.outside.analyze, ablate.report.outside.compare; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_an_effect_that_no_block_can_split_by_level_is_split_over_all_rows(tmp_path: Path) -> None:
    """Each block has two of the four cells; the interaction is estimated over all rows, and so are its simple effects."""
    cells = [(a, b) for a in (0, 1) for b in (0, 1)]
    noise = iter(np.random.default_rng(3).normal(0, 0.005, 100))
    rows = [
        (a, b, block, 0.8 + a * (0.05 - 0.08 * b) + next(noise))
        for block, pair in enumerate(4 * list(combinations(cells, 2)))
        for a, b in pair
    ]
    table = write_csv(tmp_path / "split.csv", ["a", "b", "seed", "y"], rows)
    effect = analyze_table(table, "y", ["a", "b"], "seed")["effects"][0]
    assert [simple["level"] for simple in effect["turns"]] == ["0", "1"]
    assert [simple["estimate"] for simple in effect["turns"]] == pytest.approx([0.05, -0.03], abs=0.01)
