"""Studies from Python: the same answers as the commands, as values and data frames."""

import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from fixture_types import Ablate

import ablate
from ablate.errors import AblateError, BadInput
from ablate.spec.reading import read_study

# A study as a script has it.
STUDY: dict[str, Any] = {
    "study": "walk",
    "trainer": "walk",
    "settings": {"steps": 3, "seconds_per_step": 0.0},
    "factors": {"slope": [1.0, 2.0], "noise": [0.1, 0.5]},
    "baseline": {"slope": 1.0, "noise": 0.1},
    "design": "full",
    "seeds": [1, 2, 3],
    "metric": {"name": "dev/position", "smallest_effect": 0.1},
}


@pytest.fixture
def folder(walk_study: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the walk study and its trainer."""
    path = walk_study(steps=3, seeds="[1, 2, 3]")
    monkeypatch.chdir(path.parent)
    return path.parent


def test_a_thread_runs_a_study(folder: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(lambda: ablate.run("walk.yaml", limit=1).status())
    assert done.result()["complete"] == 1


def test_a_mapping_runs_as_its_file_does(folder: Path) -> None:
    from_file = ablate.run("walk.yaml", home="of_file").results()
    from_mapping = ablate.run(STUDY, workers=2, home="of_mapping").results()
    same = ["cell", "seed", "state", "slope", "noise", "dev/position"]
    assert len(from_file) == 12
    assert (
        from_mapping.set_index(["cell", "seed"]).sort_index()[same[2:]].to_dict()
        == from_file.set_index(["cell", "seed"]).sort_index()[same[2:]].to_dict()
    )


def test_a_study_says_in_python_what_the_commands_print(folder: Path, ablate: Ablate) -> None:
    import ablate as package

    study = package.run(STUDY)
    assert study.status() == json.loads(ablate("status", "--json").stdout)
    assert study.report() == json.loads(ablate("report", "--json").stdout)
    assert package.plan(STUDY) == json.loads(ablate("plan", "walk.yaml", "--json").stdout)


def test_cells_effects_and_flags_are_frames_with_the_report_s_numbers(folder: Path) -> None:
    study = ablate.run(STUDY)
    document = study.report()
    cells, effects = study.cells(), study.effects()
    assert list(cells["cell"]) == [cell["cell"] for cell in document["cells"]]
    assert list(effects["estimate"]) == [row["estimate"] for row in document["effects"]]
    assert list(effects["verdict"]) == [row["verdict"] for row in document["effects"]]
    assert list(study.flags()["rule"]) == [flag["rule"] for flag in document["flags"]]


def test_a_report_is_written_where_it_is_asked_for(folder: Path) -> None:
    ablate.run(STUDY).report("out", formats=["md"])
    assert "dev/position" in Path("out/report.md").read_text()


def test_a_notebook_shows_the_summary_and_the_forest_plot(folder: Path) -> None:
    study = ablate.run(STUDY | {"study": "a_b"})
    shown = study._repr_html_()
    assert "<h3>a_b</h3>" in shown
    assert 'alt="Forest plot of dev/position' in shown


def test_numbers_of_numpy_are_levels(folder: Path) -> None:
    factors = {
        "slope": np.array([1.0, 2.0]),
        "noise": [np.float64(0.1), np.float32(0.5)],
        "steps": [np.int64(2), np.int64(3)],
    }
    plan = ablate.plan(
        STUDY | {"settings": {}, "factors": factors, "baseline": STUDY["baseline"] | {"steps": 2}}
    )
    assert plan["cells"] == 8


def test_a_study_is_opened_by_name_file_or_mapping(folder: Path) -> None:
    ablate.run(STUDY, limit=1)
    for study in ("walk", "walk.yaml", Path("walk.yaml"), STUDY):
        assert ablate.open_study(study).status()["complete"] == 1


def test_arguments_of_a_wrong_type_are_named(folder: Path) -> None:
    with pytest.raises(BadInput, match="study: found None; give"):
        ablate.plan(None)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="workers: found 0; give a number"):
        ablate.run(STUDY, workers=0)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"sede": 3}, "sede: unknown key; did you mean 'seeds'?"),
        ({"question": object()}, "is a object; write plain values"),
        ({"settings": {"setps": 3}}, "setps"),
        ({"settings": {"lr": math.nan}}, "study: settings.lr: nan is not a finite number"),
        ({"settings": {"lr": np.array([1.0, np.inf])}}, "study: settings.lr[1]: inf is not a finite number"),
        ({"settings": {"steps": 10**5000}}, "study: settings.steps: does not fit in 64 bits"),
        ({"settings": {"lr": {"seed"}}}, "study: settings.lr: {'seed'} is a set, which has no order"),
        ({"settings": {("a", "b"): 3}}, "study: settings: ('a', 'b') cannot be a key; use text"),
        ({"factors": 3}, "factors: found 3; write a mapping"),
        ({"baseline": None}, "baseline: found nothing (null); write a mapping"),
    ],
)
def test_a_mapping_is_checked_as_a_file_is(folder: Path, wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=re.escape(said)):
        ablate.plan(STUDY | wrong)


def test_a_mapping_that_contains_itself_is_refused() -> None:
    study = STUDY | {"settings": {}}
    study["settings"]["study"] = study
    with pytest.raises(BadInput, match="nested deeper than 20 levels"):
        ablate.plan(study)


def test_values_of_python_are_read_as_they_are() -> None:
    spec = read_study(
        {
            "study": "s",
            "question": "a\u2028b\x85c\x7fd 😀",
            "trainer": "my_trainer",
            "settings": {"lr": np.float64(1e-5), "path": Path("x"), 3: (1, 2)},
            "factors": {"a": {"levels": {1: {"b": 1}, "1": {"b": 2}, None: {"b": 3}}}, "c": range(2)},
            "baseline": {"a": 1, "c": np.int64(0)},
            "design": "full",
            "seeds": np.arange(3),
            "metric": MappingProxyType({"name": "m"}),
        }
    )
    assert spec.question == "a\u2028b\x85c\x7fd 😀"
    assert spec.settings == {"lr": 1e-5, "path": "x", "3": [1, 2]}
    assert [level.name for level in spec.factor("a").levels] == [1, "1", None]
    assert (spec.baseline, spec.seeds) == ({"a": 1, "c": 0}, (0, 1, 2))


def test_a_run_that_is_interrupted_raises_and_the_same_call_resumes(folder: Path) -> None:
    script = folder / "script.py"
    slow = STUDY | {"settings": {"steps": 40, "seconds_per_step": 0.05}}
    script.write_text(f"import ablate\nablate.run({slow!r})\n")
    process = subprocess.Popen(
        [sys.executable, str(script)], stderr=subprocess.PIPE, text=True, env=os.environ, cwd=folder
    )
    assert process.stderr is not None
    while "trial 0" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert ablate.open_study("walk").status()["complete"] < 12
    assert ablate.run(slow).status()["complete"] == 12


def test_a_run_that_stops_on_an_error_of_no_trial_raises(folder: Path) -> None:
    trainer = folder / "walk.py"
    whole = trainer.read_text()
    trainer.write_text(whole + '\nimport sys\nif "ablate.runner.process" in sys.orig_argv: os._exit(9)\n')
    with pytest.raises(AblateError, match="walk: the run stopped on an error, see the messages above"):
        ablate.run("walk.yaml", limit=1)
    trainer.write_text(whole)
    assert ablate.run("walk.yaml", limit=1).status()["complete"] == 1


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = {"numpy", "pandas", "optuna", "torch", "rich", "pydantic", "scipy"}
    script = f"import ablate, sys; print({heavy!r} & set(sys.modules))"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"
