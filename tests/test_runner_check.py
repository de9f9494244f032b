"""`ablate check`: finds each fault that trainers have, and passes those that have none."""

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from chaos import children
from conftest import TRAINERS
from fixture_types import Ablate, Json, StartAblate
from programs import write_program
from test_command_stopping import walks
from test_runner_run import wait_for

from ablate.runner.check import runs
from ablate.runner.check.study import check_study, check_text

STUDIES = Path(__file__).parent.parent / "studies"
STUDY = """\
study: faulty
question: Is the trainer sound?
trainer: faulty
settings: {{fault: {fault}{more}}}
factors: {{lr: [0.1, 0.2]}}
baseline: {{lr: 0.1}}
design: full
seeds: [1, 2]
metric: {{name: dev/score}}
"""

# A program that knows nothing of checkpoints, and takes a while.
RANDOM = """
import random
time.sleep(0.3)
rng = random.Random(os.environ["ABLATE_SEED"])
(workdir / "metrics.json").write_text(json.dumps({"dev/accuracy": rng.gauss(lr, 1)}))
"""

# One that prints its steps and saves nothing.
COUNTS = """
import random
rng = random.Random(os.environ["ABLATE_SEED"])
for step in range(1, 5):
    time.sleep(0.1)
    print(json.dumps({"step": step, "dev/accuracy": rng.gauss(lr, 1)}))
"""

OURS = """\
study: ours
question: Is our trainer sound?
trainer: ablate.trainer
settings: {training: joint}
factors: {surgery: [none, pcgrad]}
baseline: {surgery: none}
design: full
seeds: [1, 2]
metric: {name: dev/mean}
"""

Faulty = Callable[..., Path]


@pytest.fixture
def faulty(tmp_path: Path) -> Faulty:
    """Write a study of the trainer with this fault (see tests/trainers/faulty.py)."""

    def write(fault: str = "none", more: str = "") -> Path:
        shutil.copy(TRAINERS / "faulty.py", tmp_path)
        study = tmp_path / "faulty.yaml"
        study.write_text(STUDY.format(fault=fault, more=more))
        return study

    return write


def results(document: Json) -> dict[str, str]:
    """Return the result of each check, of the first part and of all."""
    checks = document["parts"][0]["checks"] + document["checks"]
    return {check["name"]: check["result"] for check in checks}


def failed(document: Json) -> list[str]:
    return [name for name, result in results(document).items() if result == "FAIL"]


def seen(document: Json, name: str) -> str:
    checks = document["parts"][0]["checks"] + document["checks"]
    return next(str(check["seen"]) for check in checks if check["name"] == name)


@pytest.mark.parametrize(
    ("fault", "check", "said"),
    [
        ("rng", "resume", "it differs from step 4 on: train/loss at step 4 is "),
        ("order", "same seed", "two runs with the same seed differ: train/loss at step "),
        ("metric", "metric", "lr=0.2: metric.name: the trainer returned no 'dev/score'"),
        ("ids", "ids", "predictions/dev.y.csv: items '0.1 0' and '0.2 0' are the first that differ"),
        ("seed", "other seed", "the same bits with seed 2 and 3"),
        (
            "shared",
            "warm process",
            "after all (lr=0.2) with seed 2 in the same process it differs from step 1",
        ),
        (
            "pair",
            "warm process",
            "all (lr=0.2) with seed 2, which was to be trained before it, fails: RuntimeError: the weights fell over",
        ),
    ],
)
def test_a_planted_fault_is_found_and_nothing_else(
    fault: str, check: str, said: str, faulty: Faulty, ablate: Ablate
) -> None:
    done = ablate("check", faulty(fault), "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["sound"], failed(document)) == (1, False, [check])
    assert said in seen(document, check)


def test_a_sound_trainer_passes_and_nothing_is_left(faulty: Faulty, ablate: Ablate, tmp_path: Path) -> None:
    study, scratch = faulty(), tmp_path / "scratch"
    scratch.mkdir()
    done = ablate("check", study, TMPDIR=str(scratch))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "sound"), done.stdout
    assert not list(scratch.iterdir())
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_our_example_of_a_trainer_passes(ablate: Ablate) -> None:
    done = ablate("check", STUDIES / "own_trainer.yaml", "--json", "--set", "steps=20")
    document = json.loads(done.stdout)
    named = "study trainer sound failed not_checked cells shrunk parts checks"
    assert document.keys() == set(named.split())
    assert set(results(document).values()) == {"PASS"}
    assert document["parts"][0]["steps"] == 20
    assert document["parts"][0]["seconds_per_step"] > 0


@pytest.mark.slow
def test_our_trainer_passes(tmp_path: Path) -> None:
    study = tmp_path / "ours.yaml"
    study.write_text(OURS)
    document = check_study(study, [], 2.0, print)
    assert document["shrunk"]
    assert (document["failed"], document["not_checked"]) == (0, 0), check_text(document)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        pytest.param(walks(4, 0.1), "killed after step 2 and resumed", id="resumes"),
        pytest.param(COUNTS, "killed after step 2 and started over", id="starts over"),
        pytest.param(
            RANDOM, "killed halfway and started again", id="prints no steps", marks=pytest.mark.slow
        ),
    ],
)
def test_a_program_passes(script: str, said: str, tmp_path: Path) -> None:
    study = write_program(tmp_path, script)
    document = check_study(study, [], 1.0, print)
    assert not failed(document), check_text(document)
    assert said in seen(document, "resume")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("momentum", "from step 5 on"),
        pytest.param("sums", "it differs at the end: metric dev/mean_loss", marks=pytest.mark.slow),
        pytest.param(
            "object",
            "failed while saving: TypeError: state.state.path: a checkpoint cannot contain a PosixPath",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_what_a_checkpoint_lacks_is_located(fault: str, said: str, faulty: Faulty) -> None:
    document = check_study(faulty(fault), [], 1.0, print)
    assert failed(document) == ["resume"]
    assert said in seen(document, "resume")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("silent", "killed halfway and started again (from which step is not known): the same bits"),
        ("forgetful", "it saves, but never calls context.restore: the same bits"),
    ],
)
def test_a_trainer_that_does_not_resume_is_sound(fault: str, said: str, faulty: Faulty) -> None:
    document = check_study(faulty(fault), [], 1.0, print)
    assert document["sound"]
    assert said in seen(document, "resume")


@pytest.mark.slow
def test_a_long_training_is_checked_up_to_a_step(faulty: Faulty) -> None:
    document = check_study(faulty("rng", ", steps: 100000, seconds_per_step: 0.01"), [], 0.02, print)
    assert failed(document) == ["resume"]
    assert results(document)["same seed"] == "PASS"
    assert {results(document)[name] for name in ("trains", "metric", "ids")} == {"not checked"}


def test_a_training_that_never_looks_at_the_clock_is_ended(
    faulty: Faulty, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "STARTING_S", 2.0)
    document = check_study(faulty("silent", ", steps: 2, seconds_per_step: 1000"), [], 0.001, print)
    assert set(results(document).values()) == {"not checked"}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("error", "RuntimeError: the weights fell over (faulty.py:48, after step 2)"),
        ("death", "its process died (SIGKILL)"),
    ],
)
def test_a_trainer_that_fails_is_unsound(fault: str, said: str, faulty: Faulty, ablate: Ablate) -> None:
    done = ablate("check", faulty(fault))
    assert done.returncode == 1
    assert f"FAIL         trains        {said}" in done.stdout


def test_a_bad_study_is_refused_as_by_plan(faulty: Faulty, ablate: Ablate, tmp_path: Path) -> None:
    done = ablate("check", faulty(more=", stepps: 3"))
    assert done.returncode == 2
    assert done.stderr == ablate("plan", tmp_path / "faulty.yaml").stderr


def test_an_interrupted_check_leaves_nothing(
    faulty: Faulty, start_ablate: StartAblate, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    study = faulty(more=", steps: 2, seconds_per_step: 1000")
    process = start_ablate("check", study, TMPDIR=str(scratch))
    wait_for(lambda: list(scratch.glob("*/*/work")))
    (training,) = children(process.pid)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert not list(scratch.iterdir())
    assert not Path(f"/proc/{training}").exists()


def test_no_training_outlives_a_check_that_is_killed(
    faulty: Faulty, start_ablate: StartAblate, tmp_path: Path
) -> None:
    process = start_ablate("check", faulty(more=", steps: 2, seconds_per_step: 1000"), TMPDIR=str(tmp_path))
    wait_for(lambda: list(tmp_path.glob("*/*/work")))
    (training,) = children(process.pid)
    process.kill()
    wait_for(lambda: not Path(f"/proc/{training}/exe").exists())
