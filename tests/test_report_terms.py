"""The words explained in a report: one source, the same in the glossary, marked where they stand."""

from pathlib import Path

import pytest
from report_examples import example

from ablate.report.render.html import render_html
from ablate.report.render.markdown import render_markdown
from ablate.report.report import report_of
from ablate.report.terms import TERMS, marker, of_heading

GLOSSARY = (Path(__file__).parents[1] / "GLOSSARY.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("word", TERMS)
def test_the_glossary_explains_a_word_as_the_report_does(word: str) -> None:
    assert f"| **{word}** | {TERMS[word]} |\n" in GLOSSARY


def test_the_markdown_ends_with_the_words() -> None:
    ends = render_markdown(report_of(example()), []).rpartition("### Terms\n")[2].strip().split("\n")
    assert ends == [f"- **{word}**: {meaning}" for word, meaning in TERMS.items()]


def test_a_word_is_marked_once() -> None:
    marked = marker(lambda word, meaning: f"<{word}>")
    assert marked("95 % interval, 95 % interval") == "<95 % interval>, 95 % interval"
    assert marked("a 95 % interval, Holm p") == "a 95 % interval, <Holm p>"


def test_no_word_is_marked_inside_another() -> None:
    assert marker(lambda word, meaning: "!")("seedsman, unaliased") == "seedsman, unaliased"


@pytest.mark.parametrize(
    "heading", ["cell", "Δ dev/mean", "p", "p (Holm)", "σ of items", "detectable (80 %)"]
)
def test_a_heading_says_what_it_means(heading: str) -> None:
    meaning = of_heading(heading)
    assert meaning in TERMS.values()


def test_a_heading_that_a_user_named_is_not_explained() -> None:
    assert of_heading("pearson") is None


def test_the_first_screen_explains_its_words() -> None:
    page = render_html(report_of(example()), [])
    says = page[page.index('id="says"') : page.index('id="design"')]
    assert says.count('<abbr tabindex="0"') >= 3
    assert says.count(f'title="{TERMS["95 % interval"]}"') == 1
