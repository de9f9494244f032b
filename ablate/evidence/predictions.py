"""Per-item predictions of trained parts, read from their files and turned into scores whose mean is the metric.

The predictions of a metric `dev/sentiment` are in `predictions/dev.sentiment.csv` of the part that reports it. If there is no
such file, they are in the file of its split whose accuracy or Pearson's r equals the metric, unless that file already belongs
to the metric it is named after. Whether a metric is an accuracy or Pearson's r is inferred in the same way: by which of the
two equals the recorded number. Where the trainer states what a metric is (`facts["metrics"]`), only that counts: an accuracy
may equal a macro-F1 by chance. Files that are refused, or that give neither, are noted in `unused`."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.errors import BadInput
from ablate.evidence.frames import Grid
from ablate.stats.correlations import pearson, pseudo_values
from ablate.store.results import PartResult, TrialResult
from ablate.tables import MOST_BYTES, read_bytes

TOLERANCE = 1e-6  # between the recorded metric and the one recomputed from the predictions
# The largest number in a prediction file: sums of squares must be finite.
LARGEST = 1e100
MOST_EXAMINED = 9  # how many parts are examined to infer a metric's file from its numbers

_COLUMNS = ("id", "prediction", "gold")


class Kind(StrEnum):
    """The metrics that can be recomputed from predictions."""

    ACCURACY = "accuracy"
    PEARSON = "pearson"


class Refusal(Enum):
    """Why predictions are not used."""

    NO_FILE = auto()  # it is a folder or a pipe, or cannot be read
    DAMAGED = auto()  # some row is not id, prediction, gold and perhaps cluster
    NOT_FINITE = auto()  # a prediction or the gold of an item is NaN, infinite, or 1e100 or more in size
    TOO_FEW = auto()  # fewer than two items have no variance
    OTHER_METRIC = auto()  # neither their accuracy nor their Pearson's r equals the recorded metric
    STATED_OTHER = auto()  # the trainer states that the metric is neither


@dataclass(frozen=True)
class Unused:
    """Predictions of a cell that were left out."""

    row: int
    metric: str
    why: Refusal


@dataclass(frozen=True)
class Predicted:
    """A prediction file. The gold is all NaN if the labels are withheld."""

    ids: tuple[str, ...]
    predicted: NDArray[np.float64]  # [items]
    gold: NDArray[np.float64]  # [items]
    clusters: tuple[str, ...] | None = None  # [items]; None: items are independent


@dataclass(frozen=True)
class ItemScores:
    """Scores of items, whose mean is the metric."""

    ids: tuple[str, ...]
    scores: NDArray[np.float64]  # [items]
    predicted: NDArray[np.float64]  # [items]
    gold: NDArray[np.float64]  # [items]
    kind: Kind
    clusters: tuple[str, ...] | None = None  # [items]; None: items are independent

    @property
    def metric(self) -> float:
        """The mean of the scores."""
        return float(self.scores.mean())


class PredictionFiles:
    """The prediction files of a grid's trials. Each is read once, however many trials share its part."""

    def __init__(self, grid: Grid) -> None:
        self.unused: set[Unused] = set()  # predictions that were asked for and cannot be used
        self._grid = grid
        self._files: dict[Path, Predicted | Refusal] = {}
        self._scores: dict[tuple[Path, float], ItemScores | Refusal] = {}
        self._folders: dict[tuple[str, int], Path] = {}
        self._names: dict[Path, frozenset[str]] = {}  # folder -> its files
        self._by_value: dict[str, str | None] = {}  # metric -> the file whose numbers give it
        self._last_of_name: dict[str, Predicted] = {}  # file name -> the last file read of that name

    def predicted(self, trial: TrialResult, metric: str) -> Predicted | None:
        """Return the predictions behind `metric` in `trial`; None if the trainer saved none, or none that can be used."""
        path = self._path(trial, metric)
        content = self._read(path) if path else None
        return content if isinstance(content, Predicted) else None

    def scores(self, trial: TrialResult, metric: str) -> ItemScores | None:
        """Return the items' scores behind `metric` in `trial`; None if no predictions give the metric.

        Predictions that exist but do not give it are noted in `unused`."""
        path = self._path(trial, metric)
        if path is None or metric not in trial.metrics:
            return None
        scores = (
            Refusal.STATED_OTHER
            if self._is_other(trial, metric)
            else self._scores_in(path, trial.metrics[metric])
        )
        if isinstance(scores, ItemScores):
            return scores
        self.unused.add(Unused(self._grid.index[trial.cell], metric, scores))
        return None

    def stated(self, trial: TrialResult, metric: str) -> str | None:
        """Return the kind of metric that the trainer states, such as `accuracy` or `macro_f1`; None if it states none."""
        part = self._part(trial, metric)
        stated = part.facts.get("metrics") if part else None
        kind = stated.get(metric.partition("@")[0]) if isinstance(stated, Mapping) else None
        return kind if isinstance(kind, str) else None

    def unmatched(self) -> list[str]:
        """Return the names of the files seen so far that belong to no metric, apart from those for a test split."""
        named = {file_name(metric) for part in self._grid.results.parts.values() for metric in part.metrics}
        by_value = {name for name in self._by_value.values() if name}
        seen = frozenset[str]().union(*self._names.values())
        return sorted(name for name in seen - named - by_value if not name.startswith("test."))

    def _is_other(self, trial: TrialResult, metric: str) -> bool:
        return self.stated(trial, metric) not in (None, *Kind)

    def by_seed(self, row: int, metric: str) -> dict[int, ItemScores]:
        """Return {column: scores} of a cell, for the seeds that have them."""
        by_column = {}
        for column in range(len(self._grid.seeds)):
            trial = self._grid.trials.get((row, column))
            if trial and trial.state == "COMPLETE" and (scores := self.scores(trial, metric)):
                by_column[column] = scores
        return by_column

    def _path(self, trial: TrialResult, metric: str) -> Path | None:
        folder = self._folder(trial, metric)
        if folder is None:
            return None
        names, name = self._list(folder), file_name(metric)
        if name not in names:
            if self._is_other(trial, metric):
                return None
            if metric not in self._by_value:
                self._by_value[metric] = self._name_by_value(metric)
            name = self._by_value[metric] or ""
        return folder / name if name in names else None

    def _folder(self, trial: TrialResult, metric: str) -> Path | None:
        """The predictions folder of the part that reports `metric`."""
        trained = self._part(trial, metric)
        if trained is None:
            return None
        # Cached: large studies ask 100,000 times, and making a new path each time would take a second.
        key = trained.part, trained.seed
        if key not in self._folders:
            self._folders[key] = trained.folder / "predictions"
        return self._folders[key]

    def _part(self, trial: TrialResult, metric: str) -> PartResult | None:
        """The part that reports `metric`."""
        parts = (self._grid.results.parts.get((part, trial.seed)) for part in trial.parts.values())
        return next((part for part in parts if part and metric in part.metrics), None)

    def _name_by_value(self, metric: str) -> str | None:
        """Return the file of its split that reproduces `metric` in most parts, and in at least half of those examined.

        A metric without a split in its name, such as `accuracy`, may come from any split but the test split.

        Half, because a single part may agree by chance; not all, because files may lack items (another flag reports those)."""
        split, has_split, _ = metric.partition("/")
        matches, examined = Counter[str](), set[Path]()
        for trial in self._grid.trials.values():
            folder = self._folder(trial, metric)
            if folder is None or folder in examined or metric not in trial.metrics:
                continue
            free = [
                name
                for name in self._list(folder)
                if (name.startswith(f"{split}.") if has_split else not name.startswith("test."))
                and not self._matches_its_name(folder / name, trial)
            ]
            matches.update(name for name in free if self._reproduces(folder / name, trial, metric))
            examined.add(folder)
            if len(examined) == MOST_EXAMINED:
                break
        (name, most), (_, second) = [*matches.most_common(2), ("", 0), ("", 0)][:2]
        often = most >= len(examined) / 2 if most > 1 else len(examined) == 1
        return name if most > second and often else None

    def _matches_its_name(self, path: Path, trial: TrialResult) -> bool:
        """Return whether a file reproduces the metric that it is named after."""
        named = next((metric for metric in trial.metrics if file_name(metric) == path.name), None)
        if named is None or self._is_other(trial, named):
            return False
        return self._reproduces(path, trial, named)

    def _reproduces(self, path: Path, trial: TrialResult, metric: str) -> bool:
        return isinstance(self._scores_in(path, trial.metrics[metric]), ItemScores)

    def _list(self, folder: Path) -> frozenset[str]:
        if folder not in self._names:
            self._names[folder] = frozenset(path.name for path in folder.glob("*.*.csv"))
        return self._names[folder]

    def _scores_in(self, path: Path, recorded: float) -> ItemScores | Refusal:
        if (path, recorded) not in self._scores:
            content = self._read(path)
            self._scores[path, recorded] = (
                content if isinstance(content, Refusal) else item_scores(content, recorded)
            )
        return self._scores[path, recorded]

    def _read(self, path: Path) -> Predicted | Refusal:
        if path not in self._files:
            content = predictions_in(path)
            if isinstance(content, Predicted):
                content = self._last_of_name[path.name] = _sharing(
                    content, self._last_of_name.get(path.name, content)
                )
            self._files[path] = content
        return self._files[path]


def read_predictions(path: Path) -> Predicted | None:
    """Read a prediction file; None if it does not exist or `predictions_in` refuses it."""
    content = predictions_in(path)
    return content if isinstance(content, Predicted) else None


def predictions_in(path: Path) -> Predicted | Refusal:
    """Read a file with columns id, prediction, gold and perhaps cluster, as `context.predictions` writes them.

    Refuses other columns in the header or a row, text in place of a number, a blank cluster, and a prediction that is not a
    number below 1e100. The gold must be all such numbers, or all NaN (labels withheld)."""
    try:
        data = read_bytes(path, MOST_BYTES)
    except BadInput:
        return Refusal.NO_FILE
    names = tuple(data.partition(b"\n")[0].rstrip(b"\r").decode(errors="replace").split(","))
    if names not in (_COLUMNS, (*_COLUMNS, "cluster")):
        return Refusal.DAMAGED
    try:
        columns = _columns(data, names)
    # pyarrow's errors are ValueErrors.
    except ValueError:
        return Refusal.DAMAGED
    clusters = tuple(columns["cluster"]) if "cluster" in columns else None
    if clusters and "" in clusters:
        return Refusal.DAMAGED
    predicted, gold = columns["prediction"], columns["gold"]
    if not (np.abs(predicted) < LARGEST).all() or not (
        (np.abs(gold) < LARGEST).all() or np.isnan(gold).all()
    ):
        return Refusal.NOT_FINITE
    return Predicted(tuple(columns["id"]), predicted, gold, clusters)


def item_scores(content: Predicted, recorded: float) -> ItemScores | Refusal:
    """Return scores whose mean is `recorded`: hits (accuracy) or pseudo-values (Pearson's r); otherwise why there are none."""
    ids, predicted, gold, clusters = content.ids, content.predicted, content.gold, content.clusters
    if len(ids) < 2:
        return Refusal.TOO_FEW
    if not np.isfinite(gold).all():
        return Refusal.NOT_FINITE
    hits = (predicted == gold).astype(float)
    if abs(hits.mean() - recorded) < TOLERANCE:
        return ItemScores(ids, hits, predicted, gold, Kind.ACCURACY, clusters)
    if abs(pearson(predicted, gold) - recorded) < TOLERANCE:
        return ItemScores(ids, pseudo_values(predicted, gold), predicted, gold, Kind.PEARSON, clusters)
    return Refusal.OTHER_METRIC


def file_name(metric: str) -> str:
    """Return the name of the file with the predictions behind a metric: `dev.accuracy.csv` for `dev/accuracy`."""
    return metric.replace("/", ".", 1) + ".csv"


def _columns(data: bytes, names: tuple[str, ...]) -> dict[str, Any]:
    """Read the rows under a header strictly, text as lists and numbers as arrays.

    20,000 rows take 8 ms; with Python's csv and NumPy they take 75 ms."""
    import pyarrow
    from pyarrow import csv

    number, text = pyarrow.float64(), pyarrow.string()
    table = csv.read_csv(
        pyarrow.BufferReader(data),
        csv.ReadOptions(use_threads=False, column_names=names, skip_rows=1),
        csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        csv.ConvertOptions(
            column_types={name: number if name in ("prediction", "gold") else text for name in names},
            null_values=[],
        ),
    )
    # pyarrow's own to_numpy imports pandas, which takes half a second.
    return {
        name: column.to_pylist() if column.type == text else np.from_dlpack(column.combine_chunks())
        for name, column in zip(names, table.columns, strict=True)
    }


def _sharing(new: Predicted, other: Predicted) -> Predicted:
    """Return `new` in less memory: its ids, gold and clusters usually equal those of another file of that name."""
    return Predicted(
        other.ids if other.ids == new.ids else new.ids,
        new.predicted,
        other.gold if np.array_equal(other.gold, new.gold) else new.gold,
        other.clusters if other.clusters == new.clusters else new.clusters,
    )
