"""Which items of which tasks make up step k: a pure function of the seed, so resuming needs only k.

The last batch of a task's epoch may be smaller.
"""

from collections.abc import Mapping
from functools import lru_cache
from zlib import crc32

import numpy as np

from ablate.trainer.data.tokens import Indices


class Mixture:
    """The batches of one stage of training.

    Args:
        sizes: items of each task that is trained.
        batch_sizes: items per step of each task.
        mix: `longest`, `shortest` or `alternate`; see `Settings.mix`.
        reshuffle: whether each pass over a task's items has a new order, or repeats the first one.
        seed: of the trial.
    """

    def __init__(
        self, sizes: Mapping[str, int], batch_sizes: Mapping[str, int], mix: str, reshuffle: bool, seed: int
    ) -> None:
        self.sizes = dict(sizes)
        self.batch_sizes = {task: batch_sizes[task] for task in sizes}
        self.mix = mix
        self.reshuffle = reshuffle
        self.seed = seed
        self.batches = {task: -(-size // self.batch_sizes[task]) for task, size in sizes.items()}  # per epoch
        # A cache, not state: each order can be drawn again from the seed.
        self._order = lru_cache(maxsize=2 * len(sizes))(self._draw_order)
        self._turns = lru_cache(maxsize=1)(self._draw_turns)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch."""
        lengths = self.batches.values()
        if self.mix == "alternate":
            return sum(lengths)
        return min(lengths) if self.mix == "shortest" else max(lengths)

    def examples(self, steps: int) -> dict[str, int]:
        """Return how many items of each task the first `steps` steps take."""
        batches = dict.fromkeys(self.sizes, steps)
        if self.mix == "alternate":
            epochs, place = divmod(steps, self.steps_per_epoch)
            turns = np.bincount(self._turns(epochs)[:place], minlength=len(self.sizes)).tolist()
            batches = {
                task: epochs * self.batches[task] + turn for task, turn in zip(self.sizes, turns, strict=True)
            }
        passes = {task: divmod(batches[task], self.batches[task]) for task in self.sizes}
        return {
            task: n * self.sizes[task] + rest * self.batch_sizes[task] for task, (n, rest) in passes.items()
        }

    def step(self, step: int) -> dict[str, Indices]:
        """Return the items of each task that is trained in `step` (counted from 0)."""
        if self.mix == "alternate":
            epoch, place = divmod(step, self.steps_per_epoch)
            turn = int(self._turns(epoch)[place])
            task = list(self.sizes)[turn]
            earlier = int(np.count_nonzero(self._turns(epoch)[:place] == turn))
            return {task: self._batch(task, epoch * self.batches[task] + earlier)}
        return {task: self._batch(task, step) for task in self.sizes}

    def _batch(self, task: str, number: int) -> Indices:
        epoch, place = divmod(number, self.batches[task])
        size = self.batch_sizes[task]
        return self._order(task, epoch if self.reshuffle else 0)[place * size : (place + 1) * size]

    def _draw_order(self, task: str, epoch: int) -> Indices:
        return np.random.default_rng([self.seed, crc32(task.encode()), epoch]).permutation(self.sizes[task])

    def _draw_turns(self, epoch: int) -> Indices:
        turns = np.repeat(np.arange(len(self.sizes)), list(self.batches.values()))
        drawn = epoch if self.reshuffle else 0
        return np.random.default_rng([self.seed, crc32(b"turns"), drawn]).permutation(turns)
