"""The items behind a contrast, and what each of them contributes to it, seed by seed.

The items of a composite (`dev/mean`) are those of the metrics it is made of. These metrics and their weights are
inferred from the recorded numbers: a composite is a linear function of other metrics that holds exactly in every trial.
An item with the same id in two metrics is the same item, so its contributions are added up."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ablate.evidence.frames import Grid
from ablate.evidence.predictions import ItemScores, Kind, PredictionFiles
from ablate.stats.clustering import Clustering, clustering
from ablate.stats.correlations import pearson
from ablate.stats.inference import ItemNoise, contributions, item_noise

Array = NDArray[np.float64]


@dataclass
class _Sum:
    """The running sum of one metric's item scores, weighted as in a contrast."""

    layout: int | None = None  # the layout of the items, which all added scores must share
    first: tuple[int, ItemScores] | None = None  # row, scores
    by_seed: dict[int, Array] = field(default_factory=dict)  # column -> [items]
    incomplete: set[int] = field(default_factory=set)  # columns in which a trial has no items
    misaligned: bool = False


@dataclass(frozen=True)
class _Contributions:
    """The items' contributions to a contrast (`stats.inference.contributions`)."""

    seeds: list[int]  # columns of the grid
    units: list[str]  # ids, or labels of clusters
    values: Array  # [seeds, units]
    are_clusters: bool


class Items:
    """Computes the item noise of a grid's contrasts. Caches what it has read."""

    def __init__(
        self,
        grid: Grid,
        files: PredictionFiles | None = None,
        made_of: Mapping[str, dict[str, float]] | None = None,
    ) -> None:
        self.grid = grid
        self.files = files or PredictionFiles(grid)
        # (row, row, metric, what differs)
        self.unaligned: set[tuple[int, int, str, str]] = set()
        self._made_of = dict(made_of or {})
        self._values: dict[str, Array] = {}
        self._kinds: dict[str, Kind | None] = {}

    def noise(self, weights: Sequence[Array], metric: str) -> list[ItemNoise | None]:
        """Return the item noise of each contrast of `metric`, given by its weights [cells, seeds].

        None unless all metrics behind it have the same items in all cells of the contrast, for at least two seeds.
        """
        made_of = self.made_of(metric)
        if not made_of:
            return [None] * len(weights)
        added = [self._added(weights, name, share) for name, share in made_of.items()]
        return [_noise(of_contrast) for of_contrast in zip(*added, strict=True)]

    def values(self, metric: str) -> Array:
        """Return the metric [cells, seeds], recomputed from its predictions where there are some, otherwise as recorded.

        A trainer may have recorded it in single precision."""
        if metric not in self._values:
            values = self.grid.values[metric].copy()
            for place, trial in self.grid.trials.items() if self.kind(metric) else ():
                scores = self.files.scores(trial, metric) if math.isfinite(values[place]) else None
                if scores:
                    values[place] = scored(scores)
            self._values[metric] = values
        return self._values[metric]

    def unnamed_clusters(self, weights: Sequence[Array], metric: str) -> Clustering | None:
        """Return the strongest evidence that items depend on each other although no clusters are declared; None without any."""
        evidence = []
        for name, share in self.made_of(metric).items():
            added = [a for a in self._added(weights, name, share) if a and not a.are_clusters]
            same_units = [a.values.mean(axis=0) for a in added if a.units == added[0].units]
            if same_units and (dependence := clustering(np.array(same_units), added[0].units)):
                evidence.append(dependence)
        return max(evidence, key=lambda dependence: dependence.design_effect, default=None)

    def made_of(self, metric: str) -> dict[str, float]:
        """Return {metric with items: weight}: the metric itself, or what a composite is made of; empty if unknown."""
        if metric not in self._made_of:
            self._made_of[metric] = {metric: 1.0} if self._has_items(metric) else self._composite(metric)
        return self._made_of[metric]

    def kind(self, metric: str) -> Kind | None:
        """Return the kind of the items' scores; None without items."""
        if metric not in self._kinds:
            scores = (self.files.scores(t, metric) for t in self.grid.trials.values() if metric in t.metrics)
            first = next(scores, None)
            self._kinds[metric] = first.kind if first else None
        return self._kinds[metric]

    def stated(self, metric: str) -> str | None:
        """Return what kind of metric the trainer says this is; None if it does not say."""
        trials = (trial for trial in self.grid.trials.values() if metric in trial.metrics)
        return next((kind for trial in trials if (kind := self.files.stated(trial, metric))), None)

    def pairs(self, low: int, high: int, metric: str) -> list[tuple[ItemScores, ItemScores]]:
        """Return the scores of both rows for each seed that has them; empty, and noted in `unaligned`, if the items differ."""
        a, b = (self.files.by_seed(row, metric) for row in (low, high))
        pairs = [(a[column], b[column]) for column in sorted(a.keys() & b.keys())]
        if what := misaligned([side for pair in pairs for side in pair]):
            self.unaligned.add((low, high, metric, what))
            return []
        return pairs

    def differences(self, low: int, high: int, metric: str) -> Array | None:
        """[seeds, items] of high − low; None with fewer than two seeds or items that do not align."""
        pairs = self.pairs(low, high, metric)
        return np.array([b.scores - a.scores for a, b in pairs]) if len(pairs) > 1 else None

    def of_one_seed(self, low: int, high: int, metric: str) -> Array | None:
        """Return the contributions to high − low of each item (or cluster) [1, units]; None unless exactly one seed has both."""
        added = []
        for name, share in self.made_of(metric).items():
            pairs = self.pairs(low, high, name)
            if len(pairs) != 1:
                return None
            x, y = pairs[0]
            values, clusters = contributions((y.scores - x.scores)[None, :], x.clusters)
            added.append(_Contributions([0], clusters or list(x.ids), share * values, clusters is not None))
        return _summed_up(added) if added else None

    def _added(self, contrasts: Sequence[Array], metric: str, share: float) -> list[_Contributions | None]:
        """Read each prediction file once, and add its scores to every contrast that it is part of."""
        sums = [_Sum() for _ in contrasts]
        stacked = np.nan_to_num(np.array(contrasts)).reshape(len(contrasts), *self.grid.values[metric].shape)
        layouts: dict[object, int] = {}
        for (row, column), trial in sorted(self.grid.trials.items()):
            part_of = np.flatnonzero(stacked[:, row, column]).tolist()
            if not part_of:
                continue
            scores = self.files.scores(trial, metric) if trial.state == "COMPLETE" else None
            layout = None
            if scores:
                layout = layouts.setdefault(_layout(scores), len(layouts))
            for k in part_of:
                self._add(sums[k], row, column, scores, layout, float(stacked[k, row, column]), metric)
        return [_finished(summed, share) for summed in sums]

    def _add(
        self,
        to: _Sum,
        row: int,
        column: int,
        scores: ItemScores | None,
        layout: int | None,
        weight: float,
        metric: str,
    ) -> None:
        if scores is None:
            to.incomplete.add(column)
            return
        if to.first is None:
            to.layout, to.first = layout, (row, scores)
        if layout != to.layout:
            before, of_first = to.first
            self.unaligned.add((before, row, metric, misaligned([of_first, scores]) or "items"))
            to.misaligned = True
        else:
            to.by_seed[column] = to.by_seed.get(column, 0.0) + weight * scores.scores

    def _has_items(self, metric: str) -> bool:
        return self.kind(metric) is not None

    def _composite(self, metric: str) -> dict[str, float]:
        names = [name for name in self.grid.dev_metrics if name != metric and self._has_items(name)]
        return composite_weights(
            self.grid.values[metric].ravel(), {name: self.grid.values[name].ravel() for name in names}
        )


def scored(scores: ItemScores) -> float:
    """Return the metric, computed from the predictions."""
    if scores.kind == "pearson":
        return pearson(scores.predicted, scores.gold)
    return scores.metric


def misaligned(sides: Sequence[ItemScores]) -> str | None:
    """Return what differs between `sides`, so that items cannot be paired: ids, their order, gold, kind of score or clusters."""
    for side in sides:
        if side.ids != sides[0].ids:
            return "item ids or item order"
        if not np.array_equal(side.gold, sides[0].gold):
            return "gold"
        if side.kind != sides[0].kind:
            return "kinds of score"
        if side.clusters != sides[0].clusters:
            return "clusters"
    return None


def _layout(scores: ItemScores) -> tuple[object, ...]:
    """Return what must be the same for items to be paired."""
    return scores.ids, scores.gold.tobytes(), scores.kind, scores.clusters


def composite_weights(composite: Array, metrics: dict[str, Array]) -> dict[str, float]:
    """Return the weights with which `composite` [n] is a constant plus a sum over `metrics` [n]; empty if it is not.

    The relation must hold in every row up to rounding, with at least two rows more than unknowns.
    """
    columns = np.column_stack([*metrics.values(), np.ones(len(composite))])
    complete = np.isfinite(columns).all(axis=1) & np.isfinite(composite)
    columns, target = columns[complete], composite[complete]
    if not metrics or len(target) < columns.shape[1] + 2:
        return {}
    solution, _, rank, _ = np.linalg.lstsq(columns, target, rcond=None)
    exact = math.isclose(float(np.abs(columns @ solution - target).max()), 0.0, abs_tol=1e-9)
    if rank < columns.shape[1] or not exact:
        return {}
    return {name: float(w) for name, w in zip(metrics, solution, strict=False) if abs(w) > 1e-9}


def _finished(summed: _Sum, share: float) -> _Contributions | None:
    seeds = sorted(summed.by_seed.keys() - summed.incomplete)
    if summed.first is None or summed.misaligned or len(seeds) < 2:
        return None
    _, scores = summed.first
    values, clusters = contributions(np.array([summed.by_seed[column] for column in seeds]), scores.clusters)
    return _Contributions(seeds, clusters or list(scores.ids), share * values, clusters is not None)


def _noise(added: Sequence[_Contributions | None]) -> ItemNoise | None:
    """Return the item noise of one contrast from the contributions in each of its metrics; None if one has none."""
    known = [a for a in added if a is not None]
    return item_noise(_summed_up(known)) if len(known) == len(added) else None


def _summed_up(added: Sequence[_Contributions]) -> Array:
    """Return the contributions in several metrics, added up: [seeds that all metrics have, units of any metric]."""
    if len(added) == 1:
        return added[0].values
    seeds = sorted(set.intersection(*(set(a.seeds) for a in added)))
    place: dict[str, int] = {}
    for a in added:
        for unit in a.units:
            place.setdefault(unit, len(place))
    total = np.zeros((len(seeds), len(place)))
    for a in added:
        rows = [a.seeds.index(column) for column in seeds]
        total[:, [place[unit] for unit in a.units]] += a.values[rows]
    return total
