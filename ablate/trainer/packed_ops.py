"""The operations of a packed BERT, each with its backward pass: plain tensors in and out, no autograd.

An operation is an object made for one forward pass: `forward` keeps what `backward` needs, `backward` takes the
gradient of the output, adds weight gradients to `.grad` in place and returns the gradient of the input.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

# oneDNN's fp32 matmul is up to twice as fast as the default (MKL) on processors that MKL was not made for.
ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x @ weight.T + bias for x [rows, in], weight [out, in]."""
    if ONEDNN and x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return product
    return functional.linear(x, weight, bias)


def gradient_of(parameter: Tensor) -> Tensor:
    """Return the buffer that gradients of `parameter` are added to."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def add_outer(weight: Tensor, dy: Tensor, x: Tensor) -> None:
    """Add dy.T @ x to the gradient of `weight` [out, in]."""
    if not weight.requires_grad:
        return
    gradient = gradient_of(weight)
    if dy.dtype == gradient.dtype:
        gradient.addmm_(dy.t(), x)
    else:
        gradient.add_(dy.t() @ x)


def add_sum(bias: Tensor, dy: Tensor) -> None:
    """Add the column sums of dy [rows, out] to the gradient of `bias` [out]."""
    if bias.requires_grad:
        gradient_of(bias).add_(dy.sum(0, dtype=bias.dtype))


def add_rows(table: Tensor, rows: Tensor, dy: Tensor) -> None:
    """Add dy [tokens, hidden] to the rows [tokens] of the gradient of `table`; repeated rows in a fixed order."""
    if not table.requires_grad:
        return
    if dy.device.type == "cpu":
        gradient_of(table).scatter_add_(0, rows[:, None].expand_as(dy), dy)  # sorts rows, then adds in parallel
    else:
        gradient_of(table).index_put_((rows,), dy, accumulate=True)  # deterministic on CUDA; index_add_ is not


@dataclass(frozen=True)
class Group:
    """Sentences of one length, neighbours in the packed order."""

    count: int
    length: int


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a batch lie once its sentences are sorted by length."""

    heads: int
    groups: list[Group]
    gather: Tensor  # [tokens]: the caller's row of each packed row
    positions: Tensor  # [tokens]: each token's place in its sentence
    firsts: Tensor  # [sentences]: packed row of each sentence's first token
    order: Tensor  # [sentences]: the caller's sentence at each packed place
    by_head: Tensor  # [tokens * heads]: piece (token, head) of each place when every head's tokens lie together
    by_token: Tensor  # [tokens * heads]: its inverse


def lay_out(lengths: Sequence[int] | np.ndarray | Tensor, heads: int, device: torch.device) -> Layout:
    """Sort sentences by length (equal ones stay in order) and say where everything goes."""
    given = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(given, kind="stable")
    sizes = given[order]
    ends = np.cumsum(sizes)
    firsts = ends - sizes
    positions = np.arange(ends[-1]) - np.repeat(firsts, sizes)
    gather = positions + np.repeat((np.cumsum(given) - given)[order], sizes)
    # in a sentence of n tokens from row f, head h of token p moves to place f * heads + h * n + p
    starts, steps = np.repeat(firsts, sizes)[:, None] * heads, np.repeat(sizes, sizes)[:, None]
    by_token = starts + steps * np.arange(heads) + positions[:, None]
    by_head = np.empty(by_token.size, dtype=np.int64)
    by_head[by_token.ravel()] = np.arange(by_token.size)
    lengths_present, counts = np.unique(sizes, return_counts=True)
    groups = [Group(count, length) for count, length in zip(counts.tolist(), lengths_present.tolist(), strict=True)]
    arrays = (gather, positions, firsts, order, by_head, by_token.ravel())
    return Layout(heads, groups, *(torch.from_numpy(array).to(device) for array in arrays))


class Dropout:
    """The dropout masks of one forward pass, drawn in one go: 16 random bits decide one element.

    Drawing bits is five times as fast on a CPU as `bernoulli_`. The probability is off by at most 2**-17, and the
    scale fits the probability used, so that the mean is kept.
    """

    def __init__(self, elements: int, device: torch.device) -> None:
        words = torch.empty(-(-elements // 4), dtype=torch.int64, device=device)
        self._bits = words.random_(-(2**63), None).view(torch.int16)
        self._next = 0

    def mask(self, shape: tuple[int, ...], probability: float, dtype: torch.dtype) -> tuple[Tensor | None, float]:
        """Return the next mask (1 keep, 0 drop) and what to multiply kept elements with; (None, 1) for no dropout."""
        dropped = round(probability * 2**16)
        if not dropped:
            return None, 1.0
        size = math.prod(shape)
        bits = self._bits[self._next : self._next + size].view(shape)
        self._next += size
        return torch.ge(bits, dropped - 2**15).to(dtype), 1 / (1 - dropped / 2**16)


class Linear:
    """x @ weight.T + bias, with the matmul in x's dtype."""

    def __init__(self, module: nn.Linear) -> None:
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """[rows, in] -> [rows, out]."""
        self.x = x
        self.weight = self.module.weight.to(x.dtype)
        return linear(x, self.weight, self.module.bias.to(x.dtype))

    def backward(self, dy: Tensor) -> Tensor:
        """[rows, out] -> [rows, in]."""
        add_outer(self.module.weight, dy, self.x)
        add_sum(self.module.bias, dy)
        return linear(dy, self.weight.t(), None)


class DropoutAddNorm:
    """LayerNorm(residual + dropout(x)), in the dtype of the weights."""

    def __init__(self, module: nn.LayerNorm, mask: Tensor | None, scale: float) -> None:
        self.module, self.mask, self.scale = module, mask, scale

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """x, residual [rows, hidden] -> [rows, hidden]."""
        x = x.to(residual.dtype)
        self.total = residual + x if self.mask is None else residual.addcmul(x, self.mask, value=self.scale)
        module = self.module
        normal, self.mean, self.rstd = torch.native_layer_norm(
            self.total, module.normalized_shape, module.weight, module.bias, module.eps
        )
        return normal

    def backward(self, dy: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of x and of the residual."""
        module = self.module
        dtotal, dweight, dbias = torch.ops.aten.native_layer_norm_backward(
            dy, self.total, module.normalized_shape, self.mean, self.rstd, module.weight, module.bias, [True] * 3
        )
        gradient_of(module.weight).add_(dweight)
        gradient_of(module.bias).add_(dbias)
        return (dtotal if self.mask is None else (dtotal * self.mask).mul_(self.scale)), dtotal


class Attention:
    """softmax(q kᵀ / √d) v in every head of every sentence, with dropout on the weights.

    Queries are all tokens, or the first token of each sentence. Every head of every sentence is one small matrix;
    those of one length lie together, so that each length is one batched product. Scores are kept transposed, [keys,
    queries]: a CPU's softmax over a short last dimension is about four times as slow as over the one before it.
    """

    def __init__(self, layout: Layout, firsts_only: bool) -> None:
        self.layout, self.firsts_only = layout, firsts_only
        self.shapes = [(g.count * layout.heads, g.length, 1 if firsts_only else g.length) for g in layout.groups]
        self.scores = sum(math.prod(shape) for shape in self.shapes)  # how many there are

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        """query [tokens or sentences, hidden], key and value [tokens, hidden] -> query's shape."""
        self.mask, self.scale = mask, scale
        self.query, self.key, self.value = self._by_head(query, self.firsts_only), self._by_head(key), self._by_head(value)
        self.root = self.query.shape[1] ** -0.5
        scores, self.weights = self.key.new_empty(2, self.scores)
        for q, k, s, w in self._groups(self.query, self.key, scores, self.weights):
            torch.softmax(multiply(k, q.transpose(1, 2), self.root, s), 1, out=w)
        self.kept = self.weights if mask is None else torch.mul(self.weights, mask, out=scores)
        context = torch.empty_like(self.query)
        for c, v, w in self._groups(context, self.value, self.kept):
            multiply(w.transpose(1, 2), v, scale, c)
        return self._by_token(context, query, self.firsts_only)

    def backward(self, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of query, key and value."""
        dcontext = self._by_head(dy, self.firsts_only)
        dvalue, dkept = torch.empty_like(self.value), torch.empty_like(self.weights)
        for c, v, w, dv, dw in self._groups(dcontext, self.value, self.kept, dvalue, dkept):
            multiply(w, c, self.scale, dv)
            multiply(v, c.transpose(1, 2), self.scale, dw)
        if self.mask is not None:
            dkept.mul_(self.mask)
        dquery, dkey = torch.empty_like(self.query), torch.empty_like(self.key)
        for q, k, w, dw, dq, dk in self._groups(self.query, self.key, self.weights, dkept, dquery, dkey):
            ds = torch._softmax_backward_data(dw, w, 1, w.dtype)
            multiply(ds, q, self.root, dk)
            multiply(ds.transpose(1, 2), k, self.root, dq)
        return self._by_token(dquery, dy, self.firsts_only), self._by_token(dkey, dy), self._by_token(dvalue, dy)

    def _groups(self, *buffers: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Yield, for each length, the matrices that lie in each buffer: [batch, rows, size] or [batch, keys, queries]."""
        return zip(*(self._matrices(buffer) for buffer in buffers), strict=True)

    def _matrices(self, buffer: Tensor) -> list[Tensor]:
        if buffer.ndim == 1:
            parts = buffer.split([math.prod(shape) for shape in self.shapes])
            return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]
        rows = 1 if len(buffer) == len(self.layout.by_head) else 2  # as keys, else as queries
        parts = buffer.split([shape[0] * shape[rows] for shape in self.shapes])
        return [part.view(shape[0], shape[rows], -1) for part, shape in zip(parts, self.shapes, strict=True)]

    def _by_head(self, x: Tensor, firsts: bool = False) -> Tensor:
        """[tokens, hidden] -> [tokens * heads, size], the tokens of one head of one sentence together."""
        pieces = x.view(-1, x.shape[1] // self.layout.heads)
        pieces = pieces if firsts else pieces.index_select(0, self.layout.by_head)
        # oneDNN would compile bf16 kernels for every new batch shape, half a millisecond each: fp32 on the CPU
        return pieces.float() if pieces.device.type == "cpu" and pieces.dtype == torch.bfloat16 else pieces

    def _by_token(self, x: Tensor, like: Tensor, firsts: bool = False) -> Tensor:
        """[tokens * heads, size] -> [tokens, hidden], in the dtype of `like`."""
        pieces = x if firsts else x.index_select(0, self.layout.by_token)
        return pieces.to(like.dtype).view(-1, x.shape[1] * self.layout.heads)


def multiply(a: Tensor, b: Tensor, scale: float, out: Tensor) -> Tensor:
    """Write scale * a @ b into `out`, for batches of matrices."""
    return torch.baddbmm(out, a, b, beta=0, alpha=scale, out=out)
