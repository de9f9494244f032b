import itertools
from collections.abc import Iterable, Iterator, Sequence

import pytest
import torch
from torch import nn
from torchjd.aggregation import MGDA, PCD, ExcessMTL, GradDrop, MGDAWeighting, PCGrad, TrimmedMean

from ablate.trainer.encoders.flat_parameters import Flat, Gradients
from ablate.trainer.settings import Settings
from ablate.trainer.training.surgery import COORDINATEWISE, FAMILY, NonNegativeProjector, Surgeon, Weighted

TASKS = ("a", "b", "c")
METHODS = (*FAMILY, *COORDINATEWISE)


def gradients(seed: int = 0, params: int = 50, tasks: int = 3) -> torch.Tensor:
    """Return gradients [tasks, params] of which some conflict."""
    drawn = torch.randn(tasks, params, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn - 0.5 * drawn.roll(1, 0)


def encoder(params: int = 50) -> Flat:
    """Return parameters of which half are the rows of a table, which has three more that are in no text."""
    module, words = nn.Module(), params // 2
    for name, size in {"table": (words + 3, 1), "others": (params - words,)}.items():
        module.register_parameter(name, nn.Parameter(torch.zeros(size, dtype=torch.float64)))
    return Flat(module, module.get_parameter("table"))


def combine(surgeon: Surgeon, grads: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the combined gradient and the points of curves, for gradients in the two pieces in which the trainer has them."""
    flat, words = encoder(grads.shape[1]), grads.shape[1] // 2
    apart, combined = Gradients(flat, surgeon.tasks), Gradients(flat)
    used = grads[:, :words].any(0).nonzero().flatten()
    for found in (apart, combined):
        found.read_rows(used + 2)
    apart.rows[:, :, 0], apart.dense[:] = grads[:, used], grads[:, words:]
    combined.rows.fill_(7)  # what stands there does not count
    curves = surgeon.combine(apart, combined)
    of_words = grads.new_zeros(words).index_copy(0, used, combined.rows[0, :, 0].to(grads.dtype))
    return torch.cat([of_words, combined.dense[0].to(grads.dtype)]), curves


def surgeon_of(method: str, tasks: Sequence[str] = TASKS, seed: int = 0) -> Surgeon:
    return Surgeon(method, encoder(), tasks, seed, tasks[1] if method == "pcd" else None)


def weights_of(method: str, gramian: torch.Tensor) -> torch.Tensor:
    return Weighted(method, len(gramian), seed=0).weights(gramian)


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
    surgeon = surgeon_of("pcgrad", seed=5)
    generator = torch.Generator()
    generator.set_state(surgeon.state()["generator"])
    orders = [torch.randperm(3, generator=generator).tolist() for _ in TASKS]
    found, _ = combine(surgeon, gradients())
    assert torch.allclose(found, pcgrad(gradients(), orders), rtol=1e-12, atol=1e-12)


def test_pcgrad_with_two_tasks_equals_torchjds_own() -> None:
    found, _ = combine(surgeon_of("pcgrad", TASKS[:2]), gradients(tasks=2))
    assert torch.allclose(found, PCGrad()(gradients(tasks=2)))


def test_the_order_matters_so_the_reference_is_not_blind() -> None:
    results = [pcgrad(gradients(), orders) for orders in itertools.product([(0, 1, 2), (2, 1, 0)], repeat=3)]
    assert max(torch.dist(results[0], other) for other in results) > 0.1


@pytest.mark.parametrize("method", [method for method in FAMILY if method not in ("random", "krum", "pcd")])
def test_orthogonal_gradients_of_equal_length_are_summed(method: str) -> None:
    weights = weights_of(method, torch.eye(3))
    assert weights.tolist() == pytest.approx([1, 1, 1], abs=1e-3)


@pytest.mark.parametrize("method", ["pcgrad", "gradvac", "upgrad", "dualproj"])
def test_gradients_without_conflict_are_summed(method: str) -> None:
    gramian = torch.tensor([[4.0, 1.0, 0.5], [1.0, 1.0, 0.2], [0.5, 0.2, 2.0]])
    assert weights_of(method, gramian).tolist() == pytest.approx([1, 1, 1], abs=1e-6)


@pytest.mark.parametrize("method", ["upgrad", "dualproj", "mgda"])
def test_no_task_loses_by_a_small_step(method: str) -> None:
    found, _ = combine(surgeon_of(method), gradients())
    assert (gradients() @ found).min() > -1e-2


def test_methods_that_average_are_brought_to_the_scale_of_the_sum() -> None:
    found, _ = combine(surgeon_of("mgda"), gradients())
    assert torch.allclose(found, 3 * MGDA()(gradients()), rtol=1e-3)


@pytest.mark.parametrize(
    "method",
    ["aligned_mtl", "mgda", "imtl_g", "fairgrad", "nash_mtl", "cagrad", "cr_mogm", "random", "krum", "pcd"],
)
def test_methods_with_a_scale_of_their_own_are_brought_to_that_of_the_sum(method: str) -> None:
    weights = weights_of(method, torch.diag(torch.tensor([25.0, 1.0, 0.01])))
    assert float(weights.sum()) == pytest.approx(3)


def test_cr_mogm_averages_mgdas_weights_over_steps() -> None:
    """Equation (7) of Zhou et al. 2022, from equal weights on."""
    method, expected = Weighted("cr_mogm", 3, seed=0), torch.full((3,), 1 / 3, dtype=torch.float64)
    for step in range(4):
        gramian = gradients(step) @ gradients(step).T
        expected = 0.9 * expected + 0.1 * MGDAWeighting()(gramian)
        torch.testing.assert_close(method.weights(gramian), 3 * expected)


def test_random_weights_are_softmaxed_normal_numbers_of_each_step() -> None:
    """Algorithm 2 of Lin et al. 2021."""
    method = Weighted("random", 3, seed=5)
    generator = torch.Generator()
    generator.set_state(method.state()["generator"])
    for _ in range(2):
        drawn = torch.randn(3, generator=generator, dtype=torch.float64)
        torch.testing.assert_close(method.weights(torch.eye(3)), 3 * torch.softmax(drawn, 0))


def test_krum_takes_the_gradient_that_is_nearest_to_another() -> None:
    near = torch.tensor([[1.0, 0.0], [1.1, 0.1], [-5.0, 3.0]])
    weights = weights_of("krum", near @ near.T)
    assert sorted(weights.tolist()) == [0, 0, 3]
    assert weights[2] == 0


def test_krum_takes_no_gradient_of_0() -> None:
    gradients = torch.tensor([[0.0, 0, 0], [1, 0.2, 0], [-1, 0.2, 0]])
    assert weights_of("krum", gradients @ gradients.T)[0] == 0


def test_pcd_is_the_papers_solution_for_two_tasks_on_the_scale_of_the_sum() -> None:
    """Varam and AlHajri 2026, tau = 0.02: d = g1 + max(0, tau - g1.g2 / |g2|^2) g2, of gradients over their mean lengths."""
    surgeon, averages, turned = surgeon_of("pcd", TASKS[:2]), torch.zeros(2, dtype=torch.float64), 0
    for step in range(1, 7):
        found = gradients(step, tasks=2)
        found[0] *= (-1) ** step
        averages = 0.999 * averages + 0.001 * found.square().sum(1)
        scales = 1 / (averages / (1 - 0.999**step) + 1e-8).sqrt()
        # The main task is the second.
        second, first = found * scales[:, None]
        push = max(0.0, 0.02 - float(first @ second / (second @ second)))
        weights = torch.stack([push * scales[0], scales[1]])
        torch.testing.assert_close(combine(surgeon, found)[0], 2 / weights.sum() * weights @ found)
        turned += push > 0
    assert 0 < turned < 6


def test_pcd_with_three_tasks_has_the_direction_of_torchjds_own() -> None:
    surgeon, theirs = surgeon_of("pcd"), PCD()
    for step in range(4):
        found, expected = combine(surgeon, gradients(step))[0], theirs(gradients(step)[[1, 0, 2]])
        torch.testing.assert_close(found / found.norm(), expected / expected.norm())


def drawn_by(surgeon: Surgeon) -> torch.Tensor:
    """Return what GradDrop will draw for 50 coordinates: first for those beside the table."""
    generator = torch.Generator()
    generator.set_state(surgeon.state()["generator"])
    return torch.rand(50, generator=generator, dtype=torch.float64).roll(25)


def test_graddrop_is_the_papers_algorithm_for_the_numbers_it_drew() -> None:
    """Algorithm 1 of Chen et al. 2020, without leaks."""
    surgeon = surgeon_of("graddrop", seed=5)
    for step in range(3):
        grads, drawn = gradients(step), drawn_by(surgeon)
        purity = 0.5 * (1 + grads.sum(0) / grads.abs().sum(0))
        kept = ((purity > drawn) & (grads > 0)) | ((purity < drawn) & (grads < 0))
        torch.testing.assert_close(combine(surgeon, grads)[0], (kept * grads).sum(0))


def test_graddrop_equals_torchjds_own() -> None:
    surgeon = surgeon_of("graddrop", seed=5)
    torch.random.set_rng_state(surgeon.state()["generator"])
    expected = GradDrop()(gradients().roll(25, 1)).roll(25)
    torch.testing.assert_close(combine(surgeon, gradients())[0], expected)


def test_graddrop_has_the_sum_as_its_expectation() -> None:
    one = torch.tensor([[3.0], [-1.0], [-0.5]], dtype=torch.float64)
    found, _ = combine(surgeon_of("graddrop"), one.expand(3, 100_000))
    assert set(found.tolist()) == {-1.5, 3.0}
    assert float(found.mean()) == pytest.approx(1.5, abs=0.03)


def test_graddrop_without_a_conflict_is_exactly_the_sum() -> None:
    signs = gradients(1).sign()[:1]
    agreeing = gradients().abs() * signs
    assert torch.equal(combine(surgeon_of("graddrop"), agreeing)[0], agreeing.sum(0))


def test_what_graddrop_draws_does_not_depend_on_threads() -> None:
    before, found = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        found.append(combine(surgeon_of("graddrop"), gradients(params=200_000))[0])
    torch.set_num_threads(before)
    assert torch.equal(*found)


@pytest.mark.parametrize("tasks", [3, 4, 6])
def test_trimmed_mean_drops_the_smallest_and_the_largest_value(tasks: int) -> None:
    """Definition 2 of Yin et al. 2018, one value from each end, on the scale of the sum."""
    grads, names = gradients(tasks=tasks), [f"task {i}" for i in range(tasks)]
    found, _ = combine(surgeon_of("trimmed_mean", names), grads)
    columns = [sorted(column)[1:-1] for column in grads.T.tolist()]
    assert found.tolist() == pytest.approx([tasks * sum(kept) / len(kept) for kept in columns], abs=1e-12)
    torch.testing.assert_close(found, tasks * TrimmedMean(1)(grads))


def test_trimmed_mean_takes_no_gradient_of_0() -> None:
    grads = gradients(tasks=4)
    grads[2] = 0
    found, _ = combine(surgeon_of("trimmed_mean", ("a", "b", "c", "d")), grads)
    torch.testing.assert_close(found, 3 * TrimmedMean(1)(grads[[0, 1, 3]]))


def batches(steps: int) -> Iterator[torch.Tensor]:
    """Yield gradients [tasks, params], each of other words; the tasks' lengths change at different rates."""
    growth = torch.tensor([[1.0], [0.3], [2.0]])
    for step in range(steps):
        used = torch.rand(50, generator=torch.Generator().manual_seed(step)) < 0.6
        yield gradients(step) * growth**step * used


def test_excess_mtl_is_the_papers_formula() -> None:
    """Equations (6), (7) and (9) of He et al. 2024, with risks over those of the first step."""
    surgeon, shares = surgeon_of("excess_mtl"), torch.full((3,), 1 / 3, dtype=torch.float64)
    squares, first = torch.zeros(3, 50, dtype=torch.float64), None
    for grads in batches(5):
        squares += grads**2
        risks = (grads**2 / (squares + 1e-7).sqrt()).sum(1)
        first = risks if first is None else first
        shares = shares * torch.exp(0.01 * risks / first)
        shares /= shares.sum()
        torch.testing.assert_close(combine(surgeon, grads)[0], 3 * shares @ grads)
    assert (shares - 1 / 3).abs().max() > 1e-3  # they have moved


def test_excess_mtl_equals_torchjds_own() -> None:
    surgeon, theirs = surgeon_of("excess_mtl"), ExcessMTL(robust_step_size=0.01, n_warmup_steps=1)
    for grads in batches(5):
        torch.testing.assert_close(combine(surgeon, grads)[0], 3 * theirs(grads))


def test_excess_mtl_measures_a_task_from_the_first_step_that_has_a_gradient_of_it() -> None:
    surgeon, late = surgeon_of("excess_mtl"), torch.tensor([[1.0], [0.0], [1.0]])
    for grads in (gradients() * late, gradients(1), gradients(2)):
        found, _ = combine(surgeon, grads)
    weights = torch.linalg.lstsq(gradients(2).T, found).solution
    assert weights.tolist() == pytest.approx([1, 1, 1], abs=0.02)


@pytest.mark.parametrize("method", COORDINATEWISE)
def test_the_same_gradient_of_all_tasks_is_summed(method: str) -> None:
    surgeon = surgeon_of(method)
    for step in range(3):
        torch.testing.assert_close(combine(surgeon, gradients(step)[[0, 0, 0]])[0], 3 * gradients(step)[0])


def test_the_projector_solves_its_quadratic_program() -> None:
    gramian = gradients() @ gradients().T
    wanted = torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64)
    found = NonNegativeProjector()(wanted, gramian)
    slack, slope = found - wanted, gramian @ found
    assert slack.min() >= 0  # feasible
    assert slope.min() > -1e-9  # no direction leads down
    assert abs(slack @ slope) < 1e-9  # a constraint is tight, or its slope is zero


@pytest.mark.parametrize("method", ["pcgrad", "graddrop"])
def test_dropout_does_not_depend_on_the_surgery(method: str) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    combine(surgeon_of(method), gradients())
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("method", METHODS)
def test_goes_on_from_its_state_to_the_bit(method: str) -> None:
    first, second = surgeon_of(method, seed=1), surgeon_of(method, seed=2)
    for step in range(3):
        combine(first, gradients(step))
        combine(second, gradients(step + 10))
    second.restore(first.state())
    for step in range(3, 9):
        assert torch.equal(combine(first, gradients(step))[0], combine(second, gradients(step))[0])


def test_curves_say_the_cosines_and_the_share_in_conflict() -> None:
    _, curves = combine(surgeon_of("pcgrad"), torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 3.0]]))
    assert curves == {
        "surgery/cosine.a.b": 0,
        "surgery/cosine.a.c": pytest.approx(-(0.5**0.5)),
        "surgery/cosine.b.c": pytest.approx(0.5**0.5),
        "surgery/projected": pytest.approx(1 / 3),
    }


def test_a_vanished_gradient_is_no_conflict() -> None:
    found, curves = combine(surgeon_of("pcgrad"), torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]))
    assert found.tolist() == [2.0, 1.0]
    assert curves["surgery/projected"] == 0


@pytest.mark.parametrize("method", [method for method in FAMILY if method not in ("random", "krum", "pcd")])
def test_a_task_without_a_gradient_does_not_hold_up_the_others(method: str) -> None:
    """As `mnrl` has none in a batch without a positive."""
    weights = weights_of(method, torch.diag(torch.tensor([1.0, 0.0, 1.0])))
    assert weights.tolist() == pytest.approx([1, 1, 1], abs=1e-3)


@pytest.mark.parametrize("method", COORDINATEWISE)
def test_nor_does_it_where_the_method_looks_at_each_coordinate(method: str) -> None:
    found, _ = combine(surgeon_of(method), torch.eye(3, 50) * torch.tensor([[1.0], [0.0], [1.0]]))
    assert found.tolist() == pytest.approx([1, 0, 1] + [0] * 47, abs=0.01)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_that_all_vanished_are_no_error(method: str) -> None:
    assert not combine(surgeon_of(method), torch.zeros(3, 50))[0].any()


def test_every_method_is_a_setting() -> None:
    assert set(METHODS) == set(Settings.model_json_schema()["properties"]["surgery"]["enum"]) - {"none"}
