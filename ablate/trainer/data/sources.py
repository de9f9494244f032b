"""Where a task's text and labels come from: a hub dataset, local files, or the built-in corpus.

Every fault of a source is found before anything is trained and told at once, with its file and line;
nothing is repaired, and nothing dropped unless the study says so (`blank_labels: drop`). Text is kept as it
stands, "NA", "null" and blank included. Refuses: labels out of range, ids given twice, a split whose labels
are all the same.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ablate.errors import BadInput

if TYPE_CHECKING:  # numpy costs `ablate plan` a tenth of a second, and a Source needs none of it
    import numpy as np
    import numpy.typing as npt

    from ablate.trainer.data.tables import Table

TASKS = ("sentiment", "paraphrase", "similarity")
SPLITS = ("train", "dev", "test")

ROLES = ("id", "sentence", "sentence1", "sentence2", "label")

Task = Literal["sentiment", "paraphrase", "similarity"]


_SPLIT_KEYS: dict[str, Any] = {"propertyNames": {"enum": list(SPLITS)}}


class Source(BaseModel):
    """Where one task's splits are: `hub`, or `files`, or neither for the built-in corpus."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hub: str | None = Field(
        None, description="a dataset on the Hugging Face hub, or a folder that `datasets` can load"
    )
    config: str | None = Field(None, description="the hub dataset's configuration, such as qqp")
    revision: str | None = Field(None, description="the hub dataset's branch, tag or commit")
    files: str | None = Field(
        None, description="a path that holds {split}: .csv or .tsv, also .gz or .xz of it"
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        json_schema_extra={"propertyNames": {"enum": list(ROLES)}},
        description="role -> column, where names differ from ours",
    )
    splits: dict[str, str] = Field(
        default_factory=dict,
        json_schema_extra=_SPLIT_KEYS,
        description="our split -> the source's name for it",
    )
    limit: dict[str, PositiveInt] = Field(
        default_factory=dict,
        json_schema_extra=_SPLIT_KEYS,
        description="the first n rows of a split; of the built-in corpus, as many as you like",
    )
    text: Literal["raw", "course"] = Field(
        "raw", description="course: as CS224N's reference loader normalises it"
    )
    blank_labels: Literal["refuse", "drop"] = Field(
        "refuse", description="what to do with a row that has no label"
    )

    def __hash__(self) -> int:  # pydantic copies a default that has none, for each Settings
        return hash((self.hub, self.config, self.files))

    @field_validator("columns", "splits", "limit", mode="before")
    @classmethod
    def _known_keys(cls, value: object, info: ValidationInfo) -> object:
        known = ROLES if info.field_name == "columns" else SPLITS
        for key in value if isinstance(value, dict) else ():
            if key not in known:
                raise ValueError(
                    f"{_shown(key)} is not one of {', '.join(known)}{_suggestion(str(key), known)}"
                )
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> "Source":
        if self.hub is not None and self.files is not None:
            raise ValueError("both hub and files are given; keep one of them")
        if self.hub is None and (self.config or self.revision):
            raise ValueError("config and revision belong to hub, which is missing")
        if self.files is not None and "{split}" not in self.files:
            raise ValueError(
                f"files: {_shown(self.files)} has no {{split}} in it; write data/name-{{split}}.csv"
            )
        if self.hub is None and self.files is None and (self.columns or self.splits):
            raise ValueError("columns and splits belong to hub or files; the built-in corpus has neither")
        names = [self.splits.get(split, split) for split in SPLITS]
        if len(set(names)) < len(names):
            raise ValueError(f"two splits are read from one name ({', '.join(names)}); each needs its own")
        return self

    def names(self, split: str) -> tuple[str, ...]:
        """Return the names under which `split` may be found, the first that exists being it."""
        if split in self.splits:
            return (self.splits[split],)
        return ("dev", "validation") if split == "dev" else (split,)


Sources = Mapping[str, Source] | Mapping[Task, Source]  # task -> source


@dataclass(frozen=True)
class Examples:
    """One split of one task, as text."""

    ids: list[str]
    first: list[str]
    second: list[str] | None  # None where the task has single sentences
    labels: "npt.NDArray[np.float64] | None"  # [n]; None for a test split whose labels are kept back
    dropped: int = 0  # rows left out because their label was blank

    def __len__(self) -> int:
        return len(self.ids)


def examples(source: Source, task: str, split: str) -> Examples:
    """Read one split of one task.

    With `text: course` sentences are as CS224N's reference loader leaves them (datasets.py of its default
    final project): lower-cased and stripped; in pairs also a space before each . ? , and ', single spaces
    throughout. Ids are lower-cased too. A row without an `id` column is called by its position, from 0.

    Raises:
        BadInput: one line per fault, `file:line: column: ...`, at most 20 for a file.
        Unavailable: a hub dataset that is neither on this machine nor to be had.
    """
    limit = source.limit.get(split)
    if source.hub is None and source.files is None:
        from ablate.trainer.data.corpus import generate

        found = generate(task, split, limit)
    else:
        found = _labelled(_table(source, split), source, task, split, limit)
    return _course_text(found) if source.text == "course" else found


_checked: set[str] = set()  # what this process has read without a fault; a changed file has another key


def check_source(source: Source, task: str, splits: Iterable[str] = ("train", "dev")) -> None:
    """Read every split of one task and tell all faults together. A source that was fine is not read again.

    Raises:
        BadInput: every fault of every split.
        Unavailable: a hub dataset that is neither on this machine nor to be had.
    """
    faults: list[str] = []
    for split in splits:
        key = f"{task}/{split}: {source_key(source, split)}"
        if key in _checked:
            continue
        try:
            examples(source, task, split)
        except BadInput as error:
            faults += error.faults
        else:
            _checked.add(key)
    if faults:
        raise BadInput(*faults)


def check_sources(sources: Sources, splits: Iterable[str] = ("train", "dev")) -> None:
    """Do `check_source` for several tasks and tell all faults together."""
    faults: list[str] = []
    for task, source in sources.items():
        try:
            check_source(source, task, tuple(splits))
        except BadInput as error:
            faults += error.faults
    if faults:
        raise BadInput(*faults)


def overlap(a: Examples, b: Examples) -> int:
    """Return how many rows of `b` are also in `a`, whatever the case, the spaces and the order of a pair."""
    seen = set(_keys(a))
    return sum(key in seen for key in _keys(b))


def clusters(rows: Examples) -> "npt.NDArray[np.int64] | None":
    """Return the cluster of each row [n], numbered as they appear; None where no two rows share a sentence.

    Rows that share a sentence, whatever its case and its spaces, are in one cluster, and so are rows that others connect:
    (a, b), (b, c), (c, d) are one. Union-find with path halving (Tarjan & van Leeuwen 1984, J. ACM 31, 245-281).
    """
    import numpy as np

    above = list(range(len(rows)))  # towards the first row of the cluster

    def first_of(row: int) -> int:
        while above[row] != row:
            above[row] = row = above[above[row]]
        return row

    met: dict[str, int] = {}  # sentence -> the row it was met in first
    for row, sentences in enumerate(_keys(rows)):
        for sentence in sentences:
            a, b = first_of(row), first_of(met.setdefault(sentence, row))
            above[max(a, b)] = min(a, b)
    found = np.unique([first_of(row) for row in range(len(rows))], return_inverse=True)
    return None if len(found[0]) == len(rows) else found[1]


def source_key(source: Source, split: str) -> str:
    """Return a text that differs when what `examples` would return may differ; reads no row.

    Files count by their bytes, those of a local folder under `hub` too. A hub dataset counts by its name, configuration
    and revision.
    """
    if source.files is not None:
        digest = _digest(file_of(source, split))
        return f"{source.model_dump_json(exclude={'files', 'splits'})} {split} {digest}"
    if source.hub is None:
        from ablate.trainer.data.corpus import VERSION

        return f"{source.model_dump_json()} {split} {VERSION}"
    folder = Path(source.hub).expanduser()
    files = sorted(file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else []
    return f"{source.model_dump_json()} {split} {' '.join(map(_digest, files))}"


def _digest(path: Path) -> str:
    import hashlib

    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return "unreadable"


def file_of(source: Source, split: str) -> Path:
    """Return the file of a split: the first that exists of the names it may have."""
    assert source.files is not None
    paths = [Path(source.files.replace("{split}", name)).expanduser() for name in source.names(split)]
    return next((path for path in paths if path.exists()), paths[0])


def _table(source: Source, split: str) -> "Table":
    if source.files is not None:
        from ablate.trainer.data.tables import read_file

        return read_file(file_of(source, split))
    from ablate.trainer.data.hub import read_hub

    return read_hub(source, split)


_COLUMNS = {
    "id": ("id", "idx"),
    "sentence": ("sentence", "text"),
    "sentence1": ("sentence1", "question1"),
    "sentence2": ("sentence2", "question2"),
}
_LABEL_COLUMN = {"sentiment": "sentiment", "paraphrase": "is_duplicate", "similarity": "similarity"}
_ROLES = {
    "sentiment": ("sentence",),
    "paraphrase": ("sentence1", "sentence2"),
    "similarity": ("sentence1", "sentence2"),
}
_TOP = {"sentiment": 4, "paraphrase": 1, "similarity": 5}  # labels run from 0 to here
_HIDDEN = -1.0  # what the hub's GLUE puts in place of labels that are kept back


def _labelled(table: "Table", source: Source, task: str, split: str, limit: int | None) -> Examples:
    """Give the table's columns their roles and check every row."""
    import numpy as np

    where = _places(table, source, task, split)
    ids: list[str] = []
    texts: list[list[str]] = [[] for _ in _ROLES[task]]
    labels: list[float] = []
    line_of: dict[str, int] = {}
    dropped = 0
    for number, (line, row) in enumerate(table.rows):
        if limit is not None and len(ids) == limit:
            break
        if "label" in where:
            written = row[where["label"]].strip()
            if not written and source.blank_labels == "drop":
                dropped += 1
                continue
            labels.append(_label(written, table, line, where["label"], task, hidden=split == "test"))
        name = row[where["id"]].strip() if "id" in where else str(number)
        if not name:
            table.fault(line, table.header[where["id"]], "blank; every row needs an id")
        elif name in line_of:
            column = table.header[where["id"]] if "id" in where else "id"
            table.fault(
                line, column, f"{_shown(name)} stands on line {line_of[name]} already; ids must differ"
            )
        line_of.setdefault(name, line)
        ids.append(name)
        for text, role in zip(texts, _ROLES[task], strict=True):
            text.append(row[where[role]])
    if not ids and not table.faults:
        table.fault(1, "rows", "there are none under the header; a split needs some")
    kept_back = bool(labels) and split == "test" and set(labels) == {_HIDDEN}
    if "label" in where and not kept_back:
        _refuse_odd_labels(labels, table, where["label"])
    table.refuse_faults()
    known = np.array(labels, dtype=np.float64) if "label" in where and not kept_back else None
    return Examples(ids, texts[0], texts[1] if len(texts) == 2 else None, known, dropped)


def _places(table: "Table", source: Source, task: str, split: str) -> dict[str, int]:
    """Return role -> position in a row, or refuse. Only `id`, and a test split's `label`, may be missing."""
    where: dict[str, int] = {}
    faults_of_rows = len(table.faults)
    roles = ("id", *_ROLES[task], "label")
    for role in source.columns:
        if role not in roles:
            table.fault(1, role, f"columns: {task} has no such role; it has {', '.join(roles)}")
    for role in roles:
        mapped = source.columns.get(role)
        names = (mapped,) if mapped else _COLUMNS.get(role, (_LABEL_COLUMN.get(task, ""), "label"))
        present = [name for name in names if name in table.header]
        if present and table.header.count(present[0]) > 1:
            table.fault(1, present[0], "stands twice in the header; rename one of them")
        elif present:
            where[role] = table.header.index(present[0])
        elif not (role == "label" and split == "test") and (mapped or role != "id"):
            found = ", ".join(_shown(name) for name in table.header[:12])
            table.fault(
                1,
                " or ".join(names),
                f"no such column; found {found}{_suggestion(names[0], table.header)}"
                + ("" if mapped else f"; name it with columns: {{{role}: ...}}"),
            )
    if len(table.faults) > faults_of_rows:
        table.refuse_faults()  # without its columns no row can be read
    return where


def _label(written: str, table: "Table", line: int, at: int, task: str, *, hidden: bool) -> float:
    from ablate.trainer.data.tables import number_or_none

    top = _TOP[task]
    value = number_or_none(written)
    whole = task != "similarity"
    wanted = f"a whole number from 0 to {top}" if whole else f"a number from 0 to {top}"
    if not written:
        table.fault(
            line, table.header[at], f"blank; {wanted} would do, or `blank_labels: drop` leaves the row out"
        )
    elif value is None:
        table.fault(line, table.header[at], f"{_shown(written)} is not a number; {wanted} would do")
    elif hidden and value == _HIDDEN:
        return value
    elif not 0 <= value <= top or (whole and value != int(value)):
        table.fault(line, table.header[at], f"{_shown(written)} is out of range; {wanted} would do")
    return value if value is not None else 0.0


def _refuse_odd_labels(labels: Sequence[float], table: "Table", at: int) -> None:
    if _HIDDEN in labels and not table.faults:
        table.fault(1, table.header[at], "some labels are -1 (kept back) and some are not")
    elif labels and len(set(labels)) == 1 and not table.faults:
        table.fault(
            1, table.header[at], f"every label is {labels[0]:g}; at least two different ones are needed"
        )


def _course_text(found: Examples) -> Examples:
    if found.second is None:
        return Examples(_lowered(found.ids), _lowered(found.first), None, found.labels, found.dropped)
    first = [_spaced(text) for text in found.first]
    second = [_spaced(text) for text in found.second]
    return Examples(_lowered(found.ids), first, second, found.labels, found.dropped)


def _lowered(texts: Iterable[str]) -> list[str]:
    return [text.lower().strip() for text in texts]


def _spaced(text: str) -> str:
    text = text.lower()
    for mark in ".?,'":
        text = text.replace(mark, " " + mark)
    return " ".join(text.split())


def _keys(rows: Examples) -> Iterable[tuple[str, ...]]:
    columns = [rows.first] if rows.second is None else [rows.first, rows.second]
    for texts in zip(*columns, strict=True):
        yield tuple(sorted("".join(text.lower().split()) for text in texts))


def _suggestion(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {_shown(close[0])}?" if close else ""


def _shown(value: object, longest: int = 60) -> str:
    """Quote what a user wrote, safe for a terminal and short."""
    text = repr(value)
    return text if len(text) <= longest else text[: longest - 4] + "...'"
