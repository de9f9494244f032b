"""The weights of losses: each method against its paper's formulas, written out step by step, and in training."""

import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from fixture_types import not_none
from torch import Tensor, nn
from torchjd.scalarization import FAMO, UW
from trainer_context import Notebook, small

from ablate.contract import Stopped
from ablate.errors import TrialError
from ablate.trainer import Settings, train
from ablate.trainer.declared_tasks import DeclaredTask
from ablate.trainer.encoders.flat_parameters import Flat, Gradients
from ablate.trainer.encoders.generators import generators_of
from ablate.trainer.encoders.loading import Encoder
from ablate.trainer.encoders.padded import PaddedEncoder
from ablate.trainer.tasks.registry import TASKS
from ablate.trainer.training.balancing import (
    LOG_VARIANCES,
    Balancing,
    DynamicWeightAverage,
    Famo,
    Fixed,
    Uncertainty,
)
from ablate.trainer.training.loop import Training

NAMES = ("a", "b", "c")
TARGETS = torch.tensor([[1.0, -2.0], [0.5, 3.0], [-4.0, 0.0]], dtype=torch.float64)


def losses_at(x: Tensor, step: int = 0) -> dict[str, Tensor]:
    """Three losses of two parameters; those of a step have a factor of their own."""
    return {
        name: (1 + 0.1 * step * i) * ((x - target) ** 2).sum() / (i + 1)
        for i, (name, target) in enumerate(zip(NAMES, TARGETS, strict=True))
    }


def values(losses: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float(loss.detach()) for name, loss in losses.items()}


class Model:
    """Two parameters, descended by a method with plain steps of 0.01."""

    def __init__(self, method: Balancing) -> None:
        self.method, module = method, nn.Module()
        module.register_parameter("x", nn.Parameter(torch.zeros(2, dtype=torch.float64)))
        self.x, self.flat = module.get_parameter("x"), Flat(module)
        self.gradients = {"x": Gradients(self.flat)}
        self.gradients |= {name: Gradients(flat) for name, flat in method.flats.items()}
        self.flat.add_gradients_to(self.gradients["x"].places())

    def step(self, step: int) -> Tensor:
        """Take a step; return the gradient."""
        self.gradients["x"].clear()
        found = losses_at(self.x, step)
        self.method.total(found).backward()  # type: ignore[no-untyped-call]
        self.method.before_step({name: loss.detach() for name, loss in found.items()}, self.gradients)
        gradient = self.gradients["x"].dense[0].clone()
        self.x.data -= 0.01 * gradient
        self.method.after_step(values(found), lambda: values(losses_at(self.x, step)))
        return gradient


def weighted(x: Tensor, step: int, weights: Mapping[str, float]) -> Tensor:
    """The gradient at x of a weighted sum of the losses."""
    x = x.detach().clone().requires_grad_()
    sum(weights[name] * loss for name, loss in losses_at(x, step).items()).backward()  # type: ignore[union-attr]
    return not_none(x.grad)


def test_without_a_method_the_losses_are_summed_and_with_weights_of_ones_own_weighted() -> None:
    for method, weights in (
        (Balancing(), dict.fromkeys(NAMES, 1.0)),
        (Fixed(own := {"a": 2.0, "b": 0.5, "c": 1.0}), own),
    ):
        model = Model(method)
        expected = weighted(model.x, 0, weights)
        torch.testing.assert_close(model.step(0), expected)


def test_dwa_is_the_papers_formula() -> None:
    """Equation (7) of Liu et al. 2019, over epochs of three steps."""
    model, means = Model(DynamicWeightAverage(NAMES, 3)), list[dict[str, float]]()
    for epoch in range(5):
        weights, seen = dict.fromkeys(NAMES, 1.0), list[dict[str, float]]()
        if epoch >= 2:
            rates = {name: math.exp(means[-1][name] / means[-2][name] / 2) for name in NAMES}
            weights = {name: 3 * rate / sum(rates.values()) for name, rate in rates.items()}
        for step in range(3):
            expected = weighted(model.x, step, weights)
            seen.append(values(losses_at(model.x, step)))
            torch.testing.assert_close(model.step(step), expected)
        means.append({name: sum(losses[name] for losses in seen) / 3 for name in NAMES})
    assert max(abs(weight - 1) for weight in weights.values()) > 0.004  # they have moved


def test_dwa_takes_a_loss_of_0_for_one_that_stays() -> None:
    method = DynamicWeightAverage(("a", "b"), 1)
    for _ in range(2):
        method.after_step({"a": 0.0, "b": 1.0}, dict)
    assert method.weights() == {"a": 1.0, "b": 1.0}


KINDS: list[dict[str, Any]] = [
    {"kind": "pair_regression", "range": (0, 1)},
    {"kind": "classification", "labels": 3},
    {"kind": "pair_regression", "range": (0, 1), "head": "siamese", "loss": "cosine"},
]


def test_uncertainty_is_the_papers_formula() -> None:
    """Equations (7) and (10) of Kendall et al. 2018: L / (2 sigma^2) or L / sigma^2, + log sigma, with s = log sigma^2."""
    tasks = [DeclaredTask(**keys).task(name) for name, keys in zip(NAMES, KINDS, strict=True)]
    method = Uncertainty(tasks, torch.device("cpu"))
    method.flats[LOG_VARIANCES].values.copy_(torch.tensor([0.3, -1.0, 2.0]))
    s = method.flats[LOG_VARIANCES].values.double().requires_grad_()
    model = Model(method)
    x = model.x.detach().clone().requires_grad_()
    a, b, c = losses_at(x).values()
    sigma = (s / 2).exp()
    expected = a / (2 * sigma[0] ** 2) + b / sigma[1] ** 2 + c / (2 * sigma[2] ** 2) + sigma.log().sum()
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(model.step(0), not_none(x.grad), rtol=1e-6, atol=0)
    found = model.gradients[LOG_VARIANCES].dense[0].double()
    torch.testing.assert_close(found, not_none(s.grad), rtol=1e-6, atol=0)


def test_uncertainty_of_squared_errors_is_torchjds() -> None:
    squared = [DeclaredTask(**KINDS[0]).task(name) for name in NAMES]
    method, theirs = Uncertainty(squared, torch.device("cpu")), UW(3)
    model = Model(method)
    theirs(torch.stack([loss.detach() for loss in losses_at(model.x).values()])).backward()  # type: ignore[no-untyped-call]
    model.step(0)
    torch.testing.assert_close(model.gradients[LOG_VARIANCES].dense[0], not_none(theirs.log_var.grad))


def famo(steps: int) -> list[tuple[Tensor, Tensor]]:
    """Algorithm 1 of Liu et al. 2023 with its Adam (Kingma and Ba 2015) written out: (gradient, z) of each step."""
    x, w = torch.zeros(2, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    m, v, found = torch.zeros(3), torch.zeros(3), []
    for step in range(steps):
        z = w.exp() / w.exp().sum()
        before = list(values(losses_at(x, step)).values())
        c = 1 / sum(float(z[i]) / before[i] for i in range(3))
        weights = {name: 3 * c * float(z[i]) / before[i] for i, name in enumerate(NAMES)}
        gradient = weighted(x, step, weights)
        found.append((gradient, z))
        x = x - 0.01 * gradient
        after = list(values(losses_at(x, step)).values())
        delta = torch.tensor([math.log(old / new) for old, new in zip(before, after, strict=True)])
        jacobian = torch.diag(z) - torch.outer(z, z)
        slope = jacobian @ delta.double() + 1e-3 * w
        m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2
        w = w - 0.025 * (m / (1 - 0.9 ** (step + 1))) / ((v / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
    return found


def test_famo_is_the_papers_algorithm_at_the_scale_of_the_sum() -> None:
    model = Model(Famo(NAMES))
    for step, (gradient, z) in enumerate(famo(8)):
        assert list(model.method.weights().values()) == pytest.approx((3 * z).tolist(), rel=1e-6)
        torch.testing.assert_close(model.step(step), gradient, rtol=1e-6, atol=1e-9)
    assert (z - 1 / 3).abs().max() > 0.01


def test_famo_is_torchjds() -> None:
    model, theirs = Model(Famo(NAMES)), FAMO(3)
    x = model.x.detach().clone().requires_grad_()
    for step in range(5):
        x.grad = None
        theirs(torch.stack(list(losses_at(x, step).values())).float()).backward()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(model.step(step), 3 * not_none(x.grad), rtol=1e-4, atol=1e-6)
        x.data -= 0.01 * 3 * not_none(x.grad)
        theirs.update(torch.stack(list(losses_at(x, step).values())).detach().float())


# Training ----------------------------------------------------------------------------------------------------------

METHODS = ("uncertainty", "dwa", "famo")
SHORT: dict[str, Any] = {"max_steps": None, "epochs": 4, "mix": "shortest"}  # dwa begins with the third epoch


@pytest.fixture
def padded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ablate.trainer.encoders.loading._warm", {})
    monkeypatch.setattr("ablate.trainer.encoders.loading.unsupported", lambda config: "padded for once")


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_weights_are_points_of_curves_and_train_other_weights(method: str, tmp_path: Path) -> None:
    plain, balanced = Notebook(tmp_path / "plain"), Notebook(tmp_path / method)
    train(small(**SHORT), plain)
    train(small(**SHORT, balancing=method), balanced)
    assert balanced.weights != plain.weights
    curves = {task: list(balanced.curve(f"balancing/weight.{task}").values()) for task in TASKS}
    assert all(any(a != b for a, b in pairwise(curve)) for curve in curves.values())
    if method != "uncertainty":
        assert [sum(weights) for weights in zip(*curves.values(), strict=True)] == pytest.approx(
            [3] * len(curves["sentiment"])
        )
    assert not [name for _, point in plain.points for name in point if name.startswith("balancing")]


def test_log_variances_are_trained_at_the_rate_of_the_heads(tmp_path: Path) -> None:
    """Adam's first step has the length of its rate."""
    settings = small(
        balancing="uncertainty", max_steps=1, warmup=0.0, clip=0.0, lr={"heads": 0.01, "encoder": 1e-6}
    )
    stopped = Notebook(tmp_path, stop_after=1)
    with pytest.raises(Stopped):
        train(settings, stopped)
    s = stopped.state["balancing"]["log_variances"]
    assert s.abs().tolist() == pytest.approx([0.01] * 3, rel=1e-3)


def test_famo_measures_the_step_and_not_other_dropout(tmp_path: Path) -> None:
    training = Training(small(dropout=0.4), Notebook(tmp_path))
    batches, generators = training.stage.mixture.step(0), generators_of(training.device)
    found = values(training._descend(batches))
    following = torch.get_rng_state()
    assert training._losses_again(batches, generators) == pytest.approx(found, rel=1e-5)
    assert torch.equal(torch.get_rng_state(), following)


@pytest.mark.parametrize("method", METHODS)
def test_padded_encoders_are_balanced_alike(
    method: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    def gradient() -> tuple[Tensor, Encoder]:
        training = Training(small(dropout=0.0, balancing=method), Notebook(tmp_path))
        losses = training._descend(training.stage.mixture.step(0))
        training.balancing.before_step(losses, training.optimizer.gradients)
        return training.optimizer.gradients["encoder"].dense[0], training.encoder

    packed, _ = gradient()
    request.getfixturevalue("padded")
    found, encoder = gradient()
    assert isinstance(encoder.module, PaddedEncoder)
    # A padded encoder's table is among its other parameters.
    assert torch.allclose(found[-packed.numel() :], packed, atol=1e-5)


def test_a_loss_weight_multiplies_its_loss_and_a_task_alone_has_none(tmp_path: Path) -> None:
    def gradients(training: str = "joint", **weights: float) -> tuple[Tensor, Tensor]:
        kinds: dict[str, dict[str, Any]] = {
            "a": {"kind": "classification", "labels": 3},
            "b": {"kind": "regression", "range": [0, 5]},
        }
        tasks = {name: {**kind, "loss_weight": weights.get(name, 1.0)} for name, kind in kinds.items()}
        settings = Settings.model_validate(
            {"tasks": tasks, "training": training, "dropout": 0.0, "dense_size": 8, "max_length": 24}
        )
        built = Training(settings, Notebook(tmp_path))
        built._descend(built.stage.mixture.step(0))
        return built.optimizer.gradients["a"].dense[0], built.optimizer.gradients["encoder"].dense[0]

    plain, tripled, other = gradients(), gradients(a=3.0), gradients(b=2.0)
    torch.testing.assert_close(tripled[0], 3 * plain[0])
    torch.testing.assert_close(other[0], plain[0])
    # Of the encoder: g_a + g_b, 3 g_a + g_b, g_a + 2 g_b.
    torch.testing.assert_close(tripled[1] + 2 * other[1], 5 * plain[1], rtol=1e-4, atol=1e-6)
    alone = gradients("sequential", a=3.0), gradients("sequential")
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*alone, strict=True))


def test_a_loss_that_is_not_finite_after_the_step_is_an_error(tmp_path: Path) -> None:
    training = Training(small(balancing="famo"), Notebook(tmp_path))
    observe: Callable[..., None] = training.balancing.after_step

    def spoiled(losses: Mapping[str, float], again: Callable[[], Mapping[str, float]]) -> None:
        training.flats["similarity"].values.fill_(math.nan)
        observe(losses, again)

    training.balancing.after_step = spoiled  # type: ignore[method-assign]
    with pytest.raises(TrialError, match="step 1: train/similarity: the loss is nan"):
        training.run()
