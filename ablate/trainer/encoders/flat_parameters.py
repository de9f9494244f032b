"""The parameters of a module as views of one buffer, and their gradients
too: one norm, one Gramian, one optimizer call, one copy to reset.

The table (an embedding, of which a step reads few rows) comes first, then matrices, then vectors (biases, normalisation), so that
the weights that `l2` shrinks are one slice, and so is everything but the table.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

import torch
from torch import Tensor, nn

ALL = "all"  # the owner of gradients that are not kept per task


class Flat:
    """One buffer for the values of all parameters of `module`, which become views of it.

    Attributes:
        values: [params], on the module's device.
        table: the first parameter, if gradients hold only those of its rows that are in use; else None.
    """

    def __init__(self, module: nn.Module, table: Tensor | None = None) -> None:
        self.table = table
        others = [parameter for parameter in module.parameters() if parameter is not table]
        # Python's sort is stable, so the order within each group is the module's.
        self._others = sorted(others, key=lambda parameter: parameter.ndim < 2)
        self._parameters = [*([] if table is None else [table]), *self._others]
        flattened = [parameter.detach().reshape(-1) for parameter in self._parameters]
        self.values = torch.cat(flattened) if flattened else torch.empty(0)
        for parameter, view in _views(self._parameters, self.values).items():
            parameter.data = view

    @property
    def beside_table(self) -> Tensor:
        """The values of all parameters except the table."""
        return self.values[0 if self.table is None else self.table.numel() :]

    def runs(self, shares: Mapping[Tensor, float]) -> list[tuple[bool, float, slice]]:
        """Split `beside_table` into runs that the optimizer treats alike: (holds matrices, share of the peak rate, slice)."""
        runs, end = [], 0
        kinds = groupby(self._others, lambda parameter: (parameter.ndim >= 2, shares.get(parameter, 1.0)))
        for (is_matrix, share), parameters in kinds:
            begin, end = end, end + sum(parameter.numel() for parameter in parameters)
            runs.append((is_matrix, share, slice(begin, end)))
        return runs

    def views(self, buffer: Tensor) -> dict[Tensor, Tensor]:
        """Return each parameter's view, in its own shape, of a `buffer` for everything but the table."""
        return _views(self._others, buffer)

    def add_gradients_to(self, places: Mapping[Tensor, Tensor]) -> None:
        """Make the next backward pass add to `places`."""
        for parameter, place in places.items():
            parameter.grad = place

    def require_gradients(self, wanted: bool) -> None:
        """Freeze or unfreeze the module, and drop its gradients."""
        for parameter in self._parameters:
            parameter.grad = None
            parameter.requires_grad_(wanted)


class Gradients:
    """A step's gradients of the parameters of a `Flat`, kept per owner: for each task, or for `ALL` tasks together.

    For the table, they hold only the rows in use. A vocabulary has 30,000 words, a step reads a few hundred of them, and half
    of a small encoder is its word embeddings: so norms, dot products and sums skip the zeros.

    Attributes:
        dense: [owners, params other than the table].
        rows: [owners, words, hidden], of the rows `words` of the table; empty if there is no table.
        words: [words], ascending.
    """

    def __init__(self, flat: Flat, owners: Sequence[str] = (ALL,)) -> None:
        self.owners = tuple(owners)
        self.dense = flat.values.new_zeros(len(owners), len(flat.beside_table))
        self._table, self._views = flat.table, [flat.views(row) for row in self.dense]
        self.read_rows(torch.empty(0, dtype=torch.long, device=flat.values.device))

    def read_rows(self, words: Tensor) -> None:
        """Allocate gradients of 0 for the rows `words` of the table."""
        self.words = words
        hidden = 0 if self._table is None else self._table.shape[1]
        self.rows = self.dense.new_zeros(len(self.owners), len(words), hidden)

    def places(self, owner: str = ALL) -> dict[Tensor, Tensor]:
        """Return the gradient of each parameter; for the table, of its rows `words`."""
        index = self.owners.index(owner)
        of_table = {} if self._table is None else {self._table: self.rows[index]}
        return self._views[index] | of_table

    def pieces(self) -> list[Tensor]:
        """Return all gradients as pieces of [owners, numbers]."""
        return [self.dense, self.rows.flatten(1)]

    def add(self, owner: str, other: "Gradients") -> None:
        """Add the gradients of `other` (which has a single owner) to those of `owner`."""
        index, words, rows = self.owners.index(owner), self.words, self.rows
        self.dense[index] += other.dense[0]
        self.read_rows(torch.unique(torch.cat([words, other.words])))
        self.rows[:, torch.searchsorted(self.words, words)] = rows
        self.rows[index, torch.searchsorted(self.words, other.words)] += other.rows[0]

    def weighted_sum(self, weights: Sequence[float], total: "Gradients") -> None:
        """Write the sum of the owners' gradients, times their `weights`, to `total`, which has one owner and the same words."""
        first, *others = weights
        for piece, (into,) in zip(self.pieces(), total.pieces(), strict=True):
            torch.mul(piece[0], first, out=into)
            for gradient, weight in zip(piece[1:], others, strict=True):
                into.add_(gradient, alpha=weight)

    def clear(self, owners: Iterable[str] = (ALL,)) -> None:
        """Set the gradients of `owners` to 0."""
        for owner in owners:
            for piece in self.pieces():
                piece[self.owners.index(owner)].zero_()


def _views(parameters: Sequence[Tensor], buffer: Tensor) -> dict[Tensor, Tensor]:
    pieces = torch.split(buffer, [parameter.numel() for parameter in parameters])
    pairs = zip(parameters, pieces, strict=True)
    return {parameter: piece.view(parameter.shape) for parameter, piece in pairs}
