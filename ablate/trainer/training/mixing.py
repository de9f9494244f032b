"""Which items of which tasks make up step k: a pure function of the seed, so resuming needs only k.

The last batch of a task's epoch may be smaller. An epoch of a mix with one task per step has as many steps as all tasks
together have batches. `alternate` trains each batch once; the sampling mixes draw the task of each step with probability
p ~ batches^exponent:

    proportional   1
    temperature    1 / T (T = 1 is proportional, a high T treats all tasks alike)
    annealed       1 - 0.8 (e - 1) / (E - 1) in epoch e of E (Stickland and Murray 2019, PALs)

Probabilities use batches where the papers use items, because steps are drawn. With equal batch sizes this is the same;
otherwise a small batch size does not make a task rarer.
"""

from collections.abc import Mapping
from functools import lru_cache
from zlib import crc32

import numpy as np
import numpy.typing as npt

from ablate.trainer.data.tokens import Indices
from ablate.trainer.settings import ONE_TASK_A_STEP


class Mixture:
    """The batches of one stage of training.

    Args:
        sizes: items of each task that is trained.
        batch_sizes: items per step of each task.
        mix: see `Settings.mix`.
        reshuffle: whether each pass over a task's items has a new order, or repeats the first one.
        seed: of the trial.
        temperature: T of `mix: temperature`.
        epochs: E of `mix: annealed`, or `max_steps`, from which it follows.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        batch_sizes: Mapping[str, int],
        mix: str,
        reshuffle: bool,
        seed: int,
        *,
        temperature: float = 1.0,
        epochs: int = 1,
        max_steps: int | None = None,
    ) -> None:
        self.sizes = dict(sizes)
        self.batch_sizes = {task: batch_sizes[task] for task in sizes}
        self.mix = mix
        self.reshuffle = reshuffle
        self.seed = seed
        self.batches = {task: -(-size // self.batch_sizes[task]) for task, size in sizes.items()}  # per epoch
        self.temperature = temperature
        self.epochs = epochs if max_steps is None else -(-max_steps // self.steps_per_epoch)
        # A cache, not state: every order can be drawn again from the seed.
        self._order = lru_cache(maxsize=2 * len(sizes))(self._draw_order)
        self._turns = lru_cache(maxsize=2)(self._draw_turns)
        # The steps of each task before each epoch, computed as needed.
        self._earlier = [np.zeros(len(sizes), np.int64)]

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch."""
        lengths = self.batches.values()
        if self.mix in ONE_TASK_A_STEP:
            return sum(lengths)
        return min(lengths) if self.mix == "shortest" else max(lengths)

    @property
    def first_pass(self) -> int:
        """Optimizer steps before a task or the mix begins again: up to there, `reshuffle` has no effect."""
        if self.mix not in ONE_TASK_A_STEP:
            return min(self.batches.values())
        turns = [np.flatnonzero(self._turns(0) == number) for number in range(len(self.sizes))]
        again = (
            of_task[n] for of_task, n in zip(turns, self.batches.values(), strict=True) if len(of_task) > n
        )
        return int(min(again, default=self.steps_per_epoch))

    def examples(self, steps: int) -> dict[str, int]:
        """Return how many items of each task the first `steps` steps take."""
        batches = dict.fromkeys(self.sizes, steps)
        if self.mix in ONE_TASK_A_STEP:
            epoch, place = divmod(steps, self.steps_per_epoch)
            turns = np.bincount(self._turns(epoch)[:place], minlength=len(self.sizes))
            batches = dict(zip(self.sizes, (self._before(epoch) + turns).tolist(), strict=True))
        passes = {task: divmod(batches[task], self.batches[task]) for task in self.sizes}
        return {
            task: n * self.sizes[task] + rest * self.batch_sizes[task] for task, (n, rest) in passes.items()
        }

    def step(self, step: int) -> dict[str, Indices]:
        """Return the items of each task that is trained in `step` (counted from 0)."""
        if self.mix in ONE_TASK_A_STEP:
            epoch, place = divmod(step, self.steps_per_epoch)
            turn = int(self._turns(epoch)[place])
            task = list(self.sizes)[turn]
            earlier = np.count_nonzero(self._turns(epoch)[:place] == turn)
            return {task: self._batch(task, int(self._before(epoch)[turn] + earlier))}
        return {task: self._batch(task, step) for task in self.sizes}

    def _batch(self, task: str, number: int) -> Indices:
        epoch, place = divmod(number, self.batches[task])
        size = self.batch_sizes[task]
        return self._order(task, epoch if self.reshuffle else 0)[place * size : (place + 1) * size]

    def _draw_order(self, task: str, epoch: int) -> Indices:
        return np.random.default_rng([self.seed, crc32(task.encode()), epoch]).permutation(self.sizes[task])

    def _draw_turns(self, epoch: int) -> Indices:
        """Return the number of the task that each step of an epoch trains."""
        random = np.random.default_rng([self.seed, crc32(b"turns"), epoch if self.reshuffle else 0])
        if self.mix == "alternate":
            return random.permutation(np.repeat(np.arange(len(self.sizes)), list(self.batches.values())))
        edges = np.cumsum(self._probabilities(epoch))[:-1]
        return np.searchsorted(edges, random.random(self.steps_per_epoch), side="right")

    def _probabilities(self, epoch: int) -> npt.NDArray[np.float64]:
        """Return the probability of each task at a step of `epoch` (from 0)."""
        exponent = {
            "proportional": 1.0,
            "temperature": 1 / self.temperature,
            # A single epoch has nothing to anneal over; steps after the last epoch count as part of it.
            "annealed": 1 - 0.8 * min(1.0, epoch / max(1, self.epochs - 1)),
        }[self.mix]
        powers = np.array([n**exponent for n in self.batches.values()])
        shares: npt.NDArray[np.float64] = powers / powers.sum()
        return shares

    def _before(self, epoch: int) -> Indices:
        """Return how many steps of each task the epochs before `epoch` have."""
        while len(self._earlier) <= epoch:
            turns = np.bincount(self._turns(len(self._earlier) - 1), minlength=len(self.sizes))
            self._earlier.append(self._earlier[-1] + turns)
        return self._earlier[epoch]
