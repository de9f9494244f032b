"""How often checkpoints are saved. The default of `checkpoint_seconds` is in `spec/model.py`."""

import time

# The largest share of wall time to spend on saving. A slow disk thus gets fewer checkpoints instead of slower training.
MAX_CHECKPOINT_SHARE = 0.03


class Cadence:
    """When the next checkpoint is due: after the study's interval, or later where saving takes long.

    Shared by all trials of a worker: how long a save takes is known from the trial before."""

    def __init__(self, interval_s: float, max_share: float = MAX_CHECKPOINT_SHARE) -> None:
        self.interval_s = interval_s
        self.max_share = max_share
        self._last_save_s = 0.0
        self._from = time.monotonic()

    def restart(self) -> None:
        """Start waiting: for a new trial, or after a save."""
        self._from = time.monotonic()

    def is_due(self) -> bool:
        """Return whether to save now."""
        wait_s = max(self.interval_s, self._last_save_s / self.max_share)
        return time.monotonic() - self._from >= wait_s

    def saved(self, took_s: float) -> None:
        """Note how long a save took."""
        self._last_save_s = took_s
        self.restart()
