import numpy as np
import pytest
from report_examples import example, spec, write_predictions

from ablate.report.contrasts import differences_from_reference
from ablate.report.frames import grid
from ablate.report.pairs import Pairing, composite_weights
from ablate.report.predictions import Predicted, item_scores, read_predictions
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
    assert pairing.unaligned == [(0, 1, "dev/similarity")]


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
