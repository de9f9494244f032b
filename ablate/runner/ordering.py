"""The order in which trials are run."""

import random
from collections.abc import Sequence

from ablate.spec.model import StudySpec
from ablate.store.results import Look, seeds_wanted


def in_blocks(spec: StudySpec, cells: Sequence[str], looks: Sequence[Look] = ()) -> list[tuple[str, int]]:
    """Return the (cell, seed) pairs to run, in order: one block per seed, with the cells shuffled inside each block.

    A study that is cut short has then compared as many cells as possible on the same seeds."""
    seeds_needed = {cell: seeds_wanted(spec, looks, cell) for cell in cells}
    order = []
    for place, seed in enumerate(spec.seeds):
        block = [cell for cell in cells if place < seeds_needed[cell]]
        random.Random(f"{spec.study} {seed}").shuffle(block)
        order += [(cell, seed) for cell in block]
    return order
