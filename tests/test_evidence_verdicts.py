"""Verdicts of effects that are judged together, and what qualifies them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fixture_types import Json
from report_examples import example, factor, points_of, report_document, spec, valued

from ablate.store.results import Results

BASE = {"a": 0, "b": 0, "c": 0}
HALF = [["a", "b:c"], ["b", "a:c"], ["c", "a:b"]]


def half_fraction(gain: float = 0.02, smallest_effect: float | None = None, noise: float = 0.001) -> Results:
    """Four of the eight cells of three factors, a better by `gain`: every effect is aliased with an interaction."""

    def value(levels: Mapping[str, Any], seed: int) -> float:
        key = [seed, *levels.values()]
        return float(0.8 + gain * levels["a"] + noise * np.random.default_rng(key).standard_normal())

    metric = spec().metric.model_copy(update={"smallest_effect": smallest_effect})
    factors = tuple(factor(name, [0, 1]) for name in "abc")
    results = valued(spec("fractional", (1, 2, 3, 4), factors=factors, baseline=BASE, metric=metric), value)
    half = tuple(cell for cell in results.cells if list(cell.levels.values()).count(1) % 2 == 1)
    kept = tuple(t for t in results.trials if t.cell in {cell.hash for cell in half})
    return replace(results, cells=half, reference=half[0].hash, trials=kept, aliases=HALF, resolution=3)


def effects_of(results: Results) -> dict[str, Json]:
    return {row["factor"]: row for row in report_document(results)["effects"] if row["role"] == "primary"}


def test_an_aliased_effect_is_claimed_with_its_alias_alone() -> None:
    results = half_fraction()
    row = effects_of(results)["a"]
    assert (row["verdict"], row["qualifiers"], row["aliased_with"]) == ("helps", ["aliased"], ["b:c"])
    (said,) = [line for line in report_document(results)["summary"] if line.startswith("a: 0 → 1: helps")]
    assert "helps, or seems to because of b:c (the design cannot separate them)" in said


def test_of_an_effect_that_is_mixed_with_another_it_is_never_said_that_it_does_not_matter() -> None:
    """b may help as much as a:c hurts."""
    row = effects_of(half_fraction(smallest_effect=0.01))["b"]
    assert abs(row["estimate"]) < 0.002
    assert (row["verdict"], row["qualifiers"]) == ("inconclusive", ["aliased"])


def test_a_seed_that_does_nothing_takes_the_ground_from_p() -> None:
    """The second arm gives one and the same value under all seeds."""
    study = spec("full", (1, 2, 3, 4), factors=(factor("x", [0, 1]),), baseline={"x": 0})
    results = valued(study, lambda levels, seed: 0.9 if levels["x"] else 0.8 + 0.01 * np.sin(seed))
    document = report_document(replace(results, points=points_of([])))
    (row,) = document["effects"]
    assert row["p"] < 0.05
    assert (row["verdict"], row["qualifiers"], row["undone_by"]) == (
        "inconclusive", ["stop_flag"], ["seeds_without_effect"],
    )  # fmt: skip


def test_stop_flags_open_the_summary() -> None:
    study = spec("full", (1, 2, 3, 4), factors=(factor("x", [0, 1]),), baseline={"x": 0})
    results = valued(study, lambda levels, seed: 0.9 if levels["x"] else 0.8 + 0.01 * np.sin(seed))
    document = report_document(replace(results, points=points_of([])))
    assert document["summary"][0].startswith("STOP (seeds_without_effect): ")


def test_a_finished_study_without_fault_qualifies_nothing() -> None:
    document = report_document(example())
    assert {tuple(row["qualifiers"]) for row in document["effects"]} == {()}
    assert not document["summary"][0].startswith("STOP")


def test_holm_runs_over_the_effects_on_the_deciding_metric() -> None:
    rows = effects_of(example()).values()
    p = sorted(row["p"] for row in rows if row["p"] is not None)
    assert min(row["p_holm"] for row in rows) == pytest.approx(min(1.0, p[0] * len(p)))
