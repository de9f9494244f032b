from pathlib import Path

import numpy as np
import pytest
from fixture_types import not_none
from numpy.typing import NDArray
from outside_json import compare_files

from ablate.stats.clustering import Sign, clustering, common_stems


def items_of(questions: int, each: int, shift: float, seed: int = 0) -> NDArray[np.float64]:
    """Contributions [1, n] of pairs, `each` of a question, with a shift per question of this standard deviation."""
    rng = np.random.default_rng(seed)
    return (np.repeat(rng.normal(0, shift, questions), each) + rng.normal(0, 1, questions * each))[None, :]


def test_items_of_one_question_are_found_by_their_ids_in_any_order() -> None:
    order = np.random.default_rng(1).permutation(400)
    ids = [f"q{i // 10}-{i % 10}" for i in order]
    found = not_none(clustering(items_of(40, 10, 0.6)[:, order], ids))
    assert (found.sign, found.p < 0.001) == (Sign.IDS, True)
    assert found.design_effect == pytest.approx(1 + 9 * 0.36 / 1.36, rel=0.3)


def test_neighbours_are_found_where_ids_say_nothing() -> None:
    assert not_none(clustering(items_of(40, 10, 0.8), [str(i) for i in range(400)])).sign is Sign.NEIGHBOURS


def test_independent_items_are_hardly_ever_suspected() -> None:
    ids = [f"q{i // 10}-{i % 10}" for i in range(400)]
    assert sum(clustering(items_of(40, 10, 0.0, seed), ids) is not None for seed in range(300)) <= 2


@pytest.mark.parametrize("ids", [["a", "b", "c"], [f"dev-{i}" for i in range(100)]])
def test_a_common_prefix_of_all_is_no_stem(ids: list[str]) -> None:
    assert common_stems(ids) is None


def test_compare_warns_of_questions_that_nobody_named(tmp_path: Path) -> None:
    """400 pairs of 40 questions, and a shift per question only."""
    rng = np.random.default_rng(3)
    shift = np.repeat(rng.normal(0, 1.2, 40), 10)
    sides: dict[str, list[Path]] = {}
    for side, sign in (("a", -0.5), ("b", 0.5)):
        for seed in range(3):
            right = (1 + sign * shift + rng.normal(0, 1, 400) > 0).astype(int)
            file = tmp_path / f"{side}{seed}.csv"
            rows = [f"q{i // 10}-{i},{r},q{i // 10}" for i, r in enumerate(right)]
            file.write_text("\n".join(["id,correct,question", *rows]) + "\n")
            sides.setdefault(side, []).append(file)
    warned = compare_files(None, sides["a"], sides["b"], None, correct=True)["warnings"]
    assert any("name the clusters with --cluster COLUMN" in text for text in warned)
