"""Read database URLs. They may contain a password, so messages show only what `without_password` returns."""

import re
from pathlib import Path

import sqlalchemy as sa

from ablate.errors import BadInput
from ablate.text import is_utf8, shown

# Stricter than SQLAlchemy, which reads the part of a password after an @ as the host, and prints it.
_SERVER = re.compile(
    r"postgresql(\+\w+)?://([^@/:]*(:[^@]*)?@)?(\[[0-9A-Fa-f:.]+\]|[^@/?#:\[\]\s]*)(:[0-9]{1,5})?(/[^@?#]*)?(\?[^#]*)?"
)


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
        # libpq reads the connection's settings up to the first NUL.
        "\0" in url
        or "%00" in url
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
