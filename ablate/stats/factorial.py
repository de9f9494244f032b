"""Factorial analysis of a table with one metric: effects, interactions and the analysis of variance.

Order of the model: 1 has main effects, 2 adds products of two factors, full adds all products. `auto` takes
the highest order that leaves at least 3 residual degrees of freedom: full for three factors, if some
combination is replicated and every product is estimable; else 2, if at least one product of two factors is
estimable; else 1. With two factors, order 2 is full.

A main effect is reported only if it is not aliased with another main effect, whatever the products are. A
product is reported only if it is not aliased with any other term of the model, unless the caller names the
order and does not ask for this check (`strict`).

A factor that exists only under a condition is coded ±½ where it exists and 0 elsewhere: its effect is the
effect within the condition, and its parent's effect is averaged over its levels. The model has no products of
such a factor with its own parents.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
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
    aliased_coefficients,
    crossings,
    fit,
    same_in_all_repeats,
    type_i,
    type_ii,
    type_iii,
)
from ablate.stats.power import mde

# Above this, Lenth's median of mostly inert contrasts does not justify a model of that size.
MOST_CONTRASTS = 256
# Residual degrees of freedom that `auto` keeps before it adds products.
LEAST_DF = 3
# Factor -> the levels under which another factor exists.
Condition = dict[str, tuple[int, ...]]
# The factors of an effect, and the index of each one's level.
Key = tuple[Names, tuple[int, ...]]
# Aliased coefficient (term, index) -> the terms it is aliased with.
Aliases = dict[tuple[Names, int], set[Names]]


@dataclass(frozen=True)
class Estimate:
    """An effect or interaction; its error is None where there is no estimate of the noise."""

    factors: tuple[str, ...]
    levels: tuple[int, ...]  # of each factor, compared with its level 0
    # With two levels the textbook effect; of a product, half the difference of the simple effects.
    estimate: float
    se: float | None
    df: float | None
    ci95: tuple[float, float] | None
    p: float | None
    mde80: float | None  # minimum detectable effect at 80 % power


@dataclass(frozen=True)
class AnovaRow:
    """One row of an analysis of variance."""

    term: str
    df: int
    ss: float
    ms: float | None
    F: float | None
    p: float | None
    type: str | None  # I, II, III; None for the residual


@dataclass(frozen=True)
class Factorial:
    """The analysis of one table."""

    order: str  # 1, 2 or full
    effects: tuple[Estimate, ...]
    interactions: tuple[Estimate, ...]
    # Each effect or interaction is its weights [n] times the metric.
    weights: dict[Key, Array]
    anova: dict[str, tuple[AnovaRow, ...]]  # by type; all types agree when balanced
    balanced: bool  # every term is orthogonal to every other
    replicated: bool  # some combination ran more than once
    # Replicates do not differ, or the fit is exact: p is then None, never 0.
    degenerate: bool
    df_residual: int  # if 0, standard errors come from `lenth`
    lenth: Lenth | None  # for unreplicated two-level tables
    contrasts: dict[str, float]  # the effects that `lenth` is computed from, by term
    left_out: tuple[Names, ...]  # terms aliased with others; aliased products have no estimate
    confounded: dict[str, tuple[str, ...]]  # factor with an aliased effect, not reported -> its aliases
    # Factors missing in some rows without a condition on other factors that explains it.
    unexplained: tuple[str, ...]


class _Table:
    """The data and its models by highest order of products. Caches what it computes."""

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
        self._aliases: dict[int, Aliases] = {}

    def terms(self, highest: int) -> list[Names]:
        """Return the terms of the model: block and existence columns, factors, then products."""
        return [*((f.name,) for f in self.before), *_terms(self.factors, self._where, highest)]

    def fit(self, highest: int) -> Fit:
        """Return the fitted model."""
        if highest not in self._fits:
            self._fits[highest] = fit(self.y, [*self.before, *self.factors], self.terms(highest))
        return self._fits[highest]

    def aliases(self, highest: int) -> Aliases:
        """Return the aliased coefficients of the model."""
        if highest not in self._aliases:
            everything = [*self.before, *self.factors]
            left_out = self.fit(highest).left_out
            self._aliases[highest] = aliased_coefficients(everything, self.terms(highest)) if left_out else {}
        return self._aliases[highest]


def factorial(
    y: Array,
    factors: Sequence[Factor],
    block: Factor | None = None,
    order: str = "auto",
    strict: bool = False,
) -> Factorial:
    """Analyse `y` [n] by `factors`, with `block` (seeds) as a fixed effect.

    Standard errors come from the residual, or from Lenth's pseudo standard error if a two-level table leaves
    no residual degrees of freedom. Sources: Montgomery, Design and Analysis of Experiments, ch. 5-6 and 15;
    Box, Hunter & Hunter, Statistics for Experimenters, ch. 5.
    """
    where = conditions(factors)
    names = {f.name for f in factors}
    blocks = [replace(block, name=_unlike(block.name, names, " (block)"))] if block else []
    before = [*blocks, *_existences(factors, where)]
    table = _Table(y, factors, before, where)
    replicated = len(crossings(factors)) < len(y)
    chosen, highest = _choose(table, replicated, order)
    model = table.fit(highest)
    if same_in_all_repeats(y, factors, block):
        model = replace(model, degenerate=True)
    saturated = _saturated(table, replicated or block is not None)
    pseudo = lenth(list(saturated.values())) if saturated else None
    noise = _noise(model, pseudo)
    mains, products = table.aliases(1), table.aliases(highest) if strict or order == "auto" else {}
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
    """Return the weights [n] of every estimable effect and product, and the aliases of each aliased factor.

    An estimate is the weighted sum of the metric over the rows.
    """
    where = conditions(factors)
    before = _existences(factors, where)
    rows = len(factors[0].index)
    table = _Table(np.zeros(rows), factors, before, where)
    highest = len(factors) if order == "full" else min(int(order), len(factors))
    model, mains, products = table.fit(highest), table.aliases(1), table.aliases(highest)
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
    """Return, for each factor missing in some rows, the levels of others under which it exists.

    None if no combination of the others' levels explains where the factor exists.
    """
    return {f.name: _condition(f, [g for g in factors if g is not f]) for f in factors if not f.exists.all()}


def _condition(child: Factor, others: Sequence[Factor]) -> Condition | None:
    seen = {g.name: set(g.index[child.exists].tolist()) for g in others}
    parents = [g for g in others if -1 not in seen[g.name] and seen[g.name] < set(g.index[g.exists].tolist())]

    def explained(by: Sequence[Factor]) -> bool:
        fits = np.all([np.isin(g.index, list(seen[g.name])) for g in by], axis=0)
        return bool(np.array_equal(fits, child.exists))

    if not parents or not explained(parents):
        return None
    for g in list(parents):
        fewer = [h for h in parents if h is not g]
        if fewer and explained(fewer):
            parents = fewer
    return {g.name: tuple(sorted(seen[g.name])) for g in parents}


def _existences(factors: Sequence[Factor], where: Mapping[str, Condition | None]) -> list[Factor]:
    """Return a column for each factor whose existence no condition explains."""
    names = {f.name for f in factors}
    return [
        Factor(_unlike(f"{f.name} exists", names, " exists"), f.exists.astype(np.intp), 2)
        for f in factors
        if where.get(f.name, {}) is None
    ]


def _unlike(name: str, names: Collection[str], suffix: str) -> str:
    """Return a name that no factor has: terms are looked up by their names."""
    while name in names:
        name += suffix
    return name


def _terms(factors: Sequence[Factor], where: dict[str, Condition | None], highest: int) -> Iterator[Names]:
    ancestors = {f.name: _ancestors(f.name, where) for f in factors}
    for size in range(1, highest + 1):
        for several in combinations(factors, size):
            names = tuple(f.name for f in several)
            together = np.all([f.exists for f in several], axis=0).any()
            if together and not any(set(names) & ancestors[name] for name in names):
                yield names


def _ancestors(name: str, where: dict[str, Condition | None]) -> set[str]:
    parents = set(where.get(name) or {})
    return parents.union(*(_ancestors(parent, where) for parent in parents))


def _choose(table: _Table, replicated: bool, order: str) -> tuple[str, int]:
    """Return the order of the model, as its name and as the most factors in a product."""
    n_factors = len(table.factors)
    if order != "auto":
        return order, n_factors if order == "full" else min(int(order), n_factors)
    tries = ([n_factors] if replicated and n_factors == 3 else []) + ([2] if n_factors > 1 else [])
    for highest in tries:
        if _supported(table, highest):
            return ("full" if highest == n_factors else str(highest)), highest
    return "1", 1


def _supported(table: _Table, highest: int) -> bool:
    """Return whether the rows leave residual degrees of freedom and the products are estimable.

    All products must be estimable; in a model of order 2, at least one.
    """
    levels = {f.name: f.levels for f in (*table.before, *table.factors)}
    width = sum(prod(levels[name] - 1 for name in names) for names in table.terms(highest))
    if width > len(table.y) - 1 - LEAST_DF:
        return False
    if highest > 2:
        return not table.fit(highest).left_out
    aliases = table.aliases(highest)
    products = [t for t in table.fit(highest).terms if len(t.factors) == 2]
    return any((t.factors, index) not in aliases for t in products for index in t.kept) or not aliases


def _saturated(table: _Table, noisy: bool) -> dict[str, float]:
    """Return every contrast of an unreplicated orthogonal two-level table; empty for other tables."""
    if (
        noisy
        or len(table.y) > MOST_CONTRASTS
        or any(f.levels != 2 or not f.exists.all() for f in table.factors)
    ):
        return {}
    # A small fraction is saturated before all products have been tried.
    for highest in range(1, len(table.factors) + 1):
        model = table.fit(highest)
        if model.df_residual == 0 and model.orthogonal:
            return {t.name: float(model.beta[t.start]) * _share(t) for t in model.terms}
    return {}


def _confounded(factors: Sequence[Factor], aliases: Aliases) -> dict[str, tuple[str, ...]]:
    """Return the aliases of each main effect that is not estimable."""
    confounded = {}
    for f in factors:
        others = set().union(*(terms for (names, _), terms in aliases.items() if names == (f.name,)))
        if others := others - {(f.name,)}:
            confounded[f.name] = tuple(sorted(name for (name,) in others))
    return confounded


def _share(term: Term) -> float:
    """Return the factor that turns a difference of differences into half the difference of simple effects."""
    return 0.5 ** (len(term.factors) - 1)


@dataclass(frozen=True)
class _Noise:
    variance: float | None  # of one run
    se: float | None  # of every effect, by Lenth's method
    df: float


def _noise(model: Fit, pseudo: Lenth | None) -> _Noise:
    if model.df_residual == 0 and pseudo:
        return _Noise(None, pseudo.pse, pseudo.df)
    return _Noise(model.variance, None, model.df_residual)


def _estimates(
    model: Fit, term: Term, factors: Sequence[Factor], noise: _Noise, aliases: Aliases
) -> list[Estimate]:
    """Return the estimates of the term's estimable coefficients, in the order of its columns."""
    widths = {f.name: f.levels - 1 for f in factors}
    levels = list(product(*(range(1, widths[name] + 1) for name in term.factors)))
    return [
        _estimate(model, term, i, levels[place], noise)
        for i, place in enumerate(term.kept)
        if (term.factors, place) not in aliases
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
    """Return the weights [n] of each estimate, scaled as the estimates are."""
    terms = {t.factors: t for t in model.terms}
    widths = {f.name: f.levels - 1 for f in factors}
    weights = {}
    for e in estimates:
        term = terms[e.factors]
        place = 0
        for name, level in zip(e.factors, e.levels, strict=True):
            place = place * widths[name] + level - 1
        weights[e.factors, e.levels] = model.weights[term.start + term.kept.index(place)] * _share(term)
    return weights


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
