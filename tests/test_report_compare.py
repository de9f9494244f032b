import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixture_types import Ablate, Json, not_none
from numpy.typing import NDArray
from outside_json import compare_files
from published_tables import PRIME_MINISTER, write_csv

from ablate.errors import BadInput
from ablate.report.formatting import interval
from ablate.report.outside import compare
from ablate.report.outside.prediction_files import Keys, read_predictions
from ablate.report.render.terminal import comparison_text
from ablate.stats.correlations import pearson, pseudo_values, steiger_z, williams_t, zou_interval
from ablate.stats.distributions import t_p
from ablate.stats.inference import contributions, infer, item_noise
from ablate.stats.mrmc import mrmc


def predictions(
    path: Path,
    values: NDArray[Any] | Sequence[object],
    ids: Iterable[object] | None = None,
    column: str = "prediction",
) -> Path:
    ids = range(len(values)) if ids is None else ids
    return write_csv(path, ["id", column], list(zip(ids, values, strict=True)))


# Gold, the predictions of each side, and both as files.
Sides = tuple[NDArray[Any], dict[str, list[NDArray[Any]]], Path, dict[str, list[Path]]]


@pytest.fixture
def classifiers(tmp_path: Path) -> Sides:
    """Gold, and three seeds of A and B over 300 items, as arrays and as files."""
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 5, 300)

    def answers(right: float) -> NDArray[np.int64]:
        return np.where(rng.random(300) < right, gold, (gold + 1) % 5)

    values = {side: [answers(right) for _ in range(3)] for side, right in (("a", 0.60), ("b", 0.80))}
    files = {
        side: [predictions(tmp_path / f"{side}{i}.csv", v) for i, v in enumerate(vs)]
        for side, vs in values.items()
    }
    return gold, values, predictions(tmp_path / "gold.csv", gold, column="label"), files


@pytest.fixture
def regressors(tmp_path: Path) -> Sides:
    """Gold scores, and three seeds of A and B over 200 items."""
    tmp_path = tmp_path / "scores"
    tmp_path.mkdir()
    rng = np.random.default_rng(1)
    gold = np.round(rng.uniform(0, 5, 200), 3)
    values = {
        side: [np.round(gold + rng.normal(0, sd, 200), 6) for _ in range(3)]
        for side, sd in (("a", 2.0), ("b", 1.2))
    }
    files = {
        side: [predictions(tmp_path / f"{side}{i}.csv", v) for i, v in enumerate(vs)]
        for side, vs in values.items()
    }
    return gold, values, predictions(tmp_path / "gold.csv", gold, column="label"), files


def methods(document: Json) -> dict[str, Json]:
    return {line["method"]: line for line in document["sensitivity"]}


def faults_of(*args: Any) -> list[str]:
    with pytest.raises(BadInput) as caught:
        compare_files(*args)
    folder = f"{Path(args[0]).parent}/"
    return [fault.replace(folder, "") for fault in caught.value.faults]


# What is computed


def test_ratings_of_a_prime_minister(tmp_path: Path) -> None:
    """Published: .59 before and .55 after, a difference of -.04 ± 1.96 · .0095."""
    people = [pair for pair, count in PRIME_MINISTER.items() for _ in range(count)]
    files = [predictions(tmp_path / f"{side}.csv", [pair[side] for pair in people]) for side in (0, 1)]
    gold = predictions(tmp_path / "gold.csv", ["yes"] * len(people), column="label")
    document = compare_files(gold, files[:1], files[1:], "accuracy")
    assert (document["a"], document["b"]) == (0.59, 0.55)
    assert document["ci95"] == pytest.approx([-0.04 - 1.96 * 0.0095, -0.04 + 1.96 * 0.0095], abs=3e-4)
    assert document["p"] == pytest.approx(3.716e-5, rel=1e-3)  # binomial, 86 of 236


def test_one_seed_of_classes_is_mcnemar(tmp_path: Path) -> None:
    """The counts of Bentur et al. 2009 (Fagerland, Lydersen & Laake 2013): 1 against 7 of 21, exact p .0703, mid-p .0391."""
    right_a, right_b = [1] * 8 + [0] * 13, [1] + [0] * 7 + [1] * 1 + [0] * 12
    gold = predictions(tmp_path / "gold.csv", [1] * 21, column="label")
    a, b = predictions(tmp_path / "a.csv", right_a), predictions(tmp_path / "b.csv", right_b)
    document = compare_files(gold, [a], [b], "accuracy")
    assert (document["method"], document["p"]) == ("mcnemar_exact", pytest.approx(0.0703, abs=5e-5))
    assert methods(document)["mcnemar_midp"]["p"] == pytest.approx(0.0391, abs=5e-5)
    assert document["delta"] == pytest.approx(-6 / 21)


def test_one_seed_of_scores_is_judged_by_pseudo_values(regressors: Sides) -> None:
    """Their mean is the difference of the correlations; t over items needs no normal scores, as Williams' test does."""
    gold, values, gold_file, files = regressors
    document = compare_files(gold_file, files["a"][:1], files["b"][:1], "pearson")
    d = pseudo_values(values["b"][0], gold) - pseudo_values(values["a"][0], gold)
    assert (document["method"], document["delta"]) == ("pseudo_values", pytest.approx(d.mean()))
    assert document["se"] == pytest.approx(d.std(ddof=1) / np.sqrt(200))
    assert document["p"] == pytest.approx(t_p(document["delta"] / document["se"], document["df"]))


def test_predictions_that_differ_by_a_straight_line_have_no_difference(
    regressors: Sides, tmp_path: Path
) -> None:
    """Their correlations are equal up to rounding, which is no noise to test against."""
    _, values, gold_file, files = regressors
    line = predictions(tmp_path / "line.csv", 3 * values["a"][0] + 1)
    document = compare_files(gold_file, files["a"][:1], [line], "pearson")
    assert (document["delta"], document["p"], document["verdict"]) == (0.0, None, "inconclusive")


def test_one_seed_of_scores_lists_the_tests_for_normal_scores(regressors: Sides) -> None:
    gold, values, gold_file, files = regressors
    a, b = values["a"][0], values["b"][0]
    rs = pearson(a, gold), pearson(b, gold), pearson(a, b)
    lines = methods(compare_files(gold_file, files["a"][:1], files["b"][:1], "pearson"))
    assert set(lines) == {"williams", "steiger", "zou", "bootstrap"}
    assert lines["williams"]["p"] == pytest.approx(williams_t(*rs, 200).p)
    assert lines["steiger"]["statistic"] == pytest.approx(not_none(steiger_z(*rs, 200)).statistic)
    assert lines["zou"]["ci95"] == pytest.approx(zou_interval(*rs, 200))


def test_the_interval_of_correlations_is_near_zous_and_the_bootstraps(regressors: Sides) -> None:
    _, _, gold_file, files = regressors
    document = compare_files(gold_file, files["a"][:1], files["b"][:1], "pearson")
    for name in ("zou", "bootstrap"):
        assert methods(document)[name]["ci95"] == pytest.approx(document["ci95"], abs=0.03)


def test_several_seeds_of_classes_are_seeds_by_items(classifiers: Sides) -> None:
    gold, values, gold_file, files = classifiers
    document = compare_files(gold_file, files["a"], files["b"], "accuracy")
    d = np.array(
        [(b == gold).astype(float) - (a == gold) for a, b in zip(values["a"], values["b"], strict=True)]
    )
    expected = infer(d.mean(axis=1), item_noise(contributions(d)[0]))
    assert (document["method"], document["n_items"], document["n_seeds"]) == ("mrmc_behrens_fisher", 300, 3)
    assert (document["delta"], document["se"], document["df"], document["p"]) == pytest.approx(
        (d.mean(), mrmc(d).se, expected.df, expected.p)
    )
    assert document["ci95"] == pytest.approx(expected.interval())


def test_several_seeds_of_scores_use_pseudo_values(regressors: Sides) -> None:
    gold, values, gold_file, files = regressors
    document = compare_files(gold_file, files["a"], files["b"], "pearson")
    d = np.array(
        [
            pseudo_values(b, gold) - pseudo_values(a, gold)
            for a, b in zip(values["a"], values["b"], strict=True)
        ]
    )
    assert (document["method"], document["se"]) == ("mrmc_behrens_fisher", pytest.approx(mrmc(d).se))
    assert document["delta"] == pytest.approx(
        np.mean([pearson(b, gold) for b in values["b"]]) - document["a"]
    )


def test_several_seeds_list_the_other_tests(classifiers: Sides) -> None:
    _, _, gold_file, files = classifiers
    lines = methods(compare_files(gold_file, files["a"], files["b"], "accuracy"))
    assert set(lines) == {"hillis", "paired_t", "sign_flip", "bootstrap"}
    assert lines["sign_flip"]["p"] == 0.25
    assert "with 3 seeds p cannot be below .250" in lines["sign_flip"]["note"]


def test_several_seeds_list_the_published_degrees_of_freedom(classifiers: Sides) -> None:
    """Hillis 2007 allows more of them, so that p is smaller: too small with few seeds."""
    gold, values, gold_file, files = classifiers
    document = compare_files(gold_file, files["a"], files["b"], "accuracy")
    d = np.array(
        [(b == gold).astype(float) - (a == gold) for a, b in zip(values["a"], values["b"], strict=True)]
    )
    line = methods(document)["hillis"]
    assert (line["p"], tuple(line["ci95"])) == (mrmc(d).p, mrmc(d).ci95)
    assert line["p"] < document["p"]


def test_swapping_the_sides_turns_the_sign(classifiers: Sides) -> None:
    _, _, gold_file, files = classifiers
    forward = compare_files(gold_file, files["a"], files["b"], "accuracy")
    back = compare_files(gold_file, files["b"], files["a"], "accuracy")
    assert (forward["delta"], forward["p"]) == (pytest.approx(-back["delta"]), pytest.approx(back["p"]))
    assert (forward["verdict"], back["verdict"]) == ("helps", "hurts")


def test_keys_are_those_promised_and_strict_json(classifiers: Sides, regressors: Sides) -> None:
    for metric, (_, _, gold_file, files) in (("pearson", regressors), ("accuracy", classifiers)):
        for seeds in (1, 3):
            document = compare_files(gold_file, files["a"][:seeds], files["b"][:seeds], metric)
            assert {
                "metric", "n_items", "n_seeds", "a", "b", "delta", "ci95", "df", "p", "method", "sensitivity", "verdict",
                "mde80",
            } <= set(document)  # fmt: skip
            assert all({"method", "statistic", "p", "ci95"} <= set(line) for line in document["sensitivity"])
            assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_the_order_of_the_rows_does_not_matter(classifiers: Sides, tmp_path: Path) -> None:
    _, values, gold_file, files = classifiers
    order = np.random.default_rng(5).permutation(300)
    shuffled = predictions(tmp_path / "shuffled.csv", values["b"][0][order], ids=order)
    assert compare_files(gold_file, files["a"][:1], [shuffled], "accuracy") == compare_files(
        gold_file, files["a"][:1], files["b"][:1], "accuracy"
    )


def test_two_and_two_point_zero_are_one_class(tmp_path: Path) -> None:
    gold = predictions(tmp_path / "gold.csv", [0, 1, 2], column="label")
    a, b = (
        predictions(tmp_path / "a.csv", ["0.0", "1.0", "2.0"]),
        predictions(tmp_path / "b.csv", ["0", "1", "0"]),
    )
    document = compare_files(gold, [a], [b], "accuracy")
    assert (document["a"], document["b"]) == (1.0, pytest.approx(2 / 3))


def test_classes_may_be_words(tmp_path: Path) -> None:
    gold = predictions(tmp_path / "gold.csv", ["yes", "no", "NA"], column="label")
    a, b = (
        predictions(tmp_path / "a.csv", ["yes", "no", "NA"]),
        predictions(tmp_path / "b.csv", ["no", "no", "NA"]),
    )
    assert compare_files(gold, [a], [b], "accuracy")["a"] == 1.0


def test_a_small_difference_can_be_called_none(classifiers: Sides) -> None:
    _, values, gold_file, files = classifiers
    rotated = [*values["a"][1:], values["a"][0]]
    shifted = [predictions(file.with_suffix(".copy"), v) for file, v in zip(files["a"], rotated, strict=True)]
    document = compare_files(gold_file, files["a"], shifted, "accuracy", 0.2)
    assert (document["delta"], document["verdict"]) == (pytest.approx(0), "no difference that matters")
    low, high = document["ci90"]
    assert document["ci95"][0] < low < 0 < high < document["ci95"][1]
    found = compare.compare_files(gold_file, files["a"], shifted, "accuracy", 0.2)
    assert f", 90 % interval {interval((low, high))}, p = " in comparison_text(found)


def test_predictions_that_are_all_the_same_have_no_noise_to_judge_by(classifiers: Sides) -> None:
    _, values, gold_file, files = classifiers
    copies = [
        predictions(file.with_suffix(".copy"), v) for file, v in zip(files["a"], values["a"], strict=True)
    ]
    same = compare_files(gold_file, files["a"], copies, "accuracy", 0.01)
    assert (same["delta"], same["p"], same["verdict"]) == (0.0, None, "inconclusive")
    assert "seed 1: A and B predict exactly the same" in same["warnings"]


# What is flagged


def test_different_seeds_are_not_flagged(classifiers: Sides) -> None:
    _, _, gold_file, files = classifiers
    assert compare_files(gold_file, files["a"], files["b"], "accuracy")["warnings"] == []


def test_one_seed_speaks_of_these_models_only(classifiers: Sides) -> None:
    _, _, gold_file, files = classifiers
    (warning,) = compare_files(gold_file, files["a"][:1], files["b"][:1], "accuracy")["warnings"]
    assert "these trained models, not the method" in warning


def test_a_difference_without_any_noise_has_no_p(tmp_path: Path) -> None:
    a, b = (
        [predictions(tmp_path / f"{side}{i}.csv", [value] * 3, column="correct") for i in (1, 2)]
        for side, value in (("a", 0), ("b", 1))
    )
    document = compare_files(None, a, b, None, correct=True)
    assert (document["delta"], document["p"], document["verdict"]) == (1.0, None, "inconclusive")


def test_one_long_label_does_not_make_all_others_as_long(tmp_path: Path) -> None:
    items, long = 100_000, "x" * 130_000
    for name, column, last in (("gold", "label", long), ("a", "prediction", long), ("b", "prediction", "0")):
        rows = "".join(f"{i},{i % 3}\n" for i in range(items - 1))
        (tmp_path / f"{name}.csv").write_text(f"id,{column}\n{rows}{items - 1},{last}\n")
    gold, a, b = (tmp_path / f"{name}.csv" for name in ("gold", "a", "b"))
    assert compare.compare_files(gold, [a], [b], "accuracy").sides.delta == pytest.approx(-1 / items)


# What is refused


def test_ids_that_do_not_match_name_the_first(classifiers: Sides, tmp_path: Path) -> None:
    gold, _, gold_file, files = classifiers
    ids = [*range(298), "x1", "x2"]
    strange = predictions(tmp_path / "strange.csv", gold, ids=ids)
    assert faults_of(gold_file, files["a"][:1], [strange], "accuracy") == [
        "strange.csv: id: 2 ids of gold.csv missing, first '298'; every file needs exactly the same items",
        "strange.csv: id: 2 ids not in gold.csv, first 'x1'; every file needs exactly the same items",
    ]


def test_an_id_that_stands_twice_is_refused(tmp_path: Path) -> None:
    gold = predictions(tmp_path / "gold.csv", [0, 1, 1], ids=["u", "v", "u"], column="label")
    assert (
        faults_of(gold, [gold], [gold], "accuracy")[0] == "gold.csv:4: id: 'u' appears twice, first in line 2"
    )


def test_faults_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    gold = predictions(tmp_path / "gold.csv", [0, "", 1], column="label")
    a, b = predictions(tmp_path / "a.csv", [0, 1, "one"]), tmp_path / "b.csv"
    assert faults_of(gold, [a], [b], "pearson") == [
        "gold.csv:3: label: empty",
        "a.csv:4: prediction: 'one' is not a finite number",
        "b.csv: no such file; did you mean 'a.csv'?",
    ]


@pytest.mark.parametrize("score", ["nan", "inf", "1e999"])
def test_scores_must_be_finite(tmp_path: Path, score: str) -> None:
    gold = predictions(tmp_path / "gold.csv", [0, 1, 2, 3], column="label")
    a = predictions(tmp_path / "a.csv", [0.1, 1.2, score, 3.3])
    assert faults_of(gold, [a], [a], "pearson") == [f"a.csv:4: prediction: {score!r} is not a finite number"]


def test_few_items_are_resampled_without_a_warning(tmp_path: Path) -> None:
    """Resamples in which a column is constant have no r, whatever rounding makes of it."""
    gold = predictions(tmp_path / "gold.csv", [1, 0, 1, 1, 1, 0], column="label")
    a, b = (
        predictions(tmp_path / "a.csv", [1, 1, 1, 0, 1, 0]),
        predictions(tmp_path / "b.csv", [0, 0, 0, 0, 0, 1]),
    )
    assert methods(compare_files(gold, [a], [b], "pearson"))["bootstrap"]["p"] > 0


def test_constant_predictions_have_no_correlation(tmp_path: Path) -> None:
    gold = predictions(tmp_path / "gold.csv", [0, 1, 2, 3], column="label")
    a, b = predictions(tmp_path / "a.csv", [2.5] * 4), predictions(tmp_path / "b.csv", [0, 1, 2, 2])
    assert faults_of(gold, [a], [b], "pearson") == [
        "a.csv: all values are the same, up to rounding, so Pearson's r does not exist"
    ]


def test_probabilities_are_no_classes(tmp_path: Path) -> None:
    gold = predictions(tmp_path / "gold.csv", [0, 1, 1], column="label")
    a, b = predictions(tmp_path / "a.csv", [0.1, 0.9, 1.0]), predictions(tmp_path / "b.csv", [0, 1, 0])
    assert faults_of(gold, [a], [b], "accuracy") == [
        "a.csv: prediction: not the labels of gold.csv; accuracy compares classes"
    ]


def test_an_answer_that_is_no_number_is_wrong_and_told(tmp_path: Path) -> None:
    """Usual for language models: labels 0, 1, 2 and one `unknown`."""
    labels = [i % 3 for i in range(30)]
    gold, a = predictions(tmp_path / "g.csv", labels, column="label"), predictions(tmp_path / "a.csv", labels)
    b = predictions(tmp_path / "b.csv", ["unknown", *labels[1:]])
    document = compare_files(gold, [a], [b], "accuracy")
    assert document["b"] == pytest.approx(29 / 30)
    assert f"{b}: not among the gold labels, so counted as wrong: 1 prediction" in document["warnings"]


def test_sides_need_as_many_seeds(classifiers: Sides) -> None:
    _, _, gold_file, files = classifiers
    assert faults_of(gold_file, files["a"], files["b"][:2], "accuracy")[0].startswith(
        "3 files for --a and 2 for --b"
    )


def test_an_unknown_metric_is_refused(classifiers: Sides) -> None:
    _, _, gold_file, files = classifiers
    assert faults_of(gold_file, files["a"], files["b"], "f1") == [
        "--metric: 'f1' is not one of accuracy, pearson"
    ]


def test_a_missing_column_is_refused(classifiers: Sides, tmp_path: Path) -> None:
    gold, _, gold_file, files = classifiers
    other = predictions(tmp_path / "other.csv", gold, column="predicted")
    assert faults_of(gold_file, files["a"][:1], [other], "accuracy") == [
        "other.csv:1: prediction: no such column; did you mean 'predicted'?"
    ]


# One file twice


def test_one_file_under_two_names_is_no_second_seed(classifiers: Sides, tmp_path: Path) -> None:
    _, _, gold_file, files = classifiers
    for name, link in (("link.csv", Path.symlink_to), ("hard.csv", Path.hardlink_to)):
        link(tmp_path / name, files["b"][0])
        assert faults_of(gold_file, files["a"][:2], [files["b"][0], tmp_path / name], "accuracy") == [
            f"--b b0.csv and --b {name} are the same file; give each side and each seed its own file"
        ]


def test_one_file_is_not_both_sides(classifiers: Sides) -> None:
    _, _, gold_file, files = classifiers
    assert faults_of(gold_file, files["a"][:1], files["a"][:1], "accuracy") == [
        "--a a0.csv and --b a0.csv are the same file; give each side and each seed its own file"
    ]


def test_predictions_copied_are_no_second_seed(classifiers: Sides, regressors: Sides) -> None:
    for metric, (_, values, gold_file, files) in (("accuracy", classifiers), ("pearson", regressors)):
        copy = predictions(
            files["b"][0].with_name("copy.csv"),
            [f"{v}.0" if metric == "accuracy" else v for v in values["b"][0]],
        )
        assert faults_of(gold_file, files["a"], [*files["b"][:2], copy], metric) == [
            "--b: b0.csv and copy.csv contain the same predictions; "
            "a repeated file, or a seed without effect, is not a second seed"
        ]


# Correctness without gold


def scored(path: Path, scores: Iterable[object], clusters: Sequence[str] | None = None) -> Path:
    """Write a log as an evaluation harness does, one sample a line."""
    records = [
        {
            "doc": {"id": i, "topic": None if clusters is None else clusters[i]},
            "metrics": {"exact_match": score},
        }
        for i, score in enumerate(scores)
    ]
    path.write_text("\n".join(map(json.dumps, records)))
    return path


LOGS = Keys(id="doc.id", correct="metrics.exact_match")


@pytest.mark.parametrize("seeds", [1, 3])
def test_correctness_says_what_predictions_and_gold_say(
    classifiers: Sides, tmp_path: Path, seeds: int
) -> None:
    gold, values, gold_file, files = classifiers
    expected = compare_files(gold_file, files["a"][:seeds], files["b"][:seeds], "accuracy")
    right = {side: [x == gold for x in values[side][:seeds]] for side in "ab"}
    logs = {s: [scored(tmp_path / f"{s}{i}.jsonl", x.tolist()) for i, x in enumerate(right[s])] for s in "ab"}
    tables = {
        s: [
            predictions(tmp_path / f"{s}{i}.01", x.astype(int), column="correct")
            for i, x in enumerate(right[s])
        ]
        for s in "ab"
    }
    assert compare_files(None, logs["a"], logs["b"], None, keys=LOGS, correct=True) == expected
    assert compare_files(None, tables["a"], tables["b"], "accuracy", correct=True) == expected


def test_answers_may_be_right_in_part(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    a, b = rng.uniform(0, 0.6, 40), rng.uniform(0.3, 1, 40)
    logs = [scored(tmp_path / f"{name}.jsonl", x.tolist()) for name, x in (("a", a), ("b", b))]
    found = compare.compare_files(None, logs[:1], logs[1:], None, keys=LOGS, correct=True)
    assert (found.sides.metric, found.tested.method, found.tested.verdict) == ("score", "items", "helps")
    assert found.sides.delta == pytest.approx(b.mean() - a.mean())
    assert "(items of one seed): B is better." in comparison_text(found)


@pytest.mark.parametrize("words", [["true", "False"], ["1", "0"], ["1.0", "0e0"], ["TRUE", "0"]])
def test_right_and_wrong_may_be_written_in_several_ways(tmp_path: Path, words: list[str]) -> None:
    a = predictions(tmp_path / "a.csv", words * 5, column="correct")
    b = predictions(tmp_path / "b.csv", words[:1] * 10, column="correct")
    document = compare_files(None, [a], [b], None, correct=True)
    assert (document["a"], document["b"]) == (0.5, 1.0)


@pytest.mark.parametrize("word", ["yes", "1.5", "-0.1", "nan", "", "2"])
def test_what_does_not_say_how_right_an_answer_was_is_refused(tmp_path: Path, word: str) -> None:
    a = predictions(tmp_path / "a.csv", [1, 0, word], column="correct")
    b = predictions(tmp_path / "b.csv", [1, 0, 1], column="correct")
    with pytest.raises(BadInput, match=r"a.csv:4: correct: "):
        compare_files(None, [a], [b], None, correct=True)


def test_files_that_say_what_is_correct_need_the_same_items(tmp_path: Path) -> None:
    a = predictions(tmp_path / "a.csv", [1, 0, 1], column="correct")
    b = predictions(tmp_path / "b.csv", [1, 0], column="correct")
    with pytest.raises(BadInput, match=r"b.csv: id: 1 id of .*a.csv missing, first '2'"):
        compare_files(None, [a], [b], None, correct=True)


def test_seeds_that_are_all_right_may_be_alike(tmp_path: Path) -> None:
    a = [predictions(tmp_path / f"a{i}.csv", [i, *[1, 0] * 20], column="correct") for i in (0, 1)]
    b = [predictions(tmp_path / f"b{i}.csv", [1] * 41, column="correct") for i in (0, 1)]
    warnings = compare_files(None, a, b, None, correct=True)["warnings"]
    assert any(
        "contain the same predictions: did the seed have any effect?" in warning for warning in warnings
    )


def test_predictions_too_large_to_compute_with_are_refused(tmp_path: Path) -> None:
    gold = write_csv(tmp_path / "g.csv", ["id", "label"], [(i, i) for i in range(5)])
    a, b = (
        write_csv(tmp_path / f"{side}.csv", ["id", "prediction"], [(i, value * i) for i in range(5)])
        for side, value in (("a", 1), ("b", 1e200))
    )
    with pytest.raises(BadInput, match=r"b.csv:3: prediction: '1e\+200' is too large to compute with"):
        compare_files(gold, [a], [b], "pearson")


# Clusters


def test_clusters_are_read_in_the_order_of_the_gold(tmp_path: Path) -> None:
    write_csv(
        tmp_path / "g.csv", ["id", "label", "question"], [("u", 1, "q1"), ("v", 0, "q2"), ("w", 1, "q1")]
    )
    a = predictions(tmp_path / "a.csv", [1, 0, 0], ids="wvu")
    b = predictions(tmp_path / "b.csv", [0, 0, 1], ids="uvw")
    found = read_predictions(
        tmp_path / "g.csv", [a], [b], "accuracy", Keys(cluster="question"), correct=False, decimal=None
    )
    assert found.clusters == ("q1", "q2", "q1")
    document = compare_files(tmp_path / "g.csv", [a], [b], "accuracy", keys=Keys(cluster="question"))
    assert document["n_clusters"] == 2


def test_clusters_that_the_gold_does_not_name_are_read_from_the_predictions(tmp_path: Path) -> None:
    write_csv(tmp_path / "g.csv", ["id", "label"], [("u", 1), ("v", 0), ("w", 1)])
    a, b = (
        write_csv(
            tmp_path / f"{side}.csv",
            ["id", "prediction", "question"],
            [("u", x, 7), ("v", 0, 8), ("w", 1, 7)],
        )
        for side, x in (("a", 1), ("b", 0))
    )
    found = compare_files(tmp_path / "g.csv", [a], [b], "accuracy", keys=Keys(cluster="question"))
    assert found["n_clusters"] == 2


def test_without_gold_the_files_name_the_clusters_and_agree(tmp_path: Path) -> None:
    keys = Keys("doc.id", correct="metrics.exact_match", cluster="doc.topic")
    a = scored(tmp_path / "a.jsonl", [1, 0, 1], "xyx")
    b = scored(tmp_path / "b.jsonl", [0, 0, 1], "xyx")
    assert compare_files(None, [a], [b], None, keys=keys, correct=True)["n_clusters"] == 2
    scored(tmp_path / "b.jsonl", [0, 0, 1], "xyy")
    with pytest.raises(
        BadInput, match=r"b.jsonl: doc.topic: item '2' is in cluster 'y', in .*a.jsonl in 'x'"
    ):
        compare_files(None, [a], [b], None, keys=keys, correct=True)


@pytest.mark.parametrize(
    ("clusters", "fault"),
    [
        (["x", "x", "x"], "all items are in one cluster"),
        (["x", "", "y"], "empty; every item needs a cluster"),
    ],
)
def test_clusters_that_are_none_are_refused(tmp_path: Path, clusters: list[str], fault: str) -> None:
    keys = Keys("doc.id", correct="metrics.exact_match", cluster="doc.topic")
    a, b = (scored(tmp_path / f"{name}.jsonl", [1, 0, 1], clusters) for name in "ab")
    with pytest.raises(BadInput, match=fault):
        compare_files(None, [a], [b], None, keys=keys, correct=True)


# Through the command


def test_gold_and_predictions_may_be_records(classifiers: Sides, tmp_path: Path, ablate: Ablate) -> None:
    gold, values, gold_file, files = classifiers
    logs = [tmp_path / f"{name}.jsonl" for name in "gab"]
    for log, key, column in zip(
        logs, ("target", "answer", "answer"), (gold, values["a"][0], values["b"][0]), strict=True
    ):
        log.write_text("\n".join(json.dumps({"n": i, "out": {key: int(v)}}) for i, v in enumerate(column)))
    keys = ["--id-key", "n", "--prediction-key", "out.answer", "--label-key", "out.target"]
    done = ablate(
        "compare", "--gold", logs[0], "--a", logs[1], "--b", logs[2], *keys, "--metric", "accuracy", "--json"
    )
    expected = compare_files(gold_file, files["a"][:1], files["b"][:1], "accuracy")
    assert json.loads(done.stdout) == expected


def test_logs_of_a_harness_need_no_gold(tmp_path: Path, ablate: Ablate) -> None:
    a, b = scored(tmp_path / "a.jsonl", [1, 0] * 20), scored(tmp_path / "b.jsonl", [1] * 40)
    keys = ["--id-key", "doc.id", "--correct-key", "metrics.exact_match"]
    done = ablate("compare", "--a", a, "--b", b, *keys, "--json")
    assert json.loads(done.stdout)["delta"] == 0.5


def test_items_that_are_copies_of_each_other_count_once_with_clusters(tmp_path: Path, ablate: Ablate) -> None:
    """Forty items, each five times: with clusters the standard error is that of forty."""
    rng = np.random.default_rng(7)
    a, b = (np.repeat(rng.random(40) < share, 5).tolist() for share in (0.4, 0.7))
    logs = [
        scored(tmp_path / f"{name}.jsonl", x, np.repeat(range(40), 5).tolist())
        for name, x in (("a", a), ("b", b))
    ]
    words = [
        "compare",
        "--a",
        logs[0],
        "--b",
        logs[1],
        "--id-key",
        "doc.id",
        "--correct-key",
        "metrics.exact_match",
    ]
    clustered = json.loads(ablate(*words, "--cluster", "doc.topic", "--json").stdout)
    assert (clustered["n_items"], clustered["n_clusters"]) == (200, 40)
    d = np.subtract(b, a, dtype=float)[::5]
    assert clustered["se"] == pytest.approx(d.std(ddof=1) / np.sqrt(40))
    (resampled,) = (test for test in clustered["sensitivity"] if test["method"] == "bootstrap")
    low, high = resampled["ci95"]
    assert (high - low) / 2 == pytest.approx(1.96 * d.std() / np.sqrt(40), rel=0.1)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--correct"], "0 files for --a and 0 for --b"),
        (["--a", "x", "--b", "y"], "--metric: none given"),
        (["--a", "x", "--b", "y", "--metric", "accuracy"], "--gold: none given"),
        (["--a", "x", "--b", "y", "--metric", "pearson", "--correct"], "--metric: a correlation needs"),
        *[
            (["--a", "x", "--b", "y", "--correct", "--smallest-effect", value], "is not a positive number")
            for value in ("nan", "inf", "-1", "0")
        ],
        (["--a", "x", "--b", "y", "--correct", "--decimal", "x"], "--decimal: 'x' is neither"),
        (["--a", "/dev/zero", "--b", "pipe", "--correct"], "pipe: a pipe; save its output to a file"),
        (["--a", ".", "--b", "pipe", "--correct"], ".: a folder"),
    ],
)
def test_bad_usage_of_compare_is_told(
    words: list[str], complaint: str, ablate: Ablate, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = ablate("compare", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


# As text


def test_the_text_states_the_finding_first(classifiers: Sides) -> None:
    _, _, gold_file, files = classifiers
    text = comparison_text(compare.compare_files(gold_file, files["a"], files["b"], "accuracy"))
    assert text.startswith("accuracy over 300 items and 3 seeds: A 0.")
    assert "(seeds × items): B is better.\n" in text


def test_an_inconclusive_text_says_what_would_have_been_seen(classifiers: Sides) -> None:
    _, _, gold_file, files = classifiers
    text = comparison_text(compare.compare_files(gold_file, files["a"][:1], files["a"][1:2], "accuracy"))
    assert "(exact McNemar): inconclusive; a true effect of 0." in text
