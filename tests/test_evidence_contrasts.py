from dataclasses import replace

import numpy as np
import pytest
from report_examples import cell, example, factor, points_of, spec

from ablate.design.factorial import Space, level_names
from ablate.evidence.contrasts import (
    Contrast,
    contrasts,
    low_level,
    same_level,
    seed_differences,
    side_means,
)
from ablate.evidence.frames import Grid, grid
from ablate.report.report import report_of
from ablate.store.results import TrialResult


def contrast_of(arranged: Grid, name: str) -> Contrast:
    return next(c for c in contrasts(arranged) if c.factor == name)


def test_one_at_a_time_compares_two_cells_that_differ_in_one_factor() -> None:
    arranged = grid(example())
    surgery = contrast_of(arranged, "surgery")
    low, high = (arranged.cells[int(rows[0, 0])].levels for rows in (surgery.rows_low, surgery.rows_high))
    assert {k for k in high if high[k] != low[k]} == {"surgery"}


def test_a_parent_is_switched_with_its_child_at_the_plain_level() -> None:
    arranged = grid(example())
    training = contrast_of(arranged, "training")
    assert training.rows_high.shape == (1, 1)
    assert arranged.cells[int(training.rows_high[0, 0])].levels["surgery"] == "none"


def test_a_full_grid_averages_a_parent_over_its_child_and_says_so() -> None:
    training = contrast_of(grid(example(spec("full"))), "training")
    assert training.rows_low.shape == (8, 1)
    assert training.rows_high.shape == (8, 2)
    assert training.averaged_over == ("surgery",)


def test_the_effect_of_a_full_grid_is_the_mean_over_matches() -> None:
    results = example(spec("full"))
    arranged = grid(results)
    similarity_head = contrast_of(
        arranged, "similarity_head"
    )  # exists everywhere: every cell is in one match
    first_seed = [trial for trial in results.trials if trial.seed == 11]
    low, high = (
        np.mean([t.metrics["dev/mean"] for t in first_seed if t.factors["similarity_head"] == level])
        for level in ("concat", "siamese")
    )
    found = seed_differences(arranged, similarity_head, "dev/mean").per_seed[0]
    assert found == pytest.approx(high - low)


def test_identical_parts_are_counted() -> None:
    arranged = grid(example())
    head = contrast_of(arranged, "similarity_head")
    assert seed_differences(arranged, head, "dev/sentiment").all_identical
    assert seed_differences(arranged, head, "dev/similarity").identical == 0


def test_a_seed_without_one_side_does_not_count() -> None:
    arranged = grid(example(keep=lambda cell, seed: seed != 22 or cell.levels["l2"] == 0.0))
    per_seed = seed_differences(arranged, contrast_of(arranged, "l2"), "dev/mean").per_seed
    assert np.isfinite(per_seed).tolist() == [True, False, True]


def test_contrasts_start_from_the_baseline_level() -> None:
    study = spec(baseline={"training": "joint"})
    assert low_level(study, study.factors[2]) == "joint"


def test_a_factor_that_the_baseline_does_not_name_starts_from_its_first_level() -> None:
    assert low_level(spec(baseline={}), factor("x", ["b", "a"])) == "b"


@pytest.mark.parametrize(
    ("a", "b", "same"), [(0, 0.0, True), (0, False, False), (1, True, False), ("1", 1, False)]
)
def test_levels_compare_by_yaml_value(a: int | str, b: bool | float, same: bool) -> None:
    assert same_level(a, b) is same


def test_dots_of_a_parent_with_grandchildren_differ_by_its_effect() -> None:
    """At b = x there are two cells, at b = y one: both levels of b count the same, as they do in the effect."""
    factors = (
        factor("a", ["off", "on"]),
        factor("b", ["x", "y"], a=("on",)),
        factor("c", [1, 2], b=("x",)),
    )
    study = spec("full", factors=factors, baseline={"a": "off"})
    chosen = [cell(level_names(Space(study).factors, one)) for one in Space(study).full()]
    results = example(study)
    trials = tuple(
        TrialResult(
            one.hash, seed, k, "COMPLETE", 1, one.levels,
            {"dev/mean": len(one.levels) + (10 if one.levels.get("c") == 2 else 0) + seed * k / 1000}, 1.0, None,
            {name: part.hash for name, part in one.parts.items()},
        )
        for seed in study.seeds
        for k, one in enumerate(chosen)
    )  # fmt: skip
    results = replace(
        results, cells=tuple(chosen), reference=chosen[0].hash, trials=trials, parts={}, points=points_of([])
    )
    row = next(row for row in report_of(results).primary_effects if row.change.factor == "a")
    contrast = contrasts(grid(results))[0]
    low, high = side_means(grid(results), contrast, "dev/mean")
    assert (high - low).tolist() == pytest.approx(list(row.by_seed.values()))
