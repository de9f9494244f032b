"""What the templates of the report share: filters, and the values they are rendered with.

Text from users (names of studies, factors, levels and metrics; error messages) is always escaped for where it appears."""

import math
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import jinja2
from markupsafe import Markup

from ablate.evidence.aliases import LEAST_SHARE
from ablate.report import formatting
from ablate.report.document import CellRow, EffectRow, Fact, OtherTest, Report
from ablate.report.phrases import (
    EQUIVALENCE,
    INTERVALS,
    PURPOSES,
    REPEATED,
    TESTS,
    reference_name,
    verdict_text,
)
from ablate.report.plots.style import Picture
from ablate.report.render import escaping
from ablate.report.sections.best_configuration import best_configuration
from ablate.report.sections.cost import cost_sentence
from ablate.report.sections.effects import clearest_first
from ablate.report.sections.looks import look_text, plan_text, when_seen
from ablate.report.sections.provenance import methods, sources
from ablate.report.sections.seeds_needed import open_comparisons
from ablate.report.sections.summary import caveats_of, headline, scope
from ablate.report.terms import TERMS
from ablate.spec.designs import KINDS
from ablate.spec.model import quoted_level
from ablate.text import duration, listed, one_line, plural, shortened, sounds_like_a_loss

MAX_CELLS, MAX_INTERACTIONS = 80, 12  # shown in markdown and LaTeX; HTML and report.json have all
OVER_SEEDS = ("sign_flip", "moderated_t")
# More metrics than these do not fit on a page.
MAX_LATEX_METRICS = 4


def environment(escape: Callable[[object], str] = str, autoescape: bool = False) -> jinja2.Environment:
    """Return the environment that renders templates; the filter `t` escapes text if jinja does not do so itself."""
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("ablate.report.render"),
        # For HTML; the other templates pass all text from users through `t`.
        autoescape=autoescape,
        finalize=_visible if autoescape else None,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {
        "t": escape,
        "from_reference": lambda kind: kind in KINDS and KINDS[kind].from_reference,
        "code": escaping.code,
        "one_line": one_line,
        "level": quoted_level,
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
        "judged": verdict_text,
        "shortened": lambda text: shortened(text, 20),
    }
    return templates


def _visible(value: object) -> object:
    """Return text without the control characters that HTML forbids; anything else as it is."""
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join(c for c in value if c in "\n\t" or unicodedata.category(c) != "Cc")


def context(report: Report, pictures: Sequence[Picture]) -> dict[str, object]:
    """Return the values for templates: the fields of the report, and selections from them."""
    many = len(report.cells) > MAX_CELLS
    return {
        **{field.name: getattr(report, field.name) for field in fields(report)},
        "shown_cells": _best_first(report) if many else report.cells,
        "diverged": [
            cell
            for cell in report.cells
            if "diverged_runs" in cell.flags and report.metric.name in cell.metrics
        ],
        "pictures": pictures,
        "reference": reference_name(report.design.kind),
        "max_cells": MAX_CELLS,
        "least_share": LEAST_SHARE,
        "max_metrics": MAX_LATEX_METRICS,
        "plural": plural,
        "sounds_like_a_loss": sounds_like_a_loss,
        "cell_metrics": list(dict.fromkeys(name for cell in report.cells for name in cell.metrics)),
        "effects_by_metric": _by_metric(report.effects),
        "strongest_interactions": sorted(report.interactions, key=clearest_first)[:MAX_INTERACTIONS],
        "methods": methods(report),
        "sources": sources(report),
        "headline": headline(report),
        "best_yaml": best_configuration(report),
        "still_open": open_comparisons(report),
        "cost_sentence": cost_sentence(report),
        "purposes": {
            name: text.format(reference=reference_name(report.design.kind)) for name, text in PURPOSES.items()
        },
        "intervals_note": INTERVALS,
        "equivalence_note": _equivalence_note(report),
        "intervals_cover": scope(report),
        "terms": TERMS,
        "again": {cell.cell: command for cell in report.cells if (command := _again(report, cell))},
        "devices": [device.value for device in _devices(report.provenance.facts)],
    }


def _equivalence_note(report: Report) -> str | None:
    """Return what the 90 % intervals beside the verdicts are for; None if the study declares no smallest effect."""
    smallest = report.metric.smallest_effect
    if smallest is None:
        return None
    note = EQUIVALENCE.format(smallest=formatting.number(smallest))
    return f"{note} {REPEATED}" if report.design.adding else note


def _devices(facts: Mapping[str, Sequence[Fact]]) -> Sequence[Fact]:
    """Return the GPUs, or the CPUs if there was no GPU."""
    return facts.get("gpu") or facts.get("cpu") or ()


def _again(report: Report, cell: CellRow) -> str | None:
    """Return the command that trains a cell again with its first seed and compares every bit; None if it has no result."""
    done = [number for seed, number in cell.trials.items() if cell.states[seed] == "COMPLETE"]
    return f"ablate reproduce {report.study} {done[0]}" if done else None


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
    """Return the text of an effect's last column: its last look, aliases, caveats and notes."""
    look = [when_seen(effect.look)] if effect.look else []
    aliases = [f"aliased with {listed(effect.aliased_with)}"] if effect.aliased_with else []
    note = [effect.note] if effect.note else []
    return "; ".join([*look, *aliases, *caveats_of(effect), *note])
