"""What the study itself costs beside training: our store beside plain Optuna, on SQLite, every commit durable.

    python tests/benchmarks/store.py [--trials 10000] [--rounds 5]

Both record the same of a trial: two factors, 4 points of a curve, 30 values (tests/trainers/still.py trains nothing). Arms take
turns within each round, so that a ratio compares neighbours in time; medians are printed with their quartiles.

Rows
    trials                one worker, from the queue to a recorded result, beside `study.optimize` with RandomSampler
    trials, later         the same in a study with all but the last of its trials done, beside its beginning
    overhead              `ablate run` of 100 trials of 0.1 s: (first start to last end − training) ÷ trials
    adding                the trials of studies/full_grid.yaml, to a fresh database
    reading               everything recorded into a frame, beside `optuna.load_study(...).trials_dataframe()` of as many
                          trials: one that `study.optimize` recorded, and copies of its rows
"""

import argparse
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import optuna
from measure import HEADER, Row, middle, ratios, row, seconds

from ablate import open_study
from ablate.runner.cadence import Cadence
from ablate.runner.logs import Logbook
from ablate.runner.prepare import Prepared, prepare
from ablate.runner.run import run_order
from ablate.runner.worker import Worker
from ablate.store.creating import create_store
from ablate.store.writing import Store

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS / "trainers"))
from still import POINTS, VALUES  # noqa: E402  # it stands where studies find it

LEVELS = 10  # of each of the two factors
TURN = 10  # trials of an arm before the other has its turn
STUDY = """\
study: still
trainer: still
settings: {{seconds: {seconds}}}
factors: {{width: {levels}, depth: {levels}}}
baseline: {{width: 0, depth: 0}}
design: full
seeds: {seeds}
metric: {{name: dev/0}}
"""


def rows(trials: int = 10_000, rounds: int = 5) -> Iterator[Row]:
    """Measure, and yield each row as it is known."""
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        yield from recording(Path(folder), trials, rounds)
        yield overhead(Path(folder) / "overhead")
        yield adding(Path(folder) / "adding", rounds)
        yield reading(Path(folder), trials, rounds)


def recording(folder: Path, trials: int, rounds: int) -> Iterator[Row]:
    """Run a study of `trials` trials to its end; its first and its last ones are timed."""
    theirs = optuna_study(folder / "optuna.db")
    with store_of(write_study(folder, trials), folder / "runs") as (store, prepared):
        worker = Worker(
            store=store,
            trainer=prepared.trainer,
            stopping=lambda: False,
            emit=lambda event, **fields: None,
            cadence=Cadence(60.0),
            logbook=Logbook(),
        )
        with closing(worker.locks), closing(worker.logbook):
            turns = iter(range(0, trials, TURN))

            def ours() -> None:
                begin = next(turns)
                worker.run(range(begin, begin + TURN))

            ours()  # once untimed: the first trial looks at the machine, the first statements are compiled
            early = taking_turns(ours, lambda: theirs.optimize(record, n_trials=TURN), rounds)
            worker.run(range(trials - rounds * TURN))
            turns = iter(range(trials - rounds * TURN, trials, TURN))
            late = [seconds(ours) for _ in range(rounds)]
    yield row(
        "trials/s, against Optuna's `study.optimize`",
        [TURN / a for a, _ in early],
        [TURN / b for _, b in early],
        times(early),
        "≥ 3",
    )
    first = [a for a, _ in early]
    slowdown = [b / statistics.median(first) for b in late]
    yield row(
        f"trials/s at the end of {trials:,} trials, against our own at the beginning",
        [TURN / b for b in late],
        [TURN / a for a in first],
        [1 / one for one in slowdown],
        "≈ 1",
    )


def record(trial: optuna.Trial) -> float:
    """What still.py gives, as a user of Optuna records it."""
    width = trial.suggest_categorical("width", range(LEVELS))
    trial.suggest_categorical("depth", range(LEVELS))
    for step in range(POINTS):
        trial.report(step / POINTS, step)
    for number in range(VALUES):
        trial.set_user_attr(f"dev/{number}", width + number / VALUES)
    return float(width)


def overhead(folder: Path, trials: int = 100, seconds_each: float = 0.1) -> Row:
    """Run a study as a user does."""
    study = write_study(folder, trials, seconds_each)
    command = [sys.executable, "-m", "ablate", "run", str(study), "--home", str(folder / "runs")]
    subprocess.run(command, check=True, capture_output=True)
    frame = open_study("still", folder / "runs").results()
    with closing(sqlite3.connect(folder / "runs/still/study.db")) as database:
        (wall,) = database.execute(
            "SELECT (max(julianday(datetime_complete)) - min(julianday(datetime_start))) * 86400 FROM trials"
        ).fetchone()
    each_ms = (wall - frame["seconds"].sum()) / trials * 1000
    return Row(
        f"study overhead, ms a trial ({trials} of {seconds_each} s)",
        f"{each_ms:.1f}",
        "",
        "",
        "",
        "≤ 50",
    )


def adding(folder: Path, rounds: int) -> Row:
    """Add full_grid's trials to fresh stores."""
    study = TESTS.parent / "studies/full_grid.yaml"
    took, count = [], 0
    for turn in range(rounds):
        prepared = prepare(study, home=folder / str(turn))
        order = run_order(prepared.design, prepared.spec)
        began = time.perf_counter()
        with closing(create_store(prepared.place, prepared.spec, prepared.design)) as store:
            count = store.add_trials(prepared.design.cells, order)
        took.append(time.perf_counter() - began)
    return Row(f"adding {count} trials, s", middle(took), "", "", "", "≤ 3")


def reading(folder: Path, trials: int, rounds: int) -> Row:
    """Read the study that `recording` left, and Optuna's."""
    copy_first_trial(folder / "optuna.db", trials)

    def ours() -> None:
        frame = open_study("still", folder / "runs").results()
        assert frame.filter(like="dev/").notna().sum().sum() == trials * VALUES

    def theirs() -> None:
        study = optuna.load_study(study_name="still", storage=f"sqlite:///{folder / 'optuna.db'}")
        frame = study.trials_dataframe()
        assert frame.filter(like="user_attrs_dev/").notna().sum().sum() == trials * VALUES

    ours()
    took = taking_turns(ours, theirs, rounds)
    what = f"reading {trials:,} trials, s, against Optuna's `trials_dataframe()`"
    return row(what, [a for a, _ in took], [b for _, b in took], times(took), "≥ 15")


# Studies ----------------------------------------------------------------------------------------------------


def write_study(folder: Path, trials: int, seconds_each: float = 0.0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(TESTS / "trainers/still.py", folder)
    study = folder / "still.yaml"
    seeds = list(range(trials // LEVELS**2))
    study.write_text(STUDY.format(seconds=seconds_each, levels=list(range(LEVELS)), seeds=seeds))
    return study


@contextmanager
def store_of(study: Path, home: Path) -> Iterator[tuple[Store, Prepared]]:
    prepared = prepare(study, home=home)
    with closing(create_store(prepared.place, prepared.spec, prepared.design)) as store:
        store.add_trials(prepared.design.cells, run_order(prepared.design, prepared.spec))
        yield store, prepared


def optuna_study(file: Path) -> optuna.Study:
    """An empty study, and one trial to warm up."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name="still", storage=f"sqlite:///{file}", sampler=optuna.samplers.RandomSampler(seed=0)
    )
    study.optimize(record, n_trials=1)
    return study


def copy_first_trial(file: Path, trials: int) -> None:
    """Fill an Optuna study up to `trials` trials with copies of its first."""
    with closing(sqlite3.connect(file)) as database:
        there, first = database.execute("SELECT count(*), min(trial_id) FROM trials").fetchone()
        numbers = (
            f"WITH RECURSIVE n(i) AS (SELECT {there} UNION ALL SELECT i + 1 FROM n WHERE i < {trials - 1}) "
        )
        for table in (
            "trials",
            "trial_params",
            "trial_values",
            "trial_user_attributes",
            "trial_intermediate_values",
        ):
            columns = [name for _, name, *_ in database.execute(f"PRAGMA table_info({table})")][1:]
            new = {"number": "i", "trial_id": f"{first} + i"}
            copied = ", ".join(new.get(name, name) for name in columns)
            into, key = (["trial_id", *columns], f"{first} + i, ") if table == "trials" else (columns, "")
            database.execute(
                f"INSERT INTO {table} ({', '.join(into)}) {numbers} "
                f"SELECT {key}{copied} FROM {table}, n WHERE trial_id = {first}"
            )
        database.commit()


# Measuring --------------------------------------------------------------------------------------------------


def taking_turns(
    ours: Callable[[], object], theirs: Callable[[], object], rounds: int
) -> list[tuple[float, float]]:
    """Seconds that each took, round by round."""
    return [(seconds(ours), seconds(theirs)) for _ in range(rounds)]


def times(took: list[tuple[float, float]]) -> list[float]:
    """How many times as fast we were."""
    return ratios([a for a, _ in took], [b for _, b in took])


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--trials", type=int, default=10_000)
    options.add_argument("--rounds", type=int, default=5)
    args = options.parse_args()
    print(f"{os.cpu_count()} cores, optuna {optuna.__version__}, sqlite {sqlite3.sqlite_version}, wall time")
    print(HEADER)
    for one in rows(args.trials, args.rounds):
        print(one, flush=True)


if __name__ == "__main__":
    main()
