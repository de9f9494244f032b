"""Least squares on factors: coding, the fit, and sums of squares of types I, II and III.

Factors are coded so that the coefficients *are* the answers: the column of level j is 1 at level j, less 1/L
everywhere the factor exists, and 0 where it does not. In a model with these columns and their products, the
coefficient of level j is its estimated marginal mean minus that of level 0, other factors weighted equally
(Searle, Speed & Milliken 1980), and the coefficient of a product is a difference of differences. Two levels
give the textbook's ±½.

Refuses nothing: a term whose columns depend on those before it is left out and named. Of a factor's own term the
columns that do add something stay, so that they are not taken for the doing of another factor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import pairwise
from math import prod

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Array = NDArray[np.float64]
Names = tuple[str, ...]  # of the factors of a term

# A column counts as dependent when less than this share of its length is left after the terms before it.
DEPENDENT = 1e-7
# Residuals below this share of the data's spread are rounding, not noise; so are codes of factors below it.
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Factor:
    """One factor over n rows. Two are equal when all of this is."""

    name: str
    index: NDArray[np.intp]  # [n], 0 is the baseline level, -1 where the factor does not exist
    levels: int

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Factor) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[str, int, bytes]:
        return self.name, self.levels, self.index.tobytes()

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

    factors: Names
    start: int
    stop: int
    places: tuple[int, ...]  # which columns of its coding: all, but for a factor that is left out in part

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
    left_out: tuple[Names, ...]  # terms that depend, at least in part, on the ones before them
    beta: Array  # [p]
    covariance: Array  # [p, p], of beta, before the residual variance
    weights: Array  # [p, n], what each row of the data adds to each of beta
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


def fit(y: Array, factors: Sequence[Factor], terms: Sequence[Names]) -> Fit:
    """Fit `terms` (names of factors) to `y` [n] by least squares, with an intercept.

    `y` and every column are centred first: without that, the stiff sets of NIST's StRD lose ten digits.
    """
    y = y - y.mean()
    base = _base(tuple(factors), tuple(terms))
    z = base.Q.T @ y
    residual = y - base.Q @ z
    df_residual = len(y) - 1 - len(z)
    return Fit(
        base.terms,
        base.left_out,
        base.inverse @ z,
        base.inverse @ base.inverse.T,
        base.weights,
        base.R,
        z,
        ss_residual=float(residual @ residual) if df_residual else 0.0,
        df_residual=df_residual,
        degenerate=bool(np.abs(residual).max(initial=0) <= ROUNDING * np.abs(y).max(initial=0)),
    )


@dataclass(frozen=True, eq=False)
class _Base:
    """All of a fit that does not depend on the data."""

    terms: tuple[Term, ...]
    left_out: tuple[Names, ...]
    Q: Array  # [n, p], orthonormal
    R: Array  # [p, p]
    inverse: Array  # [p, p], of R
    weights: Array  # [p, n]


# A report fits the same model to every metric; at 10,000 trials and 66 columns each takes a quarter of a second.
@lru_cache(maxsize=4)
def _base(factors: tuple[Factor, ...], terms: tuple[Names, ...]) -> _Base:
    """Decompose the columns of the model.

    Each term is made orthogonal to those before it (Gram-Schmidt, twice: Giraud et al. 2005), so one pass
    gives the fit, the ranks and the sequential sums of squares.
    """
    coding = {factor.name: factor for factor in factors}
    n = len(factors[0].index)
    widths = [prod(coding[name].levels - 1 for name in names) for names in terms]
    Q, X = np.empty((2, n, min(n - 1, sum(widths))))
    kept: list[Term] = []
    left_out: list[Names] = []
    at = 0
    for names, width in zip(terms, widths, strict=True):
        places, basis = list(range(width)), None
        room = at + width <= n - 1  # else no need to build what may be thousands of columns
        if room or len(names) == 1:
            columns = _columns(coding, names)
            basis = _new_directions(Q[:, :at], columns) if room else None
            if basis is None and len(names) == 1:
                places = _independent(Q[:, :at], columns)
                columns = columns[:, places]
                basis = _new_directions(Q[:, :at], columns) if places else None
        if basis is None or len(places) < width:
            left_out.append(names)
        if basis is None:
            continue
        term = Term(names, at, at + len(places), tuple(places))
        Q[:, term.columns], X[:, term.columns] = basis, columns
        kept.append(term)
        at = term.stop
    Q, X = Q[:, :at], X[:, :at]
    R = np.triu(Q.T @ X)
    inverse: Array = linalg.solve_triangular(R, np.eye(at))
    return _Base(tuple(kept), tuple(left_out), Q, R, inverse, inverse @ Q.T)


def tied(factors: Sequence[Factor], terms: Sequence[Names]) -> dict[tuple[Names, int], set[Names]]:
    """Return, of each coefficient (term, place) that the rows do not determine, the terms it cannot be separated from.

    It is not determined when it can change, others with it, and no row notices. The projection on such changes shows
    what changes together (Searle 1971, Linear Models, ch. 5: estimable functions). Its own term is always among them.
    """
    coding = {factor.name: factor for factor in factors}
    columns = [_columns(coding, names) for names in terms]
    places = [(names, i) for names, own in zip(terms, columns, strict=True) for i in range(own.shape[1])]
    _, sizes, directions = np.linalg.svd(np.linalg.qr(np.hstack(columns), mode="r"))
    unnoticed = directions[np.sum(sizes > DEPENDENT * sizes.max(initial=0)) :]
    together = np.abs(unnoticed.T @ unnoticed) > DEPENDENT
    return {
        place: {places[other][0] for other in np.flatnonzero(row)}
        for place, row in zip(places, together, strict=True)
        if row.any()
    }


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


def same_in_all_repeats(y: Array, factors: Sequence[Factor], block: Factor | None) -> bool:
    """Say whether `y` [n] is the same, to rounding, in all rows of a combination, but for a shift of each block.

    False where no combination is repeated.
    """
    within = np.column_stack([y - y.mean(), *([block.columns()] if block else [])])
    combinations = crossings(factors)
    for rows in combinations:  # what is left of y and of the blocks is what changes within combinations
        within[rows] -= within[rows].mean(axis=0)
    own, blocks = within[:, 0], np.where(np.abs(within[:, 1:]) > ROUNDING, within[:, 1:], 0.0)
    shifts, _, rank, _ = np.linalg.lstsq(blocks, own, rcond=DEPENDENT)
    repeats = len(y) - len(combinations) - int(rank)
    rounding = ROUNDING * np.abs(y - y.mean()).max(initial=0)
    return repeats > 0 and bool(np.abs(own - blocks @ shifts).max() <= rounding)


def _columns(coding: Mapping[str, Factor], names: Names) -> Array:
    columns = reduce(_products, (coding[name].columns() for name in names))
    columns = columns - columns.mean(axis=0)
    return np.where(np.abs(columns) > ROUNDING, columns, 0.0)  # −1/3 less a mean of −1/3 is not always 0


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


def _independent(Q: Array, columns: Array) -> list[int]:
    """Return the places of as many `columns` as add something to Q and to one another."""
    rest = columns - Q @ (Q.T @ columns)
    rest = rest - Q @ (Q.T @ rest)
    triangle, order = linalg.qr(rest, mode="r", pivoting=True)
    adds = np.abs(np.diag(triangle)) > DEPENDENT * np.linalg.norm(columns, axis=0).max()
    return sorted(order[: int(adds.sum())].tolist())


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
