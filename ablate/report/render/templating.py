"""What the templates of the report share: filters, and the values they are rendered with.

Text from users (names of studies, factors, levels and metrics; error messages) is always escaped for where it appears."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import jinja2

from ablate.evidence.mixing import LEAST_SHARE
from ablate.evidence.verdicts import Judged
from ablate.report import formatting
from ablate.report.document import CellRow, EffectRow, Fact, OtherTest, Report
from ablate.report.phrases import INTERVALS, RESERVED, TESTS, reference_name
from ablate.report.plots.style import Picture
from ablate.report.render import escaping
from ablate.report.sections.effects import clearest_first
from ablate.report.sections.looks import look_text, plan_text, when_seen
from ablate.report.sections.provenance import methods
from ablate.report.sections.summary import reservations_of
from ablate.spec.model import level_text
from ablate.text import duration, listed, one_line, plural, shortened

MAX_CELLS, MAX_INTERACTIONS = 80, 12  # in markdown and LaTeX; HTML and report.json have all
OVER_SEEDS = ("sign_flip", "moderated_t")
MAX_LATEX_METRICS = 4  # more do not fit on a page


def environment(escape: Callable[[object], str], autoescape: bool = False) -> jinja2.Environment:
    """Return the environment that renders templates; the filter `t` escapes text if jinja does not do so itself."""
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("ablate.report.render"),
        # For HTML; the other templates pass all text from users through `t`.
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {
        "t": escape,
        "code": escaping.code,
        "one_line": one_line,
        "level": level_text,
        "number": formatting.number,
        "signed": formatting.signed,
        "interval": formatting.interval,
        "p": formatting.p_text,
        "duration": duration,
        "money": lambda usd: f"{usd:.2f}",
        "percent": lambda share: f"{100 * share:.1f} %" if share is not None else "–",
        "test_name": lambda method: TESTS.get(method, method),
        "df": formatting.df_text,
        "named": lambda settings: ", ".join(f"{name} {value}" for name, value in settings.items()),
        "remark": _remark,
        "plan": plan_text,
        "look": look_text,
        "judged": _judged,
        "shortened": lambda text: shortened(text, 20),
    }
    return templates


def context(report: Report, pictures: Sequence[Picture]) -> dict[str, object]:
    """Return the values for templates: the fields of the report, and selections from them."""
    many = len(report.cells) > MAX_CELLS
    return {
        **{field.name: getattr(report, field.name) for field in fields(report)},
        "shown_cells": _best_first(report) if many else report.cells,
        "pictures": pictures,
        "reference": reference_name(report.design.kind),
        "max_cells": MAX_CELLS,
        "least_share": LEAST_SHARE,
        "max_metrics": MAX_LATEX_METRICS,
        "plural": plural,
        "cell_metrics": list(dict.fromkeys(name for cell in report.cells for name in cell.metrics)),
        "effects_by_metric": _by_metric(report.effects),
        "strongest_interactions": sorted(report.interactions, key=clearest_first)[:MAX_INTERACTIONS],
        "methods": methods(report),
        "intervals_note": INTERVALS,
        "devices": [device.value for device in _devices(report.provenance.facts)],
    }


def _devices(facts: Mapping[str, Sequence[Fact]]) -> Sequence[Fact]:
    """Return the GPUs, or the CPUs if there was no GPU."""
    return facts.get("gpu") or facts.get("cpu") or ()


def _best_first(report: Report) -> list[CellRow]:
    """Return the reference, then the best cells by the primary metric."""
    sign = 1 if report.metric.goal == "maximize" else -1

    def rank(cell: CellRow) -> tuple[bool, float]:
        over_seeds = cell.metrics.get(report.metric.name)
        mean = over_seeds.mean if over_seeds else None
        return not cell.reference, math.inf if mean is None else -sign * mean

    return sorted(report.cells, key=rank)[:MAX_CELLS]


@dataclass(frozen=True)
class _EffectsTable:
    """The effects on one metric; tests over seeds are only listed for the primary metric."""

    metric: str
    rows: list[EffectRow]
    tests: list[tuple[EffectRow, OtherTest]]

    @property
    def notes(self) -> list[str]:
        return list(dict.fromkeys(f"{TESTS.get(test.method)}: {test.note}" for _, test in self.tests))

    @property
    def bounded(self) -> bool:
        """Whether a test has an interval: a sign-flip has neither statistic nor interval."""
        return any(test.ci95 for _, test in self.tests)


def _by_metric(effects: Sequence[EffectRow]) -> list[_EffectsTable]:
    tables = []
    for metric in dict.fromkeys(row.metric for row in effects):
        rows = [row for row in effects if row.metric == metric]
        tests = [
            (row, test)
            for row in rows
            for test in row.sensitivity
            if test.method not in OVER_SEEDS or row.role == "primary"
        ]
        tables.append(_EffectsTable(metric, rows, tests))
    return tables


def _remark(effect: EffectRow) -> str:
    """Return the last column of an effect: its look, its aliases, caveats, notes."""
    look = [when_seen(effect.look)] if effect.look else []
    aliases = [f"aliased with {listed(effect.aliased_with)}"] if effect.aliased_with else []
    note = [effect.note] if effect.note else []
    return "; ".join([*look, *aliases, *reservations_of(effect), *note])


def _judged(judged: Judged) -> str:
    """Return the verdict of an effect as tables show it."""
    reserved = judged.qualifiers and judged.verdict.is_decided
    return f"{judged.verdict}{RESERVED if reserved else ''}"
