"""Per-item predictions of trained parts, read from their files and turned into scores whose mean is the metric.

A metric `dev/sentiment` belongs to `predictions/dev.sentiment.csv` of the part that reports it; where there is no such file,
to the one file of its split that gives the metric and not the one it is named after. Whether it is an accuracy or a Pearson
r is read off the numbers: the one that gives the recorded metric. A file that is refused, or gives neither, is on record."""

from collections import Counter
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.evidence.frames import Grid
from ablate.stats.correlations import pearson, pseudo_values
from ablate.store.results import TrialResult

TOLERANCE = 1e-6  # between the recorded metric and the one recomputed from the predictions
LOOKED_AT = 9  # trained parts that say which file a metric's is, where no name does

_COLUMNS = ("id", "prediction", "gold")


class Kind(StrEnum):
    """What a metric is, by its predictions."""

    ACCURACY = "accuracy"
    PEARSON = "pearson"


class Refusal(Enum):
    """Why predictions are not used."""

    DAMAGED = auto()  # not whole rows of id, prediction, gold and perhaps cluster
    NOT_FINITE = auto()  # a prediction, or the gold of an item
    TOO_FEW = auto()  # items to have a variance
    OTHER_METRIC = auto()  # neither their accuracy nor their r is what was recorded


@dataclass(frozen=True)
class Unused:
    """Predictions of a cell that were left out."""

    row: int
    metric: str
    why: Refusal


@dataclass(frozen=True)
class Predicted:
    """A prediction file. The gold is NaN throughout where labels are kept back."""

    ids: tuple[str, ...]
    predicted: NDArray[np.float64]  # [items]
    gold: NDArray[np.float64]  # [items]
    clusters: tuple[str, ...] | None = None  # [items]; None: every item stands for itself


@dataclass(frozen=True)
class ItemScores:
    """What each item adds to a metric: the mean over items is the metric."""

    ids: tuple[str, ...]
    scores: NDArray[np.float64]  # [items]
    predicted: NDArray[np.float64]  # [items]
    gold: NDArray[np.float64]  # [items]
    kind: Kind
    clusters: tuple[str, ...] | None = None  # [items]; None: every item stands for itself

    @property
    def metric(self) -> float:
        """The mean of the scores."""
        return float(self.scores.mean())


class PredictionFiles:
    """Reads each file once, however many trials share the part."""

    def __init__(self, grid: Grid) -> None:
        self.unused: set[Unused] = set()  # of all that was asked for
        self._grid = grid
        self._files: dict[Path, Predicted | Refusal] = {}
        self._scores: dict[tuple[Path, float], ItemScores | Refusal] = {}
        self._folders: dict[tuple[str, int], Path] = {}
        self._names: dict[Path, frozenset[str]] = {}  # folder -> its files
        self._by_value: dict[str, str | None] = {}  # metric -> the file that gives it
        self._alike: dict[str, Predicted] = {}  # file name -> the last one read

    def predicted(self, trial: TrialResult, metric: str) -> Predicted | None:
        """Return the predictions behind `metric` in `trial`; None when the trainer kept none, or none that can be used."""
        path = self._path(trial, metric)
        found = self._read(path) if path else None
        return found if isinstance(found, Predicted) else None

    def scores(self, trial: TrialResult, metric: str) -> ItemScores | None:
        """Return the items' scores behind `metric` in `trial`; None when there are none that give the metric.

        Predictions that are there and do not give it are noted in `unused`."""
        path = self._path(trial, metric)
        if path is None or metric not in trial.metrics:
            return None
        found = self._scores_in(path, trial.metrics[metric])
        if isinstance(found, ItemScores):
            return found
        self.unused.add(Unused(self._grid.index[trial.cell], metric, found))
        return None

    def by_seed(self, row: int, metric: str) -> dict[int, ItemScores]:
        """Return {column: scores} of a cell, for the seeds that have them."""
        found = {}
        for column in range(len(self._grid.seeds)):
            trial = self._grid.trials.get((row, column))
            if trial and trial.state == "COMPLETE" and (scores := self.scores(trial, metric)):
                found[column] = scores
        return found

    def _path(self, trial: TrialResult, metric: str) -> Path | None:
        folder = self._folder(trial, metric)
        if folder is None:
            return None
        names, name = self._list(folder), _file_name(metric)
        if name not in names:
            if metric not in self._by_value:
                self._by_value[metric] = self._name_by_value(metric)
            name = self._by_value[metric] or ""
        return folder / name if name in names else None

    def _folder(self, trial: TrialResult, metric: str) -> Path | None:
        """The predictions of the part that reports `metric`."""
        for part in trial.parts.values():
            found = self._grid.results.parts.get((part, trial.seed))
            if found and metric in found.metrics:
                # Large studies ask a hundred thousand times: a new path each time would take a second.
                if (part, trial.seed) not in self._folders:
                    self._folders[part, trial.seed] = found.folder / "predictions"
                return self._folders[part, trial.seed]
        return None

    def _name_by_value(self, metric: str) -> str | None:
        """The file of the split that gives `metric` in more parts than any other does, and in most of those looked at.

        One file may give it by chance, and one part's may be damaged."""
        split, gives, looked = metric.partition("/")[0] + ".", Counter[str](), set[Path]()
        for trial in self._grid.trials.values():
            folder = self._folder(trial, metric)
            if folder is None or folder in looked or metric not in trial.metrics:
                continue
            free = [
                name
                for name in self._list(folder)
                if name.startswith(split) and not self._is_its_own(folder / name, trial)
            ]
            gives.update(name for name in free if self._is_given(folder / name, trial, metric))
            looked.add(folder)
            if len(looked) == LOOKED_AT:
                break
        (name, most), (_, second) = [*gives.most_common(2), ("", 0), ("", 0)][:2]
        return name if most > second and most > len(looked) / 2 else None

    def _is_its_own(self, path: Path, trial: TrialResult) -> bool:
        """Whether a file gives the metric that it is named after."""
        named = next((metric for metric in trial.metrics if _file_name(metric) == path.name), None)
        return named is not None and self._is_given(path, trial, named)

    def _is_given(self, path: Path, trial: TrialResult, metric: str) -> bool:
        return isinstance(self._scores_in(path, trial.metrics[metric]), ItemScores)

    def _list(self, folder: Path) -> frozenset[str]:
        if folder not in self._names:
            self._names[folder] = frozenset(path.name for path in folder.glob("*.*.csv"))
        return self._names[folder]

    def _scores_in(self, path: Path, recorded: float) -> ItemScores | Refusal:
        if (path, recorded) not in self._scores:
            found = self._read(path)
            self._scores[path, recorded] = (
                found if isinstance(found, Refusal) else item_scores(found, recorded)
            )
        return self._scores[path, recorded]

    def _read(self, path: Path) -> Predicted | Refusal:
        if path not in self._files:
            found = predictions_in(path)
            if isinstance(found, Predicted):
                found = self._alike[path.name] = _sharing(found, self._alike.get(path.name, found))
            self._files[path] = found
        return self._files[path]


def read_predictions(path: Path) -> Predicted | None:
    """Read a prediction file; None when it is not there or `predictions_in` refuses it."""
    found = predictions_in(path)
    return found if isinstance(found, Predicted) else None


def predictions_in(path: Path) -> Predicted | Refusal:
    """Read a file with columns id, prediction, gold and perhaps cluster, as `context.predictions` writes them.

    Refuses a header or a row of other columns, what is not a number, a blank cluster, and a prediction that is not finite;
    of the gold either all is finite or all NaN (labels kept back)."""
    try:
        data = path.read_bytes()
    except OSError:
        return Refusal.DAMAGED
    names = tuple(data.partition(b"\n")[0].rstrip(b"\r").decode(errors="replace").split(","))
    if names not in (_COLUMNS, (*_COLUMNS, "cluster")):
        return Refusal.DAMAGED
    try:
        columns = _columns(data, names)
    except ValueError:  # pyarrow's errors are
        return Refusal.DAMAGED
    clusters = tuple(columns["cluster"]) if "cluster" in columns else None
    if clusters and "" in clusters:
        return Refusal.DAMAGED
    predicted, gold = columns["prediction"], columns["gold"]
    if not np.isfinite(predicted).all() or not (np.isfinite(gold).all() or np.isnan(gold).all()):
        return Refusal.NOT_FINITE
    return Predicted(tuple(columns["id"]), predicted, gold, clusters)


def item_scores(found: Predicted, recorded: float) -> ItemScores | Refusal:
    """Return scores whose mean is `recorded`: hits (accuracy) or pseudo-values (Pearson); else why there are none."""
    if len(found.ids) < 2:
        return Refusal.TOO_FEW
    if not np.isfinite(found.gold).all():
        return Refusal.NOT_FINITE
    hits = (found.predicted == found.gold).astype(float)
    if abs(hits.mean() - recorded) < TOLERANCE:
        return ItemScores(found.ids, hits, found.predicted, found.gold, Kind.ACCURACY, found.clusters)
    r = pearson(found.predicted, found.gold)
    if abs(r - recorded) < TOLERANCE:
        scores = pseudo_values(found.predicted, found.gold)
        return ItemScores(found.ids, scores, found.predicted, found.gold, Kind.PEARSON, found.clusters)
    return Refusal.OTHER_METRIC


def _file_name(metric: str) -> str:
    return metric.replace("/", ".", 1) + ".csv"


def _columns(data: bytes, names: tuple[str, ...]) -> dict[str, Any]:
    """Read the rows under a header strictly, text as lists and numbers as arrays.

    20,000 rows take 8 ms, where Python's csv and NumPy take 75."""
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


def _sharing(found: Predicted, other: Predicted) -> Predicted:
    """Return the same predictions in less memory: ids, gold and clusters are those of most files of that name."""
    return Predicted(
        other.ids if other.ids == found.ids else found.ids,
        found.predicted,
        other.gold if np.array_equal(other.gold, found.gold) else found.gold,
        other.clusters if other.clusters == found.clusters else found.clusters,
    )
