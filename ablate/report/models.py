"""Least squares over the cells of a full, fractional or searched design: effects, interactions, analysis of variance.

Trained parts that several cells share are one observation, not several: where cells share parts, the residual of one
fit would count them again and again. The model is then fitted to each seed alone, and the seeds, which are independent,
give the error; the sums of squares stay as a description, without F."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.report.contrasts import low_level, same_level
from ablate.report.estimates import Estimate, over_seeds
from ablate.report.frames import Grid
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
    lenth: dict[str, Any] | None  # of an unreplicated two-level design, with its contrasts
    independent: bool  # no part is shared between cells
    warnings: tuple[str, ...]


def fit_model(grid: Grid, metric: str) -> Model | None:
    """Return the model of `metric` over all complete trials; None where fewer than two cells have a value."""
    values = grid.values[metric]
    with_value: NDArray[np.bool_] = np.any(np.isfinite(values), axis=1)
    if with_value.sum() < 2:
        return None
    coding = _coding(grid, with_value)
    if not coding.levels:
        return None
    pooled = _factorial(values, coding, slice(None))
    independent = not shares_parts(grid, metric)
    seeds = int(np.isfinite(values).any(axis=0).sum())
    if independent:
        estimates = {
            (e.factors, e.levels): _pooled(e, pooled, seeds) for e in (*pooled.effects, *pooled.interactions)
        }
    else:
        estimates = _by_seed(values, coding, pooled.order)
    return Model(
        coding,
        {key: estimate for key, estimate in estimates.items() if len(key[0]) == 1},
        _interaction_rows({k: e for k, e in estimates.items() if len(k[0]) == 2}, coding, metric),
        _anova_rows(pooled, metric, independent),
        _lenth_row(pooled, metric),
        independent,
        _warnings(pooled),
    )


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


def _factorial(
    values: NDArray[np.float64], coding: Coding, columns: slice, order: str = "auto"
) -> stats.Factorial:
    """Fit the rows × `columns` of values that are there, seeds as blocks where there are several."""
    part = values[:, columns]
    rows, seeds = np.nonzero(np.isfinite(part))
    factors = [Factor(name, coding.index[name][rows], len(levels)) for name, levels in coding.levels.items()]
    present, block = np.unique(seeds, return_inverse=True)
    blocks = Factor("seed", block.astype(np.intp), len(present)) if len(present) > 1 else None
    return stats.factorial(part[rows, seeds], factors, blocks, order)


def _pooled(found: stats.Estimate, model: stats.Factorial, seeds: int) -> Estimate:
    if found.se is None or found.df is None or model.degenerate:
        return Estimate(found.estimate, seeds, method="no estimate of noise")
    method = "Lenth" if model.lenth else "least squares, seeds as blocks" if seeds > 1 else "least squares"
    return Estimate(found.estimate, seeds, found.se, found.df, found.p, method)


def _by_seed(values: NDArray[np.float64], coding: Coding, order: str) -> dict[Key, Estimate]:
    """Fit each seed alone; a seed in which a term cannot be estimated does not count for it."""
    per_seed: dict[Key, list[float]] = {}
    for column in range(values.shape[1]):
        if np.isfinite(values[:, column]).sum() < 2:
            continue
        fitted = _factorial(values, coding, slice(column, column + 1), order)
        for estimate in (*fitted.effects, *fitted.interactions):
            per_seed.setdefault((estimate.factors, estimate.levels), []).append(estimate.estimate)
    found = {key: over_seeds(np.array(each)) for key, each in per_seed.items()}
    return {
        key: Estimate(
            e.value,
            e.n,
            e.se,
            e.df,
            e.p,
            e.method.replace("paired t over seeds", "t over seeds, each fitted alone"),
        )
        for key, e in found.items()
    }


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
    """Type II where the table is unbalanced; the share is of the sum of these sums of squares."""
    rows = model.anova["II"]
    total = math.fsum(row.ss for row in rows)
    return [
        {
            "metric": metric,
            "term": row.term,
            "df": row.df,
            "ss": row.ss,
            "ms": row.ms,
            "F": row.F if independent else None,
            "p": row.p if independent else None,
            "type": row.type,
            "share": row.ss / total if total > 0 else None,
        }
        for row in rows
    ]


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


def _warnings(model: stats.Factorial) -> tuple[str, ...]:
    """Say what the model could not tell apart."""
    if not model.left_out:
        return ()
    names = ", ".join(" × ".join(term) for term in model.left_out[:6])
    return (f"cannot be told from the terms before them, and left out: {names}",)
