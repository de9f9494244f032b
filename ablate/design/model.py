"""What a design is made of: cells, and the parts they train."""

from dataclasses import dataclass, field
from typing import Any

from ablate.spec.model import Scalar


@dataclass(frozen=True)
class Part:
    """An independent piece of a trial's training; trials that need the same piece share it."""

    hash: str  # of its settings; a trial's only part has the cell's own hash
    settings: dict[str, Any]  # nested, non-default values only, plain JSON


@dataclass(frozen=True)
class Cell:
    """One valid combination of levels."""

    hash: str  # 12 hex digits of the settings it implies
    levels: dict[str, Scalar]  # factor -> level name; a factor that does not exist here is absent
    settings: dict[str, Any]  # nested, non-default values only, plain JSON
    parts: dict[str, Part]  # the trainer's name for the part -> part
    also: tuple[dict[str, Scalar], ...] = ()  # the levels of other combinations with equal settings

    @property
    def combinations(self) -> tuple[dict[str, Scalar], ...]:
        """The levels of every combination that this cell stands for; its own first."""
        return self.levels, *self.also


@dataclass(frozen=True)
class Design:
    """The ordered cells of a study, and what is known about them before anything is trained."""

    kind: str
    raw_cells: int  # product of the numbers of levels, before conditions and collapse
    cells: tuple[Cell, ...]
    reference: str  # hash of the cell that differences are taken from
    resolution: int | None = None  # of a regular fraction
    aliases: list[list[str]] = field(default_factory=list)  # effects that this design cannot separate
    warnings: list[str] = field(default_factory=list)
    named: dict[str, str] = field(default_factory=dict)  # "baseline", "best" -> hash, where they are cells
    smoke: bool = False  # for a smoke run: cells are shrunk, and the next smoke run discards their results
