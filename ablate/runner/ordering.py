"""The order in which trials are run."""

import random
from collections.abc import Sequence

from ablate.spec.model import StudySpec
from ablate.store.results import Look, seeds_wanted


def in_blocks(spec: StudySpec, cells: Sequence[str], looks: Sequence[Look] = ()) -> list[tuple[str, int]]:
    """Return (cell, seed) that the study currently wants, in the order to run: one block per seed, cells shuffled inside each.

    A study cut short has then compared as many cells as possible on equal terms."""
    wanted = {cell: seeds_wanted(spec, looks, cell) for cell in cells}
    order = []
    for place, seed in enumerate(spec.seeds):
        block = [cell for cell in cells if place < wanted[cell]]
        random.Random(f"{spec.study} {seed}").shuffle(block)
        order += [(cell, seed) for cell in block]
    return order
