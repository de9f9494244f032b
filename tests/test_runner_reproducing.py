"""`ablate show` and `ablate reproduce`: one trial, as it is recorded and trained again."""

import json
import shlex
import shutil
import sqlite3
from pathlib import Path
from typing import Protocol

import pytest
from conftest import TRAINERS
from fixture_types import Ablate, Json, RunHere, WalkStudy

DRIFTING = """\
study: drifting
trainer: drifting
factors: {{gain: [1.0, 2.0]}}
baseline: {{gain: 1.0}}
design: {design}
seeds: {seeds}
metric: {{name: dev/x}}
"""


class Drifting(Protocol):
    def __call__(self, design: str = "full", seeds: str = "[1, 2]") -> Json: ...


@pytest.fixture
def drifting(tmp_path: Path, run_here: RunHere) -> Drifting:
    """Run the drifting study (see tests/trainers/drifting.py)."""

    def run(design: str = "full", seeds: str = "[1, 2]") -> Json:
        shutil.copy(TRAINERS / "drifting.py", tmp_path)
        (tmp_path / "offset.txt").write_text("0")
        study = tmp_path / "drifting.yaml"
        study.write_text(DRIFTING.format(design=design, seeds=seeds))
        return run_here(study)

    return run


def files(tmp_path: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in (tmp_path / "runs").rglob("*") if file.is_file()}


def test_a_trial_that_is_trained_again_is_equal_to_the_bit(
    drifting: Drifting, ablate: Ablate, tmp_path: Path
) -> None:
    drifting()
    before = files(tmp_path)
    done = ablate("reproduce", "drifting", 3)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "trial 3 of drifting: reproduced bit for bit (1 metric, 2 prediction files)\n"
    assert files(tmp_path) == before


def test_a_scratch_folder_that_is_not_utf_8_is_named(
    drifting: Drifting, ablate: Ablate, tmp_path: Path
) -> None:
    drifting()
    scratch = tmp_path / "t\udcff"
    scratch.mkdir()
    done = ablate("reproduce", "drifting", 3, TMPDIR=str(scratch))
    assert done.returncode == 2
    assert "TMPDIR: " in done.stderr
    assert "its path is not UTF-8" in done.stderr


def test_a_study_whose_folder_is_elsewhere_is_reproduced_by_its_path(
    drifting: Drifting, ablate: Ablate, tmp_path: Path
) -> None:
    drifting()
    with sqlite3.connect(tmp_path / "runs/drifting/study.db") as database:
        database.execute("UPDATE ablate_studies SET folder = '/gone'")
    refused = ablate("reproduce", "drifting", 0)
    assert refused.returncode == 2
    assert "ablate reproduce PATH.yaml 0" in refused.stderr
    done = ablate("reproduce", "drifting.yaml", 0)
    assert done.returncode == 0, done.stderr


def test_another_metric_is_not_equal(drifting: Drifting, ablate: Ablate, tmp_path: Path) -> None:
    drifting()
    (tmp_path / "offset.txt").write_text("1e-12")
    done = ablate("reproduce", 0, "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["equal"]) == (1, False)
    assert document["metrics"]["dev/x"]["recorded"] != document["metrics"]["dev/x"]["again"]
    assert all(document["predictions"].values())


def test_other_predictions_are_not_equal(drifting: Drifting, ablate: Ablate, tmp_path: Path) -> None:
    drifting()
    (tmp_path / "shift.txt").touch()
    done = ablate("reproduce", 0)
    assert done.returncode == 1
    assert "common/dev.x.csv: the predictions differ" in done.stdout
    assert "does something random not depend on context.seed?" in done.stdout


def test_a_trial_that_fails_now_is_not_reproduced(drifting: Drifting, ablate: Ablate, tmp_path: Path) -> None:
    drifting()
    (tmp_path / "offset.txt").write_text("9")
    done = ablate("reproduce", 0)
    assert done.returncode == 1
    assert "NOT reproduced: it failed: RuntimeError: nine is too much" in done.stdout


def test_the_recorded_number_of_threads_is_used(drifting: Drifting, ablate: Ablate) -> None:
    drifting()
    done = ablate("reproduce", 0, "--json", OMP_NUM_THREADS="7")
    assert not [fact for fact in json.loads(done.stdout)["changed"] if "threads" in fact]


@pytest.mark.parametrize(
    ("design", "seeds"),
    [
        ("{kind: search, trials: 2, finalists: 1}", "[1, 2]"),
        ("one_at_a_time", "{start: [1, 2, 3], at_most: 5, looks: [3, 5]}"),
    ],
)
def test_trials_of_a_search_and_of_added_seeds_can_be_reproduced(
    drifting: Drifting, ablate: Ablate, design: str, seeds: str
) -> None:
    last = drifting(design, seeds)["trials"][-1]["number"]
    assert ablate("reproduce", "drifting", last).returncode == 0


def test_a_trial_without_a_result_is_refused(
    walk_study: WalkStudy, run_here: RunHere, ablate: Ablate
) -> None:
    run_here(walk_study(), limit=1)
    done = ablate("reproduce", "walk", 7)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "is WAITING, so it has no result to compare with" in done.stderr


def test_show_says_what_is_known_of_a_trial(drifting: Drifting, ablate: Ablate, tmp_path: Path) -> None:
    drifting()
    document = json.loads(ablate("show", "drifting", 1, "--json").stdout)
    assert (document["number"], document["state"], document["attempts"]) == (1, "COMPLETE", 1)
    assert document["settings"].get("gain", 1.0) == document["factors"]["gain"]
    parts = {part["name"]: part for part in document["parts"]}
    assert parts["common"]["shared_with"]
    assert parts["own"]["files"] == ["predictions/dev.x.csv"]
    assert all(Path(log).is_file() for part in parts.values() for log in part["logs"])
    assert parts["own"]["facts"]["versions"]["numpy"]
    assert document["again"] == "ablate reproduce drifting 1"


def test_show_says_why_a_trial_failed_and_where(
    drifting: Drifting, run_here: RunHere, ablate: Ablate, tmp_path: Path
) -> None:
    drifting()
    (tmp_path / "offset.txt").write_text("9")
    study = tmp_path / "drifting.yaml"
    study.write_text(study.read_text().replace("[1, 2]", "[1, 2, 3]"))
    failed = next(
        trial["number"] for trial in run_here(study, extend=True)["trials"] if trial["state"] == "FAIL"
    )
    text = ablate("show", failed).stdout
    assert 'raise RuntimeError("nine is too much")' in text
    assert "ablate/runner" not in text.partition("error:")[2]
    assert f"ablate run {study} --retry-failed" in text


def test_printed_commands_give_the_settings_that_the_run_was_given(
    ablate: Ablate, walk_study: WalkStudy, tmp_path: Path
) -> None:
    study = walk_study(seeds="[1]")
    set_ = ["--set", "steps=6", "--set", "fault=predicts"]
    assert ablate("run", study, *set_).returncode == 0
    reported = ablate("report", study, "--json")
    assert "since it was run" not in reported.stderr
    assert "study_file_edited" not in {flag["rule"] for flag in json.loads(reported.stdout)["flags"]}
    again = next(effect["again"] for effect in json.loads(reported.stdout)["effects"])
    assert f"{shlex.join(set_)} --home again --only" in again
    assert ablate(*shlex.split(again)[1:]).returncode == 0
    first, second = (
        {(one["cell"], one["seed"]): one["metrics"] for one in json.loads(status.stdout)["trials"]}
        for status in (ablate("status", "--json", "--home", home) for home in ("runs", "again"))
    )
    assert second.items() <= first.items()
    refused = ablate("run", study)
    assert (refused.returncode, shlex.join(["ablate", "run", str(study), *set_]) in refused.stderr) == (
        2,
        True,
    )
    smoke = ["--smoke", "--set", "fault=error"]
    assert ablate("run", study, *smoke, "--limit", 1).returncode == 1
    again = json.loads(ablate("show", "walk-smoke", 0, "--json").stdout)["again"]
    assert again == f"ablate run {study} --set fault=error --smoke"


def test_predictions_of_ablate_test_are_not_compared(
    run_here: RunHere, ablate: Ablate, tmp_path: Path
) -> None:
    shutil.copy(TRAINERS / "tested.py", tmp_path)
    study = tmp_path / "tested.yaml"
    study.write_text(
        DRIFTING.format(design="full", seeds="[1, 2]")
        .replace("drifting", "tested")
        .replace("dev/x", "dev/score")
    )
    run_here(study)
    assert ablate("test", "tested").returncode == 0
    assert list(tmp_path.glob("runs/tested/trials/*/predictions/test.task.csv"))
    for trial in range(4):
        done = ablate("reproduce", "tested", trial)
        assert done.returncode == 0, done.stdout
