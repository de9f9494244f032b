import json
from csv import DictReader
from dataclasses import replace
from pathlib import Path

import pytest
from fixture_types import Json, not_none
from report_examples import (
    cell,
    example,
    factor,
    points_of,
    report_document,
    searched,
    spec,
    valued,
    with_trial,
    write_predictions,
)
from ruamel.yaml import YAML
from scipy.stats import chi2
from scipy.stats import t as students_t

from ablate.design.model import Design
from ablate.design.only import select
from ablate.errors import BadInput
from ablate.report import report
from ablate.report.as_json import to_json
from ablate.report.document import SeedsNeeded
from ablate.report.render.html import render_html
from ablate.report.render.markdown import render_markdown
from ablate.report.report import report_of, write_report
from ablate.report.sections.best_configuration import best_configuration
from ablate.report.sections.provenance import methods
from ablate.report.sections.seeds_needed import open_comparisons
from ablate.report.sections.summary import headline
from ablate.spec.model import Factor, Level
from ablate.stats.power import mde
from ablate.store.results import Results

WILD = "a_b $x$ | <b>bold</b> 🚀\nnext " + "long " * 45


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Json, Path]:
    """A finished study's document and the folder it was written to, in every format."""
    out = tmp_path_factory.mktemp("report")
    return to_json(write_report(example(), out, report.FORMATS)), out


def effect_of(document: Json, name: str, metric: str = "dev/mean") -> Json:
    return next(row for row in document["effects"] if (row["factor"], row["metric"]) == (name, metric))


def wild() -> Results:
    """A study in which everything that a user may name is hostile."""
    levels = (WILD, WILD + "2")
    factors = (factor("l2", [0.0, 0.01]), factor("wild", list(levels)))
    study = spec(factors=factors, baseline={"l2": 0.0, "wild": levels[0]}, question=WILD)
    results = example(study)
    return with_trial(results, 1, error=WILD, state="FAIL", metrics={})


def test_the_document_is_the_file(finished: tuple[Json, Path]) -> None:
    document, out = finished
    assert json.loads((out / "report.json").read_text()) == json.loads(json.dumps(document))


def test_the_keys_that_other_programs_read(finished: tuple[Json, Path]) -> None:
    document, _ = finished
    assert {"study", "cells", "effects", "anova", "noise", "flags", "ledger", "test"} <= set(document)


def test_the_reference_is_trained_again_from_the_file_that_was_run() -> None:
    again = report_document(replace(example(), file="my studies/heads.yaml"))["provenance"]["reproduce"]
    assert again.startswith("ablate run 'my studies/heads.yaml' --home again --only similarity_head=concat ")


def test_planted_effects_help_and_nothing_planted_does_not(finished: tuple[Json, Path]) -> None:
    document, _ = finished
    assert effect_of(document, "similarity_head")["verdict"] == "helps"
    assert effect_of(document, "paraphrase_head")["verdict"] == "helps"
    assert effect_of(document, "l2")["verdict"] in ("inconclusive", "no difference that matters")


def test_a_search_says_how_its_finalist_does_on_other_seeds() -> None:
    document = report_document(searched())
    finalist = next(cell for cell in document["cells"] if not cell["reference"])
    estimate = finalist["difference"]["dev/mean"]["estimate"]
    said = f"{finalist['name']} against the baseline: helps; dev/mean +{estimate:.4f} (95 % interval "
    assert any(sentence.startswith(said) for sentence in document["summary"])


def test_a_seed_that_is_not_planned_is_not_counted_as_done_nor_in_the_best_mean() -> None:
    """The seed 33 stands in the store; the study file names 11 and 22."""
    document = report_document(replace(example(), spec=spec(seeds=(11, 22))))
    best = next(cell for cell in document["cells"] if cell["best"])
    assert (best["seeds_done"], best["seeds_planned"]) == (2, 2)
    by_seed = best["metrics"]["dev/mean"]["by_seed"]
    mean = (by_seed["11"] + by_seed["22"]) / 2
    assert f"with dev/mean {mean:.4f} (2 seeds, " in document["summary"][-1]


def test_the_seconds_of_a_cell_are_called_time_and_no_cost(finished: tuple[Json, Path]) -> None:
    for name in ("report.md", "report.html"):
        text = (finished[1] / name).read_text()
        assert (
            "Time is the wall time of training, summed over all seeds. A part that several cells share"
            in text
        )
    (head,) = [line for line in (finished[1] / "report.md").read_text().split("\n") if "| cell | |" in line]
    assert head.endswith("| time | flags | train it again |")


def test_every_cell_with_a_result_has_the_command_that_trains_it_again(finished: tuple[Json, Path]) -> None:
    document, out = finished
    cell_of = {trial.number: trial.cell for trial in example().trials}
    page = (out / "report.html").read_text()
    for row in document["cells"]:
        assert {cell_of[number] for number in row["trials"].values()} == {row["cell"]}
        assert f'<code class="copy">ablate reproduce example {row["trials"]["11"]}</code>' in page
        assert f"`ablate reproduce example {row['trials']['11']}`" in (out / "report.md").read_text()


def test_a_cell_without_a_result_has_no_such_command() -> None:
    unfinished = report_of(example(keep=lambda cell, seed: False))
    assert "ablate reproduce" not in render_html(unfinished, [])


def test_the_kernel_of_older_records_is_not_told() -> None:
    results = example()
    old, new = "Linux-6.1.0-13-cloud-amd64-x86_64-with-glibc2.36", "Linux-x86_64-glibc2.36"
    parts = {
        key: replace(part, facts={"platform": old if i else new})
        for i, (key, part) in enumerate(results.parts.items())
    }
    document = report_document(replace(results, parts=parts))
    assert document["provenance"]["facts"]["platform"] == [{"value": new, "parts": 30}]


def test_what_a_search_gave_up_is_told_with_its_last_step() -> None:
    document = report_document(searched())
    given_up = [trial["error"] for trial in document["ledger"]["tried"] if trial["state"] == "PRUNED"]
    assert given_up == ["stopped at step 200"]
    assert document["cost"]["not_counted"] == 1


def test_the_effect_is_the_mean_difference_paired_by_seed(finished: tuple[Json, Path]) -> None:
    document, _ = finished
    reference, changed = (next(c for c in document["cells"] if c[key]) for key in ("reference", "best"))
    before, after = (cell["metrics"]["dev/mean"]["by_seed"] for cell in (reference, changed))
    expected = sum(after[seed] - before[seed] for seed in ("11", "22", "33")) / 3
    assert effect_of(document, "similarity_head")["estimate"] == pytest.approx(expected)


def test_the_same_part_on_both_sides_claims_nothing(finished: tuple[Json, Path]) -> None:
    row = effect_of(finished[0], "similarity_head", "dev/sentiment")
    assert (row["estimate"], row["p"]) == (0.0, None)
    assert row["note"] == "both sides use the same trained part"


def test_other_metrics_get_no_verdict_of_helping(finished: tuple[Json, Path]) -> None:
    words = {row["verdict"] for row in finished[0]["effects"] if row["role"] == "exploratory"}
    assert words <= {"raises", "lowers", "inconclusive", "no difference that matters"}


def test_every_sentence_stands_in_the_markdown(finished: tuple[Json, Path]) -> None:
    document, out = finished
    text = (out / "report.md").read_text().replace("\\", "").replace("&lt;", "<")
    assert all(sentence in text for sentence in document["summary"])


def test_every_picture_named_by_the_markdown_is_there(finished: tuple[Json, Path]) -> None:
    _, out = finished
    named = [
        line.rpartition("(")[2].rstrip(")")
        for line in (out / "report.md").read_text().split("\n")
        if line.startswith("![")
    ]
    assert {"forest.png", "seeds.png", "curves.png"} <= set(named)
    assert all((out / name).read_bytes()[1:4] == b"PNG" for name in named)


def test_every_table_row_has_as_many_fields_as_its_head(finished: tuple[Json, Path]) -> None:
    fields = 0
    for line in (finished[1] / "report.md").read_text().replace("\\|", "").split("\n"):
        assert not line.startswith("|") or fields in (0, line.count("|"))
        fields = line.count("|") if line.startswith("|") else 0


def test_the_thirteen_sections_in_order(finished: tuple[Json, Path]) -> None:
    heads = [line for line in (finished[1] / "report.md").read_text().split("\n") if line.startswith("## ")]
    assert [int(head.split()[1].rstrip(".")) for head in heads] == list(range(1, 14))


def test_written_twice_the_bytes_are_the_same(finished: tuple[Json, Path], tmp_path: Path) -> None:
    write_report(example(), tmp_path, report.FORMATS)
    for file in sorted(finished[1].iterdir()):
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name


def test_nothing_temporary_is_left(finished: tuple[Json, Path]) -> None:
    assert not [path for path in finished[1].iterdir() if path.name.startswith(".")]


def test_a_failed_write_leaves_the_old_report_whole(
    finished: tuple[Json, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(example(), tmp_path, ("json",))
    before = (tmp_path / "report.json").read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_report(replace(example(), raw_cells=99), tmp_path, ("json",))
    assert (tmp_path / "report.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="did you mean 'html'"):
        write_report(example(), tmp_path / "out", ("htm",))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("trials", [0, 1])
def test_a_study_that_has_hardly_begun_has_a_report(trials: int, tmp_path: Path) -> None:
    results = example()
    started = replace(results, trials=results.trials[:trials], parts={}, points=points_of(()))
    document = to_json(write_report(started, tmp_path, report.FORMATS))
    assert document["summary"][0].startswith(f"{trials} of 18 trials done")
    assert all(row["estimate"] is None for row in document["effects"])


def test_during_a_run_it_says_how_far_it_is() -> None:
    document = report_document(example(keep=lambda one, seed: seed == 11))
    assert document["summary"][0].startswith("6 of 18 trials done (12 waiting)")


def test_one_seed_says_so_and_decides_nothing() -> None:
    document = report_document(example(spec(seeds=(11,))))
    assert document["summary"][0].startswith("One seed")
    assert {row["verdict"] for row in document["effects"] if row["role"] == "primary"} == {"inconclusive"}


def test_one_seed_with_predictions_is_tested_item_by_item(tmp_path: Path) -> None:
    results = write_predictions(example(spec(seeds=(11,)), folder=tmp_path))
    document = report_document(results)
    (mcnemar,) = effect_of(document, "paraphrase_head", "dev/paraphrase")["sensitivity"]
    pseudo, williams = effect_of(document, "similarity_head", "dev/similarity")["sensitivity"]
    assert [line["method"] for line in (mcnemar, pseudo, williams)] == [
        "mcnemar_exact",
        "pseudo_values",
        "williams",
    ]
    assert mcnemar["p"] < 0.05
    assert pseudo["ci95"] == pytest.approx(williams["ci95"], abs=0.01)
    assert "these trained models, not the method" in mcnemar["note"]
    assert "heavy" in williams["note"]


def test_a_sign_flip_says_what_three_seeds_can_show(finished: tuple[Json, Path]) -> None:
    line = effect_of(finished[0], "similarity_head")["sensitivity"][0]
    assert (line["method"], line["p"]) == ("sign_flip", 0.25)
    assert "with 3 seeds p cannot be below .250" in line["note"]


def test_other_tests_stand_in_every_text(finished: tuple[Json, Path]) -> None:
    for name in ("report.md", "report.html"):
        assert "sign-flip" in (finished[1] / name).read_text()


def test_lost_trials_give_bounds() -> None:
    """One of the three seeds of l2=0.01 is lost: its dev/mean may have been anything from 0 to 1."""
    results = example()
    place = next(i for i, t in enumerate(results.trials) if t.factors["l2"] == 0.01 and t.seed == 33)
    row = effect_of(report_document(with_trial(results, place, state="FAIL", metrics={})), "l2")
    assert row["bounds"][0] < row["estimate"] < row["bounds"][1]
    assert "if the lost trials had scored the worst or the best possible value" in row["note"]


def test_trials_still_to_run_are_not_lost() -> None:
    document = report_document(example(keep=lambda one, seed: seed == 11))
    assert {row["bounds"] for row in document["effects"]} == {None}


def test_a_metric_that_nothing_measured_is_said() -> None:
    metric = spec().metric.model_copy(update={"name": "dev/meen"})
    document = report_document(example(spec(metric=metric)))
    assert "dev/meen, which no trial has measured" in document["summary"][0]


def test_a_failed_trial_is_named_with_its_reason() -> None:
    document = report_document(with_trial(example(), 3, state="FAIL", metrics={}, error="NaN loss at step 7"))
    assert [row["error"] for row in document["ledger"]["unfinished"]] == ["NaN loss at step 7"]
    assert document["ledger"]["failed"] == 1


def test_a_failed_trial_has_the_command_that_shows_why(tmp_path: Path) -> None:
    write_report(with_trial(example(), 4, state="FAIL", metrics={}, error="boom"), tmp_path, ("md", "html"))
    assert '<code class="copy">ablate show example 4</code>' in (tmp_path / "report.html").read_text()
    assert "| boom | `ablate show example 4` |" in (tmp_path / "report.md").read_text()


def test_a_minimised_metric_turns_helping_round() -> None:
    metric = spec().metric.model_copy(update={"goal": "minimize"})
    assert effect_of(report_document(example(spec(metric=metric))), "similarity_head")["verdict"] == "hurts"


def test_a_sure_effect_that_is_too_small_to_matter_is_called_so() -> None:
    metric = spec().metric.model_copy(update={"smallest_effect": 10.0})
    (said,) = [
        line for line in report_document(example(spec(metric=metric)))["summary"] if "siamese: helps" in line
    ]
    assert said.endswith("lies within ± the smallest effect of interest.")


def test_the_interval_behind_no_difference_that_matters_stands_beside_it(tmp_path: Path) -> None:
    result = write_report(example(spec(seeds=(11, 22, 33, 44, 55)), noise=0.002), tmp_path, report.FORMATS)
    row = next(row for row in result.primary_effects if row.change.factor == "surgery")
    assert row.judged.verdict == "no difference that matters"
    low, high = not_none(row.judged.ci90)
    half = students_t.ppf(0.95, 4) * not_none(row.numbers.se)
    assert (low, high) == pytest.approx(
        (not_none(row.numbers.estimate) - half, not_none(row.numbers.estimate) + half)
    )
    assert -0.005 < low < high < 0.005
    shown = "[+0.0001, +0.0041]"
    assert any(f"(90 % interval {shown}, 95 % interval [−0.0004, +0.0047]" in said for said in result.summary)
    assert f"| [−0.0004, +0.0047] | {shown} |" in (tmp_path / "report.md").read_text()
    assert f"90 %: {shown}" in (tmp_path / "report.html").read_text()
    assert "(90\\,\\%: {[}+0.0001, +0.0041{]})" in (tmp_path / "report.tex").read_text()
    (line,) = [
        line
        for line in DictReader((tmp_path / "effects.csv").read_text().splitlines())
        if line["factor"] == "surgery" and line["role"] == "primary"
    ]
    assert (float(line["ci90_low"]), float(line["ci90_high"])) == (low, high)


def test_the_90_percent_interval_gives_every_verdict_that_p_does_not(finished: tuple[Json, Path]) -> None:
    rows = [row for row in finished[0]["effects"] if row["role"] == "primary"]
    for row in (row for row in rows if row["verdict"] not in ("helps", "hurts")):
        inside = row["ci90"][0] > -0.005 and row["ci90"][1] < 0.005
        assert row["verdict"] == ("no difference that matters" if inside else "inconclusive")


def test_without_a_smallest_effect_no_90_percent_interval_is_shown(tmp_path: Path) -> None:
    metric = spec().metric.model_copy(update={"smallest_effect": None})
    write_report(example(spec(metric=metric)), tmp_path, ("md", "html"))
    for name in ("report.md", "report.html"):
        assert "90 %:" not in (text := (tmp_path / name).read_text())
        assert "| 90 % interval |" not in text


def test_the_first_screen_says_that_intervals_over_seeds_know_nothing_of_other_items() -> None:
    said = "The intervals cover only what varies between trainings (seeds), not what would vary with other dev items."
    assert said in report_document(example())["summary"]
    assert not any("intervals cover" in s for s in report_document(example(spec(seeds=(11,))))["summary"])


def test_the_first_screen_says_when_the_intervals_cover_the_items_too(tmp_path: Path) -> None:
    said = "The intervals cover what varies between trainings (seeds) and between dev items."
    assert said in report_document(write_predictions(example(folder=tmp_path), items=40))["summary"]


def test_the_headline_counts_what_is_too_small_to_matter() -> None:
    metric = spec().metric.model_copy(update={"smallest_effect": 10.0})
    assert headline(report_of(example(spec(metric=metric)))).startswith(
        "Of 5 choices: 3 help (too small to matter), "
    )


def test_the_headline_calls_nothing_inconclusive_that_has_not_run() -> None:
    report = report_of(example(keep=lambda one, seed: one.levels["similarity_head"] == "concat"))
    assert headline(report).endswith(", 1 with nothing to compare yet")


def test_a_choice_that_changed_nothing_at_all_is_called_so() -> None:
    """As when reshuffling after an epoch that never ends: other parts, the same numbers."""
    results = example()
    twin = {trial.seed: trial.metrics for trial in results.trials if trial.cell == results.reference}
    for place, trial in enumerate(results.trials):
        if trial.factors["l2"] == 0.01:
            results = with_trial(results, place, metrics=twin[trial.seed])
    said = "l2: 0.0 → 0.01: inconclusive; dev/mean is the same within rounding in 3 seeds, as if the change did nothing."
    assert said in report_document(results)["summary"]
    needs = open_comparisons(report_of(results)) or ""
    assert "l2: 0.0 → 0.01 (the same within rounding in every seed: does it have any effect at all?)" in needs
    assert "unknown" not in needs


def test_the_settings_that_do_not_vary_stand_without_the_folders_of_this_machine() -> None:
    study = spec(settings={"encoder": "/home/me/weights/minilm", "data": {"sentiment": {"limit": 9}}})
    found = report_document(example(study))["design"]["settings"]
    assert found == {"encoder": "minilm", "data.sentiment.limit": "9"}


def test_a_level_that_sets_something_else_says_what() -> None:
    batches = Factor(
        name="batches",
        levels=(Level(name="even", settings={"batch": 16}), Level(name="paper", settings={"batch": 2})),
    )
    study = spec(factors=(factor("l2", [0.0, 0.01]), batches), baseline={"l2": 0.0, "batches": "even"})
    factors = report_document(example(study))["design"]["factors"]
    assert [f["settings"] for f in factors] == [{}, {"even": {"batch": "16"}, "paper": {"batch": "2"}}]


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_noise_names_the_test_that_its_detectable_difference_is_of(seeds: int) -> None:
    found = report_of(example(spec(seeds=tuple(range(seeds)))))
    row = to_json(found)["noise"][0]
    assert row["detectable"] == pytest.approx(mde(row["sd_seed"] * (2 / seeds) ** 0.5, df=seeds - 1))
    assert row["df"] > seeds - 1
    for text in (render_markdown(found, ()), render_html(found, ())):
        assert f"a paired t over {seeds} seeds ({seeds - 1} df) would detect" in text
        assert "df of σ" in text


def test_energy_is_that_of_the_parts_that_recorded_it() -> None:
    results = example()
    key = next(iter(results.parts))
    part = replace(results.parts[key], facts={"gpu_energy_joules": 3.6e6})
    measured = report_document(replace(results, parts=results.parts | {key: part}))["cost"]
    assert (measured["energy_kwh"], measured["energy_parts"], measured["parts"]) == (1.0, 1, 30)


def test_energy_that_nothing_recorded_is_called_so(finished: tuple[Json, Path]) -> None:
    assert finished[0]["cost"]["energy_kwh"] is None
    assert "Energy: not recorded" in (finished[1] / "report.md").read_text()


def test_of_many_cells_the_markdown_shows_the_best(tmp_path: Path) -> None:
    factors = (factor("similarity_head", ["concat", "siamese"]), factor("x", list(range(50))))
    study = spec("full", factors=factors, baseline={"similarity_head": "concat", "x": 0}, seeds=(11,))
    document = to_json(write_report(example(study), tmp_path, ("latex",)))
    rows = [line for line in (tmp_path / "report.tex").read_text().split("\n") if "1/1" in line]
    ranked = sorted(document["cells"], key=lambda cell: -cell["metrics"]["dev/mean"]["mean"])
    assert len(rows) == 80
    assert f"{ranked[0]['metrics']['dev/mean']['mean']:.4f}" in rows[1]


def test_examples_are_of_both_directions(tmp_path: Path) -> None:
    """The best cell has the better head for similarity: Pearson, so in standard deviations."""
    examples = report_document(write_predictions(example(folder=tmp_path)))["examples"]
    assert [row["what"] for row in examples["rows"]] == ["better"] * 5 + ["worse"] * 5
    assert examples["standardised"]
    assert max(abs(row["gold"]) for row in examples["rows"]) < 2  # uniform: none is 2 σ off


def test_zero_variance_claims_no_p() -> None:
    """Each seed moves by the same amount: no noise to compare with."""
    document = report_document(example(noise=0.0))
    row = effect_of(document, "similarity_head")
    assert (row["p"], row["verdict"]) == (None, "inconclusive")


def test_a_full_design_has_interactions_and_shares() -> None:
    document = report_document(example(spec("full")))
    assert {"training", "l2"} in [set(row["factors"]) for row in document["interactions"]]
    assert sum(row["share"] for row in document["anova"] if row["metric"] == "dev/mean") == pytest.approx(1)


def test_parts_trained_once_are_credited() -> None:
    parts = report_document(example())["ledger"]["parts"]
    assert (parts["naive"], parts["unique"]) == (42, 30)


@pytest.fixture(scope="module")
def wild_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wild")
    write_report(wild(), out, report.FORMATS)
    return out


def test_the_best_configuration_is_yaml_of_the_best_cell() -> None:
    for result in (report_of(example()), report_of(wild())):
        settings = YAML(typ="safe").load(not_none(best_configuration(result)))["settings"]
        assert settings == not_none(result.best).levels


def test_the_best_configuration_has_the_values_of_the_study_file() -> None:
    """Null is a value, a text that looks like a number is a text; only the folders of a path are left out."""
    settings = {"aug": None, "width": "2.0", "rate": 2.0, "encoder": "/models/private/base"}
    levels = (Level(name="plain", settings={"width": "1.0"}), Level(name="rich", settings=settings))
    study = spec("full", factors=(Factor(name="kind", levels=levels),), baseline={"kind": "plain"})
    result = report_of(valued(study, lambda levels, seed: 0.9 if levels["kind"] == "rich" else 0.5))
    text = not_none(best_configuration(result))
    assert YAML(typ="safe").load(text)["settings"] == settings | {"encoder": "base"}
    assert "encoder: base  # without its folders" in text


def test_a_composite_metric_is_said_to_be_one(tmp_path: Path) -> None:
    result = report_of(write_predictions(example(folder=tmp_path), items=40))
    composite = not_none(result.composite)
    assert composite.weights == pytest.approx(
        {"dev/paraphrase": 1 / 3, "dev/sentiment": 1 / 3, "dev/similarity": 1 / 6}
    )
    assert composite.constant == pytest.approx(1 / 6)
    said = "In every trial, dev/mean is 0.333 × dev/paraphrase + 0.333 × dev/sentiment + 0.167 × dev/similarity + 0.167."
    assert said in render_markdown(result, [])
    assert report_of(example()).composite is None


def test_what_is_open_comes_with_a_number_of_seeds() -> None:
    result = report_of(example(spec(seeds=(11, 22))))
    open_ones = [row for row in result.primary_effects if row.judged.verdict == "inconclusive"]
    said = not_none(open_comparisons(result))
    assert len(open_ones) > 0
    assert all(row.text in said for row in open_ones)
    assert "needs about " in said
    assert " More seeds need a new study with fresh seeds: a list, or looks planned from the start " in said


def test_the_number_of_seeds_has_a_range_from_the_noise_estimated_on_few_seeds() -> None:
    """The upper end: enough seeds if the standard deviation is at the upper end of its 80 % interval."""
    result = report_of(example(spec(seeds=(11, 22, 33, 44, 55)), noise=0.003))
    row = next(row for row in result.primary_effects if row.judged.verdict == "inconclusive")
    needed = not_none(row.seeds_needed)
    assert (needed.about, needed.low, needed.high) == (6, 5, 15)
    of_a_seed = not_none(row.numbers.v_seed) * row.numbers.n * 4 / chi2.ppf(0.1, 4)
    effect = {n: mde((of_a_seed / n) ** 0.5, n - 1, alpha=0.05 / 5) for n in (12, 15)}
    assert effect[15] <= 0.005 < effect[12]
    assert "(needs about 6 seeds, range 5 to 15)" in not_none(open_comparisons(result))
    assert to_json(row)["seeds_needed"] == {"about": 6, "low": 5, "high": 15, "more_items": False}


@pytest.mark.parametrize(
    ("needed", "said"),
    [
        (SeedsNeeded(None, None, None, True), "(needs more dev items: their noise alone is too large)"),
        (SeedsNeeded(None, 40, None, False), "(needs more than 100 seeds, range 40 to over 100)"),
    ],
)
def test_what_no_number_of_seeds_is_known_for_is_not_called_that_many_seeds(
    needed: SeedsNeeded, said: str
) -> None:
    result = report_of(example(spec(seeds=(11, 22, 33, 44, 55)), noise=0.003))
    known = not_none(open_comparisons(result))
    assert "With that many seeds, about 80 % of studies would detect an effect of 0.0050, if the" in known
    rows = (row if row.seeds_needed is None else replace(row, seeds_needed=needed) for row in result.effects)
    text = not_none(open_comparisons(replace(result, effects=tuple(rows))))
    assert said in text.replace("(each needs", "(needs")
    assert "that many" not in text
    assert (
        "That is what it takes to detect an effect of 0.0050 in about 80 % of studies, if the noise" in text
    )


def test_effects_that_are_decided_or_exploratory_need_no_seeds(finished: tuple[Json, Path]) -> None:
    for row in finished[0]["effects"]:
        is_open = row["role"] == "primary" and row["verdict"] == "inconclusive"
        assert (row["seeds_needed"] is not None) == is_open


def test_without_noise_between_seeds_it_is_said_once_that_seeds_cannot_be_counted() -> None:
    said = not_none(open_comparisons(report_of(example(spec(seeds=(11,)), noise=0.01))))
    assert said.endswith(". The number of seeds needed is unknown, since the noise between seeds is unknown.")


@pytest.mark.parametrize("kind", ["md", "html"])
def test_the_row_of_a_slope_is_marked_as_one(kind: str, tmp_path: Path) -> None:
    study = spec("full", factors=(factor("x", [0, 1, 2]),), baseline={"x": 0})
    write_report(example(study, noise=0.02), tmp_path, [kind])
    page = (tmp_path / f"report.{kind}").read_text(encoding="utf-8")
    marked, plain = {
        "md": ("| x (slope) | 0 → 2 |", "| x | 0 → 2 |"),
        "html": ("<td>x (slope)</td>", "<td>x</td>"),
    }[kind]
    assert marked in page
    assert plain in page


def test_of_a_numeric_factor_only_the_slope_is_called_open() -> None:
    factors = (factor("similarity_head", ["concat", "siamese"]), factor("x", list(range(6))))
    study = spec("full", factors=factors, baseline={"similarity_head": "concat", "x": 0})
    said = open_comparisons(report_of(example(study, noise=0.02)))
    assert "x (slope): 0 → 5 (" in not_none(said)
    assert "x: 0 → 1" not in not_none(said)


def test_the_report_says_over_how_many_effects_it_corrects() -> None:
    factors = (factor("similarity_head", ["concat", "siamese"]), factor("x", list(range(6))))
    study = spec("full", factors=factors, baseline={"similarity_head": "concat", "x": 0})
    said = [text for text in methods(report_of(example(study, noise=0.02))) if text.startswith("Holm")]
    assert said[0].startswith(
        "Holm's correction (1979) is applied over the 2 factor effects (a slope counts together with its levels) on dev/mean;"
    )


@pytest.mark.parametrize(("trainer", "whose"), [("ablate.command", "program's"), ("mine", "trainer's")])
def test_defaults_are_those_of_the_program_where_a_program_trains(
    trainer: str, whose: str, tmp_path: Path
) -> None:
    results = replace(example(spec(trainer=trainer)), defaults={"grace_seconds": "60"})
    write_report(results, tmp_path, ["md"])
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert f"All other settings have the {whose} defaults" in page
    assert ("grace\\_seconds 60" in page) == (trainer == "mine")


def test_the_headline_of_a_search_counts_its_finalists() -> None:
    assert headline(report_of(searched())) == "Of 1 finalist: 1 helps"


def test_choices_with_nothing_to_compare_share_a_sentence() -> None:
    said = report_of(example(keep=lambda cell, seed: cell.levels == spec().baseline and seed == 11)).summary
    (sentence,) = [sentence for sentence in said if "othing to compare yet" in sentence]
    assert sentence.startswith("Nothing to compare yet: similarity_head: concat → siamese; paraphrase_head: ")


def test_hostile_names_survive_in_json(wild_files: Path) -> None:
    document = json.loads((wild_files / "report.json").read_text())
    assert WILD in document["cells"][0]["levels"].values()


def test_hostile_names_are_no_markup_in_markdown(wild_files: Path) -> None:
    lines = (wild_files / "report.md").read_text().split("\n")
    text = "\n".join(
        line for line in lines if not line.startswith("To train the baseline again")
    )  # code shows all as it is
    assert "<b>" not in text
    assert "🚀" in text


def test_hostile_names_are_no_markup_in_html(wild_files: Path) -> None:
    text = (wild_files / "report.html").read_text()
    assert "<b>" not in text
    assert "&lt;b&gt;bold&lt;/b&gt; 🚀" in text


def test_hostile_names_leave_latex_with_ascii(wild_files: Path) -> None:
    text = (wild_files / "report.tex").read_text()
    assert text.isascii()
    assert r"a\_\allowbreak{}b \$x\$ \textbar{} \textless{}b\textgreater{}bold" in text


def test_html_asks_no_network(finished: tuple[Json, Path]) -> None:
    text = (finished[1] / "report.html").read_text()
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
    assert "default-src 'none'" in text


def test_torch_is_not_loaded() -> None:
    import subprocess
    import sys

    rooms = (
        "ablate.report.report, ablate.report.export, ablate.report.render.html, ablate.report.plots.registry"
    )
    code = f"import sys, {rooms}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_cells_with_the_same_levels_text_stay_two() -> None:
    factors = (factor("x", ["1", 1]),)
    results = example(spec("full", factors=factors, baseline={"x": "1"}))
    assert len({row["cell"] for row in report_document(results)["cells"]}) == len(
        {cell({"x": "1"}).hash, cell({"x": 1}).hash}
    )


def test_a_test_score_stands_beside_the_dev_score() -> None:
    results = example()
    first = results.trials[0]
    document = report_document(with_trial(results, 0, metrics=first.metrics | {"test/mean": 0.5}))
    assert document["test"][0]["metrics"]["test/mean"]["mean"] == 0.5
    dev = next(cell for cell in document["cells"] if cell["reference"])["metrics"]["dev/mean"]["mean"]
    assert f"On the test split, baseline: test/mean 0.5000 (dev/mean {dev:.4f})." in document["summary"]
    assert report_document(results)["test"] is None


def trained_again(results: Results, factor: str) -> list[str]:
    """The cells that the command of a factor's first effect trains."""
    row = next(row for row in report_document(results)["effects"] if row["factor"] == factor)
    start, *only = row["again"].split(" --only ")
    assert start == f"ablate run {results.file} --home again"
    design = Design(results.spec.design.kind, results.raw_cells, results.cells, results.reference, named={})
    return [cell.hash for cell in select(design, only)]


def test_an_effect_of_two_cells_has_the_command_that_trains_these_two_again() -> None:
    results = example()
    changed = next(cell.hash for cell in results.cells if cell.levels["l2"] == 0.01)
    assert trained_again(results, "l2") == [results.reference, changed]


def test_an_effect_over_all_cells_has_the_command_that_trains_those_with_its_levels_again() -> None:
    results = example(spec("full"))
    joint = [cell.hash for cell in results.cells if "surgery" in cell.levels]
    assert trained_again(results, "surgery") == joint


def test_levels_with_commas_cannot_be_listed_and_have_no_command() -> None:
    factors = (factor("head", ["a,b", "c"]),)
    results = example(spec("full", factors=factors, baseline={"head": "a,b"}))
    assert {row["again"] for row in report_document(results)["effects"]} == {None}
