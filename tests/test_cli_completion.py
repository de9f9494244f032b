"""Completion in a shell, through bash itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fixture_types import RunHere, WalkStudy

SCRIPT = """
eval "$(ablate --show-completion bash)"
COMP_WORDS=(%s)
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_ablate_completion ablate
echo "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(
    ("typed", "completed"),
    [("ablate sch", "schema"), ("ablate report w", "walk walk.yaml"), ("ablate status walk.", "walk.yaml")],
)
def test_bash_completes_commands_and_studies(
    typed: str,
    completed: str,
    run_here: RunHere,
    walk_study: WalkStudy,
    tmp_path: Path,
) -> None:
    run_here(walk_study(), limit=0)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    said = subprocess.run(
        ["bash", "-c", SCRIPT % typed],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == completed
