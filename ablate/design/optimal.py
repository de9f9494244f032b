"""D-optimal subsets: the n valid cells that estimate main effects with the least volume of error.

Fedorov's exchange (V. V. Fedorov, Theory of Optimal Experiments, 1972): swap the chosen and the free cell that
raise |XᵀX| most, until no swap does. Deterministic: random starts have fixed seeds."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ablate.design.factorial import Combination, Space
from ablate.spec.model import Factor

STARTS = 8
MOST_CONSIDERED = 5_000
RIDGE = 1e-8  # lets the exchange leave a singular start

Matrix = npt.NDArray[np.float64]


class Mixed(NamedTuple):
    """An interaction of two factors that biases the estimate of a main effect."""

    share: float  # of the interaction
    effect: str  # a factor
    interaction: tuple[str, str]


def d_optimal(space: Space, candidates: Sequence[Combination], n: int) -> tuple[list[Combination], float]:
    """Return n of the candidates, the baseline among them, in their order, and their D-efficiency.

    D-efficiency is (|XᵀX / n| of the subset over that of all candidates)^(1 / parameters): at 1 a cell is
    as informative as one of the full design. It may exceed 1 where conditions make that unbalanced. Of more than 5,000
    candidates a random 5,000 are considered.
    """
    candidates = _considered(candidates, space.baseline(), max(MOST_CONSIDERED, 2 * n))
    X = model_matrix(space, candidates)
    kept = candidates.index(space.baseline())
    found = [_exchange(X, n, kept, np.random.default_rng(seed)) for seed in range(STARTS)]
    best = max(found, key=lambda rows: _logdet(X[rows]))
    assert np.linalg.matrix_rank(X[best]) == X.shape[1], "a main effect cannot be estimated"
    return [candidates[i] for i in sorted(best)], _d_efficiency(X[best], X)


def d_efficiency(space: Space, cells: Sequence[Combination]) -> float:
    """Return the D-efficiency of any valid cells, as `d_optimal` has it; 0 where they can't estimate every main effect."""
    candidates = _considered(space.full(), space.baseline(), max(MOST_CONSIDERED, 2 * len(cells)))
    return _d_efficiency(model_matrix(space, cells), model_matrix(space, candidates))


def _d_efficiency(X: Matrix, every: Matrix) -> float:
    if np.linalg.matrix_rank(X) < X.shape[1]:
        return 0.0
    per_cell = _logdet(X / np.sqrt(len(X))) - _logdet(every / np.sqrt(len(every)))
    return float(np.exp(per_cell / X.shape[1]))


def _considered(candidates: Sequence[Combination], always: Combination, most: int) -> list[Combination]:
    if len(candidates) <= most:
        return list(candidates)
    rows = np.random.default_rng(0).choice(len(candidates), most, replace=False)
    sampled = [candidates[i] for i in sorted(rows)]
    return sampled if always in sampled else [always, *sampled]


def model_matrix(space: Space, candidates: Sequence[Combination]) -> Matrix:
    """Return the main-effects model [cells, parameters]: the mean, then orthonormal contrasts of each factor.

    A factor's contrasts are 0 where the factor does not exist, so that its effect is one inside its parent.
    """
    blocks: list[Matrix] = [np.ones((len(candidates), 1))]
    return np.hstack([*blocks, *(model_columns(factor, candidates) for factor in space.spec.factors)])


def model_columns(factor: Factor, candidates: Sequence[Combination]) -> Matrix:
    """Return one factor's contrasts [cells, levels − 1]."""
    rows = np.vstack([contrasts(factor), np.zeros(len(factor.levels) - 1)])  # the last: does not exist
    return np.asarray(rows[[one.get(factor.name, -1) for one in candidates]])


def effect_weights(space: Space, cells: Sequence[Combination]) -> Matrix:
    """Return what each cell adds to each main effect by least squares [effects, cells].

    One effect per factor and level: its difference from the baseline's level; its own is a row of zeros."""
    estimates = np.linalg.pinv(model_matrix(space, cells))  # [parameters, cells]
    effects, first = [], 1  # row 0 is the mean
    for factor in space.spec.factors:
        coded = contrasts(factor)
        differences = coded - coded[space.preferred[factor.name]]  # [levels, columns]
        effects.append(differences @ estimates[first : first + coded.shape[1]])
        first += coded.shape[1]
    return np.vstack(effects)


def strongest_mixing(space: Space, cells: Sequence[Combination]) -> list[Mixed]:
    """Return, for each main effect by least squares, the interaction that is mixed most into it, the strongest first."""
    owners = [f.name for f in space.spec.factors for _ in f.levels]
    return strongest(mixing(space, cells, owners, effect_weights(space, cells)))


def strongest(found: Sequence[Mixed]) -> list[Mixed]:
    """Return of each effect the first."""
    first: dict[str, Mixed] = {}
    for one in found:
        first.setdefault(one.effect, one)
    return list(first.values())


def mixing(space: Space, cells: Sequence[Combination], owners: Sequence[str], weights: Matrix) -> list[Mixed]:
    """Return what share of each interaction of two factors biases each main effect, the strongest first.

    `weights` [effects, cells] are what each cell adds to the effects, `owners` their factors; of a factor with several
    the worst counts. Of regular fractions the shares are 0 or 1. Source: the alias matrix of Box & Wilson 1951,
    J. R. Statist. Soc. B 13, 1-45."""
    factors = space.spec.factors
    columns = {f.name: model_columns(f, cells) for f in factors}
    found: dict[tuple[str, tuple[str, str]], float] = {}
    for f, g in combinations(factors, 2):
        if f.name in g.only_when or g.name in f.only_when:
            continue  # one exists only inside the other: they have no interaction
        products = (columns[f.name][:, :, None] * columns[g.name][:, None, :]).reshape(len(cells), -1)
        shares = np.abs(weights @ products).max(axis=1) / 2  # contrasts are ±1, an effect is a difference
        for name, share in zip(owners, shares.tolist(), strict=True):
            key = name, (f.name, g.name)
            found[key] = max(share, found.get(key, 0.0))
    return sorted((Mixed(share, *key) for key, share in found.items()), reverse=True)


def contrasts(factor: Factor) -> Matrix:
    """Return Helmert contrasts [levels, levels − 1], columns orthogonal with mean square 1."""
    n = len(factor.levels)
    raw: Matrix = np.zeros((n, n - 1))
    for column in range(n - 1):
        raw[: column + 1, column] = -1.0
        raw[column + 1, column] = column + 1.0
    scale: Matrix = np.sqrt((raw**2).mean(axis=0))
    return raw / scale


def _exchange(X: Matrix, n: int, kept: int, rng: np.random.Generator) -> list[int]:
    """Return n row numbers, `kept` first, that no single swap improves."""
    free = np.delete(np.arange(len(X)), kept)
    chosen = np.concatenate([[kept], rng.choice(free, n - 1, replace=False)])
    while True:
        inverse = np.linalg.inv(X[chosen].T @ X[chosen] + RIDGE * np.eye(X.shape[1]))
        cross = X @ inverse @ X[chosen].T  # [candidates, n]
        d_in = ((X @ inverse) * X).sum(axis=1)  # [candidates]
        d_out = d_in[chosen]
        gain = (1 + d_in[:, None]) * (1 - d_out[None, :]) + cross**2 - 1  # relative growth of |XᵀX|
        gain[chosen, :] = -np.inf  # a cell is run once; seeds replicate it
        gain[:, 0] = -np.inf  # the kept one stays
        entering, leaving = np.unravel_index(np.argmax(gain), gain.shape)
        if gain[entering, leaving] < 1e-9:
            return [int(i) for i in chosen]
        chosen[leaving] = entering


def _logdet(X: Matrix) -> float:
    sign, value = np.linalg.slogdet(X.T @ X)
    return float(value) if sign > 0 else -np.inf
