"""What we write into Optuna's tables is what Optuna reads: the store leans on tables that are private to Optuna 5."""

from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from fixture_types import Ablate, RunHere, WalkStudy, not_none

from ablate.store import optuna_tables
from ablate.store.opening import reading
from ablate.store.places import place_of
from ablate.store.tables import OPTUNA_SCHEMA
from ablate.store.writing import Store


@pytest.fixture
def store_and_study(
    walk_study: WalkStudy, ablate: Ablate, tmp_path: Path
) -> Iterator[tuple[Store, optuna.Study]]:
    done = ablate("run", walk_study(), "--limit", 3)
    assert done.returncode == 0, done.stderr
    place = place_of("walk", tmp_path / "runs")
    study = optuna.load_study(study_name="walk", storage=place.url)
    yield Store(place), study
    study._storage.remove_session()


def test_states_are_optunas(store_and_study: tuple[Store, optuna.Study]) -> None:
    _, study = store_and_study
    states = [trial.state.name for trial in study.get_trials()]
    assert states == ["COMPLETE"] * 3 + ["WAITING"] * 5


def test_levels_are_params_and_the_cell_is_an_attribute(store_and_study: tuple[Store, optuna.Study]) -> None:
    store, study = store_and_study
    for trial in study.get_trials():
        assert trial.params == store.cell(trial.user_attrs["cell"]).levels
    assert sorted({trial.user_attrs["seed"] for trial in study.get_trials()}) == [1, 2]


def test_the_metric_is_the_value_and_its_curve_the_intermediate_values(
    store_and_study: tuple[Store, optuna.Study],
) -> None:
    _, study = store_and_study
    first = study.get_trials()[0]
    assert list(first.intermediate_values) == [1, 2, 3, 4, 5]
    assert first.value == first.intermediate_values[5]
    assert not_none(first.datetime_start) <= not_none(first.datetime_complete)


def test_optuna_finds_the_best_trial(store_and_study: tuple[Store, optuna.Study]) -> None:
    _, study = store_and_study
    complete = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    assert study.best_value == max(not_none(trial.value) for trial in complete)


def test_an_extended_factor_is_one_parameter(
    run_here: RunHere, walk_study: WalkStudy, tmp_path: Path
) -> None:
    run_here(walk_study(seeds="[1]"), limit=2)
    run_here(walk_study(seeds="[1]", slopes="[3.0, 1.0, 2.0]"), extend=True, limit=1)
    place = place_of("walk", tmp_path / "runs")
    study = optuna.load_study(study_name="walk", storage=place.url)
    store = Store(place)
    assert all(trial.params == store.cell(trial.user_attrs["cell"]).levels for trial in study.get_trials())
    assert len({str(trial.distributions["slope"]) for trial in study.get_trials()}) == 1
    store.close()
    study._storage.remove_session()


def test_a_level_that_was_renamed_has_its_new_name_everywhere(
    run_here: RunHere, walk_study: WalkStudy, tmp_path: Path
) -> None:
    run_here(walk_study(seeds="[1]", slopes="{levels: {1.0: 1.0, fast: 2.0}}"), limit=1)
    renamed = walk_study(seeds="[1]", slopes="{levels: {1.0: 1.0, quick: 2.0}}")
    document = run_here(renamed, extend=True, limit=1)
    study = optuna.load_study(study_name="walk", storage=place_of("walk", tmp_path / "runs").url)
    ours = [trial["factors"]["slope"] for trial in document["trials"]]
    assert ours == [trial.params["slope"] for trial in study.get_trials()]
    assert set(ours) == {1.0, "quick"}
    study._storage.remove_session()


def test_its_tables_are_as_we_describe_them() -> None:
    theirs = optuna.storages._rdb.models.BaseModel.metadata.tables
    ours = optuna_tables.trials.metadata.tables
    # The others belong to no study.
    assert ours.keys() == theirs.keys() - {"version_info"}
    for name, table in ours.items():
        assert described(table) == described(theirs[name])


def described(table: sa.Table) -> list[tuple[str, str, bool]]:
    return [(column.name, repr(column.type), column.primary_key) for column in table.columns]


def test_a_factor_s_choices_are_written_as_optuna_writes_them() -> None:
    levels = (1, 2.5, True, None, "null", "ä")
    distribution = optuna.distributions.CategoricalDistribution(levels)
    assert optuna_tables.choices_json(levels) == optuna.distributions.distribution_to_json(distribution)


def test_the_newest_tables_that_we_know_are_those_of_this_optuna(
    run_here: RunHere, walk_study: WalkStudy, tmp_path: Path
) -> None:
    run_here(walk_study(), limit=0)
    with reading(place_of("walk", tmp_path / "runs").url) as connection:
        assert connection.scalar(sa.text("SELECT version_num FROM alembic_version")) == OPTUNA_SCHEMA
