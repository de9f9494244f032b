"""A null level, the text "null" and a factor that does not exist are three things, in every table of the report."""

import csv
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from fixture_types import Ablate, RunHere
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


def test_characters_that_turn_text_around_are_escaped(
    ablate: Ablate, run_here: RunHere, tmp_path: Path
) -> None:
    (tmp_path / "turned.yaml").write_text(
        "study: turned\ntrainer: turned\n"
        'factors: {a: ["a\\u202Eb", "c\\u2066d"]}\nbaseline: {a: "c\\u2066d"}\n'
        "design: full\nseeds: [1, 2]\nmetric: {name: y}\n"
    )
    (tmp_path / "turned.py").write_text(
        "from pydantic import BaseModel\nclass Settings(BaseModel):\n    a: str = 'x'\n"
        "def train(settings, context):\n    return {'y': 1.0 + context.seed * ('b' in settings.a)}\n"
    )
    run_here(tmp_path / "turned.yaml")
    assert ablate("report", "turned").returncode == 0
    for name in ("report.md", "report.html"):
        text = (tmp_path / "reports/turned" / name).read_text(encoding="utf-8")
        assert not set("\u202e\u2066") & set(text)
    assert r"a: c\u2066d → a\u202eb" in text
