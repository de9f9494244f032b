"""`ablate compare STUDY_A STUDY_B`: one cell of each of two studies, paired by seed and, if predictions were saved, by item.

The two cells are compared as a report compares cells of one study."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ablate.design.model import Cell, Part
from ablate.errors import BadInput
from ablate.evidence.contrasts import by_seed, pair_weights
from ablate.evidence.effects import infer_all
from ablate.evidence.frames import grid
from ablate.evidence.items import Items
from ablate.report.answers import ComparedCell, Sides, StudyComparison
from ablate.report.export import named_cell
from ablate.report.outside.compare import tested
from ablate.report.phrases import NO_NOISE
from ablate.report.sections.sensitivity import of_one_seed, sign_flip
from ablate.spec.designs import OneAtATime
from ablate.spec.model import levels_text
from ablate.store.results import PartResult, Results, TrialResult
from ablate.text import listed, plural

# The rows of the two cells in a grid made for the comparison.
A, B = 0, 1


def compare_studies(
    a: Results, b: Results, only_a: Sequence[str] = (), only_b: Sequence[str] = ()
) -> StudyComparison:
    """Compare a cell of `b` with one of `a` (differences are B minus A) on the primary metric of study A.

    The cells are those that `only_a` and `only_b` name; if only one of them is given, the other study's cell is its reference.
    With neither, it is the reference if both studies have the same one, otherwise the only cell that both have.

    Raises:
        BadInput: no such cell, or several; a metric that B does not have; or no seed with a result in both cells.
    """
    cell_a, cell_b = _cells(a, b, only_a, only_b)
    metric = a.spec.metric
    both = grid(_side_by_side(a, cell_a, b, cell_b))
    if metric.name not in both.values or not np.isfinite(both.values[metric.name]).any(axis=1).all():
        raise BadInput(
            f"{metric.name}: not measured in both cells; run them first, or use the same primary metric in both studies"
        )
    values = both.values[metric.name]
    measured = np.isfinite(values)
    paired = np.asarray(measured.all(axis=0))
    if not paired.any():
        seeds = (listed(s for s, has in zip(both.seeds, row, strict=True) if has) for row in measured)
        raise BadInput("no seed has a result in both cells; A has {}, B has {}".format(*seeds))
    # Inferring what a composite is made of takes all trials of a study; two cells are too few.
    items = Items(both, made_of={metric.name: Items(grid(a)).made_of(metric.name)})
    weights = pair_weights(A, B, np.asarray(measured))
    (inference,) = infer_all(items, metric.name, [weights])
    differences = by_seed(weights, items.values(metric.name))
    differences = differences[np.isfinite(differences)]
    made_of = items.made_of(metric.name)
    mean_a, mean_b = (float(values[row, paired].mean()) for row in (A, B))
    n_items = sum(len(pairs[0][0].ids) for name in made_of if (pairs := items.pairs(A, B, name)))
    several = len(differences) > 1
    # At least one seed is paired.
    assert inference.estimate is not None
    return StudyComparison(
        sides=Sides(metric.name, n_items, len(differences), None, mean_a, mean_b, inference.estimate),
        tested=tested(inference, metric.smallest_effect, metric.goal),
        sensitivity=(sign_flip(differences),) if several else tuple(of_one_seed(items, A, B, metric.name)),
        deltas=tuple(differences.tolist()),
        warnings=_warnings(both.seeds, measured, items, inference.p is None and several),
        seeds=tuple(seed for seed, has in zip(both.seeds, paired, strict=True) if has),
        estimate=inference.estimate,
        n=inference.seeds,
        v_seed=inference.v_seed,
        v_item=inference.v_item,
        cells={
            side: ComparedCell(results.spec.study, cell.hash, cell.levels)
            for side, results, cell in (("a", a, cell_a), ("b", b, cell_b))
        },
    )


def _cells(a: Results, b: Results, only_a: Sequence[str], only_b: Sequence[str]) -> tuple[Cell, Cell]:
    cells = [{cell.hash: cell for cell in results.cells} for results in (a, b)]
    if only_a or only_b:
        name_a = named_cell(a, only_a) if only_a else a.reference
        name_b = named_cell(b, only_b) if only_b else b.reference
    else:
        common = [name for name in cells[0] if name in cells[1]]
        chosen = a.reference if a.reference == b.reference and a.reference in common else None
        if chosen is None and len(common) != 1:
            names = listed(levels_text(cells[0][name].levels) for name in common)
            raise BadInput(
                f"{a.spec.study} and {b.spec.study} have {plural(len(common), 'cell')} in common"
                + (f": {names}" if common else "")
                + "; name one on each side with --only-a factor=level and --only-b factor=level"
            )
        name_a = name_b = chosen or common[0]
    return cells[0][name_a], cells[1][name_b]


def _side_by_side(a: Results, cell_a: Cell, b: Results, cell_b: Cell) -> Results:
    """Put both cells into one study of two cells. Parts are renamed, since both studies may have trained the same part."""
    cells, trials, parts = [], list[TrialResult](), dict[tuple[str, int], PartResult]()
    for side, results, cell in (("a", a, cell_a), ("b", b, cell_b)):
        cells.append(
            Cell(f"{side} {cell.hash}", cell.levels, cell.settings, {
                name: Part(f"{side} {part.hash}", part.settings) for name, part in cell.parts.items()
            })
        )  # fmt: skip
        trials += [
            replace(t, cell=cells[-1].hash, parts={name: f"{side} {part}" for name, part in t.parts.items()})
            for t in results.trials
            # The seed that chose a search's finalists favours them.
            if t.cell == cell.hash and t.seed in results.deciding_seeds
        ]
        parts |= {
            (f"{side} {part}", seed): replace(result, part=f"{side} {part}")
            for (part, seed), result in results.parts.items()
        }
    return replace(
        a,
        cells=tuple(cells),
        reference=cells[0].hash,
        trials=tuple(trials),
        parts=parts,
        # The effect is the difference of two cells, whatever the design that chose them.
        spec=a.spec.model_copy(update={"design": OneAtATime()}),
    )


def _warnings(seeds: Sequence[int], measured: np.ndarray, items: Items, no_noise: bool) -> tuple[str, ...]:
    warnings = [NO_NOISE] if no_noise else []
    for row, name in ((A, "A"), (B, "B")):
        alone = [
            seed
            for seed, has, other in zip(seeds, measured[row], measured[1 - row], strict=True)
            if has and not other
        ]
        if alone:
            warnings.append(f"{plural(len(alone), 'seed')} only in {name}, left out: {listed(alone)}")
    warnings += [
        f"{metric}: different {what} on the two sides, so items are not paired"
        for *_, metric, what in items.unaligned
    ]
    return tuple(warnings)
