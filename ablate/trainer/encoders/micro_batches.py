"""A step's batch, embedded a few items at a time: large batches in little memory (gradient accumulation).

The heads and their losses see the whole batch, so that a loss may compare its items. First the encoder embeds all pieces
without a graph; then the caller's backward pass gives the gradients of the embeddings; then each piece is embedded again, with a
graph and the same dropout, and takes those gradients back to the weights. The price is a second forward pass of the encoder.

Source: Gao, Zhang, Han and Callan 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup".
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ablate.trainer.data.tokens import Indices
from ablate.trainer.encoders.embedding import Live, Pair, Pause
from ablate.trainer.encoders.flat_parameters import ALL, Flat, Gradients
from ablate.trainer.encoders.generators import Generators, generators_of, repeating


class Piece(NamedTuple):
    """Items of one task, embedded without a graph."""

    task: str
    items: Indices
    generators: Generators  # their states before it was embedded
    columns: list[Tensor]  # one or two, [items, hidden], whose gradients are collected


class MicroBatches:
    """Embeds at most `size` items at a time. `trained`: the parameters of the encoder that are trained.

    Steps of up to `size` items are not divided, and give the same bits as without micro-batches. A divided step has the losses
    and gradients of the undivided one except for rounding: pieces are summed in another order than one product over all
    tokens, and the order within a product depends on its shape. Without dropout, on a CPU, losses differed by at most 6e-8 of
    their size and each task's gradient by less than 1e-5 of its norm in fp32.
    """

    def __init__(self, live: Live, size: int, trained: Flat) -> None:
        self.live, self.size = live, size
        self._of_piece = Gradients(trained)

    def batches(self, items: Mapping[str, Indices], gradients: Gradients | None) -> Iterator[dict[str, Pair]]:
        """Yield embeddings as `Live.batches` does, of all tasks together."""
        if sum(map(len, items.values())) <= self.size:
            yield from self.live.batches(items, gradients)
            return
        with torch.no_grad():
            pieces = [
                self._embedded(task, part) for task, indices in items.items() for part in self._cut(indices)
            ]
        yield {task: _joined(piece.columns for piece in pieces if piece.task == task) for task in items}
        if gradients is None:
            return
        gradients.read_rows(torch.empty(0, dtype=torch.long, device=self.live.device))
        gradients.clear(gradients.owners)
        for piece in pieces:
            with repeating(piece.generators, self.live.device):
                self._backward(piece)
            gradients.add(piece.task if piece.task in gradients.owners else ALL, self._of_piece)

    def whole(self, task: str, split: str, pause: Pause) -> Pair:
        """Return the embeddings of all items of a split, without dropout and without a graph."""
        return self.live.whole(task, split, pause)

    def _cut(self, indices: Indices) -> list[Indices]:
        return np.split(indices, range(self.size, len(indices), self.size))

    def _embedded(self, task: str, items: Indices) -> Piece:
        generators = generators_of(self.live.device)
        (pairs,) = self.live.batches({task: items}, None)
        columns = [column.requires_grad_() for column in pairs[task] if column is not None]
        return Piece(task, items, generators, columns)

    def _backward(self, piece: Piece) -> None:
        """Compute the gradients of a piece, given those of its embeddings."""
        for pairs in self.live.batches({piece.task: piece.items}, self._of_piece):
            columns = [column for column in pairs[piece.task] if column is not None]
            torch.autograd.backward(columns, [column.grad for column in piece.columns])


def _joined(columns: Iterable[list[Tensor]]) -> Pair:
    first, *second = map(torch.cat, zip(*columns, strict=True))
    return first, second[0] if second else None
