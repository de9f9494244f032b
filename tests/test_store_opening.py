"""Opening databases: what a kill left half done, what other machines could write to, what is not ours."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fixture_types import RunHere, WalkStudy

from ablate.errors import BadInput
from ablate.store import database_errors, opening, urls
from ablate.store.database_errors import Locked
from ablate.store.places import place_of
from ablate.store.reading import read_results

CUT_OFF = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode=TRUNCATE")
connection.execute("PRAGMA cache_size=2")                     # so that pages reach the file before the commit
connection.execute("CREATE TABLE t (a INTEGER, b TEXT)")
connection.execute("INSERT INTO t VALUES (1, 'whole')")
connection.execute("BEGIN IMMEDIATE")
connection.executemany("INSERT INTO t VALUES (?, ?)", [(i, "half" * 500) for i in range(200)])
connection.execute("UPDATE t SET a = 0")
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def cut_off(tmp_path: Path) -> Path:
    """A database whose writer was killed in the middle of a commit."""
    file = tmp_path / "study.db"
    subprocess.run([sys.executable, "-c", CUT_OFF, str(file)])
    assert Path(f"{file}-journal").stat().st_size > 0
    return file


def rows(file: Path, read_only: bool = True) -> list[Any]:
    opened = opening.connect(f"sqlite:///{file}", read_only)
    with opened.connect() as connection:
        found = connection.execute(sa.text("SELECT a, b FROM t")).all()
    opened.dispose()
    return list(found)


def test_a_reader_sees_what_was_committed_and_writes_nothing(cut_off: Path) -> None:
    before = {file.name: file.read_bytes() for file in cut_off.parent.iterdir()}
    assert rows(cut_off) == [(1, "whole")]
    assert {file.name: file.read_bytes() for file in cut_off.parent.iterdir()} == before


def test_a_reader_may_not_be_allowed_to_write(cut_off: Path) -> None:
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("mounting needs root and unshare")
    folder = cut_off.parent
    script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$1" -c "$2" "$0/study.db"'
    read = "import sys; from test_store_opening import rows, Path; print(rows(Path(sys.argv[1])))"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, str(folder), sys.executable, read],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    if "permission denied" in done.stderr or "unshare failed" in done.stderr:
        pytest.skip(f"no mount namespaces here: {done.stderr.strip()}")
    assert done.stdout == "[(1, 'whole')]\n", done.stderr


def test_the_next_writer_mends_it(cut_off: Path) -> None:
    assert rows(cut_off, read_only=False) == [(1, "whole")]
    assert rows(cut_off) == [(1, "whole")]
    journal = Path(f"{cut_off}-journal")
    assert not journal.exists() or not journal.stat().st_size


def test_a_reader_sees_one_moment(cut_off: Path) -> None:
    rows(cut_off, read_only=False)
    reader, writer = (opening.connect(f"sqlite:///{cut_off}", read_only) for read_only in (True, False))
    count = sa.text("SELECT count(*) FROM t")
    with reader.connect() as looking, writer.connect() as writing:
        writing.exec_driver_sql("PRAGMA busy_timeout=100")
        first = looking.scalar(count)
        writing.exec_driver_sql("INSERT INTO t VALUES (2, 'later')")
        with pytest.raises(sa.exc.OperationalError, match="locked"):
            writing.commit()
        assert looking.scalar(count) == first
    reader.dispose()
    writer.dispose()


MOUNTS = """\
/dev/root / ext4 rw 0 0
server:/export /home nfs4 rw 0 0
/dev/sdb /home/local\\040disk xfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/home/me/runs", "nfs4"), ("/homes/me", "ext4"), ("/home/local disk/runs", "xfs"), ("/", "ext4")],
)
def test_the_file_system_of_a_path_is_that_of_the_deepest_mount(path: str, kind: str) -> None:
    assert opening.file_system_of(Path(path), MOUNTS) == kind


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "file_system_of", lambda path, mounts: "nfs4")
    with pytest.raises(BadInput, match=r"network file system \(nfs4\), where SQLite loses data; put --home"):
        opening.refuse_network_file_system(tmp_path)


def test_a_password_in_the_query_is_not_printable_either() -> None:
    assert "canary" not in urls.without_password("postgresql://host/db?user=me&password=canary")


def test_a_relative_url_means_the_file_where_it_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = place_of("s", storage="sqlite:///my.db")
    monkeypatch.chdir("/")
    assert urls.sqlite_file(place.url) == tmp_path / "my.db"


@pytest.mark.parametrize("name", ["what?a=b", "50%20off", "{x} #1:@", "naïve"])
@pytest.mark.parametrize("storage", [False, True])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str, storage: bool) -> None:
    typed = "sqlite:///" + str(tmp_path / name / "s/study.db").replace("%", "%25").replace("?", "%3f")
    place = place_of("s", home=tmp_path / name, storage=typed if storage else None)
    assert urls.sqlite_file(place.url) == tmp_path / name / "s/study.db"


def test_opening_a_database_keeps_the_lock_of_a_transaction_that_is_open(tmp_path: Path) -> None:
    """POSIX locks are the process's: whoever closes the file lets all of them go."""
    file = tmp_path / "study.db"
    file.touch()
    url = f"sqlite:///{file}"
    write = f"import sqlite3; sqlite3.connect({str(file)!r}, timeout=0).execute('BEGIN IMMEDIATE')"
    with opening.connect(url).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (a INTEGER)")
        opening.connect(url, read_only=True).dispose()
        other = subprocess.run([sys.executable, "-c", write], capture_output=True, text=True)
    assert "database is locked" in other.stderr


@pytest.mark.parametrize("command", ["run", "status"])
def test_a_database_that_somebody_holds_for_good_is_named_after_one_wait(
    run_here: RunHere, walk_study: WalkStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    study = walk_study(seeds="[1]")
    run_here(study, limit=1)
    file = tmp_path / "runs/walk/study.db"
    monkeypatch.setattr(database_errors, "LOCK_TIMEOUT_S", 0.3)
    with contextlib.closing(sqlite3.connect(file)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(
            Locked, match=r"study\.db: database is locked; another program has locked it \(fuser"
        ):
            run_here(study) if command == "run" else read_results(place_of("walk", tmp_path / "runs"))
