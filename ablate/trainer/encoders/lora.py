"""LoRA (Hu et al. 2021): the encoder's weights are frozen, and a low-rank update of some matrices W is trained:
W + alpha / rank * B A with A [rank, in] and B [out, rank]. B starts at 0, A as in the authors' code.

Before a pass the update is merged into the weights, and after it the gradients of A and B are computed from those of the sums:
dB = alpha / rank * dW Aᵀ, dA = alpha / rank * Bᵀ dW. So encoders, packed or padded, need no change, evaluation costs nothing
extra, and the saved model is a plain one. The cost is one product dW per adapted matrix (2 of the 26 products of a step of
BERT's size that adapts queries and values), which computing x Aᵀ Bᵀ in the layer would avoid.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ablate.errors import BadInput
from ablate.trainer.data.tokens import Indices
from ablate.trainer.encoders.depth import layers_of
from ablate.trainer.encoders.embedding import Embedder, Pair, Pause
from ablate.trainer.encoders.flat_parameters import Flat, Gradients
from ablate.trainer.encoders.loading import Encoder
from ablate.trainer.encoders.packed_families import FAMILIES
from ablate.trainer.settings import LoraSettings


def _last_names(kind: str) -> set[str]:
    paths = (getattr(family.layer, kind, "") for family in FAMILIES.values())
    return {path.rpartition(".")[2] for path in paths if path}


# Names of the dense layers of queries and of values, and of those that stack queries, keys and values: of the families that are
# computed without padding, then of others.
_QUERY = {*_last_names("query"), "query_proj", "q_proj", "q_head", "q"}
_VALUE = {*_last_names("value"), "value_proj", "v_proj", "v_head", "v"}
_ALL_THREE = _last_names("qkv")


@dataclass(frozen=True)
class Adapted:
    """A matrix whose update is trained: some rows of a weight."""

    weight: nn.Parameter
    rows: slice
    down: nn.Parameter  # A
    up: nn.Parameter  # B


class Lora:
    """The low-rank updates of an encoder's matrices.

    Attributes:
        flat: A and B of all matrices, which are trained in place of the encoder.
        matrices: the weights that are changed, as they were loaded.

    Raises:
        BadInput: the encoder has none of the matrices.
    """

    def __init__(self, encoder: Encoder, settings: LoraSettings, seed: int) -> None:
        chosen = list(_chosen(encoder.module, settings.matrices))
        if not chosen:
            raise BadInput(
                f"lora.matrices: {settings.matrices}: {encoder.config.model_type} has no such dense layers; "
                "use another encoder, or lora: {rank: 0}"
            )
        device, generator = encoder.pristine.device, torch.Generator().manual_seed(seed)
        self.scale = settings.alpha / settings.rank
        downs, ups = nn.ParameterList(), nn.ParameterList()
        for weight, rows in chosen:
            outputs, inputs = weight[rows].shape
            # kaiming_uniform_(a=sqrt(5)) is uniform within this bound.
            drawn = torch.rand(settings.rank, inputs, generator=generator) * 2 - 1
            downs.append(nn.Parameter(drawn.to(device) / math.sqrt(inputs)))
            ups.append(nn.Parameter(torch.zeros(outputs, settings.rank, device=device)))
        self.flat = Flat(nn.ModuleList([downs, ups]))
        self._adapted = [Adapted(*one, a, b) for one, a, b in zip(chosen, downs, ups, strict=True)]
        self.matrices = Loaded(list(dict.fromkeys(weight for weight, _ in chosen)))
        encoder.flat.require_gradients(False)
        for weight, _ in chosen:
            weight.requires_grad_(True)

    def merge(self) -> None:
        """Write the changed matrices into the encoder."""
        loaded = self.matrices.views(self.matrices.values)
        for matrix in self._adapted:
            before, now = loaded[matrix.weight][matrix.rows], matrix.weight.detach()[matrix.rows]
            torch.addmm(before, matrix.up.detach(), matrix.down.detach(), alpha=self.scale, out=now)

    def pull(self, of_matrices: Gradients, gradients: Gradients) -> None:
        """Write the gradients of A and B, given those of the changed matrices; both have the same owners."""
        for owner in gradients.owners:
            given, places = of_matrices.places(owner), gradients.places(owner)
            for matrix in self._adapted:
                of_sum = given[matrix.weight][matrix.rows]
                torch.mm(of_sum, matrix.down.detach().t(), out=places[matrix.up]).mul_(self.scale)
                torch.mm(matrix.up.detach().t(), of_sum, out=places[matrix.down]).mul_(self.scale)

    def shares(self, of_encoder: Mapping[Tensor, float]) -> dict[Tensor, float]:
        """Return the learning-rate shares of A and B, which are those of their matrices."""
        return {
            part: of_encoder[matrix.weight] for matrix in self._adapted for part in (matrix.down, matrix.up)
        }


class Loaded(Flat):
    """A copy of parameters; unlike in `Flat`, the parameters do not become views of it."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.table, self._others, self._parameters = None, list(parameters), list(parameters)
        self.values = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])


def _chosen(module: nn.Module, matrices: str) -> Iterator[tuple[nn.Parameter, slice]]:
    """Yield the weight of each chosen dense layer in the encoder's layers, and which of its rows."""
    for layer in layers_of(module):
        dense_layers = [(name, of) for name, of in layer.named_modules() if isinstance(of, nn.Linear)]
        names = {name.rpartition(".")[2] for name, _ in dense_layers}
        if matrices != "all" and (names & _VALUE) and not names & _QUERY:
            raise BadInput(
                f"lora.matrices: {matrices}: this encoder has separate value matrices but no separate query matrices; use all"
            )
        for name, dense in dense_layers:
            last, outputs = name.rpartition(".")[2], dense.out_features
            weight = dense.get_parameter("weight")
            if matrices == "all" or last in _QUERY | _VALUE:
                yield weight, slice(outputs)
            elif last in _ALL_THREE:
                yield weight, slice(outputs // 3)
                yield weight, slice(outputs // 3 * 2, outputs)


class LowRank:
    """Embeddings from an encoder whose weights are frozen except for low-rank updates."""

    def __init__(self, inner: Embedder, lora: Lora) -> None:
        self.inner, self.lora = inner, lora
        self._of_matrices: Gradients | None = None

    def batches(self, items: Mapping[str, Indices], gradients: Gradients | None) -> Iterator[dict[str, Pair]]:
        """Yield embeddings as `Live.batches` does; `gradients` are of A and B."""
        self.lora.merge()
        if gradients is None:
            yield from self.inner.batches(items, None)
            return
        if self._of_matrices is None or self._of_matrices.owners != gradients.owners:
            self._of_matrices = Gradients(self.lora.matrices, gradients.owners)
        yield from self.inner.batches(items, self._of_matrices)
        self.lora.pull(self._of_matrices, gradients)

    def whole(self, task: str, split: str, pause: Pause) -> Pair:
        """Return the embeddings of all items of a split, without dropout and without a graph."""
        self.lora.merge()
        return self.inner.whole(task, split, pause)
