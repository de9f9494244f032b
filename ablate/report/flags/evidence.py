"""What a rule may look at, and how grave a flag is."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ablate.evidence.contrasts import Contrast
from ablate.evidence.effects import Effect
from ablate.evidence.frames import Grid
from ablate.evidence.items import Items
from ablate.evidence.models import Model
from ablate.report.document import CellRow, EffectRow, Progress

STOP = "stop"  # a claim of the report falls with it
CAUTION = "caution"  # the claim needs this sentence beside it
NOTE = "note"  # worth knowing
SEVERITIES = (STOP, CAUTION, NOTE)


def rows_where(marked: ArrayLike) -> frozenset[int]:
    """Return the rows that are marked in [cells]."""
    return frozenset(np.flatnonzero(marked).tolist())


@dataclass(frozen=True)
class Evidence:
    """Everything a rule may look at."""

    items: Items
    contrasts: Sequence[Contrast]  # none of a search
    models: Mapping[str, Model]
    effects: Sequence[Effect]  # on the metric that decides
    facts: Mapping[str, Counter[str]]  # what parts were trained with: fact -> value -> number of parts
    progress: Progress
    cells: Sequence[CellRow]
    rows: Sequence[EffectRow]  # of all metrics

    @property
    def grid(self) -> Grid:
        """The trials by cell and seed."""
        return self.items.grid
