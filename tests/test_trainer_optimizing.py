"""The optimizer's rates by layer, against a reference written from the papers."""

import re
from pathlib import Path

import pytest
import torch
from small_encoders import small_model
from torch import Tensor, nn
from trainer_context import Notebook, small
from transformers import XLMConfig, XLMModel

from ablate.errors import BadInput
from ablate.trainer.encoders.depth import rate_shares
from ablate.trainer.encoders.loading import wrap
from ablate.trainer.training.loop import Training
from ablate.trainer.training.optimizing import Optimizer

LAYERS = 3
NUMBERED = re.compile(r"(?:^|\.)(?:layers?|h)\.(\d+)\.")
PACKED = ["bert", "roberta", "electra", "distilbert", "modernbert"]
PADDED = ["deberta-v2", "mpnet", "llama", "gpt2", "xlnet"]


def depth_by_name(name: str) -> int:
    """As papers count: embeddings 0, then layers from 1; a final normalisation belongs to the last layer."""
    if layer := NUMBERED.search(name):
        return int(layer[1]) + 1
    return LAYERS if name.rpartition(".")[0].rpartition(".")[2] in ("final_norm", "norm", "ln_f") else 0


@pytest.mark.parametrize("kind", PACKED + PADDED)
def test_every_parameter_has_the_rate_of_its_layer(kind: str) -> None:
    model = small_model(kind)
    if kind == "modernbert":  # its embeddings end with a `norm` too
        assert rate_shares(model, 0.5)[model.embeddings.norm.weight] == 0.5**LAYERS
        model.embeddings.norm = None
    shares = rate_shares(model, 0.5)
    expected = {name: 0.5 ** (LAYERS - depth_by_name(name)) for name, _ in model.named_parameters()}
    assert {name: shares[parameter] for name, parameter in model.named_parameters()} == expected


def test_layers_that_share_their_weights_count_as_one() -> None:
    assert set(rate_shares(small_model("albert"), 0.5).values()) == {0.5, 1.0}


def test_lists_of_lists_of_layers_are_counted_through() -> None:
    shares = rate_shares(small_model("funnel"), 0.5)
    assert sorted(set(shares.values())) == [0.5**depth for depth in range(4, -1, -1)]


def updated(model: nn.Module, gradients: dict[str, Tensor], decay: float) -> dict[str, Tensor]:
    """AdamW as transformers users write it: a group of parameters for each of them."""
    groups = [
        {
            "params": [parameter],
            "lr": 1e-3 * decay ** (LAYERS - depth_by_name(name)),
            "weight_decay": 0.1 if parameter.ndim >= 2 else 0.0,
        }
        for name, parameter in model.named_parameters()
    ]
    adam = torch.optim.AdamW(groups)
    for _ in range(3):
        for name, parameter in model.named_parameters():
            parameter.grad = gradients[name].clone()
        adam.step()
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("kind", ["bert", "electra", "gpt2"])
@pytest.mark.parametrize("decay", [1.0, 0.7])
def test_weights_move_as_with_a_group_for_each_parameter(kind: str, decay: float) -> None:
    torch.manual_seed(0)
    model = small_model(kind)
    gradients = {name: torch.randn_like(parameter) for name, parameter in model.named_parameters()}
    start = {name: value.clone() for name, value in model.state_dict().items()}
    expected = updated(model, gradients, decay)
    model.load_state_dict(start)
    encoder = wrap(model, torch.device("cpu"))
    settings = small(l2=0.1, clip=0.0, schedule="constant", warmup=0.0, lr={"encoder": 1e-3})
    optimizer = Optimizer({"encoder": encoder.flat}, settings, 3, rate_shares(model, decay))
    for step in range(3):
        ours = optimizer.gradients["encoder"]
        if encoder.flat.table is not None:
            ours.read_rows(torch.arange(len(encoder.flat.table)))
        for name, parameter in model.named_parameters():
            ours.places()[parameter].copy_(gradients[name])
        optimizer.step(step, ["encoder"])
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, expected[name], rtol=0, atol=1e-6, msg=name)


def test_without_decay_the_encoder_has_three_leaves() -> None:
    """The table, all matrices, all vectors: what checkpoints of before have moments of."""
    flat = wrap(small_model("bert"), torch.device("cpu")).flat
    optimizer = Optimizer({"encoder": flat}, small(l2=0.1), 1)
    assert [leaf.ndim for leaf in optimizer._all_leaves()] == [1, 2, 1]


def test_the_heads_keep_their_rate(tmp_path: Path) -> None:
    training = Training(small(lr={"heads": 0.5, "layer_decay": 0.5}), Notebook(tmp_path))
    leaves = {id(leaf) for leaf, _ in training.optimizer._leaves["similarity"]}
    groups = [
        group for group in training.optimizer._adam.param_groups if {*map(id, group["params"])} & leaves
    ]
    assert {group["peak"] for group in groups} == {0.5}


def test_parallel_lists_are_layers_together() -> None:
    """XLM keeps attentions, feed-forward layers and normalisations in lists of their own."""
    model = XLMModel(XLMConfig(vocab_size=20, emb_dim=8, n_layers=3, n_heads=2))
    shares = {name: rate_shares(model, 0.5)[parameter] for name, parameter in model.named_parameters()}
    assert shares["embeddings.weight"] == 0.5**3
    for kind in ("attentions.{}.q_lin", "ffns.{}.lin1", "layer_norm2.{}"):
        assert [shares[f"{kind.format(layer)}.weight"] for layer in range(3)] == [0.25, 0.5, 1.0]


def test_an_encoder_without_layers_is_refused() -> None:
    with pytest.raises(BadInput, match="no list of layers"):
        rate_shares(nn.Linear(2, 2), 0.9)
