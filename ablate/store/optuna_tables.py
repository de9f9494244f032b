"""Optuna's side of the database.

Trials are rows of Optuna's own tables, so that its dashboard, its importance plots and a user's scripts can read them. We write
those rows in our own transactions: on SQLite, `study.ask()` can give one trial to two processes; `add_trial` costs 24 ms each;
and a result that is recorded in two commits, Optuna's and ours, can be half recorded. The tables are private to Optuna 5;
`tests/contracts/test_optuna.py` checks that they are as described here, and that `optuna.load_study` reads what we write.

The tables are described here again, since importing Optuna and its
models would take a quarter of the time in which a worker starts."""

import datetime
import enum
import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from ablate.errors import StoreError
from ablate.spec.model import Scalar
from ablate.text import one_line


class TrialState(enum.Enum):
    """The states of a trial; the database holds their names."""

    RUNNING = 0
    COMPLETE = 1
    PRUNED = 2
    FAIL = 3
    WAITING = 4


def _table(name: str, **columns: Any) -> sa.Table:
    """Return a table; its first column is the primary key."""
    key, *_ = columns
    return sa.Table(
        name, _metadata, *(sa.Column(column, of, primary_key=column == key) for column, of in columns.items())
    )


_metadata = sa.MetaData()
_KEY, _FLOAT = sa.String(512), sa.Float(precision=53)
_DIRECTION = sa.Enum("NOT_SET", "MINIMIZE", "MAXIMIZE", name="studydirection")
# Our metrics are finite.
_FINITE = "FINITE"
_VALUE_TYPE = sa.Enum(_FINITE, "INF_POS", "INF_NEG", name="trialvaluetype")
_POINT_TYPE = sa.Enum(_FINITE, "INF_POS", "INF_NEG", "NAN", name="trialintermediatevaluetype")
_ATTRIBUTE: dict[str, Any] = {"key": _KEY, "value_json": sa.Text}

studies = _table("studies", study_id=sa.Integer, study_name=_KEY)
study_attributes = _table(
    "study_user_attributes", study_user_attribute_id=sa.Integer, study_id=sa.Integer, **_ATTRIBUTE
)
trials = _table(
    "trials",
    trial_id=sa.Integer,
    number=sa.Integer,
    study_id=sa.Integer,
    state=sa.Enum(TrialState),
    datetime_start=sa.DateTime,
    datetime_complete=sa.DateTime,
)
params = _table(
    "trial_params",
    param_id=sa.Integer,
    trial_id=sa.Integer,
    param_name=_KEY,
    param_value=_FLOAT,
    distribution_json=sa.Text,
)
user_attributes = _table(
    "trial_user_attributes", trial_user_attribute_id=sa.Integer, trial_id=sa.Integer, **_ATTRIBUTE
)
_values = _table(
    "trial_values",
    trial_value_id=sa.Integer,
    trial_id=sa.Integer,
    objective=sa.Integer,
    value=_FLOAT,
    value_type=_VALUE_TYPE,
)
_points = _table(
    "trial_intermediate_values",
    trial_intermediate_value_id=sa.Integer,
    trial_id=sa.Integer,
    step=sa.Integer,
    intermediate_value=_FLOAT,
    intermediate_value_type=_POINT_TYPE,
)
_directions = _table(
    "study_directions",
    study_direction_id=sa.Integer,
    direction=_DIRECTION,
    study_id=sa.Integer,
    objective=sa.Integer,
)
# Tables that we do not write; other programs may.
_table("trial_heartbeats", trial_heartbeat_id=sa.Integer, trial_id=sa.Integer, heartbeat=sa.DateTime)
_table("trial_system_attributes", trial_system_attribute_id=sa.Integer, trial_id=sa.Integer, **_ATTRIBUTE)
_table("study_system_attributes", study_system_attribute_id=sa.Integer, study_id=sa.Integer, **_ATTRIBUTE)


def create_schema(url: sa.URL) -> None:
    """Create Optuna's tables, or check that this Optuna reads the version that exists.

    Raises:
        StoreError: it cannot read that version.
    """
    # Imported here since only a new database needs it.
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    text = url.render_as_string(hide_password=False)
    # RDBStorage passes its URL through str.format, hence the doubled braces.
    escaped = text.replace("{", "{{").replace("}", "}}")
    try:
        optuna.storages.RDBStorage(escaped).engine.dispose()
    except optuna.exceptions.StorageInternalError as error:
        # The database's own error, which is explained like any other.
        raise (error.__cause__ or error) from None
    except RuntimeError as error:
        raise StoreError(f"{url.render_as_string()}: {one_line(error)}") from error


def create_study(connection: sa.Connection, name: str, maximize: bool) -> int:
    """Insert a study into Optuna's tables and return its id."""
    study_id = connection.execute(
        sa.insert(studies).values(study_name=name).returning(studies.c.study_id)
    ).scalar_one()
    direction = "MAXIMIZE" if maximize else "MINIMIZE"
    row = {"study_id": study_id, "objective": 0, "direction": direction}
    connection.execute(sa.insert(_directions).values(row))
    return int(study_id)


def delete_study(connection: sa.Connection, study_id: int) -> None:
    """Delete a study and its trials from Optuna's tables."""
    mine = sa.select(trials.c.trial_id).where(trials.c.study_id == study_id)
    # Children first: their tables are described after those of their parents.
    for table in reversed(_metadata.tables.values()):
        if "trial_id" in table.c:
            connection.execute(sa.delete(table).where(table.c.trial_id.in_(mine)))
        else:
            connection.execute(sa.delete(table).where(table.c.study_id == study_id))


def change_trials(connection: sa.Connection, trial_ids: Sequence[int], **columns: Any) -> None:
    """Set columns of trials."""
    connection.execute(sa.update(trials).where(trials.c.trial_id.in_(list(trial_ids))).values(**columns))


def set_value(connection: sa.Connection, trial_id: int, value: float) -> None:
    """Write the value of a trial's objective."""
    row = {"trial_id": trial_id, "objective": 0, "value": value, "value_type": _FINITE}
    connection.execute(sa.insert(_values).values(row))


def forget_values(connection: sa.Connection, trial_ids: Sequence[int]) -> None:
    """Delete the values and intermediate values of trials."""
    for table in (_values, _points):
        connection.execute(sa.delete(table).where(table.c.trial_id.in_(list(trial_ids))))


def set_curve(connection: sa.Connection, trial_id: int, points: Sequence[tuple[int, float]]) -> None:
    """Write a trial's intermediate values, as (step, value)."""
    of_trial = {"trial_id": trial_id, "intermediate_value_type": _FINITE}
    rows = [{**of_trial, "step": step, "intermediate_value": value} for step, value in points]
    if rows:
        connection.execute(sa.insert(_points), rows)


def choices_json(levels: tuple[Scalar, ...]) -> str:
    """Return Optuna's description of a factor's levels; a parameter's value is the index into them."""
    return json.dumps({"name": "CategoricalDistribution", "attributes": {"choices": levels}})


def utc_now() -> datetime.datetime:
    """Return the time as Optuna stores it: UTC, naive."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
