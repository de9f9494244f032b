"""BERT without padding: the weights of a Hugging Face `BertModel`, the same maths, a backward pass by hand.

The sentences of a batch lie end to end in one row of tokens, so dense layers see real tokens only. Inside the
batch they are sorted by length, and attention runs on each group of equal lengths: no mask and no padding there
either. With `pooling="cls"` the last layer computes first tokens only.

Weight gradients are added straight into the parameters' `.grad`, without temporaries: parameters may be views of
one flat buffer and their `.grad` views of another, and one `backward()` fills it.

Refuses what it would compute differently (`unsupported` says why). Token types are all 0; the pooler is not used.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ablate.trainer.packed_ops import (
    Attention,
    Dropout,
    DropoutAddNorm,
    Layout,
    Linear,
    add_rows,
    add_sum,
    gradient_of,
    lay_out,
)

Pooling = Literal["cls", "mean"]


def unsupported(config: Any) -> str | None:
    """Return why an encoder with this Hugging Face config needs the plain path; None if it can be packed."""
    if config.model_type != "bert":
        return f"model type {config.model_type!r} is not 'bert'"
    if config.hidden_act != "gelu":
        return f"activation {config.hidden_act!r} is not 'gelu'"
    if getattr(config, "position_embedding_type", "absolute") != "absolute":
        return f"position embeddings {config.position_embedding_type!r} are not 'absolute'"
    if getattr(config, "is_decoder", False):
        return "a decoder attends to the left only"
    return None


class PackedBert(nn.Module):
    """The encoder of a `transformers.BertModel`, computed without padding.

    It shares the model's modules: parameters have the names, shapes and storage that they have there, `state_dict()`
    is the model's without its pooler, and what is trained here is saved by the model's `save_pretrained`.

    Backward adds to `.grad` of the parameters that require gradients (and makes it where it is None), as
    `loss.backward()` does elsewhere; `torch.autograd.grad` and hooks on parameters see nothing.

    Under `torch.autocast` matmuls and what lies between them are in its dtype; residuals, normalisation, weights and
    their gradients stay in the weights' own. Dropout draws once per forward pass from the device's default generator.

    Raises:
        ValueError: the model is of a kind that would be computed differently.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        if reason := unsupported(model.config):
            raise ValueError(f"PackedBert cannot compute this model: {reason}; use the plain path")
        self.config = model.config
        self.embeddings = model.embeddings
        self.encoder = model.encoder
        self.train(model.training)

    @classmethod
    def from_hf(cls, model: Any) -> "PackedBert":
        """Wrap a `transformers.BertModel`; the two share their weights from now on."""
        return cls(model)

    def hf_state_dict(self) -> dict[str, Tensor]:
        """Return the weights under the names of `BertModel(config, add_pooling_layer=False)`."""
        return dict(self.state_dict())

    def forward(
        self, tokens: Tensor, lengths: Sequence[int] | np.ndarray | Tensor, pooling: Pooling = "cls"
    ) -> Tensor:
        """Embed sentences.

        Args:
            tokens: [total] token ids, sentence after sentence, special tokens included.
            lengths: [sentences] tokens of each, at least 1; their sum is `total`.
            pooling: the first token's last hidden state, or the mean over the sentence's tokens.

        Returns:
            [sentences, hidden], in the order given, in the dtype of the weights.

        Raises:
            ValueError: `lengths` and `tokens` do not fit, or a sentence is longer than the model's positions.
        """
        lengths = np.asarray(lengths, dtype=np.int64)
        longest = self.config.max_position_embeddings
        if lengths.size == 0 or lengths.min() < 1 or lengths.max() > longest or lengths.sum() != len(tokens):
            raise ValueError(
                f"lengths must be 1 to {longest} and sum to the number of tokens, {len(tokens)}; "
                f"found {lengths.size} lengths from {lengths.min(initial=longest)} to {lengths.max(initial=0)} "
                f"with sum {lengths.sum()}"
            )
        words = self.embeddings.word_embeddings.weight
        device = words.device
        amp = torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if amp else words.dtype
        layout = lay_out(lengths, self.config.num_attention_heads, device)
        with torch.autocast(device.type, enabled=False):
            embedded: Tensor = _Encode.apply(words, self, tokens.to(device), layout, pooling, dtype)
        return embedded


class _Encode(torch.autograd.Function):
    """The whole encoder as one node of the graph. `words` is there for autograd to call backward."""

    @staticmethod
    def forward(
        ctx: Any, words: Tensor, bert: PackedBert, tokens: Tensor, layout: Layout, pooling: Pooling, dtype: torch.dtype
    ) -> Tensor:
        run = _Pass(bert, layout, pooling, dtype, bert.training, keep=any(ctx.needs_input_grad))
        ctx.run = run
        return run.forward(tokens)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, dpooled: Tensor) -> tuple[None, ...]:
        with torch.autocast(dpooled.device.type, enabled=False):
            ctx.run.backward(dpooled)
        return (None,) * 6


class _Pass:
    """One forward pass through all layers and, with `keep`, the way back."""

    def __init__(
        self, bert: PackedBert, layout: Layout, pooling: Pooling, dtype: torch.dtype, training: bool, keep: bool
    ) -> None:
        self.bert, self.layout, self.pooling, self.dtype, self.keep = bert, layout, pooling, dtype, keep
        config = bert.config
        self.hidden_dropout = config.hidden_dropout_prob if training else 0.0
        self.attention_dropout = config.attention_probs_dropout_prob if training else 0.0
        self.layers: list[_Layer] = []
        scores = config.num_attention_heads * sum(group.count * group.length**2 for group in layout.groups)
        hidden = len(layout.gather) * config.hidden_size
        depth = config.num_hidden_layers
        elements = (2 * depth + 1) * hidden * (self.hidden_dropout > 0) + depth * scores * (self.attention_dropout > 0)
        self.dropout = Dropout(elements, layout.gather.device)

    def mask(self, shape: tuple[int, ...], probability: float, dtype: torch.dtype) -> tuple[Tensor | None, float]:
        return self.dropout.mask(shape, probability, dtype)

    def forward(self, tokens: Tensor) -> Tensor:
        """[tokens] -> [sentences, hidden], in the caller's order of sentences."""
        x = self._embed(tokens[self.layout.gather])
        modules = self.bert.encoder.layer
        for index, module in enumerate(modules):
            firsts_only = self.pooling == "cls" and index == len(modules) - 1
            layer = _Layer(module, self, firsts_only)
            x = layer.forward(x)
            if self.keep:
                self.layers.append(layer)
        pooled = torch.empty_like(x[: len(self.layout.order)])
        pooled[self.layout.order] = x if self.pooling == "cls" else self._means(x)
        return pooled

    def backward(self, dpooled: Tensor) -> None:
        """Add the gradients of all weights for dpooled [sentences, hidden]."""
        dx = dpooled[self.layout.order]
        if self.pooling == "mean":
            dx = self._means_backward(dx)
        while self.layers:
            dx = self.layers.pop().backward(dx)
        self._embed_backward(dx)

    def _means(self, x: Tensor) -> Tensor:
        groups = self.layout.groups
        parts = x.split([group.count * group.length for group in groups])
        return torch.cat([part.view(g.count, g.length, -1).mean(1) for part, g in zip(parts, groups, strict=True)])

    def _means_backward(self, dmeans: Tensor) -> Tensor:
        groups = self.layout.groups
        parts = dmeans.split([group.count for group in groups])
        each = [(part / g.length).repeat_interleave(g.length, 0) for part, g in zip(parts, groups, strict=True)]
        return torch.cat(each)

    def _embed(self, tokens: Tensor) -> Tensor:
        tables, positions = self.bert.embeddings, self.layout.positions
        x = tables.word_embeddings.weight[tokens] + tables.token_type_embeddings.weight[0]
        x += tables.position_embeddings.weight[positions]
        norm = tables.LayerNorm
        self.tokens, self.embedded = tokens, x
        normal, self.mean, self.rstd = torch.native_layer_norm(
            x, norm.normalized_shape, norm.weight, norm.bias, norm.eps
        )
        self.embedding_mask, self.embedding_scale = self.mask(x.shape, self.hidden_dropout, x.dtype)
        return normal if self.embedding_mask is None else (normal * self.embedding_mask).mul_(self.embedding_scale)

    def _embed_backward(self, dx: Tensor) -> None:
        tables, norm = self.bert.embeddings, self.bert.embeddings.LayerNorm
        if self.embedding_mask is not None:
            dx = (dx * self.embedding_mask).mul_(self.embedding_scale)
        dx, dweight, dbias = torch.ops.aten.native_layer_norm_backward(
            dx, self.embedded, norm.normalized_shape, self.mean, self.rstd, norm.weight, norm.bias, [True] * 3
        )
        gradient_of(norm.weight).add_(dweight)
        gradient_of(norm.bias).add_(dbias)
        add_rows(tables.word_embeddings.weight, self.tokens, dx)
        add_rows(tables.position_embeddings.weight, self.layout.positions, dx)
        add_rows(tables.token_type_embeddings.weight, torch.zeros_like(self.tokens), dx)


class _Layer:
    """One layer. With `firsts_only` it computes first tokens only, from the keys and values of all."""

    def __init__(self, module: Any, run: _Pass, firsts_only: bool) -> None:
        self.run, self.firsts_only = run, firsts_only
        attention = module.attention
        self.query, self.key, self.value = (Linear(getattr(attention.self, n)) for n in ("query", "key", "value"))
        self.output = Linear(attention.output.dense)
        self.up, self.down = Linear(module.intermediate.dense), Linear(module.output.dense)
        self.norm1_module, self.norm2_module = attention.output.LayerNorm, module.output.LayerNorm
        self.attention = Attention(run.layout, firsts_only)

    def forward(self, x: Tensor) -> Tensor:
        """[tokens, hidden] -> [tokens, hidden], or [sentences, hidden] for first tokens only."""
        run, dtype = self.run, self.run.dtype
        residual = x[run.layout.firsts] if self.firsts_only else x
        low = x.to(dtype)
        queries_of = residual.to(dtype) if self.firsts_only else low
        mask = run.mask((self.attention.scores,), run.attention_dropout, torch.float32)
        context = self.attention.forward(
            self.query.forward(queries_of), self.key.forward(low), self.value.forward(low), *mask
        )
        self.norm1 = DropoutAddNorm(self.norm1_module, *run.mask(residual.shape, run.hidden_dropout, x.dtype))
        y = self.norm1.forward(self.output.forward(context), residual)
        self.wide = self.up.forward(y.to(dtype))
        self.norm2 = DropoutAddNorm(self.norm2_module, *run.mask(residual.shape, run.hidden_dropout, x.dtype))
        return self.norm2.forward(self.down.forward(torch.nn.functional.gelu(self.wide)), y)

    def backward(self, dz: Tensor) -> Tensor:
        """The gradient of `forward`'s output -> that of its input."""
        dtype = self.run.dtype
        ddown, dy = self.norm2.backward(dz)
        dwide = torch.ops.aten.gelu_backward(self.down.backward(ddown.to(dtype)), self.wide)
        dy = dy + self.up.backward(dwide)
        doutput, dresidual = self.norm1.backward(dy)
        dquery, dkey, dvalue = self.attention.backward(self.output.backward(doutput.to(dtype)))
        dx = self.key.backward(dkey) + self.value.backward(dvalue)
        dresidual = dresidual + self.query.backward(dquery)
        if self.firsts_only:
            dx = dx.to(dz.dtype)
            dx[self.run.layout.firsts] += dresidual
            return dx
        return dresidual + dx
