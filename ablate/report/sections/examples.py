"""Where two cells disagree, item by item."""

import numpy as np
from numpy.typing import NDArray

from ablate.evidence.items import Items
from ablate.report.document import Example, Examples

MOST_EXAMPLES = 5  # items to show in each direction


def disagreements(items: Items, best: int | None) -> Examples | None:
    """Return where the row `best` and the reference disagree in every seed, on the metric that changed most.

    `gained` counts the items on which `best` is nearer the gold in every seed. The rows are the clearest items of either
    direction, with predictions averaged over seeds. None without saved predictions. Distances are in the scale that is
    shown: standard deviations for Pearson's r, right or wrong for an accuracy. Pseudo-values would be misleading, since
    they also rise with an error that stretches the scale in the gold's direction.
    """
    grid = items.grid
    reference = grid.reference
    if best is None or reference is None or best == reference:
        return None
    moved = [
        (abs(float(differences.mean())), metric)
        for metric in grid.dev_metrics
        if list(items.made_of(metric)) == [metric]
        and (differences := items.differences(reference, best, metric)) is not None
    ]
    if not moved:
        return None
    metric = max(moved)[1]
    pairs = items.pairs(reference, best, metric)
    first = pairs[0][0]
    is_pearson = first.kind == "pearson"
    shown = _standardised if is_pearson else np.asarray
    gold = shown(first.gold)
    before, after = (
        np.array([shown(scores.predicted) for scores in side]) for side in zip(*pairs, strict=True)
    )

    def error(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.abs(values - gold) if is_pearson else (values != gold).astype(float)

    nearer = error(before) - error(after)  # [seeds, items]
    gained, lost = nearer.min(axis=0) > 0, nearer.max(axis=0) < 0
    means = before.mean(axis=0), after.mean(axis=0)
    gain = error(means[0]) - error(means[1])  # [items]
    better = [i for i in np.argsort(-gain, kind="stable") if gained[i] and gain[i] > 0]
    worse = [i for i in np.argsort(gain, kind="stable") if lost[i] and gain[i] < 0]
    rows = [
        Example(first.ids[i], float(gold[i]), float(means[0][i]), float(means[1][i]), what)
        for what, clearest in (("better", better), ("worse", worse))
        for i in clearest[:MOST_EXAMPLES]
    ]
    return Examples(metric, is_pearson, len(gold), int(gained.sum()), int(lost.sum()), tuple(rows))


def _standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return values in standard deviations from their mean, as Pearson's r compares them.

    A raw value that is nearer the gold may be farther from it in standard deviations."""
    return np.asarray((values - values.mean()) / values.std())
