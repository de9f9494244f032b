"""Our own tables, beside Optuna's in the same database, in long form: everything that Optuna's cannot hold.

An older database is upgraded when it is opened for writing (see upgrading.py); readers treat a missing table as empty.

Trials are Optuna's; `trial_id` is the key of its table `trials`. Parts, which trials share, are named by hash and seed."""

import math
import re

import sqlalchemy as sa

from ablate.errors import StoreError
from ablate.text import shown

SCHEMA_VERSION = 2
OLDEST_READ = 1  # the oldest version that readers read as it is
OPTUNA_SCHEMA = "v3.2.0.a"  # the newest version of Optuna's tables that we know

metadata = sa.MetaData()

studies = sa.Table(
    "ablate_studies",
    metadata,
    sa.Column("study_id", sa.Integer, primary_key=True, autoincrement=False),  # Optuna's id
    sa.Column("name", sa.String(64), nullable=False, unique=True),
    sa.Column("schema_version", sa.Integer, nullable=False),
    sa.Column("spec", sa.JSON, nullable=False),  # StudySpec
    sa.Column("design", sa.JSON, nullable=False),  # see planning.study_columns
    sa.Column("folder", sa.Text, nullable=False),  # the study file's folder: relative paths start there
)

cells = sa.Table(
    "ablate_cells",
    metadata,
    sa.Column("study_id", sa.Integer, primary_key=True),
    sa.Column("cell", sa.String(12), primary_key=True),
    sa.Column("position", sa.Integer, nullable=False),  # in design order
    sa.Column("levels", sa.JSON, nullable=False),
    sa.Column("settings", sa.JSON, nullable=False),
    sa.Column("parts", sa.JSON, nullable=False),  # {name: {hash, settings}}
)

trials = sa.Table(
    "ablate_trials",
    metadata,
    sa.Column("trial_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("study_id", sa.Integer, nullable=False),
    sa.Column("cell", sa.String(12), nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("fruitless", sa.Integer, nullable=False, default=0),  # attempts with no part left to train
    sa.Column("error", sa.Text),
    # Ensures one row per cell and seed.
    sa.UniqueConstraint("study_id", "cell", "seed"),
)

metrics = sa.Table(
    "ablate_metrics",
    metadata,
    sa.Column("trial_id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("value", sa.Double, nullable=False),
)

parts = sa.Table(
    "ablate_parts",
    metadata,
    sa.Column("study_id", sa.Integer, primary_key=True),
    sa.Column("part", sa.String(12), primary_key=True),
    sa.Column("seed", sa.BigInteger, primary_key=True),
    sa.Column("metrics", sa.JSON, nullable=False),
    # Seconds of training over all attempts; steps that were repeated after a kill count once.
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("steps", sa.Integer, nullable=False),
    sa.Column("facts", sa.JSON, nullable=False),
)

# Parts that were begun and are not recorded.
open_parts = sa.Table(
    "ablate_open_parts",
    metadata,
    sa.Column("study_id", sa.Integer, primary_key=True),
    sa.Column("part", sa.String(12), primary_key=True),
    sa.Column("seed", sa.BigInteger, primary_key=True),
    # Still true when the next owner reads it: the last owner died.
    sa.Column("begun", sa.Boolean, nullable=False),
    # Where the last attempt died: a step, or the time before the first step (negative).
    sa.Column("reached", sa.Integer),
    sa.Column("deaths", sa.Integer, nullable=False),  # deaths of owners since a checkpoint was saved
    # How many of the last deaths in a row were at `reached`.
    sa.Column("deaths_there", sa.Integer, nullable=False),
    sa.Column("error", sa.Text),  # why it cannot be trained; other trials that need it then fail too
)

points = sa.Table(
    "ablate_points",
    metadata,
    sa.Column("study_id", sa.Integer, primary_key=True),
    sa.Column("part", sa.String(12), primary_key=True),
    sa.Column("seed", sa.BigInteger, primary_key=True),
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("step", sa.Integer, primary_key=True),
    sa.Column("value", sa.Double, nullable=False),
)

# Who began which part, when, and how that ended; `begun` without an end means that the owner was killed.
history = sa.Table(
    "ablate_history",
    metadata,
    # In the order of the commits; the events of one part are never concurrent.
    sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("study_id", sa.Integer, nullable=False, index=True),
    sa.Column("part", sa.String(12), nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("event", sa.String(10), nullable=False),  # begun; recorded, left, lost, failed; forgotten
    # Host, process id, and a word, since process ids are reused.
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("time", sa.String(32), nullable=False),  # UTC, ISO 8601, by the clock of `who`
)

test_uses = sa.Table(
    "ablate_test_uses",
    metadata,
    sa.Column("study_id", sa.Integer, primary_key=True),
    # 1, 2, ..: the key ensures that two processes cannot both be the first.
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("cell", sa.String(12), nullable=False),
    sa.Column("time", sa.String(32), nullable=False),  # UTC, ISO 8601
    sa.Column("who", sa.Text, nullable=False),  # user@host
    sa.Column("unfinished", sa.Integer, nullable=False),  # trials without a result at that moment
)

# Looks at the results of a study that adds seeds.
looks = sa.Table(
    "ablate_looks",
    metadata,
    sa.Column("study_id", sa.Integer, primary_key=True),
    # 1, 2, ..: the key ensures that no look is taken twice.
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("seeds", sa.Integer, nullable=False),
    sa.Column("cells", sa.JSON, nullable=False),  # hashes of those that some open comparison needs
    sa.Column("comparisons", sa.JSON, nullable=False),  # see evidence/looks.py
)


def refuse_newer_optuna(connection: sa.Connection, where: str) -> None:
    """Refuse a database whose tables of Optuna are newer than those that we know.

    Raises:
        StoreError: they are. `where`: the database, for the message.
    """
    if not sa.inspect(connection).has_table("alembic_version"):
        return
    found = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    # Tables without a version are older ones.
    if found is not None and _numbers(str(found)) > _numbers(OPTUNA_SCHEMA):
        raise StoreError(
            f"{where}: written by a newer Optuna: its tables have version {shown(found)}, this ablate supports "
            f"{OPTUNA_SCHEMA}; pip install --upgrade ablate-studies optuna, or use an older copy"
        )


def _numbers(version: str) -> list[float]:
    """Return the numbers of one of Optuna's versions, such as v3.2.0.a,
    to be compared; a version in any other form counts as newer."""
    numbers = re.fullmatch(r"v([0-9]+)\.([0-9]+)\.([0-9]+)\.[a-z_]+", version)
    return list(map(float, numbers.groups())) if numbers else [math.inf]


def refuse_other_versions(connection: sa.Connection, version: object, where: str) -> None:
    """Refuse tables of another version, unless readers can read that version as it is.

    Raises:
        StoreError: written by another version of ablate or a newer Optuna, or a column is missing. `where`: the database,
            for the message.
    """
    if version not in range(OLDEST_READ, SCHEMA_VERSION + 1):
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        how = (
            "pip install --upgrade ablate-studies"
            if newer
            else "use the version that wrote it, or restore it from a copy"
        )
        raise StoreError(
            f"{where}: written by another version of ablate: its tables have version {version}, this one supports "
            f"{SCHEMA_VERSION}; {how}"
        )
    refuse_newer_optuna(connection, where)
    inspector = sa.inspect(connection)
    there = set(inspector.get_table_names())
    if gone := sorted(
        table.name for table in (cells, trials, metrics, parts, points) if table.name not in there
    ):
        raise StoreError(
            f"{where}: table {gone[0]} is gone, so another program changed it; restore it from a copy"
        )
    for table in metadata.sorted_tables:
        if table.name in there:
            columns = {column["name"] for column in inspector.get_columns(table.name)}
            if missing := sorted(set(table.columns.keys()) - columns):
                raise StoreError(
                    f"{where}: table {table.name} has no column {missing[0]}, so another program changed it; restore it "
                    "from a copy"
                )
