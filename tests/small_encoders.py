"""Small random encoders of many families, as transformers makes them, and folders with a tokenizer."""

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModel, BertTokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(45))]
VOCABULARY = len(WORDS)
POSITIONS = 16  # tokens of a sentence at most

_BERT = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 40}
_BEHIND_PADDING = {**_BERT, "max_position_embeddings": POSITIONS + 2, "pad_token_id": 1, "type_vocab_size": 1}
_SHORT = {"max_position_embeddings": POSITIONS, "pad_token_id": 0}
SIZES: dict[str, dict[str, Any]] = {
    "bert": {**_BERT, **_SHORT},
    "roberta": _BEHIND_PADDING,
    "xlm-roberta": _BEHIND_PADDING,
    "camembert": _BEHIND_PADDING,
    "data2vec-text": _BEHIND_PADDING,
    "electra": {**_BERT, **_SHORT, "embedding_size": 12},
    "distilbert": {"dim": 24, "n_layers": 3, "n_heads": 4, "hidden_dim": 40, **_SHORT},
    "modernbert": {**_BERT, **_SHORT, "num_hidden_layers": 4, "local_attention": 6},
    "deberta-v2": {**_BERT, **_SHORT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "albert": {**_BERT, **_SHORT, "embedding_size": 12},
    "funnel": {"d_model": 24, "n_head": 4, "d_head": 6, "d_inner": 40, "block_sizes": [1, 1]},
    "gpt2": {"n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": POSITIONS},
    "llama": {**_BERT, **_SHORT},
    "xlnet": {"d_model": 24, "n_layer": 2, "n_head": 4, "d_inner": 40},
    "t5": {"d_model": 24, "num_layers": 1, "num_heads": 4, "d_ff": 40, "d_kv": 6},
}
_SPECIAL = {"bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}


def small_model(kind: str, dropout: float = 0.0, **changes: Any) -> Any:
    """Return a model of `kind` in training mode, with weights large enough for attention to matter."""
    from ablate.trainer.encoders.configuration import set_dropout

    config: Any = AutoConfig.for_model(
        kind, **{"vocab_size": VOCABULARY, **_SPECIAL, **SIZES[kind], **changes}
    )
    set_dropout(config, dropout)
    # AutoModel does not know a Funnel without `architectures`.
    made: Any = transformers.FunnelModel if kind == "funnel" else AutoModel.from_config
    model = made(config)
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    for name, parameter in model.named_parameters():
        centre = 1.0 if parameter.ndim == 1 and name.endswith("orm.weight") else 0.0
        torch.nn.init.normal_(parameter, mean=centre, std=0.2 if parameter.ndim == 1 else 0.3)
    return model.train()


def save_encoder(folder: Path, kind: str, **changes: Any) -> Path:
    """Write an encoder of `kind` with its tokenizer into `folder`, and return it."""
    torch.manual_seed(0)
    small_model(kind, **changes).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def save_tokenizer(folder: Path) -> None:
    BertTokenizer(vocab={word: number for number, word in enumerate(WORDS)}).save_pretrained(folder)
