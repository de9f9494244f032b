"""`ablate init NAME --script train.py`: a study of a script's options, read from its source."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Ablate

from ablate.errors import BadInput
from ablate.spec.model import StudySpec
from ablate.spec.reading import parse_study
from ablate.spec.script import study_of_script

Study = Callable[[str], tuple[StudySpec, list[str]]]
EXAMPLE = Path(__file__).parent.parent / "docs" / "examples" / "argparse_script.py"


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Return the study of a script, and what is to be filled in."""

    def call(source: str) -> tuple[StudySpec, list[str]]:
        (tmp_path / "train.py").write_text(source)
        text, fill_in = study_of_script("mine", tmp_path / "train.py")
        return parse_study(text), fill_in

    return call


def levels(spec: StudySpec) -> dict[str, list[Any]]:
    return {factor.name: [level.name for level in factor.levels] for factor in spec.factors}


def test_options_of_argparse_become_settings_with_their_defaults() -> None:
    text, fill_in = study_of_script("rings", EXAMPLE)
    spec = parse_study(text)
    assert spec.settings["command"][1:] == [str(EXAMPLE), "--seed", "{seed}", "{args}"]
    assert {name: spec.settings[name] for name in ("width", "lr", "steps")} == {
        "width": 4,
        "lr": 0.5,
        "steps": 300,
    }
    assert levels(spec) == {"activation": ["tanh", "relu"]}
    assert (spec.metric.name, fill_in) == ("accuracy", [])


def test_a_study_of_a_script_runs_as_it_is_written(ablate: Ablate, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(EXAMPLE.read_text())
    environment = {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    wrote = ablate("init", "mine", "--script", "train.py", **environment)
    assert wrote.stdout == "wrote mine.yaml; next: ablate plan mine.yaml\n"
    done = ablate("run", "mine.yaml", "--limit", "1", **environment)
    assert done.returncode == 0, done.stderr


CLICK = """
import click
@click.command()
@click.option("--batch-size", "-b", default=8)
@click.option("--lr", default=0.1, help="the step: small")
@click.option("--amp/--no-amp", default=False)
@click.option("--data", required=True)
@click.argument("folder")
def main(**options): raise SystemExit("it ran")
main()
"""
TYPER = """
import typer
from typing import Annotated
from pathlib import Path
app = typer.Typer()
@app.command()
def main(data: str, folder: Annotated[Path, typer.Argument()], batch_size: int = 8,
         lr: Annotated[float, typer.Option(help="the step: small")] = 0.1, amp: bool = False,
         random_state: int = typer.Option(0, "--seed")): raise SystemExit("it ran")
app()
"""


@pytest.mark.parametrize(
    ("source", "command", "fill_in"),
    [
        (CLICK, ["{folder}", "{args}"], ["data", "folder"]),
        (TYPER, ["{data}", "{folder}", "--seed", "{seed}", "{args}"], ["data", "folder"]),
    ],
    ids=["click", "typer"],
)
def test_options_of_click_and_typer_become_settings(
    study: Study, source: str, command: list[str], fill_in: list[str]
) -> None:
    spec, missing = study(source)
    assert spec.settings["command"][2:] == command
    assert spec.settings["batch-size"] == 8
    assert levels(spec) == {"lr": [0.1, 0.01]}
    assert "amp" not in spec.settings
    assert missing == fill_in


@pytest.mark.parametrize(
    ("source", "said"), [("def x(:", r"train.py:1: not Python"), ("print(1)", "declares no options")]
)
def test_a_script_without_options_is_refused(study: Study, source: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        study(source)
