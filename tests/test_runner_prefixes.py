"""What several parts train alike is trained once: counted by steps that were really computed, and equal to the bit to training each
part by itself, whatever is killed, damaged or gone."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TRAINERS
from fixture_types import RunHere

from ablate.store.places import place_of
from ablate.store.reading import read_results
from ablate.store.results import Results

STUDY = """\
study: branching
trainer: branching
settings: {{steps: 8{settings}}}
factors: {factors}
baseline: {baseline}
design: full
seeds: {seeds}
metric: {{name: dev/score}}
"""
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    shutil.copy(TRAINERS / "branching.py", tmp_path)

    def study(
        factors: str = "{then: [1.0, 2.0, 3.0]}",
        baseline: str = "{then: 1.0}",
        seeds: str = "[1, 2]",
        settings: str = "",
    ) -> Path:
        path = tmp_path / "branching.yaml"
        path.write_text(STUDY.format(factors=factors, baseline=baseline, seeds=seeds, settings=settings))
        return path

    return study


def results(tmp_path: Path, home: str = "runs") -> Results:
    return read_results(place_of("branching", tmp_path / home))


def steps(tmp_path: Path, home: str = "runs") -> Counter[str]:
    """Return how often each step was computed: `SEED STEP` -> times."""
    log = tmp_path / home / "branching/cache/steps.log"
    return Counter(log.read_text().splitlines())


def outcome(tmp_path: Path, home: str = "runs") -> Any:
    """Return all that a study knows of its parts, except what depends on the time that it took."""
    found = results(tmp_path, home)
    parts = {
        key: (part.metrics, part.steps, part.facts["slopes"], predictions(part.folder))
        for key, part in found.parts.items()
    }
    return parts, sorted(found.points({part for part, _ in found.parts}))


def predictions(folder: Path) -> list[bytes]:
    return [file.read_bytes() for file in sorted(folder.glob("predictions/*.csv"))]


def apart(study: Path, run_here: RunHere, tmp_path: Path) -> Any:
    """Return the outcome of the same study without sharing."""
    trainer = tmp_path / "branching.py"
    alone = trainer.read_text().replace("def prefixes(", "def unused(").replace("context.prefix(", "print(")
    trainer.write_text(alone)
    import sys

    sys.modules.pop("branching", None)
    assert run_here(study, home="apart")["failed"] == 0
    return outcome(tmp_path, "apart")


@pytest.fixture(autouse=True)
def fresh_trainer() -> Any:
    """Import the trainer anew in each test, which may have changed it."""
    import sys

    sys.modules.pop("branching", None)
    yield
    sys.modules.pop("branching", None)


def test_what_parts_train_alike_is_computed_once(write: Write, run_here: RunHere, tmp_path: Path) -> None:
    study = write()
    assert run_here(study)["failed"] == 0
    assert steps(tmp_path) == {
        f"{seed} {step}": 1 if step <= 4 else 3 for seed in (1, 2) for step in range(1, 9)
    }
    together = outcome(tmp_path)
    assert together == apart(study, run_here, tmp_path)
    assert set(steps(tmp_path, "apart").values()) == {3}
