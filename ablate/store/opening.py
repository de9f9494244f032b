"""Open the database safely: SQLite by default, PostgreSQL by URL.

An SQLite commit is durable (`synchronous=FULL`; `journal_mode=TRUNCATE` also syncs the end of a commit, which by default is an
unlink that a power cut may undo). A writing transaction takes its lock when it begins, not midway (`BEGIN IMMEDIATE`). A
mistyped path is an error, not a new database. Files on network file systems are refused: their locks cannot be trusted. A
reader gets a consistent snapshot and changes no byte, even if a writer was killed in the middle of a commit."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ablate.errors import BadInput, StoreError, Unavailable
from ablate.files import refuse_other_kinds
from ablate.store import database_errors
from ablate.store.database_errors import explained, intact
from ablate.store.urls import parse_url, sqlite_file, without_password

if TYPE_CHECKING:
    import sqlite3

NETWORK_FILE_SYSTEMS = {
    *("9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"),
    *(f"fuse.{name}" for name in ("ceph", "gcsfuse", "glusterfs", "juicefs", "rclone", "s3fs", "sshfs")),
}
# With these settings, both ends notice a dead peer within about 15 s.
SERVER_PATIENCE = {
    "connect_timeout": 10,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 5,
    "tcp_user_timeout": 15_000,
}


def connect(url: str, read_only: bool = False) -> sa.Engine:
    """Return an engine for an existing database. `engine.execution_options(reading=True)` takes no writer's lock.

    Raises:
        BadInput: there is no such file, or it would be written on a network file system.
        StoreError: the file is not an SQLite database.
        Unavailable: the server's driver is not installed.
    """
    file = sqlite_file(url)
    if file is None:
        return server_engine(url, read_only)
    refuse_other_kinds(file)
    if not file.is_file():
        raise BadInput(f"{file}: no such database; `ablate run` creates it")
    _refuse_other_files(file)
    if read_only:
        engine = sa.create_engine("sqlite://", creator=lambda: _reader(file), poolclass=sa.pool.QueuePool)
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
        return engine
    refuse_network_file_system(file)
    engine = sa.create_engine("sqlite://", creator=lambda: _writer(file), poolclass=sa.pool.QueuePool)
    sa.event.listen(engine, "begin", _begin)
    return engine


@contextlib.contextmanager
def reading(url: str) -> Iterator[sa.Connection]:
    """Yield a read-only connection with a consistent snapshot of the database; close everything afterwards.

    Raises:
        BadInput, StoreError, Unavailable: as in `connect`, or the database is locked or damaged.
    """
    engine = connect(url, read_only=True)
    try:
        with explained(url), intact(url), engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def server_engine(url: str, read_only: bool = False, **how: Any) -> sa.Engine:
    """Return an engine for a server; `how`: further arguments for SQLAlchemy.

    Raises:
        Unavailable: its driver is not installed.
    """
    try:
        engine = sa.create_engine(
            parse_url(url),
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args=SERVER_PATIENCE,
            **how,
        )
    except ImportError as error:
        raise Unavailable(
            f"{without_password(url)}: needs a driver; pip install 'ablate-studies[postgres]'"
        ) from error
    if read_only:
        return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return engine


def _refuse_other_files(file: Path) -> None:
    """Raise StoreError when the file is not a database.

    SQLite itself has to check: POSIX locks belong to the process, so opening and closing the file here would drop the lock of a
    transaction that is open in this process."""
    import sqlite3

    try:
        with contextlib.closing(sqlite_connection(file, "ro", patience_s=0)) as connection:
            connection.execute("PRAGMA schema_version")
    # Ignored: all other errors are reported when the engine is used.
    except sqlite3.Error as error:
        if error.sqlite_errorname == "SQLITE_NOTADB":
            raise StoreError(
                f"{file}: not an SQLite database; move it away or name another --storage"
            ) from error


def _begin(connection: sa.Connection) -> None:
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def sqlite_connection(file: Path, mode: str, patience_s: float | None = None) -> "sqlite3.Connection":
    """Open an SQLite file; `mode` is ro or rw.

    `patience_s`: how long to wait for the locks of others; default: LOCK_TIMEOUT_S."""
    # Imported here, since it is slow to load and not needed with a server.
    import sqlite3

    quoted = str(file.resolve()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return sqlite3.connect(
        f"file:{quoted}?mode={mode}",
        uri=True,
        timeout=database_errors.LOCK_TIMEOUT_S if patience_s is None else patience_s,
        isolation_level=None,
        check_same_thread=False,
    )


def _writer(file: Path) -> "sqlite3.Connection":
    connection = sqlite_connection(file, "rw")
    connection.execute("PRAGMA journal_mode=TRUNCATE")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def _reader(file: Path) -> "sqlite3.Connection":
    """Open for reading. An interrupted commit is rolled back in a copy, since a reader must not write."""
    import sqlite3

    while True:
        connection = sqlite_connection(file, "ro")
        try:
            connection.execute("PRAGMA schema_version").fetchone()
        except sqlite3.OperationalError as error:
            connection.close()
            if error.sqlite_errorname != "SQLITE_READONLY_ROLLBACK":
                raise
            if copy := _rolled_back_copy(file):
                return copy
        else:
            return connection


def _rolled_back_copy(file: Path) -> "sqlite3.Connection | None":
    """Return the database in memory, as it was before an interrupted commit; None if a writer rolled it back meanwhile."""
    import sqlite3

    journal = Path(f"{file}-journal")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy.db"
        try:
            before = journal.stat()
            shutil.copyfile(journal, f"{copy}-journal")
            shutil.copyfile(file, copy)
            after = journal.stat()
        except FileNotFoundError:
            return None
        if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
            return None
        memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        with contextlib.closing(sqlite3.connect(copy)) as source:
            source.backup(memory)
    return memory


def refuse_network_file_system(path: Path) -> None:
    """Refuse a path that other machines may write to at the same time.

    Raises:
        BadInput: its file system is one of NETWORK_FILE_SYSTEMS.
    """
    mounts = Path("/proc/self/mounts")
    kind = file_system_of(path.resolve(), mounts.read_text()) if mounts.is_file() else ""
    if kind in NETWORK_FILE_SYSTEMS:
        raise BadInput(
            f"{path}: on a network file system ({kind}), where SQLite loses data; put --home on a local disk, or the "
            "trials into PostgreSQL (--storage postgresql://...)"
        )


def file_system_of(path: Path, mounts: str) -> str:
    """Return the type of the file system that holds `path`, from the text of /proc/mounts."""
    best, kind = "", ""
    for line in mounts.splitlines():
        _, point, type_, *_ = line.split(" ")
        # /proc/mounts writes spaces as \040.
        point = point.encode().decode("unicode_escape")
        if path.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, type_
    return kind


def creation_lock(file: Path) -> Path:
    """Return the file that is locked while a database is created; it is never removed."""
    return Path(f"{file}.lock")


def touch_private(file: Path) -> None:
    """Create an empty file that only its owner can read, unless it exists."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
