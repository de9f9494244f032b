import csv
import re
from dataclasses import replace
from pathlib import Path

import pandas
import pytest
from report_examples import example, spec, with_trial, write_predictions

from ablate.errors import BadInput
from ablate.report.export import chosen_trial, export_model, export_predictions, export_results
from ablate.report.frames import tidy_frame


@pytest.fixture
def results(tmp_path):
    return write_predictions(example(folder=tmp_path / "trials"), items=20)


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_csv_has_a_row_per_trial(results, tmp_path):
    rows = rows_of(export_results(results, tmp_path / "r.csv"))
    assert [row["cell"] for row in rows] == [trial.cell for trial in results.trials]
    assert float(rows[0]["dev/mean"]) == results.trials[0].metrics["dev/mean"]


def test_parquet_gives_the_table_back(results, tmp_path):
    path = export_results(results, tmp_path / "r.parquet")
    pandas.testing.assert_series_equal(pandas.read_parquet(path)["dev/mean"], tidy_frame(results)["dev/mean"])


def test_csv_holds_no_formula(results, tmp_path):
    hostile = with_trial(results, 0, error="=cmd|' /C calc'!A0", factors={"l2": "@SUM(A1)"})
    row = rows_of(export_results(hostile, tmp_path / "r.csv"))[0]
    assert (row["error"], row["l2"]) == ("'=cmd|' /C calc'!A0", "'@SUM(A1)")


def test_csv_leaves_negative_numbers_alone(results, tmp_path):
    row = rows_of(export_results(with_trial(results, 0, factors={"l2": "-1e-3"}), tmp_path / "r.csv"))[0]
    assert row["l2"] == "-1e-3"


def test_another_suffix_is_refused(results, tmp_path):
    with pytest.raises(BadInput, match=r"\.csv or \.parquet"):
        export_results(results, tmp_path / "r.xlsx")


def test_the_best_cell_and_its_first_seed_are_chosen(results):
    means = {
        cell.hash: sum(t.metrics["dev/mean"] for t in results.trials if t.cell == cell.hash)
        for cell in results.cells
    }
    trial = chosen_trial(results)
    assert trial.cell == max(means, key=means.__getitem__)
    assert trial.seed == 11


def test_a_minimised_metric_chooses_the_smallest(results):
    metric = results.spec.metric.model_copy(update={"goal": "minimize"})
    worst = chosen_trial(replace(results, spec=spec(metric=metric)))
    assert worst.cell != chosen_trial(results).cell


def test_a_cell_with_a_seed_missing_is_not_chosen(results):
    best = chosen_trial(results)
    place = next(i for i, t in enumerate(results.trials) if t.cell == best.cell and t.seed == 33)
    assert chosen_trial(with_trial(results, place, state="FAIL", metrics={})).cell != best.cell


@pytest.mark.parametrize(
    ("file", "header", "row"),
    [
        ("sst-dev-output.csv", "id \t Predicted_Sentiment ", r"sentiment-0 , \d "),
        ("para-dev-output.csv", "id \t Predicted_Is_Paraphrase ", r"paraphrase-0 , [01]\.0 "),
        ("sts-dev-output.csv", "id \t Predicted_Similiary ", r"similarity-0 , -?\d+\.\d+ "),
    ],
)
def test_the_course_s_format_to_the_letter(results, tmp_path, file, header, row):
    export_predictions(results, tmp_path / "out", "cs224n")
    lines = (tmp_path / "out" / file).read_text().split("\n")
    assert lines[0] == header
    assert re.fullmatch(row, lines[1])
    assert len(lines) == 22  # header, 20 items, the end


def test_csv_predictions_keep_every_digit(results, tmp_path):
    written = export_predictions(results, tmp_path / "out")
    trial = chosen_trial(results)
    source = results.parts[trial.parts["similarity"], 11].folder / "predictions" / "dev.similarity.csv"
    assert (tmp_path / "out" / "dev.similarity.csv").read_text() == source.read_text()
    assert len(written) == 3


def test_a_cell_and_a_seed_can_be_named(results):
    trial = chosen_trial(results, results.cells[2].hash, 22)
    assert (trial.cell, trial.seed) == (results.cells[2].hash, 22)


@pytest.mark.parametrize(("cell", "seed", "said"), [("beef", None, "no cell 'beef'"), (None, 5, "found 5")])
def test_what_is_not_there_is_refused(results, cell, seed, said):
    with pytest.raises(BadInput, match=said):
        chosen_trial(results, cell, seed)


def test_a_study_without_predictions_says_what_would_do(tmp_path):
    with pytest.raises(BadInput, match=r"context\.predictions"):
        export_predictions(example(folder=tmp_path), tmp_path / "out")


def test_an_unknown_format_is_refused(results, tmp_path):
    with pytest.raises(BadInput, match="cs224n or csv"):
        export_predictions(results, tmp_path / "out", "xml")


def keep_models(results):
    for part in results.parts.values():
        (part.folder / "model").mkdir()
        (part.folder / "model" / "weights").write_text(f"{part.part} {part.seed}")


def test_each_part_s_model_is_copied(results, tmp_path):
    keep_models(results)
    trial = chosen_trial(results)
    export_model(results, tmp_path / "out")
    for name, part in trial.parts.items():
        assert (tmp_path / "out" / name / "model" / "weights").read_text() == f"{part} 11"


def test_a_second_export_replaces_the_first(results, tmp_path):
    keep_models(results)
    cell = next(cell.hash for cell in results.cells if cell.levels["training"] == "joint")
    export_model(results, tmp_path / "out", cell, 11)
    (folder,) = export_model(results, tmp_path / "out", cell, 22)
    assert (folder / "weights").read_text() == f"{cell} 22"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model"]


def test_no_model_no_export(results, tmp_path):
    with pytest.raises(BadInput, match="no model was kept"):
        export_model(results, tmp_path / "out")


def test_a_part_s_name_is_no_path(results, tmp_path):
    keep_models(results)
    trial = chosen_trial(results)
    place = results.trials.index(trial)
    wild = {"../../up": trial.parts["sentiment"], "b": trial.parts["similarity"]}
    for path in export_model(with_trial(results, place, parts=wild), tmp_path / "out", trial.cell, 11):
        assert Path(tmp_path / "out") in path.resolve().parents
