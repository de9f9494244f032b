"""Seeds that are added after looks: what a study file may say of them."""

import pytest
from fixture_types import not_none

from ablate.spec.model import StudySpec
from ablate.spec.reading import parse_study
from ablate.spec.seeds import MAX_SEED, default_looks, further_seeds

STUDY = """\
study: s
trainer: my_trainer
factors: {{lr: [0.1, 1.0]}}
baseline: {{lr: 0.1}}
design: one_at_a_time
seeds: {seeds}
metric: {{name: dev/accuracy}}
"""


def study(seeds: str) -> StudySpec:
    return parse_study(STUDY.format(seeds=seeds))


def test_a_list_of_seeds_has_no_looks() -> None:
    spec = study("[11, 22, 33]")
    assert (spec.seeds, spec.looking) == ((11, 22, 33), None)


def test_a_plan_names_all_seeds_that_may_be_run() -> None:
    spec = study("{start: [11, 22, 33], at_most: 6}")
    assert spec.seeds == (11, 22, 33, 34, 35, 36)


def test_the_last_look_is_at_the_last_seed() -> None:
    assert not_none(study("{start: [1, 2, 3], at_most: 10, looks: [3, 5]}").looking).looks == (3, 5, 10)


def test_looks_are_kept_as_the_file_has_them() -> None:
    assert not_none(study("{start: [1, 2, 3], at_most: 10, looks: [4, 10]}").looking).looks == (4, 10)


def test_until_decided_is_what_is_meant_when_left_out() -> None:
    assert study("{start: [1, 2], at_most: 4}") == study("{start: [1, 2], at_most: 4, until: decided}")


def test_until_may_name_a_width() -> None:
    assert not_none(study("{start: [1, 2], at_most: 4, until: {width: 0.01}}").looking).width == 0.01


def test_added_seeds_collide_with_none_that_is_given() -> None:
    assert further_seeds((7, 3, 9), 3) == (10, 11, 12)
    assert further_seeds((MAX_SEED, 0, 2), 3) == (1, 3, 4)


def test_a_larger_most_keeps_the_seeds_there_are() -> None:
    assert further_seeds((11, 22), 9)[:4] == further_seeds((11, 22), 4)


@pytest.mark.parametrize(
    ("start", "at_most", "looks"),
    [(3, 12, (3, 5, 8, 12)), (3, 10, (3, 5, 8, 10)), (1, 4, (2, 3, 4)), (5, 6, (5, 6))],
)
def test_looks_come_after_half_as_many_seeds_again(start: int, at_most: int, looks: tuple[int, ...]) -> None:
    assert default_looks(start, at_most) == looks
