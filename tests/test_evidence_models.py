from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixture_types import Json, not_none
from report_examples import example, factor, fraction, report_document, spec, with_trial, write_predictions

from ablate.design.model import Cell
from ablate.evidence.frames import grid
from ablate.evidence.models import fit_model, shares_parts
from ablate.report.report import report_of
from ablate.report.sections.provenance import methods
from ablate.store.results import Results, TrialResult

TWO = (factor("similarity_head", ["concat", "siamese"]), factor("l2", [0.0, 0.01]), factor("x", ["a", "b"]))
BASE = {"similarity_head": "concat", "l2": 0.0, "x": "a"}
HALF_ALIASES = [["similarity_head", "l2:x"], ["l2", "similarity_head:x"], ["x", "similarity_head:l2"]]


def two_level(design: str = "full", seeds: tuple[int, ...] = (11, 22, 33), **changes: Any) -> Results:
    """A design whose cells share no part."""
    return example(spec(design, factors=TWO, baseline=BASE, seeds=seeds), **changes)


def half_fraction(**changes: Any) -> Results:
    """The half of the two-level design with an even number of levels changed: no two cells differ in one factor."""
    results = two_level("fractional", **changes)
    half = [c for c in results.cells if sum(c.levels[f.name] != BASE[f.name] for f in TWO) % 2 == 0]
    hashes = {c.hash for c in half}
    kept = tuple(t for t in results.trials if t.cell in hashes)
    return replace(results, cells=tuple(half), trials=kept, aliases=HALF_ALIASES, resolution=3)


def lost(results: Results, *places: int) -> Results:
    """The results with these trials failed."""
    for place in places:
        results = with_trial(results, place, state="FAIL", metrics={}, error="out of memory")
    return results


def effect_of(document: Json, name: str, metric: str = "dev/mean") -> Json:
    return next(row for row in document["effects"] if row["factor"] == name and row["metric"] == metric)


def test_cells_that_share_parts_are_found() -> None:
    assert shares_parts(grid(example(spec("full"))), "dev/sentiment")
    assert not shares_parts(grid(two_level()), "dev/sentiment")


def test_a_part_that_continued_with_no_step_left_is_a_shared_one() -> None:
    results = two_level()
    seed = results.spec.seeds[0]
    first, second = [
        part for (_, of), part in results.parts.items() if of == seed and "dev/sentiment" in part.metrics
    ][:2]
    facts = {"continued": {"prefix": "p", "part": first.part, "steps": first.steps, "seconds": 1.0}}
    parts = {**results.parts, (second.part, seed): replace(second, facts=facts)}
    assert shares_parts(grid(replace(results, parts=parts)), "dev/sentiment")


@pytest.mark.parametrize(
    "results",
    [two_level(), half_fraction(), example(spec("full"))],
    ids=["full", "fraction", "shared_parts_and_a_condition"],
)
def test_the_error_of_a_replicated_design_is_how_the_effect_varies_over_seeds(results: Results) -> None:
    """Not the residual over all cells, whose many degrees of freedom would take the effect to be the same in every seed."""
    row = effect_of(report_document(results), "similarity_head")
    by_seed = np.array(list(row["by_seed"].values()))
    assert (row["method"], row["df"]) == ("paired_t", 2)
    assert row["se"] == pytest.approx(by_seed.std(ddof=1) / 3**0.5)


def test_with_items_the_error_of_a_full_design_is_that_of_seeds_and_items(tmp_path: Path) -> None:
    row = effect_of(report_document(write_predictions(two_level(folder=tmp_path))), "similarity_head")
    by_seed = np.array(list(row["by_seed"].values()))
    assert row["method"] == "mrmc_behrens_fisher"
    assert row["v_seed"] == pytest.approx(by_seed.var(ddof=1) / 3)
    assert row["se"] ** 2 == pytest.approx(row["v_seed"] + row["v_item"])


def test_shared_parts_give_no_F() -> None:
    document = report_document(example(spec("full")))
    assert {row["F"] for row in document["anova"]} == {None}
    assert {row["F"] is None for row in report_document(two_level())["anova"] if row["term"] == "l2"} == {
        False
    }


def test_a_two_level_effect_is_mean_high_minus_mean_low() -> None:
    results = two_level()
    means = [
        np.mean([t.metrics["dev/mean"] for t in results.trials if t.factors["similarity_head"] == level])
        for level in ("concat", "siamese")
    ]
    assert effect_of(report_document(results), "similarity_head")["estimate"] == pytest.approx(
        means[1] - means[0]
    )


def test_a_fraction_has_effects_without_matched_cells() -> None:
    row = effect_of(report_document(half_fraction()), "similarity_head")
    assert row["estimate"] == pytest.approx(0.025, abs=0.006)
    assert row["aliased_with"] == ["l2:x"]


def test_an_unreplicated_design_has_lenth_s_margins() -> None:
    document = report_document(two_level(seeds=(11,)))
    assert document["lenth"][0]["me"] > 0
    assert effect_of(document, "similarity_head")["verdict"] == "helps"


def test_a_factor_with_one_level_left_is_not_estimated() -> None:
    results = two_level(keep=lambda cell, seed: cell.levels["x"] == "a")
    row = effect_of(report_document(results), "x")
    assert (row["estimate"], row["verdict"]) == (None, "inconclusive")


def test_one_cell_is_no_model() -> None:
    assert fit_model(grid(two_level(keep=lambda cell, seed: cell.levels == BASE)), "dev/mean") is None


def test_a_planted_interaction_is_found() -> None:
    results = two_level()

    def lifted(t: TrialResult) -> dict[str, float]:
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


def off_diagonal_lost(cell: Cell, seed: int) -> bool:
    return (cell.levels["similarity_head"] == "siamese") == (cell.levels["l2"] == 0.01)


def test_factors_that_changed_together_get_no_effect() -> None:
    document = report_document(two_level(keep=off_diagonal_lost))
    found = {r["factor"]: (r["estimate"], r["note"]) for r in document["effects"] if r["role"] == "primary"}
    assert found["similarity_head"] == (None, "cannot be separated from l2 with the trials that have run")
    assert found["l2"] == (None, "cannot be separated from similarity_head with the trials that have run")
    assert found["x"][0] is not None


def test_the_analysis_of_variance_names_them_together() -> None:
    rows = report_document(two_level(keep=off_diagonal_lost))["anova"]
    row = next(r for r in rows if r["metric"] == "dev/mean" and "similarity_head" in r["term"])
    assert (row["term"], row["F"]) == ("similarity_head or l2", None)


def shared(keep: Callable[[Cell, int], bool] = lambda cell, seed: True) -> Results:
    """Separate cells share parts; on dev/similarity only the similarity head does something."""
    factors = (
        factor("paraphrase_head", ["concat", "difference"]),
        factor("similarity_head", ["concat", "siamese"]),
        factor("training", ["separate", "joint"]),
    )
    baseline = {"paraphrase_head": "concat", "similarity_head": "concat", "training": "separate"}
    return example(spec("full", factors=factors, baseline=baseline), keep=keep)


def test_a_seed_that_cannot_tell_an_effect_does_not_vote_on_it() -> None:
    """The third seed was cut off when it had the baseline and the cell in which both heads differ."""

    def keep(cell: Cell, seed: int) -> bool:
        heads = (cell.levels["paraphrase_head"] == "concat", cell.levels["similarity_head"] == "concat")
        return seed != 33 or (len(set(heads)) == 1 and cell.levels["training"] == "separate")

    row = effect_of(report_document(shared(keep)), "paraphrase_head", "dev/similarity")
    assert (row["n"], row["estimate"]) == (2, pytest.approx(0, abs=0.01))
    assert "confounded" not in row["notes"]


def test_what_no_seed_can_tell_apart_is_confounded() -> None:
    def keep(cell: Cell, seed: int) -> bool:
        heads = (cell.levels["paraphrase_head"] == "concat", cell.levels["similarity_head"] == "concat")
        return len(set(heads)) == 1

    model = not_none(fit_model(grid(shared(keep)), "dev/similarity"))
    assert set(model.confounded) == {"paraphrase_head", "similarity_head"}
    assert {factors for factors, _ in model.weights} == {("training",)}


def test_an_effect_of_two_cells_is_told_the_same_in_both_tables(tmp_path: Path) -> None:
    """With the items in its error, as section 4 has it."""
    study = spec("full", factors=TWO[:1], baseline={"similarity_head": "concat"})
    document = report_document(write_predictions(example(study, folder=tmp_path)))
    row = effect_of(document, "similarity_head")
    other = next(c["difference"]["dev/mean"] for c in document["cells"] if c["difference"])
    same = ("estimate", "se", "df", "ci95", "p", "verdict")
    assert row["method"] == "mrmc_behrens_fisher"
    assert [row[key] for key in same] == [other[key] for key in same]


def test_a_pair_among_cells_that_have_none_is_not_all_that_a_design_knows() -> None:
    """Of 2 × 2 × 2 five cells: one pair differs in x alone, and three cells more tell of x."""
    chosen = {("concat", 0.0, "a"), ("concat", 0.0, "b"), ("siamese", 0.0, "a"), ("concat", 0.01, "b"),
              ("siamese", 0.01, "a")}  # fmt: skip
    results = two_level()
    cells = tuple(c for c in results.cells if tuple(c.levels.values()) in chosen)
    trials = tuple(t for t in results.trials if t.cell in {c.hash for c in cells})
    row = effect_of(report_document(replace(results, cells=cells, trials=trials)), "x")
    values = {t.cell: t.metrics["dev/mean"] for t in trials if t.seed == 11}
    levels = {c.hash: tuple(c.levels.values()) for c in cells}
    pair = {levels[cell][2]: value for cell, value in values.items() if levels[cell][:2] == ("concat", 0.0)}
    assert row["by_seed"]["11"] != pytest.approx(pair["b"] - pair["a"], abs=1e-6)


def test_what_an_unreplicated_design_leaves_out_is_its_noise() -> None:
    """2^4 at order 2: five degrees of freedom are left, and Lenth's standard error is not what the row has."""
    factors = (*TWO, factor("y", ["a", "b"]))
    document = report_document(
        example(spec("full", factors=factors, baseline=BASE | {"y": "a"}, seeds=(11,)))
    )
    row = effect_of(document, "similarity_head")
    assert (row["method"], row["df"]) == ("least_squares", 5)


def test_interactions_that_a_hole_leaves_out_are_named() -> None:
    factors = (factor("size", [1, 2, 3]), factor("batch", [1, 2, 3]), factor("x", ["a", "b"]))
    study = spec("full", factors=factors, baseline={"size": 1, "batch": 1, "x": "a"})
    document = report_document(
        example(study, keep=lambda cell, seed: (cell.levels["size"], cell.levels["batch"]) != (3, 3))
    )
    assert document["left_out"] == [["size", "batch"]]
    assert {tuple(row["factors"]) for row in document["interactions"]} == {("size", "x"), ("batch", "x")}


@pytest.mark.parametrize(
    ("results", "said"),
    [
        (two_level(), "the result generalises to other seeds on these items."),
        (two_level(seeds=(11,)), "the result holds only for these trained models on these items."),
    ],
)
def test_a_method_tells_what_it_speaks_of(results: Results, said: str) -> None:
    assert any(text.endswith(said) for text in methods(report_of(results)))


def refitted(results: Results, place: int, end: float) -> float:
    """The effect of l2, had the trial had the worst or the best value that there is."""
    filled = with_trial(results, place, metrics={"dev/mean": end})
    return float(effect_of(report_document(filled), "l2")["estimate"])


@pytest.mark.parametrize(
    "results",
    [half_fraction(), two_level(), example(spec("full"))],
    ids=["fraction", "full", "shared_parts_and_a_condition"],
)
@pytest.mark.parametrize("place", [1, 2])
def test_bounds_are_the_estimates_with_the_worst_and_the_best_value_in_a_lost_trials_place(
    results: Results, place: int
) -> None:
    bounds = effect_of(report_document(lost(results, place)), "l2")["bounds"]
    assert bounds == pytest.approx(sorted(refitted(results, place, end) for end in (0.0, 1.0)))


def test_every_lost_trial_widens_the_bounds() -> None:
    def width(*places: int) -> float:
        low, high = effect_of(report_document(lost(half_fraction(), *places)), "l2")["bounds"]
        return float(high - low)

    assert width(1) < width(1, 6) < width(1, 6, 11)


def test_a_trial_that_is_still_to_run_gives_no_bounds() -> None:
    results = with_trial(half_fraction(), 1, state="WAITING", metrics={})
    assert effect_of(report_document(results), "l2")["bounds"] is None


@pytest.mark.parametrize(("cells", "told"), [(12, False), (24, True)])
def test_a_fraction_that_cannot_tell_every_product_has_main_effects_only(cells: int, told: bool) -> None:
    """With 12 of 24 cells, which products came first would decide what is mixed into the effects."""
    model = not_none(fit_model(grid(fraction(cells)), "dev/mean"))
    assert any(len(factors) == 2 for factors, _ in model.weights) is told


def renamed(name: str) -> Results:
    """The two-level design with another name for the factor `x`."""
    factors = (*TWO[:2], factor(name, ["a", "b"]))
    results = two_level()
    base = {new.name: BASE[old.name] for old, new in zip(TWO, factors, strict=True)}
    study = spec("full", factors=factors, baseline=base)

    def named(levels: Mapping[str, Any]) -> dict[str, Any]:
        return {name if key == "x" else key: level for key, level in levels.items()}

    return replace(
        results,
        spec=study,
        cells=tuple(replace(c, levels=named(c.levels)) for c in results.cells),
        trials=tuple(replace(t, factors=named(t.factors)) for t in results.trials),
    )


def test_a_factor_named_seed_is_not_the_block() -> None:
    def numbers(name: str) -> list[Any]:
        rows = [row for row in report_document(renamed(name))["anova"] if row["metric"] == "dev/mean"]
        return [(row["df"], row["ss"], row["F"], row["p"]) for row in rows]

    assert numbers("seed") == numbers("x")
    terms = [row["term"] for row in report_document(renamed("seed"))["anova"]]
    assert {"seed", "seed (block)"} <= set(terms)
