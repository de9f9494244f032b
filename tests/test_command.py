"""`trainer: ablate.command`: a program gets its settings, and its results become a trial's."""

import json
import sys

import pytest
from programs import DONE, workdirs, write_program

ECHO = '(workdir / "argv.json").write_text(json.dumps(sys.argv[1:]))' + DONE


@pytest.fixture
def arguments(run_here, tmp_path):
    """Run a study of one program; return the arguments of each trial."""

    def call(**study):
        document = run_here(write_program(tmp_path, ECHO, **study))
        assert document["complete"] == document["planned"], document["trials"]
        return sorted(json.loads((folder / "argv.json").read_text()) for folder in workdirs(tmp_path))

    return call


def after_python(*words):
    return [sys.executable, "train.py", *words]


def test_a_program_gets_the_levels_and_the_seed(arguments):
    given = arguments(command=after_python("--lr", "{lr}", "--seed", "{seed}"), seeds="[7, 8]")
    assert given == sorted([["--lr", lr, "--seed", seed] for lr in ("0.1", "0.01") for seed in ("7", "8")])


def test_the_rest_of_the_settings_becomes_options(arguments):
    settings = {"epochs": 3, "optimizer": {"name": "adam w", "betas": [0.9, 0.999]}, "amp": True, "tag": None}
    (given, _) = arguments(command=after_python("{lr}", "{args}"), settings=settings)
    options = "--epochs 3 --optimizer.name|adam w|--optimizer.betas 0.9 0.999 --amp true"
    assert given[1:] == [
        word for part in options.split("|") for word in ([part] if part == "adam w" else part.split())
    ]
