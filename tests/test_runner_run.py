"""`ablate run` as a user sees it, on a trainer that takes no time: what it records, refuses and resumes."""

import importlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import thread_engine
from conftest import TRAINERS, write_walk
from fixture_types import Ablate, Json, RunHere, StartAblate, WalkStudy
from rich.console import Console

from ablate.errors import BadInput, StudyChanged, TrialError
from ablate.files import remove
from ablate.runner.machine import cores
from ablate.runner.outcome import finite
from ablate.runner.run import Options, run_study
from ablate.store.places import Place, place_of
from ablate.store.reading import read_results


def status(ablate: Ablate) -> Json:
    document: Json = json.loads(ablate("status", "walk", "--json").stdout)
    return document


def trained(tmp_path: Path) -> list[str]:
    """Return the `PID from STEP` lines that trainings left, one a start."""
    return [
        line
        for log in tmp_path.glob("runs/walk/trials/*/trained.log")
        for line in log.read_text().splitlines()
    ]


def metrics(document: Json) -> dict[tuple[str, int], Json]:
    """Return what each trial gave, by levels and seed: a cell's hash knows how long a step slept."""
    return {(str(trial["factors"]), trial["seed"]): trial["metrics"] for trial in document["trials"]}


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until `condition` holds; the time limit of a test is pytest's."""
    while not condition():
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] != b"Z"


def running_workers(tmp_path: Path) -> list[int]:
    """Return the processes that are training under this folder."""
    pids = {int(line.split()[0]) for line in trained(tmp_path)}
    return [
        pid
        for pid in pids
        if Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def test_every_cell_and_seed_gets_its_metrics(ablate: Ablate, walk_study: WalkStudy) -> None:
    done = ablate("run", walk_study(), "--json")
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert (document["planned"], document["complete"], document["failed"]) == (8, 8, 0)
    assert all(set(trial["metrics"]) == {"dev/position"} for trial in document["trials"])


def test_the_same_command_again_trains_nothing(
    run_here: RunHere, walk_study: WalkStudy, tmp_path: Path
) -> None:
    study = walk_study()
    run_here(study)
    before = sorted(trained(tmp_path))
    assert run_here(study)["code"] == 0
    assert sorted(trained(tmp_path)) == before


def test_a_checkpoint_that_outlived_its_trial_is_removed(
    run_here: RunHere, walk_study: WalkStudy, tmp_path: Path
) -> None:
    study = walk_study()
    run_here(study)
    left = next(tmp_path.glob("runs/walk/trials/*-1")) / f"step-{5:012d}.checkpoint"
    left.write_bytes(b"large")
    run_here(study)
    assert not left.exists()


def test_a_home_may_have_any_name(run_here: RunHere, walk_study: WalkStudy) -> None:
    assert run_here(walk_study(), home="what?a=b {50%20off} #1")["complete"] == 8


def test_a_copy_beside_a_trial_is_left_alone(
    run_here: RunHere, walk_study: WalkStudy, tmp_path: Path
) -> None:
    study = walk_study()
    run_here(study)
    kept = next(tmp_path.glob("runs/walk/trials/*-1")).with_suffix(".bak") / f"step-{5:012d}.checkpoint"
    kept.parent.mkdir()
    kept.touch()
    assert run_here(study)["code"] == 0
    assert kept.exists()


def test_a_worker_finds_the_trainer_beside_the_file_that_was_typed(
    run_here: RunHere, ablate: Ablate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    (tmp_path / "there").mkdir()
    run_here(write_walk(tmp_path / "there", seeds="[1]"), limit=1)
    (tmp_path / "there").rename(tmp_path / "here")
    lost = ablate("worker", "walk")
    assert lost.returncode == 2
    assert lost.stderr.startswith(f"{tmp_path}/there: the folder of the study's file is not on this machine")
    found = ablate("worker", "here/walk.yaml")
    assert found.returncode == 0
    assert "(3 by this worker)" in found.stderr
    assert found.stderr.endswith("this worker finished 3 trials; the study has 0 left\n")
    assert status(ablate)["complete"] == 4


HASHES = """\
import os
from pydantic import BaseModel
class Settings(BaseModel):
    x: int = 0
def train(settings, context):
    return {"dev/hash": hash("a word") % 1_000_003, "dev/secrets": "ABLATE_STORAGE" in os.environ}
"""
HASHED = """\
{study: hashed, trainer: hashes, factors: {x: [0, 1]}, baseline: {x: 0}, design: full, seeds: [1], metric: {name: dev/hash}}
"""


def test_a_worker_started_by_hand_hashes_as_those_of_a_run(ablate: Ablate, tmp_path: Path) -> None:
    (tmp_path / "hashes.py").write_text(HASHES)
    (tmp_path / "hashed.yaml").write_text(HASHED)
    url = f"sqlite:///{tmp_path}/runs/hashed/study.db"
    assert ablate("run", "hashed.yaml", "--limit", 1).returncode == 0
    assert ablate("worker", "hashed", ABLATE_STORAGE=url).returncode == 0
    trials = json.loads(ablate("status", "hashed", "--json").stdout)["trials"]
    assert len({trial["metrics"]["dev/hash"] for trial in trials}) == 1
    assert {trial["metrics"]["dev/secrets"] for trial in trials} == {0}


THREADED = """\
import os
from pydantic import BaseModel
class Settings(BaseModel):
    x: int = 0
def train(settings, context):
    return {"dev/threads": int(os.environ["OMP_NUM_THREADS"])}
"""


def test_workers_have_as_many_threads_when_fewer_trials_than_workers_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the last trials of a run that was resumed could differ in their last bits."""
    monkeypatch.delenv("OMP_NUM_THREADS")
    (tmp_path / "threaded.py").write_text(THREADED)
    study = tmp_path / "s.yaml"
    study.write_text(HASHED.replace("hashes", "threaded").replace("dev/hash", "dev/threads"))
    for limit in (1, None):
        options = Options(home=tmp_path / "runs", workers=2, limit=limit)
        assert run_study(study, options, Console(file=io.StringIO()))[0] == 0
    found = read_results(place_of("hashed", tmp_path / "runs"))
    threads = [trial.metrics["dev/threads"] for trial in found.trials]
    assert threads == [max(1, cores() // 2)] * 2


def test_limit_and_only_choose_trials(run_here: RunHere, walk_study: WalkStudy) -> None:
    study = walk_study()
    assert run_here(study, limit=1)["complete"] == 1
    document = run_here(study, only=["slope=2.0", "noise=0.5"])
    done = [trial["factors"] for trial in document["trials"] if trial["state"] == "COMPLETE"]
    assert done.count({"slope": 2.0, "noise": 0.5}) == 2
    assert len(done) <= 3


def test_shared_parts_are_trained_once_and_give_the_same(
    ablate: Ablate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    study = walk_study(more=", shared: true", slopes="[1.0, 2.0, 3.0]")
    done = ablate("run", study, "--workers", 2, "--json")
    assert done.returncode == 0, done.stderr
    starts = Counter(log.parent.name for log in tmp_path.glob("runs/walk/trials/*/trained.log"))
    assert len(starts) == 2 * (2 + 6)  # seeds x (common per noise + own per cell)
    assert len(trained(tmp_path)) == len(starts)
    document = json.loads(done.stdout)
    assert document["parts"]["used"] == 24
    by_noise = {(t["factors"]["noise"], t["seed"], t["metrics"]["dev/common"]) for t in document["trials"]}
    assert len(by_noise) == 4


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_saves_the_step_and_waits(
    run_here: RunHere,
    start_ablate: StartAblate,
    walk_study: WalkStudy,
    tmp_path: Path,
    number: signal.Signals,
    code: int,
) -> None:
    study = walk_study(steps=30, seconds_per_step=0.02, slopes="[1.0, 2.0]", seeds="[1]")
    supervisor = start_ablate("run", study)
    wait_for(lambda: list(tmp_path.glob("runs/walk/trials/*/steps.log")))
    supervisor.send_signal(number)
    assert supervisor.wait() == code
    assert list(tmp_path.glob("runs/walk/trials/*/step-*.checkpoint"))
    before = run_here(study, limit=0)
    assert {trial["state"] for trial in before["trials"]} <= {"WAITING", "COMPLETE"}
    assert metrics(run_here(study)) == metrics(run_here(study, home="reference"))


def test_a_worker_stopped_by_somebody_else_loses_nothing(
    start_ablate: StartAblate, ablate: Ablate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    study = walk_study(steps=40, seconds_per_step=0.02, slopes="[1.0, 2.0]", seeds="[1]")
    run = start_ablate("run", study)
    wait_for(lambda: running_workers(tmp_path))
    os.kill(running_workers(tmp_path)[0], signal.SIGTERM)
    assert run.wait() == 0
    assert status(ablate)["complete"] == 4


def test_a_second_signal_ends_a_worker_at_once(
    run_here: RunHere, start_ablate: StartAblate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    study = walk_study(more=", fault: hang")
    run_here(study, limit=0)
    worker = start_ablate("worker", "walk")
    wait_for(lambda: any(" 3" in log.read_text() for log in tmp_path.glob("runs/walk/trials/*/steps.log")))
    worker.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(0.3)  # for the step to end
    worker.send_signal(signal.SIGINT)
    assert worker.wait() == 130


def test_two_runs_of_one_study_share_the_work(
    start_ablate: StartAblate, ablate: Ablate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    study = walk_study(steps=10, seconds_per_step=0.02, slopes="[1.0, 2.0]", seeds="[1]")
    both = [start_ablate("run", study) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert len(trained(tmp_path)) == 4
    assert status(ablate)["complete"] == 4


def with_fault(study: Path, fault: str) -> Path:
    """Make half of the study's cells fail."""
    study.write_text(study.read_text().replace("noise: [0.1, 0.5]\nbase", f"fault: [none, {fault}]\nbase")
                     .replace("noise: 0.1}", "fault: none}"))  # fmt: skip
    return study


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("error", "RuntimeError: the walk fell over (walk.py:"),
        ("error", ", after step 2)"),
        ("exit", "SystemExit: 0 (walk.py:"),
        ("nan", "metric 'dev/position' is nan"),
    ],
)
def test_a_failed_trial_keeps_its_reason_and_the_rest_finish(
    run_here: RunHere, walk_study: WalkStudy, fault: str, reason: str
) -> None:
    document = run_here(with_fault(walk_study(), fault))
    assert (document["complete"], document["failed"]) == (4, 4)
    assert all(reason in trial["error"] for trial in document["trials"] if trial["state"] == "FAIL")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e160, -1e308])
def test_a_metric_that_statistics_cannot_square_is_refused(value: float) -> None:
    with pytest.raises(TrialError, match="metric 'dev/loss' is"):
        finite({"dev/loss": value}, "the trial")


def test_only_retry_failed_tries_again(run_here: RunHere, walk_study: WalkStudy, tmp_path: Path) -> None:
    study = with_fault(walk_study(), "error")
    run_here(study)
    before = len(trained(tmp_path))
    run_here(study)
    assert len(trained(tmp_path)) == before
    run_here(study, retry_failed=True)
    assert len(trained(tmp_path)) == before + 4


def test_only_the_chosen_are_tried_again(run_here: RunHere, walk_study: WalkStudy) -> None:
    study = with_fault(walk_study(seeds="[1]"), "error")
    run_here(study)
    trials = run_here(study, only=["slope=1.0"], retry_failed=True)["trials"]
    failed = {trial["factors"]["slope"]: trial for trial in trials if trial["state"] == "FAIL"}
    assert (failed[1.0]["attempts"], failed[2.0]["attempts"]) == (2, 1)
    assert "the walk fell over" in failed[2.0]["error"]


def test_a_failed_part_is_not_trained_for_every_trial_that_needs_it(
    run_here: RunHere, walk_study: WalkStudy, tmp_path: Path
) -> None:
    study = with_fault(walk_study(more=", shared: true", slopes="[1.0, 2.0, 3.0]", seeds="[1]"), "error")
    document = run_here(study)
    assert document["failed"] == 3
    assert len({trial["error"] for trial in document["trials"] if trial["state"] == "FAIL"}) == 1
    assert len(trained(tmp_path)) == 1 + 3 + 1  # common and own of the sound; one of the common that fails


def test_a_shared_part_that_succeeds_at_last_leaves_no_error_behind(
    run_here: RunHere, walk_study: WalkStudy, tmp_path: Path
) -> None:
    """Not even in trials that were not tried again: what they failed of is mended."""
    study = walk_study(more=", shared: true", seeds="[1]")
    # Another name than that of the trainer that this process has loaded.
    study.write_text(study.read_text().replace("trainer: walk", "trainer: late_data"))
    (tmp_path / "late_data.py").write_text(
        "from pathlib import Path\n"
        "import walk\n"
        "from walk import Settings, combine, parts\n"
        "def train(settings, context):\n"
        "    if settings.only == 'common' and not Path('data').exists():\n"
        "        raise RuntimeError('no data')\n"
        "    return walk.train(settings, context)\n"
    )
    assert run_here(study)["failed"] == 4
    (tmp_path / "data").touch()
    trials = run_here(study, only=["slope=1.0", "noise=0.1"], retry_failed=True)["trials"]
    states = {tuple(trial["factors"].values()): (trial["state"], trial["error"]) for trial in trials}
    assert states[1.0, 0.1] == ("COMPLETE", None)
    assert states[2.0, 0.1] == ("WAITING", None)
    assert {states[slope, 0.5][0] for slope in (1.0, 2.0)} == {"FAIL"}, (
        "another part, which was not tried again"
    )
    assert run_here(study)["complete"] == 2


@pytest.mark.parametrize(
    ("fault", "place"),
    [
        ("kill", "after step 2"),
        pytest.param("gpu", "after step 2", marks=pytest.mark.slow),
        pytest.param("birth", "before its first step", marks=pytest.mark.slow),
    ],
)
def test_a_trial_that_kills_its_process_fails_after_three_attempts(
    ablate: Ablate, walk_study: WalkStudy, fault: str, place: str
) -> None:
    done = ablate("run", with_fault(walk_study(seeds="[1]"), fault), "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    failed = [trial for trial in document["trials"] if trial["state"] == "FAIL"]
    assert [trial["attempts"] for trial in failed] == [3, 3]
    assert f"died 3 times without progress, the last time {place}" in failed[0]["error"]
    assert document["complete"] == 2


def test_a_child_of_a_killed_worker_holds_nothing_up_and_ends(
    start_ablate: StartAblate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    study = with_fault(walk_study(seeds="[1]"), "orphan")
    run = start_ablate(
        "run", study, "--only", "fault=orphan", "--only", "slope=1.0", ABLATE_CHECKPOINT_SECONDS="0"
    )
    wait_for(lambda: any(pid.read_text() for pid in tmp_path.glob("runs/walk/trials/*/orphan.pid")))
    (orphan,) = (int(pid.read_text()) for pid in tmp_path.glob("runs/walk/trials/*/orphan.pid"))
    wait_for(lambda: not is_alive(orphan))
    assert run.wait() == 0


@pytest.mark.parametrize("victim", ["study.db", "."])
def test_a_database_that_is_deleted_during_a_run_is_named(
    start_ablate: StartAblate, walk_study: WalkStudy, tmp_path: Path, victim: str
) -> None:
    study = walk_study(steps=200, seconds_per_step=0.02, slopes="[1.0, 2.0]", seeds="[1]")
    run = start_ablate("run", study, ABLATE_CHECKPOINT_SECONDS="0.2")
    wait_for(lambda: list(tmp_path.glob("runs/walk/trials/*/step-*.checkpoint")))
    remove(tmp_path / "runs/walk" / victim)
    output, errors = run.communicate()
    assert run.returncode == 1
    assert "study.db: " in errors
    assert "its database is gone; put it or a copy back and run again" in errors
    assert "Traceback" not in output + errors


def test_a_trainer_may_end_processes_of_its_own(start_ablate: StartAblate, walk_study: WalkStudy) -> None:
    study = with_fault(walk_study(seeds="[1]"), "pool")
    run = start_ablate("run", study, "--only", "fault=pool", "--only", "slope=1.0")
    assert run.wait() == 0


def test_a_trial_that_hangs_is_ended_and_the_log_says_where(
    ablate: Ablate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    study = with_fault(walk_study(seeds="[1]"), "hang")
    study.write_text(study.read_text() + "hang_minutes: 0.005\n")
    done = ablate("run", study, "--only", "fault=hang", "--only", "slope=1.0", "--json")
    assert json.loads(done.stdout)["failed"] == 1, done.stderr
    logs = [log.read_text() for log in tmp_path.glob("runs/walk/logs/*-1/attempt-*.log")]
    assert len(logs) == 3
    assert all("Timeout (0:00:00" in log and "walk.py" in log for log in logs)


@pytest.mark.slow
def test_a_trainer_that_saves_nothing_is_not_taken_for_one_that_hangs(
    ablate: Ablate, walk_study: WalkStudy
) -> None:
    study = with_fault(walk_study(steps=20, seconds_per_step=0.1, seeds="[1]"), "unsaved, silent")
    study.write_text(study.read_text() + "hang_minutes: 0.02\n")  # 1.2 s of 2
    done = ablate("run", study, "--only", "slope=1.0", "--json")
    assert json.loads(done.stdout)["complete"] == 3, done.stderr


def test_who_never_wants_to_wait_for_a_hang_may_say_so(run_here: RunHere, walk_study: WalkStudy) -> None:
    study = walk_study(seeds="[1]")
    study.write_text(study.read_text() + "hang_minutes: 1.0e+12\n")
    assert run_here(study, limit=1)["complete"] == 1


def test_a_full_disk_is_no_fault_of_the_trial(run_here: RunHere, walk_study: WalkStudy) -> None:
    study = with_fault(walk_study(seeds="[1]"), "disk")
    for _ in range(5):
        document = run_here(study, only=["fault=disk"])
        assert document["code"] == 1
        assert "No space left on device" in document["said"]
        assert (document["waiting"], document["failed"]) == (4, 0)


@pytest.fixture
def walk(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The trainer of the walk study, already imported, as runs in this process find it."""
    monkeypatch.syspath_prepend(TRAINERS)
    monkeypatch.delitem(sys.modules, "walk", raising=False)
    module = importlib.import_module("walk")
    monkeypatch.setitem(sys.modules, "walk", module)
    return module


@pytest.mark.parametrize("item", ["step", "position", "rng"])
def test_a_state_without_one_item_is_noticed(
    run_here: RunHere, walk_study: WalkStudy, walk: ModuleType, item: str
) -> None:
    study = walk_study(steps=6, seeds="[1]")
    reference = metrics(run_here(study, home="reference"))
    assert metrics(interrupted(run_here, study, "sound")) == reference
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walk, "OMIT", item)
        assert metrics(interrupted(run_here, study, "forgetful")) != reference


def interrupted(run_here: RunHere, study: Path, home: str) -> Json:
    """Run a study, asked to stop at the third step of its first trial, and then to its end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thread_engine, "STOP_AFTER", 3)
        assert run_here(study, home=home)["complete"] == 0
    return run_here(study, home=home)


def test_a_changed_study_is_refused_and_names_what_changed(
    run_here: RunHere, ablate: Ablate, walk_study: WalkStudy
) -> None:
    run_here(walk_study(), limit=1)
    done = ablate("run", walk_study(steps=6))
    assert done.returncode == 2
    assert "settings.steps: 5 → 6" in done.stderr
    assert "ablate delete" not in done.stderr
    assert "Traceback" not in done.stderr
    planned = ablate("plan", walk_study(steps=6))
    assert (
        "will refuse this file: 1 change since trials of 'walk' were run (settings.steps: 5 → 6)"
        in planned.stdout
    )


def test_a_changed_study_without_a_result_may_be_deleted(
    run_here: RunHere, ablate: Ablate, walk_study: WalkStudy
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thread_engine, "STOP_AFTER", 1)
        run_here(walk_study(), limit=1)
    done = ablate("run", walk_study(steps=6))
    assert "no trial has a result yet, so delete what ran (ablate delete walk)" in done.stderr
    assert ablate("delete", "walk", "--yes").returncode == 0
    assert "will refuse" not in ablate("plan", walk_study(steps=6)).stdout


def test_a_wrong_metric_name_can_be_corrected_and_costs_no_training(
    run_here: RunHere, walk_study: WalkStudy, tmp_path: Path
) -> None:
    study = walk_study(seeds="[1]")
    right = study.read_text()
    study.write_text(right.replace("dev/position", "dev/postion"))
    assert "returned no 'dev/postion'; it returned dev/position" in run_here(study)["trials"][0]["error"]
    study.write_text(right)
    done = run_here(study, retry_failed=True)
    assert (done["complete"], len(trained(tmp_path))) == (4, 4)
    study.write_text(right.replace("dev/position", "dev/speed"))
    with pytest.raises(StudyChanged, match=r"metric.name: dev/position → dev/speed"):
        run_here(study)


@pytest.mark.parametrize("setting", ["slope: float = 1.0", "seconds_per_step: float = 0.0"])
def test_a_trainer_with_other_defaults_is_refused(
    ablate: Ablate, walk_study: WalkStudy, tmp_path: Path, setting: str
) -> None:
    study = walk_study(more="")
    study.write_text(study.read_text().replace("seconds_per_step: 0.0", "shared: false"))
    ablate("run", study, "--limit", 1)
    trainer = tmp_path / "walk.py"
    trainer.write_text(trainer.read_text().replace(setting, f"{setting[:-3]}2.0"))
    done = ablate("run", study)
    assert done.returncode == 2
    name, _, before = setting.partition(": float = ")
    assert (
        f"the Settings of walk changed since trials of 'walk' were run: {name}: default {before} → 2.0"
        in done.stderr
    )
    assert status(ablate)["complete"] == 1


def test_a_study_that_another_run_began_meanwhile_is_not_overwritten(
    run_here: RunHere, walk_study: WalkStudy, walk: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = walk_study()
    first = run_here(study, home="elsewhere")

    def another_run(_: object) -> None:
        monkeypatch.setattr(walk, "check", lambda settings: None)
        study.write_text(study.read_text().replace("steps: 5", "steps: 6"))
        run_here(study)

    monkeypatch.setattr(walk, "check", another_run)
    with pytest.raises(StudyChanged, match=r"settings.steps: 6 → 5"):
        run_here(study)
    assert metrics(run_here(study)) != metrics(first)


def test_a_home_that_is_refused_changes_nothing(
    run_here: RunHere, walk_study: WalkStudy, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    run_here(walk_study(), limit=1, storage=url)
    (tmp_path / "copy").mkdir()
    with pytest.raises(BadInput, match="is not where the files of 'walk' are"):
        run_here(write_walk(tmp_path / "copy"), home="other", storage=url)
    assert read_results(Place("walk", url, tmp_path)).spec.folder == tmp_path


def test_a_bad_cadence_is_refused_before_anything_is_written(
    ablate: Ablate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    done = ablate("run", walk_study(), ABLATE_CHECKPOINT_SECONDS="abc")
    assert done.returncode == 2
    assert "ABLATE_CHECKPOINT_SECONDS: found 'abc'" in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("storage", [None, "sqlite:///{folder}/shared.db"])
def test_a_smoke_run_starts_anew_each_time(
    run_here: RunHere, walk_study: WalkStudy, tmp_path: Path, storage: str | None
) -> None:
    storage = storage and storage.format(folder=tmp_path)
    failing = run_here(with_fault(walk_study(seeds="[1]"), "error"), smoke=True, storage=storage)
    assert (failing["study"], failing["complete"], failing["failed"]) == ("walk-smoke", 2, 2)
    first = run_here(walk_study(steps=6, seeds="[1]"), smoke=True, storage=storage)
    assert (first["planned"], first["complete"]) == (4, 4)
    logs = list(tmp_path.glob("runs/walk-smoke/trials/*/trained.log"))
    assert run_here(walk_study(steps=6, seeds="[1]"), smoke=True, storage=storage)["complete"] == 4
    assert [len(log.read_text().splitlines()) for log in logs] == [1] * 4


def test_a_smoke_run_touches_no_study_that_has_its_name(run_here: RunHere, walk_study: WalkStudy) -> None:
    study = walk_study()
    study.write_text(study.read_text().replace("study: walk", "study: walk-smoke"))
    before = run_here(study)
    with pytest.raises(BadInput, match="that is not a smoke run already exists"):
        run_here(walk_study(), smoke=True)
    study.write_text(study.read_text().replace("study: walk", "study: walk-smoke"))
    assert metrics(run_here(study)) == metrics(before)


def test_a_smoke_run_that_still_runs_is_left_alone(
    start_ablate: StartAblate, run_here: RunHere, walk_study: WalkStudy, tmp_path: Path
) -> None:
    study = walk_study(steps=400, seconds_per_step=0.05, seeds="[1]")
    start_ablate("run", study, "--smoke")
    wait_for(lambda: list(tmp_path.glob("runs/walk-smoke/trials/*/steps.log")))
    with pytest.raises(BadInput, match=r"'walk-smoke' is running \(trial 0\)"):
        run_here(study, smoke=True)


def test_comments_and_order_are_harmless(run_here: RunHere, walk_study: WalkStudy) -> None:
    study = walk_study(seeds="[1, 2]", slopes="[1.0, 2.0]")
    run_here(study, limit=1)
    walk_study(seeds="[2, 1]", slopes="[2.0, 1.0]")
    study.write_text("# a comment\n" + study.read_text() + "question: Which?\nhang_minutes: 5\n")
    document = run_here(study)
    assert (document["code"], document["complete"]) == (0, 8)


def test_extend_adds_seeds_and_levels_and_nothing_else(run_here: RunHere, walk_study: WalkStudy) -> None:
    run_here(walk_study())
    document = run_here(walk_study(seeds="[1, 2, 3]", slopes="[1.0, 2.0, 3.0]"), extend=True)
    assert (document["planned"], document["complete"]) == (18, 18)
    with pytest.raises(StudyChanged, match="an extension must keep every cell and seed"):
        run_here(walk_study(seeds="[2, 3]"), extend=True)


def test_more_seeds_are_refused_with_the_right_way_to_get_them(
    run_here: RunHere, walk_study: WalkStudy
) -> None:
    run_here(walk_study())
    with pytest.raises(
        StudyChanged, match="more seeds need a new study with fresh seeds: a list, or looks planned"
    ):
        run_here(walk_study(seeds="[1, 2, 3]"))


def test_a_plan_of_a_study_with_results_says_how_to_get_more_seeds(
    run_here: RunHere, walk_study: WalkStudy, ablate: Ablate
) -> None:
    study = walk_study()
    assert "more seeds need a new study" not in ablate("plan", study).stdout
    run_here(study)
    assert "note: more seeds need a new study" in ablate("plan", study).stdout


def test_a_bad_study_writes_nothing(ablate: Ablate, walk_study: WalkStudy, tmp_path: Path) -> None:
    study = walk_study(more=", slop: 3")
    before = sorted(tmp_path.iterdir())
    done = ablate("run", study)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Did you mean 'slope'?" in done.stderr or "did you mean 'slope'?" in done.stderr
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "__pycache__"] == before


CHANGES = """
    import signal, sys
    handlers = [str(signal.getsignal(number)) for number in signal.Signals]
    state = [os.getcwd(), str(sys.excepthook), sys.getrecursionlimit(), os.environ.get("HOME"), os.environ.get("PATH"), handlers]
    (context.workdir / "state").write_text(str(state))
    os.chdir(context.workdir)
    sys.excepthook = None
    sys.setrecursionlimit(sys.getrecursionlimit() // 2)
    os.environ.clear()
    os.environ["HOME"] = "/nowhere"
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
"""


def test_what_a_trial_changes_in_its_process_the_next_one_does_not_find(
    ablate: Ablate, tmp_path: Path
) -> None:
    study = write_walk(tmp_path)
    trainer = tmp_path / "walk.py"
    trainer.write_text(trainer.read_text().replace("    rng = np", f"{CHANGES}    rng = np", 1))
    done = ablate("run", study)
    assert done.returncode == 0, done.stderr
    found = [file.read_text() for file in tmp_path.glob("runs/walk/trials/*/state")]
    assert len(found) == 8
    assert len(set(found)) == 1
