import itertools
from collections.abc import Iterable, Sequence

import pytest
import torch
from torchjd.aggregation import MGDA, MGDAWeighting, PCGrad

from ablate.trainer.settings import Settings
from ablate.trainer.training.surgery import FAMILY, NonNegativeProjector, Surgeon

TASKS = ("a", "b", "c")


def gradients(seed: int = 0, params: int = 50, tasks: int = 3) -> torch.Tensor:
    """Return gradients [tasks, params] of which some conflict."""
    drawn = torch.randn(tasks, params, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn - 0.5 * drawn.roll(1, 0)


def combine(surgeon: Surgeon, grads: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the combined gradient and the points of curves. The gradients come in two pieces."""
    combined = torch.full_like(grads[0], 7.0)  # what stands there does not count
    half = grads.shape[1] // 2
    pieces = [grads[:, :half], grads[:, half:]], [combined[:half], combined[half:]]
    return combined, surgeon.combine(*pieces)


def pcgrad(grads: torch.Tensor, orders: Iterable[Sequence[int]]) -> torch.Tensor:
    """Algorithm 1 of Yu et al. 2020, with the order in which task i visits the others given."""
    total = torch.zeros_like(grads[0])
    for i, order in enumerate(orders):
        projected = grads[i].clone()
        for j in order:
            dot = projected @ grads[j]
            if j != i and dot < 0:
                projected -= dot / (grads[j] @ grads[j]) * grads[j]
        total += projected
    return total


def test_pcgrad_is_the_papers_algorithm_for_the_orders_it_drew() -> None:
    surgeon = Surgeon("pcgrad", TASKS, seed=5)
    generator = torch.Generator()
    generator.set_state(surgeon.state()["generator"])
    orders = [torch.randperm(3, generator=generator).tolist() for _ in TASKS]
    found, _ = combine(surgeon, gradients())
    assert torch.allclose(found, pcgrad(gradients(), orders), rtol=1e-12, atol=1e-12)


def test_pcgrad_with_two_tasks_equals_torchjds_own() -> None:
    found, _ = combine(Surgeon("pcgrad", TASKS[:2], seed=0), gradients(tasks=2))
    assert torch.allclose(found, PCGrad()(gradients(tasks=2)))


def test_the_order_matters_so_the_reference_is_not_blind() -> None:
    results = [pcgrad(gradients(), orders) for orders in itertools.product([(0, 1, 2), (2, 1, 0)], repeat=3)]
    assert max(torch.dist(results[0], other) for other in results) > 0.1


@pytest.mark.parametrize("method", [method for method in FAMILY if method not in ("random", "krum")])
def test_orthogonal_gradients_of_equal_length_are_summed(method: str) -> None:
    weights = Surgeon(method, TASKS, seed=0).weights(torch.eye(3))
    assert weights.tolist() == pytest.approx([1, 1, 1], abs=1e-3)


@pytest.mark.parametrize("method", ["pcgrad", "gradvac", "upgrad", "dualproj"])
def test_gradients_without_conflict_are_summed(method: str) -> None:
    gramian = torch.tensor([[4.0, 1.0, 0.5], [1.0, 1.0, 0.2], [0.5, 0.2, 2.0]])
    assert Surgeon(method, TASKS, seed=0).weights(gramian).tolist() == pytest.approx([1, 1, 1], abs=1e-6)


@pytest.mark.parametrize("method", ["upgrad", "dualproj", "mgda"])
def test_no_task_loses_by_a_small_step(method: str) -> None:
    found, _ = combine(Surgeon(method, TASKS, seed=0), gradients())
    assert (gradients() @ found).min() > -1e-2


def test_methods_that_average_are_brought_to_the_scale_of_the_sum() -> None:
    found, _ = combine(Surgeon("mgda", TASKS, seed=0), gradients())
    assert torch.allclose(found, 3 * MGDA()(gradients()), rtol=1e-3)


@pytest.mark.parametrize(
    "method",
    ["aligned_mtl", "mgda", "imtl_g", "fairgrad", "nash_mtl", "cagrad", "cr_mogm", "random", "krum"],
)
def test_methods_with_a_scale_of_their_own_are_brought_to_that_of_the_sum(method: str) -> None:
    weights = Surgeon(method, TASKS, seed=0).weights(torch.diag(torch.tensor([25.0, 1.0, 0.01])))
    assert float(weights.sum()) == pytest.approx(3)


def test_cr_mogm_averages_mgdas_weights_over_steps() -> None:
    """Equation (7) of Zhou et al. 2022, from equal weights on."""
    surgeon, expected = Surgeon("cr_mogm", TASKS, seed=0), torch.full((3,), 1 / 3, dtype=torch.float64)
    for step in range(4):
        gramian = gradients(step) @ gradients(step).T
        expected = 0.9 * expected + 0.1 * MGDAWeighting()(gramian)
        torch.testing.assert_close(surgeon.weights(gramian), 3 * expected)


def test_random_weights_are_softmaxed_normal_numbers_of_each_step() -> None:
    """Algorithm 2 of Lin et al. 2021."""
    surgeon = Surgeon("random", TASKS, seed=5)
    generator = torch.Generator()
    generator.set_state(surgeon.state()["generator"])
    for _ in range(2):
        drawn = torch.randn(3, generator=generator, dtype=torch.float64)
        torch.testing.assert_close(surgeon.weights(torch.eye(3)), 3 * torch.softmax(drawn, 0))


def test_krum_takes_the_gradient_that_is_nearest_to_another() -> None:
    near = torch.tensor([[1.0, 0.0], [1.1, 0.1], [-5.0, 3.0]])
    weights = Surgeon("krum", TASKS, seed=0).weights(near @ near.T)
    assert sorted(weights.tolist()) == [0, 0, 3]
    assert weights[2] == 0


def test_krum_takes_no_gradient_of_0() -> None:
    gradients = torch.tensor([[0.0, 0, 0], [1, 0.2, 0], [-1, 0.2, 0]])
    assert Surgeon("krum", TASKS, seed=0).weights(gradients @ gradients.T)[0] == 0


def test_the_projector_solves_its_quadratic_program() -> None:
    gramian = gradients() @ gradients().T
    wanted = torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64)
    found = NonNegativeProjector()(wanted, gramian)
    slack, slope = found - wanted, gramian @ found
    assert slack.min() >= 0  # feasible
    assert slope.min() > -1e-9  # no direction leads down
    assert abs(slack @ slope) < 1e-9  # a constraint is tight, or its slope is zero


def test_dropout_does_not_depend_on_the_surgery() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    combine(Surgeon("pcgrad", TASKS, seed=0), gradients())
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("method", FAMILY)
def test_goes_on_from_its_state_to_the_bit(method: str) -> None:
    first, second = Surgeon(method, TASKS, seed=1), Surgeon(method, TASKS, seed=2)
    for step in range(3):
        combine(first, gradients(step))
    second.restore(first.state())
    for step in range(3, 9):
        assert torch.equal(combine(first, gradients(step))[0], combine(second, gradients(step))[0])


def test_curves_say_the_cosines_and_the_share_in_conflict() -> None:
    _, curves = combine(Surgeon("pcgrad", TASKS, seed=0), torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 3.0]]))
    assert curves == {
        "surgery/cosine.a.b": 0,
        "surgery/cosine.a.c": pytest.approx(-(0.5**0.5)),
        "surgery/cosine.b.c": pytest.approx(0.5**0.5),
        "surgery/projected": pytest.approx(1 / 3),
    }


def test_a_vanished_gradient_is_no_conflict() -> None:
    found, curves = combine(
        Surgeon("pcgrad", TASKS, seed=0), torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    )
    assert found.tolist() == [2.0, 1.0]
    assert curves["surgery/projected"] == 0


@pytest.mark.parametrize("method", [method for method in FAMILY if method not in ("random", "krum")])
def test_a_task_without_a_gradient_does_not_hold_up_the_others(method: str) -> None:
    """As `mnrl` has none in a batch without a positive."""
    weights = Surgeon(method, TASKS, seed=0).weights(torch.diag(torch.tensor([1.0, 0.0, 1.0])))
    assert weights.tolist() == pytest.approx([1, 1, 1], abs=1e-3)


@pytest.mark.parametrize("method", FAMILY)
def test_gradients_that_all_vanished_are_no_error(method: str) -> None:
    assert Surgeon(method, TASKS, seed=0).weights(torch.zeros(3, 3)).isfinite().all()


def test_every_method_is_a_setting() -> None:
    assert set(FAMILY) == set(Settings.model_json_schema()["properties"]["surgery"]["enum"]) - {"none"}
