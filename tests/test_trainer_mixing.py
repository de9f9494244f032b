from collections.abc import Iterable

import numpy as np
import pytest

from ablate.trainer.training.mixing import Mixture

SIZES = {"sentiment": 7, "paraphrase": 20, "similarity": 5}
BATCHES = {"sentiment": 2, "paraphrase": 2, "similarity": 2}


def mixture(mix: str = "longest", reshuffle: bool = True, seed: int = 3, **sizes: int) -> Mixture:
    return Mixture(sizes or SIZES, BATCHES, mix, reshuffle, seed)


def seen(mixed: Mixture, task: str, steps: Iterable[int]) -> list[int]:
    batches = [mixed.step(step).get(task, np.array([], int)) for step in steps]
    return [int(place) for place in np.concatenate(batches)]


@pytest.mark.parametrize(("mix", "steps"), [("longest", 10), ("shortest", 3), ("alternate", 4 + 10 + 3)])
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


@pytest.mark.parametrize("mix", ["longest", "shortest", "alternate"])
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


def test_any_step_can_be_had_without_those_before() -> None:
    walked = mixture("alternate")
    for step in range(40):
        expected = walked.step(step)
        found = mixture("alternate").step(step)
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[task], expected[task]) for task in found)


def test_a_tasks_order_depends_on_the_seed_and_not_on_its_company() -> None:
    alone = mixture(sentiment=7)
    assert seen(alone, "sentiment", range(4)) == seen(mixture(), "sentiment", range(4))
    assert seen(alone, "sentiment", range(4)) != seen(mixture(seed=4), "sentiment", range(4))
