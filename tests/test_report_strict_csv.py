from pathlib import Path

import pytest
from published_tables import write_csv

from ablate.errors import BadInput
from ablate.report.strict_csv import Faults, Table, read_columns


def read(path: Path) -> Table:
    faults = Faults(path)
    table = read_columns(path, ["a", "y"], faults)
    faults.raise_any()
    return table


def faults_of(path: Path) -> tuple[str, ...]:
    with pytest.raises(BadInput) as caught:
        read(path)
    return tuple(fault.replace(f"{path.parent}/", "") for fault in caught.value.faults)


@pytest.mark.parametrize(
    "raw",
    [
        b"\xef\xbb\xbfa,y\n0,1\n0,2\n1,3\n1,5\n",
        b"a,y\r\n0,1\r\n0,2\r\n1,3\r\n1,5\r\n",
        b"a\ty\n0\t1\n0\t2\n1\t3\n1\t5",
        b"a , y\n 0 ,1\n0,2\n\n1,3\n1, 5\n\n",
        b"note,y,a\n\"said \"\"no\"\", twice\",1,0\n,2,0\n,3,1\n,5,1\n",
    ],
    ids=["byte-order mark", "CRLF", "tabs", "spaces and blank lines", "other columns"],
)  # fmt: skip
def test_harmless_forms_are_read(tmp_path, raw):
    (tmp_path / "t.csv").write_bytes(raw)
    assert read(tmp_path / "t.csv").columns == {"a": ["0", "0", "1", "1"], "y": ["1", "2", "3", "5"]}


def test_many_faults_are_counted_not_listed(tmp_path):
    faults = faults_of(write_csv(tmp_path / "t.csv", ["a", "y"], [(1, 2, 3)] * 500))
    assert (len(faults), faults[-1]) == (21, "t.csv: and 480 more faults")


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"", "t.csv: the file is empty"),
        (b" \n\n", "t.csv: the file is empty"),
        (b"a,y\n", "t.csv: a header but no rows"),
        (b"a,y,y\n0,1,1\n", "t.csv:1: y: 2 columns have this name; keep one"),
        (b"a,y\n0,1\n\xe9,2\n", "t.csv:3: not UTF-8 (byte 0xe9); save the file as UTF-8"),
        ("a,y\n0,1\n".encode("utf-16"), "t.csv:1: not UTF-8 (byte 0xff); save the file as UTF-8"),
        (b"a,y\n0,1\n\0,2\n", "t.csv:3: a NUL byte; this is not a text file"),
        (b"a,Y\n0,1\n", "t.csv:1: y: no such column; did you mean 'Y'?"),
        (
            b"a;y\n0;1,5\n",
            "t.csv:1: the fields are parted by ';'; save the file with commas or tabs, and decimals with a point",
        ),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, raw, fault):
    (tmp_path / "t.csv").write_bytes(raw)
    assert fault in faults_of(tmp_path / "t.csv")


def test_a_lone_quote_is_refused_with_its_line(tmp_path):
    (tmp_path / "t.csv").write_text('a,y\n0,1\n"1,2\n1,3\n')
    assert faults_of(tmp_path / "t.csv")[0].startswith("t.csv:3: a quote that is never closed")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    assert faults_of(tmp_path / "t.csv") == ("t.csv: no such file",)


def test_a_folder_is_refused(tmp_path):
    assert faults_of(tmp_path)[0].endswith(": a folder; name a CSV file")


def test_rows_know_their_lines_past_quoted_line_breaks(tmp_path):
    (tmp_path / "t.csv").write_text('a,y\n"two\nlines",1\n\nx,2\n')
    table = read(tmp_path / "t.csv")
    assert (table.lines, table.columns["a"]) == ([2, 5], ["two\nlines", "x"])


def test_words_for_missing_stay_words(tmp_path):
    path = write_csv(tmp_path / "t.csv", ["a", "y"], [("NA", ""), ("null", "None")])
    assert read(path).columns == {"a": ["NA", "null"], "y": ["", "None"]}
