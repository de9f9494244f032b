"""Finding and importing a trainer: what lies beside it, what is installed, and modules that behave like scripts."""

import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pytest
from fixture_types import WalkStudy, not_none

from ablate.contract import load_trainer
from ablate.errors import BadInput

SOUND = "from pydantic import BaseModel\nclass Settings(BaseModel): ...\ndef train(settings, context): ...\n"


@pytest.fixture(autouse=True)
def own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


def written(folder: Path, name: str, text: str) -> str:
    (folder / f"{name}.py").write_text(text)
    return name


def test_an_installed_trainer_finds_installed_packages(tmp_path: Path) -> None:
    written(tmp_path, "datasets", "a user's own")
    load_trainer("ablate.trainer", tmp_path)
    assert not_none(PathFinder.find_spec("datasets")).origin != str(tmp_path / "datasets.py")


def test_a_trainer_beside_the_study_finds_its_helpers_first(tmp_path: Path) -> None:
    written(tmp_path, "datasets", "a user's own")
    load_trainer(written(tmp_path, "trainer_with_helpers", SOUND), tmp_path)
    assert not_none(PathFinder.find_spec("datasets")).origin == str(tmp_path / "datasets.py")


def test_a_trainer_in_a_package_beside_the_study_is_found(tmp_path: Path) -> None:
    (tmp_path / "trainers_of_mine").mkdir()
    written(tmp_path / "trainers_of_mine", "first", SOUND)
    assert load_trainer("trainers_of_mine.first", tmp_path).name == "trainers_of_mine.first"


def test_a_trainer_that_exits_is_named(tmp_path: Path) -> None:
    name = written(tmp_path, "trainer_that_exits", "import sys\nsys.exit(0)\n")
    with pytest.raises(BadInput, match=r"trainer_that_exits calls exit \(0\) when it is imported"):
        load_trainer(name, tmp_path)


def test_a_check_that_exits_is_named(tmp_path: Path) -> None:
    name = written(tmp_path, "trainer_whose_check_exits", f"{SOUND}def check(settings): exit(3)\n")
    with pytest.raises(BadInput, match=r"trainer_whose_check_exits.check: called exit \(3\)"):
        load_trainer(name, tmp_path).check(None)


PRINTS = f"""\
{SOUND}
print("imported")
def check(settings): print("checked")
def parts(settings): print("parted"); return {{}}
def smoke(settings): print("shrunk")
"""


def test_what_a_trainer_prints_is_no_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = load_trainer(written(tmp_path, "trainer_that_prints", PRINTS), tmp_path)
    for function in (trainer.check, trainer.parts, trainer.smoke):
        not_none(function)(None)
    assert capsys.readouterr() == ("", "imported\nchecked\nparted\nshrunk\n")


def test_workers_do_not_import_what_lies_in_the_working_directory(
    walk_study: WalkStudy, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    written(elsewhere, "safetensors", "raise RuntimeError('a user's own')")
    words = ["run", str(walk_study(seeds="[1]")), "--limit", "1"]
    done = subprocess.run([sys.executable, "-P", "-m", "ablate", *words], cwd=elsewhere, capture_output=True)
    assert done.returncode == 0, done.stderr
