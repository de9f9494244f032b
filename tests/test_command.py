"""`trainer: ablate.command`: a program gets its settings, and its results become a trial's."""

import json
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Ablate, RunHere
from programs import DONE, workdirs, write_program

from ablate.errors import BadInput

ECHO = '(workdir / "argv.json").write_text(json.dumps(sys.argv[1:]))' + DONE


@pytest.fixture
def arguments(run_here: RunHere, tmp_path: Path) -> Callable[..., list[list[str]]]:
    """Run a study of one program; return the arguments of each trial."""

    def call(**study: Any) -> list[list[str]]:
        document = run_here(write_program(tmp_path, ECHO, **study))
        assert document["complete"] == document["planned"], document["trials"]
        return sorted(json.loads((folder / "argv.json").read_text()) for folder in workdirs(tmp_path))

    return call


def after_python(*words: str) -> list[str]:
    return [sys.executable, "train.py", *words]


def test_a_program_gets_the_levels_and_the_seed(arguments: Callable[..., list[list[str]]]) -> None:
    given = arguments(command=after_python("--lr", "{lr}", "--seed", "{seed}"), seeds="[7, 8]")
    assert given == sorted([["--lr", lr, "--seed", seed] for lr in ("0.1", "0.01") for seed in ("7", "8")])


def test_the_rest_of_the_settings_becomes_options(arguments: Callable[..., list[list[str]]]) -> None:
    settings = {"epochs": 3, "optimizer": {"name": "adam w", "betas": [0.9, 0.999]}, "amp": True, "tag": None}
    (given, _) = arguments(command=after_python("{lr}", "{args}"), settings=settings)
    options = "--epochs 3 --optimizer.name|adam w|--optimizer.betas 0.9 0.999 --amp true"
    assert given[1:] == [
        word for part in options.split("|") for word in ([part] if part == "adam w" else part.split())
    ]


def refusal(run_here: RunHere, study: Path) -> list[str]:
    with pytest.raises(BadInput) as refused:
        run_here(study)
    assert not (study.parent / "runs").exists()
    return [fault.removeprefix(str(study)) for fault in refused.value.faults]


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        ([], "empty; write the program and its arguments"),
        ("", "empty; write the program and its arguments"),
        (["{lr", "x"], "a lone brace in '{lr'; write {{ or }} for a brace itself"),
        (
            [sys.executable, "train.py", "{lrs}", "{lr}"],
            "unknown placeholder {lrs} in '{lrs}'; did you mean 'lr'?",
        ),
        ([sys.executable, "train.py", "{}", "{lr}"], "unknown placeholder {} in '{}'; known: lr, "),
        (
            [sys.executable, "train.py", "x{args}"],
            "{args} becomes several arguments, found 'x{args}'; let it stand alone",
        ),
        ("python 'train.py", "no closing quotation; close the quote, or write the command as a list"),
        ([sys.executable, {"lr": None}], 'found {"lr": null}; put quotes around a placeholder: "{lr}"'),
        (
            ["no_such_program", "{args}"],
            "no program 'no_such_program' on the PATH; install it, or write its path",
        ),
        (
            ["train.py", "{args}"],
            "no program 'train.py' on the PATH; write ./train.py for the file beside the study",
        ),
        (["./train.py", "{args}"], "the program './train.py' cannot be executed; try chmod +x"),
        (["bin/train", "{args}"], "the program 'bin/train' is not there (paths start at the study file)"),
        (
            [sys.executable, "-u", "trian.py", "{args}"],
            "no script 'trian.py' (paths start at the study file)",
        ),
    ],
)
def test_a_command_that_cannot_work_is_refused_at_its_place(
    run_here: RunHere, tmp_path: Path, command: str, fault: str
) -> None:
    (found,) = refusal(run_here, write_program(tmp_path, command=command))
    assert found.startswith(f":4:3: settings.command: {fault}")


def test_a_setting_that_never_reaches_the_program_is_refused_at_its_place(
    run_here: RunHere, tmp_path: Path
) -> None:
    study = write_program(tmp_path, command=after_python("{lr}"), settings={"epochs": 3, "adam": {"eps": 1}})
    assert refusal(run_here, study) == [
        ":5:3: settings.epochs: never reaches the program; put {epochs}, {args} or {config} into the command",
        ":6:10: settings.adam.eps: never reaches the program; put {adam.eps}, {args} or {config} into the command",
    ]


def test_a_factor_that_never_reaches_the_program_is_refused_at_its_place(
    run_here: RunHere, tmp_path: Path
) -> None:
    study = write_program(tmp_path, command=after_python())
    assert [fault.split(": ")[1:] for fault in refusal(run_here, study)] == [
        ["factors.lr", "never reaches the program; put {lr}, {args} or {config} into the command"]
    ] * 2


def test_a_setting_with_the_name_of_a_placeholder_is_refused(run_here: RunHere, tmp_path: Path) -> None:
    study = write_program(tmp_path, settings={"seed": 3})
    assert refusal(run_here, study) == [
        ":5:3: settings.seed: {seed} is ours in a command; give the setting another name"
    ]


def test_more_gpus_than_there_are_are_refused_at_their_place(ablate: Ablate, tmp_path: Path) -> None:
    study = write_program(tmp_path, settings={"gpus": 4})
    done = ablate("run", study, CUDA_VISIBLE_DEVICES="0,1")
    assert (done.returncode, done.stderr) == (
        2,
        f"{study}:5:3: gpus: asks for 4; this machine has 2 (CUDA_VISIBLE_DEVICES may name some of them)\n",
    )


def test_more_workers_than_the_gpus_are_enough_for_are_refused(ablate: Ablate, tmp_path: Path) -> None:
    study = write_program(tmp_path, settings={"gpus": 2})
    done = ablate("run", study, "--workers", "2", CUDA_VISIBLE_DEVICES="0,1,2")
    assert done.returncode == 2
    assert "--workers: 2 workers with 2 GPUs each need 4; this machine has 3" in done.stderr


def test_workers_share_the_gpus_by_what_a_program_asks_for(ablate: Ablate, tmp_path: Path) -> None:
    # Each waits for the other, so that both workers have one.
    script = """
(workdir / "gpus").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
while len(list(workdir.parent.glob("*/gpus"))) < 2: time.sleep(0.05)
"""
    study = write_program(tmp_path, script + DONE, settings={"gpus": 2})
    done = ablate("run", study, "--workers", "2", CUDA_VISIBLE_DEVICES="3,5,6,7,8")
    assert done.returncode == 0, done.stderr
    assert {(folder / "gpus").read_text() for folder in workdirs(tmp_path)} == {"3,5", "6,7"}


EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"


@pytest.mark.parametrize(
    ("name", "metric", "lower", "higher"),
    [
        ("argparse_script", "accuracy", {"width": 2}, {"width": 8}),
        ("yaml_script", "dev/mse", {"model.degree": 3}, {"model.degree": 1}),
    ],
)
def test_a_script_that_knows_nothing_of_ablate_runs_unchanged(
    run_here: RunHere,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    metric: str,
    lower: dict[str, int],
    higher: dict[str, int],
) -> None:
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    document = run_here(EXAMPLES / f"{name}.yaml")
    assert document["complete"] == document["planned"] > 0

    def mean(levels: dict[str, int]) -> float:
        matching = [trial for trial in document["trials"] if levels.items() <= trial["factors"].items()]
        return statistics.fmean(trial["metrics"][metric] for trial in matching)

    assert mean(higher) > mean(lower) + 0.01
