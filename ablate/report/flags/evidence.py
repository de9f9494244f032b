"""A flag: what a reviewer would object to, with its evidence and what would remove it."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablate.evidence.contrasts import Contrast
from ablate.evidence.effects import Effect
from ablate.evidence.frames import Grid
from ablate.evidence.items import Items
from ablate.evidence.models import Model
from ablate.evidence.verdicts import Qualifier
from ablate.stats.verdicts import Verdict

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
    # What rests on these cells has no p that could be believed.
    undoes_p: bool = False

    def row(self) -> dict[str, str]:
        """Return its entry among the report's flags."""
        return {"severity": self.severity, "rule": self.rule, "evidence": self.evidence, "fix": self.fix}


def undone(row: dict[str, Any], cells: Collection[int], raised: Sequence[Flag]) -> dict[str, Any]:
    """Return a row of an effect on `cells` with the flags that take the ground from its p: nothing is decided by it."""
    rules = [flag.rule for flag in raised if flag.undoes_p and set(cells) & set(flag.cells)]
    if not rules:
        return row | {"undone_by": []}
    changed: dict[str, Any] = {"undone_by": rules, "qualifiers": [*row["qualifiers"], Qualifier.STOP_FLAG]}
    if row["verdict"] in (Verdict.HELPS, Verdict.HURTS, Verdict.RAISES, Verdict.LOWERS):
        changed["verdict"] = Verdict.INCONCLUSIVE
    return row | changed


@dataclass(frozen=True)
class Evidence:
    """Everything a rule may look at."""

    items: Items
    contrasts: Sequence[Contrast]  # none of a search
    models: Mapping[str, Model]
    effects: Sequence[Effect]  # on the metric that decides
    facts: Mapping[str, Counter[str]]  # what parts were trained with: fact -> value -> number of parts
    document: Mapping[str, Any]  # all but flags and summary

    @property
    def grid(self) -> Grid:
        """The trials by cell and seed."""
        return self.items.grid
