import numpy as np
import pytest
from report_examples import example, write_predictions

from ablate.evidence.frames import grid
from ablate.evidence.predictions import Predicted, PredictionFiles, item_scores, read_predictions


def test_a_file_named_after_the_task_is_found_by_the_value_of_its_metric(tmp_path):
    """`predictions("dev", "moons", ...)` and `return {"dev/accuracy": ...}`, beside a file of another task."""
    results = write_predictions(example(folder=tmp_path), items=40)
    for file in tmp_path.glob("*/predictions/dev.similarity.csv"):
        file.rename(file.with_name("dev.moons.csv"))
    found = PredictionFiles(grid(results)).by_seed(0, "dev/similarity")
    assert [(scores.kind, len(scores.ids)) for scores in found.values()] == [("pearson", 40)] * 3


def test_of_two_files_that_give_the_metric_neither_is_used(tmp_path):
    results = write_predictions(example(folder=tmp_path), items=40)
    for file in tmp_path.glob("*/predictions/dev.similarity.csv"):
        file.with_name("dev.twin.csv").write_bytes(file.read_bytes())
        file.rename(file.with_name("dev.moons.csv"))
    assert PredictionFiles(grid(results)).scores(results.trials[0], "dev/similarity") is None


def test_a_file_that_gives_the_metric_by_chance_is_told_by_the_next_trial(tmp_path):
    """In the first trial a file beside it has the same hits."""
    results = write_predictions(example(folder=tmp_path), items=40)
    for file in tmp_path.glob("*/predictions/dev.sentiment.csv"):
        wrong = file.read_text().replace(",0.0\n", ",9.0\n")
        first = file.parent.parent.name == f"{results.trials[0].parts['sentiment']}-11"
        file.with_name("dev.beside.csv").write_text(file.read_text() if first else wrong)
        file.rename(file.with_name("dev.moons.csv"))
    assert sorted(PredictionFiles(grid(results)).by_seed(0, "dev/sentiment")) == [0, 1, 2]


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
