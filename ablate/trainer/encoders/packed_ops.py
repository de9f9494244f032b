"""The operations of a packed encoder, each with its backward pass: plain tensors in and out, no autograd.

An operation is an object made for one forward pass: `forward` keeps what `backward` needs; `backward` takes the gradient of the
output, writes the weight gradients and returns the gradient of the input.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

# The dtypes in which oneDNN is called directly. On a Zen 4, with 1,100 rows, that takes 0.83-0.91 of functional.linear's time in
# fp32 (MKL), 0.85-1 in bf16. Without AVX-512 oneDNN has no bf16 product; torch's own is used.
ONEDNN = (
    {torch.float32, *([torch.bfloat16] if torch.ops.mkldnn._is_mkldnn_bf16_supported() else [])}
    if torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]
    else set()
)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x @ weight.T + bias for x [rows, in], weight [out, in]."""
    if x.device.type == "cpu" and x.dtype in ONEDNN:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return product
    return functional.linear(x, weight, bias)


@dataclass(frozen=True)
class Share:
    """One task's rows in a pass, and where its weight gradients go.

    A task's gradient is that of its rows, so one backward pass through the activations serves all tasks.
    """

    rows: Mapping[int, slice]  # number of all tokens -> its slice of them; the same for sentences
    places: Mapping[Tensor, Tensor] | None  # parameter -> gradient to overwrite; None: add to `.grad`

    def of(self, x: Tensor) -> Tensor:
        """Return the task's rows of x, which has a row for each token or for each sentence."""
        return x[self.rows[len(x)]]

    def put(self, parameter: Tensor, gradient: Tensor) -> None:
        """Store the task's `gradient` of `parameter`."""
        if not parameter.requires_grad:
            return
        if self.places is not None:
            self.places[parameter].copy_(gradient)
        else:
            _grad(parameter).add_(gradient)

    def put_sum(self, parameter: Tensor, dy: Tensor) -> None:
        """Store the sum of the task's rows of dy as the gradient of `parameter` [out]."""
        if not parameter.requires_grad:
            return
        if self.places is not None:
            torch.sum(self.of(dy), 0, dtype=parameter.dtype, out=self.places[parameter])
        else:
            _grad(parameter).add_(self.of(dy).sum(0, dtype=parameter.dtype))

    def put_outer(self, weight: Tensor, dy: Tensor, x: Tensor) -> None:
        """Store dy.T @ x, over the task's rows, as the gradient of `weight` [out, in]."""
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
        """Store the gradient of `table`: the sum, in a fixed order, of the task's dy [tokens, hidden] by rows [tokens]."""
        if not table.requires_grad:
            return
        gradient = _grad(table) if self.places is None else self.places[table].zero_()
        add_rows(gradient, self.of(rows), self.of(dy))


def _grad(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


@dataclass(frozen=True)
class Group:
    """Sentences of similar length, for attention."""

    count: int
    longest: int  # tokens; the others are padded to it
    padding: Tensor | None  # [count, longest], true at padding; None: all have the same length


@dataclass(frozen=True)
class Layout:
    """Where the sentences of a batch lie, end to end, and where their heads go for attention.

    A piece is one head's part of one token, number token * heads + head. A slot is its position after the tokens of each head of
    each sentence have been brought together, group after group.
    """

    heads: int
    groups: list[Group]
    lengths: Tensor  # [sentences]
    firsts: Tensor  # [sentences]: row of the first token of each
    sentences: Tensor  # [tokens]: the sentence of each
    positions: Tensor  # [tokens]: the position of each in its sentence
    by_head: Tensor  # [slots]: the piece in each; for padding, some piece of its sentence
    by_token: Tensor  # [pieces]: the slot of each
    padding: Tensor  # the slots of padding
    firsts_by_head: Tensor  # [sentences * heads]: as `by_head`, for first tokens only
    firsts_by_token: Tensor  # [sentences * heads]: as `by_token`, for first tokens only


def lay_out(lengths: NDArray[np.int64], heads: int, device: torch.device) -> Layout:
    """Return the layout of sentences of `lengths` [sentences]."""
    ends = np.cumsum(lengths)
    firsts = ends - lengths
    sentences = np.repeat(np.arange(len(lengths)), lengths)
    positions = np.arange(ends[-1]) - firsts[sentences]
    by_length = np.argsort(lengths, kind="stable")
    each_head = np.arange(heads)[:, None]
    by_token = np.empty(ends[-1] * heads, dtype=np.int64)
    groups, pieces, padding, begin = [], [], [], 0
    for members in np.split(by_length, _cuts(lengths[by_length])):
        longest = int(lengths[members[-1]])
        places = np.minimum(np.arange(longest), lengths[members, None] - 1)
        of_group = (firsts[members, None] + places)[:, None] * heads + each_head  # [count, heads, longest]
        slots = begin + np.arange(of_group.size).reshape(of_group.shape)
        padded = np.broadcast_to((np.arange(longest) >= lengths[members, None])[:, None], of_group.shape)
        by_token[of_group[~padded]] = slots[~padded]
        pieces.append(of_group.ravel())
        padding.append(slots[padded])
        hidden = torch.from_numpy(padded[:, 0].copy()).to(device) if padded.any() else None
        groups.append(Group(len(members), longest, hidden))
        begin += of_group.size
    firsts_by_head = (by_length[:, None] * heads + each_head.T).ravel()
    rows = (lengths, firsts, sentences, positions)
    of_slots = (np.concatenate(pieces), by_token, np.concatenate(padding))
    arrays = (*rows, *of_slots, firsts_by_head, np.argsort(firsts_by_head))
    return Layout(heads, groups, *(torch.from_numpy(array).to(device) for array in arrays))


def _cuts(lengths: NDArray[np.int64]) -> list[int]:
    """Return where to cut ascending `lengths` into groups. Each is at most a quarter, or two tokens, longer than the first.

    A group costs a dozen calls a layer, whatever its size; padding costs time with the square of the length.
    """
    cuts, shortest = [], lengths[0]
    for place, length in enumerate(lengths.tolist()):
        if length > max(shortest * 5 // 4, shortest + 2):
            cuts.append(place)
            shortest = length
    return cuts


def add_rows(total: Tensor, rows: Tensor, x: Tensor) -> Tensor:
    """Add x [n, hidden] to rows [n] of `total`, in a fixed order, and return it."""
    if x.device.type == "cpu":
        # Sorts the rows, then adds in parallel.
        return total.scatter_add_(0, rows[:, None].expand_as(x), x)
    # On CUDA this is deterministic, and index_add_ is not.
    return total.index_put_((rows,), x, accumulate=True)


@dataclass(frozen=True)
class Mask:
    """The elements that dropout keeps, and the factor for them."""

    kept: Tensor | None  # 1 or 0; None: all are kept
    scale: float

    def drop(self, x: Tensor) -> Tensor:
        """Return x with dropout. This is its own backward pass."""
        return x if self.kept is None else (x * self.kept).mul_(self.scale)

    def drop_and_add(self, x: Tensor, residual: Tensor) -> Tensor:
        """Return residual + drop(x)."""
        return residual + x if self.kept is None else torch.addcmul(residual, x, self.kept, value=self.scale)


class Dropout:
    """The masks of one forward pass, drawn at once: 16 random bits decide one element.

    On a CPU this takes a quarter of `bernoulli_`'s time. A probability is off by at most 2**-17; the scale matches the
    probability used, so that the mean is kept.
    """

    def __init__(self, elements: int, device: torch.device) -> None:
        words = torch.empty(-(-elements // 4), dtype=torch.int64, device=device)
        # Without bounds random_() leaves the sign bit 0.
        self._bits = words.random_(-(2**63), None).view(torch.int16)
        self._next = 0

    def mask(self, shape: Sequence[int], probability: float, dtype: torch.dtype) -> Mask:
        """Return the next mask of `shape`."""
        dropped = round(probability * 2**16)  # of 2**16 values
        if not dropped:
            return Mask(None, 1.0)
        first, self._next = self._next, self._next + math.prod(shape)
        bits = self._bits[first : self._next].view(*shape)
        return Mask((bits >= dropped - 2**15).to(dtype), 1 / (1 - dropped / 2**16))


class Activation:
    """The function between two dense layers. Its backward pass is given the input."""

    def __init__(self, name: str) -> None:
        self.forward, self.backward = ACTIVATIONS[name]


def _gelu(approximate: str) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]:
    return (
        partial(functional.gelu, approximate=approximate),
        partial(torch.ops.aten.gelu_backward, approximate=approximate),
    )


# By transformers' names: the function of x, and that of (dy, x) for the gradient.
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    **dict.fromkeys(("gelu", "gelu_python"), _gelu("none")),
    **dict.fromkeys(("gelu_new", "gelu_fast", "gelu_pytorch_tanh"), _gelu("tanh")),
    **dict.fromkeys(("silu", "swish"), (functional.silu, torch.ops.aten.silu_backward)),
    "relu": (torch.relu, lambda dy, x: torch.ops.aten.threshold_backward(dy, x, 0)),
}


class Rotary:
    """Rotary positions (Su et al. 2021): dimensions i and size / 2 + i of a head are turned by an angle of its position.

    Args:
        cos, sin: [tokens, size] of a head, both halves the same.
    """

    def __init__(self, cos: Tensor, sin: Tensor) -> None:
        self.cos, self.sin = cos[:, None], sin[:, None]

    def turn(self, x: Tensor) -> Tensor:
        """[tokens, hidden] -> [tokens, hidden]."""
        return self._turned(x, self.sin)

    def turn_back(self, dy: Tensor) -> Tensor:
        """The gradient of a turned x -> the gradient of x."""
        return self._turned(dy, -self.sin)

    def _turned(self, x: Tensor, sin: Tensor) -> Tensor:
        heads = x.reshape(len(x), -1, self.cos.shape[-1]).to(torch.promote_types(x.dtype, torch.float32))
        one, two = heads.chunk(2, dim=-1)
        return (heads * self.cos + torch.cat([-two, one], dim=-1) * sin).view(x.shape).to(x.dtype)


class Linear:
    """x @ weight.T + bias, in the dtype of `weight`: the module's own or a copy of it."""

    def __init__(self, module: nn.Linear, weight: Tensor, shares: Sequence[Share]) -> None:
        self.module, self.weight, self.shares = module, weight, shares

    def forward(self, x: Tensor) -> Tensor:
        """[rows, in] -> [rows, out]."""
        self.x = x
        bias = self.module.bias
        return linear(x, self.weight, None if bias is None else bias.to(x.dtype))

    def backward(self, dy: Tensor) -> Tensor:
        """[rows, out] -> [rows, in]."""
        for share in self.shares:
            share.put_outer(self.module.weight, dy, self.x)
            if self.module.bias is not None:
                share.put_sum(self.module.bias, dy)
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
        wanted = [True, True, module.bias is not None]
        backward = torch.ops.aten.native_layer_norm_backward
        for share in self.shares:
            mine, x, mean, rstd = (share.of(rows) for rows in (dy, self.x, self.mean, self.rstd))
            saved = (mean, rstd, module.weight, module.bias)
            dx, dweight, dbias = backward(mine, x, module.normalized_shape, *saved, wanted)
            share.put(module.weight, dweight)
            if module.bias is not None:
                share.put(module.bias, dbias)
            pieces.append(dx)
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


class Attention:
    """softmax(q kᵀ / √d) v in every head of every sentence, with dropout on the weights.

    Queries are all tokens, or `chosen`, one of each sentence. Every head of every sentence is one small matrix; those of a
    group lie together, so that each group is one batched product. With a `window`, tokens farther apart do not see each other.
    Scores are stored transposed, [keys, queries]: on a CPU softmax over a short last dimension is about four times as slow as
    over the one before it.
    """

    def __init__(self, layout: Layout, chosen: Tensor | None = None, window: int | None = None) -> None:
        self.layout, self.chosen, self.window = layout, chosen, window
        self.one_query = one_query = chosen is not None
        self.shapes = [
            (g.count * layout.heads, g.longest, 1 if one_query else g.longest) for g in layout.groups
        ]
        self.scores = sum(math.prod(shape) for shape in self.shapes)  # how many there are

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        """query [tokens or sentences, hidden], key and value [tokens, hidden] -> query's shape."""
        self.mask = mask
        self.query = self._by_head(query, self.one_query)
        self.key, self.value = self._by_head(key), self._by_head(value)
        self.root = self.query.shape[1] ** -0.5
        scores, self.weights = self.key.new_empty(2, self.scores)
        matrices = self._groups(self.query, self.key, scores, self.weights)
        for group, outside, (q, k, s, w) in zip(self.layout.groups, self._outside(), matrices, strict=True):
            multiply(k, q.transpose(1, 2), self.root, s)
            if group.padding is not None:
                s.view(group.count, -1, *s.shape[1:]).masked_fill_(group.padding[:, None, :, None], -math.inf)
            if outside is not None:
                s.view(group.count, -1, *s.shape[1:]).masked_fill_(outside[:, None], -math.inf)
            torch.softmax(s, 1, out=w)
        # The next product applies the mask's scale.
        self.kept = self.weights if mask.kept is None else torch.mul(self.weights, mask.kept, out=scores)
        context = torch.empty_like(self.query)
        for c, v, w in self._groups(context, self.value, self.kept):
            multiply(w.transpose(1, 2), v, mask.scale, c)
        return self._by_token(context, query, self.one_query)

    def backward(self, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of query, key and value."""
        mask, dcontext = self.mask, self._by_head(dy, self.one_query)
        # Queries of padding get no gradient.
        if not self.one_query:
            dcontext.index_fill_(0, self.layout.padding, 0)
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
            self._by_token(dquery, dy, self.one_query),
            self._by_token(dkey, dy),
            self._by_token(dvalue, dy),
        )

    def _outside(self) -> list[Tensor | None]:
        """Return for each group which keys are outside a query's window, [sentences or 1, keys, queries]; None: none are."""
        if self.window is None:
            return [None] * len(self.layout.groups)
        pairs = zip(self.layout.groups, self._places_of_queries(), strict=True)
        return [self._outside_in(group, places) for group, places in pairs]

    def _places_of_queries(self) -> Sequence[Tensor]:
        """Return for each group the queries' positions in their sentences, [sentences or 1, queries]."""
        layout = self.layout
        if self.chosen is None:
            return [torch.arange(g.longest, device=layout.positions.device)[None] for g in layout.groups]
        in_groups = layout.firsts_by_head[:: layout.heads] // layout.heads  # [sentences]
        places = layout.positions[self.chosen][in_groups, None]
        return torch.split(places, [group.count for group in layout.groups])

    def _outside_in(self, group: Group, queries: Tensor) -> Tensor | None:
        if self.window is None or group.longest <= self.window + 1:
            return None
        keys = torch.arange(group.longest, device=queries.device)
        outside = (keys[:, None] - queries[:, None]).abs() > self.window
        # A query of padding sees everything: of nothing, softmax would be NaN.
        if group.padding is not None and not self.one_query:
            outside = outside & ~group.padding[:, None]
        return outside

    def _groups(self, *buffers: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Yield each group's matrices in each buffer: [batch, rows, size], or for scores [batch, keys, queries]."""
        return zip(*(self._matrices(buffer) for buffer in buffers), strict=True)

    def _matrices(self, buffer: Tensor) -> list[Tensor]:
        if buffer.ndim == 1:
            parts = torch.split(buffer, [math.prod(shape) for shape in self.shapes])
            return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]
        # As many rows as keys, or as queries.
        rows = 1 if len(buffer) == len(self.layout.by_head) else 2
        parts = torch.split(buffer, [shape[0] * shape[rows] for shape in self.shapes])
        return [part.view(shape[0], shape[rows], -1) for part, shape in zip(parts, self.shapes, strict=True)]

    def _by_head(self, x: Tensor, firsts: bool = False) -> Tensor:
        """[tokens or sentences, hidden] -> [slots, size], with the tokens of one head of one sentence together."""
        slots = self.layout.firsts_by_head if firsts else self.layout.by_head
        return x.view(-1, x.shape[1] // self.layout.heads).index_select(0, slots).to(score_dtype(x))

    def _by_token(self, x: Tensor, like: Tensor, firsts: bool = False) -> Tensor:
        """[slots, size] -> [tokens or sentences, hidden], in the dtype of `like`."""
        pieces = self.layout.firsts_by_token if firsts else self.layout.by_token
        return x.index_select(0, pieces).to(like.dtype).view(-1, x.shape[1] * self.layout.heads)


def score_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype in which attention on x computes: at least fp32 on a CPU.

    oneDNN compiles its bf16 products for every new batch shape, half a millisecond each; fp32 products come from MKL.
    """
    return torch.float32 if x.device.type == "cpu" and x.dtype.itemsize < 4 else x.dtype


def multiply(a: Tensor, b: Tensor, scale: float, out: Tensor) -> Tensor:
    """Write scale * a @ b into `out`, for batches of matrices."""
    return out.baddbmm_(a, b, beta=0, alpha=scale)
