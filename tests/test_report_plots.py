import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fixture_types import not_none
from report_examples import example, factor, points_of, report_document, spec, with_trial

from ablate.evidence.frames import grid
from ablate.evidence.verdicts import Qualifier
from ablate.report.plots.curves import learning_curves
from ablate.report.plots.forest import forest, mark_of
from ablate.report.plots.interactions import interaction_lines
from ablate.report.plots.registry import pictures
from ablate.report.plots.style import BLACK, BLUE, GREY, VERMILLION, Picture, style
from ablate.report.plots.surgery import task_gradients
from ablate.report.report import report_of
from ablate.stats.verdicts import Verdict
from ablate.store.results import Point, Results


def drawn(results: Results) -> dict[str, Picture]:
    return {picture.name: picture for picture in pictures(grid(results), report_of(results))}


@pytest.fixture(scope="module")
def of_example() -> dict[str, Picture]:
    return drawn(example())


def test_a_finished_study_has_forest_seeds_tradeoffs_and_curves(of_example: dict[str, Picture]) -> None:
    assert list(of_example) == ["forest", "seeds", "tradeoffs", "curves"]


def test_png_is_7_2_inches_at_200_dpi(of_example: dict[str, Picture]) -> None:
    png = of_example["forest"].files["forest.png"]
    assert int.from_bytes(png[16:20]) == 1440


def test_the_title_states_the_finding(of_example: dict[str, Picture]) -> None:
    row = next(row for row in report_of(example()).primary_effects if row.change.factor == "similarity_head")
    assert of_example["forest"].title == (
        f"Largest clear effect: similarity_head, concat → siamese: dev/mean {row.numbers.delta}"
    )


def test_the_title_says_when_nothing_is_shown() -> None:
    assert drawn(example(spec(seeds=(11,))))["forest"].title == (
        "No choice has been shown to help or to hurt dev/mean"
    )


@pytest.mark.parametrize(
    ("estimate", "verdict", "mark"),
    [
        (0.1, "helps", ("^", BLUE, True)),
        (-0.1, "helps", ("v", BLUE, True)),  # a loss
        (0.1, "hurts", ("^", VERMILLION, True)),
        (-0.1, "lowers", ("v", BLACK, True)),
        (-0.1, "no difference that matters", ("s", GREY, True)),
        (0.1, "inconclusive", ("o", BLACK, False)),
    ],
)
def test_a_mark_points_where_the_number_goes_and_is_coloured_by_the_verdict(
    estimate: float, verdict: Verdict, mark: tuple[str, tuple[float, float, float], bool]
) -> None:
    assert mark_of(verdict, estimate) == mark


def test_no_trade_off_between_numbers_says_nothing_of_gain_and_loss(of_example: dict[str, Picture]) -> None:
    assert of_example["tradeoffs"].title == "No choice has been shown to raise one metric and lower another"


def test_alt_text_has_the_numbers(of_example: dict[str, Picture]) -> None:
    effect = report_document(example())["effects"][0]
    assert f"{effect['estimate']:+.4f}" in of_example["forest"].alt


def test_a_caveat_is_marked(of_example: dict[str, Picture]) -> None:
    report = report_of(example())
    first, *others = report.effects
    reserved = replace(
        first, judged=replace(first.judged, verdict=Verdict.HELPS, qualifiers=(Qualifier.DEPENDS,))
    )
    picture = not_none(forest(replace(report, effects=(reserved, *others))))
    assert (
        f"{first.text}: {first.numbers.delta} {first.numbers.interval}, helps, with a caveat." in picture.alt
    )
    assert "†: with a caveat" in picture.caption
    assert "†" not in of_example["forest"].caption


def test_captions_name_seeds_and_method(of_example: dict[str, Picture]) -> None:
    assert "3 seeds; paired t over seeds" in of_example["forest"].caption


def test_no_dates_and_no_randomness_in_svg(of_example: dict[str, Picture]) -> None:
    svg = of_example["forest"].files["forest.svg"].decode()
    assert "<dc:date>" not in svg
    assert drawn(example())["forest"].files == of_example["forest"].files


def test_the_users_matplotlib_settings_are_left_alone() -> None:
    import matplotlib

    before = matplotlib.rcParams["font.size"], matplotlib.rcParams["svg.hashsalt"]
    with style():
        assert matplotlib.rcParams["svg.hashsalt"] == "ablate"
    assert (matplotlib.rcParams["font.size"], matplotlib.rcParams["svg.hashsalt"]) == before


def test_pyplot_is_not_used() -> None:
    # In a process of its own: other tests' libraries (torchmetrics) import pyplot themselves.
    code = """
import sys
from report_examples import example
from ablate.evidence.frames import grid
from ablate.evidence.verdicts import Qualifier
from ablate.report.plots.registry import pictures
from ablate.report.report import report_of
assert pictures(grid(example()), report_of(example()))
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=True)


def test_a_run_in_progress_has_a_map() -> None:
    results = with_trial(example(keep=lambda one, seed: seed == 11), 2, state="FAIL", metrics={})
    assert drawn(results)["design"].title == "5 of 18 trials done; 1 failed, 12 waiting"


def test_recorded_cosines_are_drawn() -> None:
    results = example()
    part = next(p for p in results.parts.values() if len(p.metrics) == 3)
    curve = [Point(part.part, part.seed, s, "surgery/cosine.sentiment.similarity", -0.25) for s in (1, 2, 3)]
    picture = drawn(replace(results, points=points_of(curve)))["surgery"]
    assert "sentiment and similarity (mean cosine −0.250)" in picture.title


def test_the_step_that_a_trial_reports_is_marked() -> None:
    results = example()
    curves = [point for key in results.parts for point in results.points([key[0]]) if point.seed == key[1]]
    known = {(p.part, p.seed, p.name): p.value for p in curves if p.step == 150}
    trials = []
    for trial in results.trials:
        found = {
            name: known[part, trial.seed, name]
            for part in trial.parts.values()
            for name in results.parts[part, trial.seed].metrics
        }
        trials.append(replace(trial, metrics=trial.metrics | found | {f"{name}@last": 0.5 for name in found}))
    assert (
        "Diamonds: the step whose scores" in drawn(replace(results, trials=tuple(trials)))["curves"].caption
    )
    assert "Diamonds" not in drawn(results)["curves"].caption


def test_an_unreplicated_design_has_a_half_normal_plot() -> None:
    factors = tuple(factor(name, [0, 1]) for name in "abc")
    study = spec("full", factors=factors, baseline=dict.fromkeys("abc", 0), seeds=(11,))
    assert "half_normal" in drawn(example(study))


def interactions(results: Results) -> Picture | None:
    return interaction_lines(grid(results), report_of(results))


def test_without_an_estimate_of_noise_no_interaction_is_measured_against_it() -> None:
    """One seed of cells that share parts."""
    picture = not_none(interactions(example(spec("full", seeds=(11,)))))
    assert picture.title.startswith("Largest interaction: ")
    assert picture.title.endswith("; the noise is unknown")


def test_parallel_lines_mean_no_interaction_only_without_holes() -> None:
    study = spec("full", seeds=(11, 22))
    assert "parallel lines: no interaction" in not_none(interactions(example(study))).caption
    holes = example(study, keep=lambda one, seed: one.levels["l2"] == 0 or seed == 11)
    assert (
        "cells are missing, so lines may diverge without an interaction"
        in not_none(interactions(holes)).caption
    )


def test_nothing_measured_nothing_drawn() -> None:
    assert list(drawn(example(keep=lambda one, seed: False))) == ["design"]


@pytest.mark.slow
def test_a_hundred_levels_fit(recwarn: pytest.WarningsRecorder) -> None:
    """The forest shows the first forty and says so; nothing warns of labels that do not fit."""
    factors = (factor("x", list(range(60))),)
    picture = drawn(example(spec(factors=factors, baseline={"x": 0}, seeds=(1, 2))))["forest"]
    assert "The first 40 effects." in picture.caption
    assert not recwarn.list


def test_one_seed_is_enough_for_curves() -> None:
    assert "curves" in drawn(example(keep=lambda one, seed: seed == 11))


def test_a_seed_that_is_still_training_does_not_cut_the_curve_of_its_cell_short() -> None:
    done = example(keep=lambda one, seed: seed != 33)
    (part,) = {t.parts["sentiment"] for t in done.trials if t.cell == done.reference}
    begun = Point(part, 33, 50, "dev/sentiment", 0.1)
    running = replace(done, points=points_of([*done.points([part for part, _ in done.parts]), begun]))
    assert drawn(running)["curves"].table == drawn(done)["curves"].table
    assert "up to 2;" in drawn(running)["curves"].caption


def test_a_metric_that_few_cells_recorded_does_not_lead_the_curves() -> None:
    """Trained separately, no part has a curve of the mean; joint cells do."""
    results = example()
    of_joint = {trial.parts["all"] for trial in results.trials if "all" in trial.parts}
    points = results.points([part for part, _ in results.parts])
    means = [p._replace(name="dev/mean") for p in points if p.part in of_joint and p.name == "dev/sentiment"]
    picture = drawn(replace(results, points=points_of([*points, *means])))["curves"]
    assert picture.title.startswith("dev/paraphrase ends highest with paraphrase_head=difference")
    assert picture.table is not None
    assert picture.table[0][-1] == "dev/mean"


def test_of_cells_that_share_the_best_curve_the_title_names_the_first() -> None:
    """The reference's part for sentiment serves the cells with another head for another task, too."""
    results = example()
    (part,) = {t.parts["sentiment"] for t in results.trials if t.cell == results.reference}
    only = replace(results, points=points_of(results.points([part])))
    picture = not_none(learning_curves(grid(only), report_of(results)))
    assert " ends highest with baseline (" in picture.title


def test_under_the_paired_dots_stand_their_numbers(of_example: dict[str, Picture]) -> None:
    head, rows = not_none(of_example["seeds"].table)
    assert head == ["change", "seed 11", "seed 22", "seed 33"]
    by_seed = report_document(example())["cells"][0]["metrics"]["dev/mean"]["by_seed"]
    assert rows[0][1].startswith(f"{by_seed['11']:.4f} → ")


def test_gradients_at_right_angles_name_no_pair_that_agrees_least() -> None:
    results = example()
    part = next(p for p in results.parts.values() if len(p.metrics) == 3)
    curve = [
        Point(part.part, part.seed, step, f"surgery/cosine.{pair}", value)
        for step in (1, 2)
        for pair, value in (("sentiment.similarity", -0.01), ("sentiment.paraphrase", 0.02))
    ]
    picture = not_none(task_gradients(grid(replace(results, points=points_of(curve)))))
    assert picture.title == "Task gradients are close to orthogonal (mean cosines within ±0.05)"
