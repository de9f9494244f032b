"""Databases of every version since the first open, with a copy of them kept; a table changes only with a version of its own."""

import contextlib
import json
import resource
import shutil
import sqlite3
import stat
import zipfile
from pathlib import Path

import pytest
import sqlalchemy as sa
from fixture_types import Ablate, RunHere, StartAblate, WalkStudy
from history import owners_violations
from postgres_server import PostgresServer
from sqlalchemy.schema import CreateIndex, CreateTable
from test_runner_run import metrics, wait_for

from ablate.errors import StoreError
from ablate.store import tables, upgrading
from ablate.store.opening import connect
from ablate.store.places import Place, place_of
from ablate.store.reading import read_history
from ablate.store.writing import Store

STORES = Path(__file__).parent / "stores"
# A database of each version, run by the code of then.
FIXTURES = {1: ("old.zip", "home/old/study.db", "old")}


def schema() -> str:
    """Return our tables as SQL."""
    statements: list[CreateTable | CreateIndex] = []
    for table in tables.metadata.sorted_tables:
        statements += [CreateTable(table), *map(CreateIndex, sorted(table.indexes, key=str))]
    dialect = sa.create_engine("sqlite://").dialect
    return (
        "\n".join(str(statement.compile(dialect=dialect)).strip() for statement in statements).replace(
            " \n", "\n"
        )
        + "\n"
    )


def columns(file: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return the columns of our tables in a database."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        names = connection.execute(
            "SELECT name FROM sqlite_master WHERE name LIKE 'ablate_%' AND type = 'table'"
        )
        return {
            name: connection.execute(f"PRAGMA table_info({name})").fetchall() for (name,) in names.fetchall()
        }


def version(file: Path) -> int:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        (found,) = connection.execute("SELECT schema_version FROM ablate_studies").fetchone()
        return int(found)


def unpacked(number: int, folder: Path) -> Place:
    archive, file, study = FIXTURES[number]
    with zipfile.ZipFile(STORES / archive) as packed:
        packed.extractall(folder)
    return place_of(study, (folder / file).parents[1])


def test_tables_change_with_a_version_only() -> None:
    written = STORES / f"schema-{tables.SCHEMA_VERSION}.sql"
    assert written.exists(), (
        f"a new version: write a database of the one before to {STORES}, and {written.name}"
    )
    assert schema() == written.read_text(), "raise tables.SCHEMA_VERSION and add a step to store/upgrading.py"


def test_every_version_before_has_a_step_and_a_database() -> None:
    before = list(range(1, tables.SCHEMA_VERSION))
    assert (list(upgrading.STEPS), list(FIXTURES)) == (before, before)


@pytest.mark.parametrize("number", FIXTURES)
def test_an_upgraded_database_has_the_tables_of_a_new_one(
    number: int, tmp_path: Path, run_here: RunHere, walk_study: WalkStudy
) -> None:
    place = unpacked(number, tmp_path)
    before = (place.folder / "study.db").read_bytes()
    with contextlib.closing(Store(place)) as store:
        assert store.upgraded is not None
    run_here(walk_study(), limit=0)
    assert columns(place.folder / "study.db") == columns(tmp_path / "runs/walk/study.db")
    copy = place.folder / f"study.db.version-{number}"
    assert store.upgraded.endswith(f"to {tables.SCHEMA_VERSION}; the old version is kept as {copy}")
    assert (version(copy), version(place.folder / "study.db")) == (number, tables.SCHEMA_VERSION)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert len(copy.read_bytes()) == len(before)


def test_run_says_that_it_upgraded_and_where_the_copy_is(tmp_path: Path, ablate: Ablate) -> None:
    unpacked(1, tmp_path)
    done = ablate("run", "old.yaml", "--home", "home")
    assert done.returncode == 0
    assert "upgraded from version 1 of its tables to 2; the old version is kept as" in done.stderr
    again = ablate("run", "old.yaml", "--home", "home")
    assert "upgraded" not in again.stderr


def test_reading_changes_no_byte_of_an_older_database(tmp_path: Path, ablate: Ablate) -> None:
    file = unpacked(1, tmp_path).folder / "study.db"
    before = file.read_bytes()
    for command in ("status", "report"):
        assert ablate(command, "old", "--home", "home").returncode == 0
    assert file.read_bytes() == before


def test_an_upgrade_that_fails_leaves_the_database_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = unpacked(1, tmp_path)

    def half(connection: sa.Connection) -> None:
        tables.history.create(connection)
        raise RuntimeError("killed")

    monkeypatch.setitem(upgrading.STEPS, 1, half)
    with pytest.raises(RuntimeError, match="killed"):
        Store(place)
    assert version(place.folder / "study.db") == 1
    assert "ablate_history" not in columns(place.folder / "study.db")


def test_without_room_for_the_copy_nothing_is_upgraded(tmp_path: Path) -> None:
    place = unpacked(1, tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(StoreError, match="free some disk space: a copy is kept before an upgrade"):
            Store(place)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert version(place.folder / "study.db") == 1


def test_the_copy_overwrites_nothing(tmp_path: Path) -> None:
    place = unpacked(1, tmp_path)
    there = place.folder / "study.db.version-1"
    there.write_text("precious")
    Store(place).close()
    assert there.read_text() == "precious"
    assert version(place.folder / "study.db.version-1.2") == 1


def test_a_server_is_upgraded_once_somebody_says_that_there_is_a_copy(
    ablate: Ablate, run_here: RunHere, walk_study: WalkStudy, postgres: PostgresServer
) -> None:
    study, url = walk_study(seeds="[1]"), postgres.new_database()
    run_here(study, storage=url)
    engine = connect(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE ablate_history")
        connection.exec_driver_sql("UPDATE ablate_studies SET schema_version = 1")
    for command in (["run", study], ["worker", "walk"]):
        refused = ablate(*command, ABLATE_STORAGE=url)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
        assert "keep a copy (pg_dump --file copy.sql ...), then: ablate upgrade" in refused.stderr
    assert not sa.inspect(engine).has_table("ablate_history")
    assert json.loads(ablate("status", "walk", "--json", ABLATE_STORAGE=url).stdout)["complete"] == 4
    engine.dispose()
    done = ablate("upgrade", "walk", ABLATE_STORAGE=url)
    assert "upgraded from version 1 of its tables to 2" in done.stdout
    assert (
        ablate("upgrade", "walk", ABLATE_STORAGE=url).stdout == "walk: its database is already up to date\n"
    )
    assert ablate("run", study, ABLATE_STORAGE=url).returncode == 0


# Copies of a study that is running: as docs/how_to/databases.md says


def copy_files(home: Path, copy: Path) -> None:
    """Copy a study's folder without its database, and without checkpoints: those could be ahead of the copied points."""
    ignored = shutil.ignore_patterns("study.db*", "step-*.checkpoint", "*.part")
    shutil.copytree(home, copy, ignore=ignored, dirs_exist_ok=True)


@pytest.mark.parametrize("backend", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def test_a_copy_made_while_a_study_runs_goes_on_to_the_same_bits(
    backend: str,
    ablate: Ablate,
    start_ablate: StartAblate,
    run_here: RunHere,
    walk_study: WalkStudy,
    postgres: PostgresServer,
    tmp_path: Path,
) -> None:
    reference = metrics(run_here(walk_study(steps=40, seeds="[1]"), home="reference"))
    study = walk_study(steps=40, seconds_per_step=0.03, seeds="[1]")
    url, home, copy = postgres.new_database(), tmp_path / "runs/walk", tmp_path / "copy/walk"
    environment = {"ABLATE_STORAGE": url} if backend == "postgresql" else {}
    run = start_ablate("run", study, ABLATE_CHECKPOINT_SECONDS="0.1", **environment)
    wait_for(lambda: len(list(home.glob("trials/*/trained.log"))) == 3)
    copy.mkdir(parents=True)
    if backend == "postgresql":
        dumped = postgres.dump(url)
        restored = postgres.new_database()
        postgres.restore(restored, dumped)
        environment = {"ABLATE_STORAGE": restored}
    else:
        with (
            contextlib.closing(sqlite3.connect(home / "study.db")) as source,
            contextlib.closing(sqlite3.connect(copy / "study.db")) as target,
        ):
            source.backup(target)
    copy_files(home, copy)
    done = json.loads(ablate("run", study, "--home", "copy", "--json", **environment).stdout)
    assert metrics(done) == reference
    assert 0 < sum(trial["attempts"] for trial in done["trials"]) - done["planned"] <= 1
    # Not what steps.log says: the files were copied after the database, and training went on in between.
    place = place_of("walk", tmp_path / "copy", environment.get("ABLATE_STORAGE"))
    assert not list(owners_violations(read_history(place)))
    assert run.wait() == 0
