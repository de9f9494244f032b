"""`ablate plan`: what a study would cost and tell, and what other designs of its factors would."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from design_examples import Settings, study, toy_trainer
from fixture_types import Json, not_none
from report_examples import example, write_predictions
from test_evidence_looks_simulation import followed, paired, spec_of

from ablate.design.alternatives import Alternative, alternatives, variance
from ablate.design.cells import build_design
from ablate.design.factorial import Space
from ablate.evidence.frames import grid
from ablate.evidence.noise import seed_sd
from ablate.runner.detectable import Noise, alternatives_rows, detectable_effect, noise_so_far, recommendation
from ablate.runner.expected_trials import looks_document
from ablate.runner.plan import estimate, over_budget, plan_document, plan_text, warnings
from ablate.runner.timing import Measured
from ablate.spec.designs import Fractional
from ablate.spec.model import Budget, Looking, Metric, StudySpec
from ablate.stats.power import mde
from ablate.store.places import place_of
from ablate.store.results import PartResult


def crossed(k: int, design: str = "full", levels: str = "[0, 1]") -> StudySpec:
    names = "abcdefghijkl"[:k]
    factors, baseline = (", ".join(f"{name}: {value}" for name in names) for value in (levels, "0"))
    return study(f"{{{factors}}}", f"{{{baseline}}}", design)


def by_name(spec: StudySpec) -> dict[str, Alternative]:
    return {one.design: one for one in alternatives(spec)}


def document(spec: StudySpec, tmp_path: Path) -> Json:
    return plan_document(spec, build_design(spec, toy_trainer()), place_of(spec.study, tmp_path))


def test_sixteen_cells_of_eight_factors_are_eight_times_as_certain_as_nine() -> None:
    found = by_name(crossed(8))
    assert (found["one_at_a_time"].cells, found["one_at_a_time"].variance) == (9, 2)
    assert (found["fractional"].cells, found["fractional"].variance) == (16, 1 / 4)
    assert (found["full"].cells, found["full"].variance) == (256, 1 / 64)


@pytest.mark.parametrize(
    ("k", "cells", "told"),
    [(8, 16, "aliased with one another"), (3, 4, "each aliased with interactions of two factors")],
)
def test_a_fraction_says_what_it_cannot_tell_apart(k: int, cells: int, told: str) -> None:
    spec = crossed(k).model_copy(update={"design": Fractional(cells=cells)})
    fraction = by_name(spec)["fractional"]
    assert fraction.estimates.endswith(told)
    assert fraction.aliases


def test_a_fraction_as_large_as_the_full_design_is_no_alternative() -> None:
    assert "fractional" not in by_name(crossed(2))


def test_designs_come_in_order_of_their_cells() -> None:
    cells = [one.cells for one in alternatives(crossed(8))]
    assert cells == sorted(cells)


def test_a_grid_too_large_to_list_is_counted_all_the_same() -> None:
    spec = crossed(12, "one_at_a_time", "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]")
    assert by_name(spec)["full"].cells == 10**12


def test_the_variance_is_that_of_least_squares() -> None:
    space = Space(study("{a: [0, 1, 2], b: [0, 1]}", "{a: 1, b: 0}"))
    cells = [cell for cell in space.full() if cell != {"a": 2, "b": 1}]
    dummies = np.array([[1, c["a"] == 0, c["a"] == 2, c["b"] == 1] for c in cells], dtype=float)
    expected = np.diag(np.linalg.inv(dummies.T @ dummies))[1:].max()
    assert variance(space, cells) == pytest.approx(expected)


def test_a_conditional_factor_is_judged_where_it_exists() -> None:
    spec = study("{a: [0, 1], b: {levels: [0, 1], only_when: {a: 1}}, c: [0, 1]}", "{a: 0, c: 0}")
    full = by_name(spec)["full"]
    assert full.cells == 6
    assert full.variance == pytest.approx(1.0)  # of b: two cells against two


def test_the_plan_marks_its_own_design_and_multiplies_by_seeds(tmp_path: Path) -> None:
    rows = document(crossed(4, "one_at_a_time"), tmp_path)["alternatives"]
    assert [(row["design"], row["trials"]) for row in rows if row["chosen"]] == [("one_at_a_time", 10)]
    assert {row["design"]: row["trials"] for row in rows}["full"] == 32


def test_cells_that_are_equal_to_the_trainer_are_counted_once(tmp_path: Path) -> None:
    spec = study("{a: {levels: {one: {b: 0}, same: {b: 0}, other: {b: 1}}}, c: [0, 1]}", "{a: one, c: 0}")
    found = document(spec, tmp_path)
    (own,) = [row for row in found["alternatives"] if row["chosen"]]
    assert own["cells"] == found["cells"] == 4


def test_the_table_says_each_design_in_a_line(tmp_path: Path) -> None:
    spec = crossed(4).model_copy(update={"design": Fractional(cells=8)})
    lines = plan_text(document(spec, tmp_path)).splitlines()
    (line,) = [line for line in lines if line.startswith("  * fractional")]
    assert line.split()[2:4] == ["8", "16"]
    assert line.split()[4:8] == [f"{mde((0.5 / s) ** 0.5, s - 1, alpha=0.05 / 4):.3g}" for s in (2, 3, 5, 10)]
    assert line.endswith("aliased with one another, e.g. a:b = c:d")


def test_parts_are_only_spoken_of_where_some_are_shared(tmp_path: Path) -> None:
    found = document(crossed(3), tmp_path)
    assert found["parts"]["unique"] == found["parts"]["naive"]
    assert "parts:" not in plan_text(found)
    shared = found | {"parts": {"naive": 24, "unique": 18, "with_prefixes": 0}}
    assert "parts: 18 to train, 24 without sharing (25% saved)" in plan_text(shared)


def detectable(spec: StudySpec, noise: Noise | None = None, **trainer: Any) -> Json:
    return detectable_effect(spec, build_design(spec, toy_trainer(**trainer)), noise)


def test_an_effect_is_judged_by_its_seeds_and_corrected_over_all_effects() -> None:
    found = detectable(crossed(3))  # 8 cells, 2 seeds, 3 effects
    assert found["value"] == pytest.approx(mde(math.sqrt(4 / 8 / 2), 1, alpha=0.05 / 3))
    assert (found["comparisons"], found["floor"]) == (3, None)


def test_cells_that_share_parts_are_as_noisy_as_their_parts() -> None:
    """Four cells are two parts, one per level of a: the four runs of a level are one model, twice."""
    spec = study("{a: [0, 1], b: [0, 1]}", "{a: 0, b: 0}")
    found = detectable(spec, parts=lambda settings: {"only": Settings(a=settings.a)})
    assert found["value"] == pytest.approx(mde(math.sqrt(2 / 2), 1, alpha=0.05 / 2))


@pytest.mark.parametrize(
    ("metric", "warned"),
    [("{name: val_loss}", True), ("{name: val_loss, goal: minimize}", False), ("{name: dev/mean}", False)],
)
def test_a_loss_without_a_goal_is_noted(metric: str, warned: bool) -> None:
    spec = study("{a: [0, 1]}", "{a: 0}")
    spec = spec.model_copy(update={"metric": Metric.model_validate(yaml.safe_load(metric))})
    assert any("a larger val_loss counts as better" in line for line in warnings(spec)) == warned


@pytest.mark.parametrize(
    ("settings", "noted"),
    [
        ({"command": ["python", "t.py", "{args}"]}, True),
        ({"command": ["python", "t.py", "--seed={seed}", "{args}"]}, False),
        ({"command": ["python", "t.py", "{config}"], "random": {"state": "{seed}"}}, False),
    ],
)
def test_a_command_without_the_seed_is_noted(settings: Json, noted: bool) -> None:
    spec = study("{a: [0, 1]}", "{a: 0}").model_copy(
        update={"trainer": "ablate.command", "settings": settings}
    )
    assert any("ABLATE_SEED" in line for line in warnings(spec)) == noted


def test_a_cell_of_two_parts_has_the_noise_of_one_run() -> None:
    spec = study("{a: [0, 1], b: [0, 1]}", "{a: 0, b: 0}")
    halves: Json = {"parts": lambda settings: {"a": Settings(a=settings.a), "b": Settings(b=settings.b)}}
    # b's half cancels.
    assert detectable(spec, **halves)["value"] == pytest.approx(mde(math.sqrt(1 / 2), 1, alpha=0.05 / 2))


def test_eight_factors_are_told_of_sixteen_cells_with_five_seeds() -> None:
    """81 trials one at a time find effects of 2.2 sd, 80 trials of a fraction those of 1.5."""
    spec = crossed(8, "one_at_a_time").model_copy(update={"seeds": tuple(range(9))})
    four = build_design(crossed(4, "one_at_a_time"), toy_trainer())
    rows = alternatives_rows(spec, replace(four, cells=(four.cells * 2)[:9]), None)
    (said,) = recommendation(spec, rows, None)
    assert said.startswith("fractional with 5 seeds (16 × 5 = 80 trials) would detect main effects of 1.49")
    fraction = next(row for row in rows if row["design"] == "fractional")
    assert (fraction["resolution"], fraction["cells"]) == (4, 16)


def test_once_there_are_results_the_noise_is_that_of_the_effects(tmp_path: Path) -> None:
    noise = not_none(noise_so_far(write_predictions(example(folder=tmp_path)), "dev/mean"))
    found = detectable(crossed(2, "one_at_a_time"), noise)
    assert found["floor"] == pytest.approx(mde(math.sqrt(noise.v_item), math.inf, alpha=0.05 / 2))
    assert found["value"] > found["floor"]
    # The table of designs has another number, and this says why.
    assert "the table of designs below: from the noise of single runs" in found["basis"]


def test_where_items_are_the_noise_more_items_are_the_advice(tmp_path: Path) -> None:
    spec = crossed(2)
    rows = alternatives_rows(spec, build_design(spec, toy_trainer()), None)
    assert recommendation(spec, rows, Noise(0.01, 0.01, 1.0))[-1].startswith("the dev items")
    assert not any("items" in said for said in recommendation(spec, rows, Noise(0.01, 0.01, 1e-9)))


@pytest.mark.parametrize(("v_item", "better"), [(0.3, "seeds"), (300.0, "items")])
def test_twice_the_items_are_weighed_against_twice_the_seeds(v_item: float, better: str) -> None:
    spec = crossed(3)
    rows = alternatives_rows(spec, build_design(spec, toy_trainer()), None)
    said = recommendation(spec, rows, Noise(1.0, math.sqrt(len(spec.seeds) / 4), v_item))
    assert said[-1].endswith(f"plan more {better} first")


def test_plan_and_report_mean_the_same_by_the_noise_of_a_seed() -> None:
    results = example()
    sd, _ = seed_sd(grid(results), "dev/mean")
    assert not_none(noise_so_far(results, "dev/mean")).sd_run == sd


def test_cells_that_are_the_same_in_every_seed_count_once_in_the_noise() -> None:
    results = example()
    first, second = (cell.hash for cell in results.cells[:2])
    of_first = {trial.seed: trial.metrics for trial in results.trials if trial.cell == first}
    trials = tuple(
        replace(trial, metrics=of_first[trial.seed]) if trial.cell == second else trial
        for trial in results.trials
    )
    _, before = seed_sd(grid(results), "dev/mean")
    _, after = seed_sd(grid(replace(results, trials=trials)), "dev/mean")
    assert after == before - (len(of_first) - 1)


def cost(
    measured: Sequence[float] | None = None,
    trained: Iterable[tuple[int, int, float]] = (),
    can_measure: bool = False,
) -> Json:
    """Return the estimate of four cells on two seeds, given seconds by cell: measured, and (cell, seed) -> trained."""
    spec = crossed(2)
    design = build_design(spec, toy_trainer())
    of_cell = [cell.hash for cell in design.cells]
    earlier = replace(
        example(),
        parts={
            (of_cell[cell], seed): PartResult(of_cell[cell], seed, {}, seconds, 1, {}, Path())
            for cell, seed, seconds in trained
        },
    )
    known = None
    if measured is not None:
        seconds = dict(zip(of_cell, measured, strict=True))
        known = Measured(
            what="2 kinds of steps", machine="a GPU", day="2026-01-02", seconds=seconds, memory={}
        )
    return estimate(spec, design, 8, earlier, known, can_measure)


def test_nothing_known_names_both_ways_to_know() -> None:
    found = cost(can_measure=True)
    assert found["hours"] is None
    assert "--measure" in found["basis"]
    assert "--limit 1" in found["basis"]


def test_a_trainer_without_measure_is_not_advised_to_measure() -> None:
    assert (
        cost()["basis"]
        == "nothing measured yet: `ablate run STUDY --limit 1` trains one trial; use the --workers of the full run"
    )


def test_measured_parts_are_added_up_over_seeds() -> None:
    found = cost(measured=[3600, 7200, 3600, 7200])
    assert (found["hours"], found["hours_low"], found["hours_high"]) == (12.0, 9.0, 15.0)
    assert found["basis"].startswith("2 kinds of steps measured on a GPU, 2026-01-02, one worker")


def test_a_part_that_was_trained_takes_what_it_took() -> None:
    found = cost(measured=[3600, 3600, 3600, 3600], trained=[(0, 1, 7000), (0, 2, 7400)])
    assert found["hours"] == pytest.approx((2.0 + 3.0) * 2)
    assert found["hours_high"] - found["hours"] == pytest.approx(3.0 * 2 * 0.25)
    assert found["basis"].startswith(
        "recorded times of trained parts (1 so far); for the others, 2 kinds of steps"
    )


def test_once_all_parts_were_trained_what_was_measured_does_not_count() -> None:
    trained = [(cell, seed, 3600) for cell in range(4) for seed in (1, 2)]
    found = cost(measured=[1, 1, 1, 1], trained=trained)
    assert found["hours"] == found["hours_high"] == 8.0
    assert found["basis"].startswith("mean of 8 trained parts")


@pytest.mark.parametrize(("most", "said"), [(5.0, "is over"), (7.0, "may be over")])
def test_more_hours_than_the_budget_are_told(most: float, said: str) -> None:
    (warning,) = over_budget(with_budget(most), COST)
    assert warning.startswith(f"6.00 h (4.00 to 8.00) {said} budget.hours {most:g}")


@pytest.mark.parametrize("most", [9.0, None])
def test_hours_within_the_budget_are_fine(most: float | None) -> None:
    assert over_budget(with_budget(most), COST) == []


COST = {"hours": 6.0, "hours_low": 4.0, "hours_high": 8.0}


def with_budget(hours: float | None) -> StudySpec:
    return crossed(2).model_copy(update={"budget": Budget(hours=hours)})


def planned(
    tmp_path: Path,
    kind: str = "one_at_a_time",
    noise: Noise | None = None,
    width: float | None = None,
    at_most: int = 12,
    looks: tuple[int, ...] = (3, 5, 8, 12),
) -> Json:
    spec = crossed(4, kind).model_copy(
        update={
            "seeds": tuple(range(at_most)),
            "looking": Looking(start=3, looks=looks, width=width),
            "metric": Metric(name="m", smallest_effect=1.0),
        }
    )
    return looks_document(spec, 5, kind == "one_at_a_time", 2**0.5, noise)


def test_a_list_of_seeds_expects_all_its_trials(tmp_path: Path) -> None:
    found = document(crossed(2), tmp_path)
    assert (found["looks"], found["trials_expected"]) == (None, None)


def test_a_plan_of_looks_says_the_most_and_the_expected_trials(tmp_path: Path) -> None:
    spec = crossed(3, "one_at_a_time").model_copy(
        update={"seeds": tuple(range(10)), "looking": Looking(start=3, looks=(3, 5, 10))}
    )
    found = document(spec, tmp_path)
    assert found["trials"] == 4 * 10
    assert 4 * 3 < found["trials_expected"] < 4 * 10
    text = plan_text(found)
    assert "4 cells (of 8 combinations) × 3 to 10 seeds: at most 40 trials, looks at 3, 5, 10 seeds" in text
    assert f"expected: {found['trials_expected']:.0f} of at most 40 trials" in text
    (none,) = (line for line in text.splitlines() if "if there is no effect" in line)
    assert re.search(r" \(\d\.\d % of comparisons would claim one, falsely\)$", none)
    assert text.count("of the effects would be claimed") == 2
    assert (
        "  effects are in standard deviations of a run, since the noise is not known yet; assumed: " in text
    )


@pytest.mark.parametrize("effect", [0, 1, 2])
def test_expected_seeds_and_power_are_those_of_simulated_studies(tmp_path: Path, effect: int) -> None:
    """The computation takes the noise for known, and so expects up to a seed more; 300 studies have an error of .1 seeds."""
    rng, spec = np.random.default_rng(4), spec_of((3, 5, 8, 10), 1.0)
    last = [next(iter(followed(spec, paired(rng, 1, float(effect)), 1).values())) for _ in range(300)]
    one = spec.model_copy(update={"seeds": tuple(range(10))})
    expected = looks_document(one, 2, True, 1.0, Noise(1.0, 1.0))["expected"][effect]
    assert expected["effect"] == effect
    assert np.mean([seen.seeds for seen in last]) == pytest.approx(expected["seeds"], abs=1.2)
    assert np.mean([seen.rejected for seen in last]) == pytest.approx(expected["power"], abs=0.1)


def test_without_noise_a_width_says_nothing_of_the_trials_to_expect(tmp_path: Path) -> None:
    assert planned(tmp_path, width=0.5)["expected"] == []


def test_a_width_ends_at_the_look_that_is_wide_enough(tmp_path: Path) -> None:
    rows = planned(tmp_path, noise=Noise(0.1), width=0.6)["expected"]
    assert len({round(row["seeds"], 6) for row in rows}) == 1
    assert rows[0]["seeds"] in (3, 5, 8)


def test_items_that_seeds_do_not_lower_end_a_study_sooner(tmp_path: Path) -> None:
    few = planned(tmp_path, noise=Noise(1.0, 1.0))["expected"][0]["seeds"]
    assert planned(tmp_path, noise=Noise(1.0, 1.0, 1.0))["expected"][0]["seeds"] < few


def test_where_cells_stop_together_more_trials_are_expected(tmp_path: Path) -> None:
    apart, together = (planned(tmp_path, kind)["expected"][0]["trials"] for kind in ("one_at_a_time", "full"))
    assert apart < together


def test_a_slope_is_planned_at_the_alpha_that_its_verdict_has() -> None:
    """Part of its share is kept for the levels. With two levels there is no slope."""
    found = detectable(crossed(2, "one_at_a_time", "[0, 1, 2]"))
    assert found["value"] == pytest.approx(mde(1.0, 1, alpha=0.05 / 2 * 3 / 4))
    assert detectable(crossed(2, "one_at_a_time"))["value"] == pytest.approx(mde(1.0, 1, alpha=0.05 / 2))
