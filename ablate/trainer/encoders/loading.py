"""The shared encoder: from a folder, the hub, or from scratch (`tiny`); tokens in, one embedding per sentence out.

Only safetensors are read and no code from a hub is run. The last encoder stays in memory with a copy of its pristine weights,
from which the next trial in this process starts.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ablate.errors import BadInput
from ablate.trainer.data.pretrained import TINY, load_pretrained
from ablate.trainer.encoders.configuration import IF_BROKEN, read_config, refuse_misfits, set_dropout
from ablate.trainer.encoders.flat_parameters import Flat
from ablate.trainer.encoders.packed import PackedEncoder
from ablate.trainer.encoders.packed_families import unsupported
from ablate.trainer.encoders.padded import PaddedEncoder
from ablate.trainer.settings import Settings


@dataclass
class Encoder:
    """An encoder ready to be trained."""

    module: PackedEncoder | PaddedEncoder
    config: Any  # transformers' PretrainedConfig
    flat: Flat
    pristine: Tensor  # [params], as loaded

    @property
    def hidden_size(self) -> int:
        """Size of a sentence embedding."""
        size: int = self.config.hidden_size
        return size

    @cached_property
    def pristine_sha256(self) -> str:
        """Digest of the weights as loaded."""
        return hashlib.sha256(self.pristine.cpu().numpy().data).hexdigest()


_warm: dict[tuple[Any, ...], Encoder] = {}  # holds at most one encoder


def load_encoder(settings: Settings, vocab_size: int, seed: int, device: torch.device) -> Encoder:
    """Return the encoder of `settings` with its pristine weights; those of `tiny` are drawn from `seed`.

    Calls with the same settings return the same object, so only the last one may be in use.

    Raises:
        BadInput: the folder has no encoder, its weights are damaged or not safetensors, or it has fewer tokens or positions than
            needed.
        Unavailable: a hub name that is neither cached nor downloadable.
    """
    from_scratch = settings.encoder == TINY
    drawn = (vocab_size, settings.max_length, seed) if from_scratch else ()
    key = (settings.encoder, settings.dropout, device, *drawn)
    if key in _warm:
        encoder = _warm[key]
        encoder.flat.values.copy_(encoder.pristine)
    else:
        _warm.clear()
        model = tiny(settings, vocab_size, seed) if from_scratch else _pretrained(settings, vocab_size)
        encoder = _warm[key] = wrap(model, device)
    encoder.flat.require_gradients(not settings.freeze_encoder)
    # The trial before may have been stopped during an evaluation, in eval mode.
    encoder.module.train()
    return encoder


def load_saved(folder: Path, device: torch.device) -> Encoder:
    """Return the encoder of a saved model."""
    return wrap(_load_weights(str(folder)), device)


def wrap(model: Any, device: torch.device) -> Encoder:
    """Return a transformers model as an `Encoder` on `device`."""
    # Embeddings are pooled elsewhere; weight decay would still shrink the model's own pooler.
    if getattr(model, "pooler", None) is not None:
        model.pooler = None
    model = model.float().to(device)
    module = PaddedEncoder(model) if unsupported(model.config) else PackedEncoder(model)
    flat = Flat(module, module.words)
    return Encoder(module, model.config, flat, flat.values.clone())


def tiny(settings: Settings, vocab_size: int, seed: int) -> Any:
    """Return a small BERT from scratch: 2 layers, hidden 128."""
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=vocab_size,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=512,
        max_position_embeddings=settings.max_length,
        hidden_dropout_prob=settings.dropout,
        attention_probs_dropout_prob=settings.dropout,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BertModel(config, add_pooling_layer=False)


def _pretrained(settings: Settings, vocab_size: int) -> Any:
    config = read_config(settings.encoder)
    refuse_misfits(settings, config, vocab_size)
    set_dropout(config, settings.dropout)
    return _load_weights(settings.encoder, config=config)


def _load_weights(encoder: str, **options: Any) -> Any:
    """Return the model, or refuse it if its file lacks weights: transformers would draw them at random."""
    from transformers import AutoModel

    options |= {"dtype": torch.float32, "use_safetensors": True, "output_loading_info": True}
    model, info = load_pretrained(AutoModel, encoder, *IF_BROKEN, **options)
    missing = sorted(name for name in info["missing_keys"] if not name.startswith("pooler."))
    if missing:
        raise BadInput(
            f"encoder: {encoder}: {len(missing)} of its weights are not in the file, first {missing[0]}; "
            "give the config.json that belongs to the weights"
        )
    return model
