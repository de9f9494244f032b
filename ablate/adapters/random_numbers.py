"""Random numbers that a resumed training draws again: the global generators, and data that draws from generators of its own.

A data loader fetches batches ahead, in this process or in others, and shuffles when an epoch begins. What it draws from the
global generators then cannot be drawn again in the middle of an epoch. So the order of the data is made a function of the
seed and the epoch, and what a data set or a collator draws (masks, crops) a function of the seed, the epoch and the batch."""

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

ORDER = 0  # the number of the generator that orders an epoch; those of its batches count from 1


def generator_states() -> dict[str, Any]:
    """Return the states of all global generators: of Python, NumPy, and torch on every device."""
    states = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore_generators(states: dict[str, Any]) -> None:
    """Put the global generators back into the states that `generator_states` returned."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state_all(states["cuda"])
    if "mps" in states:
        torch.mps.set_rng_state(states["mps"])


@contextlib.contextmanager
def own_generators(*key: int) -> Iterator[None]:
    """Let the generators of the CPU count from `key` inside the block, and go on as if nothing was drawn after it."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    # Not `torch.manual_seed`, which seeds the GPUs too.
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)


class SeededBatches:
    """A batch sampler whose order depends on the seed and the epoch only; each batch carries a key for its own numbers."""

    def __init__(self, batches: Any, seed: int, epoch: int = 0) -> None:
        self._batches, self._seed, self.epoch = batches, seed, epoch

    def __iter__(self) -> Iterator[tuple[tuple[int, int, int], Sequence[int]]]:
        # Drawn at once: a sampler may draw at its beginning, or as it goes.
        with own_generators(self._seed, self.epoch, ORDER):
            batches = list(self._batches)
        for number, items in enumerate(batches, ORDER + 1):
            yield (self._seed, self.epoch, number), items

    def __len__(self) -> int:
        return len(self._batches)

    def set_epoch(self, epoch: int) -> None:
        """Note the epoch that is iterated next."""
        self.epoch = epoch
        if hasattr(self._batches, "set_epoch"):
            self._batches.set_epoch(epoch)

    def __getattr__(self, name: str) -> Any:
        # Libraries look for `sampler`, `batch_size` and `drop_last`.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._batches, name)


class _SeededFetch(Dataset[Any]):
    """A data set and its collator, which draw from generators seeded for each batch, in whatever process."""

    def __init__(self, dataset: Any, collate: Callable[[Any], Any]) -> None:
        self._dataset, self._collate = dataset, collate

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        return self._dataset[index]

    def __getitems__(self, batch: tuple[tuple[int, int, int], Sequence[int]]) -> Any:
        key, items = batch
        with own_generators(*key):
            if hasattr(self._dataset, "__getitems__"):
                return self._collate(self._dataset.__getitems__(items))
            return self._collate([self._dataset[item] for item in items])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._dataset, name)


def seed_batches(loader: Any, seed: int, epoch: int = 0) -> None:
    """Make order and random numbers of a `DataLoader` functions of seed and epoch, in place.

    An iterable data set, which has no items to order, is left as it is; so is a batch sampler without an end."""
    loader = getattr(loader, "base_dataloader", loader)  # accelerate's wrapper
    batches = getattr(loader, "batch_sampler", None)
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset) or batches is None:
        return
    if isinstance(batches, SeededBatches):
        batches.set_epoch(epoch)
        return
    try:
        len(batches)
    except TypeError:
        return
    # A DataLoader refuses to have these assigned, since its own sampler would go on with the old ones.
    vars(loader).update(
        dataset=_SeededFetch(loader.dataset, loader.collate_fn),
        batch_sampler=SeededBatches(batches, seed, epoch),
    )
    loader.collate_fn = _as_it_is


def _as_it_is(batch: Any) -> Any:
    return batch
