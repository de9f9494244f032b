import math
from dataclasses import replace

import numpy as np
import pytest
from report_examples import example, report_document, spec, with_trial

from ablate.evidence.frames import MISSING, grid, tidy_frame
from ablate.evidence.noise import seed_sd
from ablate.spec.model import level_text
from ablate.store.results import Results


def test_a_row_per_trial_with_factors_and_metrics() -> None:
    results = example()
    frame = tidy_frame(results)
    assert len(frame) == len(results.trials)
    assert {"cell", "seed", "number", "state", "training", "dev/mean", "seconds"} <= set(frame.columns)


def test_a_factor_that_does_not_exist_is_none() -> None:
    frame = tidy_frame(example())
    assert frame.loc[frame.training == "separate", "surgery"].isna().all()


def test_texts_that_look_missing_stay_texts() -> None:
    study = spec()
    changed = with_trial(example(study), 0, factors={"similarity_head": "NA", "l2": "null"})
    assert tidy_frame(changed).loc[0, "similarity_head"] == "NA"


def test_a_factor_named_like_a_column_of_ours_keeps_its_values() -> None:
    results = example()
    results = with_trial(results, 0, factors={"seed": "x"})
    results = replace(
        results,
        spec=results.spec.model_copy(
            update={"factors": (results.spec.factors[0].model_copy(update={"name": "seed"}),)}
        ),
    )
    frame = tidy_frame(results)
    assert frame.loc[0, "factor.seed"] == "x"
    assert frame.loc[0, "seed"] == 11


def test_an_empty_study_has_its_columns() -> None:
    results = replace(example(), trials=())
    assert {"cell", "seed", "training"} <= set(tidy_frame(results).columns)


def test_missing_trials_keep_their_place() -> None:
    results = example()
    arranged = grid(replace(results, trials=results.trials[1:]))
    assert arranged.states[0, 0] == MISSING
    assert math.isnan(arranged.values["dev/mean"][0, 0])


def test_infinity_is_not_a_value() -> None:
    arranged = grid(with_trial(example(), 0, metrics={"dev/mean": math.inf}))
    assert math.isnan(arranged.values["dev/mean"][0, 0])


def test_same_parts_have_the_same_source() -> None:
    arranged = grid(example())  # the second cell changes the similarity head, trained separately
    sentiment = arranged.sources("dev/sentiment")
    similarity = arranged.sources("dev/similarity")
    assert np.array_equal(sentiment[0], sentiment[1])
    assert (similarity[0] != similarity[1]).all()


def renamed(results: Results, old: str, new: str) -> Results:
    """The results of a trainer that calls the metric `old` by the name `new`, which decides if `old` did."""
    metric = results.spec.metric
    name = new if metric.name == old else metric.name
    return replace(
        results,
        spec=results.spec.model_copy(update={"metric": metric.model_copy(update={"name": name})}),
        trials=tuple(
            replace(t, metrics={new if k == old else k: v for k, v in t.metrics.items()})
            for t in results.trials
        ),
    )


@pytest.mark.parametrize("name", ["dev/recall@10", "test/accuracy"])
def test_the_metric_that_decides_has_effects_whatever_its_name(name: str) -> None:
    document = report_document(renamed(example(), "dev/mean", name))
    effect = next(row for row in document["effects"] if row["factor"] == "similarity_head")
    assert (effect["metric"], effect["verdict"]) == (name, "helps")


def test_the_last_epoch_s_scores_get_effects_only_where_they_stand_alone() -> None:
    beside = renamed(renamed(example(), "dev/sentiment", "dev/mean@last"), "dev/paraphrase", "dev/f1@last")
    assert grid(beside).dev_metrics == ("dev/mean", "dev/f1@last", "dev/similarity")


def test_sources_of_different_seeds_differ() -> None:
    sentiment = grid(example()).sources("dev/sentiment")
    assert len(set(sentiment[0])) == 3


def test_level_text_is_yaml() -> None:
    assert [level_text(level) for level in (True, None, 0.01, "off")] == ["true", "null", "0.01", "off"]


def test_no_name_of_a_factor_or_metric_takes_the_column_of_another() -> None:
    results = with_trial(
        example(), 0, factors={"seed": "x", "factor.seed": "y"}, metrics={"seed": 0.5, "dev/mean": 0.6}
    )
    factors = tuple(
        one.model_copy(update={"name": name})
        for one, name in zip(results.spec.factors, ("seed", "factor.seed"), strict=False)
    )
    frame = tidy_frame(replace(results, spec=results.spec.model_copy(update={"factors": factors})))
    found = [frame.loc[0, name] for name in ("seed", "factor.seed", "factor.factor.seed", "metric.seed")]
    assert found == [11, "x", "y", 0.5]


def copied(results: Results, seeds: tuple[int, ...], steps: int = 200) -> Results:
    """Let the parts of the cell with l2 continue from the baseline's, with the metrics of the baseline."""
    baseline, changed = results.cells[0], next(cell for cell in results.cells if cell.levels["l2"] == 0.01)
    parts = dict(results.parts)
    for name, part in changed.parts.items():
        for seed in seeds:
            other = parts[baseline.parts[name].hash, seed]
            facts = {"continued": {"prefix": "p", "part": other.part, "steps": steps, "seconds": 1.0}}
            parts[part.hash, seed] = replace(parts[part.hash, seed], metrics=other.metrics, facts=facts)
    of = {trial.seed: trial.metrics for trial in results.trials if trial.cell == baseline.hash}
    trials = tuple(
        replace(trial, metrics=of[trial.seed])
        if trial.cell == changed.hash and trial.seed in seeds
        else trial
        for trial in results.trials
    )
    return replace(results, parts=parts, trials=trials)


@pytest.mark.parametrize(("steps", "same"), [(200, 2), (150, 0)])
def test_a_part_that_continued_with_no_step_left_is_the_other_model(steps: int, same: int) -> None:
    results = copied(example(), (11, 22), steps)
    row = next(
        row
        for row in report_document(results)["effects"]
        if row["factor"] == "l2" and row["metric"] == "dev/mean"
    )
    assert (f"in {same} of 3 comparisons both sides use the same trained part" in row["note"]) == bool(same)


def test_what_is_the_same_in_part_of_the_seeds_adds_no_noise() -> None:
    """The cell with l2 has only two of three seeds, and there equals the baseline."""
    results = copied(example(keep=lambda cell, seed: cell.levels["l2"] == 0.0 or seed != 33), (11, 22))
    without = replace(results, trials=tuple(t for t in results.trials if t.factors["l2"] == 0.0))
    assert seed_sd(grid(results), "dev/mean") == seed_sd(grid(without), "dev/mean")


def test_parts_that_say_to_continue_from_each_other_end_the_search() -> None:
    results = example()
    (one, seed), (other, _) = [key for key in results.parts if key[1] == 11][:2]
    for here, there in ((one, other), (other, one)):
        facts = {"continued": {"part": there, "steps": 200}}
        part = replace(results.parts[here, seed], facts=facts)
        results = replace(results, parts={**results.parts, (here, seed): part})
    metric = next(iter(results.parts[one, seed].metrics))
    assert (grid(results).sources(metric) >= 0).all()
