"""Least squares on factors: coding, the fit, and sums of squares of types I, II and III.

Factors are coded so that the coefficients *are* the answers: the column of level j is 1 at level j, less 1/L
everywhere the factor exists, and 0 where it does not. In a model with these columns and their products, the
coefficient of level j is its estimated marginal mean minus that of level 0, other factors weighted equally
(Searle, Speed & Milliken 1980), and the coefficient of a product is a difference of differences. Two levels
give the textbook's ±½.

Refuses nothing: a term whose columns depend on those before it is left out and named.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from math import prod

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# A column counts as dependent when less than this share of its length is left after the terms before it.
DEPENDENT = 1e-7
# Residuals below this share of the data's spread are rounding, not noise.
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Factor:
    """One factor over n rows."""

    name: str
    index: NDArray[np.intp]  # [n], 0 is the baseline level, -1 where the factor does not exist
    levels: int

    def columns(self) -> Array:
        """Return the coding [n, levels - 1]."""
        own = self.index[:, None] == np.arange(1, self.levels)
        return np.asarray((own - 1 / self.levels) * self.exists[:, None])

    @property
    def exists(self) -> NDArray[np.bool_]:
        """Where the factor exists, [n]."""
        return self.index >= 0


@dataclass(frozen=True)
class Term:
    """A factor or a product of factors, and its columns of the model."""

    factors: tuple[str, ...]
    start: int
    stop: int

    @property
    def name(self) -> str:
        """The factors' names joined by a colon."""
        return ":".join(self.factors)

    @property
    def df(self) -> int:
        """Number of columns."""
        return self.stop - self.start

    @property
    def columns(self) -> slice:
        """Where its columns stand."""
        return slice(self.start, self.stop)


@dataclass(frozen=True, eq=False)
class Fit:
    """A least-squares fit of centred data."""

    terms: tuple[Term, ...]
    left_out: tuple[tuple[str, ...], ...]  # terms that depend on the ones before them
    beta: Array  # [p]
    covariance: Array  # [p, p], of beta, before the residual variance
    R: Array  # [p, p], triangular factor of the model
    z: Array  # [p], the data in its coordinates
    ss_residual: float
    df_residual: int
    degenerate: bool  # the residuals are rounding: there is no estimate of noise

    @property
    def variance(self) -> float | None:
        """Residual mean square, None when there is nothing to estimate it from."""
        return None if self.degenerate or self.df_residual == 0 else self.ss_residual / self.df_residual

    @property
    def orthogonal(self) -> bool:
        """Whether no term shares anything with another, as in a balanced table: all types then agree."""
        between = self.R.copy()
        for term in self.terms:
            between[term.columns, term.columns] = 0
        return bool(np.abs(between).max(initial=0) <= 1e-9 * np.abs(self.R).max(initial=0))


def fit(y: Array, factors: Sequence[Factor], terms: Sequence[tuple[str, ...]]) -> Fit:
    """Fit `terms` (names of factors) to `y` [n] by least squares, with an intercept.

    `y` and every column are centred first: without that, the stiff sets of NIST's StRD lose ten digits.
    Each term is made orthogonal to those before it (Gram-Schmidt, twice: Giraud et al. 2005), so one pass
    gives the fit, the ranks and the sequential sums of squares.
    """
    coding = {factor.name: factor for factor in factors}
    n = len(y)
    y = y - y.mean()
    widths = [prod(coding[name].levels - 1 for name in names) for names in terms]
    Q, X = np.empty((2, n, min(n - 1, sum(widths))))
    kept: list[Term] = []
    left_out: list[tuple[str, ...]] = []
    at = 0
    for names, width in zip(terms, widths, strict=True):
        columns = basis = None
        if (
            at + width <= n - 1
        ):  # else there is no room, and no need to build what may be thousands of columns
            columns = reduce(_products, (coding[name].columns() for name in names))
            columns = columns - columns.mean(axis=0)
            basis = _new_directions(Q[:, :at], columns)
        if basis is None:
            left_out.append(names)
            continue
        term = Term(names, at, at + width)
        Q[:, term.columns], X[:, term.columns] = basis, columns
        kept.append(term)
        at += width
    Q, X = Q[:, :at], X[:, :at]
    R, z = np.triu(Q.T @ X), Q.T @ y
    inverse = np.linalg.solve(R, np.eye(len(R)))
    residual = y - Q @ z
    df_residual = n - 1 - len(z)
    ss_residual = float(residual @ residual) if df_residual else 0.0
    degenerate = bool(np.abs(residual).max(initial=0) <= ROUNDING * np.abs(y).max(initial=0))
    return Fit(
        tuple(kept),
        tuple(left_out),
        inverse @ z,
        inverse @ inverse.T,
        R,
        z,
        ss_residual,
        df_residual,
        degenerate,
    )


def type_i(model: Fit) -> list[float]:
    """Return each term's sum of squares after the terms before it."""
    return [float(model.z[term.columns] @ model.z[term.columns]) for term in model.terms]


def type_ii(model: Fit) -> list[float]:
    """Return each term's sum of squares after all that do not contain it (Yates 1934; Langsrud 2003)."""
    if model.orthogonal:
        return type_i(model)
    above = [[t for t in model.terms if set(term.factors) < set(t.factors)] for term in model.terms]
    return [_wald(model, term, without) for term, without in zip(model.terms, above, strict=True)]


def type_iii(model: Fit) -> list[float]:
    """Return each term's sum of squares after all others, the Wald test of its contrasts (Yates 1934)."""
    return [_wald(model, term, []) for term in model.terms]


def crossings(factors: Sequence[Factor]) -> list[NDArray[np.intp]]:
    """Return the rows of each combination of levels that occurs."""
    table = np.column_stack([factor.index for factor in factors])
    order = np.lexsort(table.T)
    edges = np.flatnonzero(np.any(np.diff(table[order], axis=0), axis=1)) + 1
    return [order[a:b] for a, b in pairwise([0, *edges.tolist(), len(order)])]


def _products(left: Array, right: Array) -> Array:
    return (left[:, :, None] * right[:, None, :]).reshape(len(left), -1)


def _new_directions(Q: Array, columns: Array) -> Array | None:
    """Return an orthonormal basis of what `columns` add to Q, or None when they do not all add something."""
    rest = columns - Q @ (Q.T @ columns)
    rest = rest - Q @ (Q.T @ rest)
    basis, triangle = np.linalg.qr(rest)
    if np.abs(np.diag(triangle)).min() <= DEPENDENT * np.linalg.norm(columns, axis=0).max():
        return None
    return np.asarray(basis - Q @ (Q.T @ basis))


def _wald(model: Fit, term: Term, without: Sequence[Term]) -> float:
    """Return the sum of squares of `term` in the model without the terms `without`.

    Leaving terms out is holding their coefficients at 0: condition on that, and nothing is fitted again.
    """
    own, beta, V = term.columns, model.beta, model.covariance
    if not without:
        return float(beta[own] @ np.linalg.solve(V[own, own], beta[own]))
    out = np.concatenate([np.arange(t.start, t.stop) for t in without])
    share = np.linalg.solve(V[np.ix_(out, out)], V[out, own])  # [out, own]
    kept = beta[own] - share.T @ beta[out]
    return float(kept @ np.linalg.solve(V[own, own] - V[own, out] @ share, kept))
