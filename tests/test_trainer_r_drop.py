"""R-Drop against its formulas, written out number by number."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from trainer_context import Notebook, small

from ablate.trainer.settings import Settings
from ablate.trainer.tasks.heads import TaskHead, build_head
from ablate.trainer.tasks.r_drop import r_drop_loss
from ablate.trainer.training.loop import Training

ALPHA = 0.7
DECLARED: dict[str, Any] = {
    "classes": {"kind": "classification", "labels": 4},
    "two": {"kind": "pair_classification", "labels": 2},
    "several": {"kind": "multilabel", "labels": 3},
    "number": {"kind": "pair_regression", "range": [0, 5], "head": "siamese"},
}


def kl(p: list[float], q: list[float]) -> float:
    return sum(x * math.log(x / y) for x, y in zip(p, q, strict=True))


def symmetric(p: list[float], q: list[float]) -> float:
    return (kl(p, q) + kl(q, p)) / 2


def bernoulli(logit: float) -> list[float]:
    one = 1 / (1 + math.exp(-logit))
    return [one, 1 - one]


def apart(name: str, a: Any, b: Any) -> float:
    """The distance of the two outputs of one item."""
    if name == "classes":
        softmax = [[math.exp(x) / sum(map(math.exp, logits)) for x in logits] for logits in (a, b)]
        return symmetric(*softmax)
    if name == "two":
        return symmetric(bernoulli(a), bernoulli(b))
    if name == "several":
        return sum(symmetric(bernoulli(x), bernoulli(y)) for x, y in zip(a, b, strict=True)) / 3
    return float((a - b) ** 2)


def head_of(name: str) -> tuple[TaskHead, Tensor, tuple[Tensor, Tensor | None]]:
    """A head without dropout, labels of five items, and embeddings that differ between the passes."""
    (task,) = Settings.model_validate({"tasks": {name: DECLARED[name]}}).trained
    head = build_head(task, next(iter(task.heads)), 6, 8, 0.0)
    labels = torch.randint(2, (5, 3) if name == "several" else (5,)).double()
    second = torch.randn(10, 6) if len(task.columns) == 2 else None
    return head, labels, (torch.randn(10, 6), second)


@pytest.mark.parametrize("name", DECLARED)
def test_the_loss_is_the_papers(name: str) -> None:
    torch.manual_seed(0)
    head, labels, pair = head_of(name)
    a, b = (
        head(*(column[half] for column in pair if column is not None)) for half in (slice(5), slice(5, 10))
    )
    items = [apart(name, x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    losses = [head.loss(output, labels).item() for output in (a, b)]
    expected = sum(losses) / 2 + ALPHA * sum(items) / 5
    assert min(items) > 0
    assert float(r_drop_loss(head, pair, labels, ALPHA).detach()) == pytest.approx(expected, rel=1e-5)


def test_certain_and_opposite_outputs_have_a_finite_distance() -> None:
    torch.manual_seed(0)
    head, labels, (u, _) = head_of("classes")
    head.get_parameter("out.weight").data.mul_(1e4)
    loss = r_drop_loss(head, (u, None), labels, ALPHA)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.isfinite()
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all() for parameter in head.parameters()
    )


@pytest.mark.parametrize("micro_batch", [0, 2])
def test_a_step_embeds_each_item_twice_with_other_dropout(
    micro_batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small(r_drop=1.0, dropout=0.02, pooling="mean", tasks=["sentiment"], micro_batch=micro_batch)
    training = Training(settings, Notebook(tmp_path))
    seen: list[Tensor] = []
    loss = training._loss

    def watched(task: str, items: Any, pair: Any) -> Tensor:
        seen.append(pair[0].detach())
        return loss(task, items, pair)

    monkeypatch.setattr(training, "_loss", watched)
    training._descend(training.stage.mixture.step(0))
    once, again = torch.split(seen[0], 3)
    closest = torch.cdist(again, once).argmin(1).tolist()
    assert not torch.equal(once, again)
    assert closest == [0, 1, 2]


def test_dropout_is_needed() -> None:
    with pytest.raises(ValidationError, match="use a dropout above 0"):
        Settings.model_validate({"r_drop": 0.5, "dropout": 0.0})
    assert Settings.model_validate({"r_drop": 0.0, "dropout": 0.0}).r_drop == 0
