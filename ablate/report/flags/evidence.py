"""The evidence that rules examine, and the severities of flags."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from ablate.evidence.contrasts import Contrast
from ablate.evidence.effects import Effect
from ablate.evidence.frames import Grid
from ablate.evidence.items import Items
from ablate.evidence.models import Model
from ablate.evidence.predictions import PredictionFiles
from ablate.report.document import CellRow, EffectRow, Progress

STOP = "stop"  # invalidates a claim of the report
CAUTION = "caution"  # must be stated with the claim
NOTE = "note"  # worth knowing
SEVERITIES = (STOP, CAUTION, NOTE)


def rows_where(marked: ArrayLike) -> frozenset[int]:
    """Return the rows where `marked` [cells] is true."""
    return frozenset(np.flatnonzero(marked).tolist())


@dataclass(frozen=True)
class Evidence:
    """Everything that a rule may examine."""

    items: Items
    contrasts: Sequence[Contrast]  # empty for a search
    models: Mapping[str, Model]
    effects: Sequence[Effect]  # on the primary metric
    facts: Mapping[str, Counter[str]]  # what parts were trained with: fact -> value -> number of parts
    progress: Progress
    cells: Sequence[CellRow]
    rows: Sequence[EffectRow]  # on all metrics

    @property
    def grid(self) -> Grid:
        """The trials by cell and seed."""
        return self.items.grid

    @cached_property
    def files(self) -> PredictionFiles:
        """The prediction files, once those behind every dev metric of every complete trial have been read."""
        for trial in self.grid.trials.values():
            if trial.state == "COMPLETE":
                for metric in self.grid.dev_metrics:
                    self.items.files.scores(trial, metric)
        return self.items.files
