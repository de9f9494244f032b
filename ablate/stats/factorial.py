"""A table of factors and one metric: effects, interactions and the analysis of variance.

The order of the model: 1 = main effects, 2 = and products of two factors, full = all products. `auto` takes
the highest that the degrees of freedom support: full when there are at most three factors, every product can
be estimated and some combination ran more than once; else 2 when some product of two can be separated from all
others; each only if it leaves at least 3 degrees of freedom for noise; else 1.

A main effect is given only where the rows separate it from all other main effects, whatever the products are. A
product is given only where they separate it from all other terms of the model, unless the caller names the order
and does not ask for that (`strict`).

A factor that exists only under a condition is coded ±½ where it exists and 0 elsewhere: its effect is that
inside the condition, and its parent's effect is averaged over its levels. Products of such a factor with its
own parents are not part of the model.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from math import prod

import numpy as np

from ablate.stats.distributions import f_p, interval, t_p
from ablate.stats.lenth import Lenth, lenth
from ablate.stats.linear import (
    Array,
    Factor,
    Fit,
    Names,
    Term,
    crossings,
    fit,
    same_in_all_repeats,
    tied,
    type_i,
    type_ii,
    type_iii,
)
from ablate.stats.power import mde

MOST_CONTRASTS = 256  # beyond, Lenth's median of mostly empty contrasts is not worth a model of that size
LEAST_DF = 3  # for noise, before `auto` spends more on products
Condition = dict[str, tuple[int, ...]]  # factor -> the levels under which another exists
Key = tuple[Names, tuple[int, ...]]  # the factors of an effect, and of each the index of its level
Ties = dict[tuple[Names, int], set[Names]]  # coefficient (term, place) -> what it cannot be separated from


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
    weights: dict[Key, Array]  # [n], what each row adds to that effect or interaction
    anova: dict[str, tuple[AnovaRow, ...]]  # type -> rows; all agree when balanced
    balanced: bool  # every term orthogonal to every other
    replicated: bool  # some combination ran more than once
    degenerate: bool  # repeated rows do not differ, or the model is exact: no p, never p = 0
    df_residual: int  # 0: standard errors are those of `lenth`
    lenth: Lenth | None  # unreplicated two-level tables
    contrasts: dict[str, float]  # behind `lenth`: term -> effect
    left_out: tuple[Names, ...]  # cannot be separated from other terms; of products no estimate is given
    confounded: dict[
        str, tuple[str, ...]
    ]  # factor -> what an effect of it, not given, cannot be separated from
    unexplained: tuple[str, ...]  # factors missing in some rows, by no rule that the other factors show


class _Table:
    """The data, and the models of them with products of up to so many factors. Keeps what it has computed."""

    def __init__(
        self,
        y: Array,
        factors: Sequence[Factor],
        before: Sequence[Factor],
        where: dict[str, Condition | None],
    ) -> None:
        self.y = y
        self.factors = factors
        self.before = before
        self._where = where
        self._fits: dict[int, Fit] = {}
        self._ties: dict[int, Ties] = {}

    def terms(self, highest: int) -> list[Names]:
        """What stands before the factors, then the factors, then their products."""
        return [*((f.name,) for f in self.before), *_terms(self.factors, self._where, highest)]

    def fit(self, highest: int) -> Fit:
        """Return the model."""
        if highest not in self._fits:
            self._fits[highest] = fit(self.y, [*self.before, *self.factors], self.terms(highest))
        return self._fits[highest]

    def ties(self, highest: int) -> Ties:
        """Return the coefficients that the rows do not determine."""
        if highest not in self._ties:
            everything = [*self.before, *self.factors]
            left_out = self.fit(highest).left_out
            self._ties[highest] = tied(everything, self.terms(highest)) if left_out else {}
        return self._ties[highest]


def factorial(
    y: Array,
    factors: Sequence[Factor],
    block: Factor | None = None,
    order: str = "auto",
    strict: bool = False,
) -> Factorial:
    """Analyse `y` [n] by `factors`, with `block` (seeds) as fixed effects.

    Sources: Montgomery, Design and Analysis of Experiments, ch. 5-6 and 15; Box, Hunter & Hunter, Statistics
    for Experimenters, ch. 5. Standard errors come from the residual, or from Lenth's pseudo standard error
    when a two-level table leaves none.
    """
    where = conditions(factors)
    nuisances = [_existence(f) for f in factors if where.get(f.name, {}) is None]
    before = [*([block] if block else []), *nuisances]
    table = _Table(y, factors, before, where)
    replicated = len(crossings(factors)) < len(y)
    chosen, highest = _choose(table, replicated, order)
    model = table.fit(highest)
    if same_in_all_repeats(y, factors, block):
        model = replace(model, degenerate=True)
    saturated = _saturated(table, replicated or block is not None)
    pseudo = lenth(list(saturated.values())) if saturated else None
    noise = _noise(model, pseudo)
    mains, products = table.ties(1), table.ties(highest) if strict or order == "auto" else {}
    estimates = [
        e
        for t in model.terms
        if t.name not in {b.name for b in before}
        for e in _estimates(model, t, factors, noise, mains if len(t.factors) == 1 else products)
    ]
    squares = {"I": type_i(model), "II": type_ii(model), "III": type_iii(model)}
    return Factorial(
        order=chosen,
        effects=tuple(e for e in estimates if len(e.factors) == 1),
        interactions=tuple(e for e in estimates if len(e.factors) > 1),
        weights=_weights(model, factors, estimates),
        anova={kind: _anova(model, kind, ss) for kind, ss in squares.items()},
        balanced=model.orthogonal,
        replicated=replicated,
        degenerate=model.degenerate and model.df_residual > 0,
        df_residual=model.df_residual,
        lenth=pseudo,
        contrasts=saturated if pseudo else {},
        left_out=tuple(dict.fromkeys([*model.left_out, *(names for names, _ in products if len(names) > 1)])),
        confounded=_confounded(factors, mains),
        unexplained=tuple(f.name for f in factors if where.get(f.name, {}) is None),
    )


def effect_weights(
    factors: Sequence[Factor], order: str
) -> tuple[dict[Key, Array], dict[str, tuple[str, ...]]]:
    """Return what each row adds to every effect and product that the rows can separate, each [n].

    And of each factor that they do not separate from others, these others. An estimate is the weighted sum of the metric.
    """
    where = conditions(factors)
    before = [_existence(f) for f in factors if where.get(f.name, {}) is None]
    rows = len(factors[0].index)
    table = _Table(np.zeros(rows), factors, before, where)
    highest = len(factors) if order == "full" else min(int(order), len(factors))
    model, mains, products = table.fit(highest), table.ties(1), table.ties(highest)
    nuisances = {b.name for b in before}
    estimates = [
        e
        for t in model.terms
        if t.name not in nuisances
        for e in _estimates(
            model, t, factors, _Noise(None, None, 0), mains if len(t.factors) == 1 else products
        )
    ]
    return _weights(model, factors, estimates), _confounded(factors, mains)


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


def _terms(factors: Sequence[Factor], where: dict[str, Condition | None], highest: int) -> Iterator[Names]:
    ancestors = {f.name: _ancestors(f.name, where) for f in factors}
    for size in range(1, highest + 1):
        for several in combinations(factors, size):
            names = tuple(f.name for f in several)
            together = np.all([f.exists for f in several], axis=0).any()
            if together and not any(set(names) & ancestors[name] for name in names):
                yield names


def _ancestors(name: str, where: dict[str, Condition | None]) -> set[str]:
    own = set(where.get(name) or {})
    return own.union(*(_ancestors(parent, where) for parent in own))


def _choose(table: _Table, replicated: bool, order: str) -> tuple[str, int]:
    """Return the model's order, by name and as the most factors of a product."""
    n_factors = len(table.factors)
    if order != "auto":
        return order, n_factors if order == "full" else min(int(order), n_factors)
    tries = ([n_factors] if replicated and n_factors == 3 else []) + ([2] if n_factors > 1 else [])
    for highest in tries:
        if _supported(table, highest):
            return ("full" if highest == n_factors else str(highest)), highest
    return "1", 1


def _supported(table: _Table, highest: int) -> bool:
    """Say whether the rows are enough for the products and separate them: all of them, or of those of two some."""
    levels = {f.name: f.levels for f in (*table.before, *table.factors)}
    width = sum(prod(levels[name] - 1 for name in names) for names in table.terms(highest))
    if width > len(table.y) - 1 - LEAST_DF:
        return False
    if highest > 2:
        return not table.fit(highest).left_out
    ties = table.ties(highest)
    products = [t for t in table.fit(highest).terms if len(t.factors) == 2]
    return any((t.factors, place) not in ties for t in products for place in t.places) or not ties


def _saturated(table: _Table, noisy: bool) -> dict[str, float]:
    """Return every contrast of an unreplicated orthogonal two-level table; nothing for other tables."""
    if (
        noisy
        or len(table.y) > MOST_CONTRASTS
        or any(f.levels != 2 or not f.exists.all() for f in table.factors)
    ):
        return {}
    for highest in range(1, len(table.factors) + 1):  # a small fraction is full before all products are tried
        model = table.fit(highest)
        if model.df_residual == 0 and model.orthogonal:
            return {t.name: float(model.beta[t.start]) * _share(t) for t in model.terms}
    return {}


def _confounded(factors: Sequence[Factor], ties: Ties) -> dict[str, tuple[str, ...]]:
    """Return what each main effect that is not determined goes together with."""
    found = {}
    for f in factors:
        others = set().union(*(met for (names, _), met in ties.items() if names == (f.name,)))
        if others := others - {(f.name,)}:
            found[f.name] = tuple(sorted(name for (name,) in others))
    return found


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


def _estimates(
    model: Fit, term: Term, factors: Sequence[Factor], noise: _Noise, ties: Ties
) -> list[Estimate]:
    """Return what is determined, in the order of the term's columns."""
    widths = {f.name: f.levels - 1 for f in factors}
    levels = list(product(*(range(1, widths[name] + 1) for name in term.factors)))
    return [
        _estimate(model, term, i, levels[place], noise)
        for i, place in enumerate(term.places)
        if (term.factors, place) not in ties
    ]


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


def _weights(model: Fit, factors: Sequence[Factor], estimates: Sequence[Estimate]) -> dict[Key, Array]:
    """Return [n] of each estimate: half the difference of the simple effects where it is an interaction."""
    terms = {t.factors: t for t in model.terms}
    widths = {f.name: f.levels - 1 for f in factors}
    found = {}
    for e in estimates:
        term = terms[e.factors]
        place = 0
        for name, level in zip(e.factors, e.levels, strict=True):
            place = place * widths[name] + level - 1
        found[e.factors, e.levels] = model.weights[term.start + term.places.index(place)] * _share(term)
    return found


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
