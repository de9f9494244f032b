"""The results of `ablate compare` and `ablate analyze` as frozen values, built from the report's rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from ablate.evidence.verdicts import Qualifier
from ablate.report.as_json import INLINE, OPTIONAL
from ablate.report.document import Change, Interval, Numbers, OtherTest, SimpleEffect
from ablate.spec.model import Scalar
from ablate.stats.factorial import AnovaRow
from ablate.stats.lenth import Lenth
from ablate.stats.verdicts import Verdict


@dataclass(frozen=True)
class Sides:
    """Two sets of predictions, or two cells, on one metric; `delta` is B minus A."""

    metric: str
    n_items: int
    n_seeds: int
    n_clusters: Annotated[int | None, OPTIONAL]
    a: float
    b: float
    delta: float


@dataclass(frozen=True)
class Tested:
    """The error of a difference, and its verdict."""

    ci95: Interval | None
    df: float | None
    p: float | None
    se: float | None
    verdict: Verdict
    mde80: float | None
    method: str
    ci90: Interval | None


@dataclass(frozen=True)
class Comparison:
    """The result of `ablate compare`."""

    sides: Annotated[Sides, INLINE]
    tested: Annotated[Tested, INLINE]
    sensitivity: tuple[OtherTest, ...]
    only_a: Annotated[int | None, OPTIONAL] = None  # items that only A gets right
    only_b: Annotated[int | None, OPTIONAL] = None
    statistic: Annotated[float | None, OPTIONAL] = None
    r_ab: Annotated[float | None, OPTIONAL] = None
    deltas: Annotated[tuple[float, ...] | None, OPTIONAL] = None  # the difference of each seed
    noise: Annotated[Mapping[str, float] | None, OPTIONAL] = None  # standard deviations
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ComparedCell:
    """The cell of a study that was compared."""

    study: str
    cell: str
    levels: Mapping[str, Scalar]


@dataclass(frozen=True)
class StudyComparison(Comparison):
    """A cell of each of two studies."""

    seeds: tuple[int, ...] = ()
    estimate: float | None = None
    n: int = 0
    v_seed: float | None = None
    v_item: float | None = None
    cells: Mapping[str, ComparedCell] = field(default_factory=dict)  # by side, A and B


@dataclass(frozen=True)
class TableEffect:
    """The effect of a change of level on the metric of a table."""

    change: Annotated[Change, INLINE]
    numbers: Annotated[Numbers, INLINE]
    mde80: float | None
    p_holm: float | None
    verdict: Verdict
    qualifiers: tuple[Qualifier, ...]
    ci90: Interval | None
    aliased_with: tuple[str, ...]
    turns: tuple[SimpleEffect, ...]


@dataclass(frozen=True)
class TableInteraction:
    """Half the difference between a factor's effects at two levels of another."""

    factors: tuple[str, ...]
    low: Annotated[tuple[str, ...], "from"]
    high: Annotated[tuple[str, ...], "to"]
    when: str | None
    numbers: Annotated[Numbers, INLINE]
    mde80: float | None
    p_bh: float | None


@dataclass(frozen=True)
class TableLenth:
    """The margins of an unreplicated two-level table."""

    margins: Annotated[Lenth, INLINE]
    effects: Mapping[str, float]


@dataclass(frozen=True)
class Analysis:
    """The result of `ablate analyze`: how the metric of a table depends on its factors."""

    metric: str
    n: int
    order: str
    effects: tuple[TableEffect, ...]
    interactions: tuple[TableInteraction, ...]
    anova: tuple[AnovaRow, ...]
    anova_other: tuple[AnovaRow, ...]  # types I and III, if the table is unbalanced
    lenth: TableLenth | None
    warnings: tuple[str, ...]
    dropped: Annotated[int | None, OPTIONAL] = None  # rows without the metric
    rows: Annotated[int | None, OPTIONAL] = None
    study: Annotated[str | None, OPTIONAL] = None  # an Optuna study
    trials: Annotated[int | None, OPTIONAL] = None
