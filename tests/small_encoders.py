"""Random encoders of many families, as transformers makes them, and folders with a tokenizer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModel, BertTokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(45))]
VOCABULARY = len(WORDS)
POSITIONS = 16  # tokens of a sentence at most


@dataclass(frozen=True)
class Shape:
    """How large an encoder is."""

    vocabulary: int = VOCABULARY
    positions: int = POSITIONS
    hidden: int = 24
    layers: int = 3
    heads: int = 4
    inner: int = 40
    window: int = 6  # of local attention, both sides together

    def of(self, kind: str) -> dict[str, Any]:
        """Return this shape in the words of a family's configuration."""
        bert = {
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": self.inner,
        }
        short = {"max_position_embeddings": self.positions, "pad_token_id": 0}
        behind_padding = {"max_position_embeddings": self.positions + 2, "pad_token_id": 1}
        narrow = {"embedding_size": self.hidden // 2}
        disentangled = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
        distilled = {
            "dim": self.hidden,
            "n_layers": self.layers,
            "n_heads": self.heads,
            "hidden_dim": self.inner,
        }
        funnel = {"n_head": self.heads, "d_head": self.hidden // self.heads, "d_inner": self.inner}
        sizes = {"vocab_size": self.vocabulary, "bos_token_id": 2, "eos_token_id": 3}
        sizes |= {"cls_token_id": 2, "sep_token_id": 3}
        kinds: dict[str, dict[str, Any]] = {
            "bert": {**bert, **short},
            "roberta": {**bert, **behind_padding},
            "xlm-roberta": {**bert, **behind_padding},
            "camembert": {**bert, **behind_padding},
            "data2vec-text": {**bert, **behind_padding},
            "mpnet": {**bert, **behind_padding},
            "electra": {**bert, **short, **narrow},
            "distilbert": {**distilled, **short},
            "modernbert": {**bert, **short, "local_attention": self.window},
            "deberta-v2": {**bert, **short, **disentangled},
            "albert": {**bert, **short, **narrow},
            "funnel": {**funnel, "d_model": self.hidden, "block_sizes": [1] * (self.layers - 1)},
            "gpt2": {
                **{"n_embd": self.hidden, "n_layer": self.layers, "n_head": self.heads},
                "n_positions": self.positions,
            },
            "llama": {**bert, **short},
            "xlnet": {
                **{"d_model": self.hidden, "n_layer": self.layers, "n_head": self.heads},
                "d_inner": self.inner,
            },
            "t5": {"d_model": self.hidden, "num_layers": 1, "num_heads": self.heads, "d_ff": self.inner},
        }
        return sizes | kinds[kind]


def build(kind: str, shape: Shape, dropout: float = 0.0, **changes: Any) -> Any:
    """Return a model of `kind` in training mode, without a pooler, with the weights transformers draws."""
    from ablate.trainer.encoders.configuration import set_dropout

    config: Any = AutoConfig.for_model(kind, **{**shape.of(kind), **changes})
    set_dropout(config, dropout)
    # AutoModel does not know a Funnel without `architectures`.
    made: Any = transformers.FunnelModel if kind == "funnel" else AutoModel.from_config
    model = made(config)
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    return model.train()


def small_model(kind: str, dropout: float = 0.0, **changes: Any) -> Any:
    """Return a small model with weights large enough for attention to matter."""
    model = build(kind, Shape(), dropout, **changes)
    for name, parameter in model.named_parameters():
        centre = 1.0 if parameter.ndim == 1 and name.endswith("orm.weight") else 0.0
        torch.nn.init.normal_(parameter, mean=centre, std=0.2 if parameter.ndim == 1 else 0.3)
    return model


def save_encoder(folder: Path, kind: str, **changes: Any) -> Path:
    """Write a small encoder of `kind` with its tokenizer into `folder`, and return it."""
    torch.manual_seed(0)
    small_model(kind, **changes).save_pretrained(folder)
    BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)}).save_pretrained(folder)
    return folder
