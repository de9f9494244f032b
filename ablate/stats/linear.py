"""Least squares on factors: coding, the fit, and sums of squares of types I, II and III.

Factors are coded so that the coefficients *are* the effects of interest. The column of level j is 1 at level
j, minus 1/L everywhere the factor exists, and 0 where it does not. In a model with these columns and their
products, the coefficient of level j is its estimated marginal mean minus that of level 0, with the other
factors weighted equally (Searle, Speed & Milliken 1980), and the coefficient of a product is a difference of
differences. For two levels this is the textbook's ±½ coding.

A rank-deficient model is accepted: a term whose columns depend linearly on the
terms before it is left out and listed. A main effect keeps the columns that
are independent, so that their effect is not attributed to another factor.
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
Names = tuple[str, ...]  # the factors of a term

# Columns are dependent if the terms before them leave less than this share of the largest norm.
DEPENDENT = 1e-7
# Residuals below this share of the data's spread are rounding error, not noise. Smaller entries of coded columns are set to 0.
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Factor:
    """One factor over n rows. Factors are equal if their name, levels and index are."""

    name: str
    index: NDArray[np.intp]  # [n], 0 for the baseline level, -1 where the factor does not exist
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
        at_level = self.index[:, None] == np.arange(1, self.levels)
        return np.asarray((at_level - 1 / self.levels) * self.exists[:, None])

    @property
    def exists(self) -> NDArray[np.bool_]:
        """Where the factor exists, [n]."""
        return self.index >= 0


@dataclass(frozen=True)
class Term:
    """A factor or a product of factors, and its columns in the model matrix."""

    factors: Names
    start: int
    stop: int
    # Indices of the columns of its coding that are kept: all, unless some of a factor's columns are dependent.
    kept: tuple[int, ...]

    @property
    def name(self) -> str:
        """The names of its factors, joined by a colon."""
        return ":".join(self.factors)

    @property
    def df(self) -> int:
        """Number of columns."""
        return self.stop - self.start

    @property
    def columns(self) -> slice:
        """The slice of the model matrix that holds its columns."""
        return slice(self.start, self.stop)


@dataclass(frozen=True, eq=False)
class Fit:
    """A least-squares fit of centred data."""

    terms: tuple[Term, ...]
    left_out: tuple[Names, ...]  # terms that depend, at least in part, on the terms before them
    beta: Array  # [p]
    covariance: Array  # [p, p], of beta, for a residual variance of 1
    weights: Array  # [p, n], beta = weights @ y
    R: Array  # [p, p], triangular factor of the model matrix
    z: Array  # [p], y projected onto the orthonormal columns
    ss_residual: float
    df_residual: int
    degenerate: bool  # the residuals are rounding error: there is no estimate of noise

    @property
    def variance(self) -> float | None:
        """The residual mean square; None if there is nothing to estimate it from."""
        return None if self.degenerate or self.df_residual == 0 else self.ss_residual / self.df_residual

    @property
    def orthogonal(self) -> bool:
        """Whether all terms are mutually orthogonal, as in a balanced table: all types then agree."""
        between = self.R.copy()
        for term in self.terms:
            between[term.columns, term.columns] = 0
        return bool(np.abs(between).max(initial=0) <= 1e-9 * np.abs(self.R).max(initial=0))


def fit(y: Array, factors: Sequence[Factor], terms: Sequence[Names]) -> Fit:
    """Fit `terms` (names of factors) to `y` [n] by least squares, with an intercept.

    `y` and every column are centred first: without that, NIST's ill-conditioned StRD sets lose ten digits.
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
    """The part of a fit that does not depend on the data."""

    terms: tuple[Term, ...]
    left_out: tuple[Names, ...]
    Q: Array  # [n, p], orthonormal
    R: Array  # [p, p]
    inverse: Array  # [p, p], of R
    weights: Array  # [p, n]


# A report fits the same model to every metric. At 10,000 trials and 66 columns, one decomposition takes a quarter
# of a second.
@lru_cache(maxsize=4)
def _base(factors: tuple[Factor, ...], terms: tuple[Names, ...]) -> _Base:
    """Decompose the columns of the model.

    Each term is orthogonalized against those before it (Gram-Schmidt, twice: Giraud et al. 2005), so one pass
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
        kept_columns, basis = list(range(width)), None
        # With no dimensions left, a product is dependent: do not build its columns, which may be thousands.
        room = at + width <= n - 1
        if room or len(names) == 1:
            columns = _columns(coding, names)
            basis = _new_directions(Q[:, :at], columns) if room else None
            if basis is None and len(names) == 1:
                kept_columns = _independent(Q[:, :at], columns)
                columns = columns[:, kept_columns]
                basis = _new_directions(Q[:, :at], columns) if kept_columns else None
        if basis is None or len(kept_columns) < width:
            left_out.append(names)
        if basis is None:
            continue
        term = Term(names, at, at + len(kept_columns), tuple(kept_columns))
        Q[:, term.columns], X[:, term.columns] = basis, columns
        kept.append(term)
        at = term.stop
    Q, X = Q[:, :at], X[:, :at]
    R = np.triu(Q.T @ X)
    inverse: Array = linalg.solve_triangular(R, np.eye(at))
    return _Base(tuple(kept), tuple(left_out), Q, R, inverse, inverse @ Q.T)


def aliased_coefficients(
    factors: Sequence[Factor], terms: Sequence[Names]
) -> dict[tuple[Names, int], set[Names]]:
    """Return the coefficients (term, index) that are not estimable, each with the terms it is aliased with.

    A coefficient is not estimable if it can change, together with others, without changing any fitted value.
    The projection onto the null space of the model matrix shows which change together (Searle 1971, Linear
    Models, ch. 5: estimable functions). A coefficient's own term is always among its aliases.
    """
    coding = {factor.name: factor for factor in factors}
    columns = [_columns(coding, names) for names in terms]
    coefficients = [(names, i) for names, x in zip(terms, columns, strict=True) for i in range(x.shape[1])]
    _, sizes, directions = np.linalg.svd(np.linalg.qr(np.hstack(columns), mode="r"))
    null_space = directions[np.sum(sizes > DEPENDENT * sizes.max(initial=0)) :]
    together = np.abs(null_space.T @ null_space) > DEPENDENT
    return {
        coefficient: {coefficients[other][0] for other in np.flatnonzero(row)}
        for coefficient, row in zip(coefficients, together, strict=True)
        if row.any()
    }


def type_i(model: Fit) -> list[float]:
    """Return each term's sum of squares, adjusted for the terms before it."""
    return [float(model.z[term.columns] @ model.z[term.columns]) for term in model.terms]


def type_ii(model: Fit) -> list[float]:
    """Return each term's sum of squares, adjusted for all that do not contain it (Yates 1934; Langsrud 2003)."""
    if model.orthogonal:
        return type_i(model)
    above = [[t for t in model.terms if set(term.factors) < set(t.factors)] for term in model.terms]
    return [_wald(model, term, without) for term, without in zip(model.terms, above, strict=True)]


def type_iii(model: Fit) -> list[float]:
    """Return each term's sum of squares, adjusted for all others (Wald test of its contrasts, Yates 1934)."""
    return [_wald(model, term, []) for term in model.terms]


def product_columns(factors: Sequence[Factor]) -> Array:
    """Return the coding of the product of `factors`, [n, product of (levels − 1)]."""
    return reduce(_products, (factor.columns() for factor in factors))


def crossings(factors: Sequence[Factor]) -> list[NDArray[np.intp]]:
    """Return the row numbers of each combination of levels that occurs, an array per combination."""
    table = np.column_stack([factor.index for factor in factors])
    order = np.lexsort(table.T)
    edges = np.flatnonzero(np.any(np.diff(table[order], axis=0), axis=1)) + 1
    return [order[a:b] for a, b in pairwise([0, *edges.tolist(), len(order)])]


def same_in_all_repeats(y: Array, factors: Sequence[Factor], block: Factor | None) -> bool:
    """Return whether replicates have the same `y` [n], to rounding, apart from a shift per block.

    False if no combination is replicated.
    """
    within = np.column_stack([y - y.mean(), *([block.columns()] if block else [])])
    combinations = crossings(factors)
    # Keep only the variation of y and of the blocks within combinations.
    for rows in combinations:
        within[rows] -= within[rows].mean(axis=0)
    centred, blocks = within[:, 0], np.where(np.abs(within[:, 1:]) > ROUNDING, within[:, 1:], 0.0)
    shifts, _, rank, _ = np.linalg.lstsq(blocks, centred, rcond=DEPENDENT)
    repeats = len(y) - len(combinations) - int(rank)
    rounding = ROUNDING * np.abs(y - y.mean()).max(initial=0)
    return repeats > 0 and bool(np.abs(centred - blocks @ shifts).max() <= rounding)


def _columns(coding: Mapping[str, Factor], names: Names) -> Array:
    columns = product_columns([coding[name] for name in names])
    columns = columns - columns.mean(axis=0)
    # In floating point, −1/3 minus a mean of −1/3 is not always 0.
    return np.where(np.abs(columns) > ROUNDING, columns, 0.0)


def _products(left: Array, right: Array) -> Array:
    return (left[:, :, None] * right[:, None, :]).reshape(len(left), -1)


def _new_directions(Q: Array, columns: Array) -> Array | None:
    """Return an orthonormal basis of `columns` projected off Q; None if they are rank-deficient given Q."""
    rest = columns - Q @ (Q.T @ columns)
    rest = rest - Q @ (Q.T @ rest)
    basis, triangle = np.linalg.qr(rest)
    if np.abs(np.diag(triangle)).min() <= DEPENDENT * np.linalg.norm(columns, axis=0).max():
        return None
    return np.asarray(basis - Q @ (Q.T @ basis))


def _independent(Q: Array, columns: Array) -> list[int]:
    """Return the indices of a largest set of `columns` that is linearly independent given Q."""
    rest = columns - Q @ (Q.T @ columns)
    rest = rest - Q @ (Q.T @ rest)
    triangle, order = linalg.qr(rest, mode="r", pivoting=True)
    adds = np.abs(np.diag(triangle)) > DEPENDENT * np.linalg.norm(columns, axis=0).max()
    return sorted(order[: int(adds.sum())].tolist())


def _wald(model: Fit, term: Term, without: Sequence[Term]) -> float:
    """Return the sum of squares of `term` in the model without the terms `without`.

    Dropping a term is the same as fixing its coefficients at 0, so conditioning on that avoids a refit.
    """
    tested, beta, V = term.columns, model.beta, model.covariance
    if not without:
        return float(beta[tested] @ np.linalg.solve(V[tested, tested], beta[tested]))
    out = np.concatenate([np.arange(t.start, t.stop) for t in without])
    share = np.linalg.solve(V[np.ix_(out, out)], V[out, tested])  # [out, tested]
    kept = beta[tested] - share.T @ beta[out]
    return float(kept @ np.linalg.solve(V[tested, tested] - V[tested, out] @ share, kept))
