"""The document as text: markdown that GitHub renders, one self-contained HTML file, LaTeX tables.

What a user named (studies, factors, levels, metrics, errors) is escaped for the place it stands in, without exception."""

import base64
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jinja2
from markupsafe import Markup, escape

from ablate.evidence.mixing import LEAST_SHARE
from ablate.report import words
from ablate.report.phrases import INTERVALS, RESERVED, TESTS
from ablate.report.plots.style import Picture
from ablate.report.sections.looks import look_text, plan_text, when_seen
from ablate.report.sections.provenance import methods
from ablate.report.sections.summary import reservations_of
from ablate.spec.model import level_text
from ablate.stats.verdicts import Verdict

MAX_CELLS, MAX_INTERACTIONS = 80, 12  # in markdown and LaTeX; HTML and report.json have all
OVER_SEEDS = ("sign_flip", "moderated_t")
MAX_LATEX_METRICS = 4  # more do not fit on a page


def render_markdown(document: Mapping[str, Any], pictures: Sequence[Picture]) -> str:
    """Return the whole of report.md; pictures are named, not embedded."""
    return _environment(words.markdown).get_template("report.md.jinja").render(_context(document, pictures))


def render_html(document: Mapping[str, Any], pictures: Sequence[Picture]) -> str:
    """Return the whole of report.html, pictures, style and script inside: it asks no network and opens from a disk."""
    environment = _environment(words.markdown, autoescape=True)
    environment.filters |= {"data_uri": _data_uri, "prose": _prose}
    return environment.get_template("report.html.jinja").render(_context(document, pictures))


def render_latex(document: Mapping[str, Any]) -> str:
    """Return report.tex: the effects on the deciding metric and the cells as booktabs tables, to be \\input."""
    return _environment(words.latex).get_template("report.tex.jinja").render(_context(document, ()))


def _environment(escape: Callable[[object], str], autoescape: bool = False) -> jinja2.Environment:
    """`t` escapes text where jinja does not do it by itself."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ablate.report.render"),
        autoescape=autoescape,  # of HTML; the other templates pass everything a user named through `t`
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "t": escape,
        "code": words.code,
        "one_line": words.one_line,
        "level": level_text,
        "number": words.number,
        "signed": words.signed,
        "interval": words.interval,
        "p": words.p_text,
        "duration": words.duration,
        "change": words.change_text,
        "money": lambda usd: f"{usd:.2f}",
        "percent": lambda share: f"{100 * share:.1f} %" if share is not None else "–",
        "test_name": lambda method: TESTS.get(method, method),
        "df": words.df_text,
        "named": lambda settings: ", ".join(f"{name} {value}" for name, value in settings.items()),
        "remark": _remark,
        "plan": plan_text,
        "look": look_text,
        "judged": _judged,
        "shortened": lambda text: words.shortened(text, 20),
    }
    return environment


def _context(document: Mapping[str, Any], pictures: Sequence[Picture]) -> dict[str, Any]:
    return {
        **document,
        "shown_cells": _best_first(document) if len(document["cells"]) > MAX_CELLS else document["cells"],
        "pictures": pictures,
        "max_cells": MAX_CELLS,
        "least_share": LEAST_SHARE,
        "max_metrics": MAX_LATEX_METRICS,
        "plural": words.plural,
        "cell_metrics": list(dict.fromkeys(name for cell in document["cells"] for name in cell["metrics"])),
        "effects_by_metric": _by_metric(document["effects"]),
        "strongest_interactions": _strongest(document["interactions"]),
        "methods": methods(document),
        "intervals_note": INTERVALS,
        "devices": [found["value"] for found in _devices(document["provenance"]["facts"])],
    }


def _devices(facts: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The GPUs, or where none trained the CPUs."""
    found: Sequence[Mapping[str, Any]] = facts.get("gpu") or facts.get("cpu") or ()
    return found


def _best_first(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The reference, and the best cells by the metric that decides."""
    sign = 1 if document["metric"]["goal"] == "maximize" else -1

    def rank(cell: Mapping[str, Any]) -> tuple[bool, float]:
        mean = cell["metrics"].get(document["metric"]["name"], {}).get("mean")
        return not cell["reference"], math.inf if mean is None else -sign * mean

    return sorted(document["cells"], key=rank)[:MAX_CELLS]


def _strongest(interactions: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those with the smallest p, then the largest estimates."""

    def rank(row: Mapping[str, Any]) -> tuple[float, float]:
        return (2.0 if row["p"] is None else row["p"]), -abs(row["estimate"] or 0.0)

    return sorted(interactions, key=rank)[:MAX_INTERACTIONS]


def _by_metric(effects: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The effects table of each metric; tests over seeds only of the one that decides, as they say the same of the others."""
    groups = []
    for metric in dict.fromkeys(row["metric"] for row in effects):
        rows = [row for row in effects if row["metric"] == metric]
        tests = [
            {**line, "change": words.change_text(row)}
            for row in rows
            for line in row["sensitivity"]
            if line["method"] not in OVER_SEEDS or row["role"] == "primary"
        ]
        notes = list(dict.fromkeys(f"{TESTS.get(line['method'])}: {line['note']}" for line in tests))
        bounded = any(line["ci95"] for line in tests)  # a sign-flip has neither statistic nor interval
        groups.append({"metric": metric, "rows": rows, "tests": tests, "notes": notes, "bounded": bounded})
    return groups


def _remark(effect: Mapping[str, Any]) -> str:
    """What stands in the last column of an effect: its look, what the design cannot tell it from, reservations, notes."""
    look = [when_seen(effect["look"])] if effect.get("look") else []
    aliases = [f"aliased with {words.listed(effect['aliased_with'])}"] if effect["aliased_with"] else []
    note = [effect["note"]] if effect["note"] else []
    return "; ".join([*look, *aliases, *reservations_of(effect), *note])


def _judged(row: Mapping[str, Any]) -> str:
    """The verdict of an effect as a table has it."""
    reserved = row["qualifiers"] and Verdict(row["verdict"]).is_decided
    return f"{row['verdict']}{RESERVED if reserved else ''}"


def _prose(text: str) -> Markup:
    """A sentence of ours, begun with a capital, with `commands` as code."""
    escaped = str(escape(text[:1].upper() + text[1:]))
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", escaped))


def _data_uri(picture: Picture) -> str:
    encoded = base64.b64encode(picture.files[f"{picture.name}.svg"]).decode()
    return f"data:image/svg+xml;base64,{encoded}"
