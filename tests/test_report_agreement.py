"""`ablate report` and `ablate compare` on the same predictions say the same, to the last digit."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from fixture_types import Json
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from outside_json import compare_files
from published_tables import write_csv
from report_examples import factor, points_of, report_document, spec

from ablate.design.model import Cell, Part
from ablate.report.outside.prediction_files import Keys
from ablate.spec.model import Metric
from ablate.stats.inference import Array
from ablate.store.results import PartResult, Results, TrialResult

SIDES = ("a", "b")
SAID_BY_BOTH = ("se", "df", "ci95", "p", "method", "verdict", "mde80")


def two_cells(
    folder: Path,
    metric: str,
    gold: Array,
    predicted: Mapping[str, Array],
    smallest_effect: float | None,
    clusters: Sequence[str] | None = None,
) -> Results:
    """A finished study of one factor, whose sides have these predictions: side -> [seeds, items]."""
    seeds = tuple(range(11, 11 + len(predicted["a"])))
    study = spec(
        "full",
        seeds,
        factors=(factor("side", list(SIDES)),),
        baseline={"side": "a"},
        metric=Metric(name="dev/score", smallest_effect=smallest_effect),
    )
    cells, parts = [], {}
    trials: list[TrialResult] = []
    for side in SIDES:
        cells.append(Cell(side * 12, {"side": side}, {}, {"all": Part(f"part {side}", {})}))
        for seed, values in zip(seeds, predicted[side], strict=True):
            place = folder / f"{side}-{seed}"
            (place / "predictions").mkdir(parents=True)
            rows = [
                (f"i{k}", p, g, *([clusters[k]] if clusters else []))
                for k, (p, g) in enumerate(zip(values.tolist(), gold.tolist(), strict=True))
            ]
            head = ["id", "prediction", "gold", *(["cluster"] if clusters else [])]
            write_csv(place / "predictions" / "dev.score.csv", head, rows)
            # As other libraries compute them.
            score = (
                np.corrcoef(values, gold)[0, 1] if metric == "pearson" else np.sum(values == gold) / len(gold)
            )
            scores = {"dev/score": float(score)}
            parts[f"part {side}", seed] = PartResult(f"part {side}", seed, scores, 1.0, 1, {}, place)
            trials.append(
                TrialResult(
                    side * 12,
                    seed,
                    len(trials),
                    "COMPLETE",
                    1,
                    {"side": side},
                    scores,
                    1.0,
                    None,
                    {"all": f"part {side}"},
                )
            )
    return Results(study, tuple(cells), "a" * 12, None, [], 2, tuple(trials), parts, points_of(()))


def compared(
    folder: Path,
    metric: str,
    gold: Array,
    predicted: Mapping[str, Array],
    smallest_effect: float | None,
    clusters: Sequence[str] | None = None,
) -> Json:
    ids = [f"i{k}" for k in range(len(gold))]
    rows = [(ids[k], g, *([clusters[k]] if clusters else [])) for k, g in enumerate(gold.tolist())]
    head = ["id", "label", *(["question"] if clusters else [])]
    gold_file = write_csv(folder / "gold.csv", head, rows)
    files = {
        side: [
            write_csv(
                folder / f"{side}{k}.csv", ["id", "prediction"], list(zip(ids, one.tolist(), strict=True))
            )
            for k, one in enumerate(predicted[side])
        ]
        for side in SIDES
    }
    keys = Keys(cluster="question") if clusters else None
    return compare_files(gold_file, files["a"], files["b"], metric, smallest_effect, keys=keys)


def classes(
    rng: np.random.Generator, seeds: int, items: int, right: float, shift: float
) -> tuple[Array, dict[str, Array]]:
    """Answers over two classes: the items differ in difficulty, the sides and the seeds on items."""
    gold = rng.integers(0, 2, items).astype(float)
    gold[:2] = 0.0, 1.0
    difficulty = rng.uniform(size=items)
    share = {"a": right, "b": right + shift}
    return gold, {
        side: np.where(
            0.6 * difficulty + 0.4 * rng.uniform(size=(seeds, items)) < share[side], gold, 1 - gold
        )
        for side in SIDES
    }


def scores(
    rng: np.random.Generator, seeds: int, items: int, right: float, shift: float
) -> tuple[Array, dict[str, Array]]:
    """Predictions with heavy tails around a gold of scores."""
    gold = rng.uniform(0, 5, items).round(1)
    size = {"a": 2 - right, "b": 2 - right - shift}
    return gold, {side: gold + size[side] * rng.standard_t(3, (seeds, items)) for side in SIDES}


# (rng, seeds, items, right, shift) -> gold and predictions
Draw = Callable[[np.random.Generator, int, int, float, float], tuple[Array, dict[str, Array]]]


@settings(max_examples=40)
@given(
    kind=st.sampled_from([("accuracy", classes), ("pearson", scores)]),
    seed=st.integers(0, 2**32 - 1),
    seeds=st.integers(2, 5),
    items=st.integers(5, 120),
    right=st.floats(0.3, 0.95),
    shift=st.floats(-0.2, 0.3),
    smallest_effect=st.sampled_from([None, 0.01, 0.2]),
    in_a_cluster=st.sampled_from([None, 1, 2, 5]),
)
def test_report_and_compare_say_the_same(
    kind: tuple[str, Draw],
    seed: int,
    seeds: int,
    items: int,
    right: float,
    shift: float,
    smallest_effect: float | None,
    in_a_cluster: int | None,
) -> None:
    metric, draw = kind
    gold, predicted = draw(np.random.default_rng(seed), seeds, items, right, shift)
    every = [*predicted["a"], *predicted["b"]]
    assume(len({one.tobytes() for one in every}) == len(every))
    assume(all(np.ptp(one) > 0 for one in (gold, *every)))
    assume(in_a_cluster is None or items > in_a_cluster)
    clusters = [f"q{k // in_a_cluster}" for k in range(items)] if in_a_cluster else None
    case = metric, gold, predicted, smallest_effect, clusters
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report = report_document(two_cells(folder, *case))
        compare = compared(folder, *case)
    (effect,) = report["effects"]
    difference = report["cells"][1]["difference"]["dev/score"]
    expected = {"estimate": compare["delta"]} | {key: compare[key] for key in SAID_BY_BOTH}
    for row in (effect, difference):
        assert {key: row[key] for key in expected} == expected


@settings(max_examples=20)
@given(
    kind=st.sampled_from([("accuracy", classes), ("pearson", scores)]),
    seed=st.integers(0, 2**32 - 1),
    items=st.integers(5, 120),
    in_a_cluster=st.sampled_from([None, 2]),
)
def test_one_seed_has_the_same_test_over_items_in_both_and_no_p_on_the_method_in_the_report(
    kind: tuple[str, Draw], seed: int, items: int, in_a_cluster: int | None
) -> None:
    metric, draw = kind
    gold, predicted = draw(np.random.default_rng(seed), 1, items, 0.6, 0.2)
    assume(not np.array_equal(predicted["a"], predicted["b"]))
    assume(all(np.ptp(one) > 0 for one in (gold, *predicted["a"], *predicted["b"])))
    assume(in_a_cluster is None or items > 2 * in_a_cluster)
    clusters = [f"q{k // in_a_cluster}" for k in range(items)] if in_a_cluster else None
    case = metric, gold, predicted, None, clusters
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report = report_document(two_cells(folder, *case))
        compare = compared(folder, *case)
    (effect,) = report["effects"]
    (over_items,) = [row for row in effect["sensitivity"] if row["method"] == compare["method"]]
    assert (over_items["p"], over_items["ci95"]) == (compare["p"], compare["ci95"])
    assert (effect["p"], effect["verdict"]) == (None, "inconclusive")
    assert any("not the method" in warning for warning in compare["warnings"])
