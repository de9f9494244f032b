"""Upgrade a database of an older version, in one transaction, keeping a copy beside it.

A change of `tables.metadata` needs a new `tables.SCHEMA_VERSION`, a step here, a database of the previous version under
`tests/stores/`, and the new `schema-N.sql` there. Where a step only adds tables, readers read older databases as they are."""

import contextlib
import filecmp
import itertools
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from ablate.errors import StoreError
from ablate.store import tables
from ablate.store.opening import sqlite_connection, touch_private
from ablate.store.urls import sqlite_file, without_password

Step = Callable[[sa.Connection], object]


def _add_history(connection: sa.Connection) -> None:
    tables.history.create(connection, checkfirst=True)


# Steps by the version that they upgrade from.
STEPS: dict[int, Step] = {1: _add_history}


def upgrade(engine: sa.Engine, url: str, agreed: bool = False) -> str | None:
    """Bring an older database up to this version; return a line that says so, or None if there was nothing to do.

    `agreed`: the user has made a backup of the server's database, which this program cannot do.

    Raises:
        StoreError: it is on a server and the user has not agreed, there is no space for the copy, or a newer Optuna wrote it.
    """
    where, file = without_password(url), sqlite_file(url)
    with engine.execution_options(reading=True).begin() as connection:
        tables.refuse_newer_optuna(connection, where)
        before = _version(connection)
    if before is None:
        return None
    if file is None and not agreed:
        raise StoreError(
            f"{where}: its tables have version {before}, this ablate needs {tables.SCHEMA_VERSION}; end its workers, keep a copy "
            "(pg_dump --file copy.sql ...), then: ablate upgrade"
        )
    with engine.begin() as connection:
        # Another process may have upgraded it meanwhile.
        if (before := _version(connection, lock=True)) is None:
            return None
        kept = "" if file is None else f"; the old version is kept as {_keep_copy(file, before)}"
        for version in range(before, tables.SCHEMA_VERSION):
            STEPS[version](connection)
        connection.execute(sa.update(tables.studies).values(schema_version=tables.SCHEMA_VERSION))
    return f"{where}: upgraded from version {before} of its tables to {tables.SCHEMA_VERSION}{kept}"


def _version(connection: sa.Connection, lock: bool = False) -> int | None:
    """Return the version of an older database; None if it is not older, or if that version is refused elsewhere."""
    if not sa.inspect(connection).has_table(tables.studies.name):
        return None
    chosen = sa.select(tables.studies.c.schema_version).order_by(tables.studies.c.study_id)
    versions = list(connection.scalars(chosen.with_for_update() if lock else chosen))
    older = [version for version in versions if version in STEPS]
    is_known = all(version in STEPS or version == tables.SCHEMA_VERSION for version in versions)
    return min(older) if older and is_known else None


def _free_or_equal(copy: Path, content: Path) -> Path:
    """Return `copy`, or this name with a number if a different file is there, which may be somebody's only copy."""
    numbered = (copy.with_name(f"{copy.name}.{number}") for number in itertools.count(2))
    return next(
        place
        for place in itertools.chain([copy], numbered)
        if not os.path.lexists(place) or (place.is_file() and filecmp.cmp(place, content, shallow=False))
    )


def _keep_copy(file: Path, version: int) -> Path:
    """Copy a database, whose writer's lock the caller holds; return the copy."""
    copy = file.with_name(f"{file.name}.version-{version}")
    part = copy.with_name(f".{copy.name}.part")
    part.unlink(missing_ok=True)
    touch_private(part)
    try:
        with (
            # Not through the connection that holds the lock, since a backup would wait for that lock.
            contextlib.closing(sqlite_connection(file, "ro")) as source,
            contextlib.closing(sqlite3.connect(part)) as target,
        ):
            target.execute("PRAGMA synchronous=FULL")
            source.backup(target)
        copy = _free_or_equal(copy, part)
        part.replace(copy)
    except (sqlite3.Error, OSError) as error:
        part.unlink(missing_ok=True)
        raise StoreError(
            f"{copy}: {error}; free some disk space: a copy is kept before an upgrade"
        ) from error
    return copy
