"""The rules of a search: what belongs to it, and who its finalists are. The sampler decides which cell is tried next.

A search tries cells on the study's first seed, the baseline first. The best of them are trained again, with the baseline, on the
other seeds, which took no part in choosing: the score that a cell was chosen by is too good."""

from collections.abc import Mapping

from ablate.spec.model import StudySpec


def search_seed(spec: StudySpec) -> int:
    """Return the seed on which cells are tried."""
    return spec.seeds[0]


def finalists(spec: StudySpec, scores: Mapping[str, float], baseline: str) -> list[tuple[str, int]]:
    """Return (cell, seed) of what a search trains when it has tried its cells: seeds are complete blocks.

    Args:
        spec: The study.
        scores: Cell -> its metric on the search's seed, in the order tried, which decides a tie.
        baseline: The cell to compare with; it is trained again in any case.
    """
    assert spec.search is not None
    sign = 1 if spec.metric.goal == "maximize" else -1
    best = sorted(scores, key=lambda cell: -sign * scores[cell])[: spec.search.finalists]
    cells = list(dict.fromkeys([*best, baseline])) if best else []
    return [(cell, seed) for seed in spec.seeds[1:] for cell in cells]


def most_trials(spec: StudySpec) -> int:
    """Return how many trials a search has at most: cells tried, and finalists with the baseline on the other seeds."""
    assert spec.search is not None
    return spec.search.trials + (spec.search.finalists + 1) * len(spec.seeds[1:])
