import json
from pathlib import Path

import numpy as np
import pytest
from published_tables import PRIME_MINISTER, write_csv

from ablate.errors import BadInput
from ablate.report.compare import compare_files
from ablate.report.terminal import comparison_text
from ablate.stats.correlations import pearson, pseudo_values, steiger_z, williams_t, zou_interval
from ablate.stats.distributions import t_p
from ablate.stats.inference import contributions, infer, item_noise
from ablate.stats.mrmc import mrmc


def predictions(path: Path, values, ids=None, column="prediction") -> Path:
    ids = range(len(values)) if ids is None else ids
    return write_csv(path, ["id", column], list(zip(ids, values, strict=True)))


@pytest.fixture
def classifiers(tmp_path):
    """Gold, and three seeds of A and B over 300 items, as arrays and as files."""
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 5, 300)

    def answers(right: float) -> np.ndarray:
        return np.where(rng.random(300) < right, gold, (gold + 1) % 5)

    values = {side: [answers(right) for _ in range(3)] for side, right in (("a", 0.60), ("b", 0.80))}
    files = {
        side: [predictions(tmp_path / f"{side}{i}.csv", v) for i, v in enumerate(vs)]
        for side, vs in values.items()
    }
    return gold, values, predictions(tmp_path / "gold.csv", gold, column="label"), files


@pytest.fixture
def regressors(tmp_path):
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


def methods(document):
    return {line["method"]: line for line in document["sensitivity"]}


def faults_of(*args) -> list[str]:
    with pytest.raises(BadInput) as caught:
        compare_files(*args)
    folder = f"{Path(args[0]).parent}/"
    return [fault.replace(folder, "") for fault in caught.value.faults]


# What is computed


def test_ratings_of_a_prime_minister(tmp_path):
    """Published: .59 before and .55 after, a difference of -.04 ± 1.96 · .0095."""
    people = [pair for pair, count in PRIME_MINISTER.items() for _ in range(count)]
    files = [predictions(tmp_path / f"{side}.csv", [pair[side] for pair in people]) for side in (0, 1)]
    gold = predictions(tmp_path / "gold.csv", ["yes"] * len(people), column="label")
    document = compare_files(gold, files[:1], files[1:], "accuracy")
    assert (document["a"], document["b"]) == (0.59, 0.55)
    assert document["ci95"] == pytest.approx([-0.04 - 1.96 * 0.0095, -0.04 + 1.96 * 0.0095], abs=3e-4)
    assert document["p"] == pytest.approx(3.716e-5, rel=1e-3)  # binomial, 86 of 236


def test_one_seed_of_classes_is_mcnemar(tmp_path):
    """The counts of Bentur et al. 2009 (Fagerland, Lydersen & Laake 2013): 1 against 7 of 21, exact p .0703, mid-p .0391."""
    right_a, right_b = [1] * 8 + [0] * 13, [1] + [0] * 7 + [1] * 1 + [0] * 12
    gold = predictions(tmp_path / "gold.csv", [1] * 21, column="label")
    a, b = predictions(tmp_path / "a.csv", right_a), predictions(tmp_path / "b.csv", right_b)
    document = compare_files(gold, [a], [b], "accuracy")
    assert (document["method"], document["p"]) == ("mcnemar_exact", pytest.approx(0.0703, abs=5e-5))
    assert methods(document)["mcnemar_midp"]["p"] == pytest.approx(0.0391, abs=5e-5)
    assert document["delta"] == pytest.approx(-6 / 21)


def test_one_seed_of_scores_is_judged_by_pseudo_values(regressors):
    """Their mean is the difference of the correlations; t over items needs no normal scores, as Williams' test does."""
    gold, values, gold_file, files = regressors
    document = compare_files(gold_file, files["a"][:1], files["b"][:1], "pearson")
    d = pseudo_values(values["b"][0], gold) - pseudo_values(values["a"][0], gold)
    assert (document["method"], document["delta"]) == ("pseudo_values", pytest.approx(d.mean()))
    assert document["se"] == pytest.approx(d.std(ddof=1) / np.sqrt(200))
    assert document["p"] == pytest.approx(t_p(document["delta"] / document["se"], document["df"]))


def test_one_seed_of_scores_lists_the_tests_for_normal_scores(regressors):
    gold, values, gold_file, files = regressors
    a, b = values["a"][0], values["b"][0]
    rs = pearson(a, gold), pearson(b, gold), pearson(a, b)
    lines = methods(compare_files(gold_file, files["a"][:1], files["b"][:1], "pearson"))
    assert set(lines) == {"williams", "steiger", "zou", "bootstrap"}
    assert lines["williams"]["p"] == pytest.approx(williams_t(*rs, 200).p)
    assert lines["steiger"]["statistic"] == pytest.approx(steiger_z(*rs, 200).statistic)
    assert lines["zou"]["ci95"] == pytest.approx(zou_interval(*rs, 200))


def test_the_interval_of_correlations_is_near_zous_and_the_bootstraps(regressors):
    _, _, gold_file, files = regressors
    document = compare_files(gold_file, files["a"][:1], files["b"][:1], "pearson")
    for name in ("zou", "bootstrap"):
        assert methods(document)[name]["ci95"] == pytest.approx(document["ci95"], abs=0.03)


def test_several_seeds_of_classes_are_seeds_by_items(classifiers):
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


def test_several_seeds_of_scores_use_pseudo_values(regressors):
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


def test_several_seeds_list_the_other_tests(classifiers):
    _, _, gold_file, files = classifiers
    lines = methods(compare_files(gold_file, files["a"], files["b"], "accuracy"))
    assert set(lines) == {"hillis", "paired_t", "sign_flip", "bootstrap"}
    assert lines["sign_flip"]["p"] == 0.25
    assert "with 3 seeds p cannot be below 0.25" in lines["sign_flip"]["note"]


def test_several_seeds_list_the_published_degrees_of_freedom(classifiers):
    """Hillis 2007 allows more of them, so that p is smaller: too small with few seeds."""
    gold, values, gold_file, files = classifiers
    document = compare_files(gold_file, files["a"], files["b"], "accuracy")
    d = np.array(
        [(b == gold).astype(float) - (a == gold) for a, b in zip(values["a"], values["b"], strict=True)]
    )
    line = methods(document)["hillis"]
    assert (line["p"], tuple(line["ci95"])) == (mrmc(d).p, mrmc(d).ci95)
    assert line["p"] < document["p"]


def test_swapping_the_sides_turns_the_sign(classifiers):
    _, _, gold_file, files = classifiers
    forward = compare_files(gold_file, files["a"], files["b"], "accuracy")
    back = compare_files(gold_file, files["b"], files["a"], "accuracy")
    assert (forward["delta"], forward["p"]) == (pytest.approx(-back["delta"]), pytest.approx(back["p"]))
    assert (forward["verdict"], back["verdict"]) == ("helps", "hurts")


def test_keys_are_those_promised_and_strict_json(classifiers, regressors):
    for metric, (_, _, gold_file, files) in (("pearson", regressors), ("accuracy", classifiers)):
        for seeds in (1, 3):
            document = compare_files(gold_file, files["a"][:seeds], files["b"][:seeds], metric)
            assert {
                "metric", "n_items", "n_seeds", "a", "b", "delta", "ci95", "df", "p", "method", "sensitivity", "verdict",
                "mde80",
            } <= set(document)  # fmt: skip
            assert all({"method", "statistic", "p", "ci95"} <= set(line) for line in document["sensitivity"])
            assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_the_order_of_the_rows_does_not_matter(classifiers, tmp_path):
    _, values, gold_file, files = classifiers
    order = np.random.default_rng(5).permutation(300)
    shuffled = predictions(tmp_path / "shuffled.csv", values["b"][0][order], ids=order)
    assert compare_files(gold_file, files["a"][:1], [shuffled], "accuracy") == compare_files(
        gold_file, files["a"][:1], files["b"][:1], "accuracy"
    )


def test_two_and_two_point_zero_are_one_class(tmp_path):
    gold = predictions(tmp_path / "gold.csv", [0, 1, 2], column="label")
    a, b = (
        predictions(tmp_path / "a.csv", ["0.0", "1.0", "2.0"]),
        predictions(tmp_path / "b.csv", ["0", "1", "0"]),
    )
    document = compare_files(gold, [a], [b], "accuracy")
    assert (document["a"], document["b"]) == (1.0, pytest.approx(2 / 3))


def test_classes_may_be_words(tmp_path):
    gold = predictions(tmp_path / "gold.csv", ["yes", "no", "NA"], column="label")
    a, b = (
        predictions(tmp_path / "a.csv", ["yes", "no", "NA"]),
        predictions(tmp_path / "b.csv", ["no", "no", "NA"]),
    )
    assert compare_files(gold, [a], [b], "accuracy")["a"] == 1.0


def test_a_small_difference_can_be_called_none(classifiers):
    _, _, gold_file, files = classifiers
    shifted = [*files["a"][1:], files["a"][0]]
    document = compare_files(gold_file, files["a"], shifted, "accuracy", 0.2)
    assert (document["delta"], document["verdict"]) == (pytest.approx(0), "no difference that matters")


def test_predictions_that_are_all_the_same_have_no_noise_to_judge_by(classifiers):
    _, _, gold_file, files = classifiers
    same = compare_files(gold_file, files["a"], files["a"], "accuracy", 0.01)
    assert (same["delta"], same["p"], same["verdict"]) == (0.0, None, "inconclusive")


# What is flagged


def test_seeds_that_predict_the_same_are_flagged(classifiers):
    _, _, gold_file, files = classifiers
    twice = [files["b"][0], files["b"][0], files["b"][2]]
    warnings = compare_files(gold_file, files["a"], twice, "accuracy")["warnings"]
    assert "--b: files 1 and 2 predict exactly the same: did the seed do anything?" in warnings


def test_different_seeds_are_not_flagged(classifiers):
    _, _, gold_file, files = classifiers
    assert compare_files(gold_file, files["a"], files["b"], "accuracy")["warnings"] == []


def test_one_seed_speaks_of_these_models_only(classifiers):
    _, _, gold_file, files = classifiers
    (warning,) = compare_files(gold_file, files["a"][:1], files["b"][:1], "accuracy")["warnings"]
    assert "these trained models, not the method" in warning


def test_a_difference_without_any_noise_has_no_p(tmp_path):
    gold = predictions(tmp_path / "gold.csv", [1, 1, 0], column="label")
    a = [predictions(tmp_path / f"a{i}.csv", [0, 0, 1]) for i in (1, 2)]
    b = [predictions(tmp_path / f"b{i}.csv", [1, 1, 0]) for i in (1, 2)]
    document = compare_files(gold, a, b, "accuracy")
    assert (document["delta"], document["p"], document["verdict"]) == (1.0, None, "inconclusive")


# What is refused


def test_ids_that_do_not_match_name_the_first(classifiers, tmp_path):
    gold, _, gold_file, files = classifiers
    ids = [*range(298), "x1", "x2"]
    strange = predictions(tmp_path / "strange.csv", gold, ids=ids)
    assert faults_of(gold_file, files["a"][:1], [strange], "accuracy") == [
        "strange.csv: id: 2 ids of gold.csv missing, first '298'; every file needs exactly the gold's items",
        "strange.csv: id: 2 ids not in gold.csv, first 'x1'; every file needs exactly the gold's items",
    ]


def test_an_id_that_stands_twice_is_refused(tmp_path):
    gold = predictions(tmp_path / "gold.csv", [0, 1, 1], ids=["u", "v", "u"], column="label")
    assert (
        faults_of(gold, [gold], [gold], "accuracy")[0] == "gold.csv:4: id: 'u' stands twice, first in line 2"
    )


def test_faults_of_all_files_are_told_at_once(tmp_path):
    gold = predictions(tmp_path / "gold.csv", [0, "", 1], column="label")
    a, b = predictions(tmp_path / "a.csv", [0, 1, "one"]), tmp_path / "b.csv"
    assert faults_of(gold, [a], [b], "pearson") == [
        "gold.csv:3: label: empty",
        "a.csv:4: prediction: 'one' is not a finite number",
        "b.csv: no such file",
    ]


@pytest.mark.parametrize("score", ["nan", "inf", "1e999"])
def test_scores_must_be_finite(tmp_path, score):
    gold = predictions(tmp_path / "gold.csv", [0, 1, 2, 3], column="label")
    a = predictions(tmp_path / "a.csv", [0.1, 1.2, score, 3.3])
    assert faults_of(gold, [a], [a], "pearson") == [f"a.csv:4: prediction: {score!r} is not a finite number"]


def test_constant_predictions_have_no_correlation(tmp_path):
    gold = predictions(tmp_path / "gold.csv", [0, 1, 2, 3], column="label")
    a, b = predictions(tmp_path / "a.csv", [2.5] * 4), predictions(tmp_path / "b.csv", [0, 1, 2, 2])
    assert faults_of(gold, [a], [b], "pearson") == [
        "a.csv: all values are the same, so Pearson's r does not exist"
    ]


def test_probabilities_are_no_classes(tmp_path):
    gold = predictions(tmp_path / "gold.csv", [0, 1, 1], column="label")
    a, b = predictions(tmp_path / "a.csv", [0.1, 0.9, 1.0]), predictions(tmp_path / "b.csv", [0, 1, 0])
    assert faults_of(gold, [a], [b], "accuracy") == [
        "a.csv: prediction: not the labels of gold.csv; accuracy compares classes"
    ]


def test_an_answer_that_is_no_number_is_wrong_and_told(tmp_path):
    """Usual for language models: labels 0, 1, 2 and one `unknown`."""
    labels = [i % 3 for i in range(30)]
    gold, a = predictions(tmp_path / "g.csv", labels, column="label"), predictions(tmp_path / "a.csv", labels)
    b = predictions(tmp_path / "b.csv", ["unknown", *labels[1:]])
    document = compare_files(gold, [a], [b], "accuracy")
    assert document["b"] == pytest.approx(29 / 30)
    assert f"{b}: 1 prediction counted as wrong: no label of the gold" in document["warnings"]


def test_sides_need_as_many_seeds(classifiers):
    _, _, gold_file, files = classifiers
    assert faults_of(gold_file, files["a"], files["b"][:2], "accuracy")[0].startswith(
        "3 files for --a and 2 for --b"
    )


def test_an_unknown_metric_is_refused(classifiers):
    _, _, gold_file, files = classifiers
    assert faults_of(gold_file, files["a"], files["b"], "f1") == [
        "--metric: 'f1' is not one of accuracy, pearson"
    ]


def test_a_missing_column_is_refused(classifiers, tmp_path):
    gold, _, gold_file, files = classifiers
    other = predictions(tmp_path / "other.csv", gold, column="predicted")
    assert faults_of(gold_file, files["a"][:1], [other], "accuracy") == [
        "other.csv:1: prediction: no such column; did you mean 'predicted'?"
    ]


# As text


def test_the_text_states_the_finding_first(classifiers):
    _, _, gold_file, files = classifiers
    text = comparison_text(compare_files(gold_file, files["a"], files["b"], "accuracy"))
    assert text.startswith("accuracy over 300 items and 3 seeds: A 0.")
    assert "(seeds × items): B is better.\n" in text


def test_an_inconclusive_text_says_what_would_have_been_seen(classifiers):
    _, _, gold_file, files = classifiers
    text = comparison_text(compare_files(gold_file, files["a"][:1], files["a"][1:2], "accuracy"))
    assert "(exact McNemar): inconclusive; a true effect of 0." in text
