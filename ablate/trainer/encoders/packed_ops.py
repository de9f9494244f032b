"""The operations of a packed encoder, each with its backward pass: plain tensors in and out, no autograd.

An operation is an object made for one forward pass: `forward` keeps what `backward` needs; `backward` takes the gradient of the
output, writes the weight gradients and returns the gradient of the input.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

# The dtypes for which oneDNN is called directly: this pays with AVX-512 only. There (Zen 4, 1,100 rows) it takes 0.83-0.91 of
# MKL's time in fp32 and 0.85-1 of torch's own in bf16. With AVX2 it takes 1.1-2.4 of MKL's (60 to 1,100 rows).
ONEDNN = (
    {torch.float32, *([torch.bfloat16] if torch.ops.mkldnn._is_mkldnn_bf16_supported() else [])}
    if torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    else set()
)
# Without AVX-512 torch has no fast products in bf16: they take 9 to 65 times as long as in fp32 (AVX2, 60 to 1,500 rows). There
# fp32 products of the same values are rounded to bf16, which is what bf16 units do.
WIDENED = set() if torch.ops.mkldnn._is_mkldnn_bf16_supported() else {torch.bfloat16}


def widened(x: Tensor) -> Tensor:
    """Return x in the dtype in which its products are computed."""
    return x.float() if x.device.type == "cpu" and x.dtype in WIDENED else x


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x @ weight.T + bias for x [rows, in], weight [out, in]."""
    if x.device.type == "cpu" and x.dtype in ONEDNN:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return product
    wide = bias if bias is None else widened(bias)
    return functional.linear(widened(x), widened(weight), wide).to(x.dtype)


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

    def put_all(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Store the task's `gradients` of `parameters`."""
        pairs = zip(parameters, gradients, strict=True)
        trained = {parameter: gradient for parameter, gradient in pairs if parameter.requires_grad}
        if self.places is not None:
            torch._foreach_copy_([self.places[parameter] for parameter in trained], list(trained.values()))
        else:
            torch._foreach_add_([_grad(parameter) for parameter in trained], list(trained.values()))

    def put_sum(self, parameters: Sequence[Tensor], dy: Tensor) -> None:
        """Store the sum of the task's rows of dy [rows, out] as the gradient of `parameters`, each taking its columns."""
        for place, mine in self._places(parameters, self.of(dy)):
            if self.places is not None:
                torch.sum(mine, 0, dtype=place.dtype, out=place)
            else:
                place.add_(mine.sum(0, dtype=place.dtype))

    def put_outer(self, weights: Sequence[Tensor], dy: Tensor, x: Tensor) -> None:
        """Store dy.T @ x, over the task's rows, as the gradient of `weights` [out, in], each taking its columns of dy."""
        x = widened(self.of(x))
        for place, mine in self._places(weights, widened(self.of(dy))):
            if mine.dtype == place.dtype:
                place.addmm_(mine.t(), x) if self.places is None else torch.mm(mine.t(), x, out=place)
            elif self.places is None:
                place.add_(mine.t() @ x)
            elif mine.device.type == "cpu":
                place.copy_(mine.t() @ x)
            else:
                torch.mm(mine.t(), x, out_dtype=place.dtype, out=place)

    def put_rows(self, table: Tensor, rows: Tensor, dy: Tensor) -> None:
        """Store the gradient of `table`: each of the task's rows of dy [tokens, hidden] is added, in a fixed order, to the row of
        the table that `rows` [tokens] names."""
        if not table.requires_grad:
            return
        gradient = _grad(table) if self.places is None else self.places[table].zero_()
        add_rows(gradient, self.of(rows), self.of(dy))

    def _places(self, parameters: Sequence[Tensor], dy: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
        """Return each place for gradients with its columns of dy: one place for all parameters, or one per trained parameter."""
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        places = [self.places[of] if self.places is not None else _grad(of) for of in trained]
        if len(trained) == len(parameters) and (joint := side_by_side(places)) is not None:
            return [(joint, dy)]
        columns = torch.split(dy, [len(parameter) for parameter in parameters], dim=1)
        mine = [own for own, parameter in zip(columns, parameters, strict=True) if parameter.requires_grad]
        return zip(places, mine, strict=True)


def side_by_side(tensors: Sequence[Tensor]) -> Tensor | None:
    """Return tensors [n, ..] as one, if they follow each other in memory; otherwise None."""
    first = tensors[0]
    if len(tensors) == 1:
        return first
    storage, ends = first.untyped_storage().data_ptr(), first.storage_offset()
    for tensor in tensors:
        if tensor.storage_offset() != ends or tensor.untyped_storage().data_ptr() != storage:
            return None
        ends += tensor.numel()
    return first.as_strided((sum(map(len, tensors)), *first.shape[1:]), first.stride())


def joined(tensors: Sequence[Tensor]) -> Tensor:
    """Return tensors [n, ..] as one: a view if they follow each other in memory, else a copy."""
    together = side_by_side(tensors)
    return torch.cat(list(tensors)) if together is None else together


def _grad(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def add_rows(total: Tensor, rows: Tensor, x: Tensor) -> Tensor:
    """Add x [n, hidden] to rows [n] of `total`, in a fixed order, and return it."""
    if x.device.type == "cpu":
        # Sorts the rows, then adds in parallel.
        return total.scatter_add_(0, rows[:, None].expand_as(x), x)
    # On CUDA this is deterministic, and index_add_ is not.
    return total.index_put_((rows,), x, accumulate=True)


@dataclass(frozen=True)
class Mask:
    """A dropout mask, scaled."""

    kept: Tensor | None  # 0, or a factor that is not 0; None: all are kept
    scale: float  # the factor of kept elements

    def drop(self, x: Tensor) -> Tensor:
        """Return x with dropout. The same function, applied to the gradient, is the backward pass."""
        if self.kept is None:
            return x
        dropped = x * self.kept
        return dropped if self.scale == 1 else dropped.mul_(self.scale)

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
        # Without explicit bounds random_() always leaves the sign bit 0.
        self._bits = words.random_(-(2**63), None).view(torch.int16)
        self._next = 0

    def masks(self, shapes: Sequence[Sequence[int]], probability: float, dtype: torch.dtype) -> list[Mask]:
        """Return the next masks, of `shapes`."""
        dropped = round(probability * 2**16)  # how many of the 2**16 random values drop an element
        if not dropped:
            return [Mask(None, 1.0) for _ in shapes]
        sizes = [math.prod(shape) for shape in shapes]
        first, self._next = self._next, self._next + sum(sizes)
        kept, scale = self._bits[first : self._next] >= dropped - 2**15, 1 / (1 - dropped / 2**16)
        factors = kept.to(dtype)
        # A 16-bit float would round the scale.
        if dtype.itemsize >= 4:
            factors, scale = factors.mul_(scale), 1.0
        pieces = torch.split(factors, sizes)
        return [Mask(piece.view(*shape), scale) for piece, shape in zip(pieces, shapes, strict=True)]


class Activation:
    """The function between two dense layers. Its backward pass is given the input."""

    def __init__(self, name: str) -> None:
        self.forward, self.backward = ACTIVATIONS[name]


def _gelu(approximate: str) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]:
    return (
        partial(functional.gelu, approximate=approximate),
        partial(torch.ops.aten.gelu_backward, approximate=approximate),
    )


# By transformers' names: the function of x, and its gradient as a function of (dy, x).
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    **dict.fromkeys(("gelu", "gelu_python"), _gelu("none")),
    **dict.fromkeys(("gelu_new", "gelu_fast", "gelu_pytorch_tanh"), _gelu("tanh")),
    **dict.fromkeys(("silu", "swish"), (functional.silu, torch.ops.aten.silu_backward)),
    "relu": (torch.relu, lambda dy, x: torch.ops.aten.threshold_backward(dy, x, 0)),
}


class Rotary:
    """Rotary positions (Su et al. 2021): dimensions i and size / 2 + i of
    a head are rotated by an angle that depends on the token's position.

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
    """x @ weight.T + bias of dense layers that share their input: their outputs side by side.

    Args:
        modules: the layers.
        copies: each layer's weight and bias in the dtype of the pass: its own or a copy.
        sums: collects the gradients of biases.
    """

    def __init__(
        self, modules: Sequence[nn.Linear], copies: Sequence[tuple[Tensor, Tensor | None]], sums: "ColumnSums"
    ) -> None:
        self.sums, self.weights = sums, [module.weight for module in modules]
        self.biases = [module.bias for module in modules if module.bias is not None]
        self.weight = joined([weight for weight, _ in copies])
        biases = [bias for _, bias in copies if bias is not None]
        self.bias = joined(biases) if biases else None

    def forward(self, x: Tensor) -> Tensor:
        """[rows, in] -> [rows, out]."""
        self.x = x
        return linear(x, self.weight, self.bias)

    def backward(self, dy: Tensor) -> Tensor:
        """[rows, out] -> [rows, in]."""
        for share in self.sums.shares:
            share.put_outer(self.weights, dy, self.x)
        if self.biases:
            self.sums.add(self.biases, dy)
        return linear(dy, self.weight.t(), None)


class Norm:
    """LayerNorm over the last dimension."""

    def __init__(self, module: nn.LayerNorm, sums: "ColumnSums") -> None:
        self.module, self.sums = module, sums

    def forward(self, x: Tensor) -> Tensor:
        """[rows, hidden] -> [rows, hidden]."""
        self.x, module = x, self.module
        shape = module.normalized_shape
        y, self.mean, self.rstd = torch.native_layer_norm(x, shape, module.weight, module.bias, module.eps)
        return y

    def backward(self, dy: Tensor) -> Tensor:
        """[rows, hidden] -> [rows, hidden]."""
        if not self.sums.together:
            return self._backward_by_share(dy)
        module = self.module
        dx, _, _ = self._backward(dy, self.x, self.mean, self.rstd, [True, False, False])
        normed = torch.native_layer_norm(self.x, module.normalized_shape, None, None, module.eps)[0]
        self.sums.add([module.weight], dy * normed)
        if module.bias is not None:
            self.sums.add([module.bias], dy)
        return dx

    def _backward_by_share(self, dy: Tensor) -> Tensor:
        pieces = []
        for share in self.sums.shares:
            mine, x, mean, rstd = (share.of(rows) for rows in (dy, self.x, self.mean, self.rstd))
            needed = [True, True, self.module.bias is not None]
            dx, dweight, dbias = self._backward(mine, x, mean, rstd, needed)
            share.put(self.module.weight, dweight)
            if self.module.bias is not None:
                share.put(self.module.bias, dbias)
            pieces.append(dx)
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def _backward(
        self, dy: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, output_mask: list[bool]
    ) -> tuple[Tensor, Tensor, Tensor]:
        module = self.module
        gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_layer_norm_backward(
            dy, x, module.normalized_shape, mean, rstd, module.weight, module.bias, output_mask
        )
        return gradients


class ColumnSums:
    """Gradients of vectors (biases, normalisation) are sums over each task's rows.

    On a CPU each is summed at once, while dy is in the cache. On a GPU calls cost more than arithmetic: there all sums of a
    layer are one product with a matrix of ones and zeros, [tasks, rows].
    """

    def __init__(self, shares: Sequence[Share], device: torch.device, together: bool) -> None:
        self.shares, self.together = shares, together
        self._pending: dict[int, list[tuple[Sequence[Tensor], Tensor]]] = {}  # by number of rows
        self._owned = {rows: self._ones(rows, device) for rows in shares[0].rows} if together else {}

    def _ones(self, rows: int, device: torch.device) -> Tensor:
        owned = torch.zeros(len(self.shares), rows)
        for mine, share in zip(owned, self.shares, strict=True):
            share.of(mine).fill_(1)
        return (owned.pin_memory() if device.type == "cuda" else owned).to(device, non_blocking=True)

    def add(self, parameters: Sequence[Tensor], dy: Tensor) -> None:
        """Take the sums of dy [rows, out] as the gradients of `parameters`, each taking its columns."""
        if self.together:
            if any(parameter.requires_grad for parameter in parameters):
                self._pending.setdefault(len(dy), []).append((parameters, dy))
            return
        for share in self.shares:
            share.put_sum(parameters, dy)

    def write(self) -> None:
        """Compute and store the sums that are still pending."""
        for rows, pending in self._pending.items():
            parameters = [parameter for vectors, _ in pending for parameter in vectors]
            sums = self._owned[rows] @ torch.cat([dy for _, dy in pending], dim=1).float()
            for share, mine in zip(self.shares, sums, strict=True):
                share.put_all(parameters, torch.split(mine, [len(parameter) for parameter in parameters]))
        self._pending.clear()
