"""`ablate analyze DATABASE`: anybody's Optuna study, read and left as it was."""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from fixture_types import Ablate, RunHere, WalkStudy
from outside_json import analyze_study, analyze_table
from postgres_server import PostgresServer
from published_tables import PLASMA_ETCH, two_level, write_csv

from ablate.errors import BadInput
from ablate.store.any_study import read_any_study

STATES = optuna.trial.TrialState
# Params with their distributions, a value or values, attributes, the state.
Run = tuple[Mapping[str, tuple[Any, optuna.distributions.BaseDistribution]], Any, dict[str, Any], STATES]
SIGNS = optuna.distributions.CategoricalDistribution(["-", "+"])


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def make_study(url: str, name: str = "etch", runs: Iterable[Run] | None = None, **how: Any) -> None:
    """Write a study of one trial for each of `runs`: (params and their distributions, value or values, attributes, state)."""
    study = optuna.create_study(storage=url, study_name=name, **how)
    for params, value, attributes, state in runs if runs is not None else etch_runs():
        values = value if isinstance(value, list) else None
        study.add_trial(
            optuna.trial.create_trial(
                params={key: one for key, (one, _) in params.items()},
                distributions={key: kind for key, (_, kind) in params.items()},
                value=None if values else value,
                values=values,
                user_attrs=attributes,
                state=state,
            )
        )
    study._storage.remove_session()
    if hasattr(study._storage, "_backend"):
        study._storage._backend.engine.dispose()


def etch_runs() -> Iterator[Run]:
    """Montgomery's plasma etching: a replicated 2^3, A changes fastest; the replicate is a user attribute."""
    for signs, pair in zip(two_level("ABC"), PLASMA_ETCH, strict=True):
        for replicate, rate in enumerate(pair):
            params = {name: (sign, SIGNS) for name, sign in zip("ABC", signs, strict=True)}
            yield params, float(rate), {"seed": replicate, "twice": 2 * rate, "log": [1, 2]}, STATES.COMPLETE


def etch_table(folder: Path) -> Path:
    rows = [
        (*run, seed, y)
        for run, pair in zip(two_level("ABC"), PLASMA_ETCH, strict=True)
        for seed, y in enumerate(pair)
    ]
    return write_csv(folder / "etch.csv", [*"ABC", "seed", "y"], rows)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def etch(tmp_path: Path) -> Path:
    (tmp_path / "theirs").mkdir()
    file = tmp_path / "theirs" / "etch.db"
    make_study(f"sqlite:///{file}")
    return file


def faults_of(*args: Any, **how: Any) -> str:
    with pytest.raises(BadInput) as caught:
        analyze_study(str(args[0]), *args[1:], **how)
    (fault,) = caught.value.faults
    return fault


SAID = ("effects", "interactions", "anova", "lenth")


def test_a_study_says_what_its_table_says(etch: Path, tmp_path: Path) -> None:
    document = analyze_study(str(etch))
    table = analyze_table(etch_table(tmp_path), "y", list("ABC"), goal="minimize")
    assert [document[key] for key in SAID] == [table[key] for key in SAID]
    assert (document["study"], document["trials"], document["warnings"]) == ("etch", 16, [])
    # An Optuna study has no such column.
    assert table["warnings"] == [
        "the column seed is not used; --block seed compares runs with the same seed, where there are any"
    ]


def test_seeds_are_a_user_attribute_and_metrics_may_be(etch: Path, tmp_path: Path) -> None:
    document = analyze_study(str(etch), "etch", "twice", ["A", "B", "C"], "seed", goal="minimize")
    table = analyze_table(etch_table(tmp_path), "y", ["A", "B", "C"], "seed", goal="minimize")
    twice = [2 * row["estimate"] for row in table["effects"]]
    assert [row["estimate"] for row in document["effects"]] == pytest.approx(twice)
    assert document["anova"][0]["term"] == "seed"


def test_the_direction_of_an_attribute_is_not_that_of_the_objective(tmp_path: Path) -> None:
    runs = [
        (params, value, {**attributes, "val_loss": value}, state)
        for params, value, attributes, state in etch_runs()
    ]
    make_study(f"sqlite:///{tmp_path / 'losses.db'}", runs=runs)
    document = analyze_study(str(tmp_path / "losses.db"), "etch", "val_loss", ["A", "B", "C"], "seed")
    assert any("pass --goal minimize if it is a loss" in warning for warning in document["warnings"])
    document = analyze_study(str(tmp_path / "losses.db"), "etch", "twice", ["A", "B", "C"], "seed")
    assert any("a larger twice counts as better" in warning for warning in document["warnings"])


def test_nothing_is_changed_or_created(etch: Path) -> None:
    before = contents(etch.parent)
    analyze_study(str(etch))
    analyze_study(f"sqlite:///{etch}")
    assert contents(etch.parent) == before


@pytest.mark.parametrize("open_", [False, True])
def test_a_database_in_wal_mode_is_left_as_it_is(etch: Path, open_: bool) -> None:
    writer = sqlite3.connect(etch)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("UPDATE studies SET study_name = 'renamed'")
    writer.commit()
    if not open_:
        writer.close()
    before = contents(etch.parent)
    assert analyze_study(str(etch))["study"] == "renamed"
    assert contents(etch.parent) == before
    writer.close()


def test_a_database_that_may_not_be_written_is_read(etch: Path) -> None:
    os.chmod(etch, 0o444)
    assert analyze_study(str(etch))["n"] == 16


def rows(dump: str) -> list[str]:
    return [line for line in dump.splitlines() if "restrict" not in line]  # a new key each time


def test_postgresql_is_read(postgres: PostgresServer, etch: Path) -> None:
    url = postgres.new_database()
    make_study(url.replace("postgresql://", "postgresql+psycopg://"))
    before = rows(postgres.dump(url))
    assert analyze_study(url, "etch", block="seed") == analyze_study(str(etch), "etch", block="seed")
    assert rows(postgres.dump(url)) == before


def test_a_password_is_not_printed(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    fault = faults_of(url)
    assert "canary" not in fault
    assert "not a database of Optuna" in fault


def test_our_own_studies_are_read(run_here: RunHere, walk_study: WalkStudy, tmp_path: Path) -> None:
    run_here(walk_study())
    document = analyze_study(str(tmp_path / "runs/walk/study.db"), "walk", block="seed")
    assert {(row["factor"], row["from"], row["to"]) for row in document["effects"]} == {
        ("slope", "1.0", "2.0"), ("noise", "0.1", "0.5")
    }  # fmt: skip
    assert (document["n"], document["anova"][0]["term"]) == (8, "seed")


def runs_with(states: Iterable[tuple[optuna.trial.TrialState, float | None]]) -> Iterator[Run]:
    """A two-level factor, and a state (and value) for each of its trials."""
    for i, (state, value) in enumerate(states):
        yield {"A": ("+-"[i % 2], SIGNS)}, value, {}, state


def test_trials_without_a_result_are_counted(tmp_path: Path) -> None:
    done = [(STATES.COMPLETE, float(i)) for i in range(6)]
    lost = [(STATES.FAIL, None), (STATES.PRUNED, 1.0), (STATES.PRUNED, None), (STATES.WAITING, None),
            (STATES.COMPLETE, float("inf"))]  # fmt: skip
    make_study(f"sqlite:///{tmp_path}/o.db", runs=runs_with(done + lost))
    document = analyze_study(str(tmp_path / "o.db"))
    assert (document["n"], document["trials"]) == (6, 11)
    assert "5 of 11 trials left out: 1 FAIL, 2 PRUNED, 1 WAITING, 1 infinite" in document["warnings"]
    assert any(warning.startswith("pruned trials did badly") for warning in document["warnings"])


def test_a_study_without_results_is_refused(tmp_path: Path) -> None:
    make_study(f"sqlite:///{tmp_path}/o.db", runs=runs_with([(STATES.FAIL, None)] * 3))
    assert faults_of(tmp_path / "o.db").endswith("o.db: etch: no trial has a result (3 FAIL)")


def test_a_param_that_some_trials_lack_is_conditional(tmp_path: Path) -> None:
    def runs() -> Iterator[Run]:
        for seed in range(3):
            for training, surgery in (("separate", None), ("joint", "none"), ("joint", "pcgrad")):
                kinds = [optuna.distributions.CategoricalDistribution(["separate", "joint"])]
                params = {"training": (training, kinds[0])}
                if surgery:
                    params["surgery"] = (
                        surgery,
                        optuna.distributions.CategoricalDistribution(["none", "pcgrad"]),
                    )
                yield (
                    params,
                    len(training) + len(surgery or "") + 0.1 * seed**2,
                    {"seed": seed},
                    STATES.COMPLETE,
                )

    make_study(f"sqlite:///{tmp_path}/o.db", runs=runs())
    effects = analyze_study(str(tmp_path / "o.db"), block="seed", unit="row")["effects"]
    assert [row["when"] for row in effects] == [None, "training = joint"]


def mixed_runs(n: int = 12) -> Iterator[Run]:
    """Every kind of param: numbers on a grid, a range, null and booleans as choices."""
    step, width = (
        optuna.distributions.FloatDistribution(0.0, 0.2, step=0.1),
        optuna.distributions.IntDistribution(1, 2),
    )
    drawn, kinds = (
        optuna.distributions.FloatDistribution(1e-5, 1e-1, log=True),
        optuna.distributions.CategoricalDistribution,
    )
    for i in range(n):
        params = {
            "dropout": (i % 3 / 10, step), "width": (1 + i % 2, width), "lr": (1e-5 * (i + 1), drawn),
            "bias": ([True, False][i // 2 % 2], kinds([True, False])), "norm": ([None, 1e-6][i // 3 % 2], kinds([None, 1e-6])),
        }  # fmt: skip
        yield params, float(i * i % 7), {}, STATES.COMPLETE


def test_a_continuous_param_is_refused_with_what_would_do(tmp_path: Path) -> None:
    make_study(f"sqlite:///{tmp_path}/o.db", runs=mixed_runs())
    assert faults_of(tmp_path / "o.db").endswith(
        "o.db: lr: 12 values in 12 trials, too many for a factor; leave it out (--factors bias,dropout,norm,width), or "
        "sample it from a few (suggest_categorical, or a step)"
    )


def test_params_of_every_kind_are_levels(tmp_path: Path) -> None:
    make_study(f"sqlite:///{tmp_path}/o.db", runs=mixed_runs())
    names = ["dropout", "width", "bias", "norm"]
    document = analyze_study(str(tmp_path / "o.db"), factors=names, order="1")
    assert [(row["factor"], row["from"], row["to"]) for row in document["effects"]] == [
        ("dropout", "0.0", "0.1"), ("dropout", "0.0", "0.2"), ("width", "1", "2"), ("bias", "false", "true"),
        ("norm", "1e-06", "null"),
    ]  # fmt: skip
    assert "these varied too and count as noise: lr" in document["warnings"]


def test_each_of_several_objectives_is_named(tmp_path: Path) -> None:
    runs = [
        (params, [value, 1000 - value], attributes, state) for params, value, attributes, state in etch_runs()
    ]
    make_study(f"sqlite:///{tmp_path}/o.db", runs=runs, directions=["minimize", "maximize"])
    assert faults_of(tmp_path / "o.db") == "--metric: etch has 2 objectives; name one: values.0, values.1"
    first, second = (analyze_study(str(tmp_path / "o.db"), metric=f"values.{i}")["effects"] for i in (0, 1))
    assert [row["verdict"] for row in first] == [row["verdict"] for row in second]
    assert [row["estimate"] for row in first] == pytest.approx([-row["estimate"] for row in second])


def test_the_goal_is_the_studys_own(tmp_path: Path) -> None:
    for goal in ("minimize", "maximize"):
        make_study(f"sqlite:///{tmp_path}/{goal}.db", direction=goal)
    verdicts = {
        goal: analyze_study(str(tmp_path / f"{goal}.db"))["effects"][2]["verdict"]
        for goal in ("minimize", "maximize")
    }
    assert verdicts == {"minimize": "hurts", "maximize": "helps"}


def test_what_is_no_such_study_names_those_there_are(etch: Path) -> None:
    make_study(f"sqlite:///{etch}", "other", runs=[])
    assert faults_of(etch).endswith("contains several studies; name one with --study: etch, other")
    assert faults_of(etch, "etsch").endswith(
        "contains no study 'etsch'; it contains etch, other; did you mean 'etch'?"
    )


def test_a_mistyped_metric_or_factor_gets_a_suggestion(etch: Path) -> None:
    assert faults_of(etch, None, "twise").endswith(
        "etch.db: etch: twise: no such column; did you mean 'twice'?"
    )
    assert faults_of(etch, factors=["D"]).endswith(
        "D: no such column; the columns are 'A', 'B', 'C', 'seed', 'twice'"
    )


# Through the command


def test_the_command_reads_a_study(etch: Path, ablate: Ablate) -> None:
    done = ablate("analyze", etch, "--study", "etch", "--block", "seed", "--json")
    assert json.loads(done.stdout) == analyze_study(str(etch), "etch", block="seed")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["none.db"], "none.db: no such file"),
        (["none.csv", "--study", "x"], "none.csv: no such file"),
        (
            ["t.csv", "--study", "x"],
            "t.csv: not an SQLite database; leave --study out for a table of results",
        ),
        (["t.csv"], "--metric: none given; name the column that has the results"),
        (
            ["empty.db"],
            "empty.db: not a database of Optuna (no table studies); name a database with an Optuna study",
        ),
        (["sqlite:///none.db"], "sqlite:///none.db: no such file"),
        (["sqlite:///t.csv", "--study", "x"], "sqlite:///t.csv: not an SQLite database"),
        (["mysql://me@host/db"], "storage: 'mysql' is not supported"),
        (["://"], "storage: not a database URL"),
        ([".", "--study", "x"], ".: a folder"),
        (["pipe", "--study", "x"], "pipe: a pipe"),
        (["/dev/zero"], "/dev/zero: a device or a socket"),
    ],
)
def test_what_is_no_study_is_told_in_a_line(
    words: list[str], complaint: str, ablate: Ablate, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text("a,y\n0,1\n1,2\n")
    os.mkfifo(tmp_path / "pipe")
    with sqlite3.connect(tmp_path / "empty.db") as connection:
        connection.execute("CREATE TABLE other (a)")
    connection.close()
    before = sorted(tmp_path.iterdir())
    done = ablate("analyze", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr.splitlines()[0]
    assert len(done.stderr.splitlines()) == (2 if words == ["t.csv"] else 1)
    assert sorted(tmp_path.iterdir()) == before


def test_choices_that_are_written_alike_stay_apart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    study = optuna.create_study(storage=url, study_name="alike")
    for _ in range(3):
        for head in (None, "null", "none"):
            study.enqueue_trial({"head": head})
    study.optimize(
        lambda trial: len(repr(trial.suggest_categorical("head", [None, "null", "none"]))) + trial.number / 9,
        n_trials=9,
    )
    params = [trial.params["head"] for trial in read_any_study(url, None).trials]
    assert sorted(set(params)) == ['"null"', "none", "null"]
