"""Combinations of levels with equal settings are one cell, which is compared by each of them."""

import itertools
from dataclasses import replace
from typing import Self

import numpy as np
import pytest
from design_examples import Settings, study, toy_trainer
from fixture_types import Json
from pydantic import model_validator
from report_examples import report_document

from ablate.design.cells import build_design
from ablate.evidence.frames import grid
from ablate.evidence.models import fit_model
from ablate.store.results import Results, TrialResult


class Gated(Settings):
    """`b` does nothing unless `a` is 1."""

    @model_validator(mode="after")
    def _without_a_no_b(self) -> Self:
        if self.a == 0:
            self.b = 0
        return self


def run(
    factors: str, baseline: str, design: str = "full", seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
) -> Results:
    """A study run to its end: 0.1 b where a is 1, 0.02 c, and the noise of each cell."""
    spec = study(factors, baseline, design).model_copy(update={"seeds": seeds})
    made = build_design(spec, toy_trainer(Gated))
    trials = []
    for number, (seed, cell) in enumerate(itertools.product(seeds, made.cells)):
        settings = Gated.model_validate(cell.settings)
        noise = np.random.default_rng([int(cell.hash, 16) % 2**32, seed]).standard_normal()
        value = 0.5 + 0.1 * settings.a * settings.b + 0.02 * settings.c + 0.002 * noise
        trials.append(
            TrialResult(cell.hash, seed, number, "COMPLETE", 1, cell.levels, {"m": float(value)}, 1.0, None,
                        {name: part.hash for name, part in cell.parts.items()})
        )  # fmt: skip
    return Results(
        spec, made.cells, made.reference, made.resolution, made.aliases, made.raw_cells, tuple(trials), {},
        lambda parts: [],
    )  # fmt: skip


def effects_of(results: Results) -> dict[str, Json]:
    return {row["factor"]: row for row in report_document(results)["effects"]}


def mean(results: Results, **wanted: int) -> float:
    """The mean over all combinations with these levels."""
    by_cell = {
        cell.hash: np.mean([t.metrics["m"] for t in results.trials if t.cell == cell.hash])
        for cell in results.cells
    }
    return float(
        np.mean(
            [
                by_cell[cell.hash]
                for cell in results.cells
                for levels in cell.combinations
                if wanted.items() <= levels.items()
            ]
        )
    )


FULL = "{a: [0, 1], b: [1, 2], c: [0, 1]}"


def test_an_effect_is_the_mean_over_all_combinations() -> None:
    results = run(FULL, "{a: 0, b: 1, c: 0}")
    assert len(results.cells) == 6
    effects = effects_of(results)
    for name, (low, high) in {"a": (0, 1), "b": (1, 2), "c": (0, 1)}.items():
        expected = mean(results, **{name: high}) - mean(results, **{name: low})
        assert effects[name]["estimate"] == pytest.approx(expected)
        assert effects[name]["matches"] == 4


@pytest.mark.parametrize("factors", [FULL, "{a: [0, 1], b: [2, 1], c: [0, 1]}"])
@pytest.mark.parametrize("b", [1, 2])
def test_neither_the_order_of_levels_nor_the_name_of_a_cell_changes_an_effect(factors: str, b: int) -> None:
    effect = effects_of(run(factors, f"{{a: 0, b: {b}, c: 0}}"))["a"]
    first = effects_of(run(FULL, "{a: 0, b: 1, c: 0}"))["a"]
    assert [effect[key] for key in ("estimate", "se", "p")] == pytest.approx(
        [first[key] for key in ("estimate", "se", "p")]
    )


def test_a_pair_that_stands_for_two_combinations_is_one_measurement_per_seed() -> None:
    effect = effects_of(run(FULL, "{a: 0, b: 1, c: 0}"))["c"]
    by_seed = np.array(list(effect["by_seed"].values()))
    assert (effect["n"], effect["df"]) == (5, 4)
    assert effect["se"] == pytest.approx(by_seed.std(ddof=1) / 5**0.5)


def test_one_trial_that_stands_for_several_gives_no_F_and_no_p_of_one_seed() -> None:
    assert {row["F"] for row in report_document(run(FULL, "{a: 0, b: 1, c: 0}"))["anova"]} == {None}
    document = report_document(run(FULL, "{a: 0, b: 1, c: 0}", seeds=(1,)))
    assert {row["p"] for row in document["effects"]} == {None}
    assert document["lenth"] == []


def test_a_level_that_does_nothing_is_no_difference() -> None:
    document = report_document(run("{a: [0, 1], b: [1, 2]}", "{a: 0, b: 1}", "one_at_a_time"))
    row = next(row for row in document["effects"] if row["factor"] == "b")
    assert (row["estimate"], row["verdict"], row["notes"]) == (0, "no difference that matters", ["same_part"])


def test_one_at_a_time_compares_with_the_reference_by_its_own_name() -> None:
    """The baseline is also the cell with b = 2, whose match for a is `best`."""
    results = run("{a: [0, 1], b: [1, 2]}", "{a: 0, b: 1}\nbest: {a: 1, b: 2}", "one_at_a_time")
    assert len(results.cells) == 3
    effect = effects_of(results)["a"]
    assert (effect["matches"], effect["estimate"]) == (1, pytest.approx(0.1, abs=0.01))


def test_a_child_whose_level_is_like_its_parents_absence_is_compared_with_it() -> None:
    """b = 0 at a = 1 would be a cell of its own; with c as parent, b = 0 has the settings of the parent's other level."""
    factors = "{c: {levels: {none: {d: 0}, some: {d: 0}}}, b: {levels: [0, 1], only_when: {c: some}}, a: [1]}"
    results = run(factors.replace(", a: [1]", ""), "{c: none}\nsettings: {a: 1}")
    assert len(results.cells) == 2
    effects = effects_of(results)
    assert effects["b"]["estimate"] == pytest.approx(0.1, abs=0.01)
    assert effects["c"]["estimate"] == pytest.approx(0.05, abs=0.01)


def test_a_model_needs_two_cells_not_two_combinations() -> None:
    results = run("{a: [0, 1], b: [1, 2]}", "{a: 0, b: 1}")
    kept = tuple(t for t in results.trials if t.cell == results.cells[0].hash or t.factors["a"] == 0)
    assert fit_model(grid(replace(results, trials=kept)), "m") is None
