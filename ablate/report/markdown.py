"""The document as markdown that GitHub renders: sentences, tables, pictures beside their captions."""

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from ablate.report import words
from ablate.report.frames import level_text
from ablate.report.plot_style import Picture

MAX_CELLS = 80  # further ones stand in report.json


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
    )


def _by_metric(effects: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    metrics = dict.fromkeys(row["metric"] for row in effects)
    return [
        {"metric": metric, "rows": [row for row in effects if row["metric"] == metric]} for metric in metrics
    ]
