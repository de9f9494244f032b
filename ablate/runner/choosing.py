"""What a study that chooses its trials while it runs adds next. One process at a time."""

from collections.abc import Iterator
from contextlib import contextmanager

from ablate.contract import Trainer
from ablate.runner.looking import look_on
from ablate.runner.ownership import Locks
from ablate.runner.searching import add_next
from ablate.store.writing import Store

CHOOSING = "choosing"


def choose_next(store: Store, trainer: Trainer) -> bool:
    """Add what a search tries next, or take a look that is due; say whether there may be something new to run."""
    if store.spec.search is not None:
        return add_next(store, trainer) > 0
    return store.spec.looking is not None and look_on(store)


@contextmanager
def turn_to_choose(locks: Locks) -> Iterator[bool]:
    """Say whether it is this process's turn; then nobody else chooses meanwhile."""
    held = locks.acquire(CHOOSING)
    try:
        yield held
    finally:
        if held:
            locks.release(CHOOSING)
