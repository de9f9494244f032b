"""The families of encoders that are computed without padding: the paths of their modules in transformers' models, for packed.py.

A family whose layers are like BERT's or ModernBERT's is added by an entry
in `FAMILIES`; all other encoders are computed with padding (padded.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from torch import nn

from ablate.trainer.encoders.packed_ops import ACTIVATIONS


@dataclass(frozen=True)
class PostNorm:
    """Paths of the modules in a layer like BERT's: each half ends with a residual and its normalisation."""

    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    output: str = "attention.output.dense"
    norm1: str = "attention.output.LayerNorm"
    up: str = "intermediate.dense"
    down: str = "output.dense"
    norm2: str = "output.LayerNorm"


@dataclass(frozen=True)
class PreNorm:
    """Paths of the modules in a layer like ModernBERT's: halves begin with a normalisation; rotary positions; GeGLU."""

    norm1: str = "attn_norm"
    qkv: str = "attn.Wqkv"
    output: str = "attn.Wo"
    norm2: str = "mlp_norm"
    up: str = "mlp.Wi"
    down: str = "mlp.Wo"


@dataclass(frozen=True)
class Family:
    """Paths of a model's modules, and names in its configuration. None: the model does not have it."""

    # Place of dropout -> the name of its probability in the configuration. `output` comes after an attention's last dense
    # layer; `feedforward` comes after the last dense layer of a post-norm layer, and before that of a pre-norm one.
    dropouts: Mapping[str, str]
    layer: PostNorm | PreNorm = PostNorm()
    layers: str = "encoder.layer"
    words: str = "embeddings.word_embeddings"
    positions: str | None = "embeddings.position_embeddings"
    types: str | None = "embeddings.token_type_embeddings"
    norm: str = "embeddings.LayerNorm"
    # Projects from the size of the embeddings to the hidden size; models in which both are equal have none.
    projection: str | None = None
    last_norm: str | None = None
    activation: str = "hidden_act"  # its name in the configuration
    # The first token's position is the padding token's id + 1, and padding has no position of its own.
    behind_padding: bool = False

    def parts(self, model: nn.Module) -> SimpleNamespace:
        """Return the modules of `model` outside its layers; None for those that it does not have."""
        names = ("words", "positions", "types", "norm", "projection", "last_norm")
        return SimpleNamespace(**{name: _part(model, getattr(self, name)) for name in names})

    def blocks(self, model: nn.Module) -> list[SimpleNamespace]:
        """Return the modules of each layer."""
        layers: Any = model.get_submodule(self.layers)
        paths = vars(self.layer).items()
        return [SimpleNamespace(**{name: _part(layer, path) for name, path in paths}) for layer in layers]


def _part(module: nn.Module, path: str | None) -> Any:
    known = dict(module.named_modules())
    return None if path is None else known.get(path)


BERT = Family(
    dropouts={
        "embedding": "hidden_dropout_prob",
        "attention": "attention_probs_dropout_prob",
        "output": "hidden_dropout_prob",
        "feedforward": "hidden_dropout_prob",
    }
)
ROBERTA = replace(BERT, behind_padding=True)
DISTILBERT = Family(
    layer=PostNorm(
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        output="attention.out_lin",
        norm1="sa_layer_norm",
        up="ffn.lin1",
        down="ffn.lin2",
        norm2="output_layer_norm",
    ),
    layers="transformer.layer",
    types=None,
    activation="activation",
    dropouts={"embedding": "dropout", "attention": "attention_dropout", "feedforward": "dropout"},
)
MODERNBERT = Family(
    layer=PreNorm(),
    layers="layers",
    words="embeddings.tok_embeddings",
    positions=None,
    types=None,
    norm="embeddings.norm",
    last_norm="final_norm",
    activation="hidden_activation",
    dropouts={
        "embedding": "embedding_dropout",
        "attention": "attention_dropout",
        "output": "attention_dropout",
        "feedforward": "mlp_dropout",
    },
)

# By `model_type`.
FAMILIES = {
    "bert": BERT,
    "camembert": ROBERTA,
    "data2vec-text": ROBERTA,
    "distilbert": DISTILBERT,
    "electra": replace(BERT, projection="embeddings_project"),
    "modernbert": MODERNBERT,
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
}


def unsupported(config: Any) -> str | None:
    """Return why an encoder with this Hugging Face config cannot be packed; None if it can."""
    family = FAMILIES.get(config.model_type)
    if family is None:
        return f"model type {config.model_type!r} is not one of {', '.join(FAMILIES)}"
    activation = getattr(config, family.activation)
    if activation not in ACTIVATIONS:
        return f"activation {activation!r} is not one of {', '.join(ACTIVATIONS)}"
    if getattr(config, "position_embedding_type", "absolute") != "absolute":
        return f"position embeddings {config.position_embedding_type!r} are not 'absolute'"
    if getattr(config, "is_decoder", False):
        return "a decoder attends to the left only"
    return None
