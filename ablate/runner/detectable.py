"""The smallest effect that a study, and other designs of its factors, would detect.

An effect is judged by its variation over seeds (S − 1 degrees of freedom) and over items, corrected over all main effects. More
seeds reduce the first, never the second. Values are in the metric's unit once the study has results; before that, in standard
deviations of one run."""

import math
from dataclasses import dataclass
from typing import Any

from ablate.design.alternatives import alternatives
from ablate.design.cells import part_counts
from ablate.design.factorial import Space
from ablate.design.model import Design
from ablate.spec.designs import KINDS
from ablate.spec.model import StudySpec
from ablate.stats.power import mde, pooled_sd
from ablate.store.results import Results, compared, repeated_values

SEEDS_SHOWN = (3, 5, 10)
# A design is recommended if it detects effects smaller by this factor with no more trials.
WORTH_A_LINE = 0.9
UNKNOWN = (
    "standard deviations of one run, whose size is unknown until runs are repeated; train the baseline alone with `ablate run "
    "STUDY --only baseline`, and plan again"
)


@dataclass(frozen=True)
class Noise:
    """The noise of the least certain main effect, estimated from the results so far, in the metric's unit."""

    sd_run: float  # of one run, between seeds
    sd_effect: float | None = None  # of the effect, between seeds; None before there are effects
    v_item: float = 0.0  # the items' part of its variance, which does not depend on the number of seeds


def noise_so_far(earlier: Results | None, metric: str) -> Noise | None:
    """Return the noise in the results of a study; None while no cell was repeated."""
    sd_run, _ = pooled_sd(repeated_values(compared(earlier), metric)) if earlier else (None, 0)
    if not earlier or not sd_run:
        return None
    # These take a while to load, and most plans have no results.
    from ablate.evidence.effects import study_effects, study_models
    from ablate.evidence.frames import grid
    from ablate.evidence.items import Items

    arranged = grid(earlier)
    models = study_models(arranged)
    inferences = [e.inference for e in study_effects(arranged, Items(arranged), metric, models.get(metric))]
    known = [one for one in inferences if one.v_seed and one.se]
    if not known:
        return Noise(sd_run)
    worst = max(known, key=lambda one: one.se or 0.0)
    return Noise(sd_run, math.sqrt((worst.v_seed or 0.0) * worst.seeds), worst.v_item or 0.0)


def detectable_effect(spec: StudySpec, design: Design, noise: Noise | None) -> dict[str, Any]:
    """Return the smallest main effect that the study detects with 80 % power, for the least certain factor."""
    seeds, several, alpha = len(spec.deciding_seeds), comparisons(spec), first_alpha(spec)
    base = {"metric": spec.metric.name, "value": None, "floor": None, "comparisons": several}
    if seeds < 2:
        return base | {"basis": "one seed gives no noise to compare with"}
    corrected = (
        f"80 % power at p < .05 after correction over {several} main effects"
        if several > 1
        else "80 % power at p < .05"
    )
    in_runs = sd_of_an_effect(spec, design)
    if noise is None:
        return base | {"value": _detectable(in_runs, seeds, alpha), "basis": f"{corrected}, in {UNKNOWN}"}
    sd = noise.sd_effect or in_runs * noise.sd_run
    basis = (
        f"{corrected}, in the metric's own unit; standard deviation between seeds so far {noise.sd_run:.4g}"
    )
    if noise.sd_effect:
        basis += "; computed from the noise of the effects so far (the table of designs below: from the noise of single runs)"
    if noise.v_item:
        basis += f"; no number of seeds detects less than {_floor(noise.v_item, alpha):.3g} on these items"
    return base | {
        "value": _detectable(sd, seeds, alpha, noise.v_item),
        "floor": _floor(noise.v_item, alpha),
        "basis": basis,
    }


def alternatives_rows(spec: StudySpec, design: Design, noise: Noise | None) -> list[dict[str, Any]]:
    """Return the designs of the study's factors, its own `chosen` among them.

    `variance` is that of a main effect (of the least certain factor) for one seed, where one trial's is 1; `detectable`
    {seeds: smallest effect detected with 80 % power after correction}, in the unit of `detectable_effect`.
    """
    rows = []
    seeds = sorted({*SEEDS_SHOWN, max(2, len(spec.deciding_seeds))})
    for one in alternatives(spec):
        chosen = one.design == design.kind
        sd = sd_of_an_effect(spec, design) if chosen else math.sqrt(one.variance)
        in_unit = sd * (noise.sd_run if noise else 1.0)
        # The study's own design, without duplicate cells.
        cells = len(design.cells) if chosen else one.cells
        rows.append(
            {
                "design": one.design,
                "chosen": chosen,
                "cells": cells,
                "trials": cells * len(spec.seeds),
                "variance": one.variance,
                "detectable": {
                    str(s): _detectable(in_unit, s, first_alpha(spec), noise.v_item if noise else 0.0)
                    for s in seeds
                },
                "resolution": one.resolution,
                "estimates": one.estimates,
                "aliases": one.aliases,
            }
        )
    return rows


def recommendation(spec: StudySpec, rows: list[dict[str, Any]], noise: Noise | None) -> list[str]:
    """Return advice: designs that detect smaller effects with no more trials, and whether more items would help."""
    chosen = next((row for row in rows if row["chosen"]), None)
    seeds = str(len(spec.deciding_seeds))
    if chosen is None or seeds not in chosen["detectable"]:
        return []
    advice = []
    detected = chosen["detectable"][seeds]
    tries = [
        (value, row["design"], row["cells"], int(s))
        for row in rows
        for s, value in row["detectable"].items()
        # A leave-one-out design asks another question: what each level adds to the best cell.
        if row["cells"] * int(s) <= chosen["trials"] and not KINDS[row["design"]].starts_at_best
    ]
    value, design, cells, s = min(tries, default=(math.inf, "", 0, 0))
    if value < WORTH_A_LINE * detected:
        advice.append(
            f"{design} with {s} seeds ({cells} × {s} = {cells * s} trials) would detect main effects of {value:.3g}; this "
            f"plan ({chosen['trials']} trials) detects {detected:.3g}"
            + (" (both from the noise of single runs)" if noise and noise.sd_effect else "")
        )
    if noise and (more := _items_or_seeds(spec, noise)):
        advice.append(more)
    return advice


def _items_or_seeds(spec: StudySpec, noise: Noise) -> str | None:
    """Return the effects that twice the items and twice the seeds would detect; None if items are less than half of the noise.

    Even if items are more than half, twice the seeds may help more: with few seeds, each adds degrees of freedom."""
    sd, seeds, alpha = noise.sd_effect or noise.sd_run, len(spec.deciding_seeds), first_alpha(spec)
    if not noise.v_item or noise.v_item < sd**2 / seeds:
        return None
    items = _detectable(sd, seeds, alpha, noise.v_item / 2)
    more_seeds = _detectable(sd, 2 * seeds, alpha, noise.v_item)
    better = "items" if items < more_seeds else "seeds"
    return (
        "the dev items cause at least half of the noise: twice as many items would detect main effects of "
        f"{items:.3g}, twice as many seeds {more_seeds:.3g}; plan more {better} first"
    )


def comparisons(spec: StudySpec) -> int:
    """Return how many main effects are corrected for: one per level except the baseline's, and one per numeric factor."""
    return sum(1 if factor.numbers else len(factor.levels) - 1 for factor in spec.factors)


def first_alpha(spec: StudySpec) -> float:
    """Return the α of the first step of the correction; of a slope, if there is one, which leaves part of it to its levels."""
    share = 0.05 / max(1, comparisons(spec))
    # A leave-one-out design has no slopes: it runs two levels of a factor.
    if spec.design.starts_at_best or not any(factor.numbers for factor in spec.factors):
        return share
    # NumPy takes a while to load.
    from ablate.stats.multiple import BEHIND_GATES

    return share * (1 - BEHIND_GATES)


def _detectable(sd: float, seeds: int, alpha: float, v_item: float = 0.0) -> float:
    """Return the effect detected with 80 % power when tested at `alpha`, in the unit of `sd`, the sd of one seed's effect."""
    if not v_item:
        return mde(sd / math.sqrt(seeds), seeds - 1, alpha=alpha)
    # SciPy takes a while to load.
    from ablate.stats.inference import detectable_effect as with_items

    return with_items(sd**2 / seeds, v_item, seeds, alpha)


def _floor(v_item: float, alpha: float) -> float | None:
    return mde(math.sqrt(v_item), math.inf, alpha=alpha) if v_item else None


def sd_of_an_effect(spec: StudySpec, design: Design) -> float:
    """Return the sd, over seeds, of one seed's least certain main effect, if that of a cell is 1.

    A cell of k parts is treated as the mean of k independent models with that sd; identical parts count as one model."""
    if spec.design.from_reference or spec.search:
        return math.sqrt(2)
    naive, unique = part_counts(design, 1)
    # Imported here: NumPy and the designs take a while to load.
    import numpy as np

    from ablate.design.optimal import effect_weights

    space = Space(spec)
    combinations = [(i, levels) for i, cell in enumerate(design.cells) for levels in cell.combinations]
    of_combinations = effect_weights(space, [space.combination(levels) for _, levels in combinations])
    # A cell that stands for several combinations has the sum of their weights.
    weights = np.zeros((len(of_combinations), len(design.cells)))
    np.add.at(weights.T, [i for i, _ in combinations], of_combinations.T)
    if unique == naive:
        return float((weights**2).sum(axis=1).max() ** 0.5)
    shares = [
        (i, part.hash, len(cell.parts)) for i, cell in enumerate(design.cells) for part in cell.parts.values()
    ]
    column = {hash: at for at, hash in enumerate(dict.fromkeys(hash for _, hash, _ in shares))}
    by_part = np.zeros((len(column), len(weights)))
    for cell, hash, k in shares:
        by_part[column[hash]] += weights[:, cell] / k**0.5
    return float((by_part**2).sum(axis=0).max() ** 0.5)
