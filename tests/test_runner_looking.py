"""A study that adds seeds after looks: each look is taken once, whoever is killed, and seeds go where the doubt is."""

import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from chaos import Chaos, children
from conftest import TRAINERS
from fixture_types import Ablate, RunHere, StartAblate

from ablate.errors import AblateError, StudyChanged
from ablate.evidence.looks import Stop, results_of_look
from ablate.report.report import report_of
from ablate.runner.next_trials import look_on
from ablate.store.places import place_of
from ablate.store.reading import read_results
from ablate.store.results import Look, Results
from ablate.store.writing import Store

PLANTED = """\
study: planted
trainer: planted
settings: {{{settings}}}
factors: {factors}
baseline: {{large: 0, small: 0, nothing: 0}}
design: {design}
seeds: {seeds}
metric: {{name: dev/score, smallest_effect: {smallest_effect}}}
"""
FACTORS = "{large: [0, 1], small: [0, 1], nothing: [0, 1]}"
SEEDS = "{start: [11, 22, 33], at_most: 8, looks: [3, 5, 8]}"


@pytest.fixture
def planted(tmp_path: Path) -> Callable[..., Path]:
    """Write the planted study (see tests/trainers/planted.py) with some of its values changed; return its path."""

    def write(
        seeds: str = SEEDS,
        design: str = "one_at_a_time",
        settings: str = "",
        factors: str = FACTORS,
        smallest_effect: str = "1.5",
    ) -> Path:
        shutil.copy(TRAINERS / "planted.py", tmp_path)
        path = tmp_path / "planted.yaml"
        path.write_text(
            PLANTED.format(
                seeds=seeds,
                design=design,
                settings=settings,
                factors=factors,
                smallest_effect=smallest_effect,
            )
        )
        return path

    return write


def recorded(tmp_path: Path, home: str = "runs") -> Results:
    place = place_of("planted", tmp_path / home)
    return read_results(place)


def store_of(tmp_path: Path) -> Store:
    place = place_of("planted", tmp_path / "runs")
    return Store(place)


def states(tmp_path: Path, home: str) -> list[str]:
    try:
        return [trial.state for trial in recorded(tmp_path, home).trials]
    except AblateError:  # it is being created
        return []


def seeds_run(results: Results) -> dict[str, int]:
    """How many seeds each cell ran with, by the factor that is not the baseline's."""
    changed = {
        trial.cell: next((name for name, level in trial.factors.items() if level), "baseline")
        for trial in results.trials
    }
    return dict(Counter(changed[trial.cell] for trial in results.trials))


def test_a_list_of_seeds_is_never_looked_at(
    planted: Callable[..., Path], run_here: RunHere, tmp_path: Path
) -> None:
    assert run_here(planted(seeds="[1, 2, 3]"))["complete"] == 12
    assert recorded(tmp_path).looks == ()


def test_looks_are_taken_after_the_declared_numbers_of_seeds(
    planted: Callable[..., Path], run_here: RunHere, tmp_path: Path
) -> None:
    run_here(planted())
    assert [(look.number, look.seeds) for look in recorded(tmp_path).looks] == [(1, 3), (2, 5), (3, 8)]


def test_a_decided_factor_gets_no_more_seeds_and_the_baseline_goes_on(
    planted: Callable[..., Path], run_here: RunHere, tmp_path: Path
) -> None:
    run_here(planted())
    results = recorded(tmp_path)
    assert results_of_look(results.looks[1])["levels", "large", "0", "1"].stop is Stop.DECIDED
    assert seeds_run(results) == {"baseline": 8, "large": 5, "small": 8, "nothing": 8}


def test_a_full_design_goes_on_in_all_cells_until_all_is_decided(
    planted: Callable[..., Path], run_here: RunHere, tmp_path: Path
) -> None:
    run_here(planted(design="full"))
    results = recorded(tmp_path)
    done = Counter(trial.cell for trial in results.trials)
    assert len(done) == 8
    assert len(set(done.values())) == 1


def test_nothing_runs_once_all_is_decided(
    planted: Callable[..., Path], run_here: RunHere, tmp_path: Path
) -> None:
    run_here(planted(seeds=SEEDS.replace("}", ", until: {width: 1000}}")))
    results = recorded(tmp_path)
    assert results.looks[-1].cells == ()
    assert len(results.trials) == 4 * results.looks[-1].seeds < 4 * 8


def test_what_was_decided_stays_what_it_was(
    planted: Callable[..., Path], run_here: RunHere, tmp_path: Path
) -> None:
    run_here(planted())
    second, third = (
        results_of_look(look)["levels", "large", "0", "1"] for look in recorded(tmp_path).looks[1:]
    )
    assert third == second


def test_running_again_takes_no_further_look(
    planted: Callable[..., Path], run_here: RunHere, tmp_path: Path
) -> None:
    run_here(planted())
    before = recorded(tmp_path).looks
    again = run_here(planted())
    assert (again["code"], recorded(tmp_path).looks) == (0, before)


def test_a_look_that_was_missed_is_taken_by_the_next_run(
    planted: Callable[..., Path], run_here: RunHere, tmp_path: Path
) -> None:
    """As when all is killed between the last trial of a stage and its look: a run with --limit takes none."""
    run_here(planted(), limit=12)
    assert recorded(tmp_path).looks == ()
    run_here(planted())
    assert len(recorded(tmp_path).looks) == 3


def test_a_report_on_the_way_records_nothing(
    planted: Callable[..., Path], run_here: RunHere, tmp_path: Path
) -> None:
    run_here(planted(), limit=12)
    report_of(recorded(tmp_path))
    assert recorded(tmp_path).looks == ()


def test_a_look_goes_by_what_is_there_when_trials_failed(
    planted: Callable[..., Path], run_here: RunHere, tmp_path: Path
) -> None:
    run_here(planted(settings="fails: 1"))
    last = results_of_look(recorded(tmp_path).looks[-1])
    assert (last["levels", "nothing", "0", "1"].seeds, last["levels", "nothing", "0", "1"].p) == (0, None)
    assert last["levels", "large", "0", "1"].stop is Stop.DECIDED


def test_a_smoke_run_looks_at_nothing(planted: Callable[..., Path], run_here: RunHere) -> None:
    assert run_here(planted(), smoke=True)["complete"] == 4


def test_a_look_and_its_trials_are_one_commit(
    planted: Callable[..., Path], run_here: RunHere, tmp_path: Path
) -> None:
    run_here(planted(), limit=12)
    results = recorded(tmp_path)
    order = [(results.cells[0].hash, 34), ("no such cell", 34)]
    with closing(store_of(tmp_path)) as store, pytest.raises(KeyError):
        store.record_look(Look(1, 3, (), ()), results.cells, order)
    after = recorded(tmp_path)
    assert (after.looks, len(after.trials)) == ((), 12)


def test_a_look_is_never_taken_twice(planted: Callable[..., Path], run_here: RunHere, tmp_path: Path) -> None:
    run_here(planted())
    before = recorded(tmp_path)
    with closing(store_of(tmp_path)) as store:
        store.record_look(Look(1, 3, (), ()), before.cells, [(before.cells[0].hash, 99)])
    after = recorded(tmp_path)
    assert (after.looks, len(after.trials)) == (before.looks, len(before.trials))


def test_no_look_is_due_while_a_trial_is_left(
    planted: Callable[..., Path], run_here: RunHere, tmp_path: Path
) -> None:
    run_here(planted(), limit=11)
    with closing(store_of(tmp_path)) as store:
        assert look_on(store)
    assert recorded(tmp_path).looks == ()


def test_more_seeds_than_planned_need_to_be_said(planted: Callable[..., Path], run_here: RunHere) -> None:
    run_here(planted())
    with pytest.raises(StudyChanged, match=r"seeds\.looks"):
        run_here(planted(seeds=SEEDS.replace("at_most: 8", "at_most: 10")))


def test_an_extension_adds_seeds_where_the_last_look_left_doubt(
    planted: Callable[..., Path], run_here: RunHere, tmp_path: Path
) -> None:
    narrow = SEEDS.replace("}", ", until: {width: 0.01}}")
    run_here(planted(seeds=narrow))
    run_here(planted(seeds=narrow.replace("at_most: 8", "at_most: 10")), extend=True)
    results = recorded(tmp_path)
    assert [look.seeds for look in results.looks] == [3, 5, 8, 10]
    assert seeds_run(results) == {"baseline": 10, "large": 10, "small": 10, "nothing": 10}
    assert results_of_look(results.looks[3])["levels", "small", "0", "1"].p_sequential is not None


def test_looks_that_are_planned_after_results_are_refused(
    planted: Callable[..., Path], run_here: RunHere
) -> None:
    run_here(planted(seeds="[11, 22, 33]"))
    for extend in (True, False):
        with pytest.raises(StudyChanged, match="looks are planned before the first result") as refused:
            run_here(planted(), extend=extend)
        assert "--extend" not in str(refused.value)


def test_looks_may_be_planned_while_there_is_no_result(
    planted: Callable[..., Path], run_here: RunHere, tmp_path: Path
) -> None:
    run_here(planted(seeds="[11, 22, 33]"), limit=0)
    run_here(planted(), extend=True)
    assert [look.number for look in recorded(tmp_path).looks] == [1, 2, 3]


def test_other_looks_before_the_first_are_on_record_if_there_were_results(
    planted: Callable[..., Path], run_here: RunHere, tmp_path: Path
) -> None:
    run_here(planted(), limit=1)
    assert recorded(tmp_path).changes == ()
    run_here(planted(seeds=SEEDS.replace("looks: [3, 5, 8]", "looks: [4, 8]")), extend=True)
    assert [change.before.keys() for change in recorded(tmp_path).changes] == [{"seeds"}]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"seeds": SEEDS.replace("looks: [3, 5, 8]", "looks: [4, 8]")},
            "leaves out looks already taken, at 3, 5, 8",
        ),
        ({"seeds": SEEDS.replace("at_most: 8", "at_most: 8, until: {width: 1}")}, "keep `start` and `until`"),
        ({"seeds": "[11, 22, 33, 34, 35, 36, 37, 38]"}, "keep `start` and `until`"),
        ({"factors": FACTORS.replace("nothing: [0, 1]", "nothing: [0, 1, 2]")}, "cells cannot be added"),
    ],
)
def test_an_extension_leaves_a_plan_that_was_followed_as_it_is(
    planted: Callable[..., Path], run_here: RunHere, changed: dict[str, str], said: str
) -> None:
    run_here(planted())
    with pytest.raises(StudyChanged, match=said.replace("[", r"\[")):
        run_here(planted(**changed), extend=True)


def test_two_processes_take_each_look_once(
    planted: Callable[..., Path], ablate: Ablate, tmp_path: Path
) -> None:
    done = ablate("run", planted(), "--workers", "2")
    assert done.returncode == 0, done.stderr
    assert [look.number for look in recorded(tmp_path).looks] == [1, 2, 3]


@pytest.mark.slow
def test_a_worker_of_its_own_takes_the_looks_too(
    planted: Callable[..., Path], ablate: Ablate, tmp_path: Path
) -> None:
    ablate("run", planted(), "--limit", "1")
    done = ablate("worker", "planted")
    assert done.returncode == 0, done.stderr
    assert [look.number for look in recorded(tmp_path).looks] == [1, 2, 3]


@pytest.mark.parametrize(
    ("workers", "kills", "seconds_per_step"), [(1, 3, 0.03), pytest.param(2, 40, 0.2, marks=pytest.mark.slow)]
)
def test_whoever_is_killed_the_same_is_seen(
    planted: Callable[..., Path],
    ablate: Ablate,
    tmp_path: Path,
    workers: int,
    kills: int,
    seconds_per_step: float,
) -> None:
    study = planted(settings=f"steps: 4, seconds_per_step: {seconds_per_step}")
    chaos = Chaos(study, workers=workers, kills=kills, seed=1)
    chaos.run()
    assert chaos.killed
    killed = recorded(tmp_path)
    done = ablate("run", study, "--home", "calm", "--workers", "2", ABLATE_CHECKPOINT_SECONDS="0.1")
    assert done.returncode == 0, done.stderr
    calm = recorded(tmp_path, "calm")
    assert killed.looks == calm.looks
    assert {(t.cell, t.seed): t.metrics for t in killed.trials} == {
        (t.cell, t.seed): t.metrics for t in calm.trials
    }


@pytest.mark.slow
def test_a_look_cut_off_at_any_instant_is_taken_whole_or_not_at_all(
    planted: Callable[..., Path], start_ablate: StartAblate, ablate: Ablate, tmp_path: Path
) -> None:
    """Killed as soon as the last trial of a stage has its result, a little later each time: before, during or after the look."""
    study = planted()
    for wait_s in (0.0, 0.1, 0.2, 0.4, 0.6, 0.8):
        home = f"cut-{wait_s}"
        process = start_ablate("run", study, "--home", home)
        while states(tmp_path, home)[:12] != ["COMPLETE"] * 12:
            time.sleep(0.02)
        time.sleep(wait_s)
        for pid in [*children(process.pid), process.pid]:
            os.kill(pid, signal.SIGKILL)
        process.wait()
        results = recorded(tmp_path, home)
        assert len(results.trials) == sum(len(results.seeds_of(cell.hash)) for cell in results.cells)
