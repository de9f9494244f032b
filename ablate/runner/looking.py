"""Continue a study that adds seeds: look at its results once a stage is done, and queue the trials of the next.

One process at a time, under a lock. A look and the trials that follow from it are one commit: a killed process leaves both or
neither. Every decision starts from the store alone: whoever looks next sees the same."""

from ablate.runner.ordering import in_blocks
from ablate.store.reading import read_results
from ablate.store.writing import Store


def look_on(store: Store) -> bool:
    """Take the looks that are due; say whether there are trials to run then.

    A look is due when every trial of its stage has a result, or has failed for good."""
    while not (going := bool(store.queue())) and _look(store):
        continue
    return going


def _look(store: Store) -> bool:
    """Take one look; say whether there may be another."""
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
