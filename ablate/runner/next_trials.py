"""Add the next trials of a study that chooses them while it runs: of a search, or after a look at the results.

One process at a time, under a lock. Every decision depends on the store alone, so any process decides the same. A look and the
trials that follow from it are one commit: a killed process leaves both or neither."""

from collections.abc import Iterator
from contextlib import contextmanager

from ablate.contract import Trainer
from ablate.runner.ordering import in_blocks
from ablate.runner.ownership import FileLocks, ServerLocks
from ablate.store.reading import read_results
from ablate.store.writing import Store

CHOOSING = "choosing"


def choose_next(store: Store, trainer: Trainer) -> bool:
    """Add the next trial of a search, or take a look that is due; return whether there may be something new to run."""
    if store.spec.search is not None:
        # Optuna takes a while to load, and only searches need it.
        from ablate.runner.searching import add_next

        return add_next(store, trainer) > 0
    return store.spec.looking is not None and look_on(store)


@contextmanager
def turn_to_choose(locks: FileLocks | ServerLocks) -> Iterator[bool]:
    """Yield whether it is this process's turn; if so, no other process chooses meanwhile."""
    held = locks.acquire(CHOOSING)
    try:
        yield held
    finally:
        if held:
            locks.release(CHOOSING)


def look_on(store: Store) -> bool:
    """Take the looks that are due; return whether there are trials to run afterwards.

    A look is due when every trial of its stage has a result, or has failed for good."""
    while not (going := bool(store.queue())) and _look(store):
        continue
    return going


def _look(store: Store) -> bool:
    """Take one look; return whether another may be due."""
    results = read_results(store.place)
    looking = results.spec.looking
    taken = len(results.looks)
    if looking is None or taken == len(looking.looks) or (taken and not results.looks[-1].cells):
        return False
    # Statistics take a while to load, and few workers look.
    from ablate.evidence.frames import grid
    from ablate.evidence.looks import take_look

    arranged = grid(results)
    if arranged.primary not in arranged.values:
        # No trial has a result; `--retry-failed` may change that.
        return False
    look = take_look(arranged)
    order = in_blocks(results.spec, [cell.hash for cell in results.cells], (*results.looks, look))
    store.record_look(look, results.cells, order)
    return True
