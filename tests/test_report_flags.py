"""Every rule has a store that raises it and a near twin that does not."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixture_types import Json, not_none
from report_examples import (
    example,
    factor,
    fraction,
    points_of,
    report_document,
    searched,
    spec,
    valued,
    with_trial,
    write_predictions,
)

from ablate.design.model import Cell
from ablate.evidence.noise import sd_beyond_seeds
from ablate.spec.model import Metric
from ablate.store.results import Change, PartResult, Results, TrialResult, UseOfTest


def rules(results: Results) -> set[str]:
    return {flag["rule"] for flag in report_document(results)["flags"]}


def with_facts(results: Results, place: int, **facts: Any) -> Results:
    """The results with other facts in one part."""
    key = list(results.parts)[place]
    return replace(results, parts=results.parts | {key: replace(results.parts[key], facts=facts)})


def fail(results: Results, wanted: Callable[[TrialResult], bool]) -> Results:
    for place, trial in enumerate(results.trials):
        if wanted(trial):
            results = with_trial(results, place, state="FAIL", metrics={}, error="out of memory")
    return results


def with_metrics(results: Results, change: Callable[[TrialResult], dict[str, float]]) -> Results:
    return replace(results, trials=tuple(replace(t, metrics=change(t)) for t in results.trials))


def test_a_finished_study_has_nothing_but_the_note_on_picking_the_best() -> None:
    assert rules(example()) == {"best_of_many"}


def test_every_flag_has_evidence_and_a_fix() -> None:
    for flag in report_document(fail(example(spec(seeds=(1,))), lambda t: t.number == 3))["flags"]:
        assert flag["severity"] in ("stop", "caution", "note")
        assert flag["evidence"]
        assert flag["fix"]


def test_a_flag_stands_at_the_cells_that_it_speaks_of() -> None:
    document = report_document(fail(example(), lambda t: t.number == 3))
    lost = {cell["name"] for cell in document["cells"] if "lost_runs" in cell["flags"]}
    assert lost == {cell["name"] for cell in document["cells"] if "FAIL" in cell["states"].values()}
    assert len(lost) == 1


@pytest.mark.parametrize(("seeds", "raised"), [((11,), True), ((11, 22), False)])
def test_one_seed(seeds: tuple[int, ...], raised: bool) -> None:
    assert ("one_seed" in rules(example(spec(seeds=seeds)))) is raised


@pytest.mark.parametrize(("seeds", "raised"), [((11, 22), True), ((11, 22, 33), False)])
def test_two_seeds(seeds: tuple[int, ...], raised: bool) -> None:
    assert ("two_seeds" in rules(example(spec(seeds=seeds)))) is raised


@pytest.mark.parametrize(("seeds", "raised"), [((11, 22, 33), True), ((11, 22, 33, 44), False)])
def test_two_seeds_beside_that_of_a_search(seeds: tuple[int, ...], raised: bool) -> None:
    assert ("two_seeds" in rules(searched(seeds))) is raised


def test_two_seeds_are_few_with_items_too(tmp_path: Path) -> None:
    assert "two_seeds" in rules(write_predictions(example(spec(seeds=(11, 22)), folder=tmp_path), items=40))


@pytest.mark.parametrize(("seeds", "raised"), [((11, 22), True), ((11, 22, 33), False)])
def test_seeds_not_planned(seeds: tuple[int, ...], raised: bool) -> None:
    results = replace(example(), spec=spec(seeds=seeds))
    assert ("seeds_not_planned" in rules(results)) is raised


def test_seeds_unequal() -> None:
    assert "seeds_unequal" in rules(fail(example(), lambda t: t.number == 3))
    assert "seeds_unequal" not in rules(fail(example(), lambda t: t.seed == 33))


def test_lost_runs() -> None:
    document = report_document(fail(example(), lambda t: t.number == 3))
    flag = next(flag for flag in document["flags"] if flag["rule"] == "lost_runs")
    assert flag["severity"] == "caution"
    assert "out of memory" in flag["evidence"]
    assert "lost_runs" not in rules(example())


def test_a_level_without_any_result_is_named() -> None:
    results = fail(example(), lambda t: t.factors["l2"] == 0.01 or t.seed != 11)
    flag = next(flag for flag in report_document(results)["flags"] if flag["rule"] == "lost_runs")
    assert "; no result at l2=0.01" in flag["evidence"]


def test_lost_runs_that_gather_at_a_level_stop() -> None:
    results = fail(example(spec("full")), lambda t: t.factors.get("surgery") == "pcgrad" and t.seed != 11)
    flag = next(flag for flag in report_document(results)["flags"] if flag["rule"] == "lost_runs")
    assert flag["severity"] == "stop"
    assert "surgery=pcgrad" in flag["evidence"]


def test_lost_runs_spread_evenly_do_not_stop() -> None:
    results = fail(example(spec("full")), lambda t: t.number % 9 == 0)
    flag = next(flag for flag in report_document(results)["flags"] if flag["rule"] == "lost_runs")
    assert flag["severity"] == "caution"


def test_bounds_are_those_of_the_worst_and_the_best_value_that_the_metric_can_have() -> None:
    """One of three seeds of l2=0.01 is lost; in its place 0 and 1."""
    results = fail(example(), lambda t: t.factors["l2"] == 0.01 and t.seed == 33)
    evidence = next(f["evidence"] for f in report_document(results)["flags"] if f["rule"] == "lost_runs")
    means = {(t.cell, t.seed): t.metrics["dev/mean"] for t in results.trials if t.metrics}
    reference = [means[results.reference, seed] for seed in (11, 22, 33)]
    cell = next(t.cell for t in results.trials if t.factors["l2"] == 0.01)
    known = [means[cell, seed] for seed in (11, 22)]
    low, high = (np.mean([*known, end]) - np.mean(reference) for end in (0.0, 1.0))
    assert f"l2 → 0.01 would lie in [{low:+.4f}, {high:+.4f}]".replace("-", "−") in evidence


def fallen(results: Results, to: float, wanted: Callable[[TrialResult], bool]) -> Results:
    """The results with the deciding metric of the `wanted` trials at a value."""
    for place, trial in enumerate(results.trials):
        if wanted(trial):
            results = with_trial(results, place, metrics=trial.metrics | {"dev/mean": to})
    return results


@pytest.mark.parametrize(("to", "raised"), [(0.3, True), (0.66, False), (0.99, False)])
def test_diverged_runs(to: float, raised: bool) -> None:
    """dev/mean is .67 to .70; the smallest effect is .005, so that a run that diverged is off by more than .025."""
    results = fallen(example(), to, lambda t: t.factors["l2"] == 0.01 and t.seed == 22)
    flags = {flag["rule"]: flag for flag in report_document(results)["flags"]}
    assert ("diverged_runs" in flags) is raised
    if raised:
        assert flags["diverged_runs"]["evidence"].startswith("1 run of 18 diverged")
        assert flags["diverged_runs"]["evidence"].endswith(": 1 of 3 runs of l2=0.01")


def test_of_a_metric_to_be_minimised_a_run_diverges_upwards() -> None:
    metric = spec().metric.model_copy(update={"goal": "minimize"})
    up, down = (fallen(example(spec(metric=metric)), to, lambda t: t.number == 3) for to in (0.99, 0.3))
    assert "diverged_runs" in rules(up)
    assert "diverged_runs" not in rules(down)


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        ("step 12: train/sentiment: the loss is nan; a lower learning rate would do", True),
        ("part 'all': metric 'dev/f1' is inf; look at its loss curve", True),
        ("step 3: train/similarity: a gradient is not finite", True),
        ("step 5: dev/similarity: all 12 predictions are 0, so Pearson's r does not exist (NaN)", True),
        ("out of memory: 512 MiB more than there are", False),
        ("ValueError: no information in nanoseconds.csv", False),
    ],
)
def test_a_trial_that_failed_for_a_number_that_is_not_finite_diverged(error: str, raised: bool) -> None:
    results = with_trial(example(), 3, state="FAIL", metrics={}, error=error)
    assert ("diverged_runs" in rules(results)) is raised


def test_unfinished() -> None:
    assert "unfinished" in rules(example(keep=lambda cell, seed: seed != 33))
    assert "unfinished" not in rules(example())


def test_incomplete_grid() -> None:
    """Without the siamese cells of l2=0.01, the raw margins make l2 look harmful."""

    def hole(cell: Cell, seed: int) -> bool:
        return (cell.levels["l2"], cell.levels["similarity_head"]) != (0.01, "siamese") or seed == 11

    assert "incomplete_grid" in rules(example(spec("full"), keep=hole))
    assert "incomplete_grid" not in rules(example(spec("full")))


@pytest.mark.parametrize(("also", "raised"), [((), True), ((("siamese", 0.0),), False)])
def test_confounded(also: tuple[tuple[str, float], ...], raised: bool) -> None:
    """The diagonal of a 2 × 2, and with one cell more."""
    factors = (factor("similarity_head", ["concat", "siamese"]), factor("l2", [0.0, 0.01]))
    study = spec("full", factors=factors, baseline={"similarity_head": "concat", "l2": 0.0})
    ran = {("concat", 0.0), ("siamese", 0.01), *also}
    results = fail(example(study), lambda t: (t.factors["similarity_head"], t.factors["l2"]) not in ran)
    found = [flag for flag in report_document(results)["flags"] if flag["rule"] == "confounded"]
    assert [flag["severity"] for flag in found] == ["stop"] * raised


def test_aliased_claim() -> None:
    results = example(spec("full"))
    assert "aliased_claim" in rules(replace(results, aliases=[["similarity_head", "training:l2"]]))
    assert "aliased_claim" not in rules(replace(results, aliases=[["surgery", "training:l2"]]))


@pytest.mark.parametrize(("cells", "raised"), [(16, True), (18, False)])
def test_aliased_claim_of_a_fraction_that_is_not_regular(cells: int, raised: bool) -> None:
    """From 18 cells on interactions are estimated, and no longer mixed into main effects."""
    assert ("aliased_claim" in rules(fraction(cells))) is raised


def test_best_of_many_is_graver_when_the_lead_is_what_luck_gives() -> None:
    assert best_of_many(example())["severity"] == "note"
    assert best_of_many(example(noise=0.3))["severity"] == "caution"


def best_of_many(results: Results) -> Json:
    return next(flag for flag in report_document(results)["flags"] if flag["rule"] == "best_of_many")


def test_best_of_many_advises_no_command_that_the_trainer_lacks() -> None:
    assert "`ablate test`" in best_of_many(example())["fix"]
    assert "`ablate test`" not in best_of_many(example(spec(trainer="ablate.command")))["fix"]


def test_best_of_many_does_not_take_what_a_seed_adds_to_every_cell_for_luck() -> None:
    """Seeds are the same in every cell: what one adds cancels in the lead."""
    added = {11: 0.05, 22: -0.05, 33: 0.0}
    results = example()
    shifted = tuple(
        replace(t, metrics={name: value + added[t.seed] for name, value in t.metrics.items()})
        for t in results.trials
    )
    assert best_of_many(replace(results, trials=shifted)) == best_of_many(results)


def test_best_of_many_counts_cells_that_are_the_same_models_once() -> None:
    """The heads of the pair tasks change nothing in the part that separate training has for sentiment."""
    results = example(spec(metric=spec().metric.model_copy(update={"name": "dev/sentiment"})))
    assert len(results.cells) == 6
    assert best_of_many(results)["evidence"].startswith("if 4 cells were equal, the best of them")


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_sd_beyond_seeds_is_that_of_the_cells_own_noise(seeds: int) -> None:
    """Its square, averaged over 400 tables of known noise, is the noise's, whatever cells and seeds add."""
    rng = np.random.default_rng(seeds)
    found = [
        sd_beyond_seeds(rng.normal(size=(5, 1)) + rng.normal(size=seeds) + rng.normal(0, 0.01, (5, seeds)))
        for _ in range(400)
    ]
    assert np.mean([not_none(sd) ** 2 for sd in found]) == pytest.approx(0.01**2, rel=0.1)


@pytest.mark.parametrize("seeds", [1, 3])
def test_without_noise_between_cells_there_is_no_sd(seeds: int) -> None:
    assert sd_beyond_seeds(np.arange(4.0)[:, None] / 3 + np.arange(seeds) / 7) is None
    # Seeds were added, and no cell has all of them yet.
    assert sd_beyond_seeds(np.empty((0, seeds))) is None


def test_best_of_epochs() -> None:
    results = with_metrics(example(), lambda t: t.metrics | {"dev/mean@last": t.metrics["dev/mean"] - 0.01})
    assert "best_of_epochs" in rules(results)
    same = with_metrics(example(), lambda t: t.metrics | {"dev/mean@last": t.metrics["dev/mean"]})
    assert "best_of_epochs" not in rules(same)


def test_a_loss_that_the_best_epoch_lowered_is_called_lower() -> None:
    metric = spec().metric.model_copy(update={"name": "dev/loss", "goal": "minimize"})
    results = with_metrics(example(spec(metric=metric)), lambda t: {"dev/loss": 0.4, "dev/loss@last": 0.5})
    flag = next(f for f in report_document(results)["flags"] if f["rule"] == "best_of_epochs")
    assert flag["evidence"].endswith("compared with the last epoch: dev/loss −0.1000")


@pytest.mark.parametrize(
    ("goal", "worst", "raised"),
    [("maximize", 0.0, False), ("maximize", 0.68, True), ("minimize", 1.0, False), ("minimize", 0.68, True)],
)
def test_worse_than_worst(goal: str, worst: float, raised: bool) -> None:
    """dev/mean is .67 to .70."""
    metric = spec().metric.model_copy(update={"goal": goal, "worst": worst})
    assert ("worse_than_worst" in rules(example(spec(metric=metric)))) is raised


def test_test_used_more_than_once() -> None:
    scored = with_metrics(example(), lambda t: t.metrics | {"test/mean": 0.5})
    assert "test_used_more_than_once" in rules(scored)
    once = with_trial(example(), 0, metrics=example().trials[0].metrics | {"test/mean": 0.5})
    assert "test_used_more_than_once" not in rules(once)


def test_test_metric_decides() -> None:
    scored = with_metrics(example(), lambda t: t.metrics | {"test/mean": t.metrics["dev/mean"]})
    by_test = spec(metric=spec().metric.model_copy(update={"name": "test/mean"}))
    assert "test_metric_decides" in rules(replace(scored, spec=by_test))
    assert "test_metric_decides" not in rules(scored)


def use_of_test(unfinished: int = 0, when: str = "2026-01-02T03:04:05") -> UseOfTest:
    return UseOfTest(example().cells[1].hash, when, "me@here", unfinished)


def test_scoring_the_same_cell_again() -> None:
    again = replace(example(), test_uses=(use_of_test(), use_of_test(when="2026-01-03T03:04:05")))
    assert "test_used_more_than_once" in rules(again)
    assert "test_used_more_than_once" not in rules(replace(example(), test_uses=(use_of_test(),)))


@pytest.mark.parametrize(("unfinished", "raised"), [(3, True), (0, False)])
def test_test_used_early(unfinished: int, raised: bool) -> None:
    results = replace(example(), test_uses=(use_of_test(unfinished),))
    assert ("test_used_early" in rules(results)) is raised


def test_test_used_without_scores() -> None:
    used = replace(example(), test_uses=(use_of_test(),))
    assert "test_used_without_scores" in rules(used)
    scored = with_trial(used, 0, metrics=used.trials[0].metrics | {"test/mean": 0.5})
    assert "test_used_without_scores" not in rules(scored)


@pytest.mark.parametrize(("rows", "raised"), [(2, True), (0, False)])
def test_dev_rows_in_train(rows: int, raised: bool) -> None:
    results = with_facts(example(), 0, torch="2.13.0", dev_rows_in_train={"sentiment": rows})
    assert ("dev_rows_in_train" in rules(results)) is raised


@pytest.mark.parametrize("facts", [{}, {"dropped_rows": {}}, {"dropped_rows": {"paraphrase": {"dev": 0}}}])
def test_dropped_rows(facts: dict[str, dict[str, dict[str, int]]]) -> None:
    assert "dropped_rows" not in rules(with_facts(example(), 0, torch="2.13.0", **facts))
    results = with_facts(example(), 0, torch="2.13.0", dropped_rows={"paraphrase": {"train": 1, "dev": 2}})
    flag = next(flag for flag in report_document(results)["flags"] if flag["rule"] == "dropped_rows")
    assert flag["evidence"].endswith("dropped: 2 rows of paraphrase dev, 1 row of paraphrase train")


@pytest.mark.parametrize(
    ("before", "severity"),
    [
        ({"metric": {"name": "dev/similarity"}}, "stop"),
        ({"baseline": {"l2": 0.01}}, "stop"),
        ({"seeds": [11, 22]}, "stop"),
        ({"combinations": 4}, "note"),
    ],
)
def test_changed_after_results(before: dict[str, Any], severity: str) -> None:
    changed = replace(example(), changes=(Change(7, before),))
    flag = next(f for f in report_document(changed)["flags"] if f["rule"] == "changed_after_results")
    assert flag["severity"] == severity
    assert "7 trials already had a result" in flag["evidence"]
    assert "changed_after_results" not in rules(example())


def test_a_study_file_that_was_edited_after_the_run_is_noted() -> None:
    edited = replace(example(), edited=("metric.smallest_effect: 0.005 → 0.02",))
    flag = next(f for f in report_document(edited)["flags"] if f["rule"] == "study_file_edited")
    assert flag["severity"] == "note"
    assert "metric.smallest_effect: 0.005 → 0.02); this report describes what was run" in flag["evidence"]
    assert "study_file_edited" not in rules(example())


def test_seeds_without_effect() -> None:
    first = {t.cell: t.metrics for t in example().trials if t.seed == 11}
    tied = with_metrics(example(), lambda t: first[t.cell])
    assert "seeds_without_effect" in rules(replace(tied, points=points_of([])))
    assert "seeds_without_effect" not in rules(example())


def test_metrics_that_tie_by_chance_have_curves_that_do_not() -> None:
    first = {t.cell: t.metrics for t in example().trials if t.seed == 11}
    assert "seeds_without_effect" not in rules(with_metrics(example(), lambda t: first[t.cell]))


def test_an_arm_that_ignores_its_seed_is_claimed_nothing_of() -> None:
    """Its seeds agree to the last bit: what varies is the baseline alone."""
    results = example()
    first = {t.cell: t.metrics for t in results.trials if t.seed == 11}
    tied = with_metrics(
        results, lambda t: first[t.cell] if t.factors["similarity_head"] == "siamese" else t.metrics
    )
    document = report_document(replace(tied, points=points_of([])))
    row = next(r for r in document["effects"] if r["factor"] == "similarity_head" and r["role"] == "primary")
    assert (row["verdict"], row["undone_by"]) == ("inconclusive", ["seeds_without_effect"])
    assert document["summary"][0].startswith("STOP (seeds_without_effect)")


def test_a_baseline_that_ignores_its_seed_leaves_no_cell_a_verdict() -> None:
    """Each row of the table of cells is compared with it, and each trade-off rests on it."""
    results = example()
    first = {t.cell: t.metrics for t in results.trials if t.seed == 11}
    tied = with_metrics(results, lambda t: first[t.cell] if t.cell == results.reference else t.metrics)
    document = report_document(replace(tied, points=points_of([])))
    differences = [cell["difference"]["dev/mean"] for cell in document["cells"] if cell["difference"]]
    assert {row["verdict"] for row in differences} == {"inconclusive"}
    assert {tuple(row["undone_by"]) for row in differences} == {("seeds_without_effect",)}
    assert document["tradeoffs"] == []


def test_lost_runs_do_not_leave_no_difference_standing() -> None:
    """Half of one side is missing, all of it bad as far as anybody knows."""
    study = spec(seeds=tuple(range(1, 9)), factors=(factor("a", [0, 1]),), baseline={"a": 0})
    results = valued(study, lambda levels, seed: 0.8 + (0.0001 * (seed % 3 - 1) if levels["a"] else 0.0))
    for place, trial in enumerate(results.trials):
        if trial.factors["a"] == 1 and trial.seed <= 6:
            results = with_trial(results, place, state="FAIL", metrics={})
    document = report_document(results)
    assert any(f["rule"] == "lost_runs" and f["severity"] == "stop" for f in document["flags"])
    assert [row["verdict"] for row in document["effects"]] == ["inconclusive"]


@pytest.mark.parametrize("raised", [True, False])
def test_seeds_whose_scores_are_equal_by_chance_had_an_effect(tmp_path: Path, raised: bool) -> None:
    """The predictions of all seeds are those of the first, or the same ones of other items: then the seeds did something."""
    results = write_predictions(example(folder=tmp_path), items=40)
    first = {t.cell: t for t in results.trials if t.seed == 11}
    for (part, _), found in results.parts.items():
        for file in (found.folder / "predictions").glob("*.csv"):
            same = (results.parts[part, 11].folder / "predictions" / file.name).read_text().split()
            rows = same[1:] if raised else [*same[2:], same[1]]
            ids = [row.partition(",")[0] for row in same[1:]]
            rows = [f"{i},{row.partition(',')[2]}" for i, row in zip(ids, rows, strict=True)]
            file.write_text("\n".join([same[0], *(rows if found.seed != 11 else same[1:])]))
    alike = replace(with_metrics(results, lambda t: first[t.cell].metrics), points=points_of([]))
    assert ("seeds_without_effect" in rules(alike)) is raised


def test_unaligned_items(tmp_path: Path) -> None:
    results = write_predictions(example(folder=tmp_path), items=40)
    assert "unaligned_items" not in rules(results)
    part = results.trials[1].parts["similarity"]
    file = results.parts[part, 11].folder / "predictions" / "dev.similarity.csv"
    file.write_text(file.read_text().replace("similarity-7,", "other-7,"))
    assert "unaligned_items" in rules(results)


def test_items_whose_gold_differs_are_called_so(tmp_path: Path) -> None:
    results = write_predictions(example(folder=tmp_path), items=40)
    file = results.parts[results.trials[1].parts["paraphrase"], 11].folder / "predictions/dev.paraphrase.csv"
    file.write_text(file.read_text().replace("0.0,0.0", "9.0,9.0"))  # other labels, the same accuracy
    flag = next(f for f in report_document(results)["flags"] if f["rule"] == "unaligned_items")
    assert flag["evidence"].startswith("different gold, so items could not be paired: dev/paraphrase")


def test_predictions_unused(tmp_path: Path) -> None:
    results = write_predictions(example(folder=tmp_path), items=40)
    assert "predictions_unused" not in rules(results)
    file = results.parts[results.trials[1].parts["similarity"], 11].folder / "predictions/dev.similarity.csv"
    file.write_text(file.read_text().replace("\nsimilarity-7,", "\nsimilarity-7,-"))
    flag = next(f for f in report_document(results)["flags"] if f["rule"] == "predictions_unused")
    assert flag["severity"] == "caution"
    assert "saved predictions of 1 cell cannot be used, so the error of the metric" in flag["evidence"]
    assert "dev/similarity of similarity_head=siamese (neither their accuracy" in flag["evidence"]


def test_predictions_that_belong_to_no_metric_are_named(tmp_path: Path) -> None:
    results = write_predictions(example(folder=tmp_path), items=40)
    assert "predictions_unmatched" not in rules(results)
    folder = next(tmp_path.glob("*/predictions"))
    (folder / "dev.accuracy.csv").write_text("id,prediction,gold\na,1,0\nb,1,0\n")
    (flag,) = (f for f in report_document(results)["flags"] if f["rule"] == "predictions_unmatched")
    assert flag["severity"] == "note"
    assert flag["evidence"] == "saved predictions that belong to no metric are not used: dev.accuracy.csv"


def test_predictions_of_a_metric_without_a_split_say_how_to_name_both(tmp_path: Path) -> None:
    results = write_predictions(example(spec(metric=Metric(name="score")), folder=tmp_path), items=40)
    parts = {key: replace(part, metrics={"score": 0.5}) for key, part in results.parts.items()}
    scored = with_metrics(replace(results, parts=parts), lambda trial: {"score": 0.5 + trial.number / 1000})
    (flag,) = (f for f in report_document(scored)["flags"] if f["rule"] == "predictions_unmatched")
    assert flag["evidence"].endswith("dev.paraphrase.csv, dev.sentiment.csv, dev.similarity.csv")
    assert flag["fix"] == "call the metric `dev/score`, and the file with its predictions `dev.score.csv`"


def test_predictions_that_are_not_finite_are_called_so(tmp_path: Path) -> None:
    results = write_predictions(example(folder=tmp_path), items=40)
    file = results.parts[results.trials[1].parts["similarity"], 11].folder / "predictions/dev.similarity.csv"
    file.write_text(re.sub("similarity-7,[^,]*", "similarity-7,nan", file.read_text()))
    flag = next(f for f in report_document(results)["flags"] if f["rule"] == "predictions_unused")
    assert "is not a finite number" in flag["evidence"]


@pytest.mark.parametrize(
    ("facts", "raised"),
    [
        ({"torch": "2.13.0", "versions": {"torch": "2.12"}}, False),  # the only part that says
        ({"torch": "2.12.0"}, True),  # another seed of the same part has 2.13.0
        ({"torch": "2.13.0", "peak_memory_bytes": 7}, False),
    ],
)
def test_drift(facts: dict[str, Any], raised: bool) -> None:
    assert ("drift" in rules(with_facts(example(), 0, **facts))) is raised


def test_drift_of_a_machine_s_library() -> None:
    def versions(torch: str) -> Json:
        return {"versions": {"torch": torch}}

    results = example()
    parts = {
        k: replace(p, facts=versions("2.13" if i else "2.12"))
        for i, (k, p) in enumerate(results.parts.items())
    }
    assert "drift" in rules(replace(results, parts=parts))


def with_parts(results: Results, change: Callable[[PartResult], PartResult]) -> Results:
    """The results with what `change` makes of each part of a joint training."""
    joint = {t.parts["all"] for t in results.trials if "all" in t.parts}
    parts = {key: change(part) if key[0] in joint else part for key, part in results.parts.items()}
    return replace(results, parts=parts)


def with_seen(results: Results, joint_examples: int = 800, joint_epochs: float = 1.0) -> Results:
    """Every part says what it has seen of sentiment: 800 examples once, joint trainings what is asked for."""
    seen = {"examples": {"sentiment": 800}, "epochs": {"sentiment": 1.0}}
    parts = {key: replace(part, facts=seen) for key, part in results.parts.items()}
    joint = {"examples": {"sentiment": joint_examples}, "epochs": {"sentiment": joint_epochs}}
    return with_parts(replace(results, parts=parts), lambda part: replace(part, facts=joint))


def test_unequal_training() -> None:
    longer = with_parts(example(), lambda part: replace(part, steps=600))
    assert "unequal_training" in rules(longer)
    assert "unequal_training" not in rules(example())


@pytest.mark.parametrize(
    ("joint", "raised"), [({}, False), ({"joint_examples": 1600}, True), ({"joint_epochs": 0.5}, True)]
)
def test_unequal_examples_or_epochs(joint: dict[str, Any], raised: bool) -> None:
    assert ("unequal_training" in rules(with_seen(example(), **joint))) is raised


def test_unequal_training_of_one_match_is_seen_beside_another_that_trained_longer() -> None:
    """300 steps against 600 with one head, 1000 on both sides with the other."""
    factors = (factor("similarity_head", ["concat", "siamese"]), factor("l2", [0.0, 0.01]))
    results = example(spec("full", factors=factors, baseline={"similarity_head": "concat", "l2": 0.0}))
    steps = {
        trial.parts["all"]: 1000
        if trial.factors["similarity_head"] == "siamese"
        else (600 if trial.factors["l2"] else 300)
        for trial in results.trials
    }
    parts = {key: replace(part, steps=steps[key[0]]) for key, part in results.parts.items()}
    flags = report_document(replace(results, parts=parts))["flags"]
    said = [f["evidence"] for f in flags if f["evidence"].startswith("l2: 0.0 → 0.01: optimizer steps")]
    assert [text.partition("part")[2] for text in said] == [": 300 on one side, 600 on the other"]


def test_amounts_of_training_that_differ_are_told_apart() -> None:
    results = with_seen(with_parts(example(), lambda part: replace(part, steps=600)), joint_examples=1600)
    said = next(f["evidence"] for f in report_document(results)["flags"] if f["rule"] == "unequal_training")
    assert (
        "the longest part: 200 on one side, 600 on the other; examples of sentiment: 800 (1 epochs) on one"
        in said
    )


def test_what_another_factor_changes_is_not_unequal_within_a_contrast() -> None:
    """Joint cells train longer; the other factors are compared among separate cells, or among joint ones."""
    longer = with_parts(example(), lambda part: replace(part, steps=600))
    unequal = [f["evidence"] for f in report_document(longer)["flags"] if f["rule"] == "unequal_training"]
    assert [evidence.partition(":")[0] for evidence in unequal] == ["training"]


def with_early_end(results: Results) -> Results:
    """All training stopped early, of twice as many steps, at one that depends on the seed."""

    def ended(part: PartResult, seed: int) -> PartResult:
        early = {"steps": part.steps + seed, "of": 2 * part.steps}
        facts = {"examples": {"all": 8 * early["steps"]}, "stopped_early": early}
        return replace(part, steps=early["steps"], facts=part.facts | facts)

    parts = {key: ended(part, key[1]) for key, part in results.parts.items()}
    return replace(results, parts=parts)


def test_trials_that_stopped_early_are_counted() -> None:
    flags = {flag["rule"]: flag for flag in report_document(with_early_end(example()))["flags"]}
    trials = len(example().trials)
    assert f"ended {trials} of {trials} trials" in flags["stopped_early"]["evidence"]
    assert flags["stopped_early"]["severity"] == "note"


def test_the_share_of_steps_counts_parts_that_did_not_stop_early() -> None:
    results = with_parts(example(), lambda part: replace(part, steps=100))
    names = sorted({part for part, _ in results.parts})
    first = {"stopped_early": {"steps": 100, "of": 1000}}
    stopped = {
        key: replace(part, facts=part.facts | first) if key[0] == names[0] else part
        for key, part in results.parts.items()
    }
    flags = {flag["rule"]: flag for flag in report_document(replace(results, parts=stopped))["flags"]}
    parts_of = {len(trial.parts) for trial in results.trials if names[0] in trial.parts.values()}
    assert parts_of == {1} or "10 %" not in flags["stopped_early"]["evidence"]


def test_how_long_scores_let_a_trial_train_is_neither_drift_nor_unequal_training() -> None:
    assert rules(with_early_end(example())) == rules(example()) | {"stopped_early"}


def test_early_stopping_does_not_hide_that_more_steps_were_planned() -> None:
    longer = with_parts(example(), lambda part: replace(part, steps=600))
    assert "unequal_training" in rules(with_early_end(longer))


def tried(levels: Iterable[str]) -> Results:
    """A study after a search that tried cells of these levels of surgery on a seed of its own."""
    results = example(spec(factors=(factor("surgery", ["none", "pcgrad"]),), baseline={"surgery": "none"}))
    trials = [replace(results.trials[0], seed=1, factors={"surgery": level}) for level in levels]
    return replace(results, tried=tuple(trials))


@pytest.mark.parametrize(
    ("levels", "raised"),
    [(["none", "pcgrad"], False), (["none", "pcgrad", "pcgrad"], True), (["none"] * 2, True), ([], False)],
)
def test_unequal_tuning(levels: list[str], raised: bool) -> None:
    assert ("unequal_tuning" in rules(tried(levels))) is raised


def useless(results: Results, predicted: Callable[[int], float]) -> Results:
    """All sentiment predictions of the reference replaced, and its metrics with them."""
    for place, trial in enumerate(results.trials):
        if trial.cell == results.reference:
            key = trial.parts["sentiment"], trial.seed
            gold = [float(i % 5 == 0) for i in range(40)]
            rows = [f"{i},{predicted(i)!r},{g!r}" for i, g in enumerate(gold)]
            folder = results.parts[key].folder / "predictions"
            (folder / "dev.sentiment.csv").write_text("\n".join(["id,prediction,gold", *rows]) + "\n")
            metrics = {"dev/sentiment": float(np.mean([predicted(i) == g for i, g in enumerate(gold)]))}
            results = with_trial(results, place, metrics=trial.metrics | metrics)
            results = replace(
                results, parts=results.parts | {key: replace(results.parts[key], metrics=metrics)}
            )
    return results


@pytest.mark.parametrize(
    ("predicted", "raised"),
    [
        (lambda i: 0.0, {"constant_predictions"}),
        (lambda i: float(i % 4 == 0), {"majority_class"}),
        (lambda i: float(i % 5 == 0 and i != 5), set()),
    ],
)
def test_useless_predictions(tmp_path: Path, predicted: Callable[[int], float], raised: set[str]) -> None:
    results = useless(write_predictions(example(folder=tmp_path), items=40), predicted)
    assert rules(results) & {"constant_predictions", "majority_class"} == raised


def test_useless_predictions_say_in_how_many_seeds(tmp_path: Path) -> None:
    results = useless(write_predictions(example(folder=tmp_path), items=40), lambda i: 0.0)
    (flag,) = (one for one in report_document(results)["flags"] if one["rule"] == "constant_predictions")
    seeds = len(results.spec.seeds)
    assert f"dev/sentiment of baseline ({seeds} of {seeds} seeds)" in flag["evidence"]


def with_clusters(results: Results, label: Callable[[int], str]) -> Results:
    """The results with a cluster in every row of the predictions."""
    for part in results.parts.values():
        for path in (part.folder / "predictions").iterdir():
            head, *rows = path.read_text().splitlines()
            named = [f"{row},{label(place)}" for place, row in enumerate(rows)]
            path.write_text("\n".join([f"{head},cluster", *named]) + "\n")
    return results


@pytest.mark.parametrize(("size", "raised"), [(50, True), (10, False)])
def test_few_clusters(tmp_path: Path, size: int, raised: bool) -> None:
    results = write_predictions(example(folder=tmp_path), items=400)
    found = rules(with_clusters(results, lambda place: f"c{place // size}"))
    assert ("few_clusters" in found) is raised


def of_questions(results: Results, shift: float) -> Results:
    """Two arms whose answers to ten pairs of one question are right or wrong together, as far as a shift per question goes."""
    rng = np.random.default_rng(5)
    shifts = np.repeat(rng.normal(0, shift, (len(results.cells), 40)), 10, axis=1)
    difficulty = rng.normal(0, 1, 400)
    for place, trial in enumerate(results.trials):
        row = next(row for row, cell in enumerate(results.cells) if cell.hash == trial.cell)
        (part,) = trial.parts.values()
        right = difficulty + shifts[row] + rng.normal(0, 0.4, 400) > -0.7
        path = results.parts[part, trial.seed].folder / "predictions" / "dev.sentiment.csv"
        path.parent.mkdir(parents=True)
        path.write_text(
            "\n".join(["id,prediction,gold", *(f"q{i // 10}-{i},{int(r)},1" for i, r in enumerate(right))])
            + "\n"
        )
        metrics = {"dev/sentiment": float(right.mean())}
        results = with_trial(results, place, metrics=metrics)
        own = replace(results.parts[part, trial.seed], metrics=metrics)
        results = replace(results, parts=results.parts | {(part, trial.seed): own})
    return results


@pytest.mark.parametrize(("shift", "raised"), [(1.0, True), (0.0, False)])
def test_clusters_not_named(tmp_path: Path, shift: float, raised: bool) -> None:
    study = spec(
        "full",
        factors=(factor("training", ["joint", "later"]), factor("l2", [0.0, 0.01])),
        baseline={"training": "joint", "l2": 0.0},
        metric=Metric(name="dev/sentiment"),
    )
    assert ("clusters_not_named" in rules(of_questions(example(study, folder=tmp_path), shift))) is raised


def with_code(results: Results, version_of: Callable[[TrialResult], str]) -> Results:
    """The results with what `version_of(trial)` says of helper.py in each part."""
    versions = {(part, t.seed): version_of(t) for t in results.trials for part in t.parts.values()}
    parts = {
        key: replace(part, facts={**part.facts, "code": {"trainer.py": "1", "helper.py": versions[key]}})
        for key, part in results.parts.items()
    }
    return replace(results, parts=parts)


@pytest.mark.parametrize(
    ("version_of", "severity"),
    [
        (lambda trial: "1", None),
        (lambda trial: str(trial.seed), "note"),
        (
            lambda trial: str((trial.seed, trial.factors["training"] == "joint" or trial.seed == 11)),
            "caution",
        ),
        (lambda trial: str(trial.factors["training"]), "stop"),
    ],
)
def test_other_code_is_as_grave_as_what_it_is_mixed_up_with(
    version_of: Callable[[TrialResult], str], severity: str | None
) -> None:
    document = report_document(with_code(example(), version_of))
    found = {flag["severity"] for flag in document["flags"] if flag["rule"] == "other_code"}
    assert found == ({severity} if severity else set())
    assert all("helper.py" in flag["evidence"] for flag in document["flags"] if flag["rule"] == "other_code")


def test_trials_of_before_code_was_recorded_raise_no_flag_of_code() -> None:
    results = with_code(example(), lambda trial: str(trial.seed))
    old = {key: replace(part, facts={}) for key, part in results.parts.items() if key[1] != 11}
    assert "other_code" not in rules(replace(results, parts=results.parts | old))


def test_the_commit_is_harmless_where_the_code_is_known() -> None:
    results = with_code(example(), lambda trial: "1")
    parts = {
        k: replace(p, facts={**p.facts, "git": str(i)}) for i, (k, p) in enumerate(results.parts.items())
    }
    flags = report_document(replace(results, parts=parts))["flags"]
    assert {flag["severity"] for flag in flags if flag["rule"] == "drift"} == {"note"}
