"""LoRA against a reference: x W + alpha / rank * x Aᵀ Bᵀ, added to each layer's output by a hook, with autograd's gradients."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from small_encoders import POSITIONS, VOCABULARY, save_encoder, small_model
from test_trainer_packed import LENGTHS, padded
from torch import Tensor, nn
from trainer_context import Notebook, small
from transformers import AutoModel

from ablate import trainer
from ablate.errors import BadInput
from ablate.trainer import train
from ablate.trainer.encoders.flat_parameters import Gradients
from ablate.trainer.encoders.loading import wrap
from ablate.trainer.encoders.lora import Lora
from ablate.trainer.encoders.packed import PackedEncoder
from ablate.trainer.settings import LoraSettings, Settings
from ablate.trainer.training.loop import Training

KINDS = ["bert", "roberta", "electra", "distilbert", "modernbert", "deberta-v2", "mpnet", "albert", "llama"]
RANK, ALPHA = 3, 5.0
OF_LAYERS = {
    "bert": 18,
    "modernbert": 12,
    "deberta-v2": 24,
    "albert": 6,
}  # dense layers in all layers together


def begun(kind: str, matrices: str = "query_value") -> tuple[Any, Lora]:
    """A model and its changes, which are no longer 0."""
    torch.manual_seed(0)
    model = small_model(kind)
    encoder = wrap(model, torch.device("cpu"))
    settings = LoraSettings.model_validate({"rank": RANK, "alpha": ALPHA, "matrices": matrices})
    lora = Lora(encoder, settings, 1)
    for one in lora._adapted:
        nn.init.normal_(one.up, std=0.3)
    return encoder, lora


def add_in_layers(module: nn.Module, lora: Lora) -> None:
    """Add the change where the reference has it: to the output of the dense layer."""
    layers = {layer.weight: layer for layer in module.modules() if isinstance(layer, nn.Linear)}
    for one in lora._adapted:

        def hook(_: nn.Module, inputs: Any, output: Tensor, one: Any = one) -> Tensor:
            change = ALPHA / RANK * (inputs[0] @ one.down.t() @ one.up.t())
            return torch.cat(
                [
                    output[..., : one.rows.start or 0],
                    output[..., one.rows] + change,
                    output[..., one.rows.stop :],
                ],
                -1,
            )

        layers[one.weight].register_forward_hook(hook)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("matrices", ["query_value", "all"])
def test_embeddings_and_gradients_are_those_of_changes_added_in_the_layers(kind: str, matrices: str) -> None:
    encoder, lora = begun(kind, matrices)
    module, tokens = encoder.module, torch.randint(5, VOCABULARY, (sum(LENGTHS),))
    of_matrices, ours = Gradients(lora.matrices), Gradients(lora.flat)
    direction = torch.randn(len(LENGTHS), 24)
    lora.merge()
    if isinstance(module, PackedEncoder):
        embedded = module(tokens, LENGTHS, "mean", of_matrices)
    else:
        encoder.flat.add_gradients_to(of_matrices.places())
        embedded = module(tokens, np.array(LENGTHS, dtype=np.int32), "mean")
    (embedded * direction).sum().backward()
    lora.pull(of_matrices, ours)

    encoder.flat.values.copy_(encoder.pristine)
    model: Any = module.model if hasattr(module, "model") else small_model(kind)
    if isinstance(module, PackedEncoder):
        model.load_state_dict(module.hf_state_dict())
        weights = dict(zip(module.parameters(), model.parameters(), strict=True))
        for one in lora._adapted:
            object.__setattr__(one, "weight", weights[one.weight])
    add_in_layers(model, lora)
    theirs = padded(model, tokens, LENGTHS, "mean")
    torch.testing.assert_close(embedded, theirs, rtol=0, atol=2e-5)
    (theirs * direction).sum().backward()  # type: ignore[no-untyped-call]
    for one in lora._adapted:
        for part in (one.down, one.up):
            assert part.grad is not None
            error = (ours.places()[part] - part.grad).norm()
            assert error <= 5e-5 * part.grad.norm()


@pytest.mark.parametrize("kind", OF_LAYERS)
def test_all_dense_layers_are_changed_if_wanted(kind: str) -> None:
    assert len(begun(kind, "all")[1]._adapted) == OF_LAYERS[kind]


def test_a_model_without_dense_layers_of_queries_is_refused() -> None:
    with pytest.raises(BadInput, match="gpt2 has no such dense layers"):
        begun("gpt2")


def test_training_begins_at_the_encoder_as_it_was(tmp_path: Path) -> None:
    training = Training(small(lora={"rank": 2}), Notebook(tmp_path))
    training.embedder.whole("sentiment", "dev", lambda: None)
    assert torch.equal(training.encoder.flat.values, training.encoder.pristine)


def test_a_is_drawn_as_the_authors_draw_it() -> None:
    torch.manual_seed(0)
    for one in begun("bert")[1]._adapted:
        bound = 1 / math.sqrt(24)
        assert one.down.abs().max() <= bound
        assert float(one.down.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.3)


def trained(folder: Path, **settings: Any) -> tuple[Training, Notebook]:
    encoder = save_encoder(folder / "encoder", "bert")
    context = Notebook(folder / "trial")
    lr = {"encoder": 0.05}
    given = {"encoder": str(encoder), "max_length": POSITIONS, "lora": {"rank": 2}, "lr": lr, **settings}
    training = Training(small(**given), context)
    training.run()
    return training, context


def test_only_changes_of_the_rank_are_trained(tmp_path: Path) -> None:
    training, _ = trained(tmp_path, surgery="pcgrad", l2=0.1)
    before = AutoModel.from_pretrained(tmp_path / "encoder").state_dict()
    for name, value in training.encoder.module.hf_state_dict().items():
        change = value - before[name]
        if name.endswith(("query.weight", "value.weight")):
            assert torch.linalg.matrix_rank(change, rtol=1e-4) == 2, name
        else:
            assert not change.any(), name


def test_the_saved_model_is_a_plain_one(tmp_path: Path) -> None:
    training, context = trained(tmp_path)
    saved = AutoModel.from_pretrained(context.workdir / "model").state_dict()
    for name, value in training.encoder.module.hf_state_dict().items():
        assert torch.equal(saved[name], value), name
    assert "test/mean" in trainer.test(training.settings, context)


def test_the_reported_weights_are_those_of_the_best_evaluation(tmp_path: Path) -> None:
    training, context = trained(tmp_path, select="best", eval_every=1, max_steps=8)
    assert training.best is not None
    assert training.best[0].step < 8
    predicted = training.best[0].predicted["sentiment"]
    again = training.embedder.whole("sentiment", "dev", lambda: None)[0]
    head = training.heads["sentiment"].eval()
    assert torch.equal(head.predict(head(again)).cpu(), predicted)
    saved = AutoModel.from_pretrained(context.workdir / "model").state_dict()
    assert all(
        torch.equal(saved[name], value) for name, value in training.encoder.module.hf_state_dict().items()
    )


def test_a_checkpoint_holds_the_changes_only(tmp_path: Path) -> None:
    training, _ = trained(tmp_path)
    state = training.state()
    numbers = 6 * 2 * (24 + 24)  # of two matrices in three layers
    assert state["weights"]["encoder"].numel() == numbers
    assert training.encoder.pristine.numel() > 10 * numbers


def test_the_next_trial_trains_all_weights_again(tmp_path: Path) -> None:
    fresh = Notebook(tmp_path / "fresh")
    metrics = train(small(), fresh)
    train(small(lora={"rank": 2}), Notebook(tmp_path / "lora"))
    after = Notebook(tmp_path / "after")
    assert train(small(), after) == metrics
    assert after.weights == fresh.weights


def test_a_frozen_encoder_has_no_changes() -> None:
    with pytest.raises(ValidationError, match="use one of the two"):
        Settings.model_validate({"lora": {"rank": 8}, "freeze_encoder": True})


def test_the_default_rate_is_the_papers() -> None:
    settings = {"encoder": "some/model", "lora": {"rank": 8}}
    assert Settings.model_validate(settings).encoder_lr == 5e-4
    assert Settings.model_validate({**settings, "lr": {"encoder": 1e-4}}).encoder_lr == 1e-4
