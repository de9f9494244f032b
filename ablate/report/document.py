"""The content of a report as frozen values, built once by `report` and read by flags, pictures and renderers.

Includes the rows that `analyze` and `compare` share with it; the results of these two are in `answers`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

from ablate.evidence.aliases import Fraction
from ablate.evidence.effects import Kind, Slope
from ablate.evidence.models import Margins, Term
from ablate.evidence.noise import Noise
from ablate.evidence.verdicts import Judged
from ablate.report.as_json import HIDDEN, INLINE
from ablate.report.formatting import MINUS, interval, number, signed
from ablate.report.phrases import Note
from ablate.spec.designs import Search
from ablate.spec.model import Metric, Scalar, quoted_level
from ablate.stats.inference import SINGLE_PRECISION, Inference, Method

Interval = tuple[float, float]


@dataclass(frozen=True)
class Change:
    """A change of a factor from one level to another."""

    factor: str
    low: Annotated[Scalar, "from"]
    high: Annotated[Scalar, "to"]
    when: str | None  # the condition under which the factor exists

    @property
    def text(self) -> str:
        """Such as `similarity_head: concat → siamese`, with its condition."""
        when = f" (when {self.when})" if self.when else ""
        return f"{self.factor}: {quoted_level(self.low)} → {quoted_level(self.high)}{when}"


@dataclass(frozen=True)
class Numbers:
    """An estimate and its error, in the unit of its metric."""

    estimate: float | None
    se: float | None
    df: float | None  # None: infinite, or without a standard error
    ci95: Interval | None
    p: float | None
    n: int  # seeds
    method: Method
    v_seed: float | None
    v_item: float | None
    df_item: float | None  # of v_item; v_seed has n − 1. None: infinite, or no items
    rounding: Annotated[float, HIDDEN] = 0.0  # smaller differences are rounding errors

    @property
    def beside(self) -> Interval:
        """The numbers that decide how many digits are shown: the interval, or 1 for rounding errors."""
        ends = self.ci95 or (self.estimate or 0.0,) * 2
        return (1.0, 1.0) if self._is_rounding else ends

    @property
    def delta(self) -> str:
        """The estimate, formatted."""
        return "0 within rounding" if self._is_rounding else signed(self.estimate, self.beside)

    @property
    def is_identical(self) -> bool:
        """Whether both sides have the same values within rounding, in every seed."""
        return self.estimate == 0 and self.method is Method.NO_VARIANCE

    @property
    def error(self) -> str:
        """The standard error, formatted."""
        # Two digits of a small one: a third would make the table wider than the page.
        if self.se and self.se < 1e-4 and not self._is_rounding:
            return f"{self.se:.1e}".replace("-", MINUS)
        return number(self.se, beside=self.beside)

    @property
    def interval(self) -> str:
        """The 95 % interval, formatted."""
        return self.shown(self.ci95)

    def shown(self, bounds: Interval | None) -> str:
        """Return an interval around the estimate, formatted."""
        return "[0, 0]" if self._is_rounding and bounds else interval(bounds, beside=self.beside)

    @property
    def _is_rounding(self) -> bool:
        known = (self.estimate or 0.0, *(self.ci95 or ()))
        return any(known) and all(abs(value) < self.rounding for value in known)

    @classmethod
    def of(cls, inference: Inference, size: float = 0.0) -> Self:
        """Return the numbers of an inference; `size`: the largest value of the metric itself."""
        df = inference.df if inference.df is not None and math.isfinite(inference.df) else None
        return cls(
            inference.estimate,
            inference.se,
            df,
            inference.interval(),
            inference.p,
            inference.seeds,
            inference.method,
            inference.v_seed,
            inference.v_item,
            inference.item_df if inference.v_item and math.isfinite(inference.item_df) else None,
            rounding=SINGLE_PRECISION * size,
        )


@dataclass(frozen=True)
class LookedAt:
    """The look at which an effect got its numbers, in a study that adds seeds."""

    number: int
    seeds: int
    stop: str | None  # why no more seeds were added for it; None: open
    p_sequential: float | None
    level: float  # 1 minus that of the repeated 95 % interval
    fraction: float
    chance: float | None
    level90: float | None  # 1 minus that of the repeated 90 % interval


@dataclass(frozen=True)
class OtherTest:
    """The same difference by another test, which does not affect the verdict."""

    method: str
    statistic: float | None
    p: float | None
    ci95: Interval | None
    note: str


@dataclass(frozen=True)
class SimpleEffect:
    """An effect at one level of another factor."""

    factor: str
    level: Scalar
    numbers: Annotated[Numbers, INLINE]


@dataclass(frozen=True)
class SeedsNeeded:
    """How many seeds would detect the smallest effect of interest, roughly. None: more than were tried."""

    about: int | None
    # With the noise between seeds at the ends of its 80 % interval.
    low: int | None
    high: int | None
    more_items: bool  # the items' noise alone is too large: no number of seeds is enough


@dataclass(frozen=True)
class EffectRow:
    """The effect of a change of level, or of the slope of a numeric factor, on one metric."""

    change: Annotated[Change, INLINE]
    metric: str
    role: str  # primary or exploratory
    kind: Kind
    numbers: Annotated[Numbers, INLINE]
    judged: Annotated[Judged, INLINE]
    notes: tuple[Note, ...]
    note: str  # the notes in words
    slope: Slope | None
    last: Numbers | None  # on the last epoch, if the metric is that of a chosen epoch
    turns: tuple[SimpleEffect, ...]  # at two levels of each factor that it depends on
    bounds: Interval | None  # if lost trials had the worst or the best value
    # Whether these bounds come from the worst or best value observed, not the possible ones.
    bounds_as_seen: bool | None
    lost: Interval | None  # share of the trials that were lost, on the low and on the high side
    by_seed: Mapping[str, float]
    sensitivity: tuple[OtherTest, ...]
    matches: int
    matches_done: int
    aliased_with: tuple[str, ...]
    again: str | None  # the command that retrains the cells that it compares
    look: LookedAt | None = None
    undone_by: tuple[str, ...] = ()  # flags that invalidate its p
    seeds_needed: SeedsNeeded | None = None  # of an inconclusive effect whose noise is known

    @property
    def text(self) -> str:
        """What changes; for a slope, `width (slope): 1 → 5`."""
        return replace(self.change, factor=self.factor).text

    @property
    def factor(self) -> str:
        """The factor; for a slope, `width (slope)`."""
        return self.change.factor + (" (slope)" if self.kind is Kind.SLOPE else "")


@dataclass(frozen=True)
class Difference:
    """A cell's difference from the reference."""

    numbers: Annotated[Numbers, INLINE]
    judged: Annotated[Judged, INLINE]
    notes: tuple[Note, ...]
    note: str
    last: Numbers | None
    look: LookedAt | None = None
    undone_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class OverSeeds:
    """A metric of one cell over its seeds."""

    mean: float | None
    median: float | None
    iqm: float | None
    sd: float | None
    n: int
    ci95: Interval | None
    by_seed: Mapping[str, float]


@dataclass(frozen=True)
class CellRow:
    """One cell."""

    cell: str
    name: str
    reference: bool  # differences are taken from this cell
    best: bool
    levels: Mapping[str, Scalar]
    seeds_done: int
    seeds_planned: int
    states: Mapping[str, str]
    trials: Mapping[str, int]  # seed -> number
    metrics: Mapping[str, OverSeeds]
    difference: Mapping[str, Difference]  # for each dev metric that could be compared
    seconds: float
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class InteractionRow:
    """Half the difference between a factor's effects at two levels of another."""

    factors: tuple[str, ...]
    low: Annotated[tuple[Scalar, ...], "from"]
    high: Annotated[tuple[Scalar, ...], "to"]
    metric: str
    numbers: Annotated[Numbers, INLINE]
    mde80: float | None
    p_bh: float | None


@dataclass(frozen=True)
class Tradeoff:
    """A change that raises some metrics and lowers others."""

    change: Annotated[Change, INLINE]
    raises: Mapping[str, float]
    lowers: Mapping[str, float]


@dataclass(frozen=True)
class FactorRow:
    """One factor of the design."""

    name: str
    levels: tuple[Scalar, ...]
    # For levels that set more than the setting that the factor is named after.
    settings: Mapping[str, Mapping[str, str]]
    when: str | None
    # The same with the values of the study file, to copy.
    originals: Annotated[Mapping[str, Mapping[str, Any]], HIDDEN]


@dataclass(frozen=True)
class Adding:
    """How a study adds seeds."""

    start: int
    looks: tuple[int, ...]  # numbers of seeds
    at_most: int
    until: str | Mapping[str, float]  # decided, or {width: w}


@dataclass(frozen=True)
class LookRow:
    """One look at the results of a study that adds seeds."""

    number: int
    seeds: int
    stopped: Mapping[str, int]  # reason -> comparisons that stopped at this look
    open: int
    cells: int


@dataclass(frozen=True)
class Design:
    """The design and its parameters."""

    kind: str
    raw_cells: int
    cells: int
    seeds: tuple[int, ...]
    adding: Adding | None
    looks: tuple[LookRow, ...]
    reference: str  # the cell that differences are taken from
    resolution: int | None
    aliases: list[list[str]]
    fraction: Annotated[Fraction, INLINE]
    search: Search | None
    tried: Mapping[str, int]
    factors: tuple[FactorRow, ...]
    settings: Mapping[str, str]
    defaults: Mapping[str, str]  # the trainer's, of the settings that the study does not name


@dataclass(frozen=True)
class Progress:
    """The planned trials by state."""

    planned: int
    complete: int
    running: int
    waiting: int
    failed: int
    pruned: int
    missing: int
    may_add: int = 0  # how many more a search or the coming looks may add, at most


@dataclass(frozen=True)
class Unfinished:
    """A trial without a result."""

    cell: str
    name: str
    seed: int
    number: int | None  # None: it was never added
    state: str
    attempts: int
    error: str | None


@dataclass(frozen=True)
class Tried:
    """A cell that a search tried on the seed that chose its finalists."""

    cell: str
    name: str
    seed: int
    state: str
    value: float | None
    compared: bool
    error: str | None


@dataclass(frozen=True)
class PartCounts:
    """How many parts the complete trials need, and what sharing them saved."""

    naive: int
    unique: int
    continued: int  # of the unique ones, from a prefix that another trained
    seconds_trained: float
    seconds_saved: float


@dataclass(frozen=True)
class Ledger:
    """The outcome of every planned trial; nothing is dropped."""

    progress: Annotated[Progress, INLINE]
    unfinished: tuple[Unfinished, ...]
    tried: tuple[Tried, ...]
    parts: PartCounts


@dataclass(frozen=True)
class Cost:
    """The cost of a study."""

    hours: float
    usd: float | None
    usd_per_hour: float | None
    energy_kwh: float | None
    energy_parts: int
    parts: int
    not_counted: int
    budget_hours: float | None
    gain: float | None
    usd_per_point: float | None


@dataclass(frozen=True)
class Fact:
    """One value of a recorded fact."""

    value: str
    parts: int


@dataclass(frozen=True)
class Provenance:
    """What the parts were trained with, and how to train them again."""

    facts: Mapping[str, tuple[Fact, ...]]  # the commonest values first
    further: Mapping[str, int]  # fact -> how many of its values are not listed
    peak_memory_bytes: int | None
    reproduce: str


@dataclass(frozen=True)
class Example:
    """One item on which two cells disagree."""

    id: str
    gold: float
    reference: float
    best: float
    what: str  # better or worse


@dataclass(frozen=True)
class Examples:
    """Where the best cell and the reference disagree."""

    metric: str
    standardised: bool
    items: int
    gained: int
    lost: int
    rows: tuple[Example, ...]


@dataclass(frozen=True)
class TestScore:
    """A cell's scores on the test split."""

    cell: str
    name: str
    metrics: Mapping[str, OverSeeds]


@dataclass(frozen=True)
class Flag:
    """Something a reviewer would object to, with the evidence and how to fix it."""

    severity: str
    rule: str  # stable name, for programs
    evidence: str
    fix: str
    # Rows of the cells that the flag is about; empty if it is about the whole study.
    cells: Annotated[frozenset[int], HIDDEN] = frozenset()
    # The p of effects estimated from these cells cannot be trusted.
    undoes_p: Annotated[bool, HIDDEN] = False


@dataclass(frozen=True)
class Composite:
    """What the primary metric equals in every trial: a constant plus weighted metrics."""

    weights: Mapping[str, float]
    constant: float


@dataclass(frozen=True)
class Report:
    """The whole document, in the order of its JSON."""

    study: str
    question: str | None
    trainer: str
    metric: Metric
    composite: Composite | None
    design: Design
    progress: Progress
    cells: tuple[CellRow, ...]
    effects: tuple[EffectRow, ...]
    interactions: tuple[InteractionRow, ...]
    left_out: tuple[tuple[str, ...], ...]
    anova: tuple[Term, ...]
    lenth: tuple[Margins, ...]
    noise: tuple[Noise, ...]
    examples: Examples | None
    ledger: Ledger
    cost: Cost
    provenance: Provenance
    test: tuple[TestScore, ...] | None
    tradeoffs: tuple[Tradeoff, ...]
    flags: tuple[Flag, ...]
    summary: tuple[str, ...] = ()

    @property
    def primary_effects(self) -> list[EffectRow]:
        """The effects on the primary metric."""
        return [row for row in self.effects if row.role == "primary"]

    @property
    def best(self) -> CellRow | None:
        """The best cell; None while no cell is complete."""
        return next((cell for cell in self.cells if cell.best), None)
