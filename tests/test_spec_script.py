"""`ablate init NAME --script train.py`: a study of a script's options, read from its source."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Ablate
from pydantic import ValidationError

from ablate.command.settings import EVERYTHING, OF_TRIAL, Settings, Trial
from ablate.errors import BadInput
from ablate.spec.model import StudySpec
from ablate.spec.reading import parse_study
from ablate.spec.script import study_of_script
from ablate.spec.script_options import RESERVED

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


OUTPUTS = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--out", default="results")
parser.add_argument("--save_path", default="weights/best.pt")
parser.add_argument("--log_dir")
"""


def test_what_a_script_writes_goes_to_the_folder_of_its_trial(study: Study) -> None:
    settings = study(OUTPUTS)[0].settings
    written = {"out": "{workdir}", "save_path": "{workdir}/best.pt", "log_dir": "{workdir}"}
    assert {name: settings[name] for name in written} == written


def test_a_script_without_an_option_for_the_seed_is_pointed_to_the_variable(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(OUTPUTS)
    assert "let the script read ABLATE_SEED" in study_of_script("s", tmp_path / "train.py")[0]
    (tmp_path / "train.py").write_text(f'{OUTPUTS}parser.add_argument("--seed", type=int)')
    assert "ABLATE_SEED" not in study_of_script("s", tmp_path / "train.py")[0]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def x(:", r"train.py:1: not Python"),
        ("print(1)", "declares no options"),
        ('import argparse\nargparse.ArgumentParser().add_argument("--seed", type=int)', "could vary"),
        (
            'train = parser.add_subparsers().add_parser("train")\ntrain.add_argument("--lr")',
            "line 1: subcommands",
        ),
        (
            "@click.group()\ndef main():\n    pass\n@main.command()\n@click.option('--lr')\ndef fit(lr):\n    pass",
            "line 1",
        ),
        (
            "@app.command()\ndef fit(lr: float = .1):\n    pass\n@app.command()\ndef test(n: int = 2):\n    pass",
            "line 4",
        ),
    ],
)
def test_a_script_without_options_is_refused(study: Study, source: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        study(source)


EVERY_KIND_OF_ARGPARSE = """
import argparse, json
from pathlib import Path
parser = argparse.ArgumentParser()
parser.add_argument("-v", "--verbose", action="count", default=0)
parser.add_argument("--level", action="count", default=2)
parser.add_argument("--tag", action="append", default=["a"])
parser.add_argument("--more", action="extend", nargs="+", default=["x"])
parser.add_argument("--fast", action="store_const", const=7, default=3)
parser.add_argument("--add", action="append_const", const=7, dest="added")
parser.add_argument("--opt", nargs="?", const=5, default=4, type=int)
parser.add_argument("--cache", action=argparse.BooleanOptionalAction, default=True)
parser.add_argument("--no-shuffle", dest="shuffle", action="store_false")
parser.add_argument("--betas", nargs=2, type=float, default=[0.9, 0.999])
parser.add_argument("--files", nargs="*", default=[])
parser.add_argument("--some", nargs="+", default=[])
parser.add_argument("--pair", nargs=2, type=int, default=[1, 2])
parser.add_argument("--wide", nargs="+", type=int, default=64)
parser.add_argument("--layers", type=int, choices=[1, 2, 4], default=2)
parser.add_argument("--depth", type=int, choices=range(1, 5), default=3)
parser.add_argument("--words", type=Path, default=Path("words"))
parser.add_argument("--in", type=Path, default="in")
parser.add_argument("--steps", type=int, default=10000.0)
parser.add_argument("--untyped", default=5)
parser.add_argument("--yes", type=bool, default=False)
parser.add_argument("--str2bool", type=lambda x: x == "true", default=True)
parser.add_argument("--dict", type=json.loads, default={"a": 1})
parser.add_argument("--neg", type=float, default=-1.0)
parser.add_argument("--dash", default="-x")
parser.add_argument("--big", type=int, default=100000000000000000000)
parser.add_argument("--inf", type=float, default=1e999)
parser.add_argument("--tmpl", default="m-{seed}.pt")
parser.add_argument("--config", default="c.yaml")
parser.add_argument("--device", default="cuda")
parser.add_argument("--gpus", type=int, default=2)
parser.add_argument("--command", default="train")
parser.add_argument("--a.b", type=int, default=2)
parser.add_argument("--1st", type=int, default=2)
parser.add_argument("--odd", choices=["a", "b"], default="c")
parser.add_argument("--empty", default="")
parser.add_argument("--none", default=None, type=float)
parser.add_argument("-lr", type=float, default=0.1)
parser.add_argument("-q", action="store_true")
parser.add_argument("--version", action="version", version="1")
parser.add_argument("--seed", type=int, default=0)
group = parser.add_mutually_exclusive_group()
group.add_argument("--adam", type=float, default=0.5)
group.add_argument("--sgd", type=float, default=0.5)
print(json.dumps(vars(parser.parse_args()), default=str))
"""
SET_DEFAULTS = """
import argparse, json
parser = argparse.ArgumentParser()
parser.set_defaults(early=0.3, own=0.5)
parser.add_argument("--early", type=float)
parser.add_argument("--own", type=float, default=0.1)
parser.add_argument("--late", type=float, default=0.2)
parser.add_argument("--w-d", type=float, dest="decay")
parser.add_argument("--seed", type=int, default=0)
parser.set_defaults(late=0.4, decay=0.25)
print(json.dumps(vars(parser.parse_args())))
"""
SET_BY_A_FILE = """
import argparse, json
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--seed", type=int, default=0)
parser.set_defaults(**{"l" + "r": 0.2})
print(json.dumps(vars(parser.parse_args())))
"""
EVERY_KIND_OF_CLICK = """
import json
import click
@click.command()
@click.option("--tag", multiple=True, default=["a"])
@click.option("-v", "--verbose", count=True)
@click.option("--cache/--no-cache", default=True)
@click.option("--loud", " /-S", is_flag=True, default=True)
@click.option("--mode", flag_value="x")
@click.option("--pair", nargs=2, type=int, default=(1, 2))
@click.option("--two", type=(int, str), default=(1, "a"))
@click.option("--depth", type=click.IntRange(1, 5), default=3)
@click.option("--level", type=click.Choice(["1", "2"]), default="2")
@click.option("--bool", default=False, type=bool)
@click.option("--config", type=click.Path(), default="c.yaml")
@click.option("--steps", default=8, show_default=True)
@click.option("-n", default=2)
@click.option("--gpus", default=1)
@click.option("--none", type=float)
@click.option("--seed", default=0)
@click.argument("files", nargs=-1)
def main(**options):
    print(json.dumps(options))
main()
"""
EVERY_KIND_OF_TYPER = """
import json
from enum import Enum
from pathlib import Path
from typing import Annotated, List, Optional
import typer
app = typer.Typer()
class Act(str, Enum):
    a = "a"
    b = "b"
@app.command()
def main(ctx: typer.Context, cache: bool = True, force: Annotated[bool, typer.Option("--force")] = False,
         names: List[str] = [], tags: List[str] = ["x"], pair: tuple[int, int] = (1, 2), words: Path = Path("words"),
         act: Act = Act.a, none: Optional[float] = None, depth: Annotated[int, typer.Option(min=1, max=5)] = 3,
         verbose: Annotated[int, typer.Option("-v", "--verbose", count=True)] = 0,
         lr: Optional[float] = 0.1, gpus: int = 1, files: Annotated[Optional[List[str]], typer.Argument()] = None,
         made: List[str] = typer.Option(default_factory=list), steps: int = 10000, seed: int = 0):
    del ctx
    print(json.dumps({k: str(v) for k, v in locals().items()}))
app()
"""
ONLY_FLAGS = """
import argparse, json
parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int)
parser.add_argument("--cache", action=argparse.BooleanOptionalAction, default=True)
print(json.dumps(vars(parser.parse_args())))
"""


def options_of(script: Path, words: list[str]) -> dict[str, Any]:
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    options: dict[str, Any] = json.loads(done.stdout)
    return {name: value for name, value in options.items() if name not in ("seed", "device")}


def arguments(spec: StudySpec, level: int) -> list[str]:
    """Return what the script gets, without the interpreter and the script."""
    settings = {**spec.settings, **spec.factors[0].levels[level].settings}
    return Settings(**settings).arguments(Trial(seed=3))[2:]


@pytest.mark.parametrize(
    "source",
    [EVERY_KIND_OF_ARGPARSE, EVERY_KIND_OF_CLICK, EVERY_KIND_OF_TYPER, ONLY_FLAGS, SET_DEFAULTS],
    ids=["argparse", "click", "typer", "only_flags", "set_defaults"],
)
def test_the_baseline_is_what_the_script_does_without_arguments(
    study: Study, tmp_path: Path, source: str
) -> None:
    spec, fill_in = study(source)
    script = tmp_path / "train.py"
    by_itself = options_of(script, [])
    assert options_of(script, arguments(spec, 0)) == by_itself
    for level in range(1, len(spec.factors[0].levels)):
        got = options_of(script, arguments(spec, level))
        assert [name for name in got if got[name] != by_itself[name]] == [spec.factors[0].name]
    assert fill_in == []


REQUIRED = """
import argparse, json
parser = argparse.ArgumentParser()
parser.add_argument("config")
parser.add_argument("pair", nargs=2)
parser.add_argument("seed", type=int)
parser.add_argument("more", nargs="+")
parser.add_argument("last", nargs="?")
parser.add_argument("--data", required=True)
parser.add_argument("--both", required=True, nargs=2)
parser.add_argument("--tag", required=True, action="append")
parser.add_argument("-x", required=True)
parser.add_argument("--on", action="store_true")
print(json.dumps(vars(parser.parse_args())))
"""


def test_what_a_script_requires_is_to_be_filled_in_and_then_reaches_it(study: Study, tmp_path: Path) -> None:
    spec, fill_in = study(REQUIRED)
    assert fill_in == ["config", "pair", "more", "data", "both", "tag", "x"]
    with pytest.raises(ValidationError, match="left this for you to fill in"):
        arguments(spec, 1)
    filled = spec.model_copy(
        update={
            "settings": {
                name: json.loads(json.dumps(value).replace("FILL_IN", "v"))
                for name, value in spec.settings.items()
            }
        }
    )
    assert options_of(tmp_path / "train.py", arguments(filled, 1)) == {
        "config": "v",
        "pair": ["v", "v"],
        "more": ["v"],
        "last": None,
        "data": "v",
        "both": ["v", "v"],
        "tag": ["v"],
        "x": "v",
        "on": True,
    }


def test_a_default_that_may_be_set_elsewhere_is_to_be_filled_in(study: Study) -> None:
    assert study(SET_BY_A_FILE)[1] == ["lr"]


def test_an_option_for_text_keeps_its_default_as_the_baseline(study: Study) -> None:
    spec, fill_in = study('parser.add_argument("--encoder", default="small")')
    assert spec.baseline == {"encoder": "small"}
    assert fill_in == ["encoder"]


def test_what_cannot_be_passed_is_left_out_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(EVERY_KIND_OF_ARGPARSE)
    text, _ = study_of_script("mine", tmp_path / "train.py")
    for line in (
        "# tag: ...     # left out: it may be given several times, a setting only once",
        "# untyped: ...     # left out: the script would get its default as another type",
        "# odd: ...     # left out: its default is none of its choices",
        "# wide: ...     # left out: its default is one value, but it takes a list",
        "# big: ...     # left out: its default is neither text nor a number between -2^63 and 2^63",
        "# sgd: ...     # left out: it excludes other options",
        '#   cache: {levels: {on: {cache: "--cache"}, off: {cache: "--no-cache"}}}',
    ):
        assert f"  {line}\n" in text


def test_the_names_that_a_command_reserves_are_known() -> None:
    assert {*Settings.model_fields, *EVERYTHING, *OF_TRIAL} - {"config.yaml"} == {*RESERVED}
