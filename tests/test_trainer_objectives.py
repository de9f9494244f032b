"""The loss of a task against its formula, written out pair by pair; what it predicts; and training with it."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from declared_tasks import write_files
from fixture_types import not_none
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor
from trainer_context import Notebook

from ablate.contract import Stopped
from ablate.errors import TrialError
from ablate.trainer import Settings, train
from ablate.trainer.declared_tasks import DeclaredTask
from ablate.trainer.tasks.heads import TaskHead, build_head
from ablate.trainer.tasks.objectives import OBJECTIVES, class_weights
from ablate.trainer.tasks.task import Task

U, V = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
GRADES = torch.tensor([4.0, 0.0, 3.0, 3.0, -1.0, 2.5], dtype=torch.float64)  # a tie; the range is -1 to 4
CLASSES = torch.tensor([0.0, 2.0, 2.0, 1.0, 2.0, 0.0], dtype=torch.float64)
WEIGHTS = torch.tensor([0.5, 3.0, 1.25], dtype=torch.float64)


def task(**keys: Any) -> Task:
    return DeclaredTask.model_validate(keys).task("t")


def graded(loss: str, **keys: Any) -> Task:
    return task(kind="pair_regression", range=(-1, 4), head="siamese", loss=loss, **keys)


def head_of(task: Task) -> TaskHead:
    """A siamese head without a dense layer: what it compares are u and v themselves."""
    return build_head(task, "siamese", 16, 0, 0.0)


def cos(u: Tensor, v: Tensor) -> Tensor:
    cosine: Tensor = (u * v).sum() / (u.norm() * v.norm())
    return cosine


def share(label: Tensor) -> float:
    return (float(label) + 1) / 5


def mean_squared_error(u: Tensor, v: Tensor, labels: Tensor) -> Tensor:
    return sum(((5 * cos(u[i], v[i]) - 5 * share(y)) ** 2 for i, y in enumerate(labels)), 0 * u.sum()) / len(
        u
    )


def cosine_similarity_loss(u: Tensor, v: Tensor, labels: Tensor) -> Tensor:
    return sum(((cos(u[i], v[i]) - share(y)) ** 2 for i, y in enumerate(labels)), 0 * u.sum()) / len(u)


def cosent(u: Tensor, v: Tensor, labels: Tensor, scale: float = 20.0) -> Tensor:
    """Formula (6) of kexue.fm/archives/8847."""
    total = 0 * u.sum()
    for i, j in np.ndindex(len(u), len(u)):
        if labels[i] > labels[j]:
            total = total + (scale * (cos(u[j], v[j]) - cos(u[i], v[i]))).exp()
    return (1 + total).log()


def multiple_negatives(
    u: Tensor, v: Tensor, labels: Tensor, scale: float = 20.0, positive_from: float = 0.8
) -> Tensor:
    """Equation (6) of Henderson et al. 2017 with the scaled cosine as score, over the positive pairs."""
    losses = []
    for i, label in enumerate(labels):
        if share(label) >= positive_from - 1e-9:
            scores = [scale * cos(u[i], other) for other in v]
            losses.append(torch.stack(scores).exp().sum().log() - scores[i])
    return torch.stack(losses).mean() if losses else 0 * u.sum()


REFERENCES: dict[str, Callable[..., Tensor]] = {
    "mse": mean_squared_error,
    "cosine": cosine_similarity_loss,
    "cosent": cosent,
    "mnrl": multiple_negatives,
}


def with_gradients(loss: Callable[[Tensor, Tensor, Tensor], Tensor], labels: Tensor) -> list[Tensor]:
    """Return a loss of the first pairs, as many as there are labels, and its gradients."""
    u, v = (side[: len(labels)].clone().requires_grad_() for side in (U, V))
    value = loss(u, v, labels)
    value.backward()  # type: ignore[no-untyped-call]
    return [value.detach(), not_none(u.grad), not_none(v.grad)]


def same(found: list[Tensor], expected: list[Tensor]) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7, check_dtype=False)


def by_head(task: Task) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    head = head_of(task)
    return lambda u, v, labels: head.loss(head(u, v), labels)


@pytest.mark.parametrize("loss", REFERENCES)
def test_the_loss_of_pairs_and_its_gradients_are_the_formulas(loss: str) -> None:
    same(with_gradients(by_head(graded(loss)), GRADES), with_gradients(REFERENCES[loss], GRADES))


@pytest.mark.parametrize(
    ("loss", "options"),
    [
        ("cosent", {"scale": 3.0}),
        ("mnrl", {"scale": 50.0}),
        ("mnrl", {"positive_from": 0.2}),
        ("mnrl", {"positive_from": 1.0}),
    ],
)
def test_its_options_are_those_of_the_formula(loss: str, options: dict[str, float]) -> None:
    expected = with_gradients(partial(REFERENCES[loss], **options), GRADES)
    same(with_gradients(by_head(graded(loss, **options)), GRADES), expected)


@pytest.mark.parametrize("loss", ["cosent", "mnrl"])
@pytest.mark.parametrize("labels", [[4.0], [0.0], [1.0, 1.0, 1.0]], ids=str)
def test_a_batch_that_orders_nothing_teaches_nothing(loss: str, labels: list[float]) -> None:
    """One pair, or ties only (which are below a positive here)."""
    found = with_gradients(by_head(graded(loss)), torch.tensor(labels, dtype=torch.float64))
    assert [float(part.abs().max()) for part in found] == pytest.approx([0, 0, 0], abs=1e-6)


def test_an_order_that_is_right_by_far_costs_nothing() -> None:
    labels, cosines = torch.tensor([0.0, 4.0, 4.0]), torch.tensor([-5.0, 5.0, 5.0])
    objective = OBJECTIVES["cosent"](graded("cosent"), None)
    assert float(objective.loss(cosines, labels)) < 1e-6 < 1 < float(objective.loss(-cosines, labels))


@pytest.mark.parametrize("loss", REFERENCES)
def test_predictions_are_the_cosine_on_the_labels_scale(loss: str) -> None:
    head = head_of(graded(loss)).eval()
    predicted = head.predict(head(U, V)).tolist()
    assert predicted == pytest.approx([-1 + 5 * float(cos(u, v)) for u, v in zip(U, V, strict=True)])


# Classes -----------------------------------------------------------------------------------------------------------


def smoothed_cross_entropy(logits: Tensor, labels: Tensor, smoothing: float, weights: Tensor) -> Tensor:
    """Szegedy et al. 2016, section 7, with the weight of each item's class."""
    classes = logits.shape[1]
    total = 0 * logits.sum()
    for scores, label in zip(logits, labels.long(), strict=True):
        target = [(1 - smoothing) * (k == label) + smoothing / classes for k in range(classes)]
        log_p = scores - scores.exp().sum().log()
        total = total - weights[label] * sum(q * p for q, p in zip(target, log_p, strict=True))
    return total / len(labels)


def of_logits(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, labels: Tensor) -> list[Tensor]:
    logits = logits.clone().requires_grad_()
    value = loss(logits, labels)
    value.backward()  # type: ignore[no-untyped-call]
    return [value.detach(), not_none(logits.grad)]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("rows", [1, 6])
def test_classes_are_smoothed_and_weighted(smoothing: float, weights: Tensor | None, rows: int) -> None:
    three = task(kind="classification", labels=3, label_smoothing=smoothing)
    objective = OBJECTIVES[three.loss](three, weights)
    used = torch.ones(3, dtype=torch.float64) if weights is None else weights
    logits, labels = U[:rows, :3], CLASSES[:rows]
    expected = of_logits(lambda x, y: smoothed_cross_entropy(x, y, smoothing, used), logits, labels)
    same(of_logits(objective.loss, logits, labels), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_one_logit_of_two_classes_is_smoothed_and_weighted_alike(smoothing: float) -> None:
    two = task(kind="pair_classification", labels=2, label_smoothing=smoothing)
    objective = OBJECTIVES[two.loss](two, WEIGHTS[:2])
    labels = CLASSES.clamp(max=1)

    def both(logit: Tensor, labels: Tensor) -> Tensor:
        logits = torch.stack([torch.zeros_like(logit), logit], dim=1)
        return smoothed_cross_entropy(logits, labels, smoothing, WEIGHTS)

    same(of_logits(objective.loss, U[:, 0], labels), of_logits(both, U[:, 0], labels))


def test_each_of_several_labels_is_smoothed() -> None:
    several = task(kind="multilabel", labels=3, label_smoothing=0.2)
    found = OBJECTIVES[several.loss](several, None).loss(torch.zeros(1, 3), torch.tensor([[1.0, 0, 0]]))
    assert float(found) == pytest.approx(math.log(2))
    sure = OBJECTIVES[several.loss](several, None).loss(torch.full((1, 3), 9.0), torch.ones(1, 3))
    assert float(sure) == pytest.approx(0.1 * 9, abs=1e-3)


@pytest.mark.parametrize("labels", [[0, 0, 0, 1, 2, 2], [0, 2, 2, 2]], ids=["all", "one without a label"])
def test_balanced_weights_are_those_of_scikit_learn(labels: list[int]) -> None:
    gold = np.array(labels, dtype=np.float64)
    found = not_none(class_weights(task(kind="classification", labels=3, class_weights="balanced"), gold))
    present = np.unique(labels)
    expected = compute_class_weight("balanced", classes=present, y=labels)
    assert [found[label] for label in present] == pytest.approx(list(expected))


# Training ----------------------------------------------------------------------------------------------------------

QUICK: dict[str, Any] = {"max_steps": 4, "max_length": 32, "dense_size": 8, "pooling": "mean"}
TRAINED: dict[str, dict[str, Any]] = {
    **{
        loss: {"kind": "pair_regression", "range": [0, 1], "head": "siamese", "loss": loss}
        for loss in REFERENCES
    },
    "smoothed": {"kind": "classification", "labels": 3, "label_smoothing": 0.1},
    "weighted": {"kind": "classification", "labels": 3, "class_weights": [1, 2.5, 0.5]},
    "balanced": {"kind": "classification", "labels": 3, "class_weights": "balanced"},
}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("how", TRAINED)
def test_a_task_with_a_loss_of_its_own_trains_and_resumes_to_the_bit(
    how: str, precision: str, tmp_path: Path
) -> None:
    declared = {**TRAINED[how], "files": write_files(tmp_path, TRAINED[how]["kind"]), "batch_size": 5}
    settings = Settings.model_validate({"tasks": {"t": declared}, **QUICK, "precision": precision})
    whole, stopped = Notebook(tmp_path / "whole"), Notebook(tmp_path / "stopped", stop_after=2)
    expected = train(settings, whole)
    with pytest.raises(Stopped):
        train(settings, stopped)
    resumed = Notebook(tmp_path / "stopped", state=stopped.state)
    assert train(settings, resumed) == expected
    assert (resumed.weights, resumed.predicted) == (whole.weights, whole.predicted)


@pytest.mark.slow
def test_each_loss_trains_other_weights(tmp_path: Path) -> None:
    weights = set()
    for how, keys in {**TRAINED, "plain": {"kind": "classification", "labels": 3}}.items():
        context = Notebook(tmp_path / how)
        train(Settings.model_validate({"tasks": {"t": {**keys, "batch_size": 6}}, **QUICK}), context)
        weights.add(context.weights)
    assert len(weights) == len(TRAINED) + 1


def test_training_without_a_positive_pair_is_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("sentence1,sentence2,label\na,b,0.1\nc,d,0.7\n")
    (tmp_path / "dev.csv").write_text("sentence1,sentence2,label\na,b,0.1\nc,d,0.9\n")
    declared = {**TRAINED["mnrl"], "files": str(tmp_path / "{split}.csv")}
    with pytest.raises(
        TrialError, match=r"t: loss: mnrl needs pairs with a label from 0.8, found none above 0.7"
    ):
        train(Settings.model_validate({"tasks": {"t": declared}, **QUICK}), Notebook(tmp_path / "run"))
