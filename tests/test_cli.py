"""The door: what loads, what exits how, and that every command is documented."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fixture_types import Ablate, not_none

from ablate import __version__
from ablate.cli import app

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "transformers", "optuna", "pandas", "sqlalchemy", "matplotlib", "scipy")
COMMANDS = [command.name or not_none(command.callback).__name__ for command in app.registered_commands]


def loaded(code: str) -> set[str]:
    """Return which heavy modules a fresh process loads by running `code`."""
    check = f"{code}\nimport sys; print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, cwd=ROOT)
    return set(re.findall(r"'(\w+)'", done.stderr.splitlines()[-1]))


def test_help_loads_nothing_heavy() -> None:
    assert (
        loaded(
            "import sys; sys.argv = ['ablate', '--help']\nfrom ablate.cli import app; app(standalone_mode=False)"
        )
        == set()
    )


def test_the_version_is_printed(ablate: Ablate) -> None:
    done = ablate("--version")
    assert (done.returncode, done.stdout) == (0, f"ablate {__version__}\n")
    assert "--version" in ablate("--help").stdout


def test_a_report_of_an_edited_file_says_what_was_run_and_counts(ablate: Ablate, tmp_path: Path) -> None:
    for name in ("own_trainer.yaml", "my_trainer.py"):
        shutil.copy(ROOT / "studies" / name, tmp_path)
    file = tmp_path / "own_trainer.yaml"
    ran = file.read_text()
    assert ablate("run", file.name, "--limit", "1").returncode == 0
    assert ablate("report", file.name).stderr == ""
    file.write_text(
        ran.replace("smallest_effect: 0.01", "smallest_effect: 0.05").replace(
            "question: What", "question: How"
        )
    )
    done = ablate("report", file.name, "--json")
    (said,) = [line for line in done.stderr.splitlines() if "smallest_effect" in line]
    assert said == (
        "own_trainer.yaml: metric.smallest_effect: 0.01 → 0.05 since it was run; the report describes what was run"
    )
    document = json.loads(done.stdout)
    assert document["metric"]["smallest_effect"] == 0.01
    assert "study_file_edited" in {flag["rule"] for flag in document["flags"]}
    assert "study_file_edited" not in ablate("report", "own_trainer", "--json").stdout


def test_plan_loads_no_torch_and_no_database() -> None:
    plan = "from ablate.cli import app; app(['plan', 'studies/full_grid.yaml'], standalone_mode=False)"
    assert loaded(plan) == set()


def test_full_grid_is_counted_exactly(ablate: Ablate) -> None:
    document = json.loads(ablate("plan", ROOT / "studies/full_grid.yaml", "--json").stdout)
    assert (document["raw_cells"], document["cells"], document["trials"]) == (384, 288, 864)
    assert document["parts"] == {"naive": 1440, "unique": 936, "with_prefixes": 936}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_explained_and_has_help_with_an_example(command: str, ablate: Ablate) -> None:
    assert f"[`ablate {command}`](#{command})" in (ROOT / "docs/reference/commands.md").read_text()
    assert f"Example: ablate {command}" in ablate(command, "--help").stdout or command == "schema"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["runn"], "No such command 'runn'"),
        (["run"], "Missing argument 'STUDY'"),
        (["run", "none.yaml"], "none.yaml"),
        (["run", "none.yaml", "--workers", "0"], "--workers"),
        (["status", "none"], "'none' has no results"),
        (["report", "none"], "'none' has no results"),
        (["status"], "contains no study"),
        (["init", "../evil"], "cannot name a study"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2_and_writes_nothing(
    words: list[str], complaint: str, ablate: Ablate, tmp_path: Path
) -> None:
    done = ablate(*words)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_init_writes_a_study_that_plans(ablate: Ablate, tmp_path: Path) -> None:
    assert ablate("init", "mine").returncode == 0
    assert ablate("plan", tmp_path / "mine.yaml").returncode == 0
    again = ablate("init", "mine")
    assert (again.returncode, len(again.stderr.splitlines())) == (2, 1)


@pytest.mark.parametrize(
    "template",
    [
        "script",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("transformers", "multitask", "csv")),
    ],
)
def test_every_template_is_a_study_that_plans_and_trains(template: str, ablate: Ablate) -> None:
    assert ablate("init", "a.b-2", "--template", template).returncode == 0
    assert json.loads(ablate("plan", "a.b-2.yaml", "--json").stdout)["cells"] >= 4
    done = ablate("run", "a.b-2.yaml", "--limit", 1)
    assert done.returncode == 0, done.stderr


def test_doctor_ends_with_what_to_type_next(ablate: Ablate) -> None:
    assert "next: ablate init" in ablate("doctor").stdout.splitlines()[-1]
    ablate("init", "mine", "--template", "script")
    assert ablate("doctor").stdout.splitlines()[-1] == "next: ablate plan mine.yaml"
    ablate("run", "mine.yaml", "--limit", 1)
    assert ablate("doctor").stdout.splitlines()[-1] == "next: ablate run mine.yaml"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["run", "my_study.yaml", "--limit", 1, "--home", "/proc/nope"], "/proc/nope"),
        (["run", "my_study.yaml", "--limit", 1, "--home", "my_study.yaml"], "my_study.yaml"),
    ],
)
def test_what_a_file_system_says_is_one_line_and_exit_1(
    words: list[int | str], complaint: str, ablate: Ablate
) -> None:
    ablate("init")
    done = ablate(*words)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert len(done.stderr.splitlines()) == 1


EVIL = "\x1b[2J\x9b31m\u202etxt\r\nx\x07\U000e0041"  # escapes, C1, right to left, a line break, a bell, an invisible tag


def obeyed(text: str) -> set[str]:
    """Return the characters that a terminal would obey, but for the ends of lines."""
    return {c for c in text if not c.isprintable() and c not in "\n\xa0"}


def test_nothing_that_a_terminal_obeys_is_printed(ablate: Ablate, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f'a,"y{EVIL}"\n"0{EVIL}",1\n"0{EVIL}",2\n1,3\n1,5\n', newline="")
    words = ["analyze", "t.csv", "--metric", f"y{EVIL}", "--factors", "a"]
    text, document = ablate(*words).stdout, ablate(*words, "--json").stdout
    assert "[2J" in text
    assert obeyed(text) == obeyed(document) == set()
    assert json.loads(document)["metric"] == f"y{EVIL}"


@pytest.mark.parametrize(
    "words",
    [
        ["analyze", f"{EVIL}.csv", "--metric", "y", "--factors", "a"],
        ["analyze", b"\xff.csv", "--metric", "y", "--factors", "a"],
        ["analyze", "t.csv", "--metric", f"y{EVIL}", "--factors", "a"],
        ["analyze", "t.csv", "--metric", "y", "--factors", f"a{EVIL}"],
        ["analyze", "t.csv", "--metric", "y", "--factors", "a", "--order", EVIL],
        ["compare", "--a", f"{EVIL}.csv", "--b", "t.csv", "--correct"],
        ["status", EVIL.replace("\n", "")],
        ["run", f"{EVIL}.yaml"],
        [EVIL],
    ],
)
def test_names_that_a_terminal_would_obey_are_told_harmlessly(
    words: list[str | bytes], ablate: Ablate, tmp_path: Path
) -> None:
    (tmp_path / "t.csv").write_text("a,y\n0,1\n1,2\n")
    done = ablate(*map(os.fsdecode, words))
    assert done.returncode == 2
    assert obeyed(done.stderr) == set()
    assert "Traceback" not in done.stderr


def test_letters_of_all_languages_are_printed_as_they_are(ablate: Ablate, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("größe,y\n小さい,1\n小さい,2\nبزرگ,3\nبزرگ,5\n")
    text = ablate("analyze", "t.csv", "--metric", "y", "--factors", "größe", PYTHONUTF8="1").stdout
    assert "größe: بزرگ → 小さい" in text or "größe: 小さい → بزرگ" in text
