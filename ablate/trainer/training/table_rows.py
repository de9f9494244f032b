"""Adam on an embedding table, when each step reads only a few of its rows."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ablate.trainer.encoders.flat_parameters import Gradients

MOMENTS = ("exp_avg", "exp_avg_sq")

Moments = dict[str, Tensor]


class TableRows:
    """The rows of a table that Adam updates, as one leaf of the optimizer.

    Without weight decay, Adam does not change a row before its first gradient, since its moments are 0. So the leaf is a copy
    of the rows that had one, with the same bits as Adam on the whole table. In a small encoder half of all weights are the
    table: of a step on two sentences, Adam takes 18 % with the whole table and 10 % with these rows (MiniLM). Copying a
    row there and back costs half of what Adam costs, so with more than half of the rows the leaf is the table itself.

    Attributes:
        leaf: [rows, hidden], of which the last may be unused and 0.
        gradient: [rows, hidden], all 0 between steps.

    Args:
        table: [words, hidden].
        whole: The leaf is the table from the start. On a GPU it has to be: finding new rows would wait for the device.
    """

    def __init__(self, table: Tensor, whole: bool) -> None:
        self._table = table
        self._words: Tensor | None = None  # the words of the leaf's rows; None: all words, in order
        self._places = torch.full((len(table),), -1)  # word -> row
        self.leaf, self.gradient = nn.Parameter(table), table
        if whole:
            self._use_table()
        else:
            self._use_rows(torch.empty(0, dtype=torch.long), 0)

    def before_step(self, gradients: Gradients, moments: Moments) -> None:
        """Copy a step's gradients into the leaf's; `moments` is Adam's state of the leaf."""
        if self._words is not None:
            self._add(self._words, gradients.words, moments)
        if self._words is not None:
            torch.index_select(self._table, 0, self._words, out=self.leaf.data[: len(self._words)])
        self.gradient.index_copy_(0, self._rows_of(gradients), gradients.rows[0])

    def after_step(self, gradients: Gradients) -> None:
        """Update the table, and set the gradients to 0."""
        if self._words is not None:
            self._table.index_copy_(0, self._words, self.leaf.data[: len(self._words)])
        self.gradient.index_fill_(0, self._rows_of(gradients), 0)

    def state(self) -> Moments:
        """Return what resuming needs beside the moments."""
        return {} if self._words is None else {"words": self._words}

    def restore(self, state: Moments) -> None:
        """Use the rows of `state` again; the restored moments belong to them."""
        if "words" in state:
            self._use_rows(state["words"].clone(), len(state.get("exp_avg", ())))
        elif state:
            self._use_table()

    def _rows_of(self, gradients: Gradients) -> Tensor:
        return gradients.words if self._words is None else self._places[gradients.words]

    def _add(self, known: Tensor, words: Tensor, moments: Moments) -> None:
        """Add those of `words` that are not `known`."""
        words = torch.cat([known, words[self._places[words] < 0]])
        most = len(self._table) // 2
        if len(words) > most:
            for name in MOMENTS if moments else ():
                whole = torch.zeros_like(self._table)
                moments[name] = whole.index_copy_(0, known, moments[name][: len(known)])
            self._use_table()
        elif len(words) > len(self.leaf):
            # Growing copies the moments, so it grows by more than is needed now.
            rows = min(most, len(words) * 5 // 4 + 64)
            for name in MOMENTS if moments else ():
                moments[name] = functional.pad(moments[name], (0, 0, 0, rows - len(self.leaf)))
            self._use_rows(words, rows)
        else:
            self._places[words[len(known) :]] = torch.arange(len(known), len(words))
            self._words = words

    def _use_rows(self, words: Tensor, rows: int) -> None:
        self._words = words
        self._places[words] = torch.arange(len(words))
        self.leaf.data, self.gradient = self._table.new_zeros(2, rows, self._table.shape[1])

    def _use_table(self) -> None:
        self._words = None
        self.leaf.data, self.gradient = self._table, torch.zeros_like(self._table)
