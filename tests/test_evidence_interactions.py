"""Effects that turn around: where an interaction is significant and the effect goes up at one level and down at the other."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from fixture_types import Json
from report_examples import factor, report_document, spec, valued

from ablate.report.report import report_of
from ablate.report.sections.summary import headline
from ablate.store.results import Results

AB = (factor("a", [0, 1]), factor("b", [0, 1]))


def study_with(at_0: float, at_1: float, design: str = "full") -> Results:
    """The report on a study in which a adds `at_0` where b is 0 and `at_1` where it is 1, in five seeds."""

    def value(levels: Mapping[str, Any], seed: int) -> float:
        noise = np.random.default_rng([seed, levels["a"], levels["b"]]).normal(0, 0.002)
        return float(0.8 + levels["a"] * (at_1 if levels["b"] else at_0) + noise)

    study = spec(design, (1, 2, 3, 4, 5), factors=AB, baseline={"a": 0, "b": 0})
    return valued(study, value)


def effect_of_a(document: Json) -> Json:
    return next(row for row in document["effects"] if row["factor"] == "a")


def test_an_interaction_is_half_the_difference_of_the_simple_effects() -> None:
    (row,) = report_document(study_with(0.05, -0.03))["interactions"]
    assert row["factors"] == ["a", "b"]
    assert row["estimate"] == pytest.approx(-0.04, abs=0.003)
    assert (row["method"], row["df"]) == ("paired_t", 4)


def test_a_crossover_qualifies_the_verdict() -> None:
    row = effect_of_a(report_document(study_with(0.05, -0.03)))
    assert row["verdict"] == "helps"
    assert row["qualifiers"] == ["turns_around"]
    turns = {one["level"]: one["estimate"] for one in row["turns"]}
    assert turns == pytest.approx({0: 0.05, 1: -0.03}, abs=0.003)


def test_the_sentence_on_a_crossover_says_where_it_helps_and_where_it_hurts() -> None:
    report = report_of(study_with(0.05, -0.03))
    (said,) = [line for line in report.summary if line.startswith("a: 0 → 1")]
    assert said.startswith("a: 0 → 1: depends on b (+0.0494 at 0, −0.0313 at 1); on average helps; ")
    assert "1 helps with a caveat" in headline(report)


@pytest.mark.parametrize(
    ("at_0", "at_1"),
    [(0.03, 0.03), (0.05, 0.02)],
    ids=["no interaction", "less at the other level"],
)
def test_what_only_gets_smaller_does_not_turn_around(at_0: float, at_1: float) -> None:
    row = effect_of_a(report_document(study_with(at_0, at_1)))
    assert (row["verdict"], row["qualifiers"], row["turns"]) == ("helps", [], [])


def test_an_effect_that_is_clear_at_one_level_only_depends_on_the_other_factor() -> None:
    report = report_of(study_with(0.05, 0.0))
    (said,) = [line for line in report.summary if line.startswith("a: 0 → 1")]
    assert said.startswith("a: 0 → 1: helps on average, but it depends on b (+0.0494 at 0, −0.0013 at 1); ")


def test_the_headline_says_of_no_difference_that_it_is_a_mean_of_unlike_effects() -> None:
    said = headline(report_of(study_with(0.004, -0.004)))
    assert "1 makes no difference that matters on average (but dependent on another factor)" in said


def test_without_an_effect_nothing_turns_around() -> None:
    assert effect_of_a(report_document(study_with(0.0, 0.0)))["qualifiers"] == []


def test_one_factor_at_a_time_sees_no_interaction() -> None:
    assert report_document(study_with(0.05, -0.03, "one_at_a_time"))["interactions"] == []


def test_every_factor_that_an_effect_depends_on_is_named() -> None:
    def value(levels: Mapping[str, Any], seed: int) -> float:
        noise = np.random.default_rng([seed, *levels.values()]).normal(0, 0.002)
        return float(0.8 + 0.1 * levels["a"] * (1 - levels["b"]) * (1 - levels["c"]) + noise)

    names = ("a", "b", "c")
    factors = tuple(factor(name, [0, 1]) for name in names)
    study = spec("full", (1, 2, 3, 4, 5), factors=factors, baseline=dict.fromkeys(names, 0))
    report = report_of(valued(study, value))
    (said,) = [line for line in report.summary if line.startswith("a: 0 → 1")]
    assert " depends on b (+0.0" in said
    assert " and on c (+0.0" in said
    row = effect_of_a(report_document(valued(study, value)))
    assert [(one["factor"], one["level"]) for one in row["turns"]] == [("b", 0), ("b", 1), ("c", 0), ("c", 1)]
