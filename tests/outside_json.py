"""`ablate analyze` and `ablate compare` as other programs see them: the JSON of what they say."""

from typing import Any

from ablate.report.document import to_json
from ablate.report.outside import analyze, compare
from ablate.report.outside import analyze_study as study
from ablate.report.outside import compare_studies as studies

Document = dict[str, Any]


def analyze_table(*args: Any, **options: Any) -> Document:
    return _json(analyze.analyze_table(*args, **options))


def analyze_study(*args: Any, **options: Any) -> Document:
    return _json(study.analyze_study(*args, **options))


def compare_files(*args: Any, **options: Any) -> Document:
    return _json(compare.compare_files(*args, **options))


def compare_studies(*args: Any, **options: Any) -> Document:
    return _json(studies.compare_studies(*args, **options))


def _json(document: object) -> Document:
    found: Document = to_json(document)
    return found
