"""Weights of task gradients, for methods that torchjd computes with more than the Gramian or with solvers not installed here.

torchjd's CAGrad needs cvxpy with Clarabel, its Nash-MTL cvxpy with ECOS, its ConFIG the gradients themselves. Here a Gramian
[tasks, tasks] is enough. Assumes that no gradient is 0.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from torch import Tensor
from torchjd.aggregation import Weighting

Array = npt.NDArray[np.float64]

CAGRAD_C = 0.4  # as in the paper's NYUv2 experiments
NEWTON_STEPS = 100  # the most steps; about 10 are needed


class OfGramian(Weighting[Tensor]):
    """A function from a Gramian to weights, as torchjd's weightings are called."""

    def __init__(self, solve: Callable[[Array], Array]) -> None:
        super().__init__()
        self._solve = solve

    def forward(self, gramian: Tensor, /) -> Tensor:
        """[tasks, tasks] -> [tasks]."""
        weights = self._solve(gramian.detach().double().cpu().numpy())
        return torch.as_tensor(weights, dtype=gramian.dtype, device=gramian.device)


def cagrad(gramian: Array) -> Array:
    """CAGrad (Liu et al. 2021): among all steps at most c |g0| from the mean gradient g0, the one that helps the worst task most.

    By duality it is g0 + c |g0| g_w / |g_w|, where w minimises g_w . g0 + c |g0| |g_w| over the simplex. Where g_w is 0, no step
    helps all tasks, and the weights are 0.
    """
    tasks = len(gramian)
    unit, even = gramian * (tasks / np.trace(gramian)), np.full(tasks, 1 / tasks)
    radius = CAGRAD_C * np.sqrt(even @ unit @ even)

    def norm(w: Array) -> float:
        # The constant keeps the slope finite where g_w vanishes.
        return float(np.sqrt(w @ unit @ w + 1e-12))

    solution = minimize(
        lambda w: w @ unit @ even + radius * norm(w),
        even,
        jac=lambda w: unit @ even + radius * (unit @ w) / norm(w),
        method="SLSQP",
        bounds=[(0, 1)] * tasks,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones(tasks)},
        options={"ftol": 1e-12, "maxiter": 200},
    )
    length = norm(solution.x)
    return even + radius / length * solution.x if length > 1e-4 else np.zeros(tasks)


def nash_mtl(gramian: Array) -> Array:
    """Nash-MTL (Navon et al. 2022): the a > 0 with G a = 1 / a.

    Solved as C b = 1 / b for the cosines C, with a = b / lengths, by Newton's method on the convex b.C.b / 2 - sum of log b.
    """
    lengths = np.sqrt(gramian.diagonal())
    # There is no solution for opposite gradients; the small addition makes it finite.
    cosines = gramian / np.outer(lengths, lengths) + 1e-10 * np.eye(len(gramian))
    b = np.ones(len(gramian))
    for _ in range(NEWTON_STEPS):
        slope = cosines @ b - 1 / b
        step = np.linalg.solve(cosines + np.diag(b**-2), slope)
        decrement = np.sqrt(max(0.0, slope @ step))
        # The function is self-concordant: with this damping, b stays positive and the method converges from anywhere.
        b = b - step / (1 + decrement if decrement > 0.25 else 1)
        if decrement < 1e-12:
            break
    weights: Array = b / lengths
    return weights


def config(gramian: Array) -> Array:
    """ConFIG (Liu, Chu and Thuerey 2024): the direction with the same cosine to all gradients; its length is the sum of
    their projections on it.
    """
    norms = np.sqrt(gramian.diagonal())
    cosines = gramian / np.outer(norms, norms)
    weights = np.linalg.pinv(cosines, hermitian=True) @ np.ones(len(gramian)) / norms
    squared = weights @ gramian @ weights
    return weights * (gramian @ weights).sum() / squared if squared > 0 else np.zeros(len(gramian))
