"""A flag: what a reviewer would object to, with its evidence and what would remove it."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablate.evidence.contrasts import Contrast
from ablate.evidence.frames import Grid
from ablate.evidence.models import Model
from ablate.evidence.pairs import Pairing

STOP = "stop"  # a claim of the report falls with it
CAUTION = "caution"  # the claim needs this sentence beside it
NOTE = "note"  # a reader should know
SEVERITIES = (STOP, CAUTION, NOTE)


@dataclass(frozen=True)
class Flag:
    """One objection."""

    severity: str
    rule: str  # stable name, for programs
    evidence: str
    fix: str
    cells: Collection[int] = ()  # rows of the cells it speaks of; none: of the study

    def row(self) -> dict[str, str]:
        """Return its entry among the report's flags."""
        return {"severity": self.severity, "rule": self.rule, "evidence": self.evidence, "fix": self.fix}


@dataclass(frozen=True)
class Evidence:
    """Everything a rule may look at."""

    pairing: Pairing
    contrasts: Sequence[Contrast]  # none of a search
    models: Mapping[str, Model]
    facts: Mapping[str, Counter[str]]  # what parts were trained with: fact -> value -> number of parts
    document: Mapping[str, Any]  # all but flags and summary

    @property
    def grid(self) -> Grid:
        """The trials by cell and seed."""
        return self.pairing.grid
