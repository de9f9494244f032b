"""The rules of a search: its seed, its finalists, its size. The sampler decides which cell is tried next.

A search tries cells on the study's first seed, the baseline first. The best cells are trained again, with the baseline, on the
other seeds, because the score that a cell was chosen for is biased upwards."""

from collections.abc import Mapping

from ablate.design.factorial import MAX_RAW_CELLS, Space, raw_count
from ablate.spec.model import StudySpec


def search_seed(spec: StudySpec) -> int:
    """Return the seed on which cells are tried."""
    return spec.seeds[0]


def finalists(spec: StudySpec, scores: Mapping[str, float], baseline: str) -> list[tuple[str, int]]:
    """Return the (cell, seed) pairs to train after the search, seed by seed so that every seed has all the cells.

    Args:
        spec: The study.
        scores: Cell -> its metric on the search's seed, in the order tried; the first of a tie wins.
        baseline: The cell to compare with; it is always trained again.
    """
    assert spec.search is not None
    sign = 1 if spec.metric.goal == "maximize" else -1
    best = sorted(scores, key=lambda cell: -sign * scores[cell])[: spec.search.finalists]
    cells = list(dict.fromkeys([*best, baseline])) if best else []
    return [(cell, seed) for seed in spec.seeds[1:] for cell in cells]


def most_tried(spec: StudySpec) -> int:
    """Return the largest number of cells that a search tries: no more than there are valid combinations."""
    assert spec.search is not None
    there = raw_count(spec.factors)
    if there <= MAX_RAW_CELLS and any(factor.only_when for factor in spec.factors):
        there = len(Space(spec).full())
    return min(spec.search.trials, there)


def most_trials(spec: StudySpec) -> int:
    """Return the largest number of trials of a search: cells tried, then finalists and baseline on the other seeds."""
    assert spec.search is not None
    tried = most_tried(spec)
    return tried + min(spec.search.finalists + 1, tried) * len(spec.seeds[1:])
