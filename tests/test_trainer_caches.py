"""Caches of the hub that belong to others, and accounts without a home."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

# May read everything, this Python included, and write only what is nobody's.
AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] + [
    f"--{which}=-all,+dac_read_search" for which in ("inh-caps", "ambient-caps", "bounding-set")
]
READ = """
from ablate.trainer.data.reading import examples
from ablate.trainer.data.sources import Source
from ablate.trainer.tasks.registry import TASKS
found = examples(Source(hub="{hub}"), TASKS["sentiment"], "dev")
print(len(found), found.first[0])
"""
Nobody = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that others may look into, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def nobody(place: Path) -> Nobody:
    """Run Python as a user who owns nothing but an empty folder, where it starts."""
    if (
        shutil.which("setpriv") is None
        or subprocess.run([*AS_NOBODY, "true"], capture_output=True).returncode
    ):
        pytest.skip("needs root, to become somebody else")
    folder = place / "nobody"
    folder.mkdir()
    folder.chmod(0o777)

    def run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        paths = {"PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            [*AS_NOBODY, sys.executable, *map(str, words)],
            cwd=folder,
            env={
                "PATH": os.environ["PATH"],
                "HF_HUB_OFFLINE": "1",
                "OMP_NUM_THREADS": "1",
                **paths,
                **environment,
            },
            capture_output=True,
            text=True,
        )

    return run


@pytest.fixture
def hub_cache(place: Path) -> Path:
    """An HF_HOME with the dataset org/sst, as a download leaves it, that only root may write."""
    import datasets

    source, home = place / "sst", place / "hf"
    source.mkdir()
    for split in ("train", "validation"):
        rows = {
            "text": [f"w{row % 20} w{row % 7}" for row in range(40)],
            "label": [row % 5 for row in range(40)],
        }
        pyarrow.parquet.write_table(pyarrow.table(rows), source / f"{split}.parquet")
    datasets.load_dataset(str(source), cache_dir=str(home / "datasets"))
    (home / "datasets/sst").rename(home / "datasets/org___sst")
    (version,) = (path for path in (home / "datasets/org___sst/default/0.0.0").iterdir() if path.is_dir())
    version.rename(version.with_name("b" * 40))
    for lock in home.rglob("*.lock"):
        lock.unlink()
    return home


@pytest.mark.parametrize("home", ["/nonexistent", None], ids=["home that is not there", "no home"])
def test_a_dataset_is_read_from_a_cache_that_must_not_be_written(
    home: str | None, nobody: Nobody, hub_cache: Path
) -> None:
    before = sorted(hub_cache.rglob("*"))
    done = nobody(
        "-c", READ.format(hub="org/sst"), HF_HOME=str(hub_cache), **({"HOME": home} if home else {})
    )
    assert (done.stdout, done.returncode) == ("40 w0 w0\n", 0), done.stderr
    assert sorted(hub_cache.rglob("*")) == before


def test_a_folder_of_data_needs_no_cache(nobody: Nobody, hub_cache: Path) -> None:
    folder = hub_cache.parent / "sst"
    done = nobody("-c", READ.format(hub=folder), HF_HOME="/nonexistent/hf")
    assert (done.stdout, done.returncode) == ("40 w0 w0\n", 0), done.stderr


def test_a_dataset_that_is_not_in_the_cache_says_so(nobody: Nobody, hub_cache: Path) -> None:
    done = nobody("-c", READ.format(hub="org/other"), HF_HOME=str(hub_cache))
    assert "hub: org/other is not cached on this machine" in done.stderr


STUDY = """\
study: cached
trainer: ablate.trainer
settings:
  encoder: org/small
  max_length: 16
  max_steps: 2
  tasks: {mood: {kind: classification, labels: 5, hub: org/sst}}
factors: {l2: [0.0, 0.01]}
baseline: {l2: 0.0}
design: full
seeds: [1]
metric: {name: dev/mood}
"""


@pytest.mark.slow
@pytest.mark.parametrize("home", ["/nonexistent", None], ids=["home that is not there", "no home"])
def test_a_study_is_run_and_reported_without_a_home_and_from_a_cache_of_others(
    home: str | None, nobody: Nobody, hub_cache: Path
) -> None:
    from small_encoders import save_encoder

    model = hub_cache / "hub/models--org--small"
    (model / "refs").mkdir(parents=True)
    (model / "refs/main").write_text("a" * 40)
    save_encoder(model / "snapshots" / ("a" * 40), "bert")
    study = hub_cache.parent / "study.yaml"
    study.write_text(STUDY)
    environment = {"HF_HOME": str(hub_cache)} | ({"HOME": home} if home else {})
    for words in (["run", study], ["status", "cached"], ["report", "cached"], ["doctor"]):
        done = nobody("-m", "ablate", *words, **environment)
        assert "Traceback" not in done.stderr
        assert done.returncode == 0 or words == ["doctor"], done.stderr
