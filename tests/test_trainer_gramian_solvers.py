"""The weights that we solve for ourselves: each against what its paper asks of them, and torchjd where it can run."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torchjd.aggregation import CAGradWeighting, ConFIG, FairGradWeighting, NashMTL

from ablate.trainer.training.gramian_solvers import Array, cagrad, config, nash_mtl

SOLVERS: list[Callable[[Array], Array]] = [cagrad, nash_mtl, config]
SEEDS = range(8)


def gradients(seed: int, spread: float = 0.0) -> Array:
    """Return [2 to 5 tasks, 40] of which some conflict; their lengths span 10 ** (2 x spread)."""
    tasks = 2 + seed % 4
    drawn = np.random.default_rng(seed).normal(size=(tasks, 40))
    drawn -= 0.5 * np.roll(drawn, 1, axis=0)
    return drawn * np.logspace(-spread, spread, tasks)[:, None]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_cagrad_helps_the_worst_task_most_within_its_ball(seed: int, spread: float) -> None:
    """Equation (4) of the paper. No step of the ball does better than the dual's value at any w of the simplex: where a step
    reaches one of these values, both are optimal."""
    g = gradients(seed, spread)
    mean = g.mean(axis=0)
    step = cagrad(g @ g.T) @ g
    radius = 0.4 * np.linalg.norm(mean)
    assert np.linalg.norm(step - mean) == pytest.approx(radius, rel=1e-6)
    w = cagrad(g @ g.T) - 1 / len(g)
    g_w = (w / w.sum()) @ g
    bound = g_w @ mean + radius * np.linalg.norm(g_w)
    assert (g @ step).min() == pytest.approx(bound, rel=1e-3, abs=1e-5 * float(mean @ mean))


def test_cagrad_stands_still_where_no_step_helps_all() -> None:
    g = np.array([[1.0, 0.0], [-1.0, 0.0]])
    assert cagrad(g @ g.T).tolist() == [0, 0]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("spread", [0.0, 2.0])
def test_nash_mtl_solves_the_bargaining_equation(seed: int, spread: float) -> None:
    """G a = 1 / a, claim 3.1 of the paper."""
    g = gradients(seed, spread)
    a = nash_mtl(g @ g.T)
    assert a.min() > 0
    assert g @ g.T @ a * a == pytest.approx(np.ones(len(g)), rel=1e-8)


def test_nash_mtl_is_proportional_fairness() -> None:
    g = gradients(1)
    fair = FairGradWeighting(alpha=1.0)(torch.from_numpy(g @ g.T)).numpy()
    assert nash_mtl(g @ g.T) == pytest.approx(fair, rel=1e-3)


@pytest.mark.parametrize("seed", SEEDS)
def test_config_has_one_cosine_to_all_gradients_and_the_length_of_their_projections(seed: int) -> None:
    g = gradients(seed, 1.0)
    step = config(g @ g.T) @ g
    length = np.linalg.norm(step)
    cosines = g @ step / np.linalg.norm(g, axis=1) / length
    assert cosines == pytest.approx(np.full(len(g), cosines[0]))
    assert cosines[0] > 0
    assert length == pytest.approx((g @ step / length).sum())


@pytest.mark.parametrize("seed", SEEDS)
def test_config_is_torchjds(seed: int) -> None:
    g = gradients(seed, 1.0)
    assert config(g @ g.T) @ g == pytest.approx(ConFIG()(torch.from_numpy(g)).numpy())


@pytest.mark.parametrize("solve", SOLVERS)
def test_gradients_that_depend_on_each_other_give_finite_weights(solve: Callable[[Array], Array]) -> None:
    for g in (np.ones((3, 2)), np.array([[1.0, 2.0], [-2.0, -4.0], [1.0, 2.0]])):
        assert np.isfinite(solve(g @ g.T)).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_cagrad_and_nash_mtl_are_torchjds(seed: int) -> None:
    """Nash-MTL up to a factor (torchjd scales the Gramian), for gradients of like length, where torchjd's solver converges."""
    for package in ("cvxpy", "clarabel", "ecos"):
        pytest.importorskip(package, reason="an optional oracle, not a dependency")
    g = torch.from_numpy(np.random.default_rng(seed).normal(size=(2 + seed % 3, 40)))
    gramian = g @ g.T
    expected = CAGradWeighting(c=0.4, norm_eps=1e-8)(gramian).numpy()
    assert cagrad(gramian.numpy()) == pytest.approx(expected, rel=1e-3, abs=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = NashMTL(len(g), max_norm=0.0, optim_niter=100).weighting(g).numpy()
    ours = nash_mtl(gramian.numpy())
    assert ours / ours.sum() == pytest.approx(theirs / theirs.sum(), rel=1e-5)
