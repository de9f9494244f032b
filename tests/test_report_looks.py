"""A report of a study that adds seeds: each verdict as its look left it, and nothing claimed before one."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fixture_types import Json
from report_examples import example, report_document, spec
from scipy.stats import t as students_t

from ablate.evidence.effects import Scale, Slope
from ablate.evidence.frames import SPARED, grid
from ablate.evidence.looks import results_of_look, take_look
from ablate.report.document import Report
from ablate.report.formatting import number
from ablate.report.render.html import render_html
from ablate.report.render.latex import render_latex
from ablate.report.render.markdown import render_markdown
from ablate.report.report import report_of
from ablate.report.sections.cells import cell_name
from ablate.report.sections.seeds_needed import open_comparisons
from ablate.report.sections.summary import headline
from ablate.spec.model import Looking
from ablate.store.results import Look, Results

SEEDS = (11, 22, 33, 34, 35, 36, 37, 38)
LOOKS = (3, 5, 8)


def looked(
    times: int, design: str = "one_at_a_time", noise: float = 0.003, width: float | None = None
) -> Results:
    """The example after so many looks, with the trials that they called for."""
    study = spec(design, SEEDS, looking=Looking(start=3, looks=LOOKS, width=width))
    whole = example(study, noise)
    results = _trials_wanted(whole, ())
    for _ in range(times):
        look = take_look(grid(results))
        results = _trials_wanted(whole, (*results.looks, look))
    return results


def _trials_wanted(whole: Results, looks: tuple[Look, ...]) -> Results:
    results = replace(whole, looks=looks)
    wanted = {cell.hash: results.seeds_of(cell.hash) for cell in whole.cells}
    return replace(results, trials=tuple(t for t in whole.trials if t.seed in wanted[t.cell]))


def primary(document: Json) -> list[Json]:
    return [row for row in document["effects"] if row["role"] == "primary"]


def test_a_list_of_seeds_has_no_looks_in_its_report() -> None:
    document = report_document(example())
    assert (document["design"]["adding"], document["design"]["looks"]) == (None, [])
    assert {row["look"] for row in document["effects"]} == {None}


def test_before_the_first_look_nothing_is_claimed() -> None:
    document = report_document(looked(0))
    assert {(row["p_holm"], row["p"], row["look"]) for row in primary(document)} == {(None, None, None)}
    assert {row["verdict"] for row in primary(document)} == {"inconclusive"}
    assert all("no look has tested this difference" in said for said in document["summary"] if "→" in said)


def test_each_effect_is_that_of_its_look() -> None:
    results = looked(3)
    seen = {(s.factor, s.high): s for s in results_of_look(results.looks[-1]).values()}
    for row in primary(report_document(results)):
        one = seen[row["factor"], row["to"]]
        assert (row["estimate"], row["p_holm"], row["n"]) == (one.estimate, one.p_holm, one.seeds)
        assert row["ci95"] == (one.ci95 and list(one.ci95))
        assert row["look"]["number"] == one.look


@pytest.mark.parametrize("design", ["one_at_a_time", "full"])
def test_seeds_that_came_after_a_comparison_stopped_are_in_none_of_its_numbers(design: str) -> None:
    rows = [row for row in primary(report_document(looked(3, design))) if row["se"]]
    assert len({row["n"] for row in rows}) > 1
    for row in rows:
        assert len(row["by_seed"]) == row["n"]
        assert sum(row["by_seed"].values()) / row["n"] == pytest.approx(row["estimate"], rel=1e-9)
        assert row["v_seed"] + (row["v_item"] or 0) == pytest.approx(row["se"] ** 2, rel=1e-9)
        (flips,) = [test for test in row["sensitivity"] if test["method"] == "sign_flip"]
        assert f"with {row['n']} seeds" in flips["note"]


def test_both_repeated_intervals_can_be_computed_again_from_their_levels() -> None:
    rows = [row for row in primary(report_document(looked(3, noise=0.002))) if row["se"]]
    assert {row["look"]["number"] for row in rows} == {2, 3}
    for row in rows:
        for name, level in (("ci95", "level"), ("ci90", "level90")):
            half = students_t.ppf(1 - row["look"][level] / 2, row["df"]) * row["se"]
            assert row[name] == pytest.approx([row["estimate"] - half, row["estimate"] + half])
        assert row["look"]["level90"] < 0.1


def test_no_difference_at_a_look_rests_on_the_repeated_90_percent_interval() -> None:
    result = report_of(looked(2, noise=0.002))
    same = [row for row in result.primary_effects if row.judged.verdict == "no difference that matters"]
    assert same
    for row in same:
        assert row.judged.ci90 is not None
        assert -0.005 < row.judged.ci90[0] < row.judged.ci90[1] < 0.005
    text = render_markdown(result, [])
    note = "No difference that matters: the 90 % interval, before rounding, lies within ±0.0050."
    assert f"{note} The 95 % and 90 % intervals of Δ are repeated" in text


def test_results_that_came_after_a_look_change_no_verdict() -> None:
    results = looked(2)
    whole = looked(2, noise=0.003)
    late = replace(
        results,
        trials=tuple(
            replace(t, metrics={k: 0.1 for k in t.metrics}) if t.seed > 35 else t for t in whole.trials
        ),
    )

    def verdicts(of: Results) -> list[tuple[Any, ...]]:
        return [
            (row["estimate"], row["ci95"], row["p_holm"], row["verdict"])
            for row in primary(report_document(of))
        ]

    assert verdicts(late) == verdicts(results)


def test_the_summary_says_at_which_look_a_verdict_fell() -> None:
    document = report_document(looked(3))
    decided = [row for row in primary(document) if row["look"]["stop"] == "decided"]
    assert decided
    for row in decided:
        (said,) = (s for s in document["summary"] if s.startswith(f"{row['factor']}:"))
        assert f"significant at look {row['look']['number']}" in said


def test_the_design_says_plan_and_looks() -> None:
    document = report_document(looked(2))
    assert document["design"]["adding"] == {"start": 3, "looks": [3, 5, 8], "at_most": 8, "until": "decided"}
    first, second = document["design"]["looks"]
    assert (first["seeds"], second["seeds"]) == (3, 5)
    assert sum(second["stopped"].values()) + sum(first["stopped"].values()) + second["open"] == len(
        primary(document)
    )


@pytest.mark.parametrize(
    "render", [lambda d: render_markdown(d, []), lambda d: render_html(d, []), render_latex]
)
def test_every_format_can_show_looks(render: Callable[[Report], str]) -> None:
    assert render(report_of(looked(2)))


def test_the_plan_stands_in_the_text() -> None:
    text = render_markdown(report_of(looked(2)), [])
    assert (
        "Seeds are added until every comparison is decided: 3 at the start, looks at 3, 5, 8 seeds, 8 at most"
        in text
    )
    assert "look 1 (3 seeds)" in text


def test_a_slope_and_its_levels_are_counted_separately_and_the_text_says_so() -> None:
    result = report_of(looked(2))
    assert "Looks taken: look 1" in render_markdown(result, [])
    line = Slope(Scale.LINEAR, (1.0, 2.0, 3.0), None)
    with_line = replace(result, effects=tuple(replace(row, slope=line) for row in result.effects))
    count = len(result.primary_effects)
    assert (
        f"Looks taken ({count} comparisons: a slope and each of its levels count separately): look 1"
        in render_markdown(with_line, [])
    )


def test_seeds_that_a_decided_cell_was_spared_are_not_missing() -> None:
    results = looked(3)
    arranged, document = grid(results), report_document(results)
    assert (arranged.states == SPARED).any()
    assert document["progress"]["missing"] == 0
    assert document["progress"]["planned"] == document["progress"]["complete"] == len(results.trials)
    assert {"lost_runs", "seeds_unequal"}.isdisjoint(flag["rule"] for flag in document["flags"])


def test_the_cell_that_lacks_a_seed_is_named_not_one_that_was_spared_some() -> None:
    results = looked(3)
    arranged = grid(results)
    spared = (arranged.states == SPARED).sum(axis=1)
    row = int(spared[1:].argmin()) + 1
    assert spared.max() > spared[row] + 1
    gone = (arranged.cells[row].hash, SEEDS[0])
    one_less = replace(results, trials=tuple(t for t in results.trials if (t.cell, t.seed) != gone))
    (flag,) = (f for f in report_document(one_less)["flags"] if f["rule"] == "seeds_unequal")
    assert flag["evidence"].startswith("cells lack 0 to 1 of their seeds; ")
    assert flag["evidence"].endswith(f"; {cell_name(arranged, row)} lacks the most")


def test_cells_count_the_seeds_that_they_were_given() -> None:
    cells = report_document(looked(3))["cells"]
    assert all(cell["seeds_done"] == cell["seeds_planned"] for cell in cells)
    assert len({cell["seeds_planned"] for cell in cells}) > 1


def test_a_difference_of_cells_says_what_the_factor_says() -> None:
    document = report_document(looked(3))
    by_estimate = {row["estimate"]: row for row in primary(document)}
    shown = [
        cell["difference"]["dev/mean"] for cell in document["cells"] if cell["difference"].get("dev/mean")
    ]
    alike = [(d, by_estimate[d["estimate"]]) for d in shown if d["look"]]
    assert alike
    assert all(
        (d["p_holm"], d["verdict"], d["ci95"]) == (e["p_holm"], e["verdict"], e["ci95"]) for d, e in alike
    )


def test_cells_that_no_look_compares_are_not_judged() -> None:
    document = report_document(looked(3, "full"))
    shown = [
        cell["difference"]["dev/mean"] for cell in document["cells"] if cell["difference"].get("dev/mean")
    ]
    assert {(d["p_holm"], d["verdict"]) for d in shown if not d["look"]} == {(None, "inconclusive")}


def test_the_methods_name_what_was_done() -> None:
    assert "Maurer and Bretz" in render_markdown(report_of(looked(2)), [])
    assert "Maurer and Bretz" not in render_markdown(report_of(example()), [])


def test_the_best_cell_may_have_been_spared_seeds() -> None:
    document = report_document(looked(3))
    assert any(cell["best"] for cell in document["cells"])


def test_the_luck_of_the_best_cell_is_that_of_the_seeds_it_has() -> None:
    document = report_document(looked(3))
    (best,) = (cell for cell in document["cells"] if cell["best"])
    assert best["seeds_done"] < len(SEEDS)
    (flag,) = (flag for flag in document["flags"] if flag["rule"] == "best_of_many")
    cells = sum(cell["seeds_done"] >= best["seeds_done"] for cell in document["cells"])
    assert flag["evidence"].startswith(f"if {cells} cells were equal")
    lead = next(
        row for row in primary(document) if row["factor"] in best["name"] and row["to"] in best["name"]
    )
    assert flag["evidence"].endswith(f"by {number(lead['estimate'])}")


def test_what_is_open_after_the_last_look_needs_a_new_study() -> None:
    said = open_comparisons(report_of(looked(3, noise=0.05)))
    assert said is not None
    assert said.endswith(" This study uses at most 8 seeds; more need a new study, with fresh seeds.")


@pytest.mark.parametrize(
    ("looks", "said"),
    [
        (0, "5 inconclusive so far"),
        (1, "5 inconclusive so far"),
        # Three are futile.
        (2, "5 inconclusive (2 still open)"),
        (3, "1 helps, 4 inconclusive"),
    ],
)
def test_the_headline_says_what_another_look_may_decide(looks: int, said: str) -> None:
    assert headline(report_of(looked(looks, noise=0.05))) == f"Of 5 choices: {said}"
