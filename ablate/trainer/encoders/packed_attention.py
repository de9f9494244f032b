"""Attention within each sentence of a row of sentences, with its backward pass.

`Grouped` computes it anywhere, in one batched product for each group of sentences of similar length. `Varlen` is one call for all
lengths, for bf16 on a GPU.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ablate.trainer.encoders.packed_ops import Mask


class Layout:
    """Where the sentences of a batch lie, end to end.

    Attributes:
        heads: of each layer.
        longest: tokens of the longest sentence.
        lengths, firsts: [sentences] tokens of each, and the row of its first one.
        sentences, positions: [tokens] the sentence of each, and its position there.
    """

    def __init__(self, lengths: NDArray[np.int64], heads: int, device: torch.device) -> None:
        self.heads, self.longest, self._lengths = heads, int(lengths.max()), lengths
        firsts = np.cumsum(lengths) - lengths
        sentences = np.repeat(np.arange(len(lengths)), lengths)
        positions = np.arange(len(sentences)) - firsts[sentences]
        arrays = on_device([lengths, firsts, sentences, positions], device)
        self.lengths, self.firsts, self.sentences, self.positions = arrays

    @cached_property
    def bounds(self) -> Tensor:
        """[sentences + 1] int32: the row of each sentence's first token, and the row after the last token."""
        return torch.cat([self.firsts, self.firsts[-1:] + self.lengths[-1:]]).to(torch.int32)

    @cached_property
    def groups(self) -> "Groups":
        """The sentences by length."""
        return Groups(self._lengths, self.heads, self.positions.device)


def on_device(arrays: Sequence[NDArray[np.int64]], device: torch.device) -> Sequence[Tensor]:
    """Return arrays as tensors on `device`. They are copied together, and the host does not wait for the copy."""
    together = torch.from_numpy(np.concatenate(arrays))
    if device.type == "cuda":
        together = together.pin_memory()
    return torch.split(together.to(device, non_blocking=True), [array.size for array in arrays])


@dataclass(frozen=True)
class Group:
    """Sentences of similar length."""

    count: int
    longest: int  # tokens; the others are padded to it
    padding: Tensor | None  # [count, longest], true at padding; None: all have the same length


class Groups:
    """Sentences in groups of similar length, and where their heads go.

    A dense layer puts the parts of a token (query, key and value, or two of them) side by side. A piece is one head of one part
    of one token. Pieces are numbered in the layer's order, (token * parts + part) * heads + head: with 3 parts and 12 heads,
    the key of token 5's head 2 is piece (5 * 3 + 1) * 12 + 2 = 194. Attention needs the tokens of one head of one sentence side
    by side; a slot is a piece's place in that order: part, then group, sentence, head, token.

    Attributes:
        groups: in ascending order of length.
        padding: the slots of padding in the first part.
        slots: number of slots of one part.
    """

    def __init__(self, lengths: NDArray[np.int64], heads: int, device: torch.device) -> None:
        self._heads, self._device = heads, device
        self.order = np.argsort(lengths, kind="stable")
        ends = np.cumsum(lengths)
        firsts, each_head = ends - lengths, np.arange(heads)[:, None]
        self._by_token = np.empty(ends[-1] * heads, dtype=np.int64)
        pieces, padding = [], []
        self.groups: list[Group] = []
        self.slots = 0
        for members in np.split(self.order, _cuts(lengths[self.order])):
            longest = int(lengths[members[-1]])
            places = np.minimum(np.arange(longest), lengths[members, None] - 1)
            # [count, heads, longest]
            of_group = (firsts[members, None] + places)[:, None] * heads + each_head
            slots = self.slots + np.arange(of_group.size).reshape(of_group.shape)
            padded = np.broadcast_to((np.arange(longest) >= lengths[members, None])[:, None], of_group.shape)
            self._by_token[of_group[~padded]] = slots[~padded]
            pieces.append(of_group.ravel())
            padding.append(slots[padded])
            hidden = torch.from_numpy(padded[:, 0].copy()).to(device) if padded.any() else None
            self.groups.append(Group(len(members), longest, hidden))
            self.slots += of_group.size
        self._by_head = np.concatenate(pieces)
        self.padding = torch.from_numpy(np.concatenate(padding)).to(device)
        self._indices: dict[int, tuple[Tensor, Tensor]] = {}

    def indices(self, parts: int) -> tuple[Tensor, Tensor]:
        """Return the piece in each slot (in a slot of padding, any piece of its sentence), and the slot of each piece."""
        if parts not in self._indices:
            each = np.arange(parts)[:, None]
            token, head = np.divmod(self._by_head, self._heads)
            pieces = (token * parts + each) * self._heads + head
            slots = each * self.slots + self._by_token
            slots = slots.reshape(parts, -1, self._heads).transpose(1, 0, 2)
            self._indices[parts] = self._moved(pieces, slots)
        return self._indices[parts]

    @cached_property
    def of_one(self) -> tuple[Tensor, Tensor]:
        """What `indices` returns, for one token of each sentence."""
        pieces = self.order[:, None] * self._heads + np.arange(self._heads)
        return self._moved(pieces, np.argsort(pieces.ravel()))

    def _moved(self, *arrays: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        pieces, slots = on_device([array.ravel() for array in arrays], self._device)
        return pieces, slots


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


class Grouped:
    """softmax(q kᵀ / √d) v in every head of every sentence, with dropout on the weights.

    Queries are all tokens, or `chosen`, one of each sentence. Every head of every sentence is one small matrix; those of a
    group lie together, so that each group is one batched product. With a `window`, tokens farther apart do not attend to each
    other. Scores are stored transposed, [keys, queries]: on a CPU softmax over a short last dimension is about four times as
    slow as over the one before it.

    Attributes:
        scores: number of scores.
    """

    def __init__(self, layout: Layout, chosen: Tensor | None = None, window: int | None = None) -> None:
        self.layout, self.groups, self.chosen, self.window = layout, layout.groups, chosen, window
        self.shapes = [
            (g.count * layout.heads, g.longest, 1 if chosen is not None else g.longest)
            for g in self.groups.groups
        ]
        self.scores = sum(math.prod(shape) for shape in self.shapes)

    def forward(self, parts: Tensor, queries: Tensor | None, mask: Mask) -> Tensor:
        """Attend.

        Args:
            parts: [tokens, 3 * hidden] queries, keys and values side by side; if `chosen`, without queries.
            queries: [sentences, hidden] queries of the chosen tokens.
            mask: of the weights, [scores].

        Returns:
            [tokens or sentences, hidden].
        """
        self.mask = mask
        gathered = self._by_head(parts, 3 if queries is None else 2)
        if queries is None:
            self.query, self.key, self.value = torch.split(gathered, self.groups.slots)
        else:
            self.query = self._by_head(queries)
            self.key, self.value = torch.split(gathered, self.groups.slots)
        self.root = self.query.shape[1] ** -0.5
        scores, self.weights = self.key.new_empty(2, self.scores)
        matrices = self._matrices(self.query, self.key, scores, self.weights)
        for group, outside, (q, k, s, w) in zip(self.groups.groups, self._outside(), matrices, strict=True):
            _multiply(k, q.transpose(1, 2), self.root, s)
            if group.padding is not None:
                s.view(group.count, -1, *s.shape[1:]).masked_fill_(group.padding[:, None, :, None], -math.inf)
            if outside is not None:
                s.view(group.count, -1, *s.shape[1:]).masked_fill_(outside[:, None], -math.inf)
            torch.softmax(s, 1, out=w)
        # The scale of the mask is applied by the next product.
        self.kept = self.weights if mask.kept is None else torch.mul(self.weights, mask.kept, out=scores)
        context = torch.empty_like(self.query)
        for c, v, w in self._matrices(context, self.value, self.kept):
            _multiply(w.transpose(1, 2), v, mask.scale, c)
        return self._by_token(context, parts.dtype)

    def backward(self, dy: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the gradients of `parts` and of `queries`."""
        mask, slots = self.mask, self.groups.slots
        dcontext = self._by_head(dy)
        # Queries of padding get no gradient.
        if self.chosen is None:
            dcontext.index_fill_(0, self.groups.padding, 0)
        dparts = self.key.new_empty((3 if self.chosen is None else 2) * slots, self.key.shape[1])
        dkey, dvalue = dparts[-2 * slots : -slots], dparts[-slots:]
        dquery, dweights = torch.empty_like(self.query), torch.empty_like(self.weights)
        if self.chosen is None:
            dquery = dparts[:slots]
        for c, v, w, dv, dw in self._matrices(dcontext, self.value, self.kept, dvalue, dweights):
            _multiply(w, c, mask.scale, dv)
            _multiply(v, c.transpose(1, 2), mask.scale, dw)
        if mask.kept is not None:
            dweights.mul_(mask.kept)
        for q, k, w, dw, dq, dk in self._matrices(self.query, self.key, self.weights, dweights, dquery, dkey):
            ds = torch._softmax_backward_data(dw, w, 1, w.dtype)
            _multiply(ds, q, self.root, dk)
            _multiply(ds.transpose(1, 2), k, self.root, dq)
        if self.chosen is None:
            return self._by_token(dparts, dy.dtype, 3), None
        return self._by_token(dparts, dy.dtype, 2), self._by_token(dquery, dy.dtype)

    def _outside(self) -> list[Tensor | None]:
        """Return for each group which keys are outside a query's window,
        [sentences or 1, keys, queries]; None: all are inside."""
        if self.window is None:
            return [None] * len(self.groups.groups)
        pairs = zip(self.groups.groups, self._places_of_queries(), strict=True)
        return [self._outside_in(group, places) for group, places in pairs]

    def _places_of_queries(self) -> Sequence[Tensor]:
        """Return for each group the queries' positions in their sentences, [sentences or 1, queries]."""
        layout, groups = self.layout, self.groups.groups
        if self.chosen is None:
            return [torch.arange(g.longest, device=layout.positions.device)[None] for g in groups]
        in_groups = torch.from_numpy(self.groups.order).to(self.chosen.device)
        places = layout.positions[self.chosen][in_groups, None]
        return torch.split(places, [group.count for group in groups])

    def _outside_in(self, group: Group, queries: Tensor) -> Tensor | None:
        if self.window is None or group.longest <= self.window + 1:
            return None
        keys = torch.arange(group.longest, device=queries.device)
        outside = (keys[:, None] - queries[:, None]).abs() > self.window
        # A query of padding sees every key, since softmax over none is NaN.
        if group.padding is not None and self.chosen is None:
            outside = outside & ~group.padding[:, None]
        return outside

    def _matrices(self, *buffers: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Yield each group's matrices in each buffer: [batch, rows, size], or for scores [batch, keys, queries]."""
        return zip(*(self._of_groups(buffer) for buffer in buffers), strict=True)

    def _of_groups(self, buffer: Tensor) -> list[Tensor]:
        if buffer.ndim == 1:
            parts = torch.split(buffer, [math.prod(shape) for shape in self.shapes])
            return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]
        # Rows are keys or queries.
        rows = 1 if len(buffer) == self.groups.slots else 2
        parts = torch.split(buffer, [shape[0] * shape[rows] for shape in self.shapes])
        return [part.view(shape[0], shape[rows], -1) for part, shape in zip(parts, self.shapes, strict=True)]

    def _by_head(self, x: Tensor, parts: int = 1) -> Tensor:
        """[tokens or sentences, parts * hidden] -> [slots, size], with the tokens of one head of one sentence together."""
        pieces, _ = self._indices(parts)
        return (
            x.view(-1, x.shape[1] // (parts * self.layout.heads)).index_select(0, pieces).to(score_dtype(x))
        )

    def _by_token(self, x: Tensor, dtype: torch.dtype, parts: int = 1) -> Tensor:
        """[slots, size] -> [tokens or sentences, parts * hidden]."""
        _, slots = self._indices(parts)
        return x.index_select(0, slots).to(dtype).view(-1, x.shape[1] * parts * self.layout.heads)

    def _indices(self, parts: int) -> tuple[Tensor, Tensor]:
        if parts == 1 and self.chosen is not None:
            return self.groups.of_one
        return self.groups.indices(parts)


def score_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype in which grouped attention on x computes: at least fp32 on a CPU.

    oneDNN compiles its bf16 products for every new batch shape, half a millisecond each; fp32 products come from MKL.
    """
    return torch.float32 if x.device.type == "cpu" and x.dtype.itemsize < 4 else x.dtype


def _multiply(a: Tensor, b: Tensor, scale: float, out: Tensor) -> Tensor:
    """Write scale * a @ b into `out`, for batches of matrices."""
    return out.baddbmm_(a, b, beta=0, alpha=scale)


class Varlen:
    """The same as `Grouped`, in one call for all lengths: torch's FlashAttention-2 (Dao 2023). It draws its own dropout.

    A `window` needs all tokens as queries.
    """

    scores = 0  # number of scores that need a mask

    def __init__(
        self, layout: Layout, chosen: Tensor | None = None, window: int | None = None, dropout: float = 0.0
    ) -> None:
        self.layout, self.chosen, self.dropout = layout, chosen, dropout
        self.window = {} if window is None else {"window_size_left": window, "window_size_right": window}

    def forward(self, parts: Tensor, queries: Tensor | None, _: Mask) -> Tensor:
        """As `Grouped.forward`, without a mask."""
        heads = self.layout.heads
        each = parts.view(len(parts), 3 if queries is None else 2, heads, -1).unbind(1)
        self.parts = each if queries is None else (queries.view(len(queries), heads, -1), *each)
        self.context, self.sums, *self.random, _ = torch.ops.aten._flash_attention_forward(
            *self.parts, *self._bounds(), self.dropout, False, False, scale=self._root(), **self.window
        )
        context: Tensor = self.context
        return context.flatten(1)

    def backward(self, dy: Tensor) -> tuple[Tensor, Tensor | None]:
        """As `Grouped.backward`."""
        gradients = torch.ops.aten._flash_attention_backward(
            dy.view_as(self.context),
            *self.parts,
            self.context,
            self.sums,
            *self._bounds(),
            self.dropout,
            False,
            *self.random,
            scale=self._root(),
            **self.window,
        )
        asked, parts = (None, gradients) if self.chosen is None else (gradients[0].flatten(1), gradients[1:])
        return torch.stack(parts, 1).flatten(1), asked

    def _bounds(self) -> tuple[Tensor, Tensor, int, int]:
        keys, longest = self.layout.bounds, self.layout.longest
        if self.chosen is None:
            return keys, keys, longest, longest
        return torch.arange(len(keys), dtype=keys.dtype, device=keys.device), keys, 1, longest

    def _root(self) -> float:
        return float(self.parts[0].shape[-1] ** -0.5)


@lru_cache
def varlen_agrees(device: torch.device, size: int) -> bool:
    """Return whether `Varlen` runs on `device` for heads of `size` in bf16, with Grouped's results and the same bits each time.

    This depends on the GPU, the build of torch and its private kernels, so it is tried out.
    """
    if device.type == "cpu":
        return False
    # A block has 128 keys, and sums of two blocks have the same bits in any order; so the test needs three.
    layout, hidden = Layout(np.array([5, 1, 33, 515, 130]), 2, device), 2 * size
    tokens, sentences = len(layout.positions), len(layout.lengths)
    with torch.random.fork_rng(devices=[device]), torch.no_grad():
        torch.manual_seed(0)
        try:
            return all(
                _agree(layout, chosen, *(torch.randn(*shape, device=device).bfloat16() for shape in shapes))
                for chosen, shapes in (
                    (None, [(tokens, 3 * hidden), (tokens, hidden)]),
                    (layout.firsts, [(tokens, 2 * hidden), (sentences, hidden), (sentences, hidden)]),
                )
            )
        # A GPU, dtype or size that the kernel refuses; a build without it; a torch that has renamed it.
        except (RuntimeError, NotImplementedError, AttributeError):
            return False


def _agree(
    layout: Layout, chosen: Tensor | None, parts: Tensor, dy: Tensor, queries: Tensor | None = None
) -> bool:
    def results(attention: Grouped | Varlen) -> list[Tensor]:
        context = attention.forward(parts, queries, Mask(None, 1.0))
        return [context, *(gradient for gradient in attention.backward(dy) if gradient is not None)]

    once, again = (results(Varlen(layout, chosen)) for _ in range(2))
    # bf16 has eight bits: a difference of 2 % of the largest value is rounding.
    pairs = zip(once, results(Grouped(layout, chosen)), strict=True)
    near = all(float((a - b).abs().max()) <= 0.02 * float(b.abs().max()) for a, b in pairs)
    return near and all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
