"""What is released: the wheel and the sdist are complete, and the wheel works outside the clone."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_PYTHON = {".yaml", ".jinja", ".css", ".js", ".typed"}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the wheel and the sdist, built without a network from a copy of what a clone has."""
    clone, dist = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    shutil.copytree(ROOT / "ablate", clone / "ablate", ignore=shutil.ignore_patterns("__pycache__"))
    for kind in ("sdist", "wheel"):
        build = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
        subprocess.run([sys.executable, "-c", build, str(dist)], cwd=clone, check=True, capture_output=True)
    return dist


def package_files() -> set[str]:
    files = (file for file in (ROOT / "ablate").rglob("*") if "__pycache__" not in file.parts)
    return {str(f.relative_to(ROOT)) for f in files if f.suffix == ".py" or f.suffix in NOT_PYTHON}


def test_the_wheel_has_every_file_of_the_package(released: Path) -> None:
    [wheel] = released.glob("*.whl")
    assert package_files() - set(zipfile.ZipFile(wheel).namelist()) == set()


def test_the_sdist_has_every_file_of_the_package(released: Path) -> None:
    [sdist] = released.glob("*.tar.gz")
    with tarfile.open(sdist) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert package_files() - names == set()


@pytest.mark.slow
def test_the_installed_wheel_runs_a_study_outside_the_clone(released: Path, tmp_path: Path) -> None:
    """The packages it needs are those of this environment."""
    [wheel] = released.glob("*.whl")
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", "--target", str(site), str(wheel)], check=True)
    for name in ("own_trainer.yaml", "my_trainer.py"):
        shutil.copy(ROOT / "studies" / name, tmp_path)
    environment = os.environ | {"PYTHONPATH": str(site)}

    def installed(*words: str) -> str:
        command = [sys.executable, *words]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        ).stdout

    assert str(site) in installed("-c", "import ablate; print(ablate.__file__)")
    installed("-m", "ablate", "run", "own_trainer.yaml", "--only", "degree=1", "--workers", "2")
    installed("-m", "ablate", "report", "own_trainer")
    assert "What the study says" in (tmp_path / "reports/own_trainer/report.md").read_text()


def test_one_version_is_named_everywhere() -> None:
    import ablate

    citation = YAML(typ="safe").load((ROOT / "CITATION.cff").read_text())
    [heading] = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[:1]
    assert {PROJECT["version"], ablate.__version__, citation["version"]} == {heading}


def test_every_direct_dependency_is_pinned() -> None:
    pins = {line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()[1:]}
    pinned = {normal(name) for name in pins}
    extras = [line for name in ("dev", "docs") for line in PROJECT["optional-dependencies"][name]]
    named = {normal(re.split(r"[\[<>=!~;]", line)[0]) for line in [*PROJECT["dependencies"], *extras]}
    assert named - pinned == {"ablate-studies"}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
