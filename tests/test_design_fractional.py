"""Fractions: the resolution claimed is the one found by brute force; what cannot be told apart is listed."""

from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from design_examples import study
from fixture_types import not_none
from numpy.typing import NDArray

from ablate.design.factorial import Chosen, Space
from ablate.design.fractional import aliases, columns, default_cells, fractional, resolution
from ablate.design.optimal import d_optimal, model_matrix, strongest_partial_aliases
from ablate.errors import BadInput
from ablate.spec.designs import Fractional
from ablate.spec.reading import read_study

STUDIES = Path(__file__).parent.parent / "studies"
REGULAR = [(k, m) for k in range(3, 11) for m in range(2, k + 1) if k < 1 << m]

# Box, Hunter & Hunter, Statistics for Experimenters (2nd ed.), table 6.22; Montgomery, table 8.14.
PUBLISHED = {
    **{
        (3, 2): 3,
        (4, 3): 4,
        (5, 4): 5,
        (5, 3): 3,
        (6, 5): 6,
        (6, 4): 4,
        (6, 3): 3,
        (7, 6): 7,
        (7, 5): 4,
        (7, 4): 4,
    },
    **{(7, 3): 3, (8, 7): 8, (8, 6): 5, (8, 5): 4, (8, 4): 4, (9, 7): 6, (9, 6): 4, (9, 5): 4, (9, 4): 3},
    **{(10, 7): 5, (10, 6): 4, (10, 5): 4, (10, 4): 3, (11, 5): 4, (12, 5): 4, (15, 4): 3, (16, 5): 4},
}


def two_level_space(k: int, design: str = "fractional") -> Space:
    names = "abcdefghijklmnopq"[:k]
    factors = "{" + ", ".join(f"{name}: [lo, hi]" for name in names) + "}"
    baseline = "{" + ", ".join(f"{name}: {'hi' if name == 'b' else 'lo'}" for name in names) + "}"
    return Space(study(factors, baseline, design))


def signs(chosen: Iterable[Mapping[str, int]]) -> NDArray[np.int64]:
    """Return the design as -1 and 1, [cells, factors]."""
    return np.array([[2 * level - 1 for level in one.values()] for one in chosen])


def shortest_word(matrix: NDArray[np.int64]) -> int | None:
    """Return the size of the smallest set of factors whose product is constant over the cells."""
    k = matrix.shape[1]
    for size in range(1, k + 1):
        for members in combinations(range(k), size):
            if abs(matrix[:, members].prod(axis=1).sum()) == len(matrix):
                return size
    return None


@pytest.mark.parametrize(("k", "m"), REGULAR)
def test_the_resolution_claimed_is_that_of_the_cells_by_brute_force(k: int, m: int) -> None:
    space = two_level_space(k, f"{{kind: fractional, cells: {1 << m}}}")
    fraction = fractional(space)
    assert len(fraction.combinations) == len({tuple(one.values()) for one in fraction.combinations}) == 1 << m
    assert fraction.resolution == shortest_word(signs(fraction.combinations))


@pytest.mark.parametrize(("k", "m"), PUBLISHED)
def test_resolutions_are_the_published_ones(k: int, m: int) -> None:
    assert resolution(columns(k, m)) == PUBLISHED[k, m]


def test_half_fractions_have_the_highest_resolution_there_is() -> None:
    assert [resolution(columns(k, k - 1)) for k in range(3, 17)] == list(range(3, 17))


@pytest.mark.parametrize(("k", "m"), [(5, 3), (6, 4), (7, 4), (8, 4), (8, 6)])
def test_chains_are_exactly_the_effects_that_are_equal_up_to_sign(k: int, m: int) -> None:
    space = two_level_space(k, f"{{kind: fractional, cells: {1 << m}}}")
    matrix = signs(fractional(space).combinations)
    names = list(space.factors)
    longest = max(2, not_none(shortest_word(matrix)) - 1)
    effects = [c for size in range(1, longest + 1) for c in combinations(range(k), size)]
    expected: dict[tuple[int, ...], list[str]] = {}
    for members in effects:
        column = matrix[:, members].prod(axis=1)
        key = tuple(column * column[0])
        expected.setdefault(key, []).append(":".join(names[i] for i in members))
    chains = [chain for chain in fractional(space).aliases if chain[0] != "mean"]
    assert sorted(chains) == sorted(chain for chain in expected.values() if len(chain) > 1)


def test_every_main_effect_of_a_resolution_iii_design_shows_what_it_is_mixed_with() -> None:
    assert aliases(columns(3, 2), "abc", 2) == [["a", "b:c"], ["b", "a:c"], ["c", "a:b"]]


@pytest.mark.parametrize(("k", "cells"), [(3, 8), (4, 8), (5, 16), (8, 16), (9, 32), (16, 32)])
def test_without_a_size_it_is_the_smallest_of_resolution_iv(k: int, cells: int) -> None:
    space = two_level_space(k)
    assert len(fractional(space).combinations) == cells == default_cells(space)
    assert fractional(space).resolution in (None, 4, 5)


@pytest.mark.parametrize("k", [4, 8, 16])
def test_the_baseline_is_a_cell_of_the_fraction(k: int) -> None:
    space = two_level_space(k)
    assert space.baseline() in fractional(space).combinations


def test_a_whole_factorial_has_no_resolution_and_no_aliases() -> None:
    fraction = fractional(two_level_space(3, "{kind: fractional, cells: 64}"))
    assert (len(fraction.combinations), fraction.resolution, fraction.aliases) == (8, None, [])


def test_256_factors_are_a_fraction_of_512_cells() -> None:
    assert resolution(columns(256, 9)) == 4


@pytest.fixture(scope="module")
def grid_space() -> Space:
    return Space(read_study(STUDIES / "full_grid.yaml"))


@pytest.mark.parametrize("cells", [10, 16, 17, 32, 100])
def test_every_main_effect_of_a_d_optimal_subset_can_be_estimated(grid_space: Space, cells: int) -> None:
    fraction = fractional_of(grid_space, cells)
    X = model_matrix(grid_space, fraction.combinations)
    assert X.shape == (cells, 10)
    assert np.linalg.matrix_rank(X) == 10


def test_a_d_optimal_subset_holds_distinct_valid_cells_and_the_baseline(grid_space: Space) -> None:
    chosen = fractional_of(grid_space, 16).combinations
    assert all(one in grid_space.full() for one in chosen)
    assert len({tuple(one.items()) for one in chosen}) == 16
    assert grid_space.baseline() in chosen


def test_d_efficiency_is_the_ratio_of_determinants_per_cell(grid_space: Space) -> None:
    fraction = fractional_of(grid_space, 16)
    few, all_ = (model_matrix(grid_space, cells) for cells in (fraction.combinations, grid_space.full()))
    ratio = np.linalg.det(few.T @ few / 16) / np.linalg.det(all_.T @ all_ / 288)
    assert fraction.d_efficiency == pytest.approx(ratio ** (1 / 10))
    assert f"{fraction.d_efficiency:.0%}" in fraction.warnings[0]


def test_plackett_and_burmans_twelve_runs_mix_a_third_of_each_product_into_each_effect() -> None:
    """Plackett & Burman 1946, Biometrika 33, 305-325: cyclic shifts of one row, and a row of low levels."""
    names = "abcdefghijk"
    row = [int(sign == "+") for sign in "++-+++---+-"]
    runs = [*([*row[-shift:], *row[:-shift]] for shift in range(11)), [0] * 11]
    space = two_level_space(11)
    found = strongest_partial_aliases(space, [dict(zip(names, run, strict=True)) for run in runs])
    assert [share for share, _, _ in found] == pytest.approx([1 / 3] * 11)


def test_a_half_fraction_mixes_the_whole_of_a_product_into_each_effect() -> None:
    cells = [{"a": a, "b": b, "c": a ^ b} for a in (0, 1) for b in (0, 1)]
    found = {
        name: (pair, share) for share, name, pair in strongest_partial_aliases(two_level_space(3), cells)
    }
    assert {name: pair for name, (pair, _) in found.items()} == {
        "a": ("b", "c"),
        "b": ("a", "c"),
        "c": ("a", "b"),
    }
    assert [share for _, share in found.values()] == pytest.approx([1.0, 1.0, 1.0])


def test_the_plan_of_a_d_optimal_subset_names_what_is_mixed_most(grid_space: Space) -> None:
    assert "Largest biases: " in fractional_of(grid_space, 16).warnings[0]


def test_the_exchange_beats_a_thousand_random_subsets(grid_space: Space) -> None:
    X = model_matrix(grid_space, grid_space.full())
    rng = np.random.default_rng(0)
    random = max(
        np.linalg.slogdet(X[rows].T @ X[rows])[1]
        for rows in (rng.choice(288, 16, replace=False) for _ in range(1000))
    )
    best = model_matrix(grid_space, fractional_of(grid_space, 16).combinations)
    assert np.linalg.slogdet(best.T @ best)[1] > random


def test_where_an_orthogonal_fraction_exists_the_exchange_finds_one() -> None:
    space = two_level_space(4)
    chosen, efficiency = d_optimal(space, space.full(), 8)
    X = model_matrix(space, chosen)
    assert np.allclose(X.T @ X, 8 * np.eye(5))
    assert efficiency == pytest.approx(1)


def test_a_subset_as_large_as_the_design_is_the_design(grid_space: Space) -> None:
    assert fractional_of(grid_space, 300).combinations == grid_space.full()


@pytest.mark.parametrize(
    ("cells", "fault"), [(9, r"9 cells cannot estimate .* write at least 10, e\.g\. 16")]
)
def test_too_few_cells_are_refused(grid_space: Space, cells: int, fault: str) -> None:
    with pytest.raises(BadInput, match=fault):
        fractional_of(grid_space, cells)


def fractional_of(space: Space, cells: int) -> Chosen:
    return fractional(Space(space.spec.model_copy(update={"design": Fractional(cells=cells)})))
