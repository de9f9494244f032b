"""`trainer: ablate.command`: a program gets its settings, and its results become a trial's."""

import json
import os
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixture_types import Ablate, RunHere
from programs import DONE, workdirs, write_program
from ruamel.yaml import YAML

from ablate.errors import BadInput

Levels = dict[str, object]
Arguments = Callable[..., list[list[str]]]
ECHO = '(workdir / "argv.json").write_text(json.dumps(sys.argv[1:]))' + DONE


@pytest.fixture
def arguments(run_here: RunHere, tmp_path: Path) -> Arguments:
    """Run a study of one program; return the arguments of each trial."""

    def call(**study: Any) -> list[list[str]]:
        document = run_here(write_program(tmp_path, ECHO, **study))
        assert document["complete"] == document["planned"], document["trials"]
        return sorted(json.loads((folder / "argv.json").read_text()) for folder in workdirs(tmp_path))

    return call


def after_python(*words: str) -> list[str]:
    return [sys.executable, "train.py", *words]


def test_a_program_gets_the_levels_and_the_seed(arguments: Arguments) -> None:
    given = arguments(command=after_python("--lr", "{lr}", "--seed", "{seed}"), seeds="[7, 8]")
    assert given == sorted([["--lr", lr, "--seed", seed] for lr in ("0.1", "0.01") for seed in ("7", "8")])


def test_the_rest_of_the_settings_becomes_options(arguments: Arguments) -> None:
    settings = {"epochs": 3, "optimizer": {"name": "adam w", "betas": [0.9, 0.999]}, "amp": True, "tag": None}
    (given, _) = arguments(command=after_python("{lr}", "{args}"), settings=settings)
    options = "--epochs 3 --optimizer.name|adam w|--optimizer.betas 0.9 0.999 --amp true"
    assert given[1:] == [
        word for part in options.split("|") for word in ([part] if part == "adam w" else part.split())
    ]


def test_the_rest_of_the_settings_becomes_overrides(arguments: Arguments) -> None:
    settings = {"epochs": 3, "optimizer": {"name": "adam w", "betas": [0.9, 0.999]}, "amp": True, "tag": None}
    (given, _) = arguments(command=after_python("lr={lr}", "{overrides}"), settings=settings)
    assert given[1:] == ["epochs=3", "optimizer.name=adam w", "optimizer.betas=[0.9, 0.999]", "amp=true"]


def test_placeholders_stand_for_values_as_a_study_file_writes_them(arguments: Arguments) -> None:
    settings = {
        "model": {"layers": [1, 2], "name": "a b"},
        "amp": True,
        "tag": None,
        "flag": None,
        "quote": "'{x}\"",
    }
    words = [
        "{model.name}",
        "{model}",
        "{amp}",
        "t={tag}",
        "{flag}",
        "{quote}",
        "{{x}}",
        "{gpus}",
        3,
        False,
        "{lr}",
    ]
    (given, _) = arguments(command=[*after_python(), *words], settings=settings)
    assert given[:-1] == [
        "a b",
        '{"layers": [1, 2], "name": "a b"}',
        "true",
        "t=null",
        "'{x}\"",
        "{x}",
        "1",
        "3",
        "false",
    ]


def test_a_text_is_split_as_a_shell_would_and_no_shell_reads_it(arguments: Arguments) -> None:
    (given, _) = arguments(command=f"{sys.executable} train.py 'a b' --lr={{lr}} \\$HOME '*'")
    assert given == ["a b", "--lr=0.01", "$HOME", "*"]


def test_the_largest_seed_reaches_the_program_as_it_is(arguments: Arguments) -> None:
    command, seed = after_python("{seed}", "{x}", "{lr}"), 2**32 - 1
    for given in arguments(command=command, settings={"x": "{seed}"}, seeds=f"[{seed}]"):
        assert given[:2] == [str(seed)] * 2


def test_a_command_may_be_a_factor(run_here: RunHere, tmp_path: Path) -> None:
    study = write_program(tmp_path, ECHO)
    commands = [f"{sys.executable} train.py {word}" for word in "ab"]
    text = study.read_text().replace("  lr: [0.1, 0.01]", f"  command: {json.dumps(commands)}")
    text = text.replace("{lr: 0.1}", json.dumps({"command": commands[0]}))
    study.write_text(re.sub(r"settings:\n  command: .*\n", "", text))
    assert run_here(study)["complete"] == 2
    assert sorted(json.loads((folder / "argv.json").read_text()) for folder in workdirs(tmp_path)) == [
        ["a"],
        ["b"],
    ]


NASTY = {
    "step": 1e-05,
    "big": 1e22,
    "words": ["yes", "off", "010", "1e5", "~", "a: b # c", "é😀", "'\"", ""],
    "on": {"no": None, "y": False, "empty": {}, "none": []},
    "out": "{workdir}/x",
    "random_state": "{seed}",
    "prompt": "{question} {args}",
}


def test_the_files_of_settings_say_the_same_to_every_reader(run_here: RunHere, tmp_path: Path) -> None:
    command = after_python("{config}", "{config.yaml}")
    run_here(write_program(tmp_path, ECHO, command=command, settings=NASTY, lr=[0.5, 1]), limit=1)
    (folder,) = workdirs(tmp_path)
    assert json.loads((folder / "argv.json").read_text()) == [
        str(folder / "settings.json"),
        str(folder / "settings.yaml"),
    ]
    as_json = json.loads((folder / "settings.json").read_text())
    as_yaml = (folder / "settings.yaml").read_text()
    filled = {"out": f"{folder}/x", "random_state": 1}
    assert as_json == {**NASTY, **filled, "lr": as_json["lr"]}
    assert yaml.safe_load(as_yaml) == as_json
    assert YAML(typ="safe").load(as_yaml) == as_json


def test_the_environment_says_what_the_trial_is(ablate: Ablate, tmp_path: Path) -> None:
    script = '(workdir / "environment.json").write_text(json.dumps({**os.environ, "cwd": os.getcwd()}))'
    study = write_program(tmp_path, script + DONE, seeds="[7]")
    url = f"sqlite:///{tmp_path}/elsewhere.db"
    assert (
        ablate("run", study, "--limit", "1", ABLATE_STORAGE=url, CUDA_VISIBLE_DEVICES="4,5").returncode == 0
    )
    (folder,) = workdirs(tmp_path)
    found = json.loads((folder / "environment.json").read_text())
    # By this word the worker finds whatever the program leaves running.
    assert found.pop("ABLATE_WORKER")
    assert {
        name: value for name, value in found.items() if name.startswith("ABLATE_") and "TEST" not in name
    } == {
        "ABLATE_SEED": "7",
        "ABLATE_WORKDIR": str(folder),
        "ABLATE_SETTINGS": str(folder / "settings.json"),
        "ABLATE_ATTEMPT": "1",
    }
    assert (found["CUDA_VISIBLE_DEVICES"], found["cwd"]) == ("4", str(tmp_path))


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
        (["{lr", "x"], "a lone brace in '{lr'; write {{ or }} for a literal brace"),
        (
            [sys.executable, "train.py", "{lrs}", "{lr}"],
            "unknown placeholder {lrs} in '{lrs}'; did you mean 'lr'?",
        ),
        ([sys.executable, "train.py", "{}", "{lr}"], "unknown placeholder {} in '{}'; known: lr, "),
        (
            [sys.executable, "train.py", "x{args}"],
            "{args} becomes several arguments, found 'x{args}'; make it a separate argument",
        ),
        (
            [sys.executable, "train.py", "x={overrides}"],
            "{overrides} becomes several arguments, found 'x={overrides}'; make it a separate argument",
        ),
        ("python 'train.py", "no closing quotation; close the quote, or write the command as a list"),
        (
            ["no_such_program", "{args}"],
            "no program 'no_such_program' on the PATH; install it, or write its path",
        ),
        (
            ["train.py", "{args}"],
            "no program 'train.py' on the PATH; write ./train.py for the file next to the study",
        ),
        (["./train.py", "{args}"], "the program './train.py' cannot be executed; try chmod +x"),
        (["./folder", "{args}"], "the program './folder' is not a file"),
        (["./windows.sh", "{args}"], "the program './windows.sh' has Windows line ends (CR LF)"),
        (
            ["bin/train", "{args}"],
            "the program 'bin/train' does not exist (paths are relative to the study file)",
        ),
        (
            [sys.executable, "-u", "trian.py", "{args}"],
            "no script 'trian.py' (paths are relative to the study file)",
        ),
    ],
)
def test_a_command_that_cannot_work_is_refused_at_its_place(
    run_here: RunHere, tmp_path: Path, command: object, fault: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "windows.sh").write_text("#!/bin/sh\r\n")
    (tmp_path / "windows.sh").chmod(0o755)
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
        ":5:3: settings.seed: {seed} is reserved in a command; rename the setting"
    ]


def test_more_gpus_than_there_are_are_refused_at_their_place(ablate: Ablate, tmp_path: Path) -> None:
    study = write_program(tmp_path, settings={"gpus": 4})
    done = ablate("run", study, CUDA_VISIBLE_DEVICES="0,1")
    assert (done.returncode, done.stderr) == (
        2,
        f"{study}:5:3: gpus: asks for 4, and this machine has 2; ask for fewer, or name more in CUDA_VISIBLE_DEVICES\n",
    )


def test_more_workers_than_the_gpus_are_enough_for_are_refused(ablate: Ablate, tmp_path: Path) -> None:
    study = write_program(tmp_path, settings={"gpus": 2})
    done = ablate("run", study, "--workers", "2", CUDA_VISIBLE_DEVICES="0,1,2")
    assert done.returncode == 2
    assert "--workers: 2 workers with 2 GPUs each need 4, and this machine has 3; start fewer" in done.stderr


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


def test_nothing_is_advised_that_a_program_cannot_do(
    run_here: RunHere, ablate: Ablate, tmp_path: Path
) -> None:
    study = write_program(tmp_path)
    assert "--measure" not in ablate("plan", study).stdout
    advice = "`ablate run STUDY --limit 1` trains one trial to estimate from"
    assert (
        ablate("plan", study, "--measure").stderr == f"--measure: ablate.command has no `measure`; {advice}\n"
    )
    run_here(study)
    assert "let your program score it once" in ablate("test", "program").stderr


EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"


@pytest.mark.parametrize(
    ("name", "metric", "lower", "higher"),
    [
        ("argparse_script", "accuracy", {"width": 2}, {"width": 8}),
        ("yaml_script", "dev/mse", {"model.degree": 3}, {"model.degree": 1}),
    ],
)
def test_a_script_that_knows_nothing_of_ablate_runs_unchanged(
    run_here: RunHere, monkeypatch: pytest.MonkeyPatch, name: str, metric: str, lower: Levels, higher: Levels
) -> None:
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    document = run_here(EXAMPLES / f"{name}.yaml")
    assert document["complete"] == document["planned"] > 0

    def mean(levels: Levels) -> float:
        matching = [trial for trial in document["trials"] if levels.items() <= trial["factors"].items()]
        return statistics.fmean(trial["metrics"][metric] for trial in matching)

    assert mean(higher) > mean(lower) + 0.01


def test_an_argument_may_be_longer_than_a_path(arguments: Arguments) -> None:
    prompts = ["short", "Think about sarcasm, negation and irony. " * 20]
    given = arguments(command=after_python("{lr}"), lr=prompts)
    assert given == sorted([[prompt] for prompt in prompts])
