"""Effects of a study: slopes of numeric factors, lost trials, conditions, and the last epoch beside the chosen one."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixture_types import Json, not_none
from report_examples import example, factor, report_document, spec, valued, with_trial

from ablate.evidence.effects import Effect, Kind, Scale, even_scale, study_effects, study_models
from ablate.evidence.frames import grid
from ablate.evidence.items import Items
from ablate.evidence.verdicts import Qualifier, judge_primary
from ablate.report.report import report_of
from ablate.spec.model import Factor, Scalar, StudySpec
from ablate.stats.power import mde
from ablate.store.results import Results, TrialResult

SIZES = (4, 16, 1, 64)  # in the order of the file; the baseline is 16
X = (factor("size", list(SIZES)), factor("l2", [0.0, 0.01]))
BASE: dict[str, Scalar] = {"size": 16, "l2": 0.0}
DESIGNS = ("full", "one_at_a_time")


def sized(
    design: str = "full",
    seeds: tuple[int, ...] = (11, 22, 33, 44),
    factors: tuple[Factor, ...] = X,
    baseline: dict[str, Scalar] = BASE,
) -> StudySpec:
    return spec(design, seeds, factors=factors, baseline=baseline)


def noisy(
    expected: Callable[[Mapping[str, Any]], float], sd: float = 0.01
) -> Callable[[Mapping[str, Any], int], float]:
    """A value with noise of its own for each cell and seed."""

    def value(levels: Mapping[str, Any], seed: int) -> float:
        key = [seed, *(int(1000 * float(level)) for level in levels.values())]
        return expected(levels) + sd * np.random.default_rng(key).standard_normal()

    return value


def line(levels: Mapping[str, Any]) -> float:
    return float(0.02 * np.log2(levels["size"]) + levels["l2"])


def bend(levels: Mapping[str, Any]) -> float:
    return float(-0.02 * (np.log2(levels["size"]) - 3) ** 2)


def effects_of(results: Results, metric: str = "dev/mean") -> list[Effect]:
    arranged = grid(results)
    return study_effects(arranged, Items(arranged), metric, study_models(arranged).get(metric))


def slope_of(results: Results) -> Effect:
    return next(effect for effect in effects_of(results) if effect.kind is Kind.SLOPE)


def row_of(document: Json, name: str, metric: str = "dev/mean") -> Json:
    return next(row for row in document["effects"] if row["factor"] == name and row["metric"] == metric)


# Slopes of numeric factors


@pytest.mark.parametrize("design", DESIGNS)
def test_a_slope_is_the_straight_line_by_least_squares_from_the_smallest_level_to_the_largest(
    design: str,
) -> None:
    study = sized(design)
    results = valued(study, noisy(line))
    fitted = []
    for seed in study.seeds:
        means = [
            np.mean(
                [
                    t.metrics["dev/mean"]
                    for t in results.trials
                    if t.seed == seed
                    and t.factors["size"] == size
                    and (design == "full" or t.factors["l2"] == 0)
                ]
            )
            for size in SIZES
        ]
        fitted.append(np.polyfit(np.log(SIZES), means, 1)[0] * np.log(64))
    found = slope_of(results)
    assert (found.contrast.low, found.contrast.high) == (1, 64)
    assert found.inference.estimate == pytest.approx(np.mean(fitted))
    assert found.inference.se == pytest.approx(np.std(fitted, ddof=1) / 2)


@pytest.mark.parametrize(
    ("levels", "scale"),
    [
        ((1, 2, 3), Scale.LINEAR),
        ((10, 20, 40), Scale.LOG),
        ((1e-5, 2e-5, 5e-5), Scale.LOG),
        ((0, 1, 10), Scale.LINEAR),  # 0 has no logarithm
        ((-1, 0, 1), Scale.LINEAR),
        ((64, 1, 8), Scale.LOG),
        ((128, 256, 768), Scale.LOG),
    ],
)
def test_levels_lie_on_the_scale_on_which_they_are_even(
    levels: tuple[float, float, float], scale: Scale
) -> None:
    assert even_scale(levels) is scale


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize(("shape", "is_bent"), [(line, False), (bend, True)])
def test_a_bend_is_no_line(design: str, shape: Callable[[Mapping[str, Any]], float], is_bent: bool) -> None:
    p = not_none(slope_of(valued(sized(design), noisy(shape))).slope).p_lack_of_fit
    assert (not_none(p) < 0.01) is is_bent


def test_a_slope_whose_levels_bend_is_called_with_that_caveat() -> None:
    def rising_bend(levels: Mapping[str, Any]) -> float:
        return float(bend(levels) + 0.1 * np.log2(levels["size"]))

    document = report_document(valued(sized(), noisy(rising_bend)))
    slope = row_of(document, "size")
    assert (slope["verdict"], slope["qualifiers"]) == ("helps", ["bent"])
    assert any("a straight line does not fit the levels" in line for line in document["summary"])
    straight = row_of(report_document(valued(sized(), noisy(line))), "size")
    assert (straight["verdict"], straight["qualifiers"]) == ("helps", [])


def test_lines_are_called_bent_in_one_of_twenty_studies() -> None:
    """200 studies; Monte Carlo error .0154."""
    rng = np.random.default_rng(0)
    study = sized(factors=X[:1], baseline={"size": 16})
    results = valued(study, lambda levels, seed: 0.0)
    arranged, bent = grid(results), 0
    for _ in range(200):
        arranged.values["dev/mean"][:] = rng.normal(size=arranged.values["dev/mean"].shape)
        found = study_effects(arranged, Items(arranged), "dev/mean", study_models(arranged)["dev/mean"])
        bent += not_none(not_none(found[0].slope).p_lack_of_fit) < 0.05
    assert bent / 200 <= 0.05 + 2 * 0.0154


@pytest.mark.parametrize(
    "levels",
    [[1, 2], ["1", "2", "3"], [False, True, 2], [1, 2, "auto"]],
    ids=["two", "words", "truths", "mixed"],
)
def test_only_three_numbers_or_more_have_a_slope(levels: list[Scalar]) -> None:
    study = sized("one_at_a_time", factors=(factor("size", levels),), baseline={"size": levels[0]})
    assert {e.kind for e in effects_of(example(study))} == {Kind.LEVELS}


@pytest.mark.parametrize("design", DESIGNS)
def test_with_a_level_that_nothing_has_measured_there_is_no_slope(design: str) -> None:
    results = valued(sized(design), noisy(line))
    for place, trial in enumerate(results.trials):
        if trial.factors["size"] == 64:
            results = with_trial(results, place, state="FAIL", metrics={})
    assert {e.kind for e in effects_of(results)} == {Kind.LEVELS}


def test_the_slope_stands_before_its_levels() -> None:
    rows = [r for r in report_document(valued(sized(), noisy(line)))["effects"] if r["factor"] == "size"]
    assert [(row["kind"], row["from"], row["to"]) for row in rows] == [
        ("slope", 1, 64), ("levels", 16, 4), ("levels", 16, 1), ("levels", 16, 64),
    ]  # fmt: skip


def test_a_level_in_the_middle_is_found_without_a_slope() -> None:
    """One level alone is far off. The levels have a quarter of the factor's share of alpha, three of them a twelfth each."""
    document = report_document(valued(sized(), noisy(bend)))
    slope, *levels = [r for r in document["effects"] if r["factor"] == "size"]
    assert slope["p_holm"] > 0.05
    clearest = min(levels, key=lambda row: row["p"])
    assert clearest["verdict"] == "hurts"
    assert clearest["p_holm"] >= 12 * clearest["p"] * (1 - 1e-9)


# Conditions


def test_a_parent_is_averaged_over_the_factor_that_exists_under_it() -> None:
    """Separate training is one of the two sides, both kinds of joint training with equal weight the other."""
    results = example(spec("full"))
    rows: dict[Scalar, list[float]] = {"separate": [], "none": [], "pcgrad": []}
    for t in results.trials:
        rows[t.factors.get("surgery", "separate")].append(t.metrics["dev/mean"])
    separate, none, pcgrad = (np.mean(values) for values in rows.values())
    row = row_of(report_document(results), "training")
    assert row["estimate"] == pytest.approx((none + pcgrad) / 2 - separate)
    assert "averaged" in row["notes"]


def test_a_conditional_factor_is_estimated_where_it_exists() -> None:
    results = example(spec("full"))
    by_level = {
        level: np.mean([t.metrics["dev/mean"] for t in results.trials if t.factors.get("surgery") == level])
        for level in ("none", "pcgrad")
    }
    row = row_of(report_document(results), "surgery")
    assert row["estimate"] == pytest.approx(by_level["pcgrad"] - by_level["none"])


# Shared parts


def test_cells_that_share_parts_are_one_and_no_test_is_made_of_them(tmp_path: Path) -> None:
    """Of full designs too, where the weights of least squares leave 1e-17 of what cancels."""
    factors = tuple(
        factor(name, list(levels))
        for name, levels in (("similarity_head", ("concat", "siamese")), ("l2", (0.0, 0.01)))
    )
    always = {"training": "separate"}
    study = spec(
        "full",
        factors=(*factors, factor("training", ["separate"])),
        baseline={"similarity_head": "concat", "l2": 0.0} | always,
    )
    row = row_of(report_document(example(study)), "similarity_head", "dev/sentiment")
    assert (row["estimate"], row["p"], row["p_bh"], row["ci95"]) == (0.0, None, None, None)
    assert (row["verdict"], row["notes"]) == ("no difference that matters", ["same_part"])


# Lost trials


def pair(lost: Collection[tuple[int, int]] = (), gain: float = 0.02) -> Results:
    """Two cells over five seeds, the second better by `gain`; of `lost`, (level of x, place of the seed), there is no result.

    Seeds move both cells alike by .01, and each by .0005 more."""

    def value(levels: Mapping[str, Any], seed: int) -> float:
        moved = 0.01 * np.sin(5 * seed) + 0.0005 * np.sin(7 * seed + 3 * levels["x"])
        return float(0.8 + gain * levels["x"] + moved)

    study = spec("full", (1, 2, 3, 4, 5), factors=(factor("x", [0, 1]),), baseline={"x": 0})
    results = valued(study, value)
    for place, trial in enumerate(results.trials):
        if (trial.factors["x"], study.seeds.index(trial.seed)) in lost:
            results = with_trial(results, place, state="FAIL", metrics={}, error="out of memory")
    return results


def test_bounds_take_for_each_lost_trial_what_moves_the_effect_farthest() -> None:
    results = pair(lost=[(1, 4)])
    values = grid(results).values["dev/mean"]
    (effect,) = effects_of(results)
    # The least and the greatest that dev/mean can be.
    ends = [np.mean(np.append(values[1, :4], end)) - values[0].mean() for end in (0.0, 1.0)]
    lost = not_none(effect.lost)
    assert lost.bounds == pytest.approx(ends)
    assert (lost.low, lost.high) == (0.0, 0.2)
    assert not lost.uneven


def test_one_lost_seed_that_could_not_reverse_an_effect_leaves_its_verdict() -> None:
    row = row_of(report_document(pair(lost=[(1, 4)], gain=0.25)), "x")
    assert (row["verdict"], row["qualifiers"]) == ("helps", [])


def test_an_effect_that_the_lost_runs_could_reverse_says_so() -> None:
    """One of five on each side, so that neither is favoured; the four left agree."""
    row = row_of(report_document(pair(lost=[(1, 4), (0, 3)], gain=0.005)), "x")
    assert row["bounds"][0] < 0 < row["bounds"][1]
    assert (row["verdict"], row["qualifiers"]) == ("helps", ["lost_runs"])


def test_an_arm_that_lost_three_of_five_runs_is_not_said_to_help() -> None:
    row = row_of(report_document(pair(lost=[(1, 2), (1, 3), (1, 4)])), "x")
    assert (row["verdict"], row["qualifiers"]) == ("inconclusive", ["lost_runs"])


# The last epoch beside the chosen one


def chosen(gain: float, last_gain: float) -> Results:
    results = pair(gain=gain)

    def metrics(t: TrialResult) -> dict[str, float]:
        x = t.factors["x"] == 1
        noise = t.metrics["dev/mean"] - gain * x
        return t.metrics | {"dev/mean@last": noise - 0.01 + last_gain * x}

    return replace(results, trials=tuple(replace(t, metrics=metrics(t)) for t in results.trials))


def test_the_larger_p_of_the_chosen_and_the_last_epoch_counts() -> None:
    row = row_of(report_document(chosen(0.02, 0.01)), "x")
    assert row["last"]["estimate"] == pytest.approx(0.01, abs=0.003)
    assert row["p_holm"] == row["last"]["p"] > row["p"]
    assert (row["verdict"], row["qualifiers"]) == ("helps", [])


@pytest.mark.parametrize("last_gain", [0.0, -0.02])
def test_what_is_gone_at_the_last_epoch_is_not_called(last_gain: float) -> None:
    row = row_of(report_document(chosen(0.02, last_gain)), "x")
    assert row["p"] < 0.001 < 0.05 < row["p_holm"]
    assert (row["verdict"], row["qualifiers"]) == ("inconclusive", [Qualifier.LAST_EPOCH])


def test_a_last_epoch_that_agrees_less_clearly_is_no_caveat() -> None:
    """Both p are below .05, and only the correction leaves it undecided."""
    effect = effects_of(chosen(0.02, 0.02))[0]
    unclear = replace(
        effect,
        inference=replace(effect.inference, p=0.02),
        last=replace(not_none(effect.last), p=0.03),
    )
    judged = judge_primary([unclear, unclear], None, "maximize")[0]
    assert (judged.verdict, judged.qualifiers) == ("inconclusive", ())
    gone = replace(unclear, last=replace(not_none(effect.last), p=0.06))
    assert judge_primary([gone], None, "maximize")[0].qualifiers == (Qualifier.LAST_EPOCH,)


# Rounding, looks, and alpha


@pytest.mark.parametrize("design", DESIGNS)
def test_what_single_precision_leaves_of_nothing_is_no_effect(design: str) -> None:
    """The same numbers, and 6e-8 in every seed beside them: p would be 0."""

    def value(levels: Mapping[str, Any], seed: int) -> float:
        metric = np.float32(0.8 + 0.01 * seed + 0.001 * (levels["size"] == 4))
        if levels["l2"] == 0.01:
            metric = np.nextafter(metric, np.float32(1))
        return float(metric)

    row = row_of(report_document(valued(sized(design), value)), "l2")
    assert (row["estimate"], row["p"], row["verdict"]) == (0, None, "inconclusive")
    assert row["notes"] == ["no_noise"]


def test_trials_lost_after_a_look_say_nothing_about_it() -> None:
    """At the look after two seeds one trial of each side is lost; then one side loses all others."""
    lost = [(0, 1), (1, 1), *((1, seed) for seed in range(2, 5))]
    whole = grid(pair(lost=lost))
    then = whole.with_first_seeds(2)
    of_then, of_whole = (study_effects(then, Items(one), "dev/mean", None)[0].lost for one in (then, whole))
    assert not_none(of_whole).uneven is False
    assert of_whole == of_then


def test_the_seeds_of_a_slope_are_counted_at_the_alpha_of_its_verdict() -> None:
    results = valued(sized(), noisy(lambda levels: 0.0, sd=0.01))
    rows = [row for row in report_of(results).primary_effects if row.change.factor == "size"]
    slope, *levels = rows
    assert slope.judged.alpha == pytest.approx(0.05 / 2 * 3 / 4)
    assert [row.judged.alpha for row in levels] == pytest.approx([0.05 / 2 / 4 / 3] * 3)
    for row in rows:
        needed, per_seed = not_none(row.seeds_needed).about, not_none(row.numbers.v_seed) * row.numbers.n
        if needed and needed > row.numbers.n:
            detected = mde((per_seed / needed) ** 0.5, needed - 1, alpha=row.judged.alpha)
            assert detected <= not_none(results.spec.metric.smallest_effect)
    assert any(row.seeds_needed for row in rows)
