"""Least squares over the cells of a full, fractional or searched design: effects, interactions, analysis of variance.

Trained parts that several cells share are one observation, not several: where cells share parts, the residual of one
fit would count them again and again. The model is then fitted to each seed alone, and the seeds, which are independent,
give the error; the sums of squares stay as a description, without F.

An effect that what has run cannot tell from another is not estimated, and a seed that cannot tell it does not count."""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.evidence.contrasts import lost_trials, low_level, same_level
from ablate.evidence.estimates import Estimate, over_seeds
from ablate.evidence.frames import Grid
from ablate.spec.model import Scalar
from ablate.stats import factorial as stats
from ablate.stats.linear import Factor
from ablate.stats.multiple import benjamini_hochberg
from ablate.store.results import deciding_parts

Key = tuple[tuple[str, ...], tuple[int, ...]]  # factors, and of each the index of its level


@dataclass(frozen=True)
class Coding:
    """The factors that vary among the rows that have a value, as `stats` wants them."""

    levels: dict[str, tuple[Scalar, ...]]  # the low level first
    index: dict[str, NDArray[np.intp]]  # [cells], −1 where the factor does not exist


@dataclass(frozen=True)
class Model:
    """What the design says about one metric."""

    coding: Coding
    effects: dict[Key, Estimate]  # one factor in the key
    interactions: list[dict[str, Any]]  # rows of the report
    anova: list[dict[str, Any]]  # rows of the report
    weights: dict[tuple[str, int], NDArray[np.float64]]  # factor, level -> [cells], what each adds
    lenth: dict[str, Any] | None  # of an unreplicated two-level design, with its contrasts
    independent: bool  # no part is shared between cells
    confounded: dict[str, tuple[str, ...]]  # factor without some estimate -> what it cannot be told from
    left_out: tuple[tuple[str, ...], ...]  # products that cannot be told from other terms


def fit_model(grid: Grid, metric: str) -> Model | None:
    """Return the model of `metric` over all complete trials; None where fewer than two cells have a value."""
    values = grid.values[metric]
    with_value: NDArray[np.bool_] = np.any(np.isfinite(values), axis=1)
    if with_value.sum() < 2:
        return None
    coding = _coding(grid, with_value)
    if not coding.levels:
        return None
    pooled = _pooled(grid, values, coding)
    independent = not shares_parts(grid, metric)
    seeds = int(np.isfinite(values).any(axis=0).sum())
    if independent:
        estimates, confounded = _together(pooled, seeds), pooled.confounded
    else:
        estimates, confounded = _by_seed(values, coding, pooled.order)
    return Model(
        coding,
        {key: estimate for key, estimate in estimates.items() if len(key[0]) == 1},
        _interaction_rows({k: e for k, e in estimates.items() if len(k[0]) == 2}, coding, metric),
        _anova_rows(pooled, metric, independent),
        _by_cell(pooled.weights, values),
        _lenth_row(pooled, metric),
        independent,
        {name: others for name, others in confounded.items() if _lacks_an_effect(name, coding, estimates)},
        tuple(term for term in pooled.left_out if len(term) > 1),
    )


def worst_cases(grid: Grid, metric: str) -> dict[tuple[str, str, str], list[float]]:
    """Return factor, from, to (their repr) -> [least, greatest] effect, with the worst or best value seen for lost trials.

    An effect is a weighted sum of the trials: with the middle of both values in every lost one's place, each end is as far
    away as the weights of these say. An effect in which none is lost is left out, and so are trials that are still to run.
    Source: Horowitz & Manski 2000, J. Am. Stat. Assoc. 95, 77-84.
    """
    values, lost = grid.values[metric], lost_trials(grid, metric)
    if not lost.any() or not np.isfinite(values).any():
        return {}
    least, most = float(np.nanmin(values)), float(np.nanmax(values))
    planned = np.where(lost, (least + most) / 2, values)
    there: NDArray[np.bool_] = np.any(np.isfinite(planned), axis=1)
    coding = _coding(grid, there)
    if not coding.levels:
        return {}
    found = {}
    model = _pooled(grid, planned, coding)
    for effect in model.effects:
        (name,), (level,) = effect.factors, effect.levels
        low, high = (repr(coding.levels[name][i]) for i in (0, level))  # 0 is not false
        weights = model.weights[name, level][lost[np.isfinite(planned)]]
        reach = float(np.abs(weights).sum()) * (most - least) / 2
        if reach > 1e-9 * (most - least):
            found[name, low, high] = [effect.estimate - reach, effect.estimate + reach]
    return found


def shares_parts(grid: Grid, metric: str) -> bool:
    """Say whether a part that decides `metric` serves two cells."""
    seen: dict[tuple[str, int], int] = {}
    for (row, column), trial in grid.trials.items():
        if math.isfinite(grid.values[metric][row, column]):
            for part in deciding_parts(grid.results, trial, metric):
                if seen.setdefault((part, column), row) != row:
                    return True
    return False


def _coding(grid: Grid, with_value: NDArray[np.bool_]) -> Coding:
    """Code the factors with at least two levels among the cells that have a value."""
    levels: dict[str, tuple[Scalar, ...]] = {}
    index: dict[str, NDArray[np.intp]] = {}
    spec = grid.results.spec
    for factor in spec.factors:
        low = low_level(spec, factor)
        names = [low, *(level.name for level in factor.levels if not same_level(level.name, low))]
        codes = np.full(len(grid.cells), -1, dtype=np.intp)
        for row, cell in enumerate(grid.cells):
            if factor.name in cell.levels:
                own = cell.levels[factor.name]
                codes[row] = next((i for i, name in enumerate(names) if same_level(name, own)), -1)
        used = sorted(set(codes[with_value & (codes >= 0)].tolist()))
        if len(used) >= 2:
            renumbered = np.full(len(names) + 1, -1, dtype=np.intp)  # the last entry serves −1
            renumbered[used] = np.arange(len(used))
            levels[factor.name] = tuple(names[i] for i in used)
            index[factor.name] = renumbered[codes]
    return Coding(levels, index)


def _pooled(grid: Grid, values: NDArray[np.float64], coding: Coding) -> stats.Factorial:
    """Fit all seeds together. A fraction in which not every product can be told has main effects only: which products
    were kept would decide what is mixed into the effects."""
    found = _factorial(values, coding, slice(None))
    if found.left_out and grid.results.spec.design == "fractional":
        return _factorial(values, coding, slice(None), "1")
    return found


def _factorial(
    values: NDArray[np.float64], coding: Coding, columns: slice, order: str = "auto"
) -> stats.Factorial:
    """Fit the rows × `columns` of values that are there, seeds as blocks where there are several."""
    part = values[:, columns]
    rows, seeds = np.nonzero(np.isfinite(part))
    factors = [Factor(name, coding.index[name][rows], len(levels)) for name, levels in coding.levels.items()]
    present, block = np.unique(seeds, return_inverse=True)
    blocks = Factor("seed", block.astype(np.intp), len(present)) if len(present) > 1 else None
    return stats.factorial(part[rows, seeds], factors, blocks, order, strict=True)


def _lacks_an_effect(name: str, coding: Coding, estimates: Collection[Key]) -> bool:
    return any(((name,), (level,)) not in estimates for level in range(1, len(coding.levels[name])))


def _together(model: stats.Factorial, seeds: int) -> dict[Key, Estimate]:
    with_blocks = "least squares, seeds as blocks" if seeds > 1 else "least squares"
    method = with_blocks if model.df_residual else "Lenth"
    return {
        (e.factors, e.levels): Estimate(e.estimate, seeds, method="no estimate of noise")
        if e.se is None or model.degenerate
        else Estimate(e.estimate, seeds, e.se, e.df, e.p, method)
        for e in (*model.effects, *model.interactions)
    }


def _by_seed(
    values: NDArray[np.float64], coding: Coding, order: str
) -> tuple[dict[Key, Estimate], dict[str, tuple[str, ...]]]:
    """Fit each seed alone; a seed in which a term cannot be told from others does not count for it.

    Return the estimates, and of the factors that some seed could not tell from others these others.
    """
    per_seed: dict[Key, list[float]] = {}
    confounded: dict[str, tuple[str, ...]] = {}
    for column in range(values.shape[1]):
        if np.isfinite(values[:, column]).sum() < 2:
            continue
        fitted = _factorial(values, coding, slice(column, column + 1), order)
        for estimate in (*fitted.effects, *fitted.interactions):
            per_seed.setdefault((estimate.factors, estimate.levels), []).append(estimate.estimate)
        for name, others in fitted.confounded.items():
            confounded[name] = tuple(sorted({*confounded.get(name, ()), *others}))
    found = {key: over_seeds(np.array(each)) for key, each in per_seed.items()}
    estimates = {
        key: replace(e, method=e.method.replace("paired t over seeds", "t over seeds, each fitted alone"))
        for key, e in found.items()
    }
    return estimates, confounded


def _interaction_rows(estimates: dict[Key, Estimate], coding: Coding, metric: str) -> list[dict[str, Any]]:
    adjusted = benjamini_hochberg([estimate.p for estimate in estimates.values()])
    return [
        {
            "factors": list(factors),
            "from": [coding.levels[name][0] for name in factors],
            "to": [coding.levels[name][level] for name, level in zip(factors, levels, strict=True)],
            "metric": metric,
            **estimate.row(),
            "mde80": estimate.mde80(),
            "p_bh": p,
        }
        for ((factors, levels), estimate), p in zip(estimates.items(), adjusted, strict=True)
    ]


def _anova_rows(model: stats.Factorial, metric: str, independent: bool) -> list[dict[str, Any]]:
    """Type II where the table is unbalanced; the share is of the sum of these sums of squares.

    A term that cannot be told from others is named with them, and has no F.
    """
    rows = model.anova["II"]
    total = math.fsum(row.ss for row in rows)
    untold = set(model.confounded).union(":".join(names) for names in model.left_out)
    return [
        {
            "metric": metric,
            "term": " or ".join([row.term, *model.confounded.get(row.term, ())]),
            "df": row.df,
            "ss": row.ss,
            "ms": row.ms,
            "F": row.F if tested else None,
            "p": row.p if tested else None,
            "type": row.type,
            "share": row.ss / total if total > 0 else None,
        }
        for row in rows
        for tested in [independent and row.term not in untold]
    ]


def _by_cell(
    weights: dict[tuple[str, int], NDArray[np.float64]], values: NDArray[np.float64]
) -> dict[tuple[str, int], NDArray[np.float64]]:
    found = {}
    for effect, of_trials in weights.items():
        placed = np.zeros(values.shape)
        placed[np.isfinite(values)] = of_trials
        found[effect] = placed.sum(axis=1)
    return found


def _lenth_row(model: stats.Factorial, metric: str) -> dict[str, Any] | None:
    if model.lenth is None:
        return None
    found = model.lenth
    return {
        "metric": metric,
        "s0": found.s0,
        "pse": found.pse,
        "me": found.me,
        "sme": found.sme,
        "contrasts": model.contrasts,
    }
