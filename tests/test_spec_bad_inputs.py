"""Every kind of bad study file: refused at once, all faults with their places. See bad_inputs/*.expected."""

import os
import time
from pathlib import Path

import pytest

from ablate.errors import BadInput
from ablate.spec.reading import read_study

BAD = Path(__file__).parent / "bad_inputs"


def faults_of(path: Path) -> tuple[str, ...]:
    started = time.process_time()
    with pytest.raises(BadInput) as caught:
        read_study(path)
    # Hostile or not. Of the processor's own time: how busy the machine is decides nothing.
    assert time.process_time() - started < 10
    assert all(fault.isprintable() for fault in caught.value.faults)
    return caught.value.faults


def only_fault_of(path: Path) -> str:
    (fault,) = faults_of(path)
    return fault


@pytest.mark.parametrize("name", sorted(file.stem for file in BAD.glob("*.yaml")))
def test_every_fault_of_a_file_is_named_at_its_place(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(BAD)
    expected = Path(f"{name}.expected").read_text().splitlines()
    assert list(faults_of(Path(f"{name}.yaml"))) == expected


def test_every_bad_file_says_what_is_expected_of_it() -> None:
    assert {file.stem for file in BAD.glob("*.yaml")} == {file.stem for file in BAD.glob("*.expected")}


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "full_grid.yaml").touch()
    assert only_fault_of(tmp_path / "full_gird.yaml").endswith("no such file; did you mean 'full_grid.yaml'?")


def test_a_folder_is_not_a_study(tmp_path: Path) -> None:
    assert "is a folder" in only_fault_of(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    assert "not a regular file" in only_fault_of(tmp_path / "pipe.yaml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_says_why(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.touch(mode=0o000)
    assert "Permission denied" in only_fault_of(path)


def test_a_path_that_cannot_be_one(tmp_path: Path) -> None:
    assert "not a path" in only_fault_of(tmp_path / "a\0b.yaml")


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ("study: s\n".encode("utf-16"), ":1:1: UTF-16 text; save the file as UTF-8"),
        ("study: s\n".encode("utf-16-le"), ":1:2: character '\\x00' is not allowed; remove it"),
        (
            b"\xef\xbb\xbfstudy: s\n",
            ":1:1: starts with a byte order mark; save the file as UTF-8 without BOM",
        ),
        (
            "study: s\nquestion: naïve\n".encode("latin-1"),
            ":2:13: byte 0xef is not UTF-8; save the file as UTF-8",
        ),
        (b"study: s\nquestion: a\x07b\n", ":2:12: character '\\x07' is not allowed; remove it"),
        (b"\x1f\x8b\x08\x00", ":1:2: byte 0x8b is not UTF-8; save the file as UTF-8"),
        (b"#" * 10_000_000, ": 10,000,000 bytes; a study file has at most 262,144"),
    ],
)
def test_a_file_that_is_not_a_small_utf8_text(tmp_path: Path, data: bytes, fault: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_bytes(data)
    assert only_fault_of(path) == f"{path}{fault}"


@pytest.mark.parametrize("opener", ["[", "{", "- ", "? ", "{a: ", "{? "])
def test_deep_nesting_is_refused_fast(tmp_path: Path, opener: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("settings: " * (opener[0] in "[{") + opener * 10_000)
    assert "nested deeper than 20 levels" in only_fault_of(path)


def test_an_alias_bomb_is_not_expanded(tmp_path: Path) -> None:
    lines = ["settings:", "  a0: &a0 [x, x]"]
    lines += [f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    path = tmp_path / "s.yaml"
    path.write_text("\n".join(lines))
    assert any("alias *a0 is not allowed" in fault for fault in faults_of(path))


@pytest.mark.parametrize(
    "text",
    [
        "seeds: [" + "1, " * 60_000 + "]",
        "".join(f"k{i}: 1\n" for i in range(25_000)),
    ],
)
def test_too_many_values_are_refused_fast(tmp_path: Path, text: str) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    assert "more than 20,000 values" in only_fault_of(path)


def test_a_thousand_faults_are_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("".join(f"k{i}: 1\n" for i in range(1000)))
    assert faults_of(path)[-1] == f"{path}: and 907 more faults"


@pytest.mark.parametrize("name", ["x" * 10_000, "a\nb", "\x1b[31mred", "a|b$c\"d'e", "😀", "<script>"])
def test_an_odd_name_makes_one_short_printable_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / "s.yaml"
    escaped = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\x1b", "\\e")
    path.write_text(f'study: "{escaped}"\n')
    fault = next(fault for fault in faults_of(path) if "cannot name a study" in fault)
    assert len(fault) < len(str(path)) + 250
