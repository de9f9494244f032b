"""How often checkpoints are saved. The default of `checkpoint_seconds` is in `spec/model.py`."""

import math
import os
import time

from ablate.errors import BadInput
from ablate.spec.model import StudySpec

# The largest share of wall time to spend on saving. A slow disk thus gets fewer checkpoints instead of slower training.
MAX_CHECKPOINT_SHARE = 0.03
# Set by hand: used as it is, whatever it costs.
VARIABLE = "ABLATE_CHECKPOINT_SECONDS"


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


def checkpoint_seconds(spec: StudySpec) -> float:
    """Return how often a checkpoint is due: ABLATE_CHECKPOINT_SECONDS, or what the study says.

    Raises:
        BadInput: the variable is not a number from 0 on.
    """
    named = os.environ.get(VARIABLE)
    if named is None:
        return spec.checkpoint_seconds
    try:
        seconds = float(named)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise BadInput(f"{VARIABLE}: found {named!r}; write a number of seconds, 0 or more")
    return seconds


def most_share() -> float:
    """Return the largest share of wall time to spend on saving."""
    return math.inf if VARIABLE in os.environ else MAX_CHECKPOINT_SHARE
