"""Prediction files: read strictly, and never left out in silence."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_examples import example, write_predictions

from ablate.evidence.frames import grid
from ablate.evidence.predictions import (
    ItemScores,
    Kind,
    Predicted,
    PredictionFiles,
    Refusal,
    Unused,
    item_scores,
    predictions_in,
    read_predictions,
)
from ablate.runner.cadence import Cadence
from ablate.runner.context import Owner, PartContext
from ablate.store.results import Results

HEADER = "id,prediction,gold\n"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Predicted | Refusal]:
    """Keep predictions as a trainer does, and read them."""

    def keep(*columns: Any) -> Predicted | Refusal:
        folder = tmp_path_factory.mktemp("part")
        context = PartContext(
            Owner(), seed=1, device="cpu", workdir=folder, cache=folder, cadence=Cadence(60)
        )
        context.predictions("dev", "qa", *columns)
        return predictions_in(folder / "predictions" / "dev.qa.csv")

    return keep


@pytest.fixture
def found(tmp_path: Path) -> Callable[[str | bytes], Predicted | Refusal]:
    def read(text: str | bytes) -> Predicted | Refusal:
        (tmp_path / "f.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
        return predictions_in(tmp_path / "f.csv")

    return read


# Python's csv leaves a lone carriage return without quotes, which no reader takes back.
TEXT = st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]), max_size=9)
NUMBER = st.floats(-1e100, 1e100, exclude_min=True, exclude_max=True)


@given(rows=st.lists(st.tuples(TEXT, NUMBER, NUMBER, TEXT.filter(str.strip)), max_size=5))
def test_what_a_trainer_gives_is_read_back(
    kept: Callable[..., Predicted | Refusal], rows: list[tuple[str, float, float, str]]
) -> None:
    ids, predicted, gold, clusters = zip(*rows, strict=True) if rows else ((),) * 4
    back = kept(ids, predicted, gold, clusters)
    assert isinstance(back, Predicted)
    assert (back.ids, tuple(back.predicted), tuple(back.gold)) == (ids, predicted, gold)
    assert back.clusters == tuple(label.strip() for label in clusters)


def test_a_file_without_clusters_has_none(found: Callable[[str | bytes], Predicted | Refusal]) -> None:
    read = found(HEADER + "a,1,0\n")
    assert isinstance(read, Predicted)
    assert read.clusters is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "id,gold\n1,2\n",
        "id,gold,prediction\n1,2,3\n",
        "id,prediction,gold,weight\n1,2,3,4\n",
        HEADER + "1,x,2\n",
        HEADER + "1,,2\n",
        HEADER + "1,2\n",
        HEADER + "1,2,3\n2,3\n",
        HEADER + "1,2,3,4\n",
        HEADER + "1,2,3\n\n",
        HEADER + "1,NA,3\n",
        HEADER + '"1,2,3\n',
        "id,prediction,gold,cluster\n1,2,3\n",
        "id,prediction,gold,cluster\n1,2,3,\n",
        (HEADER + "\xe9,2,3\n").encode("latin-1"),
    ],
)
def test_a_file_that_is_not_predictions_is_damaged(
    found: Callable[[str | bytes], Predicted | Refusal], text: str | bytes
) -> None:
    assert found(text) is Refusal.DAMAGED


def test_a_pipe_or_a_folder_is_no_file_of_predictions(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert [predictions_in(tmp_path / name) for name in ("pipe", ".")] == [Refusal.NO_FILE] * 2


@pytest.mark.parametrize(
    "row", ["a,nan,0", "a,inf,0", "a,-inf,0", "a,1,inf", "a,1,nan", "a,1e999,0", "a,1e308,0", "a,1,-1e100"]
)
def test_a_number_that_is_not_finite_refuses_the_file(
    found: Callable[[str | bytes], Predicted | Refusal], row: str
) -> None:
    assert found(HEADER + "b,1,1\n" + row + "\n") is Refusal.NOT_FINITE


def test_a_file_that_is_refused_or_not_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text(HEADER + "a,nan,1\n")
    assert read_predictions(tmp_path / "f.csv") is None
    assert read_predictions(tmp_path / "none.csv") is None


def test_labels_kept_back_are_read_and_score_nothing(
    found: Callable[[str | bytes], Predicted | Refusal],
) -> None:
    read = found(HEADER + "a,1,nan\nb,2,nan\n")
    assert isinstance(read, Predicted)
    assert np.isnan(read.gold).all()
    assert item_scores(read, 0.0) is Refusal.NOT_FINITE


def test_scores_are_hits_or_pseudo_values_whichever_gives_the_metric() -> None:
    clusters = ("x", "x", "y")
    predicted = Predicted(("a", "b", "c"), np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0]), clusters)
    r = float(np.corrcoef([1, 2, 4], [1, 2, 3])[0, 1])
    hits, values = item_scores(predicted, 2 / 3), item_scores(predicted, r)
    assert isinstance(hits, ItemScores)
    assert isinstance(values, ItemScores)
    assert (hits.kind, values.kind) == (Kind.ACCURACY, Kind.PEARSON)
    assert hits.clusters == values.clusters == clusters
    assert values.metric == pytest.approx(r)
    assert item_scores(predicted, 0.5) is Refusal.OTHER_METRIC


# What is left out is on record


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return write_predictions(example(folder=tmp_path), items=40)


def file_of(results: Results, place: int, task: str) -> Path:
    trial = results.trials[place]
    part = trial.parts.get(task) or trial.parts["all"]
    return results.parts[part, trial.seed].folder / "predictions" / f"dev.{task}.csv"


def unused(
    results: Results,
    metrics: tuple[str, ...] = ("dev/sentiment", "dev/paraphrase", "dev/similarity", "dev/mean"),
) -> set[Unused]:
    files = PredictionFiles(grid(results))
    for metric in metrics:
        for row in range(len(results.cells)):
            files.by_seed(row, metric)
    return files.unused


def test_predictions_that_give_the_metric_are_all_used(results: Results) -> None:
    assert unused(results) == set()


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (["a,1,0", "b,1"], Refusal.DAMAGED),
        (["a,1,0", "b,nan,0"], Refusal.NOT_FINITE),
        (["a,1,0"], Refusal.TOO_FEW),
        (["a,1,0", "b,2,5", "c,0,1"], Refusal.OTHER_METRIC),
    ],
)
def test_predictions_that_do_not_give_the_metric_are_noted_with_the_reason(
    results: Results, rows: list[str], why: Refusal
) -> None:
    """The second cell has a similarity head of its own."""
    file_of(results, 1, "similarity").write_text("\n".join(["id,prediction,gold", *rows]) + "\n")
    assert unused(results) == {Unused(1, "dev/similarity", why)}


def with_twin(results: Results, wanted: Callable[[int], bool]) -> Results:
    """Every part reports dev/twin too: the accuracy on sentiment of the parts that are `wanted`, elsewhere another value."""
    parts = {
        key: replace(part, metrics=part.metrics | {"dev/twin": part.metrics.get("dev/sentiment", 0) + off})
        for number, (key, part) in enumerate(results.parts.items())
        for off in [0 if wanted(number) else 0.01]
    }
    trials = tuple(
        replace(t, metrics=t.metrics | {"dev/twin": parts[key].metrics["dev/twin"]})
        for t in results.trials
        for key in [(t.parts.get("sentiment") or t.parts["all"], t.seed)]
    )
    return replace(results, parts=parts, trials=trials)


def test_a_file_stays_that_of_the_metric_it_is_named_after(results: Results) -> None:
    """dev/twin, which has no file, is the accuracy on sentiment."""
    twins = with_twin(results, lambda number: True)
    assert PredictionFiles(grid(twins)).scores(twins.trials[-1], "dev/twin") is None
    assert unused(twins, ("dev/twin", "dev/sentiment")) == set()


def stated(results: Results, **kinds: str) -> Results:
    """The trainer states what its metrics are."""
    metrics = {f"dev/{name}": kind for name, kind in kinds.items()}
    parts = {
        key: replace(part, facts=part.facts | {"metrics": metrics}) for key, part in results.parts.items()
    }
    return replace(results, parts=parts)


def test_a_metric_that_is_stated_to_be_another_has_no_items_though_its_value_is_the_accuracy(
    results: Results,
) -> None:
    """The macro-F1 of a perfect model is 1, and so is its accuracy."""
    noted = unused(stated(results, sentiment="macro_f1", paraphrase="accuracy"))
    rows = range(len(results.cells))
    assert noted == {Unused(row, "dev/sentiment", Refusal.STATED_OTHER) for row in rows}


def test_the_file_of_a_stated_metric_is_found_for_the_accuracy_beside_it(results: Results) -> None:
    twins = stated(with_twin(results, lambda number: True), sentiment="macro_f1", twin="accuracy")
    found = PredictionFiles(grid(twins)).scores(twins.trials[-1], "dev/twin")
    assert found is not None
    assert found.kind is Kind.ACCURACY
    other = stated(twins, sentiment="macro_f1", twin="mcc")
    assert PredictionFiles(grid(other)).scores(other.trials[-1], "dev/twin") is None


def test_a_file_named_after_no_metric_is_found_though_one_part_s_is_damaged(
    results: Results, tmp_path: Path
) -> None:
    for file in tmp_path.glob("*/predictions/dev.sentiment.csv"):
        file.rename(file.with_name("dev.moons.csv"))
    damaged = file_of(results, 0, "sentiment").with_name("dev.moons.csv")
    damaged.write_text(damaged.read_text() + "x")
    row = grid(results).index[results.trials[0].cell]
    assert Unused(row, "dev/sentiment", Refusal.DAMAGED) in unused(results, ("dev/sentiment",))
    assert sorted(PredictionFiles(grid(results)).by_seed(row, "dev/sentiment")) == [1, 2]


def test_ids_and_gold_of_many_files_are_kept_once(results: Results) -> None:
    files = PredictionFiles(grid(results))
    a, b = files.by_seed(0, "dev/sentiment"), files.by_seed(len(results.cells) - 1, "dev/sentiment")
    assert a[0].ids is b[2].ids
    assert a[0].gold is b[2].gold


def test_a_file_named_after_the_task_is_found_by_the_value_of_its_metric(tmp_path: Path) -> None:
    """`predictions("dev", "moons", ...)` and `return {"dev/accuracy": ...}`, beside a file of another task."""
    results = write_predictions(example(folder=tmp_path), items=40)
    for file in tmp_path.glob("*/predictions/dev.similarity.csv"):
        file.rename(file.with_name("dev.moons.csv"))
    found = PredictionFiles(grid(results)).by_seed(0, "dev/similarity")
    assert [(scores.kind, len(scores.ids)) for scores in found.values()] == [("pearson", 40)] * 3


def test_one_side_s_files_that_lack_an_item_are_noted_and_not_passed_over(tmp_path: Path) -> None:
    """Seen: one of two cells saved 59 of 60 predictions, and its items were left out of the error without a word."""
    results = write_predictions(example(folder=tmp_path), items=40)
    for file in tmp_path.glob("*/predictions/dev.similarity.csv"):
        file.rename(file.with_name("dev.moons.csv"))
    folders = sorted({part.folder for part in results.parts.values() if "dev/similarity" in part.metrics})
    for folder in folders[: len(folders) // 2]:
        file = folder / "predictions" / "dev.moons.csv"
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    noted = unused(results, ("dev/similarity",))
    assert {note.why for note in noted} == {Refusal.OTHER_METRIC}


def test_of_two_files_that_give_the_metric_neither_is_used(tmp_path: Path) -> None:
    results = write_predictions(example(folder=tmp_path), items=40)
    for file in tmp_path.glob("*/predictions/dev.similarity.csv"):
        file.with_name("dev.twin.csv").write_bytes(file.read_bytes())
        file.rename(file.with_name("dev.moons.csv"))
    assert PredictionFiles(grid(results)).scores(results.trials[0], "dev/similarity") is None


def test_a_file_that_gives_the_metric_by_chance_is_told_by_the_next_trial(tmp_path: Path) -> None:
    """In the first trial a file beside it has the same hits."""
    results = write_predictions(example(folder=tmp_path), items=40)
    for file in tmp_path.glob("*/predictions/dev.sentiment.csv"):
        wrong = file.read_text().replace(",0.0\n", ",9.0\n")
        first = file.parent.parent.name == f"{results.trials[0].parts['sentiment']}-11"
        file.with_name("dev.beside.csv").write_text(file.read_text() if first else wrong)
        file.rename(file.with_name("dev.moons.csv"))
    assert sorted(PredictionFiles(grid(results)).by_seed(0, "dev/sentiment")) == [0, 1, 2]
