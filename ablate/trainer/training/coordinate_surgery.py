"""Surgery that looks at each coordinate of the tasks' gradients: at their signs or values, or at how large they have been so far.

Everything of a gradient's size stays on its device. Tests compare these methods with torchjd's, which take all gradients as one
matrix, read them several times as often, and draw from torch's global generator.

Scale (see `surgery`): GradDrop is the sum in each coordinate without a conflict, and has the sum as its expectation in the
others. The weights of TrimmedMean, in each coordinate, and of ExcessMTL sum to the number of tasks.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ablate.trainer.encoders.flat_parameters import Flat, Gradients

EXCESS_RATE, EXCESS_EPSILON = 0.01, 1e-7


class GradDrop:
    """GradDrop (Chen et al. 2020): each coordinate keeps only its positive or its negative gradients.

    Positive ones are kept with the probability P = (1 + sum of g / sum of |g|) / 2, which is their share of the sum of |g|.

    Args:
        device: of the gradients; random numbers are drawn there.
        seed: of the draws.
    """

    def __init__(self, device: torch.device, seed: int) -> None:
        self._generator = torch.Generator(device).manual_seed(seed)

    def combine(self, gradients: Gradients, gramian: Tensor, combined: Gradients) -> None:
        """Write the sum of those kept."""
        for piece, (total,) in zip(gradients.pieces(), combined.pieces(), strict=True):
            positive, negative = piece.clamp(min=0).sum(0), piece.clamp(max=0).sum(0)
            drawn = torch.empty_like(positive).uniform_(generator=self._generator)
            # drawn < P, without a division by 0
            torch.where(drawn * (positive - negative) < positive, positive, negative, out=total)

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs to continue from here."""
        return {"generator": self._generator.get_state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from where `state` was taken."""
        self._generator.set_state(state["generator"])


class TrimmedMean:
    """The trimmed mean (Yin et al. 2018): each coordinate drops its smallest and its largest gradient and averages the others.

    Gradients that are 0 do not take part. When fewer than three are left, nothing is dropped.
    """

    def combine(self, gradients: Gradients, gramian: Tensor, combined: Gradients) -> None:
        """Write the mean times the number of gradients that take part."""
        present = gramian.diagonal().nonzero().flatten().tolist()
        if len(present) < 3:
            gradients.weighted_sum([1.0] * len(gramian), combined)
            return
        for piece, (total,) in zip(gradients.pieces(), combined.pieces(), strict=True):
            first, second, *others = (piece[task] for task in present)
            low, high = torch.minimum(first, second), torch.maximum(first, second)
            total.zero_()
            for gradient in others:
                # Of these three, the one in the middle is neither the smallest nor the largest of all.
                total.add_(gradient.clamp(low, high))
                low, high = torch.minimum(low, gradient), torch.maximum(high, gradient)
            total.mul_(len(present) / (len(present) - 2))

    def state(self) -> dict[str, Any]:
        """Return nothing: each step stands for itself."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Do nothing."""


class ExcessMTL:
    """ExcessMTL (He et al. 2024): the further a task still is from its optimum, the more it counts.

    Its distance, the excess risk, is estimated by the sum of g^2 / h over coordinates, h being the root of the sum of g^2 over
    all steps, and divided by that of the task's first step. Each step multiplies the task's weight by exp(0.01 x this).

    Args:
        flat: the parameters of the gradients.
        tasks: names, in the order of the owners of the gradients.
    """

    def __init__(self, flat: Flat, tasks: Sequence[str]) -> None:
        self._squares = Gradients(flat, tasks)  # summed over steps, for all words
        if flat.table is not None:
            self._squares.read_rows(torch.arange(len(flat.table), device=flat.table.device))
        # On the CPU: a few numbers, which the host needs. `_first` is 0 for a task that has taken no step yet.
        self._first = torch.zeros(len(tasks), dtype=torch.float64)
        self._logits = torch.zeros_like(self._first)

    def combine(self, gradients: Gradients, gramian: Tensor, combined: Gradients) -> None:
        """Write the weighted sum."""
        risks = self._excess_risks(gradients).double().cpu()
        self._first = torch.where(self._first > 0, self._first, risks)
        self._logits += EXCESS_RATE * risks / self._first.clamp(min=1e-30)
        shares = torch.softmax(self._logits, 0)
        gradients.weighted_sum((len(shares) * shares).tolist(), combined)

    def _excess_risks(self, gradients: Gradients) -> Tensor:
        risks = []
        for task, dense in enumerate(gradients.dense):
            rows, words = gradients.rows[task], gradients.words
            squared = rows * rows
            # `words` has no duplicates, so no sum is lost.
            seen = self._squares.rows[task].index_select(0, words).add_(squared)
            self._squares.rows[task].index_copy_(0, words, seen)
            of_rows = _risk(squared.flatten(), seen.flatten())
            squared = dense * dense
            risks.append(of_rows + _risk(squared, self._squares.dense[task].add_(squared)))
        return torch.stack(risks)

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs to continue from here: of the table, the rows that had a gradient."""
        rows = self._squares.rows
        words = rows.sum((0, 2)).nonzero().flatten()
        table = {"words": words, "rows": rows[:, words]}
        return {"dense": self._squares.dense, "first": self._first, "logits": self._logits} | table

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from where `state` was taken."""
        self._squares.dense.copy_(state["dense"])
        self._squares.rows.zero_()[:, state["words"]] = state["rows"].to(self._squares.rows.device)
        self._first, self._logits = state["first"].clone(), state["logits"].clone()


def _risk(squared: Tensor, summed: Tensor) -> Tensor:
    return torch.dot(squared, (summed + EXCESS_EPSILON).rsqrt_())
