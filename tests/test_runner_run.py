"""`ablate run` as a user sees it, on a trainer that takes no time: what it records, refuses and resumes."""

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest


def status(ablate) -> dict:
    return json.loads(ablate("status", "walk", "--json").stdout)


def trained(tmp_path: Path) -> list[str]:
    """Return the `PID from STEP` lines that trainings left, one a start."""
    return [
        line
        for log in tmp_path.glob("runs/walk/trials/*/trained.log")
        for line in log.read_text().splitlines()
    ]


def undisturbed(ablate, study) -> dict:
    done = ablate("run", study, "--home", "reference", "--json")
    assert done.returncode == 0, done.stderr
    return metrics(json.loads(done.stdout))


def metrics(document: dict) -> dict:
    return {(trial["cell"], trial["seed"]): trial["metrics"] for trial in document["trials"]}


def wait_for(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def running_workers(tmp_path: Path) -> list[int]:
    """Return the processes that are training under this folder."""
    pids = {int(line.split()[0]) for line in trained(tmp_path)}
    return [
        pid
        for pid in pids
        if Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def test_every_cell_and_seed_gets_its_metrics(ablate, walk_study):
    done = ablate("run", walk_study(), "--json")
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert (document["planned"], document["complete"], document["failed"]) == (8, 8, 0)
    assert all(set(trial["metrics"]) == {"dev/position"} for trial in document["trials"])


def test_the_same_command_again_trains_nothing(ablate, walk_study, tmp_path):
    study = walk_study()
    ablate("run", study)
    before = sorted(trained(tmp_path))
    assert ablate("run", study).returncode == 0
    assert sorted(trained(tmp_path)) == before


def test_limit_and_only_choose_trials(ablate, walk_study):
    study = walk_study()
    ablate("run", study, "--limit", 1)
    assert status(ablate)["complete"] == 1
    ablate("run", study, "--only", "slope=2.0", "--only", "noise=0.5")
    done = [trial["factors"] for trial in status(ablate)["trials"] if trial["state"] == "COMPLETE"]
    assert done.count({"slope": 2.0, "noise": 0.5}) == 2
    assert len(done) <= 3


def test_shared_parts_are_trained_once_and_give_the_same(ablate, walk_study, tmp_path):
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


@pytest.mark.parametrize("victim", ["worker", "supervisor", "both"])
def test_kill_9_loses_nothing(ablate, start_ablate, walk_study, tmp_path, victim):
    study = walk_study(steps=20, seconds_per_step=0.02, slopes="[1.0, 2.0]", seeds="[1]")
    reference = undisturbed(ablate, study)
    supervisor = start_ablate("run", study, ABLATE_CHECKPOINT_SECONDS="0.1")
    wait_for(lambda: list(tmp_path.glob("runs/walk/trials/*/step-*.checkpoint")))
    workers = running_workers(tmp_path)
    for pid in ([] if victim == "supervisor" else workers) + ([] if victim == "worker" else [supervisor.pid]):
        os.kill(pid, signal.SIGKILL)
    if victim == "worker":
        assert supervisor.wait(60) == 0  # it starts another worker by itself
    done = ablate("run", study, "--json")
    assert done.returncode == 0, done.stderr
    assert metrics(json.loads(done.stdout)) == reference
    again = [line for line in trained(tmp_path) if not line.endswith("from 0")]
    assert again, "the killed trial went on from its checkpoint"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_the_step_and_waits(ablate, start_ablate, walk_study, tmp_path, number, code):
    study = walk_study(steps=30, seconds_per_step=0.02, slopes="[1.0, 2.0]", seeds="[1]")
    reference = undisturbed(ablate, study)
    supervisor = start_ablate("run", study)
    wait_for(lambda: running_workers(tmp_path))
    time.sleep(0.3)
    supervisor.send_signal(number)
    assert supervisor.wait(20) == code
    states = Counter(trial["state"] for trial in status(ablate)["trials"])
    assert set(states) <= {"WAITING", "COMPLETE"}
    assert list(tmp_path.glob("runs/walk/trials/*/step-*.checkpoint"))
    assert metrics(json.loads(ablate("run", study, "--json").stdout)) == reference


def test_two_runs_of_one_study_share_the_work(start_ablate, ablate, walk_study, tmp_path):
    study = walk_study(steps=10, seconds_per_step=0.02, slopes="[1.0, 2.0]", seeds="[1]")
    both = [start_ablate("run", study) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert len(trained(tmp_path)) == 4
    assert status(ablate)["complete"] == 4


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("error", "RuntimeError: the walk fell over (walk.py:"), ("nan", "metric 'dev/position' is nan")],
)
def test_a_failed_trial_keeps_its_reason_and_the_rest_finish(ablate, walk_study, tmp_path, fault, reason):
    study = walk_study()
    study.write_text(study.read_text().replace("noise: [0.1, 0.5]\nbase", f"fault: [none, {fault}]\nbase")
                     .replace("noise: 0.1}", "fault: none}"))  # fmt: skip
    done = ablate("run", study, "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert (document["complete"], document["failed"]) == (4, 4)
    assert all(reason in trial["error"] for trial in document["trials"] if trial["state"] == "FAIL")
    before = len(trained(tmp_path))
    assert ablate("run", study).returncode == 1
    assert len(trained(tmp_path)) == before  # only --retry-failed tries again
    ablate("run", study, "--retry-failed")
    assert len(trained(tmp_path)) == before + 4


def test_a_trial_that_kills_its_process_fails_after_three_attempts(ablate, walk_study):
    study = walk_study(seeds="[1]", slopes="[1.0, 2.0]")
    study.write_text(study.read_text().replace("noise: [0.1, 0.5]\nbase", "fault: [none, kill]\nbase")
                     .replace("noise: 0.1}", "fault: none}"))  # fmt: skip
    done = ablate("run", study, "--json")
    assert done.returncode == 1
    failed = [trial for trial in json.loads(done.stdout)["trials"] if trial["state"] == "FAIL"]
    assert [trial["attempts"] for trial in failed] == [3, 3]
    assert json.loads(done.stdout)["complete"] == 2


def test_a_changed_study_is_refused_and_names_what_changed(ablate, walk_study):
    ablate("run", walk_study(), "--limit", 1)
    done = ablate("run", walk_study(steps=6))
    assert done.returncode == 2
    assert "settings.steps: 5 → 6" in done.stderr
    assert "Traceback" not in done.stderr


def test_comments_and_order_are_harmless(ablate, walk_study):
    study = walk_study()
    ablate("run", study, "--limit", 1)
    study.write_text("# a comment\n" + study.read_text() + "question: Which?\n")
    assert ablate("run", study).returncode == 0


def test_extend_adds_seeds_and_levels_and_nothing_else(ablate, walk_study):
    ablate("run", walk_study())
    assert ablate("run", walk_study(seeds="[1, 2, 3]", slopes="[1.0, 2.0, 3.0]"), "--extend").returncode == 0
    document = status(ablate)
    assert (document["planned"], document["complete"]) == (18, 18)
    done = ablate("run", walk_study(seeds="[2, 3]"), "--extend")
    assert done.returncode == 2
    assert "an extension keeps every cell and seed" in done.stderr


def test_a_bad_study_writes_nothing(ablate, walk_study, tmp_path):
    study = walk_study(more=", slop: 3")
    before = sorted(tmp_path.iterdir())
    done = ablate("run", study)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Did you mean 'slope'?" in done.stderr or "did you mean 'slope'?" in done.stderr
    assert [path for path in sorted(tmp_path.iterdir()) if path.name != "__pycache__"] == before
