"""No input breaks a reader. `python tests/fuzzed_readers.py` does the same, with other seeds, and keeps what it finds."""

import os
from pathlib import Path

import pytest
from command_cases import finished_study
from fuzzed_readers import readers, summary
from fuzzing import Reader, fuzz, in_json

from ablate.errors import BadInput

# The names are needed before there is a study.
NAMES = [reader.name for reader in readers(None)]


@pytest.fixture(scope="module")
def by_name(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reader]:
    finished = finished_study(tmp_path_factory.mktemp("finished"))
    return {reader.name: reader for reader in readers(finished)}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_input_breaks_a_reader(
    name: str, by_name: dict[str, Reader], capsys: pytest.CaptureFixture[str]
) -> None:
    tried = fuzz(by_name[name], seed := int(os.environ.get("FUZZ_SEED", "0")))
    with capsys.disabled():
        print(f"\n{summary(by_name[name], tried)} (FUZZ_SEED={seed})")
    assert not tried.findings


def _breaks(data: bytes, folder: Path) -> None:
    if b"nan" in data:
        raise ZeroDivisionError
    if b"\0" in data:
        raise BadInput("two\nlines")
    while b"inf" in data:
        pass


def test_what_breaks_a_reader_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzzing.LIMIT_S", 0.05)
    tried = fuzz(Reader("toy", _breaks, (BadInput,), [b"[1, 2]", b"a: 1"], 1000), seed=0)
    found = " ".join(tried.findings)
    assert all(what in found for what in ("ZeroDivisionError", "not one clean line", "TooLongError"))


def test_a_seed_gives_the_same_inputs() -> None:
    seen: list[list[bytes]] = [[], []]
    for inputs in seen:
        corpus = [b'{"a": [1, {"b": "x"}]}']
        fuzz(Reader("toy", lambda data, _, to=inputs: to.append(data), (), corpus, 200, [in_json]), seed=3)  # type: ignore[misc]
    assert seen[0] == seen[1]
    assert len(set(seen[0])) > 100
