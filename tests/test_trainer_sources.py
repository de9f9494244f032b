"""Sources: every fault at its place, all at once; nothing shifted, swallowed or guessed."""

import gzip
import lzma
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from fixture_types import not_none
from pydantic import ValidationError

from ablate.errors import BadInput, Unavailable
from ablate.trainer.data import hub
from ablate.trainer.data.examples import Examples, clusters, overlap
from ablate.trainer.data.reading import check_sources, examples, source_key
from ablate.trainer.data.sources import Source
from ablate.trainer.tasks.registry import TASKS

SENTIMENT = "id\tsentence\tsentiment\na\tfine film\t3\nb\tdull film\t1\n"


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Examples]:
    """Write `content` as the train file and read it; options go to Source."""

    def read_it(
        content: str | bytes,
        task: str = "sentiment",
        suffix: str = ".csv",
        split: str = "train",
        **options: Any,
    ) -> Examples:
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / f"{split}{suffix}").write_bytes(data)
        return examples(Source(files=str(tmp_path / ("{split}" + suffix)), **options), TASKS[task], split)

    return read_it


@pytest.fixture
def faults(read: Callable[..., Examples]) -> Callable[..., list[str]]:
    """Read as `read` does and return the faults, without the folder."""

    def faults_of(*args: Any, **options: Any) -> list[str]:
        with pytest.raises(BadInput) as caught:
            read(*args, **options)
        return [fault.rsplit("/", 1)[-1] if "/" in fault else fault for fault in caught.value.faults]

    return faults_of


# What is read


def test_tab_separated(read: Callable[..., Examples]) -> None:
    found = read(SENTIMENT)
    assert (found.ids, found.first, found.second) == (["a", "b"], ["fine film", "dull film"], None)
    assert not_none(found.labels).tolist() == [3.0, 1.0]


def test_comma_separated(read: Callable[..., Examples]) -> None:
    assert read('id,sentence,label\na,"fine, film",3\nb,x,1\n').first == ["fine, film", "x"]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.rstrip("\n"),
        lambda text: text + "\n\n",
    ],
    ids=["BOM", "CRLF", "no newline at the end", "blank lines at the end"],
)
def test_harmless_differences_of_form(
    read: Callable[..., Examples], change: Callable[[str], str | bytes]
) -> None:
    assert read(change(SENTIMENT)).first == ["fine film", "dull film"]


@pytest.mark.parametrize(("suffix", "pack"), [(".csv.gz", gzip.compress), (".tsv.xz", lzma.compress)])
def test_compressed(read: Callable[..., Examples], suffix: str, pack: Callable[[bytes], bytes]) -> None:
    assert read(pack(SENTIMENT.encode()), suffix=suffix).ids == ["a", "b"]


@pytest.mark.parametrize("text", ["NA", "null", "None", "nan", "", "-1", "TRUE"])
def test_texts_that_look_like_something_else_stay_text(read: Callable[..., Examples], text: str) -> None:
    assert read(SENTIMENT.replace("fine film", text)).first[0] == text


def test_a_first_column_without_a_name(read: Callable[..., Examples]) -> None:
    assert read("\tid\tsentence\tsentiment\n0\ta\tx\t1\n1\tb\ty\t2\n").ids == ["a", "b"]


def test_doubled_quotes_are_quotes(read: Callable[..., Examples]) -> None:
    assert read(SENTIMENT.replace("fine film", '"a ""fine"" film"')).first[0] == 'a "fine" film'


def test_a_sentence_may_span_lines(read: Callable[..., Examples]) -> None:
    assert read('id,sentence,label\na,"one\ntwo",3\nb,x,1\n').first[0] == "one\ntwo"


def test_unicode_line_separators_end_no_row(read: Callable[..., Examples]) -> None:
    assert read(SENTIMENT.replace("fine film", "fine\u2028film\x85")).first[0] == "fine\u2028film\x85"


def test_hub_names_of_pair_columns(read: Callable[..., Examples]) -> None:
    found = read("idx\tquestion1\tquestion2\tlabel\n7\tp\tq\t0.0\n8\tr\ts\t1.0\n", "paraphrase")
    assert (found.ids, found.first, found.second) == (["7", "8"], ["p", "r"], ["q", "s"])
    assert not_none(found.labels).tolist() == [0, 1]


def test_columns_maps_other_names(read: Callable[..., Examples]) -> None:
    found = read(
        "key,review,stars\na,x,1\nb,y,2\n", columns={"id": "key", "sentence": "review", "label": "stars"}
    )
    assert (found.ids, found.first) == (["a", "b"], ["x", "y"])


def test_rows_without_an_id_are_called_by_their_position(read: Callable[..., Examples]) -> None:
    assert read("text,label\nx,1\ny,2\n").ids == ["0", "1"]


def test_limit_takes_the_first_rows(read: Callable[..., Examples]) -> None:
    many = "text,label\n" + "".join(f"t{n},{n % 5}\n" for n in range(50))
    assert read(many, limit={"train": 7}).first == [f"t{n}" for n in range(7)]


def test_dev_may_be_called_validation(tmp_path: Path) -> None:
    (tmp_path / "validation.csv").write_text(SENTIMENT)
    assert len(examples(Source(files=str(tmp_path / "{split}.csv")), TASKS["sentiment"], "dev")) == 2


def test_splits_gives_other_names(tmp_path: Path) -> None:
    (tmp_path / "head.csv").write_text(SENTIMENT)
    source = Source(files=str(tmp_path / "{split}.csv"), splits={"train": "head"})
    assert len(examples(source, TASKS["sentiment"], "train")) == 2


def test_a_test_split_may_keep_its_labels_back(read: Callable[..., Examples]) -> None:
    assert read("0\t\tid\tsentence\n1\t0.0\ta\tx\n", split="test").labels is None


def test_hidden_labels_of_a_test_split_are_no_labels(read: Callable[..., Examples]) -> None:
    assert read(SENTIMENT.replace("\t3", "\t-1").replace("\t1", "\t-1"), split="test").labels is None


def test_course_text_of_pairs(read: Callable[..., Examples]) -> None:
    row = "AB\t Who's  there?\tMe, U.S. man \t1\n"
    found = read(f"id\tsentence1\tsentence2\tlabel\n{row}b\tx\ty\t0\n", "paraphrase", text="course")
    assert (found.ids[0], found.first[0], not_none(found.second)[0]) == (
        "ab",
        "who 's there ?",
        "me , u .s . man",
    )


def test_course_text_of_single_sentences_is_only_lowered(read: Callable[..., Examples]) -> None:
    assert read(SENTIMENT.replace("fine film", " It's  Fine. "), text="course").first[0] == "it's  fine."


def test_blank_labels_can_be_dropped_and_are_counted(read: Callable[..., Examples]) -> None:
    found = read(SENTIMENT + "c\tno label\t\n", blank_labels="drop")
    assert (len(found), found.dropped) == (2, 1)


# What is refused


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "train.csv: the file is empty"),
        ("\n \n", "train.csv: the file is empty"),
        ("id\tsentence\tsentiment\n", "train.csv:1: rows: none below the header"),
        ("id;sentence;sentiment\na;x;1\n", "train.csv:1: header: fields seem to be separated by semicolons"),
        ("sentence\nx\n", "train.csv:1: header: only one column ('sentence')"),
        (
            "id\tsentence\ttone\na\tx\t1\n",
            "train.csv:1: sentiment or label: no such column; found 'id', 'sentence'",
        ),
        ("id\tsentense\tlabel\na\tx\t1\n", "did you mean 'sentense'?"),
        ("id\tlabel\tsentence\tlabel\na\t1\tx\t1\n", "train.csv:1: label: appears twice"),
        (SENTIMENT + "c\tx\n", "train.csv:4: 2 fields where the header has 3"),
        (SENTIMENT + "c\tx\t1\t\n", "train.csv:4: 4 fields where the header has 3"),
        (SENTIMENT.replace("\t3", "\t"), "train.csv:2: sentiment: blank; write a whole number from 0 to 4"),
        (SENTIMENT.replace("\t3", "\tgood"), "train.csv:2: sentiment: 'good' is not a number"),
        (SENTIMENT.replace("\t3", "\tnan"), "train.csv:2: sentiment: 'nan' is not a number"),
        (SENTIMENT.replace("\t3", "\t1_0"), "train.csv:2: sentiment: '1_0' is not a number"),
        (SENTIMENT.replace("\t3", "\t5"), "train.csv:2: sentiment: '5' is out of range"),
        (SENTIMENT.replace("\t3", "\t-1"), "train.csv:2: sentiment: '-1' is out of range"),
        (SENTIMENT.replace("\t3", "\t2.5"), "train.csv:2: sentiment: '2.5' is out of range"),
        (SENTIMENT.replace("\t3", "\t1"), "train.csv:1: sentiment: every label is 1;"),
        (SENTIMENT.replace("\nb\t", "\na\t"), "train.csv:3: id: 'a' is already on line 2"),
        (SENTIMENT.replace("\nb\t", "\n \t"), "train.csv:3: id: blank"),
        (SENTIMENT.replace("fine", '"fine'), "train.csv:2: a double quote opens a field here"),
        (
            SENTIMENT.replace("fine", '"fine" old'),
            "train.csv:2: a quoted field continues after its closing",
        ),
        (SENTIMENT.replace("fine", "fi\0ne"), "train.csv:2: a NUL byte"),
        (
            SENTIMENT.encode().replace(b"fine", b"fin\xe9"),
            "train.csv:2: not UTF-8 (byte 0xe9); save the file as UTF-8",
        ),
        (SENTIMENT.encode("utf-16"), "train.csv: the file is UTF-16"),
        (SENTIMENT.replace("fine", "x" * 1_000_000), "train.csv:2: 1,000,009 characters long"),
        (SENTIMENT.replace("fine", "fi\rne"), "train.csv:2: a carriage return"),
        (
            gzip.compress(SENTIMENT.encode(), mtime=0),
            "train.csv: compressed with gzip; unpack it first, or end its name in .gz",
        ),
    ],
)
def test_faults_of_a_file(faults: Callable[..., list[str]], content: str | bytes, expected: str) -> None:
    told = faults(content)
    assert len(told) == 1
    assert expected in told[0]


@pytest.mark.parametrize(
    ("task", "label"), [("paraphrase", "0.5"), ("paraphrase", "2"), ("similarity", "5.1")]
)
def test_labels_of_pairs_out_of_range(faults: Callable[..., list[str]], task: str, label: str) -> None:
    told = faults(f"id\tsentence1\tsentence2\tlabel\na\tx\ty\t{label}\nb\tx\ty\t1\n", task)
    assert f"train.csv:2: label: '{label}' is out of range" in told[0]


def test_a_lone_quote_that_a_later_one_closes_is_found(faults: Callable[..., list[str]]) -> None:
    """The csv module reads this as one row of the right width and loses two rows in silence."""
    told = faults('id\tsentence\tlabel\na\t"x\t1\nb\ty\t2\nc\tz"\t3\nd\tw\t0\n')
    assert told == [
        "train.csv:2: a double quote opens a field here and swallows the lines after it; "
        'write a quote inside a field as "", or write `quotes: none` where quotes are text like any other'
    ]


def test_ids_that_only_differ_in_case_are_the_same_in_course_text(
    read: Callable[..., Examples], faults: Callable[..., list[str]]
) -> None:
    content = SENTIMENT + "A\tx\t2\n"
    assert read(content).ids == ["a", "b", "A"]
    assert faults(content, text="course") == [
        "train.csv:4: id: 'a' is already on line 2; ids must differ, also without capitals (`text: course` ignores them)"
    ]


QUOTED = "id,sentence,label\n1,x,1\n2,y,2\n"


@pytest.mark.parametrize(
    "row",
    [
        '3,"a\n42\nb",3',
        '3,"a\n42",3',
        '3,"a\n42, b\nc",3',
        '3,"a\n4, b, 3\nc",3',
        '3,"Dear all,\nHello, 42",3',
        '3,"a,1\nb,2\nc,d",3',
    ],
)
def test_a_field_of_several_lines_may_contain_numbers_and_commas(
    read: Callable[..., Examples], row: str
) -> None:
    assert read(f"{QUOTED}{row}\n4,z,1\n").first[2:] == [row.split('"')[1], "z"]


@pytest.mark.parametrize(
    "rows",
    [
        '3,"a,3\n4,b,1\n5,c",2',
        '3,"a,3\n5,c",2',
        '3,"a,3\n\n4,b,1\n5,c",2',
        '3,"a,3\n4,b,1\n5,c\n',
    ],
)
def test_a_lone_quote_is_found_between_commas(faults: Callable[..., list[str]], rows: str) -> None:
    assert faults(f"{QUOTED}{rows}\n6,z,1\n")[0].startswith("train.csv:4: a double quote opens a field here")


def test_all_faults_at_once_in_the_order_of_the_file(faults: Callable[..., list[str]]) -> None:
    told = faults(SENTIMENT + "c\tx\t9\nd\n\tx\t1\na\tx\tbad\n")
    assert [fault.split(": ")[0] for fault in told] == [
        "train.csv:4",
        "train.csv:5",
        "train.csv:6",
        "train.csv:7",
        "train.csv:7",
    ]


def test_twenty_faults_are_told_and_the_rest_counted(faults: Callable[..., list[str]]) -> None:
    told = faults(SENTIMENT + "".join(f"r{n}\tx\t9\n" for n in range(50)))
    assert len(told) == 21
    assert told[-1] == "train.csv: and 30 more faults"


def test_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "train.csv.xz").write_bytes(b"")
    with pytest.raises(BadInput, match=r"no such file; did you mean 'train.csv.xz'\?"):
        examples(Source(files=str(tmp_path / "{split}.csv")), TASKS["sentiment"], "train")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(BadInput, match="a folder; name a file"):
        examples(Source(files=str(tmp_path / "{split}")), TASKS["sentiment"], "train")


@pytest.mark.parametrize(("suffix", "pack"), [(".csv.gz", gzip.compress), (".csv.xz", lzma.compress)])
def test_truncated_compression(
    faults: Callable[..., list[str]], suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    assert "file ends too early" in faults(pack(SENTIMENT.encode())[:-9], suffix=suffix)[0]


@pytest.mark.parametrize(("suffix", "pack"), [(".csv.gz", gzip.compress), (".csv.xz", lzma.compress)])
def test_damaged_compression(
    faults: Callable[..., list[str]], suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    packed = bytearray(pack(SENTIMENT.encode() * 50))
    packed[len(packed) // 2] ^= 0xFF
    assert "is damaged" in faults(bytes(packed), suffix=suffix)[0]


def test_plain_text_called_gz(faults: Callable[..., list[str]]) -> None:
    assert "not a gzip file, despite its name" in faults(SENTIMENT, suffix=".csv.gz")[0]


def test_a_mapped_column_that_is_missing(faults: Callable[..., list[str]]) -> None:
    assert faults(SENTIMENT, columns={"id": "key"})[0].startswith("train.csv:1: key: no such column")


def test_a_role_that_the_task_does_not_have(faults: Callable[..., list[str]]) -> None:
    assert "sentiment has no such column" in faults(SENTIMENT, columns={"sentence1": "sentence"})[0]


def test_what_a_user_wrote_cannot_speak_to_the_terminal(faults: Callable[..., list[str]]) -> None:
    assert "\x1b" not in faults(SENTIMENT.replace("\t3", "\t\x1b[31m"))[0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"hub": "a/b", "files": "{split}.csv"}, "both hub and files"),
        ({"config": "qqp"}, "need hub"),
        ({"files": "train.csv"}, r"has no \{split\}"),
        (
            {"files": "{split}.csv", "splits": {"dev": "train"}},
            r"train and dev would be the same rows \(train\)",
        ),
        (
            {"hub": "a/b", "splits": {"train": "validation"}},
            r"train and dev would be the same rows \(validation\)",
        ),
        (
            {"hub": "a/b", "splits": {"test": "validation"}},
            r"dev and test would be the same rows \(validation\)",
        ),
        (
            {"hub": "a/b", "splits": {"dev": "train[:9%]"}},
            r"train and dev would be .* \(train and train\[:9%\]\)",
        ),
        ({"files": "{split}.csv", "splits": {"trian": "x"}}, "did you mean 'train'"),
        ({"files": "{split}.csv", "columns": {"sentense": "x"}}, "did you mean 'sentence'"),
        ({"limit": {"train": 0}}, "greater than 0"),
        ({"splits": {"train": "x"}}, "the built-in corpus has neither"),
        ({"file": "{split}.csv"}, "Extra inputs"),
    ],
)
def test_sources_that_cannot_be(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        Source(**options)


@pytest.mark.parametrize(
    "splits",
    [
        {"train": "validation", "dev": "dev"},
        {"dev": "validation", "test": "dev"},
        {"train": "train[:90%]", "dev": "train[90%:]"},
    ],
)
def test_splits_with_names_of_their_own(splits: dict[str, str]) -> None:
    assert Source(hub="a/b", splits=splits).splits == splits


def test_describing_a_source_loads_nothing_heavy() -> None:
    program = "import sys, ablate.trainer.data.sources as s; s.Source(files='{split}'); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"numpy", "torch", "transformers", "datasets"} & set(loaded.stdout.split())


# Checking before training


def test_check_tells_the_faults_of_all_splits_and_tasks(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(SENTIMENT + "c\tx\t9\n")
    source = Source(files=str(tmp_path / "{split}.csv"))
    with pytest.raises(BadInput) as caught:
        check_sources({TASKS["sentiment"]: source, TASKS["paraphrase"]: source})
    assert (
        len(caught.value.faults) == 6
    )  # a label, three columns that are no pair's, and a missing dev file for each
    assert caught.value.exit_code == 2


def test_a_checked_source_is_not_read_again_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.csv").write_text(SENTIMENT)
    source = Source(files=str(tmp_path / "{split}.csv"))
    check_sources({TASKS["sentiment"]: source}, ["train"])
    with monkeypatch.context() as patch:
        patch.setattr("ablate.trainer.data.reading.examples", None)  # reading now would fail
        check_sources({TASKS["sentiment"]: source}, ["train"])
    (tmp_path / "train.csv").write_text(SENTIMENT + "c\n")
    with pytest.raises(BadInput):
        check_sources({TASKS["sentiment"]: source}, ["train"])


def test_the_key_follows_the_bytes_and_not_the_name(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(SENTIMENT)
    (tmp_path / "other.csv").write_text(SENTIMENT)
    here = Source(files=str(tmp_path / "{split}.csv"))
    there = Source(files=str(tmp_path / "{split}.csv"), splits={"train": "other"})
    same = source_key(here, "train")
    assert source_key(there, "train") == same
    (tmp_path / "train.csv").write_text(SENTIMENT + " ")
    assert source_key(here, "train") != same


def test_the_key_of_a_local_folder_under_hub_follows_its_files(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(SENTIMENT)
    source = Source(hub=str(tmp_path))
    before = source_key(source, "train")
    assert source_key(source, "train") == before
    (tmp_path / "train.csv").write_text(SENTIMENT + " ")
    assert source_key(source, "train") != before


def test_overlap_ignores_case_spaces_and_order() -> None:
    a = Examples(["1", "2"], ["Who is it?", "x"], ["Me .", "y"], np.zeros(2))
    b = Examples(["3", "4"], ["me.", "x"], ["who  is it ?", "z"], np.zeros(2))
    assert overlap(a, b) == 1


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (["a", "b", "c"], ["x", "y", "z"], None),
        (["a", "b", "c"], ["x", "y", "a"], [0, 1, 0]),
        (["d", "Who  is it?", "a", "b"], ["e", "x", "who is IT? ", "x"], [0, 1, 1, 1]),
        (["c", "a", "b", "p"], ["d", "b", "c", "p"], [0, 0, 0, 1]),  # the last pair has one sentence twice
        (["a", "p", "c", "b"], ["b", "q", "d", "c"], [0, 1, 0, 0]),  # two clusters that the last row joins
        (["fine", "dull", "Fine "], None, [0, 1, 0]),
        (["fine", "dull"], None, None),
    ],
)
def test_rows_that_share_a_sentence_are_one_cluster(
    first: list[str], second: list[str] | None, expected: list[int] | None
) -> None:
    found = clusters(Examples([str(i) for i in range(len(first))], first, second, None))
    assert (None if found is None else found.tolist()) == expected


def test_a_chain_of_a_hundred_thousand_pairs_is_one_cluster() -> None:
    """In an order in which every pair joins two clusters."""
    order = np.random.default_rng(0).permutation(100_000).tolist()
    pairs = Examples([], [f"q{i}" for i in order], [f"q{i + 1}" for i in order], None)
    pairs.ids.extend(map(str, order))
    assert set(not_none(clusters(pairs)).tolist()) == {0}


# Data as the world has it

# Rows of the kind that the official files of GLUE have: a quote opens a question, and one in another row follows.
QQP = (
    "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    "1\t2\t3\t\"What is love?\tWhat's love\t1\n"
    '2\t4\t5\tWho sang "Help!"\t"Help" by whom?\t0\n'
    '3\t6\t7\t"Is it?" he said\tSaid "is it?"\t0\n'
)


def test_quotes_of_glue_s_own_files_are_text(read: Callable[..., Examples]) -> None:
    found = read(QQP, "paraphrase", suffix=".tsv", quotes="none")
    assert found.first == ['"What is love?', 'Who sang "Help!"', '"Is it?" he said']
    assert found.second == ["What's love", '"Help" by whom?', 'Said "is it?"']
    assert not_none(found.labels).tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    "rows",
    [
        '1\t"what is x?\ty?\t1\n2\tz\tb\t0\n',
        '1\t"what is x?\ty?\t1\n2\ta"\tb\t0\n',
        '1\t"what is x?\ty?"\t1\n2\ta\tb\t0\n',
        '1\t"what" is x?\ty?\t1\n2\ta\tb\t0\n',
        '1\tx\t"y?\t1\n2\ta\t"b\t0\n',
    ],
    ids=["never closed", "closed a row later", "closed a field later", "goes on", "closed by another"],
)
def test_a_fault_of_a_quote_names_the_setting(faults: Callable[..., list[str]], rows: str) -> None:
    fault, *_ = faults("id\tsentence1\tsentence2\tlabel\n" + rows, "paraphrase", suffix=".tsv")
    assert fault.startswith("train.tsv:2: ")
    assert "`quotes: none`" in fault


def test_quotes_that_are_text_still_end_no_line_by_a_carriage_return(
    faults: Callable[..., list[str]],
) -> None:
    (fault,) = faults(QQP.replace("love?", "lo\rve"), "paraphrase", quotes="none")
    assert "a carriage return inside the line" in fault


def test_a_source_reads_the_same_as_before_there_were_quotes_to_choose(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(SENTIMENT)
    files = str(tmp_path / "{split}.csv")
    assert "quotes" not in source_key(Source(files=files), "train")
    assert "quotes" in source_key(Source(files=files, quotes="none"), "train")


@pytest.mark.parametrize("quotes", ["double", "none"])
@pytest.mark.parametrize(
    "end", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"], ids=ascii
)
def test_what_ends_a_line_only_in_unicode_is_text(
    read: Callable[..., Examples], end: str, quotes: str
) -> None:
    found = read(SENTIMENT.replace("fine film", f"fine{end}film"), quotes=quotes)
    assert (found.ids, found.first[0]) == (["a", "b"], f"fine{end}film")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (SENTIMENT + "\ufeff" + SENTIMENT.replace("a\t", "c\t").replace("b\t", "d\t"), 4),
        ("\ufeff\ufeff" + SENTIMENT, 1),
        (SENTIMENT.replace("\nb", "\n\ufeffb"), 3),
    ],
    ids=["two files joined", "two marks", "one row"],
)
def test_a_byte_order_mark_inside_a_file(faults: Callable[..., list[str]], text: str, line: int) -> None:
    (fault,) = faults(text)
    assert fault.startswith(f"train.csv:{line}: the line begins with a byte-order mark")


def test_a_byte_order_mark_inside_a_sentence_is_text(read: Callable[..., Examples]) -> None:
    assert read(SENTIMENT.replace("fine film", "fine\ufeff film")).first[0] == "fine\ufeff film"


def test_ids_that_are_equal_as_numbers_or_missing_in_pandas_are_kept_apart(
    read: Callable[..., Examples],
) -> None:
    ids = ["1", "01", "1.0", "1e0", "+1", "NA", "null", "nan", "None", "N/A", "inf", "A", "a", "é", "e\u0301"]
    rows = "".join(f"{name}\t{name}\t{number % 5}\n" for number, name in enumerate(ids))
    found = read("id\tsentence\tsentiment\n" + rows)
    assert (found.ids, found.first) == (ids, ids)


def test_a_file_with_carriage_returns_for_line_ends_has_one_fault(faults: Callable[..., list[str]]) -> None:
    (fault,) = faults(SENTIMENT.replace("\n", "\r"))
    assert fault == "train.csv:1: a carriage return inside the line; end lines with LF or CRLF"


@pytest.mark.parametrize(
    ("task", "labels", "note"),
    [
        (
            "similarity",
            "0 0.5 1",
            "the labels are between 0 and 1, where 0 to 5 is possible; are they on another scale?",
        ),
        ("similarity", "0 2.5 5", ""),
        ("sentiment", "0 1 1", "no row has the label 2, 3, 4; is the number of labels right?"),
        ("sentiment", "0 1 2 3 4", ""),
        ("paraphrase", "0 1 0", ""),
    ],
)
def test_labels_that_look_like_those_of_another_scale_are_noted_once(
    task: str, labels: str, note: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"a{n}\tb{n}\t{label}\n" for n, label in enumerate(labels.split()))
    (tmp_path / "train.tsv").write_text("sentence1\tsentence2\tlabel\n" + rows)
    columns = {"sentence": "sentence1"} if task == "sentiment" else {}
    source = Source(files=str(tmp_path / "{split}.tsv"), columns=columns)
    for _ in range(2):
        check_sources({TASKS[task]: source}, ["train"])
    assert capsys.readouterr() == ("", f"note: {task}/train: {note}\n" if note else "")


# The hub


@pytest.fixture
def hub_asked_afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    hub.hub_answers.cache_clear()
    yield
    hub.hub_answers.cache_clear()


@pytest.mark.usefixtures("hub_asked_afresh")
def test_a_hub_name_without_network_is_refused_quietly(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(
        Unavailable, match=r"hub: SetFit/sst5 is not cached on this machine .* HF_HOME .* `files:`"
    ):
        examples(Source(hub="SetFit/sst5"), TASKS["sentiment"], "train")
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("hub_asked_afresh")
def test_a_hub_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(hub, "HUB_SECONDS", 0.2)
        assert not hub.hub_answers()


@pytest.fixture
def hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that `datasets` loads as it loads a hub dataset."""
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "sst"
    folder.mkdir()
    (folder / "train.csv").write_text("text,label\nfine,3\ndull,1\n")
    (folder / "validation.csv").write_text("text,label\ngood,4\nbad,0\nNA,2\n")
    return folder


def test_a_hub_dataset_with_its_validation_split(hub_folder: Path) -> None:
    found = examples(Source(hub=str(hub_folder)), TASKS["sentiment"], "dev")
    assert (found.first[:2], not_none(found.labels).tolist()) == (["good", "bad"], [4, 0, 2])


def test_a_split_that_the_hub_dataset_lacks(hub_folder: Path) -> None:
    with pytest.raises(BadInput, match=r"no split called test .*name it with splits"):
        examples(Source(hub=str(hub_folder)), TASKS["sentiment"], "test")


def test_faults_of_a_hub_dataset_name_its_row(hub_folder: Path) -> None:
    (hub_folder / "train.csv").write_text("text,label\nfine,3\ndull,7\n")
    with pytest.raises(BadInput, match=r"sst\[train\]:2: label: '7' is out of range"):
        examples(Source(hub=str(hub_folder)), TASKS["sentiment"], "train")


def test_rows_of_parquet_are_as_they_were_written(hub_folder: Path) -> None:
    names = ["1", "01", "1.0", "NA", "null", "nan", "None", "a\u2028b", "\ufeffx", '"lone']
    for csv in hub_folder.glob("*.csv"):
        csv.unlink()
    labels = [number % 5 for number in range(len(names))]
    table = pyarrow.table({"id": names, "text": names, "label": labels})
    pyarrow.parquet.write_table(table, hub_folder / "train.parquet")
    found = examples(Source(hub=str(hub_folder)), TASKS["sentiment"], "train")
    assert (found.ids, found.first, not_none(found.labels).tolist()) == (names, names, labels)


ODD_WORDS = ["1", "01", "1.0", "NA", "null", "nan", "None", "N/A", "true", "1e5"]


def odd_rows(separator: str = ",") -> str:
    rows = [["id", "text", "label"]] + [[word, word, str(n % 5)] for n, word in enumerate(ODD_WORDS)]
    return "".join(separator.join(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    "others",
    [{}, {"notes.json": "{}"}, {"README.md": "---\nlicense: mit\n---\n"}],
    ids=["alone", "json", "card"],
)
def test_rows_of_a_folder_of_csv_are_as_they_were_written(hub_folder: Path, others: dict[str, str]) -> None:
    (hub_folder / "train.csv").write_text(odd_rows())
    for name, text in others.items():
        (hub_folder / name).write_text(text)
    found = examples(Source(hub=str(hub_folder)), TASKS["sentiment"], "train")
    assert (found.ids, found.first) == (ODD_WORDS, ODD_WORDS)


def test_rows_of_a_folder_of_tsv_are_as_they_were_written(hub_folder: Path) -> None:
    for csv in hub_folder.glob("*.csv"):
        csv.unlink()
    (hub_folder / "train.tsv").write_text(odd_rows("\t"))
    found = examples(Source(hub=str(hub_folder)), TASKS["sentiment"], "train")
    assert (found.ids, found.first) == (ODD_WORDS, ODD_WORDS)


def as_if_downloaded(cache: Path) -> None:
    """Rename what a folder `sst` left in a cache to what the hub's dataset org/sst leaves there."""
    (cache / "sst").rename(cache / "org___sst")
    for version in [path for path in (cache / "org___sst").glob("*/0.0.0/*") if path.is_dir()]:
        version.rename(version.with_name("b" * 40))


@pytest.mark.usefixtures("hub_asked_afresh")
def test_a_csv_dataset_of_the_hub_is_found_in_the_cache_as_it_was_written(
    hub_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (hub_folder / "train.csv").write_text(odd_rows())
    examples(Source(hub=str(hub_folder)), TASKS["sentiment"], "train")
    as_if_downloaded(tmp_path / "cache")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = examples(Source(hub="org/sst"), TASKS["sentiment"], "train")
    assert (found.ids, found.first) == (ODD_WORDS, ODD_WORDS)


@pytest.mark.usefixtures("hub_asked_afresh")
@pytest.mark.parametrize("word", ["NA", "fine"])
def test_a_cached_dataset_that_may_lack_words_is_refused(
    hub_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    import datasets

    (hub_folder / "train.csv").write_text(f"text,label\n{word},3\ndull,1\n")
    datasets.load_dataset(str(hub_folder), cache_dir=str(tmp_path / "cache"))
    as_if_downloaded(tmp_path / "cache")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    source = Source(hub="org/sst")
    if word == "fine":
        assert examples(source, TASKS["sentiment"], "train").first == ["fine", "dull"]
    else:
        with pytest.raises(Unavailable, match=r"org/sst: the copy .* may lack words such as NA"):
            examples(source, TASKS["sentiment"], "train")


def test_truth_values_and_bytes_of_parquet_are_labels_and_text(hub_folder: Path) -> None:
    for csv in hub_folder.glob("*.csv"):
        csv.unlink()
    table = pyarrow.table(
        {"question1": [b"a", "é".encode()], "question2": ["b", "d"], "label": [True, False]}
    )
    pyarrow.parquet.write_table(table, hub_folder / "train.parquet")
    found = examples(Source(hub=str(hub_folder)), TASKS["paraphrase"], "train")
    assert (found.first, not_none(found.labels).tolist()) == (["a", "é"], [1, 0])


def test_missing_labels_of_parquet_are_blank(hub_folder: Path) -> None:
    for csv in hub_folder.glob("*.csv"):
        csv.unlink()
    table = pyarrow.table({"text": ["a", "b", "c"], "label": [1.0, None, float("nan")]})
    pyarrow.parquet.write_table(table, hub_folder / "train.parquet")
    with pytest.raises(BadInput) as caught:
        examples(Source(hub=str(hub_folder)), TASKS["sentiment"], "train")
    assert ["blank" in fault for fault in caught.value.faults] == [True, False]
    assert "'nan' is not a number" in caught.value.faults[1]


def test_a_dataset_that_is_a_program_names_the_revision_that_is_data(hub_folder: Path) -> None:
    for csv in hub_folder.glob("*.csv"):
        csv.unlink()
    (hub_folder / "sst.py").write_text("import datasets\nclass Sst(datasets.GeneratorBasedBuilder): ...\n")
    with pytest.raises(BadInput, match="revision: refs/convert/parquet"):
        examples(Source(hub=str(hub_folder)), TASKS["sentiment"], "train")


# CS224N's files as they are

ASSETS = os.environ.get("ABLATE_TEST_ASSETS", "")
course = [
    pytest.mark.assets,
    pytest.mark.skipif(not ASSETS, reason="ABLATE_TEST_ASSETS names no folder with the CS224N files"),
]
COURSE = Path(ASSETS) / "data" / "cs224n"
COURSE_SOURCES = {
    "sentiment": Source(files=f"{COURSE}/ids-sst-{{split}}.csv.xz", splits={"test": "test-student"}),
    "paraphrase": Source(
        files=f"{COURSE}/quora-{{split}}.csv.xz", splits={"train": "train-recovered"}, blank_labels="drop"
    ),
    "similarity": Source(files=f"{COURSE}/sts-{{split}}.csv.xz", splits={"test": "test-student"}),
}
COURSE_ROWS = {"sentiment": (8544, 1101), "paraphrase": (55837, 20212), "similarity": (6040, 863)}
COURSE_OVERLAP = {"sentiment": 2, "paraphrase": 6, "similarity": 16}  # rows of dev that are in train too


@pytest.mark.parametrize("task", [pytest.param(task, marks=course) for task in TASKS])
def test_rows_of_the_course_files(task: str) -> None:
    train, dev = (examples(COURSE_SOURCES[task], TASKS[task], split) for split in ("train", "dev"))
    assert (len(train), len(dev)) == COURSE_ROWS[task]
    assert dev.dropped == (2 if task == "paraphrase" else 0)
    assert overlap(train, dev) == COURSE_OVERLAP[task]


@pytest.mark.parametrize("task", [pytest.param(task, marks=course) for task in ("sentiment", "similarity")])
def test_student_test_files_of_the_course_have_no_labels(task: str) -> None:
    found = examples(COURSE_SOURCES[task], TASKS[task], "test")
    assert found.labels is None
    assert len(found) == {"sentiment": 2210, "similarity": 1725}[task]


@pytest.mark.assets
@pytest.mark.skipif(not ASSETS, reason="ABLATE_TEST_ASSETS names no folder with the CS224N files")
def test_the_two_blank_labels_of_quora_dev_are_refused_by_default() -> None:
    source = COURSE_SOURCES["paraphrase"].model_copy(update={"blank_labels": "refuse"})
    with pytest.raises(BadInput) as caught:
        examples(source, TASKS["paraphrase"], "dev")
    assert len(caught.value.faults) == 2
    assert all("quora-dev" in fault and "is_duplicate: blank" in fault for fault in caught.value.faults)
