"""What a database's errors mean: a message of one line with advice, in a class that says whether a retry may succeed."""

import contextlib
import errno
import os
from collections.abc import Iterator

import sqlalchemy as sa

from ablate.errors import StoreError
from ablate.store.urls import sqlite_file, without_password
from ablate.text import duration, one_line

LOCK_TIMEOUT_S = 60
# SQLSTATEs after which a retry may succeed (PostgreSQL's manual, appendix A); not 08P01, which poolers use for refusals.
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
    "each worker keeps 2 connections (3 while it starts) and `ablate run` 1 (4 while it starts); start fewer workers or raise "
    "the limit (ALTER ROLE name CONNECTION LIMIT n, or the server's max_connections)"
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
    ("3D000", 'FATAL:  database "', "restore it from a copy, create it (createdb NAME), or correct the URL"),
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
