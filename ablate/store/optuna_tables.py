"""Optuna's side of the database. The only file that imports optuna.

Trials are rows of Optuna's own tables, so that its dashboard, its importance plots and a user's scripts can read them. We write
those rows in our own transactions: on SQLite, `study.ask()` can give one trial to two processes; `add_trial` costs 24 ms each;
and a result that Optuna and we record in two commits can be half recorded. The tables are private to Optuna 5;
`tests/contracts/test_optuna.py` checks that `optuna.load_study` reads what we write."""

import datetime
from collections.abc import Sequence
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.distributions import CategoricalDistribution, distribution_to_json
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import TrialState

from ablate.errors import StoreError
from ablate.spec.model import Scalar
from ablate.text import one_line

studies = models.StudyModel.__table__
trials = models.TrialModel.__table__
params = models.TrialParamModel.__table__
user_attributes = models.TrialUserAttributeModel.__table__
study_attributes = models.StudyUserAttributeModel.__table__

__all__ = ["TrialState"]


def create_schema(url: sa.URL) -> None:
    """Create Optuna's tables, or check that this Optuna reads the version that exists.

    Raises:
        StoreError: it does not.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    text = url.render_as_string(hide_password=False)
    # RDBStorage passes its URL through str.format, hence the doubled braces.
    escaped = text.replace("{", "{{").replace("}", "}}")
    try:
        optuna.storages.RDBStorage(escaped).engine.dispose()
    except RuntimeError as error:
        raise StoreError(f"{url.render_as_string()}: {one_line(error)}") from error


def create_study(connection: sa.Connection, name: str, maximize: bool) -> int:
    """Insert a study into Optuna's tables and return its id."""
    study_id = connection.execute(
        sa.insert(studies).values(study_name=name).returning(studies.c.study_id)
    ).scalar_one()
    direction = StudyDirection.MAXIMIZE if maximize else StudyDirection.MINIMIZE
    connection.execute(
        sa.insert(models.StudyDirectionModel.__table__).values(
            study_id=study_id, objective=0, direction=direction
        )
    )
    return int(study_id)


def delete_study(connection: sa.Connection, study_id: int) -> None:
    """Delete a study and its trials from Optuna's tables."""
    mine = sa.select(trials.c.trial_id).where(trials.c.study_id == study_id)
    # Children first.
    for table in reversed(models.BaseModel.metadata.sorted_tables):
        if "trial_id" in table.c:
            connection.execute(sa.delete(table).where(table.c.trial_id.in_(mine)))
        elif "study_id" in table.c:
            connection.execute(sa.delete(table).where(table.c.study_id == study_id))


def change_trials(connection: sa.Connection, trial_ids: Sequence[int], **columns: Any) -> None:
    """Set columns of trials."""
    connection.execute(sa.update(trials).where(trials.c.trial_id.in_(list(trial_ids))).values(**columns))


def set_value(connection: sa.Connection, trial_id: int, value: float) -> None:
    """Write the value of a trial's objective."""
    of_trial = models.TrialValueModel
    finite = of_trial.TrialValueType.FINITE
    row = {"trial_id": trial_id, "objective": 0, "value": value, "value_type": finite}
    connection.execute(sa.insert(of_trial.__table__).values(row))


def forget_values(connection: sa.Connection, trial_ids: Sequence[int]) -> None:
    """Delete the values and intermediate values of trials."""
    for model in (models.TrialValueModel, models.TrialIntermediateValueModel):
        connection.execute(sa.delete(model.__table__).where(model.trial_id.in_(list(trial_ids))))


def set_curve(connection: sa.Connection, trial_id: int, points: Sequence[tuple[int, float]]) -> None:
    """Write a trial's intermediate values, as (step, value)."""
    of_trial = models.TrialIntermediateValueModel
    finite = {"trial_id": trial_id, "intermediate_value_type": of_trial.TrialIntermediateValueType.FINITE}
    rows = [{**finite, "step": step, "intermediate_value": value} for step, value in points]
    if rows:
        connection.execute(sa.insert(of_trial.__table__), rows)


def choices_json(levels: tuple[Scalar, ...]) -> str:
    """Return Optuna's description of a factor's levels; a parameter's value is the index among them."""
    return distribution_to_json(CategoricalDistribution(levels))


def utc_now() -> datetime.datetime:
    """Return the time as Optuna stores it: UTC, naive."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
