"""Per-item predictions of trained parts, read from their files and turned into scores whose mean is the metric.

A metric `dev/sentiment` belongs to `predictions/dev.sentiment.csv` of the part that reports it; where there is no such file,
to the one file of its split that gives the metric. Whether it is an accuracy or a Pearson r is read off the numbers: the
one that gives the recorded metric. Neither: the file is not used."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ablate.evidence.frames import Grid
from ablate.stats.correlations import pearson, pseudo_values
from ablate.store.results import TrialResult

TOLERANCE = 1e-6  # between the recorded metric and the one recomputed from the predictions


@dataclass(frozen=True)
class Predicted:
    """A prediction file."""

    ids: tuple[str, ...]
    predicted: NDArray[np.float64]  # [items]
    gold: NDArray[np.float64]  # [items]


@dataclass(frozen=True)
class ItemScores:
    """What each item adds to a metric: the mean over items is the metric."""

    ids: tuple[str, ...]
    scores: NDArray[np.float64]  # [items]
    predicted: NDArray[np.float64]  # [items]
    gold: NDArray[np.float64]  # [items]
    kind: str  # accuracy or pearson
    # Of each item, where items depend on one another (two pairs that share a sentence).
    clusters: tuple[str, ...] | None = None

    @property
    def metric(self) -> float:
        """The mean of the scores."""
        return float(self.scores.mean())


class PredictionFiles:
    """Reads each file once, however many trials share the part."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._files: dict[Path, Predicted | None] = {}
        self._scores: dict[tuple[Path, float], ItemScores | None] = {}
        self._names: dict[Path, frozenset[str]] = {}  # folder -> its files
        self._by_value: dict[str, str | None] = {}  # metric -> the file that gives it

    def predicted(self, trial: TrialResult, metric: str) -> Predicted | None:
        """Return the predictions behind `metric` in `trial`; None when the trainer kept none."""
        path = self._path(trial, metric)
        return self._read(path) if path else None

    def scores(self, trial: TrialResult, metric: str) -> ItemScores | None:
        """Return the items' scores behind `metric` in `trial`; None when there are none that give the metric."""
        path, recorded = self._path(trial, metric), trial.metrics.get(metric, math.nan)
        return self._scores_in(path, recorded) if path else None

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
        names, name = self._list(folder), metric.replace("/", ".", 1) + ".csv"
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
                return found.folder / "predictions"
        return None

    def _name_by_value(self, metric: str) -> str | None:
        """The only file of the split that gives `metric`; where two do by chance, the next trial tells."""
        start, left = metric.partition("/")[0] + ".", None
        for trial in self._grid.trials.values():
            folder = self._folder(trial, metric)
            names = {name for name in self._list(folder) if name.startswith(start)} if folder else set()
            if folder and names and metric in trial.metrics:
                giving = {name for name in names if self._scores_in(folder / name, trial.metrics[metric])}
                left = giving if left is None else left & giving
                if len(left) < 2:
                    break
        return left.pop() if left and len(left) == 1 else None

    def _list(self, folder: Path) -> frozenset[str]:
        if folder not in self._names:
            self._names[folder] = frozenset(path.name for path in folder.glob("*.*.csv"))
        return self._names[folder]

    def _scores_in(self, path: Path, recorded: float) -> ItemScores | None:
        if (path, recorded) not in self._scores:
            found = self._read(path)
            self._scores[path, recorded] = item_scores(found, recorded) if found else None
        return self._scores[path, recorded]

    def _read(self, path: Path) -> Predicted | None:
        if path not in self._files:
            self._files[path] = read_predictions(path)
        return self._files[path]


def read_predictions(path: Path) -> Predicted | None:
    """Read a file with columns id, prediction, gold; None when it is not there or is not one."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    if not rows or rows[0] != ["id", "prediction", "gold"] or any(len(row) != 3 for row in rows):
        return None
    try:
        numbers = np.array([row[1:] for row in rows[1:]], dtype=float).reshape(-1, 2)
    except ValueError:
        return None
    return Predicted(tuple(row[0] for row in rows[1:]), numbers[:, 0], numbers[:, 1])


def item_scores(found: Predicted, recorded: float) -> ItemScores | None:
    """Return scores whose mean is `recorded`: hits (accuracy) or pseudo-values (Pearson); None when neither is."""
    if len(found.ids) < 2:
        return None
    hits = (found.predicted == found.gold).astype(float)
    if abs(hits.mean() - recorded) < TOLERANCE:
        return ItemScores(found.ids, hits, found.predicted, found.gold, "accuracy")
    r = pearson(found.predicted, found.gold)
    if abs(r - recorded) < TOLERANCE:
        scores = pseudo_values(found.predicted, found.gold)
        return ItemScores(found.ids, scores, found.predicted, found.gold, "pearson")
    return None
