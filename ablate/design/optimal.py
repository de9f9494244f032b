"""D-optimal subsets: the n valid cells that give the main effects the confidence ellipsoid of least volume.

Fedorov's exchange (V. V. Fedorov, Theory of Optimal Experiments, 1972): swap the chosen and the free cell whose
exchange raises |XᵀX| most, until no swap raises it. Deterministic: the random starts have fixed seeds."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ablate.design.factorial import Combination, Space
from ablate.spec.model import Factor

STARTS = 8
MOST_CONSIDERED = 5_000
# Lets the exchange leave a singular start.
RIDGE = 1e-8

Matrix = npt.NDArray[np.float64]


class PartialAlias(NamedTuple):
    """An interaction of two factors that biases an estimated main effect."""

    share: float  # of the interaction
    effect: str  # a factor
    interaction: tuple[str, str]


def d_optimal(space: Space, candidates: Sequence[Combination], n: int) -> tuple[list[Combination], float]:
    """Return n of the candidates, including the baseline, in their order, and their D-efficiency.

    D-efficiency is (|XᵀX / n| of the subset over that of all candidates)^(1 / parameters). At 1, a cell is as
    informative as one of the full design; it may exceed 1 where conditions make the full design unbalanced. Of more
    than 5,000 candidates, a random 5,000 are considered.
    """
    candidates = _considered(candidates, space.baseline(), max(MOST_CONSIDERED, 2 * n))
    X = model_matrix(space, candidates)
    kept = candidates.index(space.baseline())
    subsets = [_exchange(X, n, kept, np.random.default_rng(seed)) for seed in range(STARTS)]
    best = max(subsets, key=lambda rows: _logdet(X[rows]))
    assert np.linalg.matrix_rank(X[best]) == X.shape[1], "a main effect cannot be estimated"
    return [candidates[i] for i in sorted(best)], _d_efficiency(X[best], X)


def d_efficiency(space: Space, cells: Sequence[Combination]) -> float:
    """Return the D-efficiency (see `d_optimal`) of any valid cells; 0 if they cannot estimate every main effect."""
    candidates = _considered(space.full(), space.baseline(), max(MOST_CONSIDERED, 2 * len(cells)))
    return _d_efficiency(model_matrix(space, cells), model_matrix(space, candidates))


def _d_efficiency(X: Matrix, candidates: Matrix) -> float:
    if np.linalg.matrix_rank(X) < X.shape[1]:
        return 0.0
    per_cell = _logdet(X / np.sqrt(len(X))) - _logdet(candidates / np.sqrt(len(candidates)))
    return float(np.exp(per_cell / X.shape[1]))


def _considered(candidates: Sequence[Combination], always: Combination, most: int) -> list[Combination]:
    if len(candidates) <= most:
        return list(candidates)
    rows = np.random.default_rng(0).choice(len(candidates), most, replace=False)
    sampled = [candidates[i] for i in sorted(rows)]
    return sampled if always in sampled else [always, *sampled]


def model_matrix(space: Space, candidates: Sequence[Combination]) -> Matrix:
    """Return the main-effects model [cells, parameters]: the mean, then orthonormal contrasts of each factor.

    A factor's contrasts are 0 where the factor does not exist, so that its effect is the effect where it exists.
    """
    blocks: list[Matrix] = [np.ones((len(candidates), 1))]
    return np.hstack([*blocks, *(model_columns(factor, candidates) for factor in space.spec.factors)])


def model_columns(factor: Factor, candidates: Sequence[Combination]) -> Matrix:
    """Return one factor's contrasts [cells, levels − 1]."""
    # The last row, which index -1 selects, is for cells where the factor does not exist.
    rows = np.vstack([contrasts(factor), np.zeros(len(factor.levels) - 1)])
    return np.asarray(rows[[candidate.get(factor.name, -1) for candidate in candidates]])


def effect_weights(space: Space, cells: Sequence[Combination]) -> Matrix:
    """Return the weight of each cell in each main effect, estimated by least squares [effects, cells].

    One effect per factor and level: the level minus the baseline level (a row of zeros for the baseline level)."""
    estimates = np.linalg.pinv(model_matrix(space, cells))  # [parameters, cells]
    effects, first = [], 1  # row 0 is the mean
    for factor in space.spec.factors:
        coded = contrasts(factor)
        differences = coded - coded[space.preferred[factor.name]]  # [levels, columns]
        effects.append(differences @ estimates[first : first + coded.shape[1]])
        first += coded.shape[1]
    return np.vstack(effects)


def strongest_partial_aliases(space: Space, cells: Sequence[Combination]) -> list[PartialAlias]:
    """Return for each main effect, by least squares, the interaction that biases it most; the largest share first."""
    owners = [f.name for f in space.spec.factors for _ in f.levels]
    return strongest(interactions_in_effects(space, cells, owners, effect_weights(space, cells)))


def strongest(sorted_shares: Sequence[PartialAlias]) -> list[PartialAlias]:
    """Return the first entry of each effect."""
    first: dict[str, PartialAlias] = {}
    for alias in sorted_shares:
        first.setdefault(alias.effect, alias)
    return list(first.values())


def interactions_in_effects(
    space: Space, cells: Sequence[Combination], owners: Sequence[str], weights: Matrix
) -> list[PartialAlias]:
    """Return the share of each two-factor interaction that biases each main effect, the largest first.

    `weights` [effects, cells] are the weights of the cells in each effect, `owners` the factor of each effect. For a factor
    with several effects the largest share counts. In regular fractions, shares are 0 or 1. Source: the alias matrix of
    Box & Wilson 1951, J. R. Statist. Soc. B 13, 1-45."""
    factors = space.spec.factors
    columns = {f.name: model_columns(f, cells) for f in factors}
    largest: dict[tuple[str, tuple[str, str]], float] = {}
    for f, g in combinations(factors, 2):
        # If one factor exists only under some levels of the other, they have no interaction.
        if f.name in g.only_when or g.name in f.only_when:
            continue
        products = (columns[f.name][:, :, None] * columns[g.name][:, None, :]).reshape(len(cells), -1)
        # Contrasts are ±1 and an effect is a difference, hence the 2.
        shares = np.abs(weights @ products).max(axis=1) / 2
        for name, share in zip(owners, shares.tolist(), strict=True):
            key = name, (f.name, g.name)
            largest[key] = max(share, largest.get(key, 0.0))
    return sorted((PartialAlias(share, *key) for key, share in largest.items()), reverse=True)


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
    """Return the indices of n rows, `kept` first, that no single swap improves."""
    free = np.delete(np.arange(len(X)), kept)
    chosen = np.concatenate([[kept], rng.choice(free, n - 1, replace=False)])
    while True:
        inverse = np.linalg.inv(X[chosen].T @ X[chosen] + RIDGE * np.eye(X.shape[1]))
        cross = X @ inverse @ X[chosen].T  # [candidates, n]
        d_in = ((X @ inverse) * X).sum(axis=1)  # [candidates]
        d_out = d_in[chosen]
        gain = (1 + d_in[:, None]) * (1 - d_out[None, :]) + cross**2 - 1  # relative growth of |XᵀX|
        # A cell is run once (seeds replicate it), and the kept row is never swapped out.
        gain[chosen, :] = -np.inf
        gain[:, 0] = -np.inf
        entering, leaving = np.unravel_index(np.argmax(gain), gain.shape)
        # Above 0, since rounding errors could otherwise make the exchange swap forever.
        if gain[entering, leaving] < 1e-9:
            return [int(i) for i in chosen]
        chosen[leaving] = entering


def _logdet(X: Matrix) -> float:
    sign, value = np.linalg.slogdet(X.T @ X)
    return float(value) if sign > 0 else -np.inf
