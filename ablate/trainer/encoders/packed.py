"""BERT without padding: the weights of a Hugging Face `BertModel`, the same maths, a backward pass written by hand.

The sentences of a batch lie end to end in one row of tokens, so dense layers see real tokens only. Attention runs on groups of
sentences of similar length; only there is padding, for a few tokens. Where one token stands for its sentence (`pooling` "cls" or
"last"), the last layer computes that token only.

Weight gradients are written straight to where the optimizer reads them, separately for each task if needed. That is still one
pass for all tasks, since their tokens are disjoint.

Models that it would compute differently are refused (`unsupported` says why). Token types are all 0; the pooler is not used.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from ablate.trainer.encoders.flat_parameters import ALL, Gradients
from ablate.trainer.encoders.packed_ops import (
    Attention,
    Dropout,
    Layout,
    Linear,
    Norm,
    Share,
    add_rows,
    lay_out,
    score_dtype,
)
from ablate.trainer.encoders.padded import Pooling


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

    It shares the model's modules: parameters keep their names, shapes and storage, `state_dict()` is the model's without its
    pooler, and the model's `save_pretrained` saves what is trained here.

    Backward writes to the given `Gradients`, or else adds to the `.grad` of the parameters that require gradients (creating it if
    it is None), as `loss.backward()` does; `torch.autograd.grad` and hooks on parameters do not work. The weights must not change
    between a forward pass and its backward pass.

    Under `torch.autocast` matmuls and everything between them are in its dtype; residuals, normalisation, weights and their
    gradients stay in the dtype of the weights. Dropout draws once per forward pass from the device's default generator.

    Raises:
        ValueError: the model would be computed differently.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        if reason := unsupported(model.config):
            raise ValueError(f"PackedBert cannot compute this model: {reason}; use the plain path")
        self.config = model.config
        self.embeddings = model.embeddings
        self.encoder = model.encoder
        self._copies: dict[nn.Linear, Tensor] = {}
        self.train(model.training)

    @property
    def words(self) -> Tensor:
        """The word embeddings [vocabulary, hidden]: the table of this module's `Flat`."""
        table: Tensor = self.embeddings.word_embeddings.weight
        return table

    def hf_state_dict(self) -> dict[str, Tensor]:
        """Return the weights under the names of `BertModel(config, add_pooling_layer=False)`."""
        return dict(self.state_dict())

    def forward(
        self,
        tokens: Tensor,
        lengths: Sequence[int] | np.ndarray | Tensor,
        pooling: Pooling = "cls",
        gradients: Gradients | None = None,
        counts: Mapping[str, int] = MappingProxyType({}),
    ) -> Tensor:
        """Embed sentences.

        Args:
            tokens: [total] token ids, sentence after sentence, special tokens included.
            lengths: [sentences] tokens of each, at least 1; their sum is `total`.
            pooling: the last hidden state of the first or of the last token, or the mean over the sentence's tokens.
            gradients: backward overwrites these; None: it adds to `.grad`.
            counts: number of sentences, at least 1, of each owner of `gradients` in turn; owners without sentences get gradients
                of 0. By default all sentences belong to `ALL`.

        Returns:
            [sentences, hidden], in the order given, in the dtype of the weights.

        Raises:
            ValueError: `lengths` does not match `tokens`, or a sentence has more tokens than the model has positions.
        """
        lengths = np.asarray(lengths, dtype=np.int64)
        longest = self.config.max_position_embeddings
        if lengths.size == 0 or lengths.min() < 1 or lengths.max() > longest or lengths.sum() != len(tokens):
            raise ValueError(
                f"lengths must be 1 to {longest} and sum to the number of tokens, {len(tokens)}; "
                f"found {lengths.size} lengths from {lengths.min(initial=longest)} to {lengths.max(initial=0)} "
                f"with sum {lengths.sum()}"
            )
        counts = counts or {ALL: lengths.size}
        if min(counts.values()) < 1 or sum(counts.values()) != lengths.size:
            raise ValueError(f"counts must sum to {lengths.size} sentences, found {dict(counts)}")
        table, device = self.words, self.words.device
        amp = torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if amp else table.dtype
        layout = lay_out(lengths, self.config.num_attention_heads, device)
        words = None
        if gradients is not None:
            words = torch.unique(tokens).to(device, torch.long)
            gradients.read_rows(words)
            gradients.clear(set(gradients.owners) - set(counts))
        shares = _shares(lengths, counts, gradients)
        trained = next((parameter for parameter in self.parameters() if parameter.requires_grad), table)
        with torch.autocast(device.type, enabled=False):
            keep = trained.requires_grad and torch.is_grad_enabled()
            run = _Pass(self, layout, shares, words, pooling, dtype, keep)
            embedded: Tensor = _Encode.apply(trained, run, tokens.to(device, torch.long))  # type: ignore[no-untyped-call]
        return embedded

    def weights(self, dtype: torch.dtype) -> dict[nn.Linear, Tensor]:
        """Return each dense layer's weight in `dtype`: its own, or a copy made now.

        Copies reuse the memory of the previous pass: allocating would cost more than copying.
        """
        layers = [module for module in self.encoder.modules() if isinstance(module, nn.Linear)]
        own = {layer: layer.weight.detach() for layer in layers}
        if all(weight.dtype == dtype for weight in own.values()):
            return own
        for layer, weight in own.items():
            copy = self._copies.get(layer)
            if copy is None or copy.dtype != dtype or copy.device != weight.device:
                copy = self._copies[layer] = torch.empty_like(weight, dtype=dtype)
            copy.copy_(weight)
        return self._copies


def _shares(
    lengths: NDArray[np.int64], counts: Mapping[str, int], gradients: Gradients | None
) -> list[Share]:
    """Return the share of each owner in `counts`: its slice of the sentences, and where its gradients go."""
    ends, last = np.cumsum(lengths), 0
    shares = []
    for owner, count in counts.items():
        first, last = last, last + count
        rows = slice(int(ends[first] - lengths[first]), int(ends[last - 1]))
        places = None if gradients is None else gradients.places(owner)
        shares.append(Share({int(ends[-1]): rows, lengths.size: slice(first, last)}, places))
    return shares


class _Encode(torch.autograd.Function):
    """The whole encoder as one node of the graph. `trained` is a parameter that makes autograd call backward."""

    @staticmethod
    def forward(ctx: Any, trained: Tensor, run: "_Pass", tokens: Tensor) -> Tensor:
        ctx.run = run
        return run.forward(tokens)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dpooled: Tensor) -> tuple[None, None, None]:
        if ctx.run is None:
            raise RuntimeError("PackedBert cannot run backward twice; call forward again")
        run, ctx.run = ctx.run, None
        with torch.autocast(dpooled.device.type, enabled=False):
            run.backward(dpooled)
        return None, None, None


class _Pass:
    """One forward pass through the encoder and, if `keep`, its backward pass."""

    def __init__(
        self,
        bert: PackedBert,
        layout: Layout,
        shares: Sequence[Share],
        words: Tensor | None,  # the rows of the word table that gradients are kept of; None: all
        pooling: Pooling,
        dtype: torch.dtype,
        keep: bool,
    ) -> None:
        self.bert, self.layout, self.shares, self.words = bert, layout, shares, words
        self.dtype, self.keep = dtype, keep
        self.weights = bert.weights(dtype)
        self.layers: list[_Layer] = []
        # The tokens that stand for their sentences; None: all do.
        first, last = layout.firsts, layout.firsts + layout.lengths - 1
        self.chosen = {"cls": first, "last": last, "mean": None}[pooling]
        config = bert.config
        self.hidden_dropout = config.hidden_dropout_prob if bert.training else 0.0
        self.attention_dropout = config.attention_probs_dropout_prob if bert.training else 0.0
        depth, hidden = config.num_hidden_layers, len(layout.positions) * config.hidden_size
        scores = layout.heads * sum(group.count * group.longest**2 for group in layout.groups)
        hidden_elements = (2 * depth + 1) * hidden if self.hidden_dropout else 0
        score_elements = depth * scores if self.attention_dropout else 0
        self.dropout = Dropout(hidden_elements + score_elements, layout.positions.device)

    def forward(self, tokens: Tensor) -> Tensor:
        """[tokens] -> [sentences, hidden]."""
        x = self._embed(tokens)
        modules = self.bert.encoder.layer
        for index, module in enumerate(modules, start=1):
            layer = _Layer(module, self, self.chosen if index == len(modules) else None)
            x = layer.forward(x)
            if self.keep:
                self.layers.append(layer)
        # Its bits are no longer needed: all masks are made.
        del self.dropout
        if self.chosen is not None:
            return x
        layout = self.layout
        sums = add_rows(x.new_zeros(len(layout.lengths), x.shape[1]), layout.sentences, x)
        return sums / layout.lengths[:, None]

    def backward(self, dpooled: Tensor) -> None:
        """Add the gradients of all weights, given that of the embeddings [sentences, hidden]."""
        dx = dpooled
        if self.chosen is None:
            dx = (dx / self.layout.lengths[:, None])[self.layout.sentences]
        while self.layers:
            dx = self.layers.pop().backward(dx)
        self._embed_backward(dx)

    def _embed(self, tokens: Tensor) -> Tensor:
        tables = self.bert.embeddings
        x = tables.word_embeddings.weight[tokens] + tables.token_type_embeddings.weight[0]
        x += tables.position_embeddings.weight[self.layout.positions]
        self.tokens, self.norm = tokens, Norm(tables.LayerNorm, self.shares)
        self.mask = self.dropout.mask(x.shape, self.hidden_dropout, x.dtype)
        return self.mask.drop(self.norm.forward(x))

    def _embed_backward(self, dx: Tensor) -> None:
        tables = self.bert.embeddings
        dx = self.norm.backward(self.mask.drop(dx))
        types, words = tables.token_type_embeddings.weight, tables.word_embeddings.weight
        # The padding token is not trained, wherever it occurs.
        padding = tables.word_embeddings.padding_idx
        dwords = dx if padding is None else dx * (self.tokens != padding)[:, None]
        rows = self.tokens if self.words is None else torch.searchsorted(self.words, self.tokens)
        for share in self.shares:
            share.put_rows(tables.position_embeddings.weight, self.layout.positions, dx)
            # Only token type 0 occurs.
            of_type_0 = share.of(dx).sum(0, keepdim=True)
            share.put(types, functional.pad(of_type_0, (0, 0, 0, len(types) - 1)))
            share.put_rows(words, rows, dwords)


class _Layer:
    """One layer. Given `chosen`, one token of each sentence, it computes only those, from the keys and values of all tokens.

    Residuals and normalisation are in the dtype of the weights, everything else in the dtype of the pass.
    """

    def __init__(self, module: Any, run: _Pass, chosen: Tensor | None) -> None:
        self.run, self.chosen = run, chosen
        inside, outside = module.attention.self, module.attention.output

        def linear(layer: nn.Linear) -> Linear:
            return Linear(layer, run.weights[layer], run.shares)

        self.query, self.key, self.value = linear(inside.query), linear(inside.key), linear(inside.value)
        self.output = linear(outside.dense)
        self.up, self.down = linear(module.intermediate.dense), linear(module.output.dense)
        self.attention = Attention(run.layout, one_query=chosen is not None)
        self.norm1, self.norm2 = (
            Norm(outside.LayerNorm, run.shares),
            Norm(module.output.LayerNorm, run.shares),
        )

    def forward(self, x: Tensor) -> Tensor:
        """[tokens, hidden] -> [tokens, hidden], or [sentences, hidden] of the chosen tokens."""
        run, low = self.run, x.to(self.run.dtype)
        asking, residual = low, x
        if self.chosen is not None:
            asking, residual = low[self.chosen], x[self.chosen]
        query, key, value = self.query.forward(asking), self.key.forward(low), self.value.forward(low)
        mask = run.dropout.mask((self.attention.scores,), run.attention_dropout, score_dtype(query))
        output = self.output.forward(self.attention.forward(query, key, value, mask))
        self.mask1 = run.dropout.mask(residual.shape, run.hidden_dropout, x.dtype)
        y = self.norm1.forward(self.mask1.drop_and_add(output.to(x.dtype), residual))
        self.wide = self.up.forward(y.to(run.dtype))
        down = self.down.forward(functional.gelu(self.wide))
        self.mask2 = run.dropout.mask(residual.shape, run.hidden_dropout, x.dtype)
        return self.norm2.forward(self.mask2.drop_and_add(down.to(x.dtype), y))

    def backward(self, dz: Tensor) -> Tensor:
        """The gradient of the output -> the gradient of the input, [tokens, hidden]."""
        dtype = self.run.dtype
        dsum2 = self.norm2.backward(dz)
        ddown = self.mask2.drop(dsum2).to(dtype)
        dwide = torch.ops.aten.gelu_backward(self.down.backward(ddown), self.wide)
        dsum1 = self.norm1.backward(dsum2 + self.up.backward(dwide))
        doutput = self.mask1.drop(dsum1).to(dtype)
        dquery, dkey, dvalue = self.attention.backward(self.output.backward(doutput))
        dx = self.key.backward(dkey) + self.value.backward(dvalue)
        dasking = dsum1 + self.query.backward(dquery)
        if self.chosen is None:
            return dasking + dx
        dx = dx.to(dz.dtype)
        dx[self.chosen] += dasking
        return dx
