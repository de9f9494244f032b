"""Gradient surgery on the shared encoder, computed on the T x T Gramian of the tasks' gradients.

Every method here returns a linear combination of the task gradients, so only coefficients need to be computed: a gradient of
millions of numbers is read twice, for the Gramian and for one weighted sum.

Scale: without surgery the encoder descends along the *sum* of the task gradients (all weights 1). The weights of methods that
return a mean, or have a scale of their own, are rescaled to sum to the number of tasks, so that all methods take steps of the
same size and none is confounded with a change of learning rate. PCGrad without a conflict is exactly the sum.
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

    min vᵀGv over v ≥ u is min |L(u + w)|² over w ≥ 0 with G = LᵀL (Lawson and Hanson 1974). torchjd's own projector needs
    quadprog, which is GPL.
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


# name -> (weighting for T tasks, whether its weights are rescaled to sum to T)
FAMILY: dict[str, tuple[Callable[[int], Weighting[Any]], bool]] = {
    # Yu et al. 2020
    "pcgrad": (lambda tasks: PCGradWeighting(), False),
    # Wang et al. 2021
    "gradvac": (lambda tasks: GradVacWeighting(), False),
    # Quinton, Rey 2024
    "upgrad": (lambda tasks: UPGradWeighting(_sum(tasks), NonNegativeProjector()), False),
    # Lopez-Paz 2017
    "dualproj": (lambda tasks: DualProjWeighting(_sum(tasks), NonNegativeProjector()), False),
    # Senushkin et al. 2023
    "aligned_mtl": (lambda tasks: AlignedMTLWeighting(_sum(tasks)), True),
    # Désidéri 2012; Sener, Koltun 2018
    "mgda": (lambda tasks: MGDAWeighting(), True),
    # Liu et al. 2021
    "imtl_g": (lambda tasks: IMTLGWeighting(), True),
    # Ban, Ji 2024; alpha 1 is proportional fairness
    "fairgrad": (lambda tasks: FairGradWeighting(alpha=1.0), True),
}


class Surgeon:
    """Combines the tasks' gradients; holds the method's random generator and memory.

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
        # Creates a method's memory (GradVac's): orthogonal gradients leave it at 0.
        self.weights(torch.eye(len(tasks)))

    def combine(self, gradients: Sequence[Tensor], combined: Sequence[Tensor]) -> dict[str, float]:
        """Write the combination of the tasks' gradients to `combined`; return points of curves.

        Both come in the same pieces: [tasks, numbers] of `gradients`, [numbers] of `combined`.

        A gradient that is not finite makes the combined one NaN and returns no points. The curves: `surgery/cosine.<a>.<b>` for
        each pair of tasks, and `surgery/projected`, the share of pairs in conflict (negative cosine), which PCGrad projects.
        """
        gramian = torch.stack([gramian_of(piece) for piece in gradients]).sum(0).cpu()
        # The solvers would fail on it. The caller recognises the case by the empty result.
        if not gramian.isfinite().all():
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
        # torchjd draws from torch's global generator. Ours takes its place here, so that dropout does not depend on the method.
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
        """Return what `restore` needs to continue from here."""
        return {"generator": self._generator.get_state(), "memory": dict(self._weighting.state_dict())}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from where `state` was taken."""
        self._generator.set_state(state["generator"])
        self._weighting.load_state_dict(state["memory"])


def gramian_of(gradients: Tensor) -> Tensor:
    """Return gradients @ gradients.T for [tasks, params], by dot products: BLAS is slow at few, long rows."""
    tasks = range(len(gradients))
    dots = {(a, b): torch.dot(gradients[a], gradients[b]) for a in tasks for b in tasks if a <= b}
    return torch.stack([torch.stack([dots[min(a, b), max(a, b)] for b in tasks]) for a in tasks])
