import numpy as np
import pytest
from report_examples import example, spec, write_predictions

from ablate.evidence.contrasts import differences_from_reference
from ablate.evidence.frames import grid
from ablate.evidence.pairs import Pairing, composite_weights, disagreements
from ablate.evidence.predictions import Predicted, item_scores, read_predictions
from ablate.stats.mrmc import cautious_df, mrmc


@pytest.fixture
def pairing(tmp_path):
    return Pairing(grid(write_predictions(example(folder=tmp_path))))


def test_a_task_metric_is_analysed_as_seeds_by_items(pairing):
    found = pairing.estimate(
        0, 1, "dev/similarity", differences_from_reference(pairing.grid, "dev/similarity")[1]
    )
    expected = mrmc(pairing.item_differences(0, 1, "dev/similarity"))
    assert found.method == "seeds × items"
    assert (found.value, found.se, found.df) == pytest.approx(
        (expected.delta, expected.se, cautious_df(expected.seed_share, 3))
    )


def test_a_composite_takes_the_items_of_its_metrics(pairing):
    weights = pairing.weights("dev/mean")
    assert weights == pytest.approx(
        {"dev/paraphrase": 1 / 3, "dev/sentiment": 1 / 3, "dev/similarity": 1 / 6}
    )


def test_a_composite_moved_by_one_metric_has_that_metric_s_error(pairing):
    mean, similarity = (
        pairing.estimate(0, 1, metric, differences_from_reference(pairing.grid, metric)[1])
        for metric in ("dev/mean", "dev/similarity")
    )
    assert mean.se == pytest.approx(similarity.se / 6)


def test_with_one_seed_a_composite_is_tested_over_the_items_of_its_metrics(tmp_path):
    """Only the similarity head differs: its items alone move dev/mean, by a sixth of what they move similarity."""
    pairing = Pairing(grid(write_predictions(example(spec(seeds=(11,)), folder=tmp_path))))
    a, b = (pairing.files.by_seed(row, "dev/similarity")[0].scores for row in (0, 1))
    difference = differences_from_reference(pairing.grid, "dev/mean")[1]
    (found,) = pairing.other_tests(0, 1, "dev/mean", difference)
    assert found["statistic"] == pytest.approx((b - a).mean() / ((b - a).std(ddof=1) / 20))  # of 400 items
    assert np.mean(found["ci95"]) == pytest.approx(difference.per_seed[0])


def test_without_predictions_the_seeds_alone_decide():
    pairing = Pairing(grid(example()))
    found = pairing.estimate(0, 1, "dev/mean", differences_from_reference(pairing.grid, "dev/mean")[1])
    assert found.method == "paired t over seeds"


def test_ids_that_differ_refuse_the_paired_analysis(pairing):
    part = pairing.grid.trials[1, 0].parts["similarity"]
    file = pairing.grid.results.parts[part, 11].folder / "predictions" / "dev.similarity.csv"
    file.write_text(file.read_text().replace("similarity-7,", "other-7,"))
    assert pairing.item_variance(0, 1, "dev/similarity") is None
    assert pairing.unaligned == {(0, 1, "dev/similarity", "item ids")}


def test_items_with_the_same_ids_and_another_gold_are_not_paired(pairing):
    """As when every seed draws a dev set of its own and numbers its items from 0."""
    for part in {pairing.grid.trials[row, 0].parts["similarity"] for row in (0, 1)}:
        file = pairing.grid.results.parts[part, 11].folder / "predictions" / "dev.similarity.csv"
        rows = [line.split(",") for line in file.read_text().split()]
        shifted = [",".join([i, str(float(p) + 1), str(float(g) + 1)]) for i, p, g in rows[1:]]  # the same r
        file.write_text("\n".join(["id,prediction,gold", *shifted]))
    assert pairing.item_differences(0, 1, "dev/similarity") is None
    assert pairing.unaligned == {(0, 1, "dev/similarity", "gold")}


def test_a_file_named_after_the_task_is_found_by_the_value_of_its_metric(tmp_path):
    """`predictions("dev", "moons", ...)` and `return {"dev/accuracy": ...}`, beside a file of another task."""
    results = write_predictions(example(folder=tmp_path), items=40)
    for file in tmp_path.glob("*/predictions/dev.similarity.csv"):
        file.rename(file.with_name("dev.moons.csv"))
    pairing = Pairing(grid(results))
    assert pairing.files.scores(results.trials[0], "dev/similarity").kind == "pearson"
    assert pairing.item_differences(0, 1, "dev/similarity").shape == (3, 40)


def test_of_two_files_that_give_the_metric_neither_is_used(tmp_path):
    results = write_predictions(example(folder=tmp_path), items=40)
    for file in tmp_path.glob("*/predictions/dev.similarity.csv"):
        file.with_name("dev.twin.csv").write_bytes(file.read_bytes())
        file.rename(file.with_name("dev.moons.csv"))
    assert Pairing(grid(results)).files.scores(results.trials[0], "dev/similarity") is None


def test_a_file_that_gives_the_metric_by_chance_is_told_by_the_next_trial(tmp_path):
    """In the first trial a file beside it has the same hits."""
    results = write_predictions(example(folder=tmp_path), items=40)
    for file in tmp_path.glob("*/predictions/dev.sentiment.csv"):
        wrong = file.read_text().replace(",0.0\n", ",9.0\n")
        first = file.parent.parent.name == f"{results.trials[0].parts['sentiment']}-11"
        file.with_name("dev.beside.csv").write_text(file.read_text() if first else wrong)
        file.rename(file.with_name("dev.moons.csv"))
    assert sorted(Pairing(grid(results)).files.by_seed(0, "dev/sentiment")) == [0, 1, 2]


def test_an_error_that_stretches_the_scale_is_no_improvement(tmp_path):
    """The pseudo-value of the last item rises with a prediction far beyond its gold: nearer is nearer."""
    results = write_predictions(example(folder=tmp_path), items=40)
    pairing = Pairing(grid(results))
    found = disagreements(pairing, 1)
    assert found["standardised"]
    for row in found["rows"]:
        nearer = abs(row["best"] - row["gold"]) < abs(row["reference"] - row["gold"])
        assert row["what"] == ("better" if nearer else "worse")


def test_of_classes_better_is_right_where_the_reference_is_wrong(pairing):
    found = disagreements(pairing, 2)
    assert (found["metric"], found["standardised"]) == ("dev/paraphrase", False)
    assert {(row["best"] == row["gold"], row["reference"] == row["gold"]) for row in found["rows"][:5]} == {
        (True, False)
    }


def test_the_items_counted_are_nearer_the_gold_in_every_seed(pairing):
    standard = [
        [(v - v.mean()) / v.std() for v in (a.predicted, b.predicted, a.gold)]
        for a, b in pairing.item_pairs(0, 1, "dev/similarity")
    ]
    nearer = np.array([abs(a - gold) - abs(b - gold) for a, b, gold in standard])
    found = disagreements(pairing, 1)
    assert (found["gained"], found["lost"]) == (
        (nearer > 0).all(axis=0).sum(),
        (nearer < 0).all(axis=0).sum(),
    )


def test_weights_of_what_is_no_sum_are_not_made_up():
    rng = np.random.default_rng(0)
    a, b = rng.random(20), rng.random(20)
    assert composite_weights(a * b, {"a": a, "b": b}) == {}


def test_too_few_rows_prove_no_composite():
    assert composite_weights(np.array([1.0, 2.0]), {"a": np.array([1.0, 2.0])}) == {}


def test_scores_are_hits_or_pseudo_values_whichever_gives_the_metric():
    predicted = Predicted(("a", "b", "c"), np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0]))
    r = float(np.corrcoef([1, 2, 4], [1, 2, 3])[0, 1])
    assert item_scores(predicted, 2 / 3).kind == "accuracy"
    assert item_scores(predicted, r).scores.mean() == pytest.approx(r)
    assert item_scores(predicted, 0.5) is None


@pytest.mark.parametrize(
    "text", ["", "id,gold\n1,2\n", "id,prediction,gold\n1,x,2\n", "id,prediction,gold\n1,2\n"]
)
def test_a_file_that_is_not_predictions_is_not_used(tmp_path, text):
    (tmp_path / "f.csv").write_text(text)
    assert read_predictions(tmp_path / "f.csv") is None
