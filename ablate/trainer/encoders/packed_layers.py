"""The layers of packed encoders, each with its backward pass: BERT's kind and ModernBERT's.

Residuals and normalisation are in the dtype of the weights, everything else in the dtype of the pass.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from ablate.trainer.encoders.packed_attention import Grouped, Layout, Varlen, score_dtype
from ablate.trainer.encoders.packed_ops import (
    Activation,
    ColumnSums,
    Dropout,
    Linear,
    Mask,
    Norm,
    Rotary,
)


@dataclass
class Setting:
    """What the layers of one forward pass share."""

    layout: Layout
    sums: ColumnSums
    # Weight and bias of each dense layer, in `dtype`.
    weights: Mapping[nn.Linear, tuple[Tensor, Tensor | None]]
    dtype: torch.dtype
    activation: Activation
    dropout: Dropout
    dropped: Mapping[str, float]  # place -> probability
    varlen: bool  # whether attention is one call for all lengths

    def masks(self, dtype: torch.dtype, shapes: Mapping[str, Sequence[int]]) -> list[Mask]:
        """Return the next dropout masks, for the places in `shapes`."""
        masks: list[Mask] = []
        for probability, places in groupby(shapes, lambda place: self.dropped.get(place, 0.0)):
            masks += self.dropout.masks([shapes[place] for place in places], probability, dtype)
        return masks

    def linear(self, *modules: nn.Linear) -> Linear:
        """Return the operation of dense layers with the same input."""
        return Linear(modules, [self.weights[module] for module in modules], self.sums)

    def norm(self, module: nn.LayerNorm) -> Norm:
        """Return the operation of a normalisation."""
        return Norm(module, self.sums)

    def attention(self, chosen: Tensor | None, window: int | None = None) -> Grouped | Varlen:
        """Return the operation of attention."""
        if self.varlen:
            return Varlen(self.layout, chosen, window, self.dropped.get("attention", 0.0))
        return Grouped(self.layout, chosen, window)


class PostNormLayer:
    """A layer of BERT. With `chosen`, one token of each sentence, it computes only those, from keys and values of all tokens."""

    def __init__(self, modules: SimpleNamespace, setting: Setting, chosen: Tensor | None) -> None:
        self.setting, self.chosen = setting, chosen
        linear, norm = setting.linear, setting.norm
        if chosen is None:
            self.parts = linear(modules.query, modules.key, modules.value)
        else:
            self.query, self.parts = linear(modules.query), linear(modules.key, modules.value)
        self.output, self.up, self.down = linear(modules.output), linear(modules.up), linear(modules.down)
        self.attention = setting.attention(chosen)
        self.norm1, self.norm2 = norm(modules.norm1), norm(modules.norm2)

    def forward(self, x: Tensor) -> Tensor:
        """[tokens, hidden] -> [tokens, hidden], or [sentences, hidden] of the chosen tokens."""
        run, low = self.setting, x.to(self.setting.dtype)
        queries, residual = None, x
        if self.chosen is not None:
            queries, residual = self.query.forward(low[self.chosen]), x[self.chosen]
        shapes = {"output": residual.shape, "feedforward": residual.shape}
        mask, self.mask1, self.mask2 = run.masks(x.dtype, {"attention": (self.attention.scores,), **shapes})
        output = self.output.forward(self.attention.forward(self.parts.forward(low), queries, mask))
        y = self.norm1.forward(self.mask1.drop_and_add(output, residual))
        self.wide = self.up.forward(y.to(run.dtype))
        down = self.down.forward(run.activation.forward(self.wide))
        return self.norm2.forward(self.mask2.drop_and_add(down, y))

    def backward(self, dz: Tensor) -> Tensor:
        """The gradient of the output -> the gradient of the input, [tokens, hidden]."""
        dtype, activation = self.setting.dtype, self.setting.activation
        dsum2 = self.norm2.backward(dz)
        ddown = self.mask2.drop(dsum2).to(dtype)
        dwide = activation.backward(self.down.backward(ddown), self.wide)
        dsum1 = self.norm1.backward(dsum2 + self.up.backward(dwide))
        doutput = self.mask1.drop(dsum1).to(dtype)
        dparts, dqueries = self.attention.backward(self.output.backward(doutput))
        dx = self.parts.backward(dparts)
        if dqueries is None:
            dx = dsum1 + dx
        else:
            dx = dx.to(dz.dtype)
            dx[self.chosen] += dsum1 + self.query.backward(dqueries)
        self.setting.sums.write()
        return dx


class PreNormLayer:
    """A layer of ModernBERT. `chosen` is as in `PostNormLayer`; `window`
    is the largest distance between tokens that attend to each other."""

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
        # The first layer has no normalisation here: the embeddings have just been normalised.
        self.norm1 = norm(modules.norm1) if isinstance(modules.norm1, nn.LayerNorm) else None
        self.norm2, self.qkv, self.output = norm(modules.norm2), linear(modules.qkv), linear(modules.output)
        self.up, self.down = linear(modules.up), linear(modules.down)
        self.attention = setting.attention(chosen, window)

    def forward(self, x: Tensor) -> Tensor:
        """[tokens, hidden] -> [tokens, hidden], or [sentences, hidden] of the chosen tokens."""
        run, residual, hidden = self.setting, x, x.shape[1]
        normed = x if self.norm1 is None else self.norm1.forward(x)
        parts = self.qkv.forward(normed.to(run.dtype))
        # Queries and keys have positions, values have none.
        parts = torch.cat([self.rotary.turn(parts[:, : 2 * hidden]), parts[:, 2 * hidden :]], dim=1)
        queries = None
        if self.chosen is not None:
            queries, residual = parts[:, :hidden][self.chosen], x[self.chosen]
            parts = parts[:, hidden:].contiguous()
        (mask,) = run.masks(score_dtype(parts), {"attention": (self.attention.scores,)})
        (self.mask1,) = run.masks(x.dtype, {"output": residual.shape})
        y = self.mask1.drop_and_add(
            self.output.forward(self.attention.forward(parts, queries, mask)), residual
        )
        self.wide, self.gate = self.up.forward(self.norm2.forward(y).to(run.dtype)).chunk(2, dim=1)
        inner = run.activation.forward(self.wide) * self.gate
        (self.mask2,) = run.masks(inner.dtype, {"feedforward": inner.shape})
        return y + self.down.forward(self.mask2.drop(inner))

    def backward(self, dz: Tensor) -> Tensor:
        """The gradient of the output -> the gradient of the input, [tokens, hidden]."""
        dtype, activation, hidden = self.setting.dtype, self.setting.activation, dz.shape[1]
        dinner = self.mask2.drop(self.down.backward(dz.to(dtype)))
        dgate = dinner * activation.forward(self.wide)
        dwide = activation.backward(dinner * self.gate, self.wide)
        dnormed = self.up.backward(torch.cat([dwide, dgate], dim=1))
        dy = dz + self.norm2.backward(dnormed.to(dz.dtype))
        doutput = self.mask1.drop(dy).to(dtype)
        dparts, dqueries = self.attention.backward(self.output.backward(doutput))
        if dqueries is not None:
            dqueries, dy = (_scattered(rows, self.chosen, len(dparts)) for rows in (dqueries, dy))
            dparts = torch.cat([dqueries, dparts], dim=1)
        turned = self.rotary.turn_back(dparts[:, : 2 * hidden])
        dnormed = self.qkv.backward(torch.cat([turned, dparts[:, 2 * hidden :]], dim=1)).to(dz.dtype)
        dx = dy + (dnormed if self.norm1 is None else self.norm1.backward(dnormed))
        self.setting.sums.write()
        return dx


def _scattered(rows: Tensor, places: Tensor | None, count: int) -> Tensor:
    """Return [count, hidden] with `rows` at `places` and 0 elsewhere."""
    scattered = rows.new_zeros(count, rows.shape[1])
    scattered[places] = rows
    return scattered
