from typing import Any

import pytest
from report_examples import spec

from ablate.evidence.predictions import Kind
from ablate.evidence.ranges import metric_range
from ablate.spec.model import Metric, StudySpec
from ablate.trainer.tasks.metrics import METRICS


def of(trainer: str, **metric: Any) -> StudySpec:
    return spec(trainer=trainer, metric=Metric(**{"name": "dev/score", **metric}))


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("dev/sentiment", (0, 1)),
        ("test/paraphrase", (0, 1)),
        ("dev/similarity", (-1, 1)),
        ("dev/mean", (0, 1)),
        ("dev/similarity@last", (-1, 1)),
        ("train/sentiment_loss", (None, None)),
    ],
)
def test_our_trainer_s_metrics_are_known(metric: str, expected: tuple[int | None, int | None]) -> None:
    assert metric_range(of("ablate.trainer"), metric) == expected
    assert metric_range(of("my_trainer"), metric) == (None, None)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Kind.ACCURACY, (0, 1)),
        (Kind.PEARSON, (-1, 1)),
        ("mcc", (-1, 1)),
        ("r2", (None, 1)),
        ("bleu", (None, None)),
        (None, (None, None)),
    ],
)
def test_of_another_trainer_predictions_tell_or_the_trainer_states(
    kind: str | None, expected: tuple[int | None, int | None]
) -> None:
    assert metric_range(of("my_trainer"), "dev/score", kind) == expected


def test_what_is_declared_comes_first_and_belongs_to_the_study_s_own_metric() -> None:
    study = of("my_trainer", worst=0.2)
    assert metric_range(study, "dev/score") == (0.2, None)
    assert metric_range(study, "dev/score@last", Kind.ACCURACY) == (0.2, 1)
    assert metric_range(study, "dev/other") == (None, None)


def test_a_worst_of_zero_is_declared_too() -> None:
    assert metric_range(of("my_trainer", worst=0.0), "dev/score", Kind.PEARSON) == (0, 1)


def test_of_a_metric_to_be_minimised_the_largest_is_the_worst() -> None:
    assert metric_range(of("my_trainer", goal="minimize"), "dev/score", Kind.ACCURACY) == (1, 0)
    assert metric_range(of("my_trainer", goal="minimize", worst=9.0), "dev/score") == (9, None)


@pytest.mark.parametrize("kind", METRICS)
def test_each_metric_of_our_trainer_has_a_range(kind: str) -> None:
    assert metric_range(of("ablate.trainer"), "dev/nli", kind) != (None, None)
