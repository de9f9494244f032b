"""A table's columns as the text and labels of a task, every row checked.

All faults are reported at once, with file and line; nothing is repaired, and no row is dropped unless the study says so
(`blank_labels: drop`). Text is kept as it is, including "NA", "null" and blanks. Labels out of range, duplicate ids, and splits
whose labels are all the same are refused.
"""

import numpy as np

from ablate.text import closest, listed, shown
from ablate.trainer.data.examples import Examples
from ablate.trainer.data.labels import Problem, in_words, read_labels
from ablate.trainer.data.sources import Source
from ablate.trainer.data.tables import Table, number_or_none
from ablate.trainer.tasks.task import Label, Labels, Task

_COLUMNS = {  # role -> usual names in files
    "id": ("id", "idx"),
    "sentence": ("sentence", "text"),
    "sentence1": ("sentence1", "question1", "premise"),
    "sentence2": ("sentence2", "question2", "hypothesis"),
}
# Labels that span no more than this share of the range are probably on another scale, such as 0 to 1 instead of 0 to 5.
NARROW = 0.2
_HIDDEN = -1.0  # the label of an item whose label is hidden, in GLUE on the hub

_Row = tuple[int, int, list[str]]  # number in the table from 0, line in the file, fields


def labelled(table: Table, source: Source, task: Task, split: str) -> Examples:
    """Assign the table's columns to their roles and check every row.

    Raises:
        BadInput: one line per fault.
    """
    where = _positions(table, source, task, split)
    rows, dropped = _kept_rows(table, source, split, where.get("label"))
    labels = _labels(table, rows, where.get("label"), task.labels, split)
    ids = _ids(table, rows, where.get("id"), lowered=source.text == "course")
    if not rows and not table.faults:
        table.faults.add("none below the header; a split needs at least one", 1, "rows")
    if split == "test" and labels and set(labels) == {_HIDDEN}:
        labels = None
    if labels is not None:
        _refuse_odd_labels(labels, task.labels, table, where["label"])
    table.faults.raise_any()
    first, *second = ([row[where[column]] for _, _, row in rows] for column in task.columns)
    known = None if labels is None else np.array(labels, dtype=np.float64)
    return Examples(ids, first, second[0] if second else None, known, dropped)


def odd_labels(rows: Examples, task: Task) -> str:
    """Return a note on labels that are valid but look like those of another scale; "" if they do not."""
    labels = task.labels
    if rows.labels is None or labels.several:
        return ""
    if labels.whole:
        missing = sorted(set(range(labels.count)) - set((rows.labels - labels.low).astype(int).tolist()))
        names = listed([in_words(labels.low + number, labels) for number in missing], 12)
        return f"no row has the label {names}; is the number of labels right?" if missing else ""
    low, high = float(rows.labels.min()), float(rows.labels.max())
    if high - low > NARROW * (labels.top - labels.low):
        return ""
    return (
        f"the labels are between {low:g} and {high:g}, where {labels.low:g} to {labels.top:g} is possible; "
        "are they on another scale?"
    )


def _positions(table: Table, source: Source, task: Task, split: str) -> dict[str, int]:
    """Return role -> position in a row. Only `id`, and the `label` of a test split, may be missing."""
    where: dict[str, int] = {}
    faults_of_rows = len(table.faults)
    roles = ("id", *task.columns, "label")
    for role in source.columns:
        if role not in roles:
            table.faults.add(f"columns: {task.name} has no such column; it has {', '.join(roles)}", 1, role)
    for role in roles:
        mapped = source.columns.get(role)
        names = (mapped,) if mapped else _COLUMNS.get(role, (task.labels.column, *task.labels.other_columns))
        present = [name for name in names if name in table.header]
        if present and table.header.count(present[0]) > 1:
            table.faults.add("appears twice in the header; rename one of them", 1, present[0])
        elif present:
            where[role] = table.header.index(present[0])
        elif not (role == "label" and split == "test") and (mapped or role != "id"):
            header = listed(map(shown, table.header), 12)
            near = closest(names[0], table.header)
            meant = f"; did you mean {shown(near)}?" if near else ""
            advice = "" if mapped else f"; name it with columns: {{{role}: ...}}"
            what = f"no such column; found {header}{meant}{advice}"
            table.faults.add(what, 1, " or ".join(names))
    # No row can be read without the columns.
    if len(table.faults) > faults_of_rows:
        table.faults.raise_any()
    return where


def _kept_rows(table: Table, source: Source, split: str, label_at: int | None) -> tuple[list[_Row], int]:
    """Return the rows up to the source's limit, and how many were dropped because their label was blank."""
    rows: list[_Row] = []
    dropped = 0
    for number, (line, row) in enumerate(table.rows):
        if len(rows) == source.limit.get(split):
            break
        if label_at is not None and source.blank_labels == "drop" and not row[label_at].strip():
            dropped += 1
        else:
            rows.append((number, line, row))
    return rows, dropped


def _labels(table: Table, rows: list[_Row], at: int | None, labels: Labels, split: str) -> list[Label] | None:
    if at is None:
        return None
    values: list[Label] = []
    written = [row[at].strip() for _, _, row in rows]
    for text, value, (_, line, _) in zip(written, read_labels(written, labels), rows, strict=True):
        hidden = split == "test" and number_or_none(text) == _HIDDEN
        if isinstance(value, Problem) and not hidden:
            table.faults.add(str(value), line, table.header[at])
        values.append(_HIDDEN if isinstance(value, Problem) else value)
    return values


def _ids(table: Table, rows: list[_Row], at: int | None, lowered: bool) -> list[str]:
    """Return the id of each row: its own, or else its number in the table. `lowered`: in lower case, as in `text: course`."""
    column = "id" if at is None else table.header[at]
    ids: list[str] = []
    line_of: dict[str, int] = {}
    for number, line, row in rows:
        name = str(number) if at is None else row[at].strip()
        name = name.lower() if lowered else name
        if not name:
            table.faults.add("blank; every row needs an id", line, column)
        elif name in line_of:
            case = ", also without capitals (`text: course` ignores them)" if lowered else ""
            table.faults.add(
                f"{shown(name)} is already on line {line_of[name]}; ids must differ{case}", line, column
            )
        line_of.setdefault(name, line)
        ids.append(name)
    return ids


def _refuse_odd_labels(values: list[Label], labels: Labels, table: Table, at: int) -> None:
    if table.faults:
        return
    if _HIDDEN in values and not labels.allow(_HIDDEN):
        table.faults.add("some labels are -1 (hidden) and some are not", 1, table.header[at])
    elif len(set(values)) == 1:
        what = f"every label is {in_words(values[0], labels)}; at least two different ones are needed"
        table.faults.add(what, 1, table.header[at])
