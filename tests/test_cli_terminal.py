"""What commands print in a terminal, in a pipe, and where the locale has few characters."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from fixture_types import Ablate, WalkStudy

from ablate.text import wrapped

STUDIES = Path(__file__).parent.parent / "studies"
ANALYZE = (
    "analyze",
    "runs.csv",
    "--metric",
    "accuracy",
    "--factors",
    "head_of_paraphrase,rate_of_encoder",
    "--block",
    "seed",
)


def in_terminal(folder: Path, width: int, *words: object) -> list[str]:
    """Return the lines that a command prints in a terminal of that width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-m", "ablate", *map(str, words)]
    process = subprocess.Popen(
        command,
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**environment, "LC_ALL": "C.UTF-8"},
    )
    os.close(theirs)
    printed = b""
    try:
        while chunk := os.read(ours, 65536):
            printed += chunk
    # Linux says that the other end is closed in this way.
    except OSError:
        pass
    os.close(ours)
    assert process.wait() == 0, printed
    return printed.decode().replace("\r\n", "\n").split("\n")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    rows = [
        f"{head},{rate},{seed},{0.7 + 0.1 * (head != 'concatenation') + 0.01 * seed * (rate > 0.001):.4f}"
        for head in ("concatenation", "difference_of_both")
        for rate in (0.001, 0.01)
        for seed in (1, 2, 3)
    ]
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(["head_of_paraphrase,rate_of_encoder,seed,accuracy", *rows]))
    return path


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("study", ["full_grid", "quickstart", "own_tasks"])
def test_no_line_of_a_plan_is_wider_than_the_terminal(study: str, width: int, tmp_path: Path) -> None:
    lines = in_terminal(tmp_path, width, "plan", STUDIES / f"{study}.yaml")
    assert max(map(len, lines)) <= width
    assert len(lines) > 8


@pytest.mark.parametrize("width", [80, 120])
def test_tables_fit_the_terminal(width: int, runs: Path, tmp_path: Path) -> None:
    lines = in_terminal(tmp_path, width, *ANALYZE)
    assert max(map(len, lines)) <= width
    assert any(line.startswith("Not shown because the terminal is narrow: ") for line in lines) == (
        width == 80
    )


def test_names_longer_than_a_line_stay_whole_above_what_follows(tmp_path: Path) -> None:
    level = "a_level_that_" + "goes_on_and_" * 10
    rows = [
        f"{name},{seed},{0.7 + 0.1 * (name == level) + 0.01 * seed * len(name)}"
        for name in (level, "b")
        for seed in (1, 2, 3)
    ]
    (tmp_path / "long.csv").write_text("\n".join(["head,seed,y", *rows]))
    lines = in_terminal(
        tmp_path, 120, "analyze", "long.csv", "--metric", "y", "--factors", "head", "--block", "seed"
    )
    assert any(level in line for line in lines)
    assert all(len(line) <= 120 or len(line.split()) == 1 for line in lines)


def test_a_trial_and_a_status_fit_the_terminal(ablate: Ablate, walk_study: WalkStudy, tmp_path: Path) -> None:
    assert ablate("run", walk_study()).returncode == 0
    for command in (("status",), ("show", "0")):
        # A path that is longer stays whole.
        assert all(len(line) <= 80 or len(line.split()) == 1 for line in in_terminal(tmp_path, 80, *command))


def test_in_a_pipe_lines_are_whole(ablate: Ablate, runs: Path) -> None:
    plan = ablate("plan", STUDIES / "quickstart.yaml").stdout.splitlines()
    assert any(
        line.startswith("smallest detectable effect") and line.endswith("and plan again)") for line in plan
    )
    lines = ablate(*ANALYZE).stdout.splitlines()
    assert "SE" in lines[lines.index("Effects") + 1].split()


def test_an_ascii_locale_gets_plain_spellings_instead_of_codes(ablate: Ablate, runs: Path) -> None:
    printed = ablate(*ANALYZE, LC_ALL="C", PYTHONIOENCODING="ascii").stdout
    assert "concatenation -> difference_of_both" in printed
    assert "\\u" not in printed
    assert "\\x" not in printed


def test_a_wrapped_line_continues_below_its_last_column() -> None:
    assert wrapped("  PASS  resume  " + "word " * 12 + "end", 60) == [
        "  PASS  resume  " + " ".join(["word"] * 9),
        " " * 16 + " ".join(["word"] * 3) + " end",
    ]


def test_a_last_column_without_room_goes_below_its_row() -> None:
    row = "  full     288     864      1.68     0.541     0.261  main effects and every interaction"
    assert wrapped(row, 60) == [row[:52].rstrip(), "      main effects and every interaction"]


def test_a_path_is_not_broken() -> None:
    path = "/a/path" * 20
    assert path in wrapped(f"  log: {path}", 80)[-1]
