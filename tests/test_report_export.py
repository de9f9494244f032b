import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas
import pytest
from fixture_types import Ablate
from report_examples import example, searched, spec, with_trial, write_predictions

from ablate.errors import BadInput
from ablate.evidence.frames import tidy_frame
from ablate.report.export import chosen_trial, export_study
from ablate.spec.model import Level
from ablate.store.results import Results


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return write_predictions(example(folder=tmp_path / "trials"), items=20)


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_csv_has_a_row_per_trial(results: Results, tmp_path: Path) -> None:
    export_study(results, tmp_path / "out")
    rows = rows_of(tmp_path / "out" / "results.csv")
    assert [row["cell"] for row in rows] == [trial.cell for trial in results.trials]
    assert float(rows[0]["dev/mean"]) == results.trials[0].metrics["dev/mean"]


def test_parquet_gives_the_table_back(results: Results, tmp_path: Path) -> None:
    export_study(results, tmp_path)
    column = pandas.read_parquet(tmp_path / "results.parquet")["dev/mean"]
    pandas.testing.assert_series_equal(column, tidy_frame(results)["dev/mean"])


def test_csv_holds_no_formula(results: Results, tmp_path: Path) -> None:
    hostile = with_trial(results, 0, error="=cmd|' /C calc'!A0", factors={"l2": "@SUM(A1)"})
    export_study(hostile, tmp_path)
    row = rows_of(tmp_path / "results.csv")[0]
    assert (row["error"], row["l2"]) == ("'=cmd|' /C calc'!A0", "'@SUM(A1)")


def test_csv_leaves_negative_numbers_alone(results: Results, tmp_path: Path) -> None:
    export_study(with_trial(results, 0, factors={"l2": -1e-3}), tmp_path)
    assert rows_of(tmp_path / "results.csv")[0]["l2"] == "-0.001"


@pytest.mark.parametrize(
    ("levels", "written"),
    [
        ([None, "null", "none", 0, "0"], ["null", '"null"', "none", "0", '"0"']),
        ([1.5, 2.5], ["1.5", "2.5"]),
        ([True, "true", "9" * 30], ["True", '"true"', f'"{"9" * 30}"']),
        # Without other types there is nothing to confuse, and what was written before stays.
        (["null", "0", ""], ["null", "0", '""']),
    ],
)
def test_levels_that_look_alike_stay_apart_and_a_factor_that_is_not_there_is_empty(
    results: Results, tmp_path: Path, levels: list[Any], written: list[str]
) -> None:
    l2 = results.spec.factor("l2").model_copy(
        update={"levels": tuple(Level(name=level, settings={}) for level in levels)}
    )
    others = [factor for factor in results.spec.factors if factor.name != "l2"]
    spec = results.spec.model_copy(update={"factors": (*others, l2)})
    for number, level in enumerate(levels):
        results = with_trial(results, number, factors={"l2": level})
    results = with_trial(results, len(levels), factors={})
    export_study(replace(results, spec=spec), tmp_path)
    assert [row["l2"] for row in rows_of(tmp_path / "results.csv")][: len(levels) + 1] == [*written, ""]


def test_the_best_cell_and_its_first_seed_are_chosen(results: Results) -> None:
    means = {
        cell.hash: sum(t.metrics["dev/mean"] for t in results.trials if t.cell == cell.hash)
        for cell in results.cells
    }
    trial = chosen_trial(results)
    assert trial.cell == max(means, key=means.__getitem__)
    assert trial.seed == 11


def test_a_minimised_metric_chooses_the_smallest(results: Results) -> None:
    metric = results.spec.metric.model_copy(update={"goal": "minimize"})
    worst = chosen_trial(replace(results, spec=spec(metric=metric)))
    assert worst.cell != chosen_trial(results).cell


def test_a_cell_with_a_seed_missing_is_not_chosen(results: Results) -> None:
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
def test_the_course_s_format_to_the_letter(
    results: Results, tmp_path: Path, file: str, header: str, row: str
) -> None:
    export_study(results, tmp_path / "out", "cs224n")
    lines = (tmp_path / "out" / file).read_text().split("\n")
    assert lines[0] == header
    assert re.fullmatch(row, lines[1])
    assert len(lines) == 22  # header, 20 items, the end


def test_csv_predictions_keep_every_digit(results: Results, tmp_path: Path) -> None:
    export_study(results, tmp_path / "out")
    trial = chosen_trial(results)
    source = results.parts[trial.parts["similarity"], 11].folder / "predictions" / "dev.similarity.csv"
    assert (tmp_path / "out" / "dev.similarity.csv").read_text() == source.read_text()


def test_predictions_of_the_test_split_come_too(results: Results, tmp_path: Path) -> None:
    folder = results.parts[chosen_trial(results).parts["similarity"], 11].folder / "predictions"
    (folder / "test.similarity.csv").write_text("id,prediction,gold\na,1.5,2.0\n")
    export_study(results, tmp_path / "out", "cs224n")
    assert (tmp_path / "out" / "sts-test-output.csv").read_text().endswith("a , 1.5 \n")


def test_csv_predictions_have_their_clusters(results: Results, tmp_path: Path) -> None:
    file = predictions_of(results, "sentiment")
    header, *rows = file.read_text().splitlines()
    file.write_text(
        "\n".join([header + ",cluster", *(f"{row},=q{i // 2}" for i, row in enumerate(rows)), ""])
    )
    export_study(results, tmp_path / "out")
    (exported,) = (tmp_path / "out").glob("dev.sentiment.csv")
    assert [row["cluster"] for row in rows_of(exported)][:3] == ["'=q0", "'=q0", "'=q1"]
    export_study(results, tmp_path / "course", "cs224n")
    assert len((tmp_path / "course" / "sst-dev-output.csv").read_text().splitlines()) == 21


def test_predictions_that_are_not_finite_are_refused_with_the_reason(
    results: Results, tmp_path: Path
) -> None:
    predictions_of(results, "sentiment").write_text("id,prediction,gold\na,nan,1\n")
    with pytest.raises(
        BadInput, match=r"dev\.sentiment\.csv: a prediction or a label is not a finite number"
    ):
        export_study(results, tmp_path / "out", "cs224n")


def predictions_of(results: Results, task: str) -> Path:
    """The file behind what is exported."""
    trial = chosen_trial(results)
    part = trial.parts.get(task) or trial.parts["all"]
    return results.parts[part, trial.seed].folder / "predictions" / f"dev.{task}.csv"


def test_labels_that_were_kept_back_are_empty_fields(results: Results, tmp_path: Path) -> None:
    folder = results.parts[chosen_trial(results).parts["similarity"], 11].folder / "predictions"
    (folder / "test.similarity.csv").write_text("id,prediction,gold\na,1.5,nan\n")
    export_study(results, tmp_path / "out")
    assert (tmp_path / "out" / "test.similarity.csv").read_text() == "id,prediction,gold\na,1.5,\n"


def test_a_cell_and_a_seed_can_be_named(results: Results) -> None:
    trial = chosen_trial(results, ["training=separate", "l2=0.01"], 22)
    assert (trial.factors["l2"], trial.seed) == (0.01, 22)


def test_the_baseline_can_be_named(results: Results) -> None:
    assert chosen_trial(results, ["baseline"]).cell == results.cells[0].hash


@pytest.mark.parametrize(
    ("only", "seed", "said"),
    [
        (["trainin=joint"], None, "training"),
        (["l2=0.0"], None, r"5 cells meet this \(baseline, .* and 2 more\)"),
        (["best"], None, "the study names no `best`"),
        ([], 5, "found 5"),
    ],
)
def test_what_is_not_one_trial_is_refused(
    results: Results, only: list[str], seed: int | None, said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        chosen_trial(results, only, seed)


def test_a_cell_that_a_search_only_tried_is_no_trial_to_export() -> None:
    results = searched()
    finalists = {trial.cell for trial in results.trials if trial.seed != results.spec.seeds[0]}
    tried = next(cell for cell in results.cells if cell.hash not in finalists)
    with pytest.raises(BadInput, match="is not a finalist of the search, so it ran on seed 11 only"):
        chosen_trial(results, [f"{name}={level}" for name, level in tried.levels.items()])


def test_a_study_without_predictions_and_models_says_so(tmp_path: Path) -> None:
    results = example(folder=tmp_path)
    for part in results.parts.values():
        part.folder.mkdir(parents=True)
    exported = export_study(results, tmp_path / "out")
    assert [note.partition(":")[0] for note in exported.notes] == ["no predictions", "no model"]
    assert [Path(file).name for file in exported.files] == ["results.csv", "results.parquet"]


def test_the_course_s_format_without_its_tasks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no predictions of sentiment, paraphrase, similarity"):
        export_study(example(folder=tmp_path), tmp_path / "out", "cs224n")
    assert not (tmp_path / "out").exists()


def test_an_unknown_format_is_refused(results: Results, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="csv or cs224n"):
        export_study(results, tmp_path / "out", "xml")


def keep_models(results: Results) -> None:
    for part in results.parts.values():
        (part.folder / "model").mkdir()
        (part.folder / "model" / "weights").write_text(f"{part.part} {part.seed}")


def test_each_part_s_model_is_copied(results: Results, tmp_path: Path) -> None:
    keep_models(results)
    trial = chosen_trial(results)
    export_study(results, tmp_path / "out")
    for name, part in trial.parts.items():
        assert (tmp_path / "out" / name / "model" / "weights").read_text() == f"{part} 11"


def test_a_second_export_replaces_the_first(results: Results, tmp_path: Path) -> None:
    keep_models(results)
    only = ["training=joint", "surgery=none"]
    first = export_study(results, tmp_path / "out", only=only, seed=11)
    again = export_study(results, tmp_path / "out", only=only, seed=22)
    assert first.files == again.files
    assert (tmp_path / "out" / "model" / "weights").read_text() == f"{again.cell} 22"
    assert sorted(map(str, (tmp_path / "out").iterdir())) == sorted(again.files)


def test_a_part_s_name_is_no_path(results: Results, tmp_path: Path) -> None:
    keep_models(results)
    trial = chosen_trial(results)
    wild = {"../../up": trial.parts["sentiment"], "b": trial.parts["similarity"]}
    place = results.trials.index(trial)
    for file in export_study(with_trial(results, place, parts=wild), tmp_path / "out").files:
        assert tmp_path / "out" in Path(file).resolve().parents


QUICK = """\
study: quick
trainer: ablate.trainer
settings: {encoder: tiny, pooling: mean, max_steps: 2, max_length: 16, keep: model, tasks: [similarity]}
factors:
  l2: [0.0, 0.01]
baseline: {l2: 0.0}
design: full
seeds: [1]
metric: {name: dev/similarity}
"""


@pytest.mark.slow
def test_a_trained_study_is_exported_by_the_command(ablate: Ablate, tmp_path: Path) -> None:
    (tmp_path / "quick.yaml").write_text(QUICK)
    assert ablate("run", "quick.yaml").returncode == 0
    done = ablate("export", "quick", "--only", "l2=0.01", "--format", "cs224n", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    names = {"results.csv", "results.parquet", "sts-dev-output.csv", "model"}
    assert {Path(file).name for file in document["files"]} == names
    assert (tmp_path / "exports" / "quick" / "model" / "model.safetensors").is_file()
    assert document["cell"] in (tmp_path / "exports" / "quick" / "results.csv").read_text()


def test_the_scores_of_the_items_give_every_metric_of_every_trial(results: Results, tmp_path: Path) -> None:
    export_study(results, tmp_path / "out")
    items = pandas.read_parquet(tmp_path / "out" / "items.parquet")
    means = items.groupby(["cell", "seed", "metric"])["score"].mean()
    given = {
        (trial.cell, trial.seed, metric): value
        for trial in results.trials
        for metric, value in trial.metrics.items()
        if metric != "dev/mean"  # a composite of the others
    }
    assert means.to_dict() == pytest.approx(given)


def test_an_export_names_the_folder_that_is_gone(results: Results, tmp_path: Path) -> None:
    trial = chosen_trial(results)
    folders = [results.parts[part, trial.seed].folder for part in trial.parts.values()]
    assert not any("gone" in note for note in export_study(results, tmp_path / "out").notes)
    for folder in folders:
        shutil.rmtree(folder)
    exported = export_study(results, tmp_path / "other")
    assert exported.notes == tuple(
        f"{folder}: is gone, and with it what its trial predicted" for folder in folders
    )
