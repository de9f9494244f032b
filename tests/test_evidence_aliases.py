"""What a fraction that is not regular mixes: seen by planting an interaction, told in section 3, flagged at claims."""

from dataclasses import replace
from itertools import combinations

import pytest
from report_examples import FACTORS, fraction, report_document, with_trial

from ablate.report.render.html import render_html
from ablate.report.render.markdown import render_markdown
from ablate.report.report import report_of
from ablate.store.results import Results, TrialResult

FACTORS_OF_EVERY_CELL = [name for name in FACTORS if name != "surgery"]


def effects(results: Results) -> dict[str, float]:
    rows = report_document(results)["effects"]
    return {row["factor"]: row["estimate"] for row in rows if row["role"] == "primary"}


def with_interaction(results: Results, pair: tuple[str, str], size: float) -> Results:
    """The results with an interaction of two factors added: half the difference of their simple effects is `size`."""

    def metrics(trial: TrialResult) -> dict[str, float]:
        if not trial.metrics:
            return {}
        signs = [1 if trial.factors[name] == FACTORS[name][1] else -1 for name in pair]
        return trial.metrics | {"dev/mean": trial.metrics["dev/mean"] + size / 2 * signs[0] * signs[1]}

    return replace(results, trials=tuple(replace(t, metrics=metrics(t)) for t in results.trials))


def without(results: Results, *rows: int) -> Results:
    """The results with every trial of these cells failed."""
    lost = {results.cells[row].hash for row in rows}
    for place, trial in enumerate(results.trials):
        if trial.cell in lost:
            results = with_trial(results, place, state="FAIL", metrics={}, error="out of memory")
    return results


@pytest.mark.parametrize("results", [fraction(8), without(fraction(8), 6)], ids=["whole", "one_cell_lost"])
def test_the_share_of_an_interaction_is_what_it_adds_to_the_effect(results: Results) -> None:
    before = effects(results)
    moved: dict[tuple[str, ...], float] = {}
    for pair in combinations(FACTORS_OF_EVERY_CELL, 2):
        after = effects(with_interaction(results, pair, 0.01))
        moved |= {(name, *pair): abs(after[name] - before[name]) / 0.01 for name in before}
    told = {
        (row["factor"], *row["interaction"]): row["share"]
        for row in report_document(results)["design"]["mixing"]
        if "surgery" not in row["interaction"]
    }
    assert told
    assert told == pytest.approx({key: moved[key] for key in told})


def test_of_each_factor_the_interaction_is_told_that_is_mixed_most() -> None:
    design = report_document(fraction(8))["design"]
    rows = {row["factor"]: (row["interaction"], row["share"]) for row in design["mixing"]}
    assert rows["training"] == (["paraphrase_head", "l2"], pytest.approx(1.0))


def test_an_effect_is_aliased_with_interactions_of_which_it_holds_much() -> None:
    """Of seven cells; training holds .17 of two further interactions."""
    row = next(row for row in report_document(fraction(7))["effects"] if row["factor"] == "training")
    assert sorted(row["aliased_with"]) == [
        "0.33 of paraphrase_head:l2",
        "0.33 of similarity_head:paraphrase_head",
        "1.00 of similarity_head:l2",
    ]


def test_before_any_effect_can_be_estimated_nothing_is_mixed() -> None:
    results = without(fraction(8), *range(1, 8))
    assert report_document(results)["design"]["mixing"] == []


def test_where_the_cells_suffice_to_estimate_interactions_none_is_mixed() -> None:
    assert report_document(fraction(18))["design"]["mixing"] == []


def test_the_efficiency_is_that_of_the_cells_with_results() -> None:
    planned, left = (
        report_document(results)["design"]["d_efficiency"]
        for results in (fraction(8), without(fraction(8), 6))
    )
    assert planned == pytest.approx(0.972, abs=0.001)
    assert left == pytest.approx(0.943, abs=0.001)


def test_cells_that_cannot_estimate_every_effect_are_told() -> None:
    report = report_of(without(fraction(8), *range(3, 8)))
    assert "cannot estimate every main effect: D-efficiency 0" in render_markdown(report, ())


def test_markdown_and_html_say_what_is_mixed() -> None:
    report = report_of(fraction(8))
    markdown, html = render_markdown(report, ()), render_html(report, ())
    assert "D-efficiency 97.2 %" in markdown
    assert "| training | paraphrase\\_head × l2 | 1.00 |" in markdown
    assert "D-efficiency 97.2 %" in html
    assert "<td>paraphrase_head × l2</td>" in html
