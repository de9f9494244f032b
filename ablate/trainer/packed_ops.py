"""The operations of a packed BERT, each with its backward pass: plain tensors in and out, no autograd.

An operation is an object made for one forward pass: `forward` keeps what `backward` needs, `backward` takes the
gradient of the output, adds weight gradients in place and returns the gradient of the input.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

# oneDNN called directly takes 0.83-0.91 of functional.linear's time in fp32 (MKL), 0.85-1 in bf16; on a Zen 4, 1,100 rows.
ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x @ weight.T + bias for x [rows, in], weight [out, in]."""
    if ONEDNN and x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return product
    return functional.linear(x, weight, bias)


@dataclass(frozen=True)
class Share:
    """One task's rows in a pass, and where its weight gradients go.

    A task's gradient is that of its rows: one way back through the activations serves all tasks.
    """

    rows: Mapping[int, slice]  # its slice of all tokens, and of all sentences
    places: Mapping[Tensor, Tensor] | None  # by parameter, to be overwritten; None: added to `.grad`

    def of(self, x: Tensor) -> Tensor:
        """Return the task's rows of x, which has a row for each token or for each sentence."""
        return x[self.rows[len(x)]]

    def put(self, parameter: Tensor, gradient: Tensor) -> None:
        """Take `gradient` for the task's gradient of `parameter`."""
        if not parameter.requires_grad:
            return
        if self.places is not None:
            self.places[parameter].copy_(gradient)
        else:
            _grad(parameter).add_(gradient)

    def put_outer(self, weight: Tensor, dy: Tensor, x: Tensor) -> None:
        """Take dy.T @ x, over the task's rows, for the gradient of `weight` [out, in]."""
        if not weight.requires_grad:
            return
        dy, x = self.of(dy), self.of(x)
        if dy.dtype != weight.dtype:
            self.put(weight, dy.t() @ x)
        elif self.places is not None:
            torch.mm(dy.t(), x, out=self.places[weight])
        else:
            _grad(weight).addmm_(dy.t(), x)

    def put_rows(self, table: Tensor, rows: Tensor, dy: Tensor) -> None:
        """Take the task's dy [tokens, hidden] for rows [tokens] of the gradient of `table`, added in a fixed order."""
        if not table.requires_grad:
            return
        gradient = _grad(table) if self.places is None else self.places[table].zero_()
        rows, dy = self.of(rows), self.of(dy)
        if dy.device.type == "cpu":
            gradient.scatter_add_(0, rows[:, None].expand_as(dy), dy)  # sorts the rows, then adds in parallel
        else:  # deterministic on CUDA, where index_add_ is not
            gradient.index_put_((rows,), dy, accumulate=True)


def _grad(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


@dataclass(frozen=True)
class Group:
    """Sentences of one task and one length, neighbours in the packed order."""

    count: int
    length: int


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a batch lie once its sentences are sorted by task and length."""

    heads: int
    groups: list[Group]
    tokens: list[slice]  # packed rows of each task
    sentences: list[slice]  # packed places of its sentences
    gather: Tensor  # [tokens]: the caller's row of each packed row
    positions: Tensor  # [tokens]: each token's place in its sentence
    firsts: Tensor  # [sentences]: packed row of each sentence's first token
    order: Tensor  # [sentences]: the caller's sentence at each packed place
    by_head: Tensor  # [tokens * heads]: the (token, head) at each place once a head's tokens lie together
    by_token: Tensor  # [tokens * heads]: its inverse


def lay_out(lengths: NDArray[np.int64], counts: Sequence[int], heads: int, device: torch.device) -> Layout:
    """Sort the sentences of each task by length (equal ones stay in order) and say where everything goes.

    Args:
        lengths: [sentences] tokens of each, task after task.
        counts: how many sentences each task has.
    """
    tasks = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((lengths, tasks))
    sizes = lengths[order]
    ends = np.cumsum(sizes)
    firsts = ends - sizes
    positions = np.arange(ends[-1]) - np.repeat(firsts, sizes)
    gather = positions + np.repeat((np.cumsum(lengths) - lengths)[order], sizes)
    # in a sentence of n tokens from row f, head h of token p moves to place f * heads + h * n + p
    starts, steps = np.repeat(firsts, sizes)[:, None] * heads, np.repeat(sizes, sizes)[:, None]
    by_token = starts + steps * np.arange(heads) + positions[:, None]
    by_head = np.empty(by_token.size, dtype=np.int64)
    by_head[by_token.ravel()] = np.arange(by_token.size)
    begins = np.flatnonzero(np.diff(sizes, prepend=0) | np.diff(tasks, prepend=-1))
    groups = [
        Group(int(count), int(sizes[begin]))
        for begin, count in zip(begins, np.diff(begins, append=len(sizes)), strict=True)
    ]
    last = np.cumsum(counts)
    sentences = [slice(int(end - count), int(end)) for end, count in zip(last, counts, strict=True)]
    tokens = [slice(int(firsts[part.start]), int(ends[part.stop - 1])) for part in sentences]
    arrays = (gather, positions, firsts, order, by_head, by_token.ravel())
    return Layout(heads, groups, tokens, sentences, *(torch.from_numpy(array).to(device) for array in arrays))


@dataclass(frozen=True)
class Mask:
    """Which elements dropout keeps, and by what the kept ones are multiplied."""

    kept: Tensor | None  # 1 or 0; None: all are kept
    scale: float

    def drop(self, x: Tensor) -> Tensor:
        """Return x with dropout; its own backward pass."""
        return x if self.kept is None else (x * self.kept).mul_(self.scale)

    def drop_and_add(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return residual + drop(x)."""
        return residual + x if self.kept is None else torch.addcmul(residual, x, self.kept, value=self.scale)


class Dropout:
    """The masks of one forward pass, drawn in one go: 16 random bits decide one element.

    On a CPU this takes a quarter of `bernoulli_`'s time. A probability is off by at most 2**-17; the scale fits the
    probability used, so that the mean is kept.
    """

    def __init__(self, elements: int, device: torch.device) -> None:
        words = torch.empty(-(-elements // 4), dtype=torch.int64, device=device)
        self._bits = words.random_(-(2**63), None).view(torch.int16)  # plain random_() leaves the sign bit 0
        self._next = 0

    def mask(self, shape: Sequence[int], probability: float, dtype: torch.dtype) -> Mask:
        """Return the next mask of `shape`."""
        dropped = round(probability * 2**16)  # of the 2**16 values of 16 bits
        if not dropped:
            return Mask(None, 1.0)
        first, self._next = self._next, self._next + math.prod(shape)
        bits = self._bits[first : self._next].view(*shape)
        return Mask((bits >= dropped - 2**15).to(dtype), 1 / (1 - dropped / 2**16))


class Linear:
    """x @ weight.T + bias, in the dtype of `weight`: the module's own or a copy of it."""

    def __init__(self, module: nn.Linear, weight: Tensor, shares: Sequence[Share]) -> None:
        self.module, self.weight, self.shares = module, weight, shares

    def forward(self, x: Tensor) -> Tensor:
        """[rows, in] -> [rows, out]."""
        self.x = x
        return linear(x, self.weight, self.module.bias.to(x.dtype))

    def backward(self, dy: Tensor) -> Tensor:
        """[rows, out] -> [rows, in]."""
        for share in self.shares:
            share.put_outer(self.module.weight, dy, self.x)
            share.put(self.module.bias, share.of(dy).sum(0, dtype=self.module.bias.dtype))
        return linear(dy, self.weight.t(), None)


class Norm:
    """LayerNorm over the last dimension."""

    def __init__(self, module: nn.LayerNorm, shares: Sequence[Share]) -> None:
        self.module, self.shares = module, shares

    def forward(self, x: Tensor) -> Tensor:
        """[rows, hidden] -> [rows, hidden]."""
        self.x, module = x, self.module
        shape = module.normalized_shape
        y, self.mean, self.rstd = torch.native_layer_norm(x, shape, module.weight, module.bias, module.eps)
        return y

    def backward(self, dy: Tensor) -> Tensor:
        """[rows, hidden] -> [rows, hidden]."""
        module, pieces = self.module, []
        backward = torch.ops.aten.native_layer_norm_backward
        for share in self.shares:
            mine, x, mean, rstd = (share.of(rows) for rows in (dy, self.x, self.mean, self.rstd))
            saved = (mean, rstd, module.weight, module.bias)
            dx, dweight, dbias = backward(mine, x, module.normalized_shape, *saved, [True] * 3)
            share.put(module.weight, dweight)
            share.put(module.bias, dbias)
            pieces.append(dx)
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


class Attention:
    """softmax(q kᵀ / √d) v in every head of every sentence, with dropout on the weights.

    Queries are all tokens, or the first token of each sentence. Every head of every sentence is one small matrix;
    those of one length lie together, so that each length is one batched product. Scores are kept transposed, [keys,
    queries]: a CPU's softmax over a short last dimension is about four times as slow as over the one before it.
    """

    def __init__(self, layout: Layout, firsts_only: bool) -> None:
        self.layout, self.firsts_only = layout, firsts_only
        self.shapes = [
            (g.count * layout.heads, g.length, 1 if firsts_only else g.length) for g in layout.groups
        ]
        self.scores = sum(math.prod(shape) for shape in self.shapes)  # how many there are

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        """query [tokens or sentences, hidden], key and value [tokens, hidden] -> query's shape."""
        self.mask = mask
        self.query = self._by_head(query, self.firsts_only)
        self.key, self.value = self._by_head(key), self._by_head(value)
        self.root = self.query.shape[1] ** -0.5
        scores, self.weights = self.key.new_empty(2, self.scores)
        for q, k, s, w in self._groups(self.query, self.key, scores, self.weights):
            torch.softmax(multiply(k, q.transpose(1, 2), self.root, s), 1, out=w)
        # the mask's scale is left to the product that follows
        self.kept = self.weights if mask.kept is None else torch.mul(self.weights, mask.kept, out=scores)
        context = torch.empty_like(self.query)
        for c, v, w in self._groups(context, self.value, self.kept):
            multiply(w.transpose(1, 2), v, mask.scale, c)
        return self._by_token(context, query, self.firsts_only)

    def backward(self, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of query, key and value."""
        mask, dcontext = self.mask, self._by_head(dy, self.firsts_only)
        dvalue, dweights = torch.empty_like(self.value), torch.empty_like(self.weights)
        for c, v, w, dv, dw in self._groups(dcontext, self.value, self.kept, dvalue, dweights):
            multiply(w, c, mask.scale, dv)
            multiply(v, c.transpose(1, 2), mask.scale, dw)
        if mask.kept is not None:
            dweights.mul_(mask.kept)
        dquery, dkey = torch.empty_like(self.query), torch.empty_like(self.key)
        for q, k, w, dw, dq, dk in self._groups(self.query, self.key, self.weights, dweights, dquery, dkey):
            ds = torch._softmax_backward_data(dw, w, 1, w.dtype)
            multiply(ds, q, self.root, dk)
            multiply(ds.transpose(1, 2), k, self.root, dq)
        return (
            self._by_token(dquery, dy, self.firsts_only),
            self._by_token(dkey, dy),
            self._by_token(dvalue, dy),
        )

    def _groups(self, *buffers: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Yield each length's matrices in each buffer: [batch, rows, size], or [batch, keys, queries] of scores."""
        return zip(*(self._matrices(buffer) for buffer in buffers), strict=True)

    def _matrices(self, buffer: Tensor) -> list[Tensor]:
        if buffer.ndim == 1:
            parts = torch.split(buffer, [math.prod(shape) for shape in self.shapes])
            return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]
        rows = 1 if len(buffer) == len(self.layout.by_head) else 2  # as many as keys, or as queries
        parts = torch.split(buffer, [shape[0] * shape[rows] for shape in self.shapes])
        return [part.view(shape[0], shape[rows], -1) for part, shape in zip(parts, self.shapes, strict=True)]

    def _by_head(self, x: Tensor, firsts: bool = False) -> Tensor:
        """[tokens, hidden] -> [tokens * heads, size], the tokens of one head of one sentence together."""
        pieces = x.view(-1, x.shape[1] // self.layout.heads)
        pieces = pieces if firsts else pieces.index_select(0, self.layout.by_head)
        return pieces.to(score_dtype(x))

    def _by_token(self, x: Tensor, like: Tensor, firsts: bool = False) -> Tensor:
        """[tokens * heads, size] -> [tokens, hidden], in the dtype of `like`."""
        pieces = x if firsts else x.index_select(0, self.layout.by_token)
        return pieces.to(like.dtype).view(-1, x.shape[1] * self.layout.heads)


def score_dtype(x: Tensor) -> torch.dtype:
    """In which attention on x computes: not below fp32 on a CPU.

    oneDNN compiles its bf16 products for every new batch shape, half a millisecond each; fp32 ones come from MKL.
    """
    return torch.float32 if x.device.type == "cpu" and x.dtype.itemsize < 4 else x.dtype


def multiply(a: Tensor, b: Tensor, scale: float, out: Tensor) -> Tensor:
    """Write scale * a @ b into `out`, for batches of matrices."""
    return out.baddbmm_(a, b, beta=0, alpha=scale)
