"""report.md, which GitHub renders."""

from collections.abc import Sequence

from ablate.report.document import Report
from ablate.report.plots.style import Picture
from ablate.report.render import escaping
from ablate.report.render.templating import context, environment


def render_markdown(report: Report, pictures: Sequence[Picture]) -> str:
    """Return report.md; pictures are linked, not embedded."""
    template = environment(escaping.markdown).get_template("report.md.jinja")
    return template.render(context(report, pictures))
