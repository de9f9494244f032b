"""`ablate analyze` and `ablate compare` as other programs see them: the JSON of what they say."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ablate.report.as_json import to_json
from ablate.report.outside import analyze, compare
from ablate.report.outside import analyze_study as study
from ablate.report.outside import compare_studies as studies
from ablate.report.outside.question import Question

Document = dict[str, Any]


def analyze_table(path: str | Path, *asked: Any, **options: Any) -> Document:
    return _json(analyze.analyze_table(Path(path), question(*asked, **options)))


def analyze_study(source: str, name: str | None = None, *asked: Any, **options: Any) -> Document:
    return _json(study.analyze_study(source, name, question(*asked, **options)))


def question(*asked: Any, **options: Any) -> Question:
    given = Question(*asked, **options)
    return replace(given, metric=given.metric or "", baseline=given.baseline or {})


def compare_files(*args: Any, **options: Any) -> Document:
    return _json(compare.compare_files(*args, **options))


def compare_studies(*args: Any, **options: Any) -> Document:
    return _json(studies.compare_studies(*args, **options))


def _json(document: object) -> Document:
    found: Document = to_json(document)
    return found
