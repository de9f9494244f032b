"""A worker: a warm process that takes trials from the store, one after another, until none is left.

The store is the queue; a worker claims a trial by locking it."""

import time
from collections.abc import Collection, Iterable

from ablate.runner.attempt import Attempt, Workbench
from ablate.runner.next_trials import choose_next, turn_to_choose
from ablate.store.retrying import lasting
from ablate.store.trials import Queued

POLL_S = 0.2  # how soon a trial whose owner died is taken over


class Worker(Workbench):
    """Takes one trial after another."""

    def run(self, numbers: Iterable[int] | None = None) -> None:
        """Work until every trial (or every one of `numbers`) has a result, or until asked to stop or to drain.

        Also waits for trials owned by other workers, since an owner may die."""
        wanted = None if numbers is None else set(numbers)
        while True:
            queue = self.store.queue(wanted)
            advanced = False
            for queued in queue:
                if self.stopping() or self.draining():
                    return
                advanced |= self._try(queued)
            if advanced or self._chose(queue, wanted):
                continue
            if not queue or self.draining():
                return
            time.sleep(POLL_S)

    def _try(self, queued: Queued) -> bool:
        """Lock a trial and work on it; return whether anything was done."""
        self._renew_lost_locks()
        key = f"trial-{queued.trial_id}"
        if not self.locks.acquire(key):
            return False
        try:
            advanced = Attempt(self, queued, self.store.cell(queued.cell)).work()
        finally:
            self.locks.release(key)
        if advanced:
            self.prefixes.tidy()
        return advanced

    def _chose(self, queue: Collection[Queued], wanted: Collection[int] | None) -> bool:
        """Add the study's next trials if it chooses them while it runs; return whether there may be new ones."""
        # A search adds one trial whenever one is done; a look adds many when all are done.
        is_search = self.store.spec.search is not None
        if self.stopping() or self.draining() or (not is_search and (queue or wanted is not None)):
            return False
        return lasting(lambda: self._choose(wanted), self.stopping)

    def _choose(self, wanted: Collection[int] | None) -> bool:
        # Take the lock again for each attempt: a restarting server releases all locks.
        self._renew_lost_locks()
        with turn_to_choose(self.locks) as mine:
            if wanted is not None and self.store.next_number() not in wanted:
                return False
            if mine:
                return choose_next(self.store, self.trainer)
        time.sleep(POLL_S)
        return True

    def _renew_lost_locks(self) -> None:
        """Begin a new session of locks if they were taken from this process."""
        if self.locks.lost():
            self.locks.renew()
