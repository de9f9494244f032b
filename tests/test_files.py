"""What is written is there whole or not at all, and on the disk before anybody says that it is."""

import os
import re
import sys
from pathlib import Path

import pytest
from fixture_types import not_none
from tracing import needs_strace, place, traced

from ablate.files import make_folder, new_folder, sweep, sync_tree, write_file


def traced_python(folder: Path, code: str) -> list[str]:
    return traced(folder / "trace.txt", sys.executable, "-c", f"from ablate.files import *\n{code}")


@needs_strace
def test_a_file_is_synced_then_renamed_then_its_folder_is_synced(tmp_path: Path) -> None:
    calls = traced_python(
        tmp_path, f"from pathlib import Path; write_file(Path({str(tmp_path)!r}, 'a'), b'1')"
    )
    assert [not_none(re.match(r"\w+", call))[0] for call in calls] == ["fsync", "rename", "fsync"]
    assert ".part>" in calls[0]
    assert f"<{tmp_path}>" in calls[2]


@needs_strace
def test_all_of_a_folder_is_synced_before_it_gets_its_name(tmp_path: Path) -> None:
    code = """
from pathlib import Path
with new_folder(Path("model")) as folder:
    (folder / "sub").mkdir()
    (folder / "sub" / "config.json").write_text("{}")
"""
    calls = traced_python(tmp_path, code)
    renamed = place(calls, r"rename.*\"model\"")
    for what in (r"config.json>", r"sub>", r"part>"):
        assert place(calls, rf"fsync.*{what}") < renamed
    assert place(calls[renamed:], rf"fsync.*<{tmp_path}>")


@needs_strace
def test_a_new_folder_is_named_durably_by_the_one_above(tmp_path: Path) -> None:
    calls = traced_python(tmp_path, "from pathlib import Path; make_folder(Path('a/b').resolve())")
    assert [not_none(re.search(r"<(.*)>", call))[1] for call in calls] == [f"{tmp_path}/a", f"{tmp_path}"]


def test_a_file_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path / "a", b"before")
    monkeypatch.setattr(os, "fsync", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_file(tmp_path / "a", b"after")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("a", b"before")]


def test_a_new_folder_takes_the_place_of_an_old_one(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with new_folder(tmp_path / "f") as folder:
            (folder / name).touch()
    assert [file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*")] == ["f", "f/new"]


def test_an_old_folder_that_is_to_be_kept_stays(tmp_path: Path) -> None:
    (tmp_path / "f" / "old").mkdir(parents=True)
    with new_folder(tmp_path / "f", keep=lambda: True) as folder:
        (folder / "new").touch()
    assert [file.name for file in (tmp_path / "f").iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [tmp_path / "f"]


def test_a_folder_that_could_not_be_filled_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "f") as folder:
        (folder / "half").write_text(str(1 / 0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(30)
def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to("missing")
    sync_tree(tmp_path)


def test_making_a_folder_that_is_there_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    make_folder(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_what_kills_left_half_written_is_swept_away(tmp_path: Path) -> None:
    (tmp_path / "predictions").mkdir()
    (tmp_path / ".model-x.part").mkdir()
    (tmp_path / "model").mkdir()
    for name in (
        ".step-000000000001.checkpoint.12-ab.part",
        "predictions/.dev.a.csv.12-ab.part",
        ".model-x.part/w",
    ):
        (tmp_path / name).write_bytes(b"half")
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["model", "predictions"]


def test_a_write_that_is_killed_leaves_what_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok: None)  # a kill cleans nothing up
    monkeypatch.setattr(Path, "replace", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_file(tmp_path / "file", b"half")
    monkeypatch.undo()
    assert len(list(tmp_path.iterdir())) == 1
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []
