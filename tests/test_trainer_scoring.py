from dataclasses import replace

import numpy as np
import pytest
import torch

from ablate.errors import TrialError
from ablate.trainer.settings import Settings
from ablate.trainer.tasks.heads import build_head
from ablate.trainer.tasks.metrics import pearson, scores
from ablate.trainer.tasks.registry import TASKS
from ablate.trainer.training.scoring import Evaluation, predict


def test_accuracy_is_the_share_of_hits() -> None:
    predicted, gold = torch.tensor([0.0, 4.0, 2.0, 1.0]).double(), np.array([0.0, 4, 2, 2])
    assert scores(TASKS["sentiment"], predicted, gold, "") == {"sentiment": 0.75}


def test_further_metrics_of_a_task_stand_beside_the_first() -> None:
    both = replace(TASKS["similarity"], metrics=("pearson", "accuracy"))
    found = scores(both, torch.tensor([0.0, 1.0, 3.0]).double(), np.array([0.0, 1, 2]), "")
    assert found == {"similarity": pytest.approx(0.98, abs=0.01), "similarity.accuracy": pytest.approx(2 / 3)}


def test_r_is_numpys() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 50))
    assert pearson(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-12)


def test_r_survives_scale_and_offset() -> None:
    x = np.array([1.0, 2.0, 4.0])
    assert pearson(1e-2 * x + 1e3, x) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("predicted", "gold", "reason"),
    [
        ([2.5, 2.5], [1.0, 2.0], "all 2 predictions are 2.5"),
        ([2.5, 2.5 + 1e-15], [1.0, 2.0], "all 2 predictions are 2.5"),
        ([2.5, 2.5000005], [1.0, 2.0], "all 2 predictions are 2.5"),  # two fp32 numbers apart
        ([1.0, 2.0], [3.0, 3.0], "all 2 labels are 3"),
    ],
)
def test_where_r_does_not_exist_none_is_made_up(
    predicted: list[float], gold: list[float], reason: str
) -> None:
    with pytest.raises(TrialError, match=f"step 7: dev/similarity: .*{reason}"):
        scores(
            TASKS["similarity"], torch.tensor(predicted).double(), np.array(gold), "step 7: dev/similarity"
        )


@pytest.mark.parametrize("task", TASKS)
def test_a_model_that_is_not_finite_predicts_nothing(task: str) -> None:
    """The largest of five NaN is class 0, and a NaN is not above 0: that would look like a result."""
    first = torch.ones(3, 8)
    first[1, 2] = float("nan")
    settings, found = Settings(), TASKS[task]
    head = build_head(found, settings.head_of(found), 8, settings.dense_size, settings.dropout)
    with pytest.raises(TrialError, match=f"step 7: dev/{task}: a prediction is not a finite number"):
        predict(head, (first, None if task == "sentiment" else first), f"step 7: dev/{task}")


def test_the_mean_needs_all_tasks_of_the_study() -> None:
    tasks = tuple(TASKS.values())
    two = Evaluation(1, {"sentiment": 0.5, "paraphrase": 0.7}, {})
    assert two.named(tasks) == {"dev/sentiment": 0.5, "dev/paraphrase": 0.7}
    assert two.named(tasks[:2])["dev/mean"] == pytest.approx(0.6)
    three = Evaluation(1, {**two.metrics, "similarity": 0.0}, {})
    assert three.named(tasks, "@last")["dev/mean@last"] == pytest.approx((0.5 + 0.7 + 0.5) / 3)


def test_one_task_has_no_mean() -> None:
    assert Evaluation(1, {"sentiment": 0.5}, {}).named([TASKS["sentiment"]]) == {"dev/sentiment": 0.5}
