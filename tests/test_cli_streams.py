"""Streams that are closed, full, or read by nobody: no file is printed into, and neither training nor a result is lost."""

import contextlib
import shlex
import sqlite3
import subprocess
from pathlib import Path

import pytest
from fixture_types import WalkStudy
from warm_cli import cold


def in_shell(folder: Path, words: str, rest: str) -> subprocess.CompletedProcess[str]:
    """Run `ablate` with `words`, and what a shell makes of `rest`."""
    command = f"{shlex.join(cold(*shlex.split(words)))} {rest}"
    return subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True)


def complete_trials(folder: Path) -> int:
    with contextlib.closing(sqlite3.connect(folder / "runs/walk/study.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        ((count,),) = database.execute("SELECT count(*) FROM trials WHERE state = 'COMPLETE'")
        return int(count)


@pytest.mark.parametrize("rest", ["<&- >&- 2>&-", "2>/dev/full", "2>&1 >/dev/null | true"])
def test_a_run_does_not_need_its_streams(rest: str, walk_study: WalkStudy, tmp_path: Path) -> None:
    walk_study()
    done = in_shell(tmp_path, "run walk.yaml --limit 1", rest)
    assert (done.returncode, complete_trials(tmp_path)) == (0, 1)


def test_a_result_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    done = in_shell(tmp_path, "schema", ">/dev/full")
    assert done.returncode == 1
    assert (
        done.stderr
        == "stdout: No space left on device; free some disk space, then run the same command again\n"
    )
