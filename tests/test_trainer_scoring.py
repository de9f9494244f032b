import numpy as np
import pytest
import torch

from ablate.errors import TrialError
from ablate.trainer.settings import Settings
from ablate.trainer.tasks.heads import build_head
from ablate.trainer.tasks.metrics import metric, pearson
from ablate.trainer.tasks.table import TASKS
from ablate.trainer.training.scoring import Evaluation, evaluation_from, predict


def test_accuracy_is_the_share_of_hits():
    assert (
        metric("sentiment", torch.tensor([0.0, 4.0, 2.0, 1.0]).double(), np.array([0.0, 4, 2, 2]), "") == 0.75
    )


def test_r_is_numpys():
    x, y = np.random.default_rng(0).normal(size=(2, 50))
    assert pearson(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-12)


def test_r_survives_scale_and_offset():
    x = np.array([1.0, 2.0, 4.0])
    assert pearson(1e-6 * x + 1e3, x) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("predicted", "gold", "reason"),
    [
        ([2.5, 2.5], [1.0, 2.0], "all 2 predictions are 2.5"),
        ([1.0, 2.0], [3.0, 3.0], "all 2 labels are 3"),
    ],
)
def test_where_r_does_not_exist_none_is_made_up(predicted, gold, reason):
    with pytest.raises(TrialError, match=f"step 7: dev/similarity: .*{reason}"):
        metric("similarity", torch.tensor(predicted).double(), np.array(gold), "step 7: dev/similarity")


@pytest.mark.parametrize("task", TASKS)
def test_a_model_that_is_not_finite_predicts_nothing(task):
    """The largest of five NaN is class 0, and a NaN is not above 0: that would look like a result."""
    first = torch.ones(3, 8)
    first[1, 2] = float("nan")
    with pytest.raises(TrialError, match=f"step 7: dev/{task}: a prediction is not a finite number"):
        predict(
            build_head(task, 8, Settings()),
            (first, None if task == "sentiment" else first),
            f"step 7: dev/{task}",
        )


def test_the_mean_needs_all_three():
    two = Evaluation(1, {"sentiment": 0.5, "paraphrase": 0.7}, {})
    assert two.named("dev") == {"dev/sentiment": 0.5, "dev/paraphrase": 0.7}
    three = Evaluation(1, {**two.metrics, "similarity": 0.0}, {})
    assert three.named("dev", "@last")["dev/mean@last"] == pytest.approx((0.5 + 0.7 + 0.5) / 3)


def test_an_evaluation_comes_back_from_its_state():
    one = Evaluation(3, {"sentiment": 0.5}, {"sentiment": torch.ones(2)})
    again = evaluation_from(one.state())
    assert (again.step, again.metrics) == (3, {"sentiment": 0.5})
    assert torch.equal(again.predicted["sentiment"], torch.ones(2))
