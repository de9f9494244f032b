"""report.tex: tables for a paper."""

from ablate.report.document import Report
from ablate.report.render import escaping
from ablate.report.render.templating import context, environment


def render_latex(report: Report) -> str:
    """Return report.tex: the effects on the primary metric and the cells as booktabs tables, to be \\input."""
    return environment(escaping.latex).get_template("report.tex.jinja").render(context(report, ()))
