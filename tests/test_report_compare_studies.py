from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Ablate
from outside_json import compare_studies
from report_examples import example, factor, report_document, spec, with_trial, write_predictions

from ablate.errors import BadInput
from ablate.report.outside import compare_studies as studies
from ablate.report.render.terminal import comparison_text
from ablate.spec.designs import Search
from ablate.store.results import Results


@pytest.fixture
def study(tmp_path: Path) -> Results:
    return write_predictions(example(folder=tmp_path))


def renamed(results: Results, name: str = "other", **changes: Any) -> Results:
    return replace(results, spec=results.spec.model_copy(update={"study": name, **changes}))


def test_two_cells_are_compared_as_a_report_compares_them(study: Results) -> None:
    """The same predictions: the same difference, interval, p and verdict, to the last digit."""
    found = compare_studies(study, renamed(study), ["baseline"], ["similarity_head=siamese"])
    row = next(r for r in report_document(study)["effects"] if r["factor"] == "similarity_head")
    keys = ("estimate", "se", "df", "ci95", "p", "method")
    assert {k: found[k] for k in keys} == {k: row[k] for k in keys}
    assert (found["delta"], found["n_seeds"], found["n_items"]) == (row["estimate"], 3, 1200)


def test_without_only_the_baseline_that_both_have_is_compared(study: Results) -> None:
    found = compare_studies(study, renamed(study))
    assert found["cells"]["a"]["cell"] == found["cells"]["b"]["cell"] == study.reference
    assert (found["delta"], found["p"], found["verdict"]) == (0.0, None, "inconclusive")


def test_the_text_begins_with_the_two_cells(study: Results) -> None:
    text = comparison_text(studies.compare_studies(study, renamed(study), (), ["similarity_head=siamese"]))
    first, answer = text.splitlines()[:2]
    assert first.startswith(f"A: {study.spec.study}, similarity_head=concat, ")
    assert ". B: other, similarity_head=siamese, " in first
    assert answer.startswith("dev/mean over ")


def test_studies_without_a_common_cell_need_names(study: Results) -> None:
    one = example(spec(factors=(factor("x", ["a", "b"]),), baseline={"x": "a"}))
    with pytest.raises(BadInput, match="0 cells in common; name one on each side"):
        compare_studies(study, one)


def test_seeds_that_one_side_lacks_are_left_out_and_said(study: Results) -> None:
    lost = with_trial(study, 0, state="FAIL", metrics={})
    found = compare_studies(lost, renamed(study), ["baseline"], ["l2=0.01"])
    assert found["seeds"] == [22, 33]
    assert "1 seed only in B, left out: 11" in found["warnings"]


def test_a_metric_that_the_other_study_does_not_have_is_refused(study: Results) -> None:
    other = replace(study, trials=tuple(replace(t, metrics={"dev/loss": 1.0}) for t in study.trials))
    with pytest.raises(BadInput, match="dev/mean: not measured in both cells"):
        compare_studies(study, renamed(other))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--smallest-effect", "0"], "--smallest-effect"),
        (["--correct", "--cluster", "document"], "--correct, --cluster"),
        (["--id-key", "doc.id", "--decimal", ","], "--decimal, --id-key"),
    ],
)
def test_options_for_files_are_refused_beside_studies(words: list[str], named: str, ablate: Ablate) -> None:
    refused = ablate("compare", "one", "two", *words)
    assert refused.returncode == 2
    assert f"found one, two beside {named}; " in refused.stderr
    assert "their study files say what is compared" in refused.stderr


def test_the_seed_that_chose_the_cells_of_a_search_is_left_out(study: Results) -> None:
    searched = renamed(study, design=Search(trials=4))
    found = compare_studies(study, searched, ["baseline"], ["l2=0.01"])
    assert found["seeds"] == [22, 33]
    assert "1 seed only in A, left out: 11" in found["warnings"]
