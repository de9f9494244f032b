"""Read prediction files from any source and align their items: the input of `ablate compare`.

A file has an id and a prediction for every item, and the gold file has the labels. Without gold, a file has an id and the
correctness of each answer (0 or 1, true or false, or a score in between), as evaluation harnesses log it. Refuses ids that differ
from the gold's, missing labels or predictions, constant values (they have no correlation), and the same file twice."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.errors import BadInput
from ablate.report.outside.number_format import as_number, why_no_number
from ablate.report.outside.read_table import read_columns
from ablate.report.outside.tables import Table
from ablate.stats.correlations import is_constant
from ablate.tables import Faults
from ablate.text import plural

Array = NDArray[np.float64]

METRICS = ("accuracy", "pearson")
# Larger whole numbers are not exact in binary.
WHOLE_UP_TO = 2**53
# With fewer items than this, two seeds may get the same ones right by chance.
ALIKE_BY_CHANCE = 30
# The largest prediction: sums of squares must be finite.
LARGEST = 1e100


@dataclass(frozen=True)
class Keys:
    """The names of the columns, or the keys of records (with dots)."""

    id: str = "id"
    prediction: str = "prediction"
    label: str = "label"
    correct: str = "correct"
    cluster: str | None = None  # None: items are independent


@dataclass(frozen=True, eq=False)
class Predictions:
    """Gold and predictions in the gold's order; labels as text for accuracy, numbers for Pearson.

    Files that say what is correct become scores compared with a gold of ones.
    """

    gold: NDArray[Any]  # [n]
    a: list[NDArray[Any]]  # S of [n]
    b: list[NDArray[Any]]
    warnings: list[str]
    # [n], the cluster of each item in the gold's order; None if items are independent.
    clusters: tuple[str, ...] | None = None
    correctness: bool = False
    ids: tuple[str, ...] = ()  # [n], in the gold's order

    @property
    def graded(self) -> bool:
        """Whether some answers are partly right."""
        return self.correctness and any(not np.isin(x, (0.0, 1.0)).all() for x in (*self.a, *self.b))

    def scores(self, side: Sequence[NDArray[Any]]) -> Array:
        """Return the correctness of each answer of a side, [S, n]: 1, 0, or in between."""
        return np.array([x if self.correctness else x == self.gold for x in side], dtype=float)


@dataclass(frozen=True)
class _File:
    """The content of one file."""

    path: Path
    places: dict[str, int]  # id -> index
    values: list[Any]  # empty for a gold file that only lists items
    clusters: list[str]  # empty without a cluster column

    def in_order(self, of: "_File") -> "_File":
        """Return this file with its items in the order of another file.

        Raises:
            BadInput: the items are not the same.
        """
        missing = [item for item in of.places if item not in self.places]
        extra = [item for item in self.places if item not in of.places]
        faults = []
        if missing:
            faults.append(f"{self.path}: id: {_ids(missing)} of {of.path} missing, first {missing[0]!r}")
        if extra:
            faults.append(f"{self.path}: id: {_ids(extra)} not in {of.path}, first {extra[0]!r}")
        if faults:
            raise BadInput(*(f"{fault}; every file needs exactly the same items" for fault in faults))
        order = [self.places[item] for item in of.places]
        return replace(
            self,
            places={item: i for i, item in enumerate(of.places)},
            values=[self.values[i] for i in order] if self.values else [],
            clusters=[self.clusters[i] for i in order] if self.clusters else [],
        )


def read_predictions(
    gold: Path | None,
    a: Sequence[Path],
    b: Sequence[Path],
    metric: str,
    keys: Keys,
    correct: bool,
    decimal: str | None,
) -> Predictions:
    """Read all files; every file's faults are reported together.

    Args:
        gold: the labels, and the order of the items; None if the files say what is correct.
        a: files of one side, one per seed.
        b: files of the other side.
        metric: accuracy or pearson.
        keys: names of the columns.
        correct: whether the files hold the correctness of each answer instead of the answer.
        decimal: the decimal mark; None to detect it in each file.

    Raises:
        BadInput: with every fault.
    """
    # The clusters are in the gold file or, if it lacks the column, in every prediction file.
    without = replace(keys, cluster=None)
    in_gold = gold is not None and keys.cluster is not None and _has_column(gold, keys.cluster)
    of_gold, of_side = (keys, without) if in_gold else (without, keys)
    kind = "correct" if correct else "number" if metric == "pearson" else "class"
    faults: list[str] = []
    first: _File | None = None
    files: list[_File] = []
    if gold:
        try:
            first = _read(gold, of_gold, None if correct else keys.label, kind, decimal)
        except BadInput as error:
            faults += error.faults
    for path in (*a, *b):
        try:
            file = _read(path, of_side, keys.correct if correct else keys.prediction, kind, decimal)
            first = file if first is None and gold is None else first
            files.append(file.in_order(first) if first else file)
        except BadInput as error:
            faults += error.faults
    if faults:
        raise BadInput(*dict.fromkeys(faults))
    assert first is not None
    _refuse_one_file_twice(a, b)
    clusters = _clusters([first, *files], keys.cluster)
    as_column = _scaled if metric == "pearson" else _classes
    columns = [as_column(file.values) for file in files]
    labels = np.ones(len(first.places)) if correct else as_column(first.values)
    warnings = []
    _check_size(first, metric)
    if not correct:
        assert gold is not None
        _check_values([labels, *columns], [gold, *a, *b], metric)
        warnings = _unknown_classes([labels, *columns], [gold, *a, *b]) if metric == "accuracy" else []
    sides = columns[: len(a)], columns[len(a) :]
    predictions = Predictions(labels, *sides, warnings, clusters, correct, tuple(first.places))
    return replace(predictions, warnings=[*warnings, *_alike(predictions, a, b)])


def _classes(values: Sequence[Any]) -> NDArray[Any]:
    """Return class labels [n] as an array of Python objects: one of text would give each label the length of the longest."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _read(path: Path, keys: Keys, value: str | None, kind: str, decimal: str | None) -> _File:
    """Return one file; `value` is the column of its values, None if only the items matter."""
    faults = Faults(path)
    names = [name for name in (keys.id, value, keys.cluster) if name is not None]
    numbers = [value] if value and kind != "class" else None
    table = read_columns(path, names, faults, numbers=numbers, decimal=decimal)
    places = _places(table, keys.id, faults)
    values = []
    for line, text in zip(table.lines, table.columns[value] if value else [], strict=bool(value)):
        try:
            values.append(_value(text, kind))
        except ValueError as error:
            faults.add(str(error), line, value)
    clusters = table.columns[keys.cluster] if keys.cluster else []
    for line, text in zip(table.lines, clusters, strict=bool(clusters)):
        if not text:
            faults.add("empty; every item needs a cluster", line, keys.cluster)
    faults.raise_any()
    return _File(path, places, values, clusters)


def _scaled(values: Sequence[float]) -> Array:
    """Return numbers times a power of two, with the largest near 1: Pearson's r is the same, and squares do not underflow."""
    exponent = np.frexp(np.abs(values).max(initial=0))[1]
    return np.asarray(np.ldexp(values, -exponent))


def _has_column(path: Path, name: str) -> bool:
    """Return whether a file has a column; False also if it cannot be read, which is reported when its values are read."""
    try:
        read_columns(path, [name], Faults(path))
    except BadInput:
        return False
    return True


def _places(table: Table, key: str, faults: Faults) -> dict[str, int]:
    places: dict[str, int] = {}
    for place, (line, item) in enumerate(zip(table.lines, table.columns[key], strict=True)):
        if not item:
            faults.add("empty", line, key)
        elif item in places:
            faults.add(f"{item!r} appears twice, first in line {table.lines[places[item]]}", line, key)
        places.setdefault(item, place)
    return places


def _value(text: str, kind: str) -> Any:
    """Return the value of a field: a class as text, a number, or the correctness of an answer.

    Raises:
        ValueError: what is wrong with it.
    """
    if not text:
        raise ValueError("empty")
    if kind == "correct" and text.lower() in ("true", "false"):
        return float(text.lower() == "true")
    number = _number(text)
    # 2, 2.0 and "2" are one class; anything else is compared as text.
    if kind == "class":
        return text if number is None or abs(number) >= WHOLE_UP_TO else repr(number)
    if number is None:
        raise ValueError(why_no_number(text))
    if abs(number) > LARGEST:
        raise ValueError(
            f"{text[:40]!r} is too large to compute with; values up to {LARGEST:g} can be compared"
        )
    if kind == "correct" and not 0 <= number <= 1:
        raise ValueError(
            f"{text[:40]!r} is not a correctness score; write 0 or 1, true or false, or a number in between"
        )
    return number


def _number(text: str) -> float | None:
    number = as_number(text)
    return float(number) if number is not None and isfinite(float(number)) else None


def _clusters(files: Sequence[_File], key: str | None) -> tuple[str, ...] | None:
    """Return the cluster of each item; files that name clusters must agree."""
    if key is None:
        return None
    first, *others = [file for file in files if file.clusters]
    for other in others:
        for item, cluster, other_cluster in zip(first.places, first.clusters, other.clusters, strict=True):
            if cluster != other_cluster:
                raise BadInput(
                    f"{other.path}: {key}: item {item!r} is in cluster {other_cluster!r}, in {first.path} in {cluster!r}; "
                    "an item has only one cluster"
                )
    if len(set(first.clusters)) == 1:
        raise BadInput(f"{first.path}: {key}: all items are in one cluster; two or more are needed")
    return tuple(first.clusters)


def _refuse_one_file_twice(a: Sequence[Path], b: Sequence[Path]) -> None:
    named_by: dict[tuple[int, int], str] = {}  # (device, inode) -> the argument that named it
    for named, path in [*((f"--a {path}", path) for path in a), *((f"--b {path}", path) for path in b)]:
        status = os.stat(path)
        if before := named_by.get((status.st_dev, status.st_ino)):
            raise BadInput(
                f"{before} and {named} are the same file; give each side and each seed its own file"
            )
        named_by[status.st_dev, status.st_ino] = named


def _alike(predictions: Predictions, a: Sequence[Path], b: Sequence[Path]) -> Iterator[str]:
    """Refuse identical seeds on one side, or warn if that may be chance; also warn if both sides are identical."""
    for name, side, paths in (("--a", predictions.a, a), ("--b", predictions.b, b)):
        for j in range(len(side)):
            for i in range(j):
                if not np.array_equal(side[i], side[j]):
                    continue
                message = f"{name}: {paths[i]} and {paths[j]} contain the same predictions"
                if not _may_be_chance(predictions, side[i]):
                    raise BadInput(
                        f"{message}; a repeated file, or a seed without effect, is not a second seed"
                    )
                yield f"{message}: did the seed have any effect?"
    for i, (x, y) in enumerate(zip(predictions.a, predictions.b, strict=True), 1):
        if np.array_equal(x, y):
            yield f"seed {i}: A and B predict exactly the same"


def _may_be_chance(predictions: Predictions, values: NDArray[Any]) -> bool:
    """Return whether two different seeds may give identical answers: all right, all wrong, or few items."""
    right = predictions.scores([values])
    return bool(predictions.correctness and (len(values) < ALIKE_BY_CHANCE or np.ptp(right) == 0))


def _ids(ids: Sequence[str]) -> str:
    return plural(len(ids), "id")


def _check_size(first: _File, metric: str) -> None:
    least = 4 if metric == "pearson" else 2
    if len(first.places) < least:
        raise BadInput(f"{first.path}: {plural(len(first.places), 'item')}; {metric} needs at least {least}")


def _check_values(columns: Sequence[NDArray[Any]], paths: Sequence[Path], metric: str) -> None:
    if metric == "pearson":
        wrong = [path for path, values in zip(paths, columns, strict=True) if is_constant(values)]
        why = "all values are the same, up to rounding, so Pearson's r does not exist"
    else:
        files = dict(zip(paths, (set(values.tolist()) for values in columns), strict=True))
        wrong = [path for path, values in files.items() if _are_scores(values, files[paths[0]])]
        why = f"prediction: not the labels of {paths[0]}; accuracy compares classes"
    if wrong:
        raise BadInput(*(f"{path}: {why}" for path in wrong))


def _are_scores(values: set[str], labels: set[str]) -> bool:
    """Return whether predictions are not classes: fractions where labels are whole numbers, or none of them a label.

    Text among numbers means that the model gave no valid answer; it is a separate class, and counts as wrong."""
    numbers, labelled = (list(map(_number, texts)) for texts in (values, labels))
    whole = all(label is not None and label.is_integer() for label in labelled)
    fractions = whole and any(number is not None and not number.is_integer() for number in numbers)
    return fractions or (len(labels) > 1 and not labels & values)


def _unknown_classes(columns: Sequence[NDArray[Any]], paths: Sequence[Path]) -> list[str]:
    """Return a warning for each file with predictions that are not among the gold labels."""
    labels = list(set(columns[0].tolist()))
    counts = [int(np.sum(~np.isin(values, labels))) for values in columns[1:]]
    return [
        f"{path}: not among the gold labels, so counted as wrong: {plural(count, 'prediction')}"
        for path, count in zip(paths[1:], counts, strict=True)
        if count
    ]
