import csv
import io
import json
import os
import sqlite3
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from published_tables import write_csv

from ablate.errors import BadInput
from ablate.report.outside.number_format import as_number
from ablate.report.outside.read_table import read_columns
from ablate.report.outside.tables import Table
from ablate.tables import Faults


def read(path: Path, wanted: Sequence[str] = ("a", "y"), **how: Any) -> Table:
    faults = Faults(path)
    table = read_columns(path, wanted, faults, **how)
    faults.raise_any()
    return table


def read_numbers(path: Path, decimal: str | None = None) -> Table:
    return read(path, numbers=["y"], decimal=decimal)


def faults_of(path: Path, *args: Any, **how: Any) -> tuple[str, ...]:
    with pytest.raises(BadInput) as caught:
        read(path, *args, **how)
    return tuple(fault.replace(f"{path.parent}/", "") for fault in caught.value.faults)


@pytest.mark.parametrize(
    "raw",
    [
        b"\xef\xbb\xbfa,y\n0,1\n0,2\n1,3\n1,5\n",
        b"a,y\r\n0,1\r\n0,2\r\n1,3\r\n1,5\r\n",
        b"a\ty\n0\t1\n0\t2\n1\t3\n1\t5",
        b"a , y\n 0 ,1\n0,2\n\n1,3\n1, 5\n\n",
        b"note,y,a\n\"said \"\"no\"\", twice\",1,0\n,2,0\n,3,1\n,5,1\n",
        b"a;y\n0;1\n0;2\n1;3\n1;5\n",
        b"a|y\n0|1\n0|2\n1|3\n1|5\n",
        b"| a | y |\n|---|--:|\n| 0 | 1 |\n| 0 | 2 |\n| 1 | 3 |\n| 1 | 5 |\n",
        b"\"a\", \"y\"\n\"0\", \"1\"\n0,2\n1,3\n1,5\n",
        b",a,y\n0,0,1\n1,0,2\n2,1,3\n3,1,5\n",
        b"Unnamed: 0,a,y\n0,0,1\n1,0,2\n2,1,3\n3,1,5\n",
        b"a,y,\n0,1,\n0,2,\n1,3,\n1,5,\n",
        b"a;y;\n0;1\n0;2\n1;3\n1;5\n",
        b"a,y\n0,1,\n0,2,\n1,3,\n1,5,\n",
        b"a,y\n0,1\n0,2\n1,3\n1,5\n,\n,\n",
        b"a,y\r0,1\r0,2\r1,3\r1,5\r",
        b"sep=;\na;y\n0;1\n0;2\n1;3\n1;5\n",
        "a,y\n0,1\n0,2\n1,3\n1,5\n".encode("utf-16"),
        "\ufeffa\ty\n0\t1\n0\t2\n1\t3\n1\t5\n".encode("utf-16-be"),
        "a,y\n0,1\n0,2\n1,3\n1,5\n".encode("utf-32"),
        b'{"a": 0, "y": 1}\n{"a": "0", "y": 2, "z": [1]}\n\n{"y": 3, "a": 1}\n{"a": 1, "y": 5}\n',
        b'[{"a": 0, "y": 1}, {"a": 0, "y": 2},\n {"a": 1, "y": 3}, {"a": 1, "y": 5}]\n',
        b'[\n  {\n    "a": 0,\n    "y": 1\n  },{"a":0,"y":2},{"a":1,"y":3},{"a":1,"y":5}]',
    ],
    ids=["byte-order mark", "CRLF", "tabs", "spaces and blank lines", "other columns", "semicolons", "pipes", "markdown",
         "quotes after spaces", "an index without a name", "an index of pandas", "a delimiter at every end",
         "a delimiter at the header's end", "a delimiter at the end of the rows", "rows emptied in a spreadsheet",
         "old Mac", "Excel's first line", "UTF-16", "UTF-16 big-endian", "UTF-32", "JSONL", "a JSON list",
         "JSON over several lines"],
)  # fmt: skip
def test_harmless_forms_are_read(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "t.csv").write_bytes(raw)
    assert read(tmp_path / "t.csv").columns == {"a": ["0", "0", "1", "1"], "y": ["1", "2", "3", "5"]}


def test_many_faults_are_counted_not_listed(tmp_path: Path) -> None:
    faults = faults_of(write_csv(tmp_path / "t.csv", ["a", "y"], [(1, 2, 3)] * 500))
    assert (len(faults), faults[-1]) == (21, "t.csv: and 480 more faults")


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"", "t.csv: the file is empty"),
        (b" \n\n", "t.csv: the file is empty"),
        ("\u00a0\n\u2028\x1c".encode(), "t.csv: the file is empty"),
        (b"\xef\xbb\xbf", "t.csv: the file is empty"),
        (b"a,y\n", "t.csv: a header but no rows"),
        (b"a,y,y\n0,1,1\n", "t.csv:1: y: 2 columns have this name; keep one"),
        (b"a,y\n0,1\n\xe9,2\n", "t.csv:3: not UTF-8 (byte 0xe9); save the file as UTF-8"),
        ("a,y\n0,1\n".encode("utf-16-le"), "t.csv:1: a NUL byte; UTF-16 without a byte-order mark? Save the file as UTF-8"),
        (b"\xff\xfea\0,", "t.csv:1: not UTF-16, although its first bytes say so (byte 0x2c); save the file as UTF-8"),
        (b"a,y\n0,1\n\0,2\n", "t.csv:3: a NUL byte; this is not a text file"),
        (b"a,Y\n0,1\n", "t.csv:1: y: no such column; did you mean 'Y'?"),
        (b"a y\n0 1\n", "t.csv:1: fields are separated by spaces; save the file with commas or tabs"),
        (
            b'"a","y"\n"1",0,1\n"2",1,2\n',
            "t.csv:2: 3 fields, the header has 2; quote a field with a comma",
        ),
        (
            b"a,y\n1,0.5,\n2,0.7,\n",
            "t.csv: every row has one field more than the header: row numbers without a name in the header, or an extra "
            "delimiter at the end? Save the file without it",
        ),
        (b"PK\x03\x04..", "t.csv: a zip archive or an Excel workbook; save the sheet as CSV"),
        (b"\x1f\x8b..", "t.csv: compressed with gzip; unpack it first"),
        (b'{"a": 0, "y": 1}\n{"a": 0,', "t.csv:2: not JSON: Expecting property name enclosed in double quotes; "
         "one object a line, or one list of them"),
        (b'{"a": 0, "y": 1, "a": 1}', "t.csv:1: not JSON: a key appears twice in one object; one object a line, or one list "
         "of them"),
        (b'{"a": 0, "y": {"mean": 1}}', "t.csv:1: y: an object where one value is needed; name what is inside, such as y.mean"),
        (b'{"a": 0}', "t.csv: y: no such column; the columns are 'a'"),
        (b'[{"a": 0, "y": 1}', "t.csv:1: the list of records does not end here, or text follows it"),
        (b"[1, 2]", "t.csv:1: '1' is not an object with keys; expected one per line"),
        (b'{"a": ' + b"[" * 100_000, "t.csv:1: not JSON: maximum recursion depth exceeded"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused(tmp_path: Path, raw: bytes, fault: str) -> None:
    (tmp_path / "t.csv").write_bytes(raw)
    assert any(told.startswith(fault) for told in faults_of(tmp_path / "t.csv"))


def test_a_lone_quote_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('a,y\n0,1\n"1,2\n1,3\n')
    assert faults_of(tmp_path / "t.csv")[0].startswith("t.csv:3: a double quote opens a field here")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert faults_of(tmp_path / "t.csv") == ("t.csv: no such file",)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert faults_of(tmp_path)[0].endswith(": a folder; name a file")


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert faults_of(tmp_path / "pipe") == ("pipe: a pipe; save its output to a file, and name that file",)
    assert faults_of(Path("/dev/zero"))[0].endswith(": a device or a socket; name a file")


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    with open(tmp_path / "t.csv", "wb") as file:
        file.truncate(1 << 40)
    assert faults_of(tmp_path / "t.csv")[0].startswith("t.csv: more than 512 MiB")


def test_a_database_is_refused_by_name(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "t.csv") as connection:
        connection.execute("CREATE TABLE t (a)")
    connection.close()
    assert faults_of(tmp_path / "t.csv") == ("t.csv: an SQLite database; only `ablate analyze` reads one",)


def test_rows_know_their_lines_past_quoted_line_breaks(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('a,y\n"two\nlines",1\n\nx,2\n')
    table = read(tmp_path / "t.csv")
    assert (table.lines, table.columns["a"]) == ([2, 5], ["two\nlines", "x"])


def test_words_for_missing_stay_words(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", ["a", "y"], [("NA", ""), ("null", "None")])
    assert read(path).columns == {"a": ["NA", "null"], "y": ["", "None"]}


# Decimal commas


def test_decimal_commas_are_read_and_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a;y\n0,01;87,5\n0,1;88\n1e-3;90,125\n")
    table = read_numbers(tmp_path / "t.csv")
    assert table.columns == {"a": ["0.01", "0.1", "1e-3"], "y": ["87.5", "88", "90.125"]}
    assert table.notes == ["decimal commas: 0,01 is read as 0.01"]


def test_texts_with_commas_stay_texts(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a;y\nlarge, slow;87,5\nsmall;88,0\n")
    assert read_numbers(tmp_path / "t.csv").columns["a"] == ["large, slow", "small"]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_commas_that_may_be_thousands_are_refused_until_told(tmp_path: Path, delimiter: str) -> None:
    (tmp_path / "t.csv").write_text("a;y\n0;87,512\n1;88\n1;90,125\n".replace(";", delimiter))
    fault = "t.csv: y: '87,512' may be 87.512 or 87512; pass --decimal ',' or --decimal '.'"
    assert faults_of(tmp_path / "t.csv", numbers=["y"]) == (fault,)
    assert read_numbers(tmp_path / "t.csv", ",").columns["y"] == ["87.512", "88", "90.125"]
    assert read_numbers(tmp_path / "t.csv", ".").columns["y"] == ["87,512", "88", "90,125"]


def test_a_number_that_can_be_nothing_else_decides_for_all(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a;y\n0;87,512\n1;88,4\n")
    assert read_numbers(tmp_path / "t.csv").columns["y"] == ["87.512", "88.4"]


def test_columns_that_disagree_are_refused_until_told(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a;y\n1,5;0.874\n2,6;0.881\n")
    fault = "t.csv: a: its numbers have commas, those of y have points; pass --decimal ',' or --decimal '.'"
    assert faults_of(tmp_path / "t.csv", numbers=["y"]) == (fault,)
    assert read_numbers(tmp_path / "t.csv", ".").columns["a"] == ["1,5", "2,6"]


def test_points_of_thousands_are_not_taken_for_decimals(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a;y\n0,1;1.234\n0,2;2.345\n")
    assert faults_of(tmp_path / "t.csv", numbers=["y"], decimal=",") == (
        "t.csv:2: y: '1.234' has a decimal point, but other numbers have decimal commas",
    )


# The same values, whatever the form

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8).filter(
    lambda name: name[0] not in "{[\"'#" and "*" not in name
)
NUMBERS = st.decimals(-1000, 1000, places=3).filter(lambda number: number % 1 != 0)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=12).map(str.strip)
TEXTS = TEXTS.filter(lambda text: not any(character.isdigit() for character in text))


# The header, and rows: a text, a number, other texts.
Drawn = tuple[list[str], list[tuple[Any, ...]]]


@st.composite
def tables(draw: st.DrawFn) -> Drawn:
    header = draw(st.lists(NAMES, min_size=2, max_size=5, unique=True))
    row = st.tuples(TEXTS, NUMBERS, *[TEXTS] * (len(header) - 2))
    # one number that can be nothing but a decimal, and a last row that holds something
    return header, [
        *draw(st.lists(row, min_size=1, max_size=8)),
        ("last", Decimal("0.5"), *[""] * (len(header) - 2)),
    ]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=tables(),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    ending=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    comma=st.booleans(),
    index=st.booleans(),
)
def test_the_form_of_a_table_changes_no_value(
    tmp_path: Path,
    table: Drawn,
    delimiter: str,
    quoting: Literal[0, 1],
    ending: str,
    encoding: str,
    comma: bool,
    index: bool,
) -> None:
    (a, y, *others), rows = table
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=ending)
    writer.writerow([*([""] if index else []), a, y, *others])
    for number, (text, value, *rest) in enumerate(rows):
        shown = str(value).replace(".", ",") if comma else str(value)
        writer.writerow([*([number] if index else []), text, shown, *rest])
    (tmp_path / "t.csv").write_bytes(out.getvalue().encode(encoding))
    how = {"decimal": ","} if comma and delimiter == "," else {}
    found = read(tmp_path / "t.csv", [a, y], numbers=[y], **how)
    assert [as_number(text) for text in found.columns[y]] == [value for _, value, *_ in rows]
    assert found.columns[a] == [text for text, *_ in rows]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=tables(), listed=st.booleans(), nested=st.booleans(), indent=st.sampled_from([None, 2]))
def test_records_hold_the_same_values(
    tmp_path: Path, table: Drawn, listed: bool, nested: bool, indent: int | None
) -> None:
    (a, y, *_), rows = table
    records = [
        {a: text, "inner" if nested else y: {y: float(value)} if nested else float(value)}
        for text, value, *_ in rows
    ]
    text = json.dumps(records, indent=indent) if listed else "\n".join(map(json.dumps, records))
    (tmp_path / "t.json").write_text(text)
    key = f"inner.{y}" if nested else y
    found = read(tmp_path / "t.json", [a, key], numbers=[key])
    assert found.columns[a] == [text for text, *_ in rows]
    assert [float(text) for text in found.columns[key]] == [float(value) for _, value, *_ in rows]


# Records


def test_keys_with_dots_go_into_what_is_nested(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(
        '{"a": {"b.c": [7, {"d": " x "}]}, "y": true}\n{"a.b.c.0": 1e999999, "y": 2.50}\n'
    )
    table = read(tmp_path / "t.jsonl", ["a.b.c.0", "a.b.c.1.d", "y"])
    assert table.columns == {"a.b.c.0": ["7", "1e999999"], "a.b.c.1.d": ["x", ""], "y": ["true", "2.50"]}


def test_records_know_their_lines(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"a": 1, "y": 1}\n\n{"a": 2, "y": 2}\n')
    assert read(tmp_path / "t.jsonl").lines == [1, 3]
    (tmp_path / "t.jsonl").write_text('[\n{"a": 1, "y": 1},\n\n{"a": 2, "y": 2}]\n')
    assert read(tmp_path / "t.jsonl").lines == [2, 4]


def test_a_mistyped_key_gets_a_suggestion(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"a": 1, "metrics": {"exact_match": 1}}\n')
    assert faults_of(tmp_path / "t.jsonl", ["a", "metrics.exactmatch"]) == (
        "t.jsonl: metrics.exactmatch: no such column; did you mean 'metrics.exact_match'?",
    )
