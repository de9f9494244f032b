"""Create what a database lacks: its tables, and a study. One process at a time; existing studies are left unchanged."""

import fcntl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import sqlalchemy as sa

from ablate.design.model import Design
from ablate.errors import BadInput
from ablate.files import make_folder, not_followed
from ablate.spec.model import StudySpec
from ablate.store import optuna_tables as optuna
from ablate.store import planning, tables
from ablate.store.database_errors import explained
from ablate.store.opening import connect, creation_lock, refuse_network_file_system, touch_private
from ablate.store.places import Place
from ablate.store.sessions import advisory_key, lock_session
from ablate.store.upgrading import upgrade
from ablate.store.urls import parse_url, sqlite_file, without_password
from ablate.store.writing import Store
from ablate.text import listed


def create_store(
    place: Place, spec: StudySpec, design: Design, defaults: Mapping[str, str] | None = None
) -> Store:
    """Create the database, its tables and the study if they are missing; open it. `defaults` are those of the trainer's settings.

    Several processes may call this at the same time for one file; they take turns.

    Raises:
        BadInput: the database belongs to another program.
        StoreError: the database is locked, damaged or of another version.
    """
    upgraded = create_study(place, lambda connection: _insert_study(connection, spec, design, defaults))
    store = Store(place)
    store.upgraded = store.upgraded or upgraded
    return store


def create_study(place: Place, insert: Callable[[sa.Connection], object]) -> str | None:
    """Create the database and its tables where they are missing, and the study (by `insert`) unless it exists.

    An older database is upgraded, and the message about the upgrade is returned.

    Raises:
        BadInput: the database belongs to another program.
        StoreError: the database is locked, damaged or of another version.
    """
    url, file = place.url, sqlite_file(place.url)
    with _taking_turns(url):
        if file is not None:
            touch_private(file)
        engine = connect(url)
        with explained(url):
            if not sa.inspect(engine).has_table(tables.studies.name):
                _refuse_foreign(engine, url)
                with engine.execution_options(reading=True).connect() as connection:
                    tables.refuse_newer_optuna(connection, without_password(url))
                optuna.create_schema(parse_url(url))
            upgraded = upgrade(engine, url)
            with engine.begin() as connection:
                tables.metadata.create_all(connection)
                there = connection.execute(
                    sa.select(tables.studies.c.schema_version).where(tables.studies.c.name == place.study)
                ).first()
                if there is None:
                    insert(connection)
                else:
                    where = without_password(url)
                    tables.refuse_other_versions(connection, there.schema_version, where)
        engine.dispose()
    return upgraded


def _refuse_foreign(engine: sa.Engine, url: str) -> None:
    """Refuse to put our tables into a database of another program, except one that only Optuna uses."""
    there = sa.inspect(engine).get_table_names()
    if there and "version_info" not in there:
        raise BadInput(
            f"{without_password(url)}: contains tables of another program ({listed(sorted(there))}); use a separate "
            "database for ablate"
        )


def _insert_study(
    connection: sa.Connection, spec: StudySpec, design: Design, defaults: Mapping[str, str] | None
) -> None:
    study_id = optuna.create_study(connection, spec.study, maximize=spec.metric.goal == "maximize")
    connection.execute(
        sa.insert(tables.studies).values(
            study_id=study_id,
            name=spec.study,
            schema_version=tables.SCHEMA_VERSION,
            **planning.study_columns(spec, design, defaults or {}),
        )
    )


@contextmanager
def _taking_turns(url: str) -> Iterator[None]:
    """Hold the database's creation lock, since processes would otherwise race to create the tables."""
    file = sqlite_file(url)
    if file is None:
        with explained(url), lock_session(url) as session:
            session.execute(sa.select(sa.func.pg_advisory_lock(advisory_key("create"))))
            yield
        return
    refuse_network_file_system(file)
    make_folder(file.parent)
    # Not "w", which would empty the target if somebody had put a link there.
    with open(creation_lock(file), "a", opener=not_followed) as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        yield
