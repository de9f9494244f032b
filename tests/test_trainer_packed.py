"""PackedEncoder computes what `transformers.BertModel` computes: outputs, gradients, dropout's distribution."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixture_types import not_none
from torch import Tensor
from transformers import BertConfig, BertModel

from ablate.trainer.encoders import packed_attention, packed_ops
from ablate.trainer.encoders.flat_parameters import Flat, Gradients
from ablate.trainer.encoders.packed import PackedEncoder, _Pass
from ablate.trainer.encoders.packed_attention import Grouped, Layout, varlen_agrees
from ablate.trainer.encoders.packed_families import unsupported
from ablate.trainer.encoders.packed_ops import ColumnSums, Dropout, Share

LENGTHS = [5, 3, 9, 5, 1, 12, 3, 5]
SMALL: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 16,
}
each_pooling = pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
assets = pytest.mark.assets
needs_assets = pytest.mark.skipif(
    "ABLATE_TEST_ASSETS" not in os.environ, reason="ABLATE_TEST_ASSETS is not set"
)


def small_bert(dropout: float = 0.0, **changes: Any) -> BertModel:
    """A random BERT with weights large enough for attention to matter."""
    config = BertConfig(
        **SMALL | changes,
        initializer_range=0.3,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    model = BertModel(config, add_pooling_layer=False)
    for name, parameter in model.named_parameters():
        if "LayerNorm" in name or "bias" in name:
            torch.nn.init.normal_(parameter, mean=float(name.endswith("LayerNorm.weight")), std=0.2)
    model.train()
    return model


def sentences(lengths: Sequence[int] = LENGTHS, vocabulary: int = 50) -> Tensor:
    return torch.randint(1, vocabulary, (sum(lengths),))


def padded(model: BertModel, tokens: Tensor, lengths: list[int], pooling: str) -> Tensor:
    """What transformers makes of the same sentences, with padding."""
    ids = torch.nn.utils.rnn.pad_sequence(list(torch.split(tokens, lengths)), batch_first=True)
    mask = torch.arange(ids.shape[1]) < torch.tensor(lengths)[:, None]
    hidden: Tensor = model(ids, attention_mask=mask.long()).last_hidden_state
    if pooling != "mean":
        return hidden[range(len(lengths)), 0 if pooling == "cls" else torch.tensor(lengths) - 1]
    return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def gradients(model: torch.nn.Module, embedded: Tensor, direction: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    (embedded * direction).sum().backward()  # type: ignore[no-untyped-call]
    return {name: not_none(parameter.grad).clone() for name, parameter in model.named_parameters()}


def assert_same_gradients(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float) -> None:
    whole = torch.cat([gradient.flatten() for gradient in theirs.values()]).norm()
    for name, gradient in theirs.items():
        assert (ours[name] - gradient).norm() <= tolerance * max(gradient.norm(), 1e-3 * whole), name


@each_pooling
def test_embeddings_are_those_of_transformers(pooling: str) -> None:
    model, tokens = small_bert(), sentences()
    found = PackedEncoder(model)(tokens, LENGTHS, pooling)
    torch.testing.assert_close(found, padded(model, tokens, LENGTHS, pooling), rtol=0, atol=2e-6)


@each_pooling
def test_every_gradient_is_that_of_transformers(pooling: str) -> None:
    model, tokens, direction = small_bert(), sentences(), torch.randn(len(LENGTHS), 24)
    theirs = gradients(model, padded(model, tokens, LENGTHS, pooling), direction)
    ours = gradients(model, PackedEncoder(model)(tokens, LENGTHS, pooling), direction)
    assert ours.keys() == theirs.keys()
    assert_same_gradients(ours, theirs, 2e-5)


def test_token_types_are_those_of_transformers() -> None:
    model, tokens, direction = small_bert(), sentences(), torch.randn(len(LENGTHS), 24)
    types = torch.randint(0, 2, tokens.shape)
    each = zip(torch.split(tokens, LENGTHS), torch.split(types, LENGTHS), strict=True)
    alone = [model(ids[None], token_type_ids=of[None]).last_hidden_state[0, 0] for ids, of in each]
    theirs = gradients(model, torch.stack(alone), direction)
    found = PackedEncoder(model)(tokens, LENGTHS, "cls", types=types)
    torch.testing.assert_close(found, torch.stack(alone), rtol=0, atol=2e-6)
    assert_same_gradients(gradients(model, found, direction), theirs, 2e-5)


@each_pooling
def test_in_double_precision_gradients_agree_to_its_rounding(pooling: str) -> None:
    model, tokens, direction = small_bert().double(), sentences(), torch.randn(len(LENGTHS), 24).double()
    theirs = gradients(model, padded(model, tokens, LENGTHS, pooling), direction)
    ours = gradients(model, PackedEncoder(model)(tokens, LENGTHS, pooling), direction)
    assert_same_gradients(ours, theirs, 1e-12)


@each_pooling
def test_with_dropout_the_gradient_is_the_slope_of_the_loss(pooling: str) -> None:
    """Central differences in double precision, with the same masks drawn on each pass."""
    bert, tokens = PackedEncoder(small_bert(dropout=0.3).double()), sentences()
    direction = torch.randn(len(LENGTHS), 24).double()

    def loss() -> Tensor:
        torch.manual_seed(1)
        embedded: Tensor = bert(tokens, LENGTHS, pooling)
        return (embedded * direction).sum()

    loss().backward()  # type: ignore[no-untyped-call]
    for name, parameter in bert.named_parameters():
        step = torch.randn_like(parameter) * 1e-5
        with torch.no_grad():
            parameter.add_(step)
            above = loss()
            parameter.sub_(2 * step)
            below = loss()
            parameter.add_(step)
        expected = float((not_none(parameter.grad) * step).sum() * 2)
        assert float(above - below) == pytest.approx(expected, rel=1e-5, abs=1e-8), name


def test_dropout_changes_training_and_not_evaluation() -> None:
    model, tokens = small_bert(dropout=0.3), sentences()
    bert = PackedEncoder(model)
    assert not torch.equal(bert(tokens, LENGTHS), bert(tokens, LENGTHS))
    bert.eval()
    torch.testing.assert_close(
        bert(tokens, LENGTHS), padded(model.train(False), tokens, LENGTHS, "cls"), rtol=0, atol=2e-6
    )


def test_embeddings_under_dropout_have_the_mean_and_spread_of_transformers() -> None:
    model, tokens, repeats = small_bert(dropout=0.2), sentences([4, 7]), 4000
    bert, lengths = PackedEncoder(model), [4, 7] * repeats
    with torch.no_grad():
        ours = bert(tokens.repeat(repeats), lengths).view(repeats, -1)
        theirs = padded(model, tokens.repeat(repeats), lengths, "cls").reshape(repeats, -1)
    noise = ((ours.var(0) + theirs.var(0)) / repeats).sqrt()
    assert ((ours.mean(0) - theirs.mean(0)) / noise).abs().max() < 4.5  # of 48 comparisons
    assert (ours.std(0) / theirs.std(0) - 1).abs().max() < 0.1


@pytest.mark.parametrize("lane", range(4))
def test_dropout_keeps_its_share_in_every_lane_of_the_random_words(lane: int) -> None:
    """Four masks come from one 64-bit word: none may be biased (a sign bit that is never set would be)."""
    (mask,) = Dropout(400_000, torch.device("cpu")).masks([(100_000, 4)], 0.1, torch.float32)
    kept = not_none(mask.kept)
    assert abs(float((kept[:, lane] > 0).float().mean()) - 0.9) < 5 * (0.09 / 100_000) ** 0.5
    assert float(kept.max()) * mask.scale == pytest.approx(1 / 0.9, rel=2e-5)


def test_dropout_masks_of_neighbours_are_independent() -> None:
    (mask,) = Dropout(400_000, torch.device("cpu")).masks([(400_000,)], 0.5, torch.float64)
    kept = (not_none(mask.kept) > 0).double()
    centred = kept - kept.mean()
    assert all(
        abs(float((centred[shift:] * centred[:-shift]).mean())) < 5 * 0.25 / 400_000**0.5
        for shift in range(1, 9)
    )


def test_without_dropout_nothing_is_drawn() -> None:
    bert, tokens = PackedEncoder(small_bert()), sentences()
    before = torch.get_rng_state()
    bert(tokens, LENGTHS)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_saved_generator_repeats_a_step_to_the_bit() -> None:
    bert, tokens = PackedEncoder(small_bert(dropout=0.3)), sentences()

    def step() -> list[Tensor]:
        bert.zero_grad()
        bert(tokens, LENGTHS).square().sum().backward()
        return [not_none(parameter.grad) for parameter in bert.parameters()]

    state = torch.get_rng_state()
    first = step()
    torch.set_rng_state(state)
    assert all(torch.equal(a, b) for a, b in zip(first, step(), strict=True))


def test_gradients_are_added_to_the_buffers_that_are_there() -> None:
    bert, tokens = PackedEncoder(small_bert()), sentences()
    bert(tokens, LENGTHS).sum().backward()
    once = [not_none(parameter.grad).clone() for parameter in bert.parameters()]
    buffers = [parameter.grad for parameter in bert.parameters()]
    bert(tokens, LENGTHS).sum().backward()
    assert all(parameter.grad is buffer for parameter, buffer in zip(bert.parameters(), buffers, strict=True))
    for buffer, gradient in zip(buffers, once, strict=True):
        torch.testing.assert_close(buffer, 2 * gradient, rtol=1e-5, atol=1e-5)


@each_pooling
def test_gradients_kept_apart_are_those_of_each_task_alone(pooling: str) -> None:
    model, tokens, direction = small_bert().double(), sentences(), torch.randn(len(LENGTHS), 24).double()
    bert, first = PackedEncoder(model), 3  # sentences of the first task
    alone = []
    for part in (slice(first), slice(first, None)):
        start = sum(LENGTHS[: part.start or 0])
        mine = tokens[start : start + sum(LENGTHS[part])]
        alone.append(gradients(model, bert(mine, LENGTHS[part], pooling), direction[part]))
    kept = Gradients(Flat(bert, bert.words), ["a", "b", "absent"])
    kept.dense.fill_(7.0)  # what stands there does not count
    model.zero_grad(set_to_none=True)
    embedded = bert(tokens, LENGTHS, pooling, kept, {"a": first, "b": len(LENGTHS) - first})
    (embedded * direction).sum().backward()
    assert kept.words.tolist() == sorted(set(tokens.tolist()))
    for owner, expected in zip(kept.owners, [*alone, None], strict=True):
        places = kept.places(owner)
        words = torch.zeros_like(bert.words)
        words[kept.words] = places[bert.words]
        named = {name: places[parameter] for name, parameter in bert.named_parameters()}
        named["embeddings.word_embeddings.weight"] = words
        if expected is not None:
            assert_same_gradients(named, expected, 1e-12)
        else:
            assert not any(gradient.any() for gradient in named.values())
    assert all(parameter.grad is None for parameter in bert.parameters())


@pytest.mark.parametrize("counts", [(3, 4), (8, 0), (9, -1)])
def test_owners_that_do_not_share_out_the_sentences_are_refused(counts: tuple[int, int]) -> None:
    bert = PackedEncoder(small_bert())
    kept = Gradients(Flat(bert, bert.words), ["a", "b"])
    with pytest.raises(ValueError, match="counts must sum to 8 sentences"):
        bert(sentences(), LENGTHS, "cls", kept, dict(zip("ab", counts, strict=True)))


def test_a_second_backward_pass_is_refused_and_adds_nothing() -> None:
    bert, tokens = PackedEncoder(small_bert()), sentences()
    loss = bert(tokens, LENGTHS).sum()
    loss.backward(retain_graph=True)
    before = [not_none(parameter.grad).clone() for parameter in bert.parameters()]
    with pytest.raises(RuntimeError, match="backward twice; call forward again"):
        loss.backward()
    assert all(torch.equal(not_none(p.grad), grad) for p, grad in zip(bert.parameters(), before, strict=True))


def test_parameters_that_need_no_gradient_get_none() -> None:
    bert, tokens = PackedEncoder(small_bert()), sentences()
    frozen = {name: parameter for name, parameter in bert.named_parameters() if "layer.2" not in name}
    for parameter in frozen.values():
        parameter.requires_grad_(False)
    bert(tokens, LENGTHS).sum().backward()
    assert {name for name, parameter in bert.named_parameters() if parameter.grad is None} == frozen.keys()


def test_a_frozen_encoder_has_no_graph() -> None:
    bert, tokens = PackedEncoder(small_bert()), sentences()
    bert.requires_grad_(False)
    assert not bert(tokens, LENGTHS).requires_grad


@pytest.mark.parametrize("grad_mode", [True, False])
def test_layers_are_kept_only_for_a_backward_pass(grad_mode: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    forward = _Pass.forward

    def watched(run: _Pass, tokens: Tensor) -> Tensor:
        output = forward(run, tokens)
        kept.append(len(run.layers))
        return output

    monkeypatch.setattr(_Pass, "forward", watched)
    with torch.set_grad_enabled(grad_mode):
        PackedEncoder(small_bert())(sentences(), LENGTHS)
    assert kept == [3 if grad_mode else 0]


def test_the_padding_token_learns_nothing_as_in_transformers() -> None:
    model, tokens, direction = small_bert(), sentences(), torch.randn(len(LENGTHS), 24)
    tokens[3] = not_none(model.config.pad_token_id)
    theirs = gradients(model, padded(model, tokens, LENGTHS, "cls"), direction)
    assert_same_gradients(gradients(model, PackedEncoder(model)(tokens, LENGTHS), direction), theirs, 2e-5)


def test_state_dicts_load_both_ways() -> None:
    model = small_bert()
    bert = PackedEncoder(small_bert())
    bert.load_state_dict(model.state_dict())
    model.load_state_dict(bert.hf_state_dict())
    assert model.state_dict().keys() == bert.hf_state_dict().keys()


def test_the_model_saves_what_was_trained(tmp_path: Path) -> None:
    model, tokens = small_bert(), sentences()
    bert = PackedEncoder(model)
    optimizer = torch.optim.SGD(bert.parameters(), lr=0.1)
    bert(tokens, LENGTHS).square().sum().backward()
    optimizer.step()
    model.save_pretrained(tmp_path)
    again = PackedEncoder(BertModel.from_pretrained(tmp_path, add_pooling_layer=False).train(False))
    torch.testing.assert_close(again(tokens, LENGTHS), bert.eval()(tokens, LENGTHS))


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_lengths_may_be_a_list_an_array_or_a_tensor(kind: Callable[[list[int]], Any]) -> None:
    bert, tokens = PackedEncoder(small_bert()), sentences()
    found = bert(tokens.int(), kind(LENGTHS))
    found.sum().backward()
    assert torch.equal(found, bert(tokens, LENGTHS))


def test_a_sentence_does_not_depend_on_its_neighbours() -> None:
    bert, tokens = PackedEncoder(small_bert()), sentences()
    together = bert(tokens, LENGTHS)
    alone = torch.cat([bert(part, [len(part)]) for part in torch.split(tokens, LENGTHS)])
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-6)


@pytest.mark.parametrize("lengths", [[], [4, 0], [3, 3], [17, 1], [-1, 9]])
def test_lengths_that_do_not_fit_are_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="lengths must be 1 to 16 and sum to the number of tokens, 4"):
        PackedEncoder(small_bert())(torch.ones(4, dtype=torch.long), lengths)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hidden_act": "gelu_10"}, "activation 'gelu_10'"),
        ({"is_decoder": True}, "decoder"),
        ({"model_type": "albert"}, "model type 'albert'"),
    ],
)
def test_models_that_would_be_computed_differently_are_named(change: dict[str, Any], reason: str) -> None:
    config = BertConfig(**SMALL)
    for name, value in change.items():
        setattr(config, name, value)
    assert reason in not_none(unsupported(config))


def test_an_unsupported_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"activation 'mish' is not one of .*; use PaddedEncoder"):
        PackedEncoder(small_bert(hidden_act="mish"))


def test_layout_brings_each_head_of_each_sentence_together() -> None:
    groups = Layout(np.array([2, 1, 9]), heads=2, device=torch.device("cpu")).groups
    one, two = groups.groups  # the second and first sentences, and the third
    assert (one.count, one.longest, not_none(one.padding).tolist()) == (2, 2, [[False, True], [False, False]])
    assert (two.count, two.longest, two.padding) == (1, 9, None)
    pieces, slots = groups.indices(1)
    assert pieces[:8].tolist() == [4, 4, 5, 5, 0, 2, 1, 3]  # piece = 2 * row + head
    assert groups.padding.tolist() == [1, 3]
    assert pieces[slots].tolist() == list(range(24))
    pieces, slots = groups.of_one
    assert pieces.tolist() == [2, 3, 0, 1, 4, 5]
    assert pieces[slots].tolist() == list(range(6))


def test_layout_brings_parts_apart_that_stand_side_by_side() -> None:
    groups = Layout(np.array([2, 1, 9]), heads=2, device=torch.device("cpu")).groups
    pieces, slots = groups.indices(3)
    first = pieces[: groups.slots]
    assert first[:8].tolist() == [12, 12, 13, 13, 0, 6, 1, 7]  # piece = 2 * (3 * row + part) + head
    assert torch.equal(pieces.view(3, -1), torch.stack([first, first + 2, first + 4]))
    assert pieces[slots].tolist() == list(range(72))


@each_pooling
def test_bf16_is_as_near_to_fp32_as_autocast_of_transformers(pooling: str) -> None:
    model, tokens = small_bert(), sentences()
    bert, exact = PackedEncoder(model), padded(model, tokens, LENGTHS, pooling)
    with torch.autocast("cpu", torch.bfloat16):
        ours, theirs = bert(tokens, LENGTHS, pooling), padded(model, tokens, LENGTHS, pooling)
    assert ours.dtype == torch.float32
    assert (ours - exact).norm() < 1.5 * (theirs.float() - exact).norm()


def test_bf16_sees_weights_that_changed_behind_the_parameters() -> None:
    """An optimizer may write to the flat buffer that the parameters are views of."""
    bert, tokens = PackedEncoder(small_bert()), sentences()
    buffer = torch.cat([parameter.detach().flatten() for parameter in bert.parameters()])
    for parameter, part in zip(
        bert.parameters(), torch.split(buffer, [p.numel() for p in bert.parameters()]), strict=True
    ):
        parameter.data = part.view_as(parameter)
    with torch.autocast("cpu", torch.bfloat16):
        before = bert(tokens, LENGTHS)
        buffer.mul_(1.5)
        after = bert(tokens, LENGTHS)
    assert not torch.allclose(before, after, atol=0.1)
    torch.testing.assert_close(after, bert(tokens, LENGTHS), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("wide", [set(), {torch.bfloat16}], ids=["with units for it", "without"])
def test_bf16_gradients_are_as_near_to_fp32_as_autocast_of_transformers(
    wide: set[torch.dtype], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_ops, "WIDENED", wide)
    model, tokens, direction = small_bert(), sentences(), torch.randn(len(LENGTHS), 24)
    bert = PackedEncoder(model)
    exact = gradients(model, padded(model, tokens, LENGTHS, "cls"), direction)
    with torch.autocast("cpu", torch.bfloat16):
        embedded, reference = bert(tokens, LENGTHS), padded(model, tokens, LENGTHS, "cls").float()
    ours, theirs = gradients(model, embedded, direction), gradients(model, reference, direction)
    error = {
        k: sum(float((found[n] - exact[n]).square().sum()) for n in exact)
        for k, found in ((0, ours), (1, theirs))
    }
    assert all(gradient.dtype == torch.float32 for gradient in ours.values())
    assert error[0] < 1.5**2 * error[1]


@assets
@needs_assets
@each_pooling
def test_real_weights_give_the_embeddings_and_gradients_of_transformers(pooling: str) -> None:
    folder = Path(os.environ["ABLATE_TEST_ASSETS"]) / "weights" / "minilm-l6-h384"
    model = BertModel.from_pretrained(folder, add_pooling_layer=False, dtype=torch.float32).train(False)
    lengths = [25, 11, 11, 7, 40]
    tokens, direction = torch.randint(1000, 30_000, (sum(lengths),)), torch.randn(5, 384)
    ours, theirs = PackedEncoder(model)(tokens, lengths, pooling), padded(model, tokens, lengths, pooling)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-6)
    expected = gradients(model, theirs, direction)
    assert_same_gradients(gradients(model, ours, direction), expected, 1e-4)


@pytest.fixture
def sums_together(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Sums of columns as on a GPU, from the call on."""
    plain = ColumnSums.__init__

    def init(sums: ColumnSums, shares: Sequence[Share], device: torch.device, **_: bool) -> None:
        plain(sums, shares, device, together=True)

    return lambda: monkeypatch.setattr(ColumnSums, "__init__", init)


@pytest.mark.parametrize("frozen", [(), ("bias", "LayerNorm")])
@each_pooling
def test_gradients_of_vectors_are_the_same_in_one_product_as_on_a_gpu(
    pooling: str, frozen: tuple[str, ...], sums_together: Callable[[], None]
) -> None:
    model, tokens, direction = small_bert(dropout=0.3).double(), sentences(), torch.randn(len(LENGTHS), 24)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(word in name for word in frozen))

    def of_two_tasks() -> Tensor:
        bert = PackedEncoder(model)
        kept = Gradients(Flat(bert, bert.words), ["a", "b"])
        torch.manual_seed(1)
        embedded = bert(tokens, LENGTHS, pooling, kept, {"a": 3, "b": 5})
        (embedded * direction).sum().backward()
        return kept.dense

    one_by_one = of_two_tasks()
    sums_together()
    # The product is in fp32.
    torch.testing.assert_close(of_two_tasks(), one_by_one, rtol=1e-5, atol=1e-5)


def test_the_trial_of_a_gpus_attention_accepts_the_same_results_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, with attention by groups in its place, right and wrong."""
    layout = Layout(np.array([5, 1, 3]), 2, torch.device("cpu"))
    monkeypatch.setattr(packed_attention, "Varlen", Grouped)
    parts, dy = torch.randn(9, 24), torch.randn(9, 8)
    assert packed_attention._agree(layout, None, parts, dy)
    assert packed_attention._agree(layout, layout.firsts, torch.randn(9, 16), *torch.randn(2, 3, 8))

    class Near(Grouped):
        def __init__(self, layout: Layout, chosen: Tensor | None = None) -> None:
            super().__init__(layout, chosen, window=1)

    monkeypatch.setattr(packed_attention, "Varlen", Near)
    assert not packed_attention._agree(layout, None, parts, dy)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_on_a_gpu_attention_is_one_call_with_the_results_of_groups() -> None:
    assert varlen_agrees(torch.device("cuda:0"), 64)
