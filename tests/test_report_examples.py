"""Section 10 of the report: items on which the best cell and the reference disagree."""

from pathlib import Path

import numpy as np
import pytest
from fixture_types import not_none
from report_examples import example, write_predictions

from ablate.evidence.frames import grid
from ablate.evidence.items import Items
from ablate.report.sections.examples import disagreements


@pytest.fixture
def items(tmp_path: Path) -> Items:
    return Items(grid(write_predictions(example(folder=tmp_path))))


def test_an_error_that_stretches_the_scale_is_no_improvement(tmp_path: Path) -> None:
    """The pseudo-value of the last item rises with a prediction far beyond its gold: nearer is nearer."""
    found = not_none(disagreements(Items(grid(write_predictions(example(folder=tmp_path), items=40))), 1))
    assert found.standardised
    for row in found.rows:
        nearer = abs(row.best - row.gold) < abs(row.reference - row.gold)
        assert row.what == ("better" if nearer else "worse")


def test_of_classes_better_is_right_where_the_reference_is_wrong(items: Items) -> None:
    found = not_none(disagreements(items, 2))
    assert (found.metric, found.standardised) == ("dev/paraphrase", False)
    assert {(row.best == row.gold, row.reference == row.gold) for row in found.rows[:5]} == {(True, False)}


def test_the_items_counted_are_nearer_the_gold_in_every_seed(items: Items) -> None:
    standard = [
        [(v - v.mean()) / v.std() for v in (a.predicted, b.predicted, a.gold)]
        for a, b in items.pairs(0, 1, "dev/similarity")
    ]
    nearer = np.array([abs(a - gold) - abs(b - gold) for a, b, gold in standard])
    found = not_none(disagreements(items, 1))
    assert (found.gained, found.lost) == (
        (nearer > 0).all(axis=0).sum(),
        (nearer < 0).all(axis=0).sum(),
    )
