"""Two cells against each other: seeds × items where predictions were kept, seeds alone where not.

The items of a composite (`dev/mean`) are those of the metrics it is made of. Which these are, and with what weights, is
found from the recorded numbers: a composite is a linear function of other metrics that holds exactly in every trial."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.evidence.contrasts import SeedDifferences
from ablate.evidence.estimates import Estimate, other_test, over_seeds, seeds_and_items, sign_flip
from ablate.evidence.frames import Grid
from ablate.evidence.predictions import ItemScores, PredictionFiles
from ablate.stats.correlations import pearson, williams_t, zou_interval
from ablate.stats.distributions import interval, z_p
from ablate.stats.mcnemar import mcnemar
from ablate.stats.mrmc import mrmc

MOST_EXAMPLES = 5  # of each direction


@dataclass(frozen=True)
class Items:
    """The share of the items in the variance of a difference."""

    variance: float  # of the mean difference, in the metric's unit squared
    metrics: tuple[str, ...]  # with item scores


class Pairing:
    """Compares rows of a grid. Keeps what it has read."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.files = PredictionFiles(grid)
        self.unaligned: set[tuple[int, int, str, str]] = set()  # (row, row, metric, what differs)
        self._weights: dict[str, dict[str, float]] = {}

    def estimate(self, low: int, high: int, metric: str, differences: SeedDifferences) -> Estimate:
        """Return high − low on `metric`, with the items in its error where their predictions are known."""
        seeds_only = over_seeds(differences.per_seed)
        if seeds_only.n < 2 or differences.identical == differences.compared:
            return seeds_only
        items = self.item_variance(low, high, metric)
        return seeds_and_items(differences.per_seed, items.variance) if items else seeds_only

    def item_variance(self, low: int, high: int, metric: str) -> Items | None:
        """Return V_item − V_seed×item of the difference; None unless all its metrics have items that align."""
        variance, weights = 0.0, self.weights(metric)
        if not weights:
            return None
        for name, weight in weights.items():
            differences = self.item_differences(low, high, name)
            if differences is None:
                return None
            found = mrmc(differences)
            variance += weight**2 * found.sigma_item**2 / differences.shape[1]
        return Items(variance, tuple(weights))

    def item_differences(self, low: int, high: int, metric: str) -> NDArray[np.float64] | None:
        """[seeds, items] of high − low; None with fewer than two seeds or items that do not align."""
        pairs = self.item_pairs(low, high, metric)
        return np.array([b.scores - a.scores for a, b in pairs]) if len(pairs) > 1 else None

    def item_pairs(self, low: int, high: int, metric: str) -> list[tuple[ItemScores, ItemScores]]:
        """Return the scores of both cells for each seed that has them; none, and a note for the flags, unless all align."""
        a, b = (self.files.by_seed(row, metric) for row in (low, high))
        pairs = [(a[column], b[column]) for column in sorted(a.keys() & b.keys())]
        if what := misaligned([side for pair in pairs for side in pair]):
            self.unaligned.add((low, high, metric, what))
            return []
        return pairs

    def other_tests(
        self, low: int, high: int, metric: str, differences: SeedDifferences
    ) -> list[dict[str, Any]]:
        """Return what other tests say of high − low: of the seeds by sign-flip, of one seed item by item."""
        by_seed = differences.per_seed[np.isfinite(differences.per_seed)]
        if differences.all_identical or not len(by_seed):
            return []
        return [sign_flip(by_seed)] if len(by_seed) > 1 else self._of_one_seed(low, high, metric)

    def _of_one_seed(self, low: int, high: int, metric: str) -> list[dict[str, Any]]:
        """McNemar's exact test, or Williams' t with Zou's interval; of a composite a z over the items of its metrics.

        Nothing without items that align."""
        if len(weights := self.weights(metric)) > 1:
            return self._of_one_seed_of_a_composite(low, high, weights)
        pairs = self.item_pairs(low, high, metric)
        if len(pairs) != 1:
            return []
        x, y = pairs[0]
        n = len(x.ids)
        if x.kind == "accuracy":
            only_a, only_b = int((x.scores > y.scores).sum()), int((x.scores < y.scores).sum())
            exact = mcnemar(only_a, only_b, n)
            return [other_test("mcnemar_exact", None, exact.p_exact, exact.ci95)]
        triple = x.metric, y.metric, pearson(x.predicted, y.predicted)
        test = williams_t(*triple, n)
        return [other_test("williams", test.statistic, test.p, zou_interval(*triple, n))]

    def _of_one_seed_of_a_composite(
        self, low: int, high: int, weights: dict[str, float]
    ) -> list[dict[str, Any]]:
        """Add up the metrics' differences and their variances: each metric has items of its own."""
        value = variance = 0.0
        for name, weight in weights.items():
            pairs = self.item_pairs(low, high, name)
            if len(pairs) != 1:
                return []
            differences = pairs[0][1].scores - pairs[0][0].scores
            value += weight * float(differences.mean())
            variance += weight**2 * float(differences.var(ddof=1)) / len(differences)
        if variance == 0:
            return []
        se = math.sqrt(variance)
        return [other_test("items", value / se, z_p(value / se), interval(value, se, math.inf))]

    def weights(self, metric: str) -> dict[str, float]:
        """Return {metric with items: weight}: the metric itself, or what a composite is made of; empty if unknown."""
        if metric not in self._weights:
            self._weights[metric] = {metric: 1.0} if self._has_items(metric) else self._composite(metric)
        return self._weights[metric]

    def _has_items(self, metric: str) -> bool:
        complete = (trial for trial in self.grid.trials.values() if metric in trial.metrics)
        first = next(complete, None)
        return first is not None and self.files.scores(first, metric) is not None

    def _composite(self, metric: str) -> dict[str, float]:
        names = [name for name in self.grid.dev_metrics if name != metric and self._has_items(name)]
        return composite_weights(
            self.grid.values[metric].ravel(), {name: self.grid.values[name].ravel() for name in names}
        )


def disagreements(pairing: Pairing, best: int | None) -> dict[str, Any] | None:
    """Return where the row `best` and the reference disagree in every seed, on the metric that moved most.

    `gained` counts the items on which `best` is nearer the gold in every seed; with it the clearest items of either
    direction, predictions being means over seeds. None without kept predictions. Distances are those of what is shown:
    for Pearson's r in standard deviations, for an accuracy right or wrong. An item's pseudo-value would not do, as it
    rises with an error that stretches the scale in the gold's direction.
    """
    grid = pairing.grid
    reference = grid.reference
    if best is None or reference is None or best == reference:
        return None
    moved = [
        (abs(float(differences.mean())), metric)
        for metric in grid.dev_metrics
        if list(pairing.weights(metric)) == [metric]
        and (differences := pairing.item_differences(reference, best, metric)) is not None
    ]
    if not moved:
        return None
    metric = max(moved)[1]
    pairs = pairing.item_pairs(reference, best, metric)
    first = pairs[0][0]
    is_pearson = first.kind == "pearson"
    shown = _standardised if is_pearson else np.asarray
    gold = shown(first.gold)
    before, after = (np.array([shown(one.predicted) for one in side]) for side in zip(*pairs, strict=True))

    def error(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.abs(values - gold) if is_pearson else (values != gold).astype(float)

    nearer = error(before) - error(after)  # [seeds, items]
    gained, lost = nearer.min(axis=0) > 0, nearer.max(axis=0) < 0
    means = {"reference": before.mean(axis=0), "best": after.mean(axis=0)}
    gain = error(means["reference"]) - error(means["best"])  # [items]
    better = [i for i in np.argsort(-gain, kind="stable") if gained[i] and gain[i] > 0]
    worse = [i for i in np.argsort(gain, kind="stable") if lost[i] and gain[i] < 0]
    return {
        "metric": metric,
        "standardised": is_pearson,
        "items": len(gold),
        "gained": int(gained.sum()),
        "lost": int(lost.sum()),
        "rows": [
            {
                "id": first.ids[i],
                "gold": float(gold[i]),
                **{side: float(mean[i]) for side, mean in means.items()},
                "what": what,
            }
            for what, clearest in (("better", better), ("worse", worse))
            for i in clearest[:MOST_EXAMPLES]
        ],
    }


def _standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """What Pearson's r compares: nearer to the gold as it stands may be farther from it in standard deviations."""
    return np.asarray((values - values.mean()) / values.std())


def misaligned(sides: Sequence[ItemScores]) -> str | None:
    """Return what keeps items from being paired: ids or gold that are not the same in the same order, or two kinds of score."""
    for side in sides:
        if side.ids != sides[0].ids:
            return "item ids"
        if not np.array_equal(side.gold, sides[0].gold):
            return "gold"
        if side.kind != sides[0].kind:
            return "kinds of score"
    return None


def composite_weights(
    composite: NDArray[np.float64], metrics: dict[str, NDArray[np.float64]]
) -> dict[str, float]:
    """Return the weights with which `composite` [n] is a constant plus a sum over `metrics` [n]; empty if it is not.

    The relation must hold to rounding in every row, with at least two rows more than unknowns.
    """
    columns = np.column_stack([*metrics.values(), np.ones(len(composite))])
    whole = np.isfinite(columns).all(axis=1) & np.isfinite(composite)
    columns, wanted = columns[whole], composite[whole]
    if not metrics or len(wanted) < columns.shape[1] + 2:
        return {}
    solution, _, rank, _ = np.linalg.lstsq(columns, wanted, rcond=None)
    exact = math.isclose(float(np.abs(columns @ solution - wanted).max()), 0.0, abs_tol=1e-9)
    if rank < columns.shape[1] or not exact:
        return {}
    return {name: float(w) for name, w in zip(metrics, solution, strict=False) if abs(w) > 1e-9}
