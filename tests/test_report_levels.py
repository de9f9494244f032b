"""A null level, the text "null" and a factor that does not exist are three things, in every table of the report."""

import csv
import re
from collections.abc import Mapping

import pytest
from report_examples import example, factor, spec

from ablate.report.render.csv import csv_tables
from ablate.report.render.html import render_html
from ablate.report.render.markdown import render_markdown
from ablate.report.report import report_of
from ablate.spec.model import Scalar, quoted_level


@pytest.mark.parametrize(
    ("level", "written"),
    [
        (None, "null"),
        ("null", '"null"'),
        (0, "0"),
        ("0", '"0"'),
        (True, "true"),
        ("true", '"true"'),
        ("", '""'),
        ("no", "no"),
    ],
)
def test_a_level_is_written_as_in_a_study_file(level: Scalar, written: str) -> None:
    assert quoted_level(level) == written


def table_of_cells() -> list[Mapping[str, str]]:
    study = spec(
        "full",
        factors=(
            factor("similarity_head", ["concat", "siamese"]),
            factor("x", [None, "null"], similarity_head=("siamese",)),
        ),
        baseline={"similarity_head": "concat", "x": None},
    )
    text = csv_tables(report_of(example(study)))["cells.csv"].decode()
    return list(csv.DictReader(text.splitlines()))


def test_cells_csv_has_a_word_for_each() -> None:
    assert {row["factor.x"] for row in table_of_cells()} == {"", "null", '"null"'}


def test_a_page_has_no_control_character() -> None:
    report = report_of(example(spec(question="Is \x1b[2J shown\x07?")))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", render_html(report, []))
    assert "\x1b" not in render_markdown(report, [])
