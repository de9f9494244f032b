"""Read a study from any Optuna database, whether we wrote it or not, without changing a byte.

Uses plain SQL on Optuna's tables, unchanged since version 2.4: `optuna.load_study` would create missing tables, and refuses
databases of older versions. An SQLite file in WAL mode is read from a copy, since even a reader creates files beside it."""

import contextlib
import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from ablate.errors import BadInput, StoreError
from ablate.spec.model import level_text, quoted_level
from ablate.store.opening import reading
from ablate.store.tables import refuse_newer_optuna
from ablate.store.urls import sqlite_file, without_password
from ablate.tables import SQLITE, read_bytes
from ablate.text import closest, listed

TABLES = {"studies", "study_directions", "trials", "trial_params", "trial_values", "trial_user_attributes"}
COPIES = 5  # how often to try to copy a database that is being written
SHOWN = 20  # how many names of studies to list in a message
# Stands for a choice that is an empty text, since "" means that a trial lacks the param.
EMPTY = '""'


@dataclass(frozen=True)
class AnyTrial:
    """One trial, with every value as text."""

    number: int
    state: str  # as Optuna names it
    params: dict[str, str]
    attributes: dict[str, str]  # the user's attributes that are single values
    values: dict[int, float | None]  # of each objective; None is infinite


@dataclass(frozen=True)
class AnyStudy:
    """A study as Optuna knows it."""

    where: str  # the database's URL, safe to print
    name: str
    directions: tuple[str, ...]  # of each objective: MINIMIZE, MAXIMIZE or NOT_SET
    categorical: frozenset[str]  # params whose values are a list of choices
    trials: tuple[AnyTrial, ...]


def database_url(source: str) -> str:
    """Return the URL of a database named by its URL or by its file."""
    if "://" in source:
        return source
    return "sqlite:///" + source.replace("%", "%25").replace("?", "%3F")


def read_any_study(source: str, study: str | None) -> AnyStudy:
    """Return `study` of the database `source` (a URL or a file); None means the only one there.

    Raises:
        BadInput: there is no such database, it is not one of Optuna's, or it has no such study.
        StoreError: it is locked, damaged or written by a newer Optuna.
    """
    url = database_url(source)
    where = source if "://" not in source else without_password(url)
    with _opened(url, where) as connection:
        _check_tables(connection, where)
        study_id, name = _study(connection, where, study)
        by_trial = {"study": study_id}
        params, categorical = _params(connection, by_trial)
        attributes = _attributes(connection, by_trial)
        values = _values(connection, by_trial)
        rows = connection.execute(
            sa.text(
                "SELECT trial_id, number, CAST(state AS VARCHAR(20)) FROM trials WHERE study_id = :study ORDER BY number"
            ),
            by_trial,
        )
        trials = tuple(
            AnyTrial(number, state, params[trial], attributes[trial], values[trial])
            for trial, number, state in rows
        )
        directions = connection.execute(
            sa.text(
                "SELECT CAST(direction AS VARCHAR(20)) FROM study_directions WHERE study_id = :study ORDER BY objective"
            ),
            by_trial,
        )
        return AnyStudy(where, name, tuple(directions.scalars()), frozenset(categorical), trials)


@contextlib.contextmanager
def _opened(url: str, where: str) -> Iterator[sa.Connection]:
    file = sqlite_file(url)
    with contextlib.ExitStack() as stack:
        if file is not None:
            if not file.is_file():
                raise BadInput(f"{where}: no such file")
            header = read_bytes(file, 100)
            if not header.startswith(SQLITE):
                raise BadInput(f"{where}: not an SQLite database; leave --study out for a table of results")
            # WAL: https://www.sqlite.org/fileformat.html, "file format version numbers"
            if header[18:20] == b"\2\2":
                url = database_url(
                    str(_copied(file, Path(stack.enter_context(tempfile.TemporaryDirectory()))))
                )
        yield stack.enter_context(reading(url))


def _copied(file: Path, folder: Path) -> Path:
    """Copy a database in WAL mode, including its log, while nobody writes."""
    copy, log = folder / "copy.db", Path(f"{file}-wal")

    def stamps() -> list[tuple[int, int] | None]:
        stats = (one.stat() if one.exists() else None for one in (file, log))
        return [(stat.st_mtime_ns, stat.st_size) if stat else None for stat in stats]

    for _ in range(COPIES):
        with contextlib.suppress(FileNotFoundError):
            before = stamps()
            shutil.copyfile(file, copy)
            Path(f"{copy}-wal").unlink(missing_ok=True)
            if before[1]:
                shutil.copyfile(log, f"{copy}-wal")
            if stamps() == before:
                return copy
    raise StoreError(f"{file}: being written to; try again when its study is idle")


def _check_tables(connection: sa.Connection, where: str) -> None:
    refuse_newer_optuna(connection, where)
    inspector = sa.inspect(connection)
    missing = TABLES - set(inspector.get_table_names())
    if missing:
        raise BadInput(
            f"{where}: not a database of Optuna (no table {min(missing)}); name a database with an Optuna study"
        )
    if "objective" not in {column["name"] for column in inspector.get_columns("trial_values")}:
        raise BadInput(
            f"{where}: written by Optuna before 2.4; run `optuna storage upgrade` on a copy and name the copy"
        )


def _study(connection: sa.Connection, where: str, typed: str | None) -> tuple[int, str]:
    rows = connection.execute(sa.text("SELECT study_id, study_name FROM studies ORDER BY study_id"))
    names = {name: study_id for study_id, name in rows}
    if not names:
        raise BadInput(f"{where}: contains no study yet")
    held = listed(names, SHOWN)
    if typed is None:
        if len(names) > 1:
            raise BadInput(f"{where}: contains several studies; name one with --study: {held}")
        typed = next(iter(names))
    if typed not in names:
        hint = f"; did you mean {close!r}?" if (close := closest(typed, names)) else ""
        raise BadInput(f"{where}: contains no study {typed!r}; it contains {held}{hint}")
    return names[typed], typed


def _params(connection: sa.Connection, by: dict[str, int]) -> tuple[dict[int, dict[str, str]], set[str]]:
    params: dict[int, dict[str, str]] = defaultdict(dict)
    categorical = set()
    described: dict[str, dict[str, Any]] = {}
    for trial, name, value, text in connection.execute(
        _of_trials("trial_params", "param_name, param_value, distribution_json"), by
    ):
        if text not in described:
            described[text] = _json(text)
        kind, choices = described[text]["name"], described[text]["attributes"].get("choices")
        if choices is not None:
            categorical.add(name)
            params[trial][name] = _choice_texts(choices)[int(value)]
        else:
            params[trial][name] = str(int(value)) if kind.startswith("Int") else repr(float(value))
    return params, categorical


def _choice_texts(choices: list[Any]) -> list[str]:
    """Return each choice as text; in quotes where it would otherwise look like another choice."""
    texts = list(map(level_text, choices))
    apart = texts if len(set(texts)) == len(texts) else map(quoted_level, choices)
    return [text or EMPTY for text in apart]


def _attributes(connection: sa.Connection, by: dict[str, int]) -> dict[int, dict[str, str]]:
    attributes: dict[int, dict[str, str]] = defaultdict(dict)
    for trial, name, text in connection.execute(_of_trials("trial_user_attributes", "key, value_json"), by):
        value = _json(text, parse_float=str, parse_int=str, parse_constant=str)
        if not isinstance(value, list | dict):
            attributes[trial][name] = "" if value is None else level_text(value)
    return attributes


def _values(connection: sa.Connection, by: dict[str, int]) -> dict[int, dict[int, float | None]]:
    values: dict[int, dict[int, float | None]] = defaultdict(dict)
    for trial, objective, value in connection.execute(_of_trials("trial_values", "objective, value"), by):
        values[trial][objective] = value
    return values


def _of_trials(table: str, columns: str) -> sa.TextClause:
    return sa.text(
        f"SELECT trial_id, {columns} FROM {table} WHERE trial_id IN (SELECT trial_id FROM trials WHERE study_id = :study)"
    )


def _json(text: str, **numbers: Any) -> Any:
    try:
        return json.loads(text, **numbers)
    except ValueError as error:
        raise StoreError(
            f"the database contains {text[:40]!r}, which is not JSON; restore it from a copy"
        ) from error
