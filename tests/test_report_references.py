"""Every publication that a report or the page for reviewers cites is listed with its title."""

import re
from pathlib import Path

import pytest
from report_examples import example

from ablate.report import phrases
from ablate.report.references import REFERENCES, author_and_year
from ablate.report.render.html import render_html
from ablate.report.render.markdown import render_markdown
from ablate.report.report import report_of

PAGE, LISTED = (
    (Path(__file__).parent.parent / "docs/statistics_for_reviewers.md")
    .read_text(encoding="utf-8")
    .split("\n## Sources\n")
)
YEAR = re.compile(r"\b(?:18|19|20)\d\d[ab]?\b")
PHRASES = "\n".join(
    text
    for said in vars(phrases).values()
    for text in (said.values() if isinstance(said, dict) else [said])
    if isinstance(text, str)
)


@pytest.mark.parametrize("text", [PAGE, PHRASES], ids=["page", "phrases"])
def test_every_year_is_that_of_a_publication(text: str) -> None:
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    unknown = [
        prose[max(0, found.start() - 60) : found.end()]
        for found in YEAR.finditer(prose)
        if not any(
            year == found[0] and name in prose[max(0, found.start() - 60) : found.start()]
            for name, year in map(author_and_year, REFERENCES)
        )
    ]
    assert "1935" in text
    assert unknown == []


def test_the_page_lists_them_all() -> None:
    assert LISTED.split("\n- ")[1:] == [
        f"{publication}." + ("\n" if publication is REFERENCES[-1] else "") for publication in REFERENCES
    ]


def test_a_report_lists_those_that_it_cites() -> None:
    report = report_of(example())
    listed = re.findall(r"^- (\w+) .*?\((\d{4}\w?)\)", _sources(render_markdown(report, [])), re.MULTILINE)
    assert ("Student", "1908") in listed
    assert ("Holm", "1979") in listed
    # No predictions were saved.
    assert ("Obuchowski", "1995") not in listed
    assert "The probable error of a mean" in render_html(report, [])


def _sources(markdown: str) -> str:
    return markdown.partition("### Sources")[2].partition("### Terms")[0]
