"""The operations of a packed BERT, each with its backward pass: plain tensors in and out, no autograd.

An operation is an object made for one forward pass: `forward` keeps what `backward` needs, `backward` takes the
gradient of the output, adds weight gradients to `.grad` in place and returns the gradient of the input.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

# oneDNN's fp32 matmul is up to twice as fast as the default (MKL) on processors that MKL was not made for.
ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x @ weight.T + bias for x [rows, in], weight [out, in]."""
    if ONEDNN and x.dtype == torch.float32 and x.device.type == "cpu":
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

    sentences: slice
    rows: slice  # their tokens
    count: int
    length: int


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a batch lie once its sentences are sorted by length."""

    groups: list[Group]
    gather: Tensor  # [tokens]: the caller's row of each packed row
    positions: Tensor  # [tokens]: each token's place in its sentence
    firsts: Tensor  # [sentences]: packed row of each sentence's first token
    order: Tensor  # [sentences]: the caller's sentence at each packed place


def lay_out(lengths: Sequence[int] | np.ndarray | Tensor, device: torch.device) -> Layout:
    """Sort sentences by length (equal ones stay in order) and say where everything goes."""
    given = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(given, kind="stable")
    sizes = given[order]
    ends = np.cumsum(sizes)
    firsts = ends - sizes
    positions = np.arange(ends[-1]) - np.repeat(firsts, sizes)
    gather = positions + np.repeat((np.cumsum(given) - given)[order], sizes)
    bounds = [0, *(np.flatnonzero(np.diff(sizes)) + 1).tolist(), len(sizes)]
    groups = [
        Group(slice(a, b), slice(int(firsts[a]), int(ends[b - 1])), b - a, int(sizes[a]))
        for a, b in zip(bounds[:-1], bounds[1:], strict=True)
    ]
    return Layout(groups, *(torch.from_numpy(array).to(device) for array in (gather, positions, firsts, order)))


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
    """softmax(q kᵀ / √d) v per head with dropout on the weights, for sentences of one length.

    Scores are kept transposed, [heads, keys, queries]: the CPU's softmax over a short last dimension is about four
    times as slow as over one before it.
    """

    def __init__(self, heads: int, mask: Tensor | None, scale: float) -> None:
        self.heads, self.mask, self.scale = heads, mask, scale

    def _split(self, x: Tensor, count: int) -> Tensor:
        """[count * length, hidden] -> [count * heads, length, size]."""
        return x.view(count, -1, self.heads, x.shape[1] // self.heads).transpose(1, 2).flatten(0, 1)

    def _join(self, x: Tensor, out: Tensor, count: int) -> None:
        """[count * heads, length, size] -> out [count * length, hidden]."""
        x = x.view(count, self.heads, *x.shape[1:]).transpose(1, 2)
        out.view(x.shape).copy_(x)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, out: Tensor, count: int) -> None:
        """Write [count * queries, hidden] into `out`; key and value are [count * length, hidden]."""
        self.count = count
        self.query, self.key, self.value = (self._split(x, count) for x in (query, key, value))
        self.root = self.query.shape[-1] ** -0.5
        scores = scaled_bmm(self.key, self.query.transpose(1, 2), self.root)
        self.weights = torch.softmax(scores, 1)
        self.kept = self.weights if self.mask is None else self.weights * self.mask
        self._join(scaled_bmm(self.kept.transpose(1, 2), self.value, self.scale), out, count)

    def backward(self, dy: Tensor, dquery: Tensor, dkey: Tensor, dvalue: Tensor) -> None:
        """Write the gradients of query, key and value; shapes as in `forward`."""
        dy = self._split(dy, self.count)
        self._join(scaled_bmm(self.kept, dy, self.scale), dvalue, self.count)
        dweights = scaled_bmm(self.value, dy.transpose(1, 2), self.scale)
        if self.mask is not None:
            dweights.mul_(self.mask)
        dscores = torch._softmax_backward_data(dweights, self.weights, 1, dweights.dtype)
        self._join(scaled_bmm(dscores, self.query, self.root), dkey, self.count)
        self._join(scaled_bmm(dscores.transpose(1, 2), self.key, self.root), dquery, self.count)


def scaled_bmm(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """Return scale * a @ b for batches of matrices."""
    return torch.baddbmm(a.new_empty(1, 1, 1), a, b, beta=0, alpha=scale)
