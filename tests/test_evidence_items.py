"""The items behind a contrast: of one metric, of a composite, in clusters, and where they do not align."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixture_types import not_none
from numpy.typing import NDArray
from report_examples import example, factor, spec, write_predictions

from ablate.evidence.contrasts import pair_weights
from ablate.evidence.effects import infer_all
from ablate.evidence.frames import Grid, grid
from ablate.evidence.items import Items, composite_weights
from ablate.evidence.predictions import ItemScores, PredictionFiles
from ablate.report.sections.sensitivity import of_one_seed
from ablate.stats.inference import Inference, Method
from ablate.stats.mrmc import mrmc
from ablate.store.results import Results, TrialResult


@pytest.fixture
def items(tmp_path: Path) -> Items:
    return Items(grid(write_predictions(example(folder=tmp_path))))


@pytest.fixture
def all_joint(tmp_path: Path) -> Results:
    """Two cells, one part each, so that the same 400 predictions could belong to items that all metrics share."""
    factors = (factor("similarity_head", ["concat", "siamese"]), factor("l2", [0.0, 0.01]))
    study = spec("full", factors=factors, baseline={"similarity_head": "concat", "l2": 0.0})
    return write_predictions(example(study, folder=tmp_path))


class Renamed(PredictionFiles):
    """The same files, with other ids or clusters for their items."""

    def __init__(
        self,
        arranged: Grid,
        name: Callable[[str], str] = lambda id: id,
        cluster: Callable[[str], str] | None = None,
    ) -> None:
        super().__init__(arranged)
        self.name, self.cluster = name, cluster

    def scores(self, trial: TrialResult, metric: str) -> ItemScores | None:
        if found := super().scores(trial, metric):
            clusters = tuple(map(self.cluster, found.ids)) if self.cluster else None
            return replace(found, ids=tuple(map(self.name, found.ids)), clusters=clusters)
        return None


def weights(items: Items, low: int = 0, high: int = 1, metric: str = "dev/mean") -> NDArray[np.float64]:
    return pair_weights(low, high, np.isfinite(items.grid.values[metric]))


def infer_pair(items: Items, metric: str, low: int = 0, high: int = 1) -> Inference:
    return infer_all(items, metric, [weights(items, low, high)])[0]


def variance_of_the_mean(scores: NDArray[np.float64]) -> float:
    """Of [seeds, items]: of the items less what seed × item puts into it, from the definition."""
    S, n = scores.shape
    rest = scores - scores.mean(axis=1, keepdims=True) - scores.mean(axis=0) + scores.mean()
    return float(scores.mean(axis=0).var(ddof=1) / n - (rest**2).sum() / ((S - 1) * (n - 1)) / (S * n))


def file_of(items: Items, row: int, task: str, seed: int = 11) -> Path:
    part = items.grid.trials[row, items.grid.seeds.index(seed)].parts[task]
    return items.grid.results.parts[part, seed].folder / "predictions" / f"dev.{task}.csv"


def test_a_task_metric_is_analysed_as_seeds_by_items(items: Items) -> None:
    found = infer_pair(items, "dev/similarity")
    expected = mrmc(not_none(items.differences(0, 1, "dev/similarity")))
    assert found.method is Method.SEEDS_AND_ITEMS
    assert (found.estimate, found.se) == pytest.approx((expected.delta, expected.se))


def test_a_composite_takes_the_items_of_its_metrics(items: Items) -> None:
    assert items.made_of("dev/mean") == pytest.approx(
        {"dev/paraphrase": 1 / 3, "dev/sentiment": 1 / 3, "dev/similarity": 1 / 6}
    )


def test_a_composite_moved_by_one_metric_has_that_metric_s_error(items: Items) -> None:
    mean, similarity = (infer_pair(items, metric) for metric in ("dev/mean", "dev/similarity"))
    assert mean.se == pytest.approx(not_none(similarity.se) / 6)


def test_metrics_of_other_items_add_their_variances(all_joint: Results) -> None:
    found = Items(grid(all_joint))
    ends = [weights(found, 0, 3)]
    expected = sum(
        share**2 * not_none(found.noise(ends, name)[0]).seed_item
        for name, share in found.made_of("dev/mean").items()
    )
    assert not_none(found.noise(ends, "dev/mean")[0]).seed_item == pytest.approx(expected)


def test_items_that_metrics_share_are_summed_before_their_variance(all_joint: Results) -> None:
    """Covariance and all: the variance of the summed scores."""
    arranged = grid(all_joint)
    found = Items(arranged, Renamed(arranged, name=lambda id: id.partition("-")[2]))
    summed = np.sum(
        [
            share * not_none(found.differences(0, 3, name))
            for name, share in found.made_of("dev/mean").items()
        ],
        axis=0,
    )
    noise, apart = (
        not_none(one.noise([weights(found, 0, 3)], "dev/mean")[0]) for one in (found, Items(arranged))
    )
    assert noise.item == pytest.approx(variance_of_the_mean(summed))
    assert noise.item < 0.95 * apart.item  # here the metrics' items disagree


def test_with_one_seed_items_that_metrics_share_are_summed_too(tmp_path: Path) -> None:
    study = spec(
        "full", (11,), factors=(factor("l2", [0.0, 0.01]), factor("x", [0, 1])), baseline={"l2": 0.0, "x": 0}
    )
    results = write_predictions(example(study, folder=tmp_path))
    arranged = grid(results)
    made_of = {"dev/mean": {"dev/paraphrase": 1 / 3, "dev/sentiment": 1 / 3, "dev/similarity": 1 / 6}}
    found = Items(arranged, Renamed(arranged, name=lambda id: id.partition("-")[2]), made_of)
    added = [
        share * (found.files.by_seed(1, name)[0].scores - found.files.by_seed(0, name)[0].scores)
        for name, share in made_of["dev/mean"].items()
    ]
    summed = np.sum(added, axis=0)
    (line,) = of_one_seed(found, 0, 1, "dev/mean")
    assert line.statistic == pytest.approx(summed.mean() / (summed.std(ddof=1) / 20))  # of 400 items


def test_with_one_seed_a_composite_is_tested_over_the_items_of_its_metrics(tmp_path: Path) -> None:
    """Only the similarity head differs: its items alone move dev/mean, by a sixth of what they move similarity."""
    found = Items(grid(write_predictions(example(spec(seeds=(11,)), folder=tmp_path))))
    a, b = (found.files.by_seed(row, "dev/similarity")[0].scores for row in (0, 1))
    (line,) = of_one_seed(found, 0, 1, "dev/mean")
    assert line.statistic == pytest.approx((b - a).mean() / ((b - a).std(ddof=1) / 20))  # of 400 items
    difference = found.grid.values["dev/mean"][1, 0] - found.grid.values["dev/mean"][0, 0]
    assert np.mean(not_none(line.ci95)) == pytest.approx(difference)


def test_without_predictions_the_seeds_alone_decide() -> None:
    found = infer_pair(Items(grid(example())), "dev/mean")
    assert (found.method, found.df) == (Method.SEEDS, 2)


def test_clusters_of_one_item_change_nothing(all_joint: Results) -> None:
    arranged = grid(all_joint)
    plain, clustered = Items(arranged), Items(arranged, Renamed(arranged, cluster=lambda id: f"of {id}"))
    for metric in ("dev/paraphrase", "dev/similarity", "dev/mean"):
        assert clustered.noise([weights(plain)], metric) == plain.noise([weights(plain)], metric)


def test_a_cluster_s_items_are_summed_across_metrics(all_joint: Results) -> None:
    """Five items of each metric share a cluster: 80 units, each with its part of the deviation of dev/mean."""
    arranged = grid(all_joint)
    found = Items(arranged, Renamed(arranged, cluster=lambda id: str(int(id.partition("-")[2]) % 80)))
    added = 0.0
    for name, share in found.made_of("dev/mean").items():
        d = not_none(found.differences(0, 3, name))
        added = added + share * (d - d.mean(axis=1, keepdims=True)).reshape(3, 5, 80).sum(axis=1) / 400
    added = added * np.sqrt(80 / 79)
    both = ((added - added.mean(axis=0)) ** 2).sum() / (3 * 2)
    (noise,) = found.noise([weights(found, 0, 3)], "dev/mean")
    assert not_none(noise).item == pytest.approx((added.mean(axis=0) ** 2).sum() - both)


def test_a_seed_without_items_on_one_side_has_no_part_in_the_item_noise(items: Items) -> None:
    file_of(items, 1, "similarity", 33).unlink()
    expected = variance_of_the_mean(not_none(Items(items.grid).differences(0, 1, "dev/similarity")))
    (noise,) = items.noise([weights(items)], "dev/similarity")
    assert not_none(noise).item == pytest.approx(expected)
    assert infer_pair(items, "dev/similarity").seeds == 3


def test_one_seed_with_items_is_too_few_for_item_noise(items: Items) -> None:
    for seed in (22, 33):
        file_of(items, 1, "similarity", seed).unlink()
    assert items.noise([weights(items)], "dev/similarity") == [None]
    assert infer_pair(items, "dev/similarity").method is Method.SEEDS


def test_ids_that_differ_refuse_the_paired_analysis(items: Items) -> None:
    file = file_of(items, 1, "similarity")
    file.write_text(file.read_text().replace("similarity-7,", "other-7,"))
    assert items.noise([weights(items)], "dev/similarity") == [None]
    assert items.unaligned == {(0, 1, "dev/similarity", "item ids or item order")}


def test_items_in_another_order_are_not_paired(items: Items) -> None:
    file = file_of(items, 1, "similarity")
    head, *rows = file.read_text().split()
    file.write_text("\n".join([head, *reversed(rows)]))
    assert items.noise([weights(items)], "dev/similarity") == [None]
    assert items.unaligned == {(0, 1, "dev/similarity", "item ids or item order")}


def test_items_with_the_same_ids_and_another_gold_are_not_paired(items: Items) -> None:
    """As when every seed draws a dev set of its own and numbers its items from 0."""
    for file in {file_of(items, row, "similarity") for row in (0, 1)}:
        rows = [line.split(",") for line in file.read_text().split()]
        shifted = [",".join([i, str(float(p) + 1), str(float(g) + 1)]) for i, p, g in rows[1:]]  # the same r
        file.write_text("\n".join(["id,prediction,gold", *shifted]))
    assert items.differences(0, 1, "dev/similarity") is None
    assert items.unaligned == {(0, 1, "dev/similarity", "gold")}


def test_items_of_other_clusters_are_not_paired(all_joint: Results) -> None:
    arranged = grid(all_joint)
    ids = iter(range(10**6))
    found = Items(arranged, Renamed(arranged, cluster=lambda id: str(next(ids) // 900)))
    assert found.noise([weights(found)], "dev/paraphrase") == [None]
    assert {what for *_, what in found.unaligned} == {"clusters"}


def test_a_metric_recorded_in_single_precision_is_what_its_predictions_give(items: Items) -> None:
    expected = items.values("dev/similarity").copy()
    rounded = np.float32(items.grid.values["dev/similarity"]).astype(float)
    items.grid.values["dev/similarity"][:] = rounded
    for place, trial in items.grid.trials.items():
        trial.metrics["dev/similarity"] = float(rounded[place])
    found = Items(items.grid).values("dev/similarity")
    assert not np.array_equal(rounded, expected)
    assert np.array_equal(found, expected)


def test_weights_of_what_is_no_sum_are_not_made_up() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random(20), rng.random(20)
    assert composite_weights(a * b, {"a": a, "b": b}) == {}


def test_too_few_rows_prove_no_composite() -> None:
    assert composite_weights(np.array([1.0, 2.0]), {"a": np.array([1.0, 2.0])}) == {}
