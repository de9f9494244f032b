"""Labels of declared tasks in files: numbers, names, several at once; every fault at its line."""

from pathlib import Path
from typing import Any

import pytest
from fixture_types import not_none

from ablate.errors import BadInput
from ablate.trainer.data.examples import Examples
from ablate.trainer.data.reading import examples
from ablate.trainer.declared_tasks import DeclaredTask
from ablate.trainer.tasks.declared_presets import PRESETS

NLI = {"kind": "pair_classification", "labels": ["contradiction", "neutral", "entailment"]}
TOPICS = {"kind": "multilabel", "labels": ["sport", "politics", "art"]}
SCORE = {"kind": "regression", "range": [-1, 1]}


def read(folder: Path, declared: dict[str, Any], labels: list[str], split: str = "train") -> Examples:
    """Read a file with these labels; a label may contain commas."""
    pair = "pair" in declared["kind"]
    header = "sentence1\tsentence2\tlabel" if pair else "sentence\tlabel"
    text = "a\tb" if pair else "a"
    lines = [header, *(f"{text}\t{label}" for label in labels)]
    (folder / f"t-{split}.tsv").write_text("\n".join(lines) + "\n")
    task = DeclaredTask.model_validate({**declared, "files": str(folder / "t-{split}.tsv")})
    return examples(task.source, task.task("t"), split)


@pytest.mark.parametrize(
    ("declared", "written", "numbers"),
    [
        (NLI, ["neutral", " entailment "], [1, 2]),
        (NLI, ["0", "2"], [0, 2]),
        ({**NLI, "labels": ["1", "2"]}, ["2", "1"], [1, 0]),
        ({**NLI, "labels": 3}, ["2", "0.0"], [2, 0]),
        (SCORE, ["-1", "0.25"], [-1, 0.25]),
        (TOPICS, ["art|sport", "", "politics"], [[1, 0, 1], [0, 0, 0], [0, 1, 0]]),
        (TOPICS, ["[1, 2]", "[]"], [[0, 1, 1], [0, 0, 0]]),
        ({**TOPICS, "labels": 3}, ["0|2", "1"], [[1, 0, 1], [0, 1, 0]]),
    ],
    ids=str,
)
def test_labels_are_read(declared: dict[str, Any], written: list[str], numbers: Any, tmp_path: Path) -> None:
    assert not_none(read(tmp_path, declared, written).labels).tolist() == numbers


def test_a_json_list_of_names(tmp_path: Path) -> None:
    found = read(tmp_path, TOPICS, ['"[""art"", ""sport""]"', "art"])
    assert not_none(found.labels).tolist() == [[1, 0, 1], [0, 0, 1]]


def test_rows_without_any_label_can_be_dropped(tmp_path: Path) -> None:
    found = read(tmp_path, {**TOPICS, "blank_labels": "drop"}, ["art", "", "sport"])
    assert (len(found), found.dropped) == (2, 1)


@pytest.mark.parametrize("declared", [NLI, TOPICS, {**NLI, "labels": 3}], ids=str)
def test_a_test_split_may_hide_its_labels(declared: dict[str, Any], tmp_path: Path) -> None:
    assert read(tmp_path, declared, ["-1", "-1"], "test").labels is None


NAMES = "write one of contradiction, neutral, entailment"


@pytest.mark.parametrize(
    ("declared", "written", "fault"),
    [
        (
            NLI,
            ["neutral", "entailmnt"],
            f"3: label: 'entailmnt' is not a label; {NAMES}; did you mean 'entailment'?",
        ),
        (
            NLI,
            ["neutral", "Neutral"],
            f"3: label: 'Neutral' is not a label; {NAMES}; did you mean 'neutral'?",
        ),
        (NLI, ["neutral", "2"], f"3: label: '2' is not a label; {NAMES}"),
        (NLI, ["neutral", ""], f"3: label: blank; {NAMES}, or leave such rows out with `blank_labels: drop`"),
        (NLI, ["0", "3"], f"3: label: '3' is out of range; {NAMES}"),
        (NLI, ["0", "1.5"], f"3: label: '1.5' is out of range; {NAMES}"),
        (
            NLI,
            ["neutral", "neutral"],
            "1: label: every label is neutral; at least two different ones are needed",
        ),
        (
            {**NLI, "labels": 3},
            ["0", "neutral"],
            "3: label: 'neutral' is not a number; write a whole number from 0 to 2",
        ),
        (SCORE, ["0", "1.01"], "3: label: '1.01' is out of range; write a number from -1 to 1"),
        (SCORE, ["0", "nan"], "3: label: 'nan' is not a number; write a number from -1 to 1"),
        (
            TOPICS,
            ["art", "sport|music"],
            "3: label: 'music' is not a label; write labels separated by |, each one of sport",
        ),
        (TOPICS, ["art", "art|art"], "3: label: 'art' appears twice; write each label once"),
        (TOPICS, ["art", "art|"], "3: label: blank"),
        (
            TOPICS,
            ["art", "[art"],
            "3: label: '[art' is not a JSON list; separate labels by |, or write a list",
        ),
        (TOPICS, ["art|sport", "sport|art"], "1: label: every label is sport|art; at least two"),
        (TOPICS, ["", ""], "1: label: every label is blank; at least two"),
    ],
    ids=str,
)
def test_a_wrong_label_is_named_with_its_line(
    declared: dict[str, Any], written: list[str], fault: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput) as caught:
        read(tmp_path, declared, written)
    (found,) = caught.value.faults
    assert found.partition("t-train.tsv:")[2].startswith(fault)


def test_all_wrong_labels_are_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        read(tmp_path, NLI, ["neutral", "x", "entailment", "y"])
    assert [fault.split(":")[1] for fault in caught.value.faults] == ["3", "5"]


OFFICIAL = {  # the files of gluebenchmark.com that have a header, and the hub's columns
    "glue/sst2": [
        ("sentence\tlabel", "fine film\t1", "dull film\t0"),
        ("idx\tsentence\tlabel", "0\ta\t1", "1\tb\t0"),
    ],
    "glue/cola": [("sentence\tlabel\tidx", "It sank.\t1\t0", "Sank it.\t0\t1")],
    "glue/mrpc": [("sentence1\tsentence2\tlabel\tidx", "a\tb\t1\t0", "c\td\t0\t1")],
    "glue/stsb": [
        ("index\tgenre\tsentence1\tsentence2\tscore", "0\tnews\ta\tb\t4.6", "1\tnews\tc\td\t0.2"),
        ("sentence1\tsentence2\tlabel\tidx", "a\tb\t4.6\t0", "c\td\t0.2\t1"),
    ],
    "glue/qqp": [
        ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "0\t1\t2\ta\tb\t1", "1\t3\t4\tc\td\t0"),
        ("question1\tquestion2\tlabel\tidx", "a\tb\t1\t0", "c\td\t0\t1"),
    ],
    "glue/mnli": [
        (
            "index\tpromptID\tgenre\tsentence1\tsentence2\tlabel1\tgold_label",
            "0\t9\tx\ta\tb\tneutral\tneutral",
            "1\t8\tx\tc\td\tneutral\tentailment",
        ),
        ("premise\thypothesis\tlabel\tidx", "a\tb\t1\t0", "c\td\t0\t1"),
    ],
    "glue/qnli": [
        ("index\tquestion\tsentence\tlabel", "0\ta\tb\tnot_entailment", "1\tc\td\tentailment"),
        ("question\tsentence\tlabel\tidx", "a\tb\t1\t0", "c\td\t0\t1"),
    ],
    "glue/rte": [
        ("index\tsentence1\tsentence2\tlabel", "0\ta\tb\tnot_entailment", "1\tc\td\tentailment"),
        ("sentence1\tsentence2\tlabel\tidx", "a\tb\t1\t0", "c\td\t0\t1"),
    ],
    "cs224n/sst": [("\tid\tsentence\tsentiment", "0\tx\ta fine film\t3", "1\ty\ta dull one\t1")],
    "cs224n/quora": [("\tid\tsentence1\tsentence2\tis_duplicate", "0\tx\ta\tb\t1.0", "1\ty\tc\td\t0.0")],
    "cs224n/sts": [("\tid\tsentence1\tsentence2\tsimilarity", "0\tx\ta\tb\t3.8", "1\ty\tc\td\t0.0")],
}


@pytest.mark.parametrize(
    ("preset", "lines"), [(name, lines) for name, files in OFFICIAL.items() for lines in files], ids=str
)
def test_a_preset_reads_its_files_as_they_are_published(
    preset: str, lines: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "t-train.tsv").write_text("\n".join(lines) + "\n")
    declared = DeclaredTask.model_validate({"preset": preset, "files": str(tmp_path / "t-{split}.tsv")})
    found = examples(declared.source, declared.task("t"), "train")
    first, second = not_none(found.labels).tolist()
    assert first > second
    assert (found.second is not None) == declared.kind.startswith("pair")


def test_every_preset_is_tried() -> None:
    assert OFFICIAL.keys() == PRESETS.keys()
