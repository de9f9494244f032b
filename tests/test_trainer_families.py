"""Each packed family computes what transformers computes: embeddings, gradients, saved weights. Trials resume exactly."""

from pathlib import Path
from typing import Any

import pytest
import torch
from fixture_types import not_none
from small_encoders import POSITIONS, VOCABULARY, save_encoder, small_model
from test_trainer_packed import LENGTHS, assert_same_gradients, each_pooling, gradients, padded
from torch import Tensor
from trainer_context import Notebook, small
from transformers import AutoModel

from ablate.contract import Stopped
from ablate.trainer import train
from ablate.trainer.encoders.flat_parameters import Flat, Gradients
from ablate.trainer.encoders.packed import PackedEncoder
from ablate.trainer.encoders.packed_families import FAMILIES, unsupported
from ablate.trainer.encoders.packed_ops import ACTIVATIONS

HIDDEN = 24
each_family = pytest.mark.parametrize("kind", FAMILIES)


def some_tokens() -> Tensor:
    return torch.randint(5, VOCABULARY, (sum(LENGTHS),))


def assert_computed_alike(model: Any, pooling: str, tokens: Tensor | None = None) -> None:
    """Embeddings and all gradients are those of transformers, but for rounding."""
    tokens = some_tokens() if tokens is None else tokens
    theirs, ours = padded(model, tokens, LENGTHS, pooling), PackedEncoder(model)(tokens, LENGTHS, pooling)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-6)
    direction = torch.randn(len(LENGTHS), HIDDEN)
    assert_same_gradients(gradients(model, ours, direction), gradients(model, theirs, direction), 5e-5)


@each_family
@each_pooling
def test_embeddings_and_gradients_are_those_of_transformers(kind: str, pooling: str) -> None:
    assert_computed_alike(small_model(kind), pooling)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_so_they_are_with_other_activations(kind: str, activation: str) -> None:
    changes: dict[str, Any] = {FAMILIES[kind].activation: activation}
    assert_computed_alike(small_model(kind, **changes), "cls")


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("electra", {"embedding_size": HIDDEN}),  # without a projection
        ("roberta", {"type_vocab_size": 1}),
        ("modernbert", {"norm_bias": True, "attention_bias": True, "mlp_bias": True}),
        ("modernbert", {"layer_types": ["full_attention"] * 3}),
        ("modernbert", {"layer_types": ["sliding_attention"] * 3}),
    ],
)
@each_pooling
def test_so_they_are_in_variants_of_a_family(kind: str, changes: dict[str, Any], pooling: str) -> None:
    assert_computed_alike(small_model(kind, **changes), pooling)


@pytest.mark.parametrize("kind", ["roberta", "electra", "distilbert", "modernbert"])
def test_a_padding_token_in_the_text_is_treated_alike(kind: str) -> None:
    """It is not trained, and where positions begin behind padding, it has none of its own."""
    model, tokens = small_model(kind), some_tokens()
    tokens[9:11] = model.config.pad_token_id
    assert_computed_alike(model, "mean", tokens)


@pytest.mark.parametrize(
    ("kind", "types_known"), [("electra", 2), ("roberta", 2), ("roberta", 1), ("distilbert", 0)]
)
def test_token_types_matter_where_a_family_has_them(kind: str, types_known: int) -> None:
    changes: dict[str, Any] = {"type_vocab_size": types_known} if types_known else {}
    model, tokens = small_model(kind, **changes), some_tokens()
    types = torch.randint(0, 2, tokens.shape)
    direction, packed = torch.randn(len(LENGTHS), HIDDEN), PackedEncoder(model)
    known = [{"token_type_ids": of[None]} if types_known > 1 else {} for of in torch.split(types, LENGTHS)]
    pairs = zip(torch.split(tokens, LENGTHS), known, strict=True)
    theirs = torch.stack([model(ids[None], **of).last_hidden_state[0, 0] for ids, of in pairs])
    ours = packed(tokens, LENGTHS, "cls", types=types)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-6)
    assert_same_gradients(gradients(model, ours, direction), gradients(model, theirs, direction), 5e-5)


@each_family
def test_with_dropout_the_gradient_is_the_slope_of_the_loss(kind: str) -> None:
    """A central difference in double precision along one direction, with the same masks drawn on each pass."""
    packed, tokens = PackedEncoder(small_model(kind, dropout=0.3).double()), some_tokens()
    direction = torch.randn(len(LENGTHS), HIDDEN).double()

    def loss() -> Tensor:
        torch.manual_seed(1)
        embedded: Tensor = packed(tokens, LENGTHS, "cls")
        return (embedded * direction).sum()

    loss().backward()  # type: ignore[no-untyped-call]
    steps = [torch.randn_like(parameter) * 1e-6 for parameter in packed.parameters()]
    with torch.no_grad():
        torch._foreach_add_(list(packed.parameters()), steps)
        above = loss()
        torch._foreach_sub_(list(packed.parameters()), steps, alpha=2)
        below = loss()
    pairs = zip(packed.parameters(), steps, strict=True)
    expected = sum(float((not_none(parameter.grad) * step).sum() * 2) for parameter, step in pairs)
    assert float(above - below) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", ["distilbert", "electra", "modernbert"])
def test_dropout_has_the_mean_and_spread_of_transformers(kind: str) -> None:
    model, repeats = small_model(kind, dropout=0.2), 1500
    tokens, lengths = torch.randint(5, VOCABULARY, (11,)).repeat(repeats), [4, 7] * repeats
    with torch.no_grad():
        ours = PackedEncoder(model)(tokens, lengths).view(repeats, -1)
        theirs = padded(model, tokens, lengths, "cls").reshape(repeats, -1)
    noise = ((ours.var(0) + theirs.var(0)) / repeats).sqrt()
    assert ((ours.mean(0) - theirs.mean(0)) / noise).abs().max() < 4.5  # of 48 comparisons
    assert (ours.std(0) / theirs.std(0) - 1).abs().max() < 0.15


@each_family
def test_gradients_kept_apart_are_those_of_each_task_alone(kind: str) -> None:
    packed, tokens, first = PackedEncoder(small_model(kind).double()), some_tokens(), 3
    direction, cut = torch.randn(len(LENGTHS), HIDDEN).double(), sum(LENGTHS[:first])
    alone = [
        gradients(packed, packed(tokens[:cut], LENGTHS[:first]), direction[:first]),
        gradients(packed, packed(tokens[cut:], LENGTHS[first:]), direction[first:]),
    ]
    kept = Gradients(Flat(packed, packed.words), ["a", "b"])
    embedded = packed(tokens, LENGTHS, "cls", kept, {"a": first, "b": len(LENGTHS) - first})
    (embedded * direction).sum().backward()
    for owner, expected in zip(kept.owners, alone, strict=True):
        found = dict(kept.places(owner))
        found[packed.words] = torch.zeros_like(packed.words).index_copy(0, kept.words, found[packed.words])
        assert_same_gradients({n: found[p] for n, p in packed.named_parameters()}, expected, 1e-12)


@each_family
def test_bf16_is_as_near_to_fp32_as_autocast_of_transformers(kind: str) -> None:
    model, tokens = small_model(kind), some_tokens()
    packed, exact = PackedEncoder(model), padded(model, tokens, LENGTHS, "mean")
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = packed(tokens, LENGTHS, "mean"), padded(model, tokens, LENGTHS, "mean")
    assert ours.dtype == torch.float32
    assert (ours - exact).norm() < 1.5 * (theirs.float() - exact).norm()


@each_family
def test_a_trial_resumes_exactly_and_transformers_loads_what_it_saves(kind: str, tmp_path: Path) -> None:
    folder = save_encoder(tmp_path / "encoder", kind)
    settings = small(encoder=str(folder), max_length=POSITIONS, max_steps=3, surgery="pcgrad", keep="model")
    whole, stopped = Notebook(tmp_path / "whole"), Notebook(tmp_path / "stopped", stop_after=2)
    metrics = train(settings, whole)
    with pytest.raises(Stopped):
        train(settings, stopped)
    resumed = Notebook(tmp_path / "resumed", state=stopped.state)
    assert train(settings, resumed) == metrics
    assert resumed.weights == whole.weights
    again = AutoModel.from_pretrained(whole.workdir / "model").train(False)
    assert unsupported(again.config) is None
    tokens = some_tokens()
    packed = PackedEncoder(again)
    theirs = padded(again, tokens, LENGTHS, "cls")
    torch.testing.assert_close(packed(tokens, LENGTHS), theirs, rtol=0, atol=5e-6)


@each_family
def test_weights_keep_the_names_of_transformers(kind: str) -> None:
    model = small_model(kind)
    assert PackedEncoder(model).hf_state_dict().keys() == model.state_dict().keys()
