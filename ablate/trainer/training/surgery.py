"""Gradient surgery on the shared encoder, computed on the T x T Gramian of the tasks' gradients.

Every method here returns a linear combination of the task gradients, so only coefficients need to be computed: a gradient of
millions of numbers is read twice, for the Gramian and for one weighted sum.

Scale: without surgery the encoder descends along the *sum* of the task gradients (all weights 1). The weights of methods that
return a mean, or have a scale of their own, are rescaled to sum to the number of tasks, so that all methods take steps of the
same size and none is confounded with a change of learning rate. PCGrad without a conflict is exactly the sum.

torchjd's other methods are left out: GradDrop and TrimmedMean work per coordinate and
need more than the Gramian, ExcessMTL keeps a second copy of the gradients, MoDo and
SDMGrad need two batches per step, and PCD needs a task that matters more than the others.
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
    CRMOGMWeighting,
    DualProjWeighting,
    FairGradWeighting,
    GradVacWeighting,
    IMTLGWeighting,
    KrumWeighting,
    MGDAWeighting,
    PCGradWeighting,
    RandomWeighting,
    UPGradWeighting,
    Weighting,
)
from torchjd.linalg import DualConeProjector

from ablate.trainer.training.gramian_solvers import OfGramian, cagrad, config, nash_mtl


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
    # Ban, Ji 2024; alpha 1 is proportional fairness, which is Nash-MTL's bargaining
    "fairgrad": (lambda tasks: FairGradWeighting(alpha=1.0), True),
    # Navon et al. 2022
    "nash_mtl": (lambda tasks: OfGramian(nash_mtl), True),
    # Liu et al. 2021
    "cagrad": (lambda tasks: OfGramian(cagrad), True),
    # Liu, Chu, Thuerey 2024
    "config": (lambda tasks: OfGramian(config), False),
    # Zhou et al. 2022: MGDA's weights, averaged over steps
    "cr_mogm": (lambda tasks: CRMOGMWeighting(MGDAWeighting(), 0.9, _sum(tasks) / tasks), True),
    # Lin et al. 2021: random weights, to compare others with
    "random": (lambda tasks: RandomWeighting(), True),
    # Blanchard et al. 2017: the gradient that is nearest to others
    "krum": (lambda tasks: KrumWeighting(n_byzantine=0), True),
}


class Surgeon:
    """Combines the tasks' gradients; holds the method's random generator and state.

    Args:
        method: a key of `FAMILY`.
        tasks: names, in the order of the rows of the gradients.
        seed: of the random order in which PCGrad and GradVac visit the tasks.
    """

    def __init__(self, method: str, tasks: Sequence[str], seed: int) -> None:
        build, self._rescaled = FAMILY[method]
        self.tasks = tuple(tasks)
        self._weighting = build(len(tasks))
        # Krum picks the one gradient that is nearest to the others, which must not be the stand-in for a gradient of 0.
        self._length_of_gaps = 1e3 if method == "krum" else 1.0
        self._generator = torch.Generator().manual_seed(seed)
        # Creates the method's state (GradVac's); orthogonal gradients leave it at 0.
        self.weights(torch.eye(len(tasks)))

    def combine(self, gradients: Sequence[Tensor], combined: Sequence[Tensor]) -> dict[str, float]:
        """Write the combination of the tasks' gradients to `combined`; return points of curves.

        Both consist of the same pieces: [tasks, numbers] in `gradients`, [numbers] in `combined`.

        A gradient that is not finite makes the combined one NaN and returns no points. The curves: `surgery/cosine.<a>.<b>` for
        each pair of tasks, and `surgery/projected`, the share of pairs in conflict (negative cosine), which PCGrad projects.
        """
        gramian = torch.stack([gramian_of(piece) for piece in gradients]).sum(0).cpu()
        # The solvers fail on such a Gramian. The caller recognises the case by the empty result.
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
        if not gramian.any():
            return _sum(len(self.tasks))
        # torchjd draws from torch's global generator. It is replaced
        # by ours here, so that dropout does not depend on the method.
        with torch.random.fork_rng(devices=[]):
            torch.random.set_rng_state(self._generator.get_state())
            weights: Tensor = self._weighting(_without_gaps(gramian.double(), self._length_of_gaps))
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


def _without_gaps(gramian: Tensor, length: float) -> Tensor:
    """Return a Gramian in which each gradient of 0 is replaced by one of `length` mean lengths, orthogonal to all others.

    A batch that has nothing to teach a task (`mnrl` without a positive) would otherwise look like an optimum of that task: the
    minimum norm is then 0, and the encoder would stand still for all tasks.
    """
    lengths = gramian.diagonal()
    gaps = lengths == 0
    return gramian + torch.diag(gaps * (length**2 * lengths.sum() / (~gaps).sum())) if gaps.any() else gramian


def gramian_of(gradients: Tensor) -> Tensor:
    """Return gradients @ gradients.T for [tasks, params], by dot products: BLAS is slow at few, long rows."""
    tasks = range(len(gradients))
    dots = {(a, b): torch.dot(gradients[a], gradients[b]) for a in tasks for b in tasks if a <= b}
    return torch.stack([torch.stack([dots[min(a, b), max(a, b)] for b in tasks]) for a in tasks])
