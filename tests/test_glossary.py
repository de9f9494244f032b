"""Every word that a report prints without explaining it is in the glossary."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from report_examples import example

from ablate.evidence.verdicts import Qualifier
from ablate.report.flags.evidence import SEVERITIES
from ablate.report.render.csv import tables
from ablate.report.render.markdown import render_markdown
from ablate.report.report import report_of
from ablate.stats.verdicts import Verdict

ROOT = Path(__file__).parents[1]
WORDS, VERDICTS, FLAGS, COLUMNS = (ROOT / "GLOSSARY.md").read_text(encoding="utf-8").split("\n## ")


def rows(section: str) -> list[list[str]]:
    """The cells of a section's table, without its head."""
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines[2:]]


def flags() -> Iterator[tuple[str, str]]:
    """Each flag in the code with each of its severities."""
    for file in (ROOT / "ablate/report/flags").glob("*.py"):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Flag":
                for word in ast.walk(call.args[0]):
                    if isinstance(word, ast.Name) and word.id.lower() in SEVERITIES:
                        yield ast.literal_eval(call.args[1]), word.id


def test_every_flag_is_explained_with_its_severities() -> None:
    explained = {(flag.strip("`"), each) for flag, those, _ in rows(FLAGS) for each in those.split(", ")}
    assert explained == set(flags())


def test_every_verdict_and_every_qualifier_is_explained() -> None:
    explained = {word for first, _ in rows(VERDICTS) for word in re.findall(r"[*`]+([^*`]+)[*`]+", first)}
    assert explained == {*Verdict, *Qualifier}


def test_every_heading_of_cells_and_effects_is_explained() -> None:
    report = report_of(example())
    metrics = {name for cell in report.cells for name in cell.metrics}
    heads = re.findall(
        r"^\| ((?:cell \| \||factor \| from).*) \|$", render_markdown(report, []), re.MULTILINE
    )
    found = {head.strip() for line in heads for head in line.split("|")} - metrics
    explained = {heading for headings, *_ in rows(COLUMNS) for heading in headings.split(", ")}
    assert len(heads) > 2
    assert {head.removesuffix(f" {report.metric.name}") for head in found} - explained == set()


def test_every_column_of_cells_and_effects_is_explained() -> None:
    report = report_of(example())
    metrics = {name for cell in report.cells for name in cell.metrics}
    columns = [column for name in ("cells", "effects") for column in tables(report)[name][0]]
    found = {re.sub(r"^factor\..*", "factor.NAME", column) for column in columns}
    for metric in metrics:
        found = {re.sub(rf"^{re.escape(metric)}\.", "METRIC.", column) for column in found}
    explained = {column.strip("`") for _, columns, _ in rows(COLUMNS) for column in columns.split(", ")}
    assert found == explained - {""}
