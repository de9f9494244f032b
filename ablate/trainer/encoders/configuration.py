"""Reads a pretrained encoder's configuration, refuses encoders that do not fit the study, and sets dropout."""

from typing import Any

from ablate.errors import BadInput
from ablate.trainer.data.pretrained import load_pretrained
from ablate.trainer.encoders.packed_families import FAMILIES
from ablate.trainer.settings import Settings

IF_BROKEN = ("does not load", "; give a folder with config.json and model.safetensors")
# Encoders that number positions from the padding token's id + 1, so that the positions up to that id are unusable.
_POSITIONS_BEHIND_PADDING = {
    *(name for name, family in FAMILIES.items() if family.behind_padding),
    *("mpnet", "longformer", "roberta-prelayernorm", "xlm-roberta-xl", "xmod", "ibert", "luke"),
}
# transformers lists these with the causal models, since they can generate text, but they attend to both sides.
_NOT_CAUSAL = {"bert-generation", "xlnet"}


def read_config(encoder: str) -> Any:
    """Return the configuration of a pretrained encoder.

    Raises:
        BadInput: the folder is missing or has no encoder of sentences.
        Unavailable: a hub name that is neither cached nor downloadable.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES

    config = load_pretrained(AutoConfig, encoder, *IF_BROKEN)
    kind = config.model_type
    # A saved T5 encoder or decoder says `is_encoder_decoder: false`, but AutoModel builds both.
    if getattr(config, "is_encoder_decoder", False) or kind in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        raise BadInput(
            f"encoder: {encoder}: {kind} is an encoder-decoder, not a sentence encoder; use a BERT-like model"
        )
    if not hasattr(config, "hidden_size"):
        raise BadInput(f"encoder: {encoder}: {kind} is not a sentence encoder; use a BERT-like model")
    return config


def refuse_misfits(settings: Settings, config: Any, vocab_size: int) -> None:
    """Raise BadInput, with every reason, if the encoder does not fit its tokenizer or the settings.

    Args:
        settings: of the trial.
        config: the encoder's.
        vocab_size: tokens that its tokenizer has.
    """
    encoder, faults = settings.encoder, []
    if settings.pooling == "cls" and is_causal(config):
        faults.append(
            f"pooling: {encoder} ({config.model_type}) is causal: its first token sees no other, so "
            "`pooling: cls` would embed a sentence by its first token alone; use `pooling: last` or `pooling: mean`"
        )
    positions = positions_of(config)
    if positions is not None and settings.max_length > positions:
        faults.append(
            f"max_length: {encoder} has {positions} positions, found {settings.max_length}; use {positions} or less"
        )
    if vocab_size > config.vocab_size:
        faults.append(
            f"encoder: {encoder}: its tokenizer has {vocab_size} tokens but its weights have {config.vocab_size}; "
            "they do not belong together"
        )
    if faults:
        raise BadInput(*faults)


def is_causal(config: Any) -> bool:
    """Return whether tokens see only what is to their left."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    if getattr(config, "is_decoder", False):
        return True
    # Some language models were turned into encoders.
    if getattr(config, "use_bidirectional_attention", None) in (True, "all"):
        return False
    generates = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    bidirectional = config.model_type in {*MODEL_FOR_MASKED_LM_MAPPING_NAMES, *_NOT_CAUSAL}
    return generates and not bidirectional


def positions_of(config: Any) -> int | None:
    """Return the largest number of tokens of a sentence; None if there is no limit."""
    positions: int | None = getattr(config, "max_position_embeddings", None)
    # XLNet has -1: its number of positions is not limited.
    if positions is None or positions < 0:
        return None
    return (
        positions - config.pad_token_id - 1 if config.model_type in _POSITIONS_BEHIND_PADDING else positions
    )


def set_dropout(config: Any, probability: float) -> None:
    """Set every dropout probability in `config`, and in configurations inside it, whatever it is called there.

    `layerdrop` and `drop_path_rate` leave out whole layers and stay as they are.
    """
    from transformers import PreTrainedConfig

    for name, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            set_dropout(value, probability)
        named = "dropout" in name or name.endswith("_pdrop")
        if named and isinstance(value, int | float) and not isinstance(value, bool):
            setattr(config, name, probability)
