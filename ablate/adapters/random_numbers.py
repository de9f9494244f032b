"""Gives resumed training the random numbers that it would have had: states of the global generators, and seeds for the data.

A data loader fetches batches ahead, in this process or in others, and shuffles when an epoch
begins. So its draws from the global generators cannot be replayed from the middle of an epoch.
Instead, the order of the data becomes a function of the seed and the epoch, and the draws of a
dataset or a collator (masks, crops) become a function of the seed, the epoch and the batch."""

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

ORDER = 0  # key of the generator that orders an epoch; batches have keys from 1


def generator_states() -> dict[str, Any]:
    """Return the states of all global generators: of Python, NumPy, and torch on every device."""
    states = {"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return states


def restore_generators(states: dict[str, Any]) -> None:
    """Restore the global generators to the states that `generator_states` returned."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state_all(states["cuda"])
    if "mps" in states:
        torch.mps.set_rng_state(states["mps"])


@contextlib.contextmanager
def seeded_generators(*key: int) -> Iterator[None]:
    """Seed the CPU's generators with `key` inside the block; afterwards restore them."""
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
    """A batch sampler whose order depends only on the seed and the epoch; each batch carries the key that seeds its own draws."""

    def __init__(self, batches: Any, seed: int, epoch: int = 0) -> None:
        self._batches, self._seed, self.epoch = batches, seed, epoch

    def __iter__(self) -> Iterator[tuple[tuple[int, int, int], Sequence[int]]]:
        # Draw all batches now: some samplers draw their random numbers at the start, others batch by batch.
        with seeded_generators(self._seed, self.epoch, ORDER):
            batches = list(self._batches)
        for number, items in enumerate(batches, ORDER + 1):
            yield (self._seed, self.epoch, number), items

    def __len__(self) -> int:
        return len(self._batches)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that is iterated next."""
        self.epoch = epoch
        if hasattr(self._batches, "set_epoch"):
            self._batches.set_epoch(epoch)

    def __getattr__(self, name: str) -> Any:
        # Libraries read `sampler`, `batch_size` and `drop_last`.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._batches, name)


class _SeededFetch(Dataset[Any]):
    """A dataset and its collator, with generators seeded for each batch, whatever process loads it."""

    def __init__(self, dataset: Any, collate: Callable[[Any], Any]) -> None:
        self._dataset, self._collate = dataset, collate

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        return self._dataset[index]

    def __getitems__(self, batch: tuple[tuple[int, int, int], Sequence[int]]) -> Any:
        key, items = batch
        with seeded_generators(*key):
            if hasattr(self._dataset, "__getitems__"):
                return self._collate(self._dataset.__getitems__(items))
            return self._collate([self._dataset[item] for item in items])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._dataset, name)


def seed_batches(loader: Any, seed: int, epoch: int = 0) -> None:
    """Change a `DataLoader` in place, so that its order and random numbers are functions of seed and epoch.

    Iterable datasets, which have no items to order, and endless batch samplers are left unchanged."""
    # accelerate wraps the loader.
    loader = getattr(loader, "base_dataloader", loader)
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
    # A DataLoader refuses assignments to these attributes, hence `vars`.
    vars(loader).update(
        dataset=_SeededFetch(loader.dataset, loader.collate_fn),
        batch_sampler=SeededBatches(batches, seed, epoch),
    )
    loader.collate_fn = _unchanged


def _unchanged(batch: Any) -> Any:
    return batch
