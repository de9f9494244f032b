"""report.html: one file that needs nothing else."""

import base64
import re
from collections.abc import Sequence

from markupsafe import Markup, escape

from ablate.report.document import Report
from ablate.report.plots.forest import forest
from ablate.report.plots.style import Picture, style
from ablate.report.render import escaping
from ablate.report.render.templating import context, environment
from ablate.report.sections.live import Live
from ablate.report.terms import marker, of_heading

# With tabindex, a term can also be reached by touch and keyboard.
_TERM = '<abbr tabindex="0" title="{}">{}</abbr>'


def render_html(report: Report, pictures: Sequence[Picture], live: Live | None = None) -> str:
    """Return report.html with pictures, style and script inside: it opens from disk and needs no network.

    With `live`, it opens with the progress and reloads by itself.
    """
    templates = environment(autoescape=True)
    mark = marker(lambda word, meaning: str(_TERM.format(escape(meaning), word)))
    templates.filters |= {
        "code": Markup("<code>{}</code>").format,
        "data_uri": _data_uri,
        "prose": _prose,
        "heading": of_heading,
        "breakable": _breakable,
        "explained": lambda text: Markup(mark(str(escape(text)))),
    }
    page = templates.get_template("report.html.jinja").render(context(report, pictures), live=live)
    return escaping.escape_bidirectional(page)


def render_summary(report: Report) -> str:
    """Return the summary and the forest plot as a piece of HTML, for a notebook."""
    with style():
        picture = forest(report)
    items = [Markup("<li>{}</li>").format(_prose(sentence)) for sentence in report.summary]
    shown = Markup('<img src="{}" alt="{}">').format(_data_uri(picture), picture.alt) if picture else ""
    # Return a plain str, since callers may put it into other pages.
    summary = Markup("<h3>{}</h3><ul>{}</ul>{}").format(report.study, Markup("").join(items), shown)
    return escaping.escape_bidirectional(str(summary))


def _prose(text: str) -> Markup:
    """Return a sentence with a capital first letter and `commands` as code."""
    escaped = str(escape(text[:1].upper() + text[1:]))
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", escaped))


def _breakable(text: str) -> Markup:
    """Return a name that may also be broken after a slash, or after a long factor: `paraphrase_head=`."""
    return Markup(re.sub(r"/|[^\s=]{12,}=", r"\g<0><wbr>", str(escape(text))))


def _data_uri(picture: Picture) -> str:
    encoded = base64.b64encode(picture.files[f"{picture.name}.svg"]).decode()
    return f"data:image/svg+xml;base64,{encoded}"
