"""Open the database safely: SQLite by default, PostgreSQL by URL.

SQLite is opened so that a commit is durable (`synchronous=FULL`), a writer takes its lock when it begins and not in the
middle (`BEGIN IMMEDIATE`), and a mistyped path is an error and not a new database. Passwords never leave this file in clear."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from ablate.errors import BadInput, StoreError

LOCK_TIMEOUT_S = 60


def parse_url(url: str) -> sa.URL:
    """Read a database URL.

    Raises:
        BadInput: it is not a URL, or of a database that is not supported.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise BadInput(
            "storage: not a database URL; write sqlite:///path/study.db or postgresql://host/name"
        ) from None
    if parsed.get_backend_name() == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() != "sqlite":
        raise BadInput(
            f"storage: {parsed.get_backend_name()!r} is not supported; use sqlite:/// or postgresql://"
        )
    if not parsed.database or parsed.database == ":memory:":
        raise BadInput("storage: an SQLite URL needs a file: sqlite:///path/study.db")
    return parsed


def sqlite_file(url: str) -> Path | None:
    """Return the file behind an SQLite URL, or None for a server."""
    parsed = parse_url(url)
    return Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None


def printable(url: str) -> str:
    """Return the URL without its password."""
    return parse_url(url).render_as_string(hide_password=True)


def connect(url: str, read_only: bool = False) -> sa.Engine:
    """Return an engine for an existing database.

    Raises:
        BadInput: there is no such file.
        StoreError: the file is not an SQLite database.
    """
    file = sqlite_file(url)
    if file is None:
        return sa.create_engine(parse_url(url), pool_pre_ping=True)
    if not file.is_file():
        raise BadInput(f"{file}: no such database; `ablate run` creates it")
    with file.open("rb") as opened:
        magic = opened.read(16)
    if magic and magic != b"SQLite format 3\0":
        raise StoreError(
            f"{file}: not an SQLite database (it begins with {magic!r}); move it away or name another --storage"
        )
    mode = "ro" if read_only else "rw"
    quoted = str(file.resolve()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    engine = sa.create_engine(
        "sqlite://",
        creator=lambda: _sqlite_connection(f"file:{quoted}?mode={mode}"),
        poolclass=sa.pool.QueuePool,
    )
    if not read_only:
        sa.event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def _sqlite_connection(uri: str):  # type: ignore[no-untyped-def]  # sqlite3.Connection, imported only where it is used
    import sqlite3

    connection = sqlite3.connect(
        uri, uri=True, timeout=LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    return connection


def touch_private(file: Path) -> None:
    """Create an empty file that only its owner may read, unless it is there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


@contextlib.contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn what a database driver raises into one line that says what to do."""
    try:
        yield
    except sa.exc.OperationalError as error:
        text = str(error.orig).strip().splitlines()[0]
        advice = (
            "is another program holding it?"
            if "locked" in text
            else "is the server up and the disk writable?"
        )
        raise StoreError(f"{printable(url)}: {text}; {advice}") from error
    except sa.exc.DatabaseError as error:
        text = str(error.orig).strip().splitlines()[0]
        raise StoreError(f"{printable(url)}: {text}; restore it from a copy or move it away") from error
