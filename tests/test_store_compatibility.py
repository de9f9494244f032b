"""A study that an earlier version ran: `stores/old.zip` holds its database, its predictions and the report of then.

It opens, reports the same numbers, and `run` has nothing left to do."""

import json
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Ablate

OLD = Path(__file__).parent / "stores" / "old.zip"
SECTIONS = ["design", "progress", "cells", "effects", "interactions", "anova", "noise", "examples", "ledger"]

# The share of alpha that a test starts with has changed since.
CORRECTED = ("p_holm", "mde80")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with zipfile.ZipFile(OLD) as archive:
        archive.extractall(tmp_path)
    return tmp_path


def numbers(document: Any, place: str = "") -> Iterator[tuple[str, float]]:
    """Yield every number of a document but the corrected ones, with its place; NaN for null."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key not in CORRECTED:
                yield from numbers(value, f"{place}.{key}")
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from numbers(value, f"{place}[{index}]")
    elif not isinstance(document, str):
        yield place, math.nan if document is None else document


def test_the_report_has_the_numbers_of_then(folder: Path, ablate: Ablate) -> None:
    assert ablate("report", "old", "--home", "home", "--format", "json").returncode == 0
    now, before = (
        dict(numbers({section: report[section] for section in SECTIONS}))
        for report in (
            json.loads((folder / path).read_text()) for path in ("reports/old/report.json", "before.json")
        )
    )
    assert {place: now.get(place, "absent") for place in before} == pytest.approx(
        before, rel=1e-9, nan_ok=True
    )


def test_nothing_is_run_again(folder: Path, ablate: Ablate) -> None:
    done = ablate("run", "old.yaml", "--home", "home")
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert "upgraded from version 1" in done.stderr
    assert "24 complete" in done.stdout
    assert not list(folder.glob("home/old/logs/*"))


def test_seeds_can_be_added(folder: Path, ablate: Ablate) -> None:
    study = folder / "old.yaml"
    study.write_text(study.read_text().replace("[1, 2, 3]", "[1, 2, 3, 4]"))
    done = ablate("run", "old.yaml", "--home", "home", "--extend")
    assert done.returncode == 0
    assert "32 complete" in done.stdout
