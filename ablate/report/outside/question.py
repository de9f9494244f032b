"""The question to `ablate analyze`: how a metric depends on factors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ablate.errors import BadInput
from ablate.report.outside.tables import why_not_decimal, why_not_smallest
from ablate.text import split_list

ORDERS = ("auto", "1", "2", "full")
UNITS = ("run", "row")


@dataclass(frozen=True)
class Question:
    """The names of columns (for an Optuna study: params and user attributes), and how to analyse them."""

    # A column; or several, one per seed: a list with commas, or a pattern such as `acc_*`.
    metric: str = ""
    factors: Sequence[str] | None = None  # None: all params of a study that vary
    block: str | None = None  # of seeds, which enter as fixed effects
    baseline: Mapping[str, str] = field(default_factory=dict)
    order: str = "auto"
    drop_missing: bool = False
    smallest_effect: float | None = None
    goal: str | None = None  # None: the study's own, or maximize
    unit: str = "run"  # run: rows with the same combination and block are one run; row: each row is a run
    decimal: str | None = None

    @property
    def columns(self) -> list[str]:
        """All columns but the metric."""
        return [*(self.factors or ()), *([self.block] if self.block else [])]

    def check(self) -> None:
        """Refuse a question that is wrong for any table.

        Raises:
            BadInput: with every fault.
        """
        faults = []
        roles = [*split_list(self.metric), *self.columns]
        if not self.metric:
            faults.append("--metric: none given; name the column that has the results")
        if not self.factors:
            faults.append("--factors: none given; name the columns that were varied")
        for name in dict.fromkeys(n for n in roles if roles.count(n) > 1):
            times = roles.count(name)
            faults.append(
                f"{name!r}: named {times} times among metric, factors and block; a column has one role"
            )
        for name in [n for n in self.baseline if n not in (self.factors or ())]:
            faults.append(f"--baseline: {name!r} is not among the factors {', '.join(self.factors or ())}")
        if self.order not in ORDERS:
            faults.append(f"--order: {self.order!r} is not one of {', '.join(ORDERS)}")
        faults += why_not_smallest(self.smallest_effect)
        if self.goal not in (None, "maximize", "minimize"):
            faults.append(f"--goal: {self.goal!r} is neither maximize nor minimize")
        if self.unit not in UNITS:
            faults.append(f"--unit: {self.unit!r} is neither run nor row")
        faults += why_not_decimal(self.decimal)
        if faults:
            raise BadInput(*faults)
