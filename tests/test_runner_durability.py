"""A power cut takes nothing that the database says is there."""

import re
from pathlib import Path

import pytest
from tracing import needs_strace, place, traced
from warm_cli import cold

from ablate.store.places import place_of
from ablate.store.reading import read_results


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """One trial of a trainer that writes plain files and syncs none, and its system calls."""
    from conftest import write_walk

    folder = tmp_path_factory.mktemp("durable")
    calls = traced(folder / "trace.txt", *cold("run", write_walk(folder), "--limit", "1"))
    results = read_results(place_of("walk", folder / "runs"))
    return calls, next(iter(results.parts.values())).folder


def last_commit(calls: list[str]) -> int:
    """Return which call made the last transaction durable: that of the trial's result."""
    return max(at for at, call in enumerate(calls) if re.search(r"sync.*study\.db", call))


@needs_strace
def test_whatever_a_trainer_wrote_is_synced_before_its_trial_is_complete(
    study: tuple[list[str], Path],
) -> None:
    calls, folder = study
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert {"trained.log", "steps.log"} <= {file.name for file in files}
    for path in (*files, folder):
        assert place(calls, rf"sync.*<{path}>") < last_commit(calls)


@needs_strace
def test_the_folder_of_a_part_is_named_durably_before_its_trial_is_complete(
    study: tuple[list[str], Path],
) -> None:
    calls, folder = study
    above: Path = folder.parent
    for path in (above, above.parent):
        assert place(calls, rf"sync.*<{path}>") < last_commit(calls)
