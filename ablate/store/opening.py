"""Open the database safely: SQLite by default, PostgreSQL by URL.

An SQLite commit is durable (`synchronous=FULL`; `journal_mode=TRUNCATE` also syncs the end of a commit, which by default is an
unlink that a power cut may undo). A writing transaction takes its lock when it begins, not midway (`BEGIN IMMEDIATE`). A
mistyped path is an error, not a new database. Files on network file systems are refused: their locks cannot be trusted. A
reader gets a consistent snapshot and changes no byte, even if a writer was killed in the middle of a commit. Passwords never
leave this file in clear text."""

import contextlib
import errno
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa

from ablate.errors import BadInput, StoreError, Unavailable
from ablate.files import refuse_other_kinds
from ablate.text import duration, is_utf8, one_line, shown

if TYPE_CHECKING:
    import sqlite3

R = TypeVar("R")
LOCK_TIMEOUT_S = 60
RECONNECT_S = 120.0  # how long a server may be unreachable
RETRY_S = 0.2
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
# Stricter than SQLAlchemy, which reads the part of a password after an @ as the host, and prints it.
_SERVER = re.compile(
    r"postgresql(\+\w+)?://([^@/:]*(:[^@]*)?@)?(\[[0-9A-Fa-f:.]+\]|[^@/?#:\[\]\s]*)(:[0-9]{1,5})?(/[^@?#]*)?(\?[^#]*)?"
)
# SQLSTATEs after which a retry may succeed (PostgreSQL's manual,
# appendix A). 08P01 is left out, since poolers use it for refusals.
_GONE = ("08000", "08001", "08003", "08006", "57P", "53300", "40001", "40P01", "25006", "25P03")
READ_ONLY = (
    "name the primary server, not a standby, or let the role write: "
    "ALTER ROLE name SET default_transaction_read_only = off"
)
SHARED = (
    "a pooler that shares sessions between clients (PgBouncer in transaction mode, for example), so locks do not work; name the "
    "server itself, or a pool with pool_mode = session"
)
_TOO_MANY = (
    "a worker keeps 2 connections and `ablate run` 1, at the start 2 more; start fewer workers or raise the limit "
    "(ALTER ROLE name CONNECTION LIMIT n, or the server's max_connections)"
)
# SQLSTATE, the server's message (there may be no SQLSTATE yet), how to fix it.
_SERVER_ADVICE = (
    ("", "invalid connection option", "correct the part of the URL after ?"),
    ("", "connection is bad: invalid ", "correct the part of the URL after ?"),
    ("", "permission denied for database", "let the role in: GRANT CONNECT ON DATABASE name TO role"),
    ("", "is not permitted to log in", "ALTER ROLE name LOGIN, or name another role in the URL"),
    ("", "no pg_hba.conf entry", "allow this host, user and database in the server's pg_hba.conf"),
    (
        "3F000",
        "no schema has been selected",
        "name one that exists: ALTER ROLE name SET search_path = public",
    ),
    ("53300", "too many connections", _TOO_MANY),
    ("53300", "remaining connection slots", _TOO_MANY),
    ("25006", "read-only transaction", READ_ONLY),
    ("57014", "", "its limit is too short; ALTER ROLE name SET statement_timeout = '1min'"),
    (
        "55P03",
        "",
        "another program has locked its tables; end it, or ALTER ROLE name SET lock_timeout = '1min'",
    ),
    ("42501", "", "let the role create tables: GRANT CREATE ON SCHEMA public TO name"),
    ("53100", "", "free some room on the server's disk and run again"),
    ("3D000", 'FATAL:  database "', "create it (createdb NAME), or correct the URL"),
    ("28P01", "password authentication failed", "correct user and password in the URL"),
    ("42P05", "", SHARED),
    ("26000", "", SHARED),
    ("", "statement pooling mode", SHARED),
    (
        "",
        "query_wait_timeout",
        "the pooler has no session left; raise its default_pool_size or start fewer workers",
    ),
)


# What a server says that waiting does not change.
_FINAL = (
    "does not exist",
    "password authentication failed",
    "permission denied for database",
    "is not permitted to log in",
    "no pg_hba.conf entry",
    "connection is bad: invalid ",
    "invalid connection option",
)


class Disconnected(StoreError):
    """The connection to the server was lost, or it does not accept writes now. All our transactions can be retried."""


class Locked(StoreError):
    """Another program held the lock of an SQLite file for longer than LOCK_TIMEOUT_S."""


class Cut(Disconnected):
    """The server ended a connection that was open."""


def parse_url(url: str) -> sa.URL:
    """Read a database URL.

    Raises:
        BadInput: it is not a URL, or the database is not supported.
    """
    try:
        parsed = sa.make_url(url)
    # For example, the port is not a number.
    except (sa.exc.ArgumentError, ValueError):
        parsed = None
    server = url.startswith("postgresql")
    if (
        "\0" in url
        or not is_utf8(url)
        or (server and not (_SERVER.fullmatch(url) and parsed and (parsed.port or 0) < 65536))
    ):
        # Never show the address itself: part of it may be the password.
        raise BadInput(
            "storage: not a database URL; write postgresql://user@host:5432/name, and in a password %40 for @, %2F for /, "
            "%3A for :, %25 for %"
        )
    if parsed is None:
        raise BadInput("storage: not a database URL; write sqlite:///path/study.db or postgresql://host/name")
    if server:
        # The server's default may be SQL_ASCII, from which psycopg reads bytes.
        encoded = parsed.update_query_dict({"client_encoding": "utf8"})
        return encoded.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() != "sqlite":
        raise BadInput(
            f"storage: {parsed.get_backend_name()!r} is not supported; use sqlite:/// or postgresql://"
        )
    if not parsed.database or parsed.database == ":memory:":
        raise BadInput("storage: an SQLite URL needs a file: sqlite:///path/study.db")
    if parsed.host:
        raise BadInput("storage: an SQLite URL names no host; write three slashes: sqlite:///path/study.db")
    if parsed.query:
        raise BadInput(
            f"storage: an SQLite URL has no options, found {shown('?' + url.partition('?')[2])}; leave them out, or write "
            "%3F for a question mark in a file's name"
        )
    if parsed.database.endswith("/"):
        raise BadInput("storage: an SQLite URL names a file, not a folder: sqlite:///path/study.db")
    return parsed


def sqlite_file(url: str) -> Path | None:
    """Return the file behind an SQLite URL, or None for a server."""
    parsed = parse_url(url)
    return Path(parsed.database or "") if parsed.get_backend_name() == "sqlite" else None


def without_password(url: str) -> str:
    """Return the URL without its password and without its query, which may contain another password."""
    return parse_url(url).set(query={}).render_as_string(hide_password=True)


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


@contextlib.contextmanager
def intact(url: str) -> Iterator[None]:
    """Turn errors of damaged records (text in place of a number, missing rows or keys) into a one-line message.

    Raises:
        StoreError: in place of such an error.
    """
    try:
        yield
    except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
        message = one_line(str(error))[:200]
        raise StoreError(
            f"{without_password(url)}: its record of the study is damaged or was written by another program "
            f"({type(error).__name__}: {message}); restore it from a copy"
        ) from error


def lasting(work: Callable[[], R], stopping: Callable[[], bool] = lambda: False) -> R:
    """Return `work()`; while the server is unreachable, retry it for up to RECONNECT_S or until asked to stop.

    Raises:
        Disconnected: the server was not reachable again in time.
    """
    give_up = time.monotonic() + RECONNECT_S
    while True:
        try:
            return work()
        except Disconnected as error:
            if stopping():
                raise
            if time.monotonic() > give_up:
                raise Disconnected(
                    f"{error}; waited {duration(RECONNECT_S)}: once it is back, the same command continues from the last "
                    "checkpoints"
                ) from error
            time.sleep(RETRY_S)


def unless_cut(work: Callable[[], R]) -> R:
    """Return `work()`, retried if the server ends the connection meanwhile. Does not wait for a server that does not answer."""
    try:
        return work()
    except Cut:
        return lasting(work)


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


def sqlite_connection(file: Path, mode: str, patience_s: float | None = None) -> "sqlite3.Connection":
    """Open an SQLite file; `mode` is ro or rw.

    `patience_s`: how long to wait for the locks of others; default: LOCK_TIMEOUT_S."""
    # Imported here, since it is slow to load and not needed with a server.
    import sqlite3

    quoted = str(file.resolve()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    return sqlite3.connect(
        f"file:{quoted}?mode={mode}",
        uri=True,
        timeout=LOCK_TIMEOUT_S if patience_s is None else patience_s,
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


@contextlib.contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn a database driver's exception into a one-line message that says how to fix it."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        text = str(error.orig).strip().splitlines()[0]
        if sqlite_file(url) is None:
            kind, advice = _of_server(error, text)
        else:
            kind, advice = Locked if "locked" in text else StoreError, _of_file(error, text)
        raise kind(f"{without_password(url)}: {text}; {advice}") from error


def _of_file(error: sa.exc.DBAPIError, text: str) -> str:
    if not isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError):
        return "restore it from a copy or move it away"
    if _has_no_descriptor():
        return "this process has too many files open; raise `ulimit -n`, or let the trainer close its files"
    if "locked" in text:
        return f"another program has locked it (fuser shows which); waited {duration(LOCK_TIMEOUT_S)}: end it, then run again"
    if getattr(error.orig, "sqlite_errorname", "") == "SQLITE_READONLY_DBMOVED":
        return "it was deleted or moved while it was open; put it or a copy back"
    if "no such table" in text or "no such column" in text:
        return "restore it from a copy"
    return "is the disk writable?"


def _has_no_descriptor() -> bool:
    """Return whether this process can open no file: SQLite says only that it cannot open the database."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno == errno.EMFILE
    return False


def _of_server(error: sa.exc.DBAPIError, text: str) -> tuple[type[StoreError], str]:
    """Return the class of error (which says whether a retry may succeed) and how to fix it."""
    code = getattr(error.orig, "sqlstate", None) or ""
    # A server that refuses a connection says why before there is a SQLSTATE.
    known = next(
        (
            how
            for state, words, how in _SERVER_ADVICE
            if (code and state == code) or (words and words in text)
        ),
        None,
    )
    if any(words in text for words in _FINAL):
        return StoreError, known or "correct the URL"
    was_connected = error.connection_invalidated or bool(code)
    if not was_connected and isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError):
        return Disconnected, known or "is the server up?"
    if code.startswith(_GONE) or (error.connection_invalidated and not known):
        return Cut, known or "is the server up?"
    return StoreError, known or "restore the database from a copy, or name another"
