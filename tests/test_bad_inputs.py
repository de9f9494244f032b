"""What strangers have fed to the commands, and the right answer to it. See command_cases.py for how to add one: one file."""

from pathlib import Path

import pytest
from command_cases import Case, answer, finished_study, read_cases

CASES = read_cases()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_study(tmp_path_factory.mktemp("finished"))


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name, marks=[pytest.mark.slow] * case.slow) for case in CASES]
)
def test_the_right_answer(case: Case, finished: Path, tmp_path: Path) -> None:
    got = answer(case, tmp_path, finished)
    assert got.codes == case.codes, got.text
    for text in case.keys.get("says", ()):
        assert text in got.text
    own = () if case.keys.get("traceback") else ("Traceback",)
    for text in (*own, "\x1b", *case.keys.get("never", ())):
        assert text not in got.text
    if 2 in got.codes:
        assert got.err.strip()
    if case.codes == (2,) or "leaves" in case.keys:
        assert got.left == set(case.keys.get("leaves", ()))
    assert got.cpu_s < 20
