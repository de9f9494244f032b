"""`StudySpec`: what a study file says, as a frozen value that cannot be half right."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Scalar = str | int | float | bool | None


def level_text(level: Scalar) -> str:
    """Return a level as a study file writes it."""
    if level is None:
        return "null"
    if isinstance(level, bool):
        return "true" if level else "false"
    return str(level)


def levels_text(levels: Mapping[str, Scalar]) -> str:
    """Return `training=joint, l2=0.01`."""
    return ", ".join(f"{name}={level_text(level)}" for name, level in levels.items())


Design = Literal["full", "one_at_a_time", "leave_one_out", "fractional", "search"]
# Of Optuna's samplers those whose proposal follows from the trials alone: the others (CMA-ES, genetic ones) keep a state
# of their own, which a search cut off at any moment would lose.
Sampler = Literal["tpe", "gp", "random"]
Pruner = Literal["none", "median", "asha", "hyperband", "wilcoxon"]


class Frozen(BaseModel):
    """A value: compared by content, never changed, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Level(Frozen):
    """One value of a factor."""

    name: Scalar  # as the file writes it
    settings: dict[str, Any]  # dotted setting -> value; a level may set several


class Factor(Frozen):
    """One thing the study varies."""

    name: str
    levels: tuple[Level, ...]  # in the order of the file; reports keep it
    # Elsewhere the factor does not exist: each of these factors must exist and have one of these levels.
    only_when: dict[str, tuple[Scalar, ...]] = Field(default_factory=dict)

    @property
    def numbers(self) -> tuple[float, ...]:
        """The levels of a numeric factor with three or more, in the order of the file; else nothing."""
        names = [level.name for level in self.levels]
        found = tuple(float(n) for n in names if isinstance(n, int | float) and not isinstance(n, bool))
        is_numeric = len(found) == len(names) >= 3 and all(map(math.isfinite, found))
        return found if is_numeric else ()


class Metric(Frozen):
    """What decides, and what difference would matter."""

    name: str
    goal: Literal["maximize", "minimize"] = "maximize"
    smallest_effect: float | None = None  # in the metric's own unit
    worst: float | None = None  # that it can be: what a lost trial may have had


class Search(Frozen):
    """How a search chooses cells."""

    sampler: Sampler = "tpe"
    trials: int = 30  # cells tried on the first seed, the baseline among them
    pruner: Pruner = "median"  # gives a hopeless trial up by its curve of the study's metric
    finalists: int = 3  # of the cells tried the best, trained again with the baseline on the other seeds


class Looking(Frozen):
    """After how many seeds the results are looked at, and what ends the adding of seeds."""

    start: int  # seeds that the file names; the others follow from them
    looks: tuple[int, ...]  # numbers of seeds, rising; the last is the most that are ever run
    width: float | None = (
        None  # of a 95 % interval, in the metric's unit, that ends it; None: until all is decided
    )


class Budget(Frozen):
    """What the study may cost."""

    hours: float | None = None
    usd_per_hour: float | None = None


class StudySpec(Frozen):
    """A whole study file."""

    study: str
    question: str = ""
    trainer: str
    settings: dict[str, Any] = Field(default_factory=dict)  # nested, as the file has it; what does not vary
    factors: tuple[Factor, ...]
    baseline: dict[str, Scalar]  # factor -> level name
    best: dict[str, Scalar] = Field(default_factory=dict)  # factor -> level name; where leave_one_out starts
    design: Design
    design_cells: int | None = None  # of a fractional design; None: the smallest good number
    search: Search | None = None  # of a search, and only there
    seeds: tuple[int, ...]  # with looks, all that may be run, in the order in which they are
    looking: Looking | None = None  # only where seeds are added after looks
    metric: Metric
    budget: Budget = Budget()
    checkpoint_seconds: float = 60.0
    hang_minutes: float = 60.0  # without a sign of training: its worker is ended, the trial goes on

    # Where things stand in the file; not part of the study's identity. Keys are `settings.data.sentiment`,
    # `factors.l2`, `factors.l2.levels[0]`, `factors.batches.levels[1].batch_size.sentiment`; (0, 0) is --set.
    path: Path | None = Field(default=None, exclude=True)
    places: dict[str, tuple[int, int]] = Field(default_factory=dict, exclude=True)  # line, column

    @property
    def folder(self) -> Path:
        """The folder that relative paths in the study are relative to."""
        return self.path.parent if self.path else Path.cwd()

    @property
    def deciding_seeds(self) -> tuple[int, ...]:
        """The seeds that cells are compared on: of a search, those that took no part in it."""
        return self.seeds[1:] if self.search and len(self.seeds) > 1 else self.seeds

    def factor(self, name: str) -> Factor:
        """Return the factor called `name`."""
        return next(factor for factor in self.factors if factor.name == name)

    def place(self, *keys: str) -> str:
        """Return `file:line:column` of the first of `keys` in the file, or of what is around it."""
        for key in keys:
            while key:
                if key in self.places:
                    line, column = self.places[key]
                    return f"{self.path or 'study'}:{line}:{column}" if line else "--set"
                key = key.rpartition(".")[0]
        return str(self.path or "study")
