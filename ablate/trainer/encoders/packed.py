"""Encoders without padding: the weights of a Hugging Face model, the same maths, a backward pass written by hand.

The sentences of a batch lie end to end in one row of tokens, so dense layers see real tokens only. Attention runs on groups of
sentences of similar length, and pads only a few tokens there. Where one token stands for its sentence (`pooling` "cls" or
"last"), the last layer computes that token only.

Weight gradients are written straight to where the optimizer reads them, separately for each task if needed. That is still one
pass for all tasks, since their tokens are disjoint.

packed_families.py describes the models that can be packed; others are refused (`unsupported` says why). Poolers are not used.
"""

import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from ablate.trainer.encoders.configuration import positions_of
from ablate.trainer.encoders.flat_parameters import ALL, Gradients
from ablate.trainer.encoders.packed_attention import Grouped, Layout, varlen_agrees
from ablate.trainer.encoders.packed_families import FAMILIES, PostNorm, unsupported
from ablate.trainer.encoders.packed_layers import PostNormLayer, PreNormLayer, Setting
from ablate.trainer.encoders.packed_ops import (
    Activation,
    ColumnSums,
    Dropout,
    Norm,
    Rotary,
    Share,
    add_rows,
)
from ablate.trainer.encoders.padded import Pooling


class PackedEncoder(nn.Module):
    """The encoder of a transformers model, computed without padding.

    It shares the model's modules: parameters keep their names, shapes and storage, `state_dict()` is the model's without its
    pooler, and the model's `save_pretrained` saves what is trained here.

    Backward writes to the given `Gradients`, or else adds to the `.grad` of the parameters that require gradients (creating it if
    it is None), as `loss.backward()` does; `torch.autograd.grad` and hooks on parameters do not work. The weights must not change
    between a forward pass and its backward pass.

    Under `torch.autocast`, matmuls and everything between them use its dtype; residuals, normalisation, weights and their
    gradients stay in the dtype of the weights. Dropout draws once per forward pass from the device's default generator.

    Raises:
        ValueError: the model would be computed differently.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        if reason := unsupported(model.config):
            raise ValueError(f"PackedEncoder cannot compute this model: {reason}; use PaddedEncoder")
        self.config, self.family = model.config, FAMILIES[model.config.model_type]
        for name, child in model.named_children():
            if name != "pooler":
                self.add_module(name, child)
        self.parts, self.blocks = self.family.parts(self), self.family.blocks(self)
        self._copies: list[Tensor] = []
        self.train(model.training)

    @property
    def words(self) -> Tensor:
        """The word embeddings [vocabulary, hidden]: the table of this module's `Flat`."""
        table: Tensor = self.parts.words.weight
        return table

    def hf_state_dict(self) -> dict[str, Tensor]:
        """Return the weights under transformers' names, without a pooler's."""
        return dict(self.state_dict())

    def forward(
        self,
        tokens: Tensor,
        lengths: Sequence[int] | np.ndarray | Tensor,
        pooling: Pooling = "cls",
        gradients: Gradients | None = None,
        counts: Mapping[str, int] = MappingProxyType({}),
        types: Tensor | None = None,
    ) -> Tensor:
        """Embed sentences.

        Args:
            tokens: [total] token ids, sentence after sentence, special tokens included.
            lengths: [sentences] tokens of each, at least 1; their sum is `total`.
            pooling: the last hidden state of the first or of the last token, or the mean over the sentence's tokens.
            gradients: backward overwrites these; None: it adds to `.grad`.
            counts: number of sentences, at least 1, of each owner of `gradients`, in the order of `lengths`; owners without
                sentences get gradients of 0. By default all sentences belong to `ALL`.
            types: [total] token types, for pairs in one sequence; None: all 0.

        Returns:
            [sentences, hidden], in the order given, in the dtype of the weights.

        Raises:
            ValueError: `lengths` does not match `tokens`, or a sentence has more tokens than the model has positions.
        """
        lengths = np.asarray(lengths, dtype=np.int64)
        longest = positions_of(self.config) or sys.maxsize
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
        layout = Layout(lengths, self.config.num_attention_heads, device)
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
            if types is not None and self.parts.types is not None and len(self.parts.types.weight) > 1:
                run.types = types.to(device, torch.long)
            embedded: Tensor = _Encode.apply(trained, run, tokens.to(device, torch.long))  # type: ignore[no-untyped-call]
        return embedded

    def dropped(self) -> dict[str, float]:
        """Return the current dropout probability at each place (see `Family.dropouts`)."""
        names = self.family.dropouts.items() if self.training else ()
        return {place: getattr(self.config, name) for place, name in names}

    def rotaries(self, positions: Tensor) -> dict[str, Rotary]:
        """Return the rotary positions of each kind of layer; none if the family has none. positions: [tokens]."""
        if isinstance(self.family.layer, PostNorm):
            return {}
        rotary: Any = self.rotary_emb
        angles = {kind: rotary(self.words, positions[None], kind) for kind in {*self.config.layer_types}}
        return {kind: Rotary(cos[0], sin[0]) for kind, (cos, sin) in angles.items()}

    def weights(self, dtype: torch.dtype) -> Mapping[nn.Linear, tuple[Tensor, Tensor | None]]:
        """Return each dense layer's weight and bias in `dtype`: its own, or copies made now.

        Copies reuse the memory of the previous pass: allocating would cost more than copying.
        """
        layers = [module for module in self.modules() if isinstance(module, nn.Linear)]
        own = [parameter.detach() for layer in layers for parameter in _parameters_of(layer)]
        values = own
        if any(parameter.dtype != dtype for parameter in own):
            if [(copy.dtype, copy.device) for copy in self._copies] != [(dtype, of.device) for of in own]:
                self._copies = _empty_like(own, dtype)
            values = self._copies
            torch._foreach_copy_(values, own)
        cursor = iter(values)
        return {layer: (next(cursor), next(cursor) if layer.bias is not None else None) for layer in layers}


def _parameters_of(layer: nn.Linear) -> list[Tensor]:
    return [layer.weight] if layer.bias is None else [layer.weight, layer.bias]


def _empty_like(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Return tensors of the same shapes in one block of memory: all matrices, then all vectors."""
    copies: dict[int, Tensor] = {}
    for dimensions in (2, 1):
        alike = [tensor for tensor in tensors if tensor.ndim == dimensions]
        sizes = [tensor.numel() for tensor in alike]
        pieces = torch.split(torch.empty(sum(sizes), dtype=dtype, device=tensors[0].device), sizes)
        copies |= {id(of): piece.view(of.shape) for of, piece in zip(alike, pieces, strict=True)}
    return [copies[id(tensor)] for tensor in tensors]


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
    """The whole encoder as one node of the graph. `trained` is any trained parameter: it makes autograd call backward."""

    @staticmethod
    def forward(ctx: Any, trained: Tensor, run: "_Pass", tokens: Tensor) -> Tensor:
        ctx.run = run
        return run.forward(tokens)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dpooled: Tensor) -> tuple[None, None, None]:
        if ctx.run is None:
            raise RuntimeError("PackedEncoder cannot run backward twice; call forward again")
        run, ctx.run = ctx.run, None
        with torch.autocast(dpooled.device.type, enabled=False):
            run.backward(dpooled)
        return None, None, None


class _Pass:
    """One forward pass through the encoder and, if `keep`, its backward pass."""

    def __init__(
        self,
        packed: PackedEncoder,
        layout: Layout,
        shares: Sequence[Share],
        words: Tensor | None,  # the rows of the word table that gradients are kept of; None: all
        pooling: Pooling,
        dtype: torch.dtype,
        keep: bool,
    ) -> None:
        self.packed, self.layout, self.words, self.keep = packed, layout, words, keep
        self.types: Tensor | None = None  # token types; None: all 0, or the model has one type only
        self.layers: list[PostNormLayer | PreNormLayer] = []
        # The tokens that stand for their sentences; None: all of them.
        first, last = layout.firsts, layout.firsts + layout.lengths - 1
        self.chosen = {"cls": first, "last": last, "mean": None}[pooling]
        dropped = packed.dropped()
        self.on_gpu = layout.positions.device.type != "cpu"
        self.varlen = self._one_call_for_all_lengths(dtype)
        dropout = Dropout(self._elements(dropped), layout.positions.device)
        activation = Activation(getattr(packed.config, packed.family.activation))
        sums = ColumnSums(shares, layout.positions.device, together=self.on_gpu)
        weights = packed.weights(dtype)
        self.setting = Setting(layout, sums, weights, dtype, activation, dropout, dropped, self.varlen)

    def _one_call_for_all_lengths(self, dtype: torch.dtype) -> bool:
        config = self.packed.config
        # If there are fewer queries than keys, FlashAttention counts a window from the sentence's end.
        kinds = getattr(config, "layer_types", None) or [""]
        if dtype != torch.bfloat16 or (self.chosen is not None and kinds[-1] == "sliding_attention"):
            return False
        return varlen_agrees(self.layout.positions.device, config.hidden_size // self.layout.heads)

    def _elements(self, dropped: Mapping[str, float]) -> int:
        """Return how many elements dropout draws for: those at places where its probability is not 0."""
        config, layout, depth = self.packed.config, self.layout, len(self.packed.blocks)
        tokens, post_norm = len(layout.positions), isinstance(self.packed.family.layer, PostNorm)
        elements = {
            "embedding": tokens * self.packed.words.shape[1],
            "attention": 0 if self.varlen else depth * Grouped(layout).scores,
            "output": depth * tokens * config.hidden_size,
            "feedforward": depth * tokens * (config.hidden_size if post_norm else config.intermediate_size),
        }
        return sum(elements[place] for place, probability in dropped.items() if probability)

    def forward(self, tokens: Tensor) -> Tensor:
        """[tokens] -> [sentences, hidden]."""
        x = self._embed(tokens)
        rotaries = self.packed.rotaries(self.layout.positions)
        for index in range(len(self.packed.blocks)):
            layer = self._layer(index, rotaries)
            x = layer.forward(x)
            if self.keep:
                self.layers.append(layer)
        # All masks have been made, so the random bits are no longer needed.
        del self.setting.dropout
        self.last_norm = self._norm(self.packed.parts.last_norm)
        if self.last_norm is not None:
            x = self.last_norm.forward(x)
        if self.chosen is not None:
            return x
        layout = self.layout
        sums = add_rows(x.new_zeros(len(layout.lengths), x.shape[1]), layout.sentences, x)
        return sums / layout.lengths[:, None]

    def _layer(self, index: int, rotaries: Mapping[str, Rotary]) -> PostNormLayer | PreNormLayer:
        modules, config = self.packed.blocks[index], self.packed.config
        chosen = self.chosen if index == len(self.packed.blocks) - 1 else None
        if isinstance(self.packed.family.layer, PostNorm):
            return PostNormLayer(modules, self.setting, chosen)
        kind = config.layer_types[index]
        window = config.sliding_window if kind == "sliding_attention" else None
        return PreNormLayer(modules, self.setting, chosen, rotaries[kind], window)

    def _norm(self, module: nn.LayerNorm | None) -> Norm | None:
        return None if module is None else self.setting.norm(module)

    def backward(self, dpooled: Tensor) -> None:
        """Add the gradients of all weights, given that of the embeddings [sentences, hidden]."""
        dx = dpooled
        if self.chosen is None:
            dx = (dx / self.layout.lengths[:, None])[self.layout.sentences]
        if self.last_norm is not None:
            dx = self.last_norm.backward(dx)
        while self.layers:
            dx = self.layers.pop().backward(dx)
        self._embed_backward(dx)

    def _embed(self, tokens: Tensor) -> Tensor:
        parts, setting = self.packed.parts, self.setting
        x: Tensor = parts.words.weight[tokens]
        if parts.types is not None:
            x = x + parts.types.weight[0 if self.types is None else self.types]
        self.tokens, self.positions = tokens, self._positions(tokens)
        if parts.positions is not None:
            x += parts.positions.weight[self.positions]
        self.norm = setting.norm(parts.norm)
        (self.mask,) = setting.masks(x.dtype, {"embedding": x.shape})
        x = self.mask.drop(self.norm.forward(x))
        self.projection = None if parts.projection is None else setting.linear(parts.projection)
        if self.projection is not None:
            return self.projection.forward(x.to(setting.dtype)).to(x.dtype)
        return x

    def _positions(self, tokens: Tensor) -> Tensor:
        """Return the position of each token. In families with `behind_padding` (RoBERTa), padding tokens have no position."""
        layout = self.layout
        if not self.packed.family.behind_padding:
            return layout.positions
        padding: int = self.packed.config.pad_token_id
        real = (tokens != padding).long()
        counted = real.cumsum(0)
        before = (counted - real)[layout.firsts]
        return (counted - before[layout.sentences]) * real + padding

    def _embed_backward(self, dx: Tensor) -> None:
        parts = self.packed.parts
        if self.projection is not None:
            dx = self.projection.backward(dx.to(self.setting.dtype)).to(dx.dtype)
        dx = self.norm.backward(self.mask.drop(dx))
        # The padding token is not trained, wherever it occurs.
        padding = parts.words.padding_idx
        dwords = dx if padding is None else dx * (self.tokens != padding)[:, None]
        rows = self.tokens if self.words is None else torch.searchsorted(self.words, self.tokens)
        self.setting.sums.write()
        for share in self.setting.sums.shares:
            if parts.positions is not None:
                dpositions = dwords if self.packed.family.behind_padding else dx
                share.put_rows(parts.positions.weight, self.positions, dpositions)
            if self.types is not None:
                share.put_rows(parts.types.weight, self.types, dx)
            elif parts.types is not None:
                of_type_0 = share.of(dx).sum(0, keepdim=True)
                types = parts.types.weight
                share.put(types, functional.pad(of_type_0, (0, 0, 0, len(types) - 1)))
            share.put_rows(parts.words.weight, rows, dwords)
