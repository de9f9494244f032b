"""A step whose batch is embedded in pieces, against the step on the undivided batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fixture_types import not_none
from small_encoders import POSITIONS, save_encoder
from torch import Tensor
from trainer_context import Notebook, small

from ablate.trainer.encoders import loading
from ablate.trainer.encoders.generators import generators_of
from ablate.trainer.training.loop import Training

TASKS = ("sentiment", "paraphrase", "similarity")  # 3, 4 and 5 items a step
Begin = Callable[..., Training]


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Begin:
    """Begin a training in an encoder of its own."""

    def begun(kind: str = "", **settings: Any) -> Training:
        monkeypatch.setattr(loading, "_warm", {})
        if kind:
            settings |= {"encoder": str(save_encoder(tmp_path / kind, kind)), "max_length": POSITIONS}
        return Training(small(**{"dropout": 0.0, **settings}), Notebook(tmp_path))

    return begun


def descended(training: Training) -> tuple[dict[str, float], list[Tensor]]:
    """Return the losses of the first step, and all gradients: the encoder's of each task or of all, then the heads'."""
    losses = training._descend(training.stage.mixture.step(0))
    of_encoder, heads = not_none(training.encoder_gradients), training.optimizer.gradients
    return {task: float(loss) for task, loss in losses.items()}, [
        *of_encoder.dense,
        *of_encoder.rows,
        *(heads[task].dense[0] for task in losses),
    ]


def assert_close(ours: list[Tensor], theirs: list[Tensor], tolerance: float) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        assert (one - other).norm() <= tolerance * other.norm()


@pytest.mark.parametrize("kind", ["", "bert", "modernbert", "deberta-v2"])
@pytest.mark.parametrize("surgery", ["none", "pcgrad"])
@pytest.mark.parametrize("size", [1, 3])
def test_gradients_are_those_of_the_undivided_batch_but_for_rounding(
    kind: str, surgery: str, size: int, begin: Begin
) -> None:
    losses, whole = descended(begin(kind, surgery=surgery))
    in_pieces, ours = descended(begin(kind, surgery=surgery, micro_batch=size))
    assert in_pieces == pytest.approx(losses, rel=1e-6)
    assert_close(ours, whole, 1e-5)


def test_a_batch_that_fits_is_not_divided_and_has_the_same_bits(begin: Begin) -> None:
    _, whole = descended(begin())
    _, ours = descended(begin(micro_batch=12))
    assert all(torch.equal(one, other) for one, other in zip(ours, whole, strict=True))


def test_a_loss_may_compare_the_items_of_the_batch(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    def spread(training: Training) -> Training:
        for task in TASKS:
            monkeypatch.setattr(training.heads[task], "loss", lambda output, _: output.sum().square())
        return training

    losses, whole = descended(spread(begin()))
    in_pieces, ours = descended(spread(begin(micro_batch=2)))
    assert in_pieces == pytest.approx(losses, rel=1e-5)
    assert_close(ours, whole, 1e-5)


@pytest.mark.parametrize("kind", ["", "deberta-v2"])
def test_both_passes_drop_the_same_elements(kind: str, begin: Begin) -> None:
    """The reference keeps the graphs of all pieces until the whole batch has its loss."""
    _, ours = descended(begin(kind, dropout=0.5, tasks=["sentiment"], micro_batch=2))
    state = torch.get_rng_state()
    training = begin(kind, dropout=0.5, tasks=["sentiment"], micro_batch=2)
    items = training.stage.mixture.step(0)["sentiment"]
    live = training.embedder.live  # type: ignore[attr-defined]
    pieces = [
        next(live.batches({"sentiment": part}, None))["sentiment"][0] for part in (items[:2], items[2:])
    ]
    flat, of_head = training.encoder.flat, training.optimizer.gradients["sentiment"]
    flat.add_gradients_to(flat.views(theirs := torch.zeros_like(flat.beside_table)))
    of_head.clear()
    training._loss("sentiment", items, (torch.cat(pieces), None)).backward()  # type: ignore[no-untyped-call]
    assert_close([ours[0], ours[-1]], [theirs, of_head.dense[0]], 1e-6)
    assert torch.equal(torch.get_rng_state(), state)


def test_of_the_undivided_batch_only_embeddings_are_kept(begin: Begin) -> None:
    """What a graph keeps at a time is what a piece needs, whatever the batch."""

    def most_tokens(**settings: Any) -> int:
        training, seen = begin(**settings), [0]
        module: Any = training.encoder.module
        forward = module.forward

        def counted(tokens: Tensor, *rest: Any, **named: Any) -> Tensor:
            seen.append(len(tokens) if torch.is_grad_enabled() else 0)
            embedded: Tensor = forward(tokens, *rest, **named)
            return embedded

        module.forward = counted
        descended(training)
        return max(seen)

    assert most_tokens(micro_batch=1) <= 2 * 24 < most_tokens()


def test_a_step_that_is_repeated_has_the_same_losses(begin: Begin) -> None:
    """As `balancing: famo` does: without a graph, under the same dropout, of each item twice with R-Drop."""
    training = begin(micro_batch=2, r_drop=0.5, dropout=0.3)
    batches, generators = training.stage.mixture.step(0), generators_of(training.device)
    losses = {task: float(loss) for task, loss in training._descend(batches).items()}
    assert training._losses_again(batches, generators) == losses
