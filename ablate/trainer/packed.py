"""BERT without padding: the weights of a Hugging Face `BertModel`, the same maths, a backward pass by hand.

The sentences of a batch lie end to end in one row of tokens, so dense layers see real tokens only. Inside the
batch they are sorted by length, and attention runs on each group of equal lengths: no mask and no padding there
either. With `pooling="cls"` the last layer computes first tokens only.

Weight gradients are added straight into the parameters' `.grad`, without temporaries: parameters may be views of
one flat buffer and their `.grad` views of another, and one `backward()` fills it.

Refuses what it would compute differently (`unsupported` says why). Token types are all 0; the pooler is not used.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

Pooling = Literal["cls", "mean"]


def unsupported(config: Any) -> str | None:
    """Return why an encoder with this Hugging Face config needs the plain path; None if it can be packed."""
    if config.model_type != "bert":
        return f"model type {config.model_type!r} is not 'bert'"
    if config.hidden_act != "gelu":
        return f"activation {config.hidden_act!r} is not 'gelu'"
    if getattr(config, "position_embedding_type", "absolute") != "absolute":
        return f"position embeddings {config.position_embedding_type!r} are not 'absolute'"
    if config.is_decoder:
        return "a decoder attends to the left only"
    return None


class PackedBert(nn.Module):
    """The encoder of a `BertModel`, computed without padding.

    It shares the model's modules: parameters have the names, shapes and storage that they have there, `state_dict()`
    is the model's without its pooler, and what is trained here is saved by the model's `save_pretrained`.

    Backward adds to `.grad` of the parameters that require gradients (and makes it where it is None), as
    `loss.backward()` does elsewhere; `torch.autograd.grad` and parameter hooks see nothing.

    Under `torch.autocast` activations and matmuls are in its dtype, weights and their gradients stay in their own.
    Dropout draws from the device's default generator, once per forward pass.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        if reason := unsupported(model.config):
            raise ValueError(f"PackedBert cannot compute this model: {reason}; use the plain path")
        self.config = model.config
        self.embeddings = model.embeddings
        self.encoder = model.encoder

    @classmethod
    def from_hf(cls, model: Any) -> "PackedBert":
        """Wrap a `transformers.BertModel`; the two share their weights from now on.

        Raises:
            ValueError: the model is of a kind that would be computed differently.
        """
        return cls(model)

    def hf_state_dict(self) -> dict[str, Tensor]:
        """Return the weights as `BertModel(config, add_pooling_layer=False)` names them."""
        return dict(self.state_dict())

    def forward(
        self, tokens: Tensor, lengths: Sequence[int] | np.ndarray | Tensor, pooling: Pooling = "cls"
    ) -> Tensor:
        """Embed sentences.

        Args:
            tokens: [total] token ids, sentence after sentence, special tokens included.
            lengths: [sentences] tokens of each, at least 1; their sum is `total`.
            pooling: the first token's last hidden state, or the mean over all tokens of a sentence.

        Returns:
            [sentences, hidden], in the order given, in the dtype of the weights.

        Raises:
            ValueError: `lengths` and `tokens` do not fit, or a sentence is longer than the model's positions.
        """
        words = self.embeddings.word_embeddings.weight
        layout = _lay_out(lengths, len(tokens), self.config.max_position_embeddings, words.device)
        device = words.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else words.dtype
        embedded: Tensor = _Encode.apply(words, self, tokens.long(), layout, pooling, dtype)
        return embedded
