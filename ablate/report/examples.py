"""Items on which the best cell and the reference disagree in every seed."""

from typing import Any

import numpy as np

from ablate.report.cells import best_row
from ablate.report.pairs import Pairing

MOST = 10


def examples(pairing: Pairing) -> dict[str, Any] | None:
    """Return counts and the clearest items of the metric that moved most; None without kept predictions.

    `gained` counts the items whose score is higher in every seed. Predictions are means over seeds.
    """
    grid = pairing.grid
    best, reference = best_row(grid), grid.reference
    if best is None or reference is None or best == reference:
        return None
    moved = [
        (abs(float(differences.mean())), metric, differences)
        for metric in grid.dev_metrics
        if list(pairing.weights(metric)) == [metric]
        and (differences := pairing.item_differences(reference, best, metric)) is not None
    ]
    if not moved:
        return None
    _, metric, differences = max(moved, key=lambda item: item[:2])
    gained, lost = np.min(differences, axis=0) > 0, np.max(differences, axis=0) < 0
    mean = differences.mean(axis=0)
    clearest = [i for i in np.argsort(-np.abs(mean), kind="stable").tolist() if gained[i] or lost[i]][:MOST]
    found = {
        side: [
            p
            for c in range(len(grid.seeds))
            if (t := grid.trials.get((row, c))) and (p := pairing.files.predicted(t, metric))
        ]
        for side, row in (("reference", reference), ("best", best))
    }
    return {
        "metric": metric,
        "items": differences.shape[1],
        "gained": int(gained.sum()),
        "lost": int(lost.sum()),
        "rows": [
            {
                "id": found["best"][0].ids[i],
                "gold": float(found["best"][0].gold[i]),
                **{side: float(np.mean([p.predicted[i] for p in files])) for side, files in found.items()},
                "what": "better" if gained[i] else "worse",
            }
            for i in clearest
        ],
    }
