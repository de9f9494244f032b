"""The layers of packed encoders, each with its backward pass: BERT's kind and ModernBERT's.

Residuals and normalisation are in the dtype of the weights, everything else in the dtype of the pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from ablate.trainer.encoders.packed_ops import (
    Activation,
    Attention,
    Dropout,
    Layout,
    Linear,
    Mask,
    Norm,
    Rotary,
    Share,
    score_dtype,
)


@dataclass
class Setting:
    """What the layers of one forward pass share."""

    layout: Layout
    shares: Sequence[Share]
    weights: dict[nn.Linear, Tensor]
    dtype: torch.dtype
    activation: Activation
    dropout: Dropout
    dropped: Mapping[str, float]  # place -> probability

    def mask(self, place: str, shape: Sequence[int], dtype: torch.dtype) -> Mask:
        """Return the next mask for a place of dropout."""
        return self.dropout.mask(shape, self.dropped.get(place, 0.0), dtype)

    def linear(self, module: nn.Linear) -> Linear:
        """Return the operation of a dense layer."""
        return Linear(module, self.weights[module], self.shares)

    def norm(self, module: nn.LayerNorm) -> Norm:
        """Return the operation of a normalisation."""
        return Norm(module, self.shares)


class PostNormLayer:
    """A layer of BERT. Given `chosen`, one token of each sentence, it computes those only, from keys and values of all."""

    def __init__(self, modules: SimpleNamespace, setting: Setting, chosen: Tensor | None) -> None:
        self.setting, self.chosen = setting, chosen
        linear, norm = setting.linear, setting.norm
        self.query, self.key, self.value = linear(modules.query), linear(modules.key), linear(modules.value)
        self.output, self.up, self.down = linear(modules.output), linear(modules.up), linear(modules.down)
        self.attention = Attention(setting.layout, chosen)
        self.norm1, self.norm2 = norm(modules.norm1), norm(modules.norm2)

    def forward(self, x: Tensor) -> Tensor:
        """[tokens, hidden] -> [tokens, hidden], or [sentences, hidden] of the chosen tokens."""
        run, low = self.setting, x.to(self.setting.dtype)
        asking, residual = low, x
        if self.chosen is not None:
            asking, residual = low[self.chosen], x[self.chosen]
        query, key, value = self.query.forward(asking), self.key.forward(low), self.value.forward(low)
        mask = run.mask("attention", (self.attention.scores,), score_dtype(query))
        output = self.output.forward(self.attention.forward(query, key, value, mask))
        self.mask1 = run.mask("output", residual.shape, x.dtype)
        y = self.norm1.forward(self.mask1.drop_and_add(output.to(x.dtype), residual))
        self.wide = self.up.forward(y.to(run.dtype))
        down = self.down.forward(run.activation.forward(self.wide))
        self.mask2 = run.mask("feedforward", residual.shape, x.dtype)
        return self.norm2.forward(self.mask2.drop_and_add(down.to(x.dtype), y))

    def backward(self, dz: Tensor) -> Tensor:
        """The gradient of the output -> the gradient of the input, [tokens, hidden]."""
        dtype, activation = self.setting.dtype, self.setting.activation
        dsum2 = self.norm2.backward(dz)
        ddown = self.mask2.drop(dsum2).to(dtype)
        dwide = activation.backward(self.down.backward(ddown), self.wide)
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


class PreNormLayer:
    """A layer of ModernBERT. `chosen` is as above; `window` is the largest distance between tokens that see each other."""

    def __init__(
        self,
        modules: SimpleNamespace,
        setting: Setting,
        chosen: Tensor | None,
        rotary: Rotary,
        window: int | None,
    ) -> None:
        self.setting, self.chosen, self.rotary = setting, chosen, rotary
        linear, norm = setting.linear, setting.norm
        # The first layer has none: the embeddings have just been normalised.
        self.norm1 = norm(modules.norm1) if isinstance(modules.norm1, nn.LayerNorm) else None
        self.norm2, self.qkv, self.output = norm(modules.norm2), linear(modules.qkv), linear(modules.output)
        self.up, self.down = linear(modules.up), linear(modules.down)
        self.attention = Attention(setting.layout, chosen, window)

    def forward(self, x: Tensor) -> Tensor:
        """[tokens, hidden] -> [tokens, hidden], or [sentences, hidden] of the chosen tokens."""
        run, residual = self.setting, x
        normed = x if self.norm1 is None else self.norm1.forward(x)
        query, key, value = self.qkv.forward(normed.to(run.dtype)).chunk(3, dim=1)
        query, key = self.rotary.turn(query), self.rotary.turn(key)
        if self.chosen is not None:
            query, residual = query[self.chosen], x[self.chosen]
        mask = run.mask("attention", (self.attention.scores,), score_dtype(query))
        output = self.output.forward(self.attention.forward(query, key, value.contiguous(), mask))
        self.mask1 = run.mask("output", residual.shape, x.dtype)
        y = self.mask1.drop_and_add(output.to(x.dtype), residual)
        self.wide, self.gate = self.up.forward(self.norm2.forward(y).to(run.dtype)).chunk(2, dim=1)
        inner = run.activation.forward(self.wide) * self.gate
        self.mask2 = run.mask("feedforward", inner.shape, inner.dtype)
        return y + self.down.forward(self.mask2.drop(inner))

    def backward(self, dz: Tensor) -> Tensor:
        """The gradient of the output -> the gradient of the input, [tokens, hidden]."""
        dtype, activation = self.setting.dtype, self.setting.activation
        dinner = self.mask2.drop(self.down.backward(dz.to(dtype)))
        dgate = dinner * activation.forward(self.wide)
        dwide = activation.backward(dinner * self.gate, self.wide)
        dnormed = self.up.backward(torch.cat([dwide, dgate], dim=1))
        dy = dz + self.norm2.backward(dnormed.to(dz.dtype))
        doutput = self.mask1.drop(dy).to(dtype)
        dquery, dkey, dvalue = self.attention.backward(self.output.backward(doutput))
        if self.chosen is not None:
            dquery, dy = (_scattered(rows, self.chosen, len(dkey)) for rows in (dquery, dy))
        dquery, dkey = self.rotary.turn_back(dquery), self.rotary.turn_back(dkey)
        dnormed = self.qkv.backward(torch.cat([dquery, dkey, dvalue], dim=1)).to(dz.dtype)
        return dy + (dnormed if self.norm1 is None else self.norm1.backward(dnormed))


def _scattered(rows: Tensor, places: Tensor, count: int) -> Tensor:
    """Return [count, hidden] with `rows` at `places` and 0 elsewhere."""
    scattered = rows.new_zeros(count, rows.shape[1])
    scattered[places] = rows
    return scattered
