"""A table of factors and one metric: effects, interactions and the analysis of variance.

The order of the model: 1 = main effects, 2 = and products of two factors, full = all products. `auto` takes
the highest that the degrees of freedom support: full when there are at most three factors, every product can
be estimated and some combination ran more than once; else 2 when every product of two can be estimated; each
only if it leaves at least 3 degrees of freedom for noise; else 1.

A factor that exists only under a condition is coded ±½ where it exists and 0 elsewhere: its effect is that
inside the condition, and its parent's effect is averaged over its levels. Products of such a factor with its
own parents are not part of the model.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np

from ablate.stats.distributions import f_p, interval, t_p
from ablate.stats.lenth import Lenth, lenth
from ablate.stats.linear import Array, Factor, Fit, Term, crossings, fit, type_i, type_ii, type_iii
from ablate.stats.power import mde

MOST_CONTRASTS = 256  # beyond, Lenth's median of mostly empty contrasts is not worth a model of that size
LEAST_DF = 3  # for noise, before `auto` spends more on products
Condition = dict[str, tuple[int, ...]]  # factor -> the levels under which another exists
OfOrder = Callable[[int], Fit]  # the model with products of up to so many factors


@dataclass(frozen=True)
class Estimate:
    """A difference with its noise; None where there is nothing to estimate noise from."""

    factors: tuple[str, ...]
    levels: tuple[int, ...]  # of each factor, against its level 0
    estimate: float  # two levels: the textbook effect; a product: half the difference of the simple effects
    se: float | None
    df: float | None
    ci95: tuple[float, float] | None
    p: float | None
    mde80: float | None  # true effect that would have been found in 80 % of such studies


@dataclass(frozen=True)
class AnovaRow:
    """One line of an analysis of variance."""

    term: str
    df: int
    ss: float
    ms: float | None
    F: float | None
    p: float | None
    type: str | None  # I, II, III; None for the residual


@dataclass(frozen=True)
class Factorial:
    """What a table says."""

    order: str  # 1, 2 or full
    effects: tuple[Estimate, ...]
    interactions: tuple[Estimate, ...]
    anova: dict[str, tuple[AnovaRow, ...]]  # type -> rows; all agree when balanced
    balanced: bool  # every term orthogonal to every other
    replicated: bool  # some combination ran more than once
    degenerate: bool  # the rows of a combination do not differ: no p, never p = 0
    lenth: Lenth | None  # unreplicated two-level tables
    contrasts: dict[str, float]  # behind `lenth`: term -> effect
    left_out: tuple[tuple[str, ...], ...]  # cannot be told from the terms before them
    unexplained: tuple[str, ...]  # factors missing in some rows, by no rule that the other factors show


def factorial(
    y: Array, factors: Sequence[Factor], block: Factor | None = None, order: str = "auto"
) -> Factorial:
    """Analyse `y` [n] by `factors`, with `block` (seeds) as fixed effects.

    Sources: Montgomery, Design and Analysis of Experiments, ch. 5-6 and 15; Box, Hunter & Hunter, Statistics
    for Experimenters, ch. 5. Standard errors come from the residual, or from Lenth's pseudo standard error
    when a two-level table leaves none.
    """
    where = conditions(factors)
    nuisances = [_existence(f) for f in factors if where.get(f.name, {}) is None]
    before = [*([block] if block else []), *nuisances]
    everything = [*before, *factors]
    first = [(f.name,) for f in before]

    def of_order(highest: int) -> Fit:
        return fit(y, everything, [*first, *_terms(factors, where, highest)])

    replicated = len(crossings(factors)) < len(y)
    chosen, model = _choose(of_order, len(factors), replicated, order)
    saturated = _saturated(of_order, factors, replicated or block is not None)
    pseudo = lenth(list(saturated.values())) if saturated else None
    noise = _noise(model, pseudo)
    estimates = [
        e for t in model.terms if t.name not in {b.name for b in before} for e in _estimates(model, t, noise)
    ]
    squares = {"I": type_i(model), "II": type_ii(model), "III": type_iii(model)}
    return Factorial(
        order=chosen,
        effects=tuple(e for e in estimates if len(e.factors) == 1),
        interactions=tuple(e for e in estimates if len(e.factors) > 1),
        anova={kind: _anova(model, kind, ss) for kind, ss in squares.items()},
        balanced=model.orthogonal,
        replicated=replicated,
        degenerate=model.degenerate and model.df_residual > 0,
        lenth=pseudo,
        contrasts=saturated if pseudo else {},
        left_out=model.left_out,
        unexplained=tuple(f.name for f in factors if where.get(f.name, {}) is None),
    )


def conditions(factors: Sequence[Factor]) -> dict[str, Condition | None]:
    """Return, for each factor that does not exist in every row, the levels of others under which it does.

    None where no combination of the others' levels explains it.
    """
    return {f.name: _condition(f, [g for g in factors if g is not f]) for f in factors if not f.exists.all()}


def _condition(child: Factor, others: Sequence[Factor]) -> Condition | None:
    seen = {g.name: set(g.index[child.exists].tolist()) for g in others}
    parents = [g for g in others if -1 not in seen[g.name] and seen[g.name] < set(g.index[g.exists].tolist())]

    def explained(by: Sequence[Factor]) -> bool:
        met = np.all([np.isin(g.index, list(seen[g.name])) for g in by], axis=0)
        return bool(np.array_equal(met, child.exists))

    if not parents or not explained(parents):
        return None
    for g in list(parents):
        fewer = [h for h in parents if h is not g]
        if fewer and explained(fewer):
            parents = fewer
    return {g.name: tuple(sorted(seen[g.name])) for g in parents}


def _existence(factor: Factor) -> Factor:
    return Factor(f"{factor.name} exists", factor.exists.astype(np.intp), 2)


def _terms(
    factors: Sequence[Factor], where: dict[str, Condition | None], highest: int
) -> Iterator[tuple[str, ...]]:
    ancestors = {f.name: _ancestors(f.name, where) for f in factors}
    for size in range(1, highest + 1):
        for names in combinations([f.name for f in factors], size):
            if not any(set(names) & ancestors[name] for name in names):
                yield names


def _ancestors(name: str, where: dict[str, Condition | None]) -> set[str]:
    own = set(where.get(name) or {})
    return own.union(*(_ancestors(parent, where) for parent in own))


def _choose(of_order: OfOrder, n_factors: int, replicated: bool, order: str) -> tuple[str, Fit]:
    """Return the model's order and its fit."""
    if order != "auto":
        highest = n_factors if order == "full" else min(int(order), n_factors)
        return order, of_order(highest)
    tries = ([n_factors] if replicated and n_factors == 3 else []) + ([2] if n_factors > 1 else [])
    for highest in tries:
        model = of_order(highest)
        if not model.left_out and model.df_residual >= LEAST_DF:
            return ("full" if highest == n_factors else str(highest)), model
    return "1", of_order(1)


def _saturated(of_order: OfOrder, factors: Sequence[Factor], noisy: bool) -> dict[str, float]:
    """Return every contrast of an unreplicated orthogonal two-level table; nothing for other tables."""
    if (
        noisy
        or len(factors[0].index) > MOST_CONTRASTS
        or any(f.levels != 2 or not f.exists.all() for f in factors)
    ):
        return {}
    for highest in range(1, len(factors) + 1):  # a small fraction is full long before all products are tried
        model = of_order(highest)
        if model.df_residual == 0 and model.orthogonal:
            return {t.name: float(model.beta[t.start]) * _share(t) for t in model.terms}
    return {}


def _share(term: Term) -> float:
    """Return what turns a difference of differences into half the difference of the simple effects."""
    return 0.5 ** (len(term.factors) - 1)


@dataclass(frozen=True)
class _Noise:
    variance: float | None  # of one run
    se: float | None  # of any effect: Lenth's
    df: float


def _noise(model: Fit, pseudo: Lenth | None) -> _Noise:
    if model.df_residual == 0 and pseudo:
        return _Noise(None, pseudo.pse, pseudo.df)
    return _Noise(model.variance, None, model.df_residual)


def _estimates(model: Fit, term: Term, noise: _Noise) -> list[Estimate]:
    widths = [t.df for name in term.factors for t in model.terms if t.factors == (name,)]
    levels = list(product(*(range(1, width + 1) for width in widths)))
    return [_estimate(model, term, i, level, noise) for i, level in enumerate(levels)]


def _estimate(model: Fit, term: Term, i: int, levels: tuple[int, ...], noise: _Noise) -> Estimate:
    at, share = term.start + i, _share(term)
    value = float(model.beta[at]) * share
    se = noise.se
    if noise.variance is not None:
        se = share * float(np.sqrt(noise.variance * model.covariance[at, at]))
    if se is None:
        return Estimate(term.factors, levels, value, None, noise.df or None, None, None, None)
    return Estimate(
        term.factors,
        levels,
        value,
        se,
        noise.df,
        interval(value, se, noise.df),
        t_p(value / se, noise.df),
        mde(se, noise.df),
    )


def _anova(model: Fit, kind: str, sums_of_squares: list[float]) -> tuple[AnovaRow, ...]:
    rows = [_anova_row(model, t, ss, kind) for t, ss in zip(model.terms, sums_of_squares, strict=True)]
    ms = model.ss_residual / model.df_residual if model.df_residual else None
    return (*rows, AnovaRow("residual", model.df_residual, model.ss_residual, ms, None, None, None))


def _anova_row(model: Fit, term: Term, ss: float, kind: str) -> AnovaRow:
    ms = ss / term.df
    if model.variance is None:
        return AnovaRow(term.name, term.df, ss, ms, None, None, kind)
    F = ms / model.variance
    return AnovaRow(term.name, term.df, ss, ms, F, f_p(F, term.df, model.df_residual), kind)
