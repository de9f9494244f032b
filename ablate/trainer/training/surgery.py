"""Gradient surgery: how the tasks' gradients on the shared encoder are combined, and how far they agree.

Most methods return a linear combination with coefficients from the T x T Gramian of the gradients: a gradient of millions of
numbers is read twice, for the Gramian and for one weighted sum. `coordinate_surgery` has those that need more.

Scale: without surgery the encoder descends along the *sum* of the task gradients (all weights 1). The weights of methods that
return a mean, or have a scale of their own, are rescaled to sum to the number of tasks, so that all methods take steps of the
same size and none is confounded with a change of learning rate. PCGrad without a conflict is exactly the sum.

torchjd's MoDo and SDMGrad are left out: their weights come from the products of gradients of two independent batches, so each
step would need a second or third pass through the encoder, and a trial would see two or three times the data of the others.
"""

import math
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any, Protocol

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
    PCDWeighting,
    PCGradWeighting,
    RandomWeighting,
    UPGradWeighting,
    Weighting,
)
from torchjd.linalg import DualConeProjector

from ablate.trainer.encoders.flat_parameters import Flat, Gradients
from ablate.trainer.training.coordinate_surgery import ExcessMTL, GradDrop, TrimmedMean
from ablate.trainer.training.gramian_solvers import OfGramian, cagrad, config, nash_mtl


class Method(Protocol):
    """One way to combine the tasks' gradients, with its state."""

    def combine(self, gradients: Gradients, gramian: Tensor, combined: Gradients) -> None:
        """Write the combination of `gradients` to `combined`. Their Gramian [tasks, tasks] is finite and on the CPU."""

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs to continue from here."""

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from where `state` was taken."""


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
    # Varam, AlHajri 2026: the first gradient, changed as little as possible so that no other loss rises
    "pcd": (lambda tasks: PCDWeighting(), True),
}

# name -> method that needs more than the Gramian
COORDINATEWISE: dict[str, Callable[[Flat, Sequence[str], int], Method]] = {
    # Chen et al. 2020
    "graddrop": lambda flat, tasks, seed: GradDrop(flat.values.device, seed),
    # Yin et al. 2018
    "trimmed_mean": lambda flat, tasks, seed: TrimmedMean(),
    # He et al. 2024
    "excess_mtl": lambda flat, tasks, seed: ExcessMTL(flat, tasks),
}


class Surgeon:
    """Combines the tasks' gradients, and says how they agree.

    Args:
        method: a key of `FAMILY` or `COORDINATEWISE`.
        flat: the parameters of the encoder that are trained.
        tasks: names, in the order of the owners of the gradients.
        seed: of what the method draws, such as the order in which PCGrad visits the tasks.
        main_task: the task that `pcd` puts first.
    """

    def __init__(
        self, method: str, flat: Flat, tasks: Sequence[str], seed: int, main_task: str | None = None
    ) -> None:
        self.tasks = tuple(tasks)
        main = self.tasks.index(main_task) if main_task else 0
        build = COORDINATEWISE.get(method)
        self._method: Method = build(flat, tasks, seed) if build else Weighted(method, len(tasks), seed, main)

    def combine(self, gradients: Gradients, combined: Gradients) -> dict[str, float]:
        """Write the combination of the tasks' gradients to `combined`, which has the same words; return points of curves.

        A gradient that is not finite makes the combined one NaN and returns no points. The curves: `surgery/cosine.<a>.<b>` for
        each pair of tasks, and `surgery/projected`, the share of pairs in conflict (negative cosine), which PCGrad projects.
        """
        gramian = torch.stack([gramian_of(piece) for piece in gradients.pieces()]).sum(0).cpu()
        # The solvers fail on such a Gramian. The caller recognises the case by the empty result.
        if not gramian.isfinite().all():
            for piece in combined.pieces():
                piece.fill_(math.nan)
            return {}
        self._method.combine(gradients, gramian, combined)
        return self._curves(gramian)

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs to continue from here."""
        return self._method.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from where `state` was taken."""
        self._method.restore(state)

    def _curves(self, gramian: Tensor) -> dict[str, float]:
        norms = gramian.diagonal().clamp(min=0).sqrt()
        cosines = (gramian / (norms[:, None] * norms[None, :]).clamp(min=1e-30)).tolist()
        pairs = list(combinations(range(len(self.tasks)), 2))
        curves = {f"surgery/cosine.{self.tasks[a]}.{self.tasks[b]}": cosines[a][b] for a, b in pairs}
        return curves | {"surgery/projected": sum(value < 0 for value in curves.values()) / len(pairs)}


class Weighted:
    """A linear combination with weights from the Gramian; holds the method's random generator and state.

    Args:
        method: a key of `FAMILY`.
        tasks: how many.
        seed: of the generator.
        main: number of the task that `pcd` puts first.
    """

    def __init__(self, method: str, tasks: int, seed: int, main: int = 0) -> None:
        build, self._rescaled = FAMILY[method]
        self._weighting = build(tasks)
        # Krum picks the one gradient that is nearest to the others, which must not be the stand-in for a gradient of 0.
        self._length_of_gaps = 1e3 if method == "krum" else 1.0
        self._order = torch.arange(tasks)
        self._order[0], self._order[main] = main, 0
        self._generator = torch.Generator().manual_seed(seed)
        # Creates the method's state (GradVac's); orthogonal gradients leave it at 0.
        self.weights(torch.eye(tasks))
        if method == "pcd":
            # PCD's state does not stay at 0: averages of squared lengths, and their number.
            for buffer in self._weighting.buffers():
                buffer.zero_()

    def combine(self, gradients: Gradients, gramian: Tensor, combined: Gradients) -> None:
        """Write the weighted sum."""
        gradients.weighted_sum(self.weights(gramian).tolist(), combined)

    def weights(self, gramian: Tensor) -> Tensor:
        """Return the coefficients [tasks] of the combined gradient for a Gramian [tasks, tasks]."""
        tasks = len(self._order)
        if not gramian.any():
            return _sum(tasks)
        whole = _without_gaps(gramian.double(), self._length_of_gaps)
        ordered = whole.index_select(0, self._order).index_select(1, self._order)
        # torchjd draws from torch's global generator. It is replaced
        # by ours here, so that dropout does not depend on the method.
        with torch.random.fork_rng(devices=[]):
            torch.random.set_rng_state(self._generator.get_state())
            weights: Tensor = self._weighting(ordered)[self._order]
            self._generator.set_state(torch.random.get_rng_state())
        total = float(weights.sum())
        return weights * (tasks / total) if self._rescaled and total else weights

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
