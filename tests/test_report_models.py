from dataclasses import replace

import numpy as np
import pytest
from report_examples import cells_of, example, factor, spec

from ablate.report.frames import grid
from ablate.report.models import fit_model, shares_parts
from ablate.report.report import report_document

TWO = (factor("similarity_head", ["concat", "siamese"]), factor("l2", [0.0, 0.01]), factor("x", ["a", "b"]))
BASE = {"similarity_head": "concat", "l2": 0.0, "x": "a"}


def two_level(design="full", seeds=(11, 22, 33), **changes):
    """A design whose cells share no part."""
    return example(spec(design, factors=TWO, baseline=BASE, seeds=seeds), **changes)


def effect_of(document, name):
    return next(row for row in document["effects"] if row["factor"] == name and row["role"] == "primary")


def test_cells_that_share_parts_are_found():
    assert shares_parts(grid(example(spec("full"))), "dev/sentiment")
    assert not shares_parts(grid(two_level()), "dev/sentiment")


def test_independent_cells_are_fitted_together():
    row = effect_of(report_document(two_level()), "similarity_head")
    assert row["method"] == "least squares, seeds as blocks"
    assert row["df"] > 2


def test_shared_parts_leave_the_error_to_the_seeds():
    row = effect_of(report_document(example(spec("full"))), "similarity_head")
    assert row["method"] == "t over seeds, each fitted alone"
    assert row["df"] == 2


def test_shared_parts_give_no_F():
    document = report_document(example(spec("full")))
    assert {row["F"] for row in document["anova"]} == {None}
    assert {row["F"] is None for row in report_document(two_level())["anova"] if row["term"] == "l2"} == {
        False
    }


def test_a_two_level_effect_is_mean_high_minus_mean_low():
    results = two_level()
    means = [
        np.mean([t.metrics["dev/mean"] for t in results.trials if t.factors["similarity_head"] == level])
        for level in ("concat", "siamese")
    ]
    assert effect_of(report_document(results), "similarity_head")["estimate"] == pytest.approx(
        means[1] - means[0]
    )


def test_a_fraction_has_effects_without_matched_cells():
    study = spec("fractional", factors=TWO, baseline=BASE)
    everything = example(study)
    half = [c for c in cells_of(study) if sum(c.levels[f.name] != BASE[f.name] for f in TWO) % 2 == 0]
    hashes = {c.hash for c in half}
    results = replace(
        everything,
        cells=tuple(half),
        trials=tuple(t for t in everything.trials if t.cell in hashes),
        aliases=[["similarity_head", "l2:x"], ["l2", "similarity_head:x"], ["x", "similarity_head:l2"]],
        resolution=3,
    )
    row = effect_of(report_document(results), "similarity_head")
    assert row["estimate"] == pytest.approx(0.025, abs=0.006)
    assert row["aliased_with"] == ["l2:x"]


def test_an_unreplicated_design_has_lenth_s_margins():
    document = report_document(two_level(seeds=(11,)))
    assert document["lenth"][0]["me"] > 0
    assert effect_of(document, "similarity_head")["verdict"] == "helps"


def test_a_factor_with_one_level_left_is_not_estimated():
    results = two_level(keep=lambda cell, seed: cell.levels["x"] == "a")
    row = effect_of(report_document(results), "x")
    assert (row["estimate"], row["verdict"]) == (None, "inconclusive")


def test_one_cell_is_no_model():
    assert fit_model(grid(two_level(keep=lambda cell, seed: cell.levels == BASE)), "dev/mean") is None


def test_a_planted_interaction_is_found():
    results = two_level()

    def lifted(t):
        both = t.factors["similarity_head"] == "siamese" and t.factors["x"] == "b"
        return t.metrics | {"dev/mean": t.metrics["dev/mean"] + 0.1 * both}

    document = report_document(
        replace(results, trials=tuple(replace(t, metrics=lifted(t)) for t in results.trials))
    )
    row = next(
        r
        for r in document["interactions"]
        if r["metric"] == "dev/mean" and set(r["factors"]) == {"similarity_head", "x"}
    )
    assert row["estimate"] == pytest.approx(0.05, abs=0.01)
    assert row["p"] < 0.001
