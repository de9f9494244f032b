"""D-optimal subsets: the n valid cells that estimate main effects with the least volume of error.

Fedorov's exchange (V. V. Fedorov, Theory of Optimal Experiments, 1972): swap the chosen and the free cell that
raise |XᵀX| most, until no swap does. Deterministic: random starts have fixed seeds."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from ablate.design.factorial import Combination, Space
from ablate.spec.model import Factor

STARTS = 8
MOST_CONSIDERED = 5_000
RIDGE = 1e-8  # lets the exchange leave a singular start

Matrix = npt.NDArray[np.float64]


def d_optimal(space: Space, candidates: Sequence[Combination], n: int) -> tuple[list[Combination], float]:
    """Return n of the candidates, the baseline among them, in their order, and their D-efficiency.

    D-efficiency is (|XᵀX / n| of the subset over that of all candidates)^(1 / parameters): 1 tells as much
    per cell as the full design. It may exceed 1 where conditions make that unbalanced. Of more than 5,000
    candidates a random 5,000 are considered.
    """
    candidates = _considered(candidates, space.baseline(), max(MOST_CONSIDERED, 2 * n))
    X = model_matrix(space, candidates)
    kept = candidates.index(space.baseline())
    found = [_exchange(X, n, kept, np.random.default_rng(seed)) for seed in range(STARTS)]
    best = max(found, key=lambda rows: _logdet(X[rows]))
    assert np.linalg.matrix_rank(X[best]) == X.shape[1], "a main effect cannot be estimated"
    per_cell = _logdet(X[best] / np.sqrt(n)) - _logdet(X / np.sqrt(len(X)))
    return [candidates[i] for i in sorted(best)], float(np.exp(per_cell / X.shape[1]))


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


def strongest_mixing(space: Space, cells: Sequence[Combination]) -> list[tuple[float, str, tuple[str, str]]]:
    """Return, for each main effect, the interaction of two factors that biases it most, and by what share of itself.

    The strongest first; of regular fractions the shares would be 0 or 1. Source: the alias matrix of Box & Wilson 1951,
    J. R. Statist. Soc. B 13, 1-45."""
    weights, factors = effect_weights(space, cells), space.spec.factors
    columns = {f.name: model_columns(f, cells) for f in factors}
    owner = [f.name for f in factors for _ in f.levels]
    worst: dict[str, tuple[float, tuple[str, str]]] = {}
    for f, g in combinations(factors, 2):
        if f.name in g.only_when or g.name in f.only_when:
            continue  # one exists only inside the other: they have no interaction
        products = (columns[f.name][:, :, None] * columns[g.name][:, None, :]).reshape(len(cells), -1)
        shares = np.abs(weights @ products).max(axis=1) / 2  # contrasts are ±1, an effect is a difference
        for name, share in zip(owner, shares.tolist(), strict=True):
            if share > worst.get(name, (0.0,))[0]:
                worst[name] = share, (f.name, g.name)
    return sorted(((share, name, pair) for name, (share, pair) in worst.items()), reverse=True)


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
