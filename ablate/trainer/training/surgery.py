"""Gradient surgery on the shared encoder, worked out on the T x T Gramian of the tasks' gradients.

Every method here returns a linear combination of the task gradients, so it is enough to transform
coefficients: a gradient of millions of numbers is read twice, for the Gramian and for one weighted sum.

Reduction: without surgery the encoder descends along the *sum* of the task gradients (all weights 1). Methods
that give a mean, or a scale of their own, are brought to weights that sum to the number of tasks, so that
every arm takes steps of the same scale and none is confounded with a change of learning rate. PCGrad without
a conflict is exactly the sum.
"""

import math
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor
from torchjd.aggregation import (
    AlignedMTLWeighting,
    DualProjWeighting,
    FairGradWeighting,
    GradVacWeighting,
    IMTLGWeighting,
    MGDAWeighting,
    PCGradWeighting,
    UPGradWeighting,
    Weighting,
)
from torchjd.linalg import DualConeProjector


class NonNegativeProjector(DualConeProjector):
    """Projection onto the dual cone of the gradients by non-negative least squares.

    min vᵀGv over v ≥ u is min |L(u + w)|² over w ≥ 0 with G = LᵀL (Lawson and Hanson 1974). torchjd's own
    projector needs quadprog, whose licence (GPL) we do not want.
    """

    def __call__(self, U: Tensor, G: Tensor) -> Tensor:
        """U [..., tasks], G [tasks, tasks] -> weights of U's shape."""
        eigenvalues, vectors = np.linalg.eigh(G.double().cpu().numpy())
        root = np.sqrt(np.clip(eigenvalues, 0, None))[:, None] * vectors.T
        rows = U.double().cpu().numpy()
        projected = np.apply_along_axis(lambda u: u + nnls(root, -root @ u)[0], -1, rows)
        return torch.as_tensor(projected, dtype=U.dtype, device=U.device)


def _sum(tasks: int) -> Tensor:
    return torch.ones(tasks, dtype=torch.float64)


# name -> (weighting for T tasks, whether its weights are to be rescaled to sum to T)
FAMILY: dict[str, tuple[Callable[[int], Weighting[Any]], bool]] = {
    "pcgrad": (lambda tasks: PCGradWeighting(), False),  # Yu et al. 2020
    "gradvac": (lambda tasks: GradVacWeighting(), False),  # Wang et al. 2021
    "upgrad": (
        lambda tasks: UPGradWeighting(_sum(tasks), NonNegativeProjector()),
        False,
    ),  # Quinton, Rey 2024
    "dualproj": (
        lambda tasks: DualProjWeighting(_sum(tasks), NonNegativeProjector()),
        False,
    ),  # Lopez-Paz 2017
    "aligned_mtl": (lambda tasks: AlignedMTLWeighting(_sum(tasks)), True),  # Senushkin et al. 2023
    "mgda": (lambda tasks: MGDAWeighting(), True),  # Désidéri 2012; Sener, Koltun 2018
    "imtl_g": (lambda tasks: IMTLGWeighting(), True),  # Liu et al. 2021
    "fairgrad": (lambda tasks: FairGradWeighting(alpha=1.0), True),  # Ban, Ji 2024; proportional fairness
}


class Surgeon:
    """Combines per-task gradients; holds the method's randomness and memory.

    Args:
        method: a key of `FAMILY`.
        tasks: names, in the order of the rows of the gradients.
        seed: of the random order in which PCGrad and GradVac visit the tasks.
    """

    def __init__(self, method: str, tasks: Sequence[str], seed: int) -> None:
        build, self._rescaled = FAMILY[method]
        self.tasks = tuple(tasks)
        self._weighting = build(len(tasks))
        self._generator = torch.Generator().manual_seed(seed)
        # Orthogonal gradients bring a method's memory (GradVac's) into being without moving it from 0.
        self.weights(torch.eye(len(tasks)))

    def combine(self, gradients: Sequence[Tensor], combined: Sequence[Tensor]) -> dict[str, float]:
        """Write the combination of the tasks' gradients to `combined`; return points of curves.

        Both come in the same pieces: [tasks, numbers] of `gradients`, [numbers] of `combined`.

        A gradient that is not finite makes the combined one NaN, with no points. The curves:
        `surgery/cosine.<a>.<b>` for each pair of tasks, and `surgery/projected`, the share of pairs in conflict
        (negative cosine): those that PCGrad projects.
        """
        gramian = torch.stack([gramian_of(piece) for piece in gradients]).sum(0).cpu()
        if not gramian.isfinite().all():  # the solvers would stumble over it; the caller will find the NaN
            for total in combined:
                total.fill_(math.nan)
            return {}
        first, *others = self.weights(gramian).tolist()
        for piece, total in zip(gradients, combined, strict=True):
            torch.mul(piece[0], first, out=total)
            for gradient, weight in zip(piece[1:], others, strict=True):
                total.add_(gradient, alpha=weight)
        return self._curves(gramian)

    def weights(self, gramian: Tensor) -> Tensor:
        """Return the coefficients [tasks] of the combined gradient for a Gramian [tasks, tasks]."""
        # torchjd draws from torch's global generator; ours takes its place, so that dropout does not depend on
        # the method.
        with torch.random.fork_rng(devices=[]):
            torch.random.set_rng_state(self._generator.get_state())
            weights: Tensor = self._weighting(gramian.double())
            self._generator.set_state(torch.random.get_rng_state())
        total = float(weights.sum())
        return weights * (len(self.tasks) / total) if self._rescaled and total else weights

    def _curves(self, gramian: Tensor) -> dict[str, float]:
        norms = gramian.diagonal().clamp(min=0).sqrt()
        cosines = (gramian / (norms[:, None] * norms[None, :]).clamp(min=1e-30)).tolist()
        pairs = list(combinations(range(len(self.tasks)), 2))
        curves = {f"surgery/cosine.{self.tasks[a]}.{self.tasks[b]}": cosines[a][b] for a, b in pairs}
        return curves | {"surgery/projected": sum(value < 0 for value in curves.values()) / len(pairs)}

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs to go on exactly here."""
        return {"generator": self._generator.get_state(), "memory": dict(self._weighting.state_dict())}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._generator.set_state(state["generator"])
        self._weighting.load_state_dict(state["memory"])


def gramian_of(gradients: Tensor) -> Tensor:
    """Return gradients @ gradients.T for [tasks, params], by dot products: BLAS is slow at few, long rows."""
    tasks = range(len(gradients))
    dots = {(a, b): torch.dot(gradients[a], gradients[b]) for a in tasks for b in tasks if a <= b}
    return torch.stack([torch.stack([dots[min(a, b), max(a, b)] for b in tasks]) for a in tasks])
