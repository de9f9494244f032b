from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from ablate.trainer.training.mixing import Mixture

SIZES = {"sentiment": 7, "paraphrase": 20, "similarity": 5}
BATCHES = {"sentiment": 2, "paraphrase": 2, "similarity": 2}


SAMPLED = ("proportional", "temperature", "annealed")


def mixture(mix: str = "longest", reshuffle: bool = True, seed: int = 3, **sizes: int) -> Mixture:
    return Mixture(sizes or SIZES, BATCHES, mix, reshuffle, seed, temperature=2.0, epochs=3)


def drawn(mixed: Mixture, epoch: int) -> list[float]:
    """Return how often each task is trained in an epoch, as a share."""
    begin = epoch * mixed.steps_per_epoch
    steps = range(begin, begin + mixed.steps_per_epoch)
    found = [next(iter(mixed.step(step))) for step in steps]
    return [found.count(task) / len(steps) for task in mixed.sizes]


def seen(mixed: Mixture, task: str, steps: Iterable[int]) -> list[int]:
    batches = [mixed.step(step).get(task, np.array([], int)) for step in steps]
    return [int(place) for place in np.concatenate(batches)]


@pytest.mark.parametrize(
    ("mix", "steps"),
    [("longest", 10), ("shortest", 3), *((mix, 4 + 10 + 3) for mix in ("alternate", *SAMPLED))],
)
def test_how_long_an_epoch_is(mix: str, steps: int) -> None:
    assert mixture(mix).steps_per_epoch == steps


def test_a_pass_sees_every_item_once() -> None:
    assert sorted(seen(mixture(), "sentiment", range(4))) == list(range(7))


def test_shorter_tasks_start_over_within_the_longest_ones_epoch() -> None:
    assert sorted(seen(mixture("longest"), "similarity", range(3, 6))) == list(range(5))


def test_longer_tasks_go_on_where_the_shortest_ones_epoch_cut_them() -> None:
    assert sorted(seen(mixture("shortest"), "paraphrase", range(10))) == list(range(20))


def test_alternate_sees_everything_once_in_an_epoch_and_one_task_in_a_step() -> None:
    mixed = mixture("alternate")
    for epoch in range(2):
        steps = range(epoch * mixed.steps_per_epoch, (epoch + 1) * mixed.steps_per_epoch)
        assert all(len(mixed.step(step)) == 1 for step in steps)
        assert {task: sorted(seen(mixed, task, steps)) for task in SIZES} == {
            t: list(range(n)) for t, n in SIZES.items()
        }


@pytest.mark.parametrize("mix", ["longest", "shortest", "alternate", *SAMPLED])
def test_examples_are_the_items_that_the_steps_take(mix: str) -> None:
    mixed = mixture(mix)
    for steps in range(1, 40):
        assert mixed.examples(steps) == {task: len(seen(mixed, task, range(steps))) for task in SIZES}


def test_reshuffle_gives_each_pass_its_own_order() -> None:
    mixed = mixture(reshuffle=True)
    assert seen(mixed, "sentiment", range(4)) != seen(mixed, "sentiment", range(4, 8))


def test_without_reshuffle_each_pass_has_the_first_ones_order() -> None:
    mixed, first = mixture(reshuffle=False), mixture(reshuffle=True)
    assert seen(mixed, "sentiment", range(4)) == seen(mixed, "sentiment", range(4, 8))
    assert seen(mixed, "sentiment", range(4)) == seen(first, "sentiment", range(4)) != list(range(7))


@pytest.mark.parametrize("mix", ["alternate", *SAMPLED])
def test_any_step_can_be_had_without_those_before(mix: str) -> None:
    walked = mixture(mix)
    for step in range(40):
        expected = walked.step(step)
        found = mixture(mix).step(step)
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[task], expected[task]) for task in found)


def test_a_tasks_order_depends_on_the_seed_and_not_on_its_company() -> None:
    alone = mixture(sentiment=7)
    assert seen(alone, "sentiment", range(4)) == seen(mixture(), "sentiment", range(4))
    assert seen(alone, "sentiment", range(4)) != seen(mixture(seed=4), "sentiment", range(4))


# Tasks are drawn about as often as the formulas say: within 4 standard errors of 5,600 steps. Sizes are 2,000, 8,000 and 1,200.
LARGE = {"sentiment": 2000, "paraphrase": 8000, "similarity": 1200}


@pytest.mark.parametrize(
    ("mix", "options", "exponents"),
    [
        ("proportional", {}, [1, 1]),
        ("temperature", {"temperature": 1.0}, [1, 1]),
        ("temperature", {"temperature": 2.0}, [1 / 2, 1 / 2]),
        ("temperature", {"temperature": 5.0}, [1 / 5, 1 / 5]),
        ("annealed", {"epochs": 2}, [1, 0.2]),
        ("annealed", {"epochs": 5}, [1, 0.8]),
        ("annealed", {"epochs": 1, "max_steps": 3 * 5600}, [1, 0.6]),
        ("annealed", {"epochs": 1}, [1]),
    ],
)
def test_tasks_are_drawn_in_proportion_to_a_power_of_their_size(
    mix: str, options: dict[str, Any], exponents: list[float]
) -> None:
    mixed = Mixture(LARGE, BATCHES, mix, True, 5, **options)
    for epoch, exponent in enumerate(exponents):
        powers = [size**exponent for size in LARGE.values()]
        for share, power in zip(drawn(mixed, epoch), powers, strict=True):
            p = power / sum(powers)
            assert abs(share - p) < 4 * (p * (1 - p) / 5600) ** 0.5


def test_a_smaller_batch_size_does_not_make_a_task_rarer() -> None:
    halved = Mixture({"a": 100, "b": 100}, {"a": 2, "b": 1}, "proportional", True, 5)
    assert halved.examples(150_000)["a"] == pytest.approx(halved.examples(150_000)["b"], rel=0.02)


@pytest.mark.parametrize("mix", SAMPLED)
def test_a_sampled_task_sees_every_item_before_it_sees_one_again(mix: str) -> None:
    mixed = mixture(mix)
    found = seen(mixed, "paraphrase", range(5 * mixed.steps_per_epoch))
    assert len(found) > 40
    assert sorted(found[:20]) == sorted(found[20:40]) == list(range(20))


@pytest.mark.parametrize("mix", SAMPLED)
def test_each_epoch_draws_anew_unless_it_repeats_the_first(mix: str) -> None:
    def turns(mixed: Mixture, epoch: int) -> list[str]:
        return [next(iter(mixed.step(epoch * 17 + place))) for place in range(17)]

    assert turns(mixture(mix), 0) != turns(mixture(mix), 1)
    if mix != "annealed":
        assert turns(mixture(mix, reshuffle=False), 0) == turns(mixture(mix, reshuffle=False), 1)
