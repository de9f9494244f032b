"""What a program leaves becomes a trial's metrics, curves and predictions, whatever it prints besides."""

import os
import platform
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Ablate, Json, RunHere
from programs import DONE, write_program

from ablate.store.places import place_of
from ablate.store.reading import read_results

RunTrial = Callable[..., Json]


@pytest.fixture
def trial(run_here: RunHere, tmp_path: Path) -> RunTrial:
    """Run the first trial of a study of one script; return it."""

    def call(script: str, **options: Any) -> Json:
        trial: Json = run_here(write_program(tmp_path, script), limit=1, **options)["trials"][0]
        return trial

    return call


def error(trial: Json) -> str:
    return str(trial["error"]) if trial["state"] == "FAIL" else f"no error: {trial}"


def points(tmp_path: Path) -> dict[tuple[int, str], float]:
    results = read_results(place_of("program", tmp_path / "runs"))
    found = results.points({part.part for part in results.parts.values()})
    return {(point.step, point.name): point.value for point in found}


WITH_METRICS = '(workdir / "metrics.json").write_text({text!r})'


def test_metrics_json_counts_before_what_is_printed(trial: RunTrial) -> None:
    script = WITH_METRICS.format(text='{"dev/accuracy": 0.75, "note": "x", "ok": true, "n": 3}')
    assert trial(script + DONE)["metrics"] == {"dev/accuracy": 0.75, "n": 3.0}


def test_the_last_printed_object_of_numbers_counts(trial: RunTrial) -> None:
    script = 'print(\'{"dev/accuracy": 0.1}\\n{"dev/accuracy": 0.2, "step": 7}\\n{"dev/accuracy": "best"}\\ndone\', end="")'
    assert trial(script)["metrics"] == {"dev/accuracy": 0.2}


def test_names_that_no_metric_can_have_are_left_out(trial: RunTrial) -> None:
    script = 'import json; print(json.dumps({"dev/accuracy": 0.5, "a\\u200bb": 1, "": 2, "m" * 500: 3}))'
    assert trial(script)["metrics"] == {"dev/accuracy": 0.5}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"dev/accuracy": 0.', "metrics.json: not JSON"),
        ("", "metrics.json: empty"),
        ("[0.5]", "metrics.json: no numbers in it"),
        ('{"dev/accuracy": true}', "metrics.json: no numbers in it"),
        ('{"dev/accuracy": NaN}', "metric 'dev/accuracy' is nan"),
        ('{"dev/accuracy": -Infinity}', "metric 'dev/accuracy' is -inf"),
        ('{"accuracy": 0.5}', "returned no 'dev/accuracy'; it returned accuracy"),
        ("[" * 100_000, "metrics.json: not JSON"),
    ],
)
def test_metrics_that_are_none_fail_the_trial_and_say_why(trial: RunTrial, text: str, said: str) -> None:
    assert said in error(trial(WITH_METRICS.format(text=text) + DONE))


def test_the_error_of_a_program_has_no_traceback_of_ours(trial: RunTrial, tmp_path: Path) -> None:
    assert "no numbers in it" in error(trial(WITH_METRICS.format(text="[0.5]") + DONE))
    assert [file.read_text() for file in tmp_path.glob("runs/*/trials/*/error.txt")] == [""]


def test_a_program_without_metrics_fails(trial: RunTrial) -> None:
    assert "the program ended without metrics" in error(trial("print('done')"))


def test_metrics_of_an_earlier_attempt_do_not_count(trial: RunTrial, tmp_path: Path) -> None:
    """The first attempt leaves metrics and is stopped; the second leaves none."""
    script = WITH_METRICS.format(text='{"dev/accuracy": 0.5}') + "\nos._exit(3)"
    assert "exit code 3" in error(trial(script))
    assert "without metrics" in error(trial("print('done')", retry_failed=True))


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "print('one', file=sys.stderr); print('two\\n', file=sys.stderr); sys.exit(7)",
            "ended with exit code 7: two",
        ),
        ("raise KeyError('width')", "ended with exit code 1: KeyError: 'width'"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "was killed by SIGSEGV: it printed nothing"),
        (
            "os.kill(os.getpid(), signal.SIGKILL)",
            "was killed by SIGKILL (out of memory?): it printed nothing",
        ),
        (
            "sys.stderr.buffer.write(b'10 %\\r20 %\\r\\xff\\x1b[31m'); sys.exit(1)",
            "exit code 1: \ufffd",
        ),
        ("sys.stderr.write('x' * 3_000_000 + 'y'); sys.exit(1)", "xxxy"),
        ("print('to stdout'); sys.exit(1)", "exit code 1: to stdout"),
    ],
)
def test_a_failure_names_the_code_and_the_last_line(trial: RunTrial, script: str, said: str) -> None:
    assert said in error(trial(script))


@pytest.mark.parametrize(
    "script",
    [
        "print('x' * 5_000_000, end='')\nprint()",
        "sys.stdout.buffer.write(b'\\xff\\xfe\\n'); sys.stdout.flush()",
        "print('warning', file=sys.stderr)",
        "print('{' * 200_000)",
        "print('{\"n\": ' + '9' * 10_000 + '}')",
        'print(\'{"\\\\ud800": 1, "step": 1}\')',
    ],
    ids=["no newline", "no UTF-8", "stderr", "nested", "long number", "surrogate"],
)
def test_whatever_is_printed_the_metrics_are_read(trial: RunTrial, script: str) -> None:
    assert trial(script + DONE)["metrics"] == {"dev/accuracy": 0.5}


def test_a_program_that_closes_its_streams_goes_on(trial: RunTrial) -> None:
    script = "os.close(1); os.close(2); time.sleep(0.3)\n" + WITH_METRICS.format(text='{"dev/accuracy": 0.5}')
    assert trial(script + "\nos._exit(0)")["state"] == "COMPLETE"


def test_children_that_outlive_their_program_hold_nothing_up_and_are_killed(
    trial: RunTrial, tmp_path: Path
) -> None:
    script = """
child = subprocess.Popen(["sleep", "300"])
(workdir / "child.pid").write_text(str(child.pid))
"""
    assert trial(script + DONE)["state"] == "COMPLETE"
    (note,) = tmp_path.glob("runs/program/trials/*/child.pid")
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


def test_the_memory_on_record_is_that_of_each_program(run_here: RunHere, tmp_path: Path) -> None:
    """The second runs under the same worker as the first, which is larger."""
    study = write_program(tmp_path, "much = b'x' * (int(lr * 3_000_000_000))" + DONE)
    for lr in (0.1, 0.01):
        run_here(study, only=[f"lr={lr}"])
    results = read_results(place_of("program", tmp_path / "runs"))
    peaks = {
        cell.levels["lr"]: results.parts[part.hash, seed].facts["peak_memory_bytes"]
        for cell in results.cells
        for part in cell.parts.values()
        for seed in results.spec.seeds
    }
    assert peaks[0.1] > 300_000_000
    assert 1_000_000 < peaks[0.01] < 100_000_000


@pytest.mark.parametrize(
    ("command", "recorded"),
    [
        (["env/bin/python", "train.py", "{args}"], True),
        (["env/bin/launch", "train.py", "{args}"], True),  # starts with #!, as torchrun does
        (["sh", "-c", 'env/bin/python train.py "$@"', "sh", "{args}"], False),
    ],
)
def test_the_versions_of_the_program_s_own_environment_are_on_record(
    command: list[str], recorded: bool, run_here: RunHere, tmp_path: Path
) -> None:
    venv.create(tmp_path / "env", symlinks=True)
    (packages,) = tmp_path.glob("env/lib/python*/site-packages")
    (packages / "torch-1.2.3.dist-info").mkdir()
    (packages / "torch-1.2.3.dist-info/METADATA").write_text(
        "Metadata-Version: 2.1\nName: torch\nVersion: 1.2.3\n"
    )
    launch = tmp_path / "env/bin/launch"
    launch.write_text(
        f"#!{tmp_path}/env/bin/python\nimport runpy, sys\ndel sys.argv[0]\nrunpy.run_path(sys.argv[0])\n"
    )
    launch.chmod(0o755)
    # Next to the study, and imported by nothing but the program.
    (tmp_path / "platform.py").write_text("raise SystemExit")
    assert run_here(write_program(tmp_path, command=command), limit=1)["complete"] == 1
    (part,) = read_results(place_of("program", tmp_path / "runs")).parts.values()
    assert part.facts.get("program") == (
        {"python": platform.python_version(), "torch": "1.2.3"} if recorded else None
    )


def test_the_commit_on_record_is_that_of_the_program_not_of_ablate(trial: RunTrial, tmp_path: Path) -> None:
    trial(DONE)
    (part,) = read_results(place_of("program", tmp_path / "runs")).parts.values()
    assert part.facts["git"] == "not in a git checkout"


def test_what_is_printed_goes_to_the_log(ablate: Ablate, tmp_path: Path) -> None:
    script = "print('to stdout'); print('to stderr', file=sys.stderr)" + DONE
    assert ablate("run", write_program(tmp_path, script), "--limit", "1").returncode == 0
    (log,) = tmp_path.glob("runs/program/logs/*/attempt-1.log")
    assert {"to stdout", "to stderr"} <= set(log.read_text().splitlines())


POINTS = """
file = (workdir / "points.jsonl").open("a", buffering=1)
for step in range(1, 4):
    file.write(json.dumps({"step": step, "dev/loss": 1 / step, "lr": None, "up": True})[:10])
    time.sleep(0.1)
    file.write(json.dumps({"step": step, "dev/loss": 1 / step, "lr": None, "up": True})[10:] + "\\n")
    print(json.dumps({"step": step, "train/loss": 2 / step}))
file.write('no JSON\\n{"step": -1, "dev/loss": 9}\\n{"step": 1.5, "dev/loss": 9}\\n{"dev/loss": 9}\\n')
file.write('{"step": 4, "dev/loss": NaN}\\n{"step": 5, "dev/loss": 0.2}')
"""


def test_points_that_are_printed_or_appended_become_curves(trial: RunTrial, tmp_path: Path) -> None:
    trial(POINTS + DONE)
    dev = {(step, "dev/loss"): 1 / step for step in (1, 2, 3, 5)}
    train = {(step, "train/loss"): 2 / step for step in (1, 2, 3)}
    assert points(tmp_path) == dev | train


def test_a_hopeless_program_is_stopped_by_the_pruner(run_here: RunHere, tmp_path: Path) -> None:
    script = """
for step in range(1, 50):
    print(json.dumps({"step": step, "dev/accuracy": lr}))
    time.sleep(0.01)
"""
    study = write_program(tmp_path, script + DONE, lr=[0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    text = study.read_text().replace("design: full", "design: {kind: search, sampler: random, finalists: 0}")
    study.write_text(text)
    states = [trial["state"] for trial in run_here(study)["trials"]]
    assert "PRUNED" in states


PREDICTIONS = (
    '(workdir / "predictions").mkdir()\n(workdir / "predictions/dev.accuracy.csv").write_text({text!r})'
)


def test_predictions_are_kept_per_item(trial: RunTrial, tmp_path: Path) -> None:
    trial(PREDICTIONS.format(text='id,gold,prediction,cluster\r\n"a,1",1,0.5,x\nb,0,0,y\n') + DONE)
    (file,) = tmp_path.glob("runs/program/trials/*/predictions/dev.accuracy.csv")
    assert file.read_text() == 'id,prediction,gold,cluster\n"a,1",0.5,1,x\nb,0,0,y\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,label\na,1\n", "no column prediction or gold"),
        ("id,prediction,gold\na,1\n", "dev.accuracy.csv:2: 2 fields, but 3 columns"),
        ("id,prediction,gold\na,yes,1\n", "dev.accuracy.csv:2: prediction: found 'yes'; write a number"),
        ("", "the file is empty"),
    ],
)
def test_predictions_that_cannot_be_read_fail_the_trial(trial: RunTrial, text: str, said: str) -> None:
    assert said in error(trial(PREDICTIONS.format(text=text) + DONE))
