"""`StudySpec`: what a study file says, as a frozen value in which every part has been checked."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ablate.spec.designs import Kind, Search
from ablate.spec.rules import Difference, Frozen, Number, Positive, Text, Written, expected, fault, write
from ablate.spec.scalars import is_text
from ablate.text import shown

Scalar = str | int | float | bool | None

# Studies name folders, so a name must not start with a dot or a dash.
STUDY_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"
TRAINER_NAME = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*"
NAME_RULE = "use at most 64 letters, digits, '_', '-', '.', not starting with '.' or '-'"


class Verbatim(str):
    """A level of a table, which is shown as the table writes it."""

    __slots__ = ()


def level_text(level: Scalar) -> str:
    """Return a level as text: null, true."""
    if level is None:
        return "null"
    if isinstance(level, bool):
        return "true" if level else "false"
    return str(level)


def quoted_level(level: Scalar) -> str:
    """Return a level as a study file writes it: null, but "null" for the text."""
    quoted = isinstance(level, str) and not isinstance(level, Verbatim) and not is_text(level)
    return f'"{level}"' if quoted else level_text(level)


def levels_text(levels: Mapping[str, Scalar]) -> str:
    """Return `training=joint, l2=0.01`."""
    return ", ".join(f"{name}={quoted_level(level)}" for name, level in levels.items())


class Level(Frozen):
    """One value of a factor."""

    name: Scalar  # as the file writes it
    settings: dict[str, Any]  # dotted setting -> value; a level may set several


class Factor(Frozen):
    """One thing the study varies."""

    name: str
    levels: tuple[Level, ...]  # in the order of the file, which reports keep
    # The factor only exists where each of these factors exists and has one of these levels.
    only_when: dict[str, tuple[Scalar, ...]] = Field(default_factory=dict)

    @property
    def numbers(self) -> tuple[float, ...]:
        """The levels of a numeric factor with three or more, in the order of the file; otherwise empty."""
        names = [level.name for level in self.levels]
        numbers = tuple(float(n) for n in names if isinstance(n, int | float) and not isinstance(n, bool))
        is_numeric = len(numbers) == len(names) >= 3 and all(map(math.isfinite, numbers))
        return numbers if is_numeric else ()


def _metric_name(name: str) -> str:
    if not name.isprintable() or len(name) > 128:
        raise fault(f"{shown(name)} cannot name a metric; use a short name")
    return name


class Metric(Written):
    """The metric that decides, and the smallest difference that matters."""

    name: Annotated[Text, AfterValidator(_metric_name), write("a metric's name, e.g. dev/mean")] = Field(
        examples=["dev/mean"]
    )
    """The metric's name, as the trainer reports it."""
    goal: Literal["maximize", "minimize"] = "maximize"
    """Whether higher or lower values are better."""
    smallest_effect: Difference | None = None
    """The smallest difference that matters to you, in the metric's unit."""
    worst: Number | None = None
    """The worst possible value, to bound what lost trials could change. Not needed for accuracies, Pearson's r or our trainer."""


class Budget(Written):
    """The budget that `ablate plan` compares its estimate with."""

    hours: Positive | None = None
    """Hours of training."""
    usd_per_hour: Positive | None = None
    """Price of the machine."""
    max_hours: Positive | None = None
    """Hours after which `ablate run` saves and stops; the same command resumes."""
    max_usd: Positive | None = None
    """Cost at which `ablate run` saves and stops, computed from usd_per_hour."""


class Looking(Frozen):
    """After how many seeds the results are looked at, and when no more seeds are added."""

    start: int  # how many seeds the file names; the other seeds are derived from these
    looks: tuple[int, ...]  # numbers of seeds, rising; the last is the most that are ever run
    # Stop when every 95 % interval is this narrow, in the metric's unit; None: when every comparison is decided.
    width: float | None = None

    @property
    def until(self) -> str | dict[str, float]:
        """What ends the adding of seeds, as JSON says it."""
        return "decided" if self.width is None else {"width": self.width}


def _study_name(name: str) -> str:
    if not re.fullmatch(STUDY_NAME, name):
        raise fault(f"{shown(name)} cannot name a study (it names folders); {NAME_RULE}")
    return name


def _trainer_name(name: str) -> str:
    if re.fullmatch(TRAINER_NAME, name) and not name.endswith(".py") and len(name) <= 200:
        return name
    module = name.removesuffix(".py")
    hint = module if re.fullmatch(TRAINER_NAME, module) else "e.g. ablate.trainer or my_trainer"
    raise fault(f"{shown(name)} is not a module's name; write {hint}")


def _one_level(level: Any) -> Any:
    if isinstance(level, list | dict):
        raise expected("one level")
    return level


StudyName = Annotated[
    Text, AfterValidator(_study_name), write("a name, e.g. full_grid; quote one that is a number")
]
TrainerName = Annotated[
    Text, AfterValidator(_trainer_name), write("a module's name: ablate.trainer, or your own")
]
TrackerName = Literal["tensorboard", "trackio", "mlflow", "wandb"]
Choice = Annotated[  # factor -> level name
    dict[str, Annotated[Scalar, BeforeValidator(_one_level)]],
    write("a mapping from factors to levels, e.g. {l2: 0.0}"),
]


class Keys(Written):
    """The keys that are the same in a study file and in `StudySpec`. A new one only needs a field here."""

    study: StudyName = Field(examples=["my_study"], json_schema_extra={"pattern": f"^{STUDY_NAME}$"})
    """Name of the study and of its folder: letters, digits, '_', '-', '.'."""
    question: Annotated[str, write("a sentence")] = ""
    """What the study should answer; the report opens with it."""
    trainer: TrainerName = Field(
        examples=["ablate.trainer", "my_trainer"], json_schema_extra={"pattern": f"^{TRAINER_NAME}$"}
    )
    """The module that trains: ablate.trainer, ablate.command, or your own module next to this file."""
    # Settings, factors and seeds have a notation of their own in the file.
    settings: Any
    factors: Any
    baseline: Choice = Field(examples=[{"l2": 0.0}])
    """The levels that differences are measured from: one for each factor that exists under these levels."""
    best: Choice = Field(default_factory=dict)
    """The levels expected to be best: an additional cell of one_at_a_time, the full model of leave_one_out."""
    design: Kind = Field(examples=["one_at_a_time"])
    """Which combinations of levels are run."""
    seeds: Any
    metric: Annotated[Metric, write("e.g. {name: dev/mean, goal: maximize, smallest_effect: 0.005}")] = Field(
        examples=[{"name": "dev/mean", "goal": "maximize"}]
    )
    """The metric that decides."""
    budget: Annotated[Budget, write("e.g. {hours: 40, usd_per_hour: 1.212}")] = Field(default_factory=Budget)
    """What the study may cost; `ablate plan` compares its estimate with it."""
    checkpoint_seconds: Positive = 60.0
    """Seconds between two checkpoints of a trial."""
    hang_minutes: Positive = 60.0
    """A trial that reports nothing for this long, after its first report, is stopped and resumed from its last checkpoint."""
    log_to: Annotated[tuple[TrackerName, ...], write("a list, e.g. [tensorboard, wandb]")] = ()
    """Experiment trackers that the curves are logged to as well; one that is not installed is skipped."""


class StudySpec(Keys):
    """A whole study."""

    settings: dict[str, Any] = Field(default_factory=dict)  # nested; what does not vary
    factors: tuple[Factor, ...]
    seeds: tuple[int, ...]  # with looks: all that may be run, in order
    looking: Looking | None = None  # only where seeds are added after looks

    # Places in the file; not part of the study's identity. Keys are `settings.data.sentiment`, `factors.l2`,
    # `factors.l2.levels[0]`, `factors.batches.levels[1].batch_size.sentiment`; (0, 0) is --set.
    path: Path | None = Field(default=None, exclude=True)
    places: dict[str, tuple[int, int]] = Field(default_factory=dict, exclude=True)  # line, column
    # The arguments of --set, whose values are in `settings`.
    overrides: tuple[str, ...] = Field(default=(), exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _read_older(cls, data: Any) -> Any:
        """Read specs from older databases, which have a design's options next to its kind."""
        if isinstance(data, dict) and isinstance(data.get("design"), str):
            data = dict(data)
            cells, search = data.pop("design_cells", None), data.pop("search", None)
            data["design"] = {"kind": data["design"], **(search or ({"cells": cells} if cells else {}))}
        return data

    @property
    def folder(self) -> Path:
        """The folder that relative paths in the study start from."""
        return self.path.parent if self.path else Path.cwd()

    @property
    def search(self) -> Search | None:
        """The options of the search; None for every other design."""
        return self.design if isinstance(self.design, Search) else None

    @property
    def deciding_seeds(self) -> tuple[int, ...]:
        """The seeds that cells are compared on: in a search, all but the first, which chose the cells."""
        return self.seeds[1:] if self.search and len(self.seeds) > 1 else self.seeds

    def factor(self, name: str) -> Factor:
        """Return the factor called `name`."""
        return next(factor for factor in self.factors if factor.name == name)

    def place(self, *keys: str) -> str:
        """Return `file:line:column` of the first of `keys` that the file has, or of the nearest key around it."""
        for key in keys:
            while key:
                if key in self.places:
                    line, column = self.places[key]
                    return f"{self.path or 'study'}:{line}:{column}" if line else "--set"
                key = key.rpartition(".")[0]
        return str(self.path or "study")
