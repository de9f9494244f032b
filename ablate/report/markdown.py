"""The document as markdown that GitHub renders: sentences, tables, pictures beside their captions."""

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from ablate.report import words
from ablate.report.frames import level_text
from ablate.report.methods import methods
from ablate.report.plot_style import Picture

MAX_CELLS, MAX_INTERACTIONS = 80, 12  # further ones stand in report.json


def render_markdown(document: Mapping[str, Any], pictures: Sequence[Picture]) -> str:
    """Return the whole of report.md."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ablate.report"),
        autoescape=False,  # `md` below escapes for markdown; the template uses it on everything a user named
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "md": words.markdown,
        "code": words.code,
        "level": level_text,
        "number": words.number,
        "signed": words.signed,
        "interval": words.interval,
        "p": words.p_text,
        "duration": words.duration,
        "change": words.change_text,
    }
    template = environment.get_template("report.md.jinja")
    return template.render(
        document,
        pictures=pictures,
        max_cells=MAX_CELLS,
        plural=words.plural,
        cell_metrics=list(dict.fromkeys(name for cell in document["cells"] for name in cell["metrics"])),
        effects_by_metric=_by_metric(document["effects"]),
        strongest_interactions=_strongest(document["interactions"]),
        methods=methods(document),
    )


def _strongest(interactions: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those with the smallest p, then the largest estimates."""

    def rank(row: Mapping[str, Any]) -> tuple[float, float]:
        return (2.0 if row["p"] is None else row["p"]), -abs(row["estimate"] or 0.0)

    return sorted(interactions, key=rank)[:MAX_INTERACTIONS]


def _by_metric(effects: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    metrics = dict.fromkeys(row["metric"] for row in effects)
    return [
        {"metric": metric, "rows": [row for row in effects if row["metric"] == metric]} for metric in metrics
    ]
