"""The weight of each trial in the effects of a full or fractional design, and least squares over all trials.

An effect is a weighted sum over the cells of one seed, by least squares within that seed. Least squares is over combinations of
levels: a cell that stands for several (their settings are equal) is there once for each, and has the sum of their weights. A seed
in which an effect cannot be separated from another does not contribute to it. Fitted over all seeds at once, with the seeds as
blocks, the same model gives the analysis of variance and, if there is only one seed, the errors (from its residual, or Lenth's).
The residual over all seeds ignores that an effect differs from seed to seed and from item to item, so no verdict of a replicated
study uses it."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ablate.evidence.contrasts import low_level, same_level
from ablate.evidence.frames import Grid
from ablate.spec.model import Scalar
from ablate.stats import factorial as stats
from ablate.stats.factorial import Key
from ablate.stats.inference import Inference, Method
from ablate.stats.linear import Factor
from ablate.store.results import deciding_models

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Coding:
    """The factors that vary among the rows with a value, coded for `stats`."""

    levels: dict[str, tuple[Scalar, ...]]  # the low level first
    index: dict[str, NDArray[np.intp]]  # [combinations], −1 where the factor does not exist

    def level_index(self, factor: str, level: Scalar) -> int | None:
        """Return the index of a level of `factor`; None if no row with that level has a value."""
        levels = self.levels.get(factor, ())
        return next((i for i, known in enumerate(levels) if same_level(known, level)), None)


@dataclass(frozen=True)
class Term:
    """One line of the analysis of variance of a metric."""

    metric: str
    term: str
    df: int
    ss: float
    ms: float | None
    F: float | None  # None where nothing can be tested
    p: float | None
    type: str | None
    share: float | None  # of the sum of all sums of squares


@dataclass(frozen=True)
class Margins:
    """Lenth's margins for the contrasts of an unreplicated two-level design."""

    metric: str
    s0: float
    pse: float
    me: float
    sme: float
    contrasts: dict[str, float]


@dataclass(frozen=True)
class Model:
    """What the design says about one metric."""

    coding: Coding
    order: str  # of the model: 1, 2 or full
    # Effect or interaction -> the weight of each trial [cells, seeds]; NaN for a seed that cannot estimate it.
    weights: dict[Key, Array]
    present: NDArray[np.bool_]  # [cells, seeds], the trials with a value
    row_of: NDArray[np.int64]  # [combinations], the row of their cell
    # The estimates of a single seed, with errors from the model or from Lenth; empty with several seeds.
    unreplicated: dict[Key, Inference]
    anova: tuple[Term, ...]
    mean_weights: dict[tuple[str, int], Array]  # factor, level -> [combinations], for all seeds together
    lenth: Margins | None  # of an unreplicated two-level design
    confounded: dict[str, tuple[str, ...]]  # factor with an effect that has no estimate -> its aliases
    left_out: tuple[tuple[str, ...], ...]  # products that cannot be separated from other terms

    def weights_of(self, present: NDArray[np.bool_]) -> dict[Key, Array]:
        """Return the weights that result if these are the trials [cells, seeds] with a value."""
        if np.array_equal(present, self.present):
            return self.weights
        return _onto_cells(weights_by_seed(present[self.row_of], self.coding, self.order)[0], self.row_of)


def fit_model(grid: Grid, metric: str) -> Model | None:
    """Return the model of `metric` over all complete trials; None if fewer than two cells have a value."""
    present: NDArray[np.bool_] = np.isfinite(grid.values[metric])
    if present.any(axis=1).sum() < 2:
        return None
    values = grid.values[metric][grid.row_of]  # [combinations, seeds]
    coding = _coding(grid, np.asarray(np.isfinite(values).any(axis=1)))
    if not coding.levels:
        return None
    pooled = _pooled(grid, values, coding)
    weights, confounded = weights_by_seed(np.isfinite(values), coding, pooled.order)
    independent = not shares_parts(grid, metric)
    if (seeds := int(present.any(axis=0).sum())) == 1:
        confounded = pooled.confounded
    return Model(
        coding,
        pooled.order,
        _onto_cells(weights, grid.row_of),
        present,
        grid.row_of,
        _unreplicated(pooled, independent) if seeds == 1 else {},
        _terms(pooled, metric, independent),
        _by_combination(pooled.weights, values),
        _margins(pooled, metric) if independent else None,
        {name: others for name, others in confounded.items() if _lacks_an_effect(name, coding, weights)},
        tuple(term for term in pooled.left_out if len(term) > 1),
    )


def weights_by_seed(
    present: NDArray[np.bool_], coding: Coding, order: str
) -> tuple[dict[Key, Array], dict[str, tuple[str, ...]]]:
    """Return the weight of each `present` value [combinations, seeds] in every effect of its seed, and the confounded factors.

    A confounded factor is one that some seed cannot separate from others; these others are its value.
    """
    weights: dict[Key, Array] = {}
    confounded: dict[str, set[str]] = {}
    fitted: dict[bytes, tuple[dict[Key, Array], dict[str, tuple[str, ...]]]] = {}
    for column in range(present.shape[1]):
        rows = np.flatnonzero(present[:, column])
        if len(rows) < 2:
            continue
        # Seeds that ran the same cells have the same weights.
        same = present[:, column].tobytes()
        if same not in fitted:
            factors = [
                Factor(name, coding.index[name][rows], len(levels)) for name, levels in coding.levels.items()
            ]
            fitted[same] = stats.effect_weights(factors, order)
        estimated, mixed = fitted[same]
        for key, of_rows in estimated.items():
            if key not in weights:
                weights[key] = np.full(present.shape, math.nan)
            weights[key][:, column] = 0.0
            weights[key][rows, column] = of_rows
        for name, others in mixed.items():
            confounded.setdefault(name, set()).update(others)
    return weights, {name: tuple(sorted(others)) for name, others in confounded.items()}


def shares_parts(grid: Grid, metric: str) -> bool:
    """Return whether two combinations of levels share a trained part that `metric` comes from."""
    if any(cell.also and np.isfinite(grid.values[metric][row]).any() for row, cell in enumerate(grid.cells)):
        return True
    seen: dict[tuple[tuple[str, int], int], int] = {}
    for (row, column), trial in grid.trials.items():
        if math.isfinite(grid.values[metric][row, column]):
            for model in deciding_models(grid.results, trial, metric):
                if seen.setdefault((model, column), row) != row:
                    return True
    return False


def _coding(grid: Grid, with_value: NDArray[np.bool_]) -> Coding:
    """Code the factors with at least two levels among the combinations that have a value."""
    levels: dict[str, tuple[Scalar, ...]] = {}
    index: dict[str, NDArray[np.intp]] = {}
    spec = grid.results.spec
    for factor in spec.factors:
        low = low_level(spec, factor)
        names = [low, *(level.name for level in factor.levels if not same_level(level.name, low))]
        codes = np.full(len(grid.combinations), -1, dtype=np.intp)
        for place, levels_there in enumerate(grid.combinations):
            if factor.name in levels_there:
                level = levels_there[factor.name]
                codes[place] = next((i for i, name in enumerate(names) if same_level(name, level)), -1)
        used = sorted(set(codes[with_value & (codes >= 0)].tolist()))
        if len(used) >= 2:
            # The last entry is what index −1 (the factor does not exist) selects.
            renumbered = np.full(len(names) + 1, -1, dtype=np.intp)
            renumbered[used] = np.arange(len(used))
            levels[factor.name] = tuple(names[i] for i in used)
            index[factor.name] = renumbered[codes]
    return Coding(levels, index)


def _pooled(grid: Grid, values: Array, coding: Coding) -> stats.Factorial:
    """Fit all seeds together.

    A fraction in which some products are aliased gets main effects only: otherwise the choice of the products to keep would
    decide which interactions bias the effects."""
    model = _factorial(values, coding)
    if model.left_out and grid.results.spec.design.is_fraction:
        return _factorial(values, coding, "1")
    return model


def _factorial(values: Array, coding: Coding, order: str = "auto") -> stats.Factorial:
    """Fit the finite values; several seeds are blocks."""
    rows, seeds = np.nonzero(np.isfinite(values))
    factors = [Factor(name, coding.index[name][rows], len(levels)) for name, levels in coding.levels.items()]
    present, block = np.unique(seeds, return_inverse=True)
    blocks = Factor("seed", block.astype(np.intp), len(present)) if len(present) > 1 else None
    return stats.factorial(values[rows, seeds], factors, blocks, order, strict=True)


def _lacks_an_effect(name: str, coding: Coding, estimates: Collection[Key]) -> bool:
    return any(((name,), (level,)) not in estimates for level in range(1, len(coding.levels[name])))


def _unreplicated(model: stats.Factorial, independent: bool) -> dict[Key, Inference]:
    """Return the estimates of a single seed; without errors if cells share trained parts, and so share their noise."""
    method = Method.LEAST_SQUARES if model.df_residual else Method.LENTH
    return {
        (e.factors, e.levels): Inference(e.estimate, 1, Method.ONE_SEED)
        if e.se is None or model.degenerate or not independent
        else Inference(e.estimate, 1, method, e.se, e.df, e.p)
        for e in (*model.effects, *model.interactions)
    }


def _terms(model: stats.Factorial, metric: str, independent: bool) -> tuple[Term, ...]:
    """Return the analysis of variance, of type II; shares are of the sum of these sums of squares.

    An aliased term is named together with its aliases and has no F. No term has an F if cells share trained parts, since that
    would count one run several times.
    """
    rows = model.anova["II"]
    total = math.fsum(row.ss for row in rows)
    mixed = set(model.confounded).union(":".join(names) for names in model.left_out)
    return tuple(
        Term(
            metric,
            " or ".join([row.term, *model.confounded.get(row.term, ())]),
            row.df,
            row.ss,
            row.ms,
            row.F if tested else None,
            row.p if tested else None,
            row.type,
            row.ss / total if total > 0 else None,
        )
        for row in rows
        for tested in [independent and row.term not in mixed]
    )


def _onto_cells(weights: Mapping[Key, Array], row_of: NDArray[np.int64]) -> dict[Key, Array]:
    """Return the weights [cells, seeds] of trials: of each, the sum over the combinations that it stands for."""
    onto = {}
    for key, of_combinations in weights.items():
        onto[key] = np.zeros((int(row_of.max()) + 1, of_combinations.shape[1]))
        np.add.at(onto[key], row_of, of_combinations)
    return onto


def _by_combination(weights: dict[Key, Array], values: Array) -> dict[tuple[str, int], Array]:
    by_combination = {}
    for (names, levels), of_trials in weights.items():
        if len(names) == 1:
            placed = np.zeros(values.shape)
            placed[np.isfinite(values)] = of_trials
            by_combination[names[0], levels[0]] = placed.sum(axis=1)
    return by_combination


def _margins(model: stats.Factorial, metric: str) -> Margins | None:
    if (lenth := model.lenth) is None:
        return None
    return Margins(metric, lenth.s0, lenth.pse, lenth.me, lenth.sme, model.contrasts)
