"""`ablate test`: the best cell on the test split, for every seed, once, on record."""

import json
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Ablate
from test_report_looks import looked

from ablate.contract import Context
from ablate.errors import BadInput, StoreError, TrialError, Unavailable
from ablate.runner.cadence import Cadence
from ablate.runner.logs import Logbook
from ablate.runner.prepare import prepare
from ablate.runner.run import run_order
from ablate.runner.test_split import score_chosen, scores_text
from ablate.runner.worker import Worker
from ablate.store.creating import create_store
from ablate.store.places import Place
from ablate.store.reading import read_results
from ablate.store.results import Results

STUDY = """
study: tested
trainer: tested
settings: {{{settings}}}
factors: {{gain: [1.0, 3.0, 2.0]}}
baseline: {{gain: 1.0}}
design: full
seeds: [11, 22]
metric: {{name: dev/score}}
"""


@pytest.fixture
def run_tested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Place]:
    """Run the study with these settings in this process, and return where it lives."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "trainers"))

    def run(settings: str = "", leave: int = 0) -> Place:
        (tmp_path / "tested.yaml").write_text(STUDY.format(settings=settings))
        prepared = prepare(tmp_path / "tested.yaml", home=tmp_path / "runs")
        place = prepared.place
        place.folder.mkdir(parents=True)
        store = create_store(place, prepared.spec, prepared.design)
        count = store.add_trials(prepared.design.cells, run_order(prepared.design, prepared.spec))
        with closing(Logbook()) as logbook:
            worker = Worker(
                store, prepared.trainer, lambda: False, lambda *_, **__: None, Cadence(60.0), logbook
            )
            worker.run(range(count - leave))
        store.engine.dispose()
        return place

    return run


def results(place: Place) -> Results:
    return read_results(place)


def test_the_best_cell_is_scored_for_every_seed(run_tested: Callable[..., Place]) -> None:
    document = score_chosen(run_tested(), again=False)
    assert (document["factors"], document["seeds"]) == ({"gain": 3.0}, [11, 22])
    # two parts of gain 3 and 6; combined by their sum
    assert document["metrics"]["test/score"] == {"mean": 242.0, "per_seed": {"11": 231.0, "22": 253.0}}


def test_the_command_prints_one_document_whatever_a_trainer_prints(
    run_tested: Callable[..., Place], ablate: Ablate
) -> None:
    run_tested()
    done = ablate("test", "tested", "--json", PYTHONPATH=str(Path(__file__).parent / "trainers"))
    assert json.loads(done.stdout)["metrics"]["test/score"]["mean"] == 242.0
    assert "a trainer may print" in done.stderr


def test_who_and_when_are_on_record(run_tested: Callable[..., Place]) -> None:
    place = run_tested()
    document = score_chosen(place, again=False)
    (use,) = results(place).test_uses
    assert document["uses"] == [vars(use)]
    assert use.when.endswith("Z")
    assert "@" in use.who
    assert use.unfinished == 0


def test_the_trials_of_the_cell_gain_test_metrics_and_keep_those_of_dev(
    run_tested: Callable[..., Place],
) -> None:
    place = run_tested()
    before = {trial.number: trial.metrics for trial in results(place).trials}
    score_chosen(place, again=False)
    for trial in results(place).trials:
        gained = {name: v for name, v in trial.metrics.items() if name not in before[trial.number]}
        assert trial.metrics == before[trial.number] | gained
        assert ("test/score" in gained) == (trial.factors == {"gain": 3.0})


def test_predictions_are_kept_beside_those_of_dev(run_tested: Callable[..., Place]) -> None:
    place = run_tested()
    score_chosen(place, again=False)
    found = {path.read_text() for path in place.folder.glob("trials/*/predictions/test.task.csv")}
    scores = [100 + seed + gain for seed in (11, 22) for gain in (3.0, 6.0)]
    assert found == {f"id,prediction,gold\nx,{score},0.0\n" for score in scores}


def test_a_second_look_is_refused_and_names_the_first(run_tested: Callable[..., Place]) -> None:
    place = run_tested()
    score_chosen(place, again=False)
    (use,) = results(place).test_uses
    with pytest.raises(BadInput, match=rf"used on {use.when} by {use.who} .*--again"):
        score_chosen(place, again=False)


def test_again_is_recorded_again_and_said(run_tested: Callable[..., Place]) -> None:
    place = run_tested()
    score_chosen(place, again=False)
    document = score_chosen(place, again=True)
    assert len(document["uses"]) == len(results(place).test_uses) == 2
    assert "note: the test split has now been used 2 times" in scores_text(document)


def test_of_two_who_look_at_once_one_is_refused(
    run_tested: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = run_tested()
    before = results(place)
    score_chosen(place, again=False)
    monkeypatch.setattr("ablate.runner.test_split.read_results", lambda *_, **__: before)
    with pytest.raises(StoreError, match="by another process"):
        score_chosen(place, again=False)


def test_a_model_that_was_not_kept_is_no_use(run_tested: Callable[..., Place]) -> None:
    place = run_tested("keep: false")
    with pytest.raises(Unavailable, match="no model was kept; set keep: true"):
        score_chosen(place, again=False)
    assert results(place).test_uses == ()


def test_a_use_that_fails_keeps_predictions_that_training_wrote(run_tested: Callable[..., Place]) -> None:
    place = run_tested("keep: false")
    written = [folder / "predictions/test.own.csv" for folder in place.folder.glob("trials/*-11")]
    for file in written:
        file.parent.mkdir()
        file.write_text("id,prediction,gold\n")
    with pytest.raises(Unavailable):
        score_chosen(place, again=False)
    assert all(file.is_file() for file in written)


def test_a_cell_is_scored_for_the_seeds_that_its_looks_gave_it() -> None:
    results = looked(3)
    seeds = {cell.hash: results.deciding_seeds_of(cell.hash) for cell in results.cells}
    assert seeds == {cell: list(results.seeds_of(cell)) for cell in seeds}
    assert len({len(of_cell) for of_cell in seeds.values()}) > 1


def test_an_unfinished_study_is_recorded_as_such(run_tested: Callable[..., Place]) -> None:
    place = run_tested(leave=1)  # of the last seed one cell
    document = score_chosen(place, again=False)
    assert results(place).test_uses[0].unfinished == 1
    assert "note: 1 trials of the study have no result yet" in scores_text(document)


def test_without_a_complete_cell_there_is_nothing_to_score(run_tested: Callable[..., Place]) -> None:
    with pytest.raises(BadInput, match="finish one with `ablate run`"):
        score_chosen(run_tested(leave=3), again=False)


def test_a_trainer_without_test_is_told_what_to_add(
    run_tested: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = run_tested()
    monkeypatch.delattr("tested.test")
    with pytest.raises(BadInput, match=r"has no `test`; add test\(settings, context\)"):
        score_chosen(place, again=False)


def test_labels_kept_back_give_predictions_and_no_metric(run_tested: Callable[..., Place]) -> None:
    place = run_tested("labels: false")
    assert score_chosen(place, again=False)["metrics"] == {}
    assert len(list(place.folder.glob("trials/*/predictions/test.task.csv"))) == 4


def test_a_metric_that_is_not_called_test_is_refused(run_tested: Callable[..., Place]) -> None:
    place = run_tested("name: accuracy")
    with pytest.raises(
        TrialError, match=r"no metric named test/\.\.\.; it returned accuracy3.0, accuracy6.0"
    ):
        score_chosen(place, again=False)


def test_what_fails_with_the_scores_at_hand_stays_on_record(
    run_tested: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an error of the trainer's own `combine` shows the scores, as often as one likes."""
    import tested

    place, combine, test = run_tested(), tested.combine, tested.test

    def telling(settings: object, metrics: object) -> dict[str, float]:
        raise ValueError(f"expected dev/score in {metrics}")

    def of_one_part(settings: Any, context: Context) -> Any:
        if settings.gain == 6.0:
            raise KeyError("task")
        return test(settings, context)

    for name, broken in (("combine", telling), ("test", of_one_part)):
        monkeypatch.setattr(tested, name, broken)
        with pytest.raises(TrialError, match=r"this use stays on record; .* with --again$"):
            score_chosen(place, again=name == "test")
        monkeypatch.setattr(tested, "combine", combine)
        assert not list(place.folder.glob("trials/*/predictions/test.*"))
    with pytest.raises(BadInput, match="--again scores again"):
        score_chosen(place, again=False)
    assert len(results(place).test_uses) == 2


def test_a_kill_between_scoring_and_recording_leaves_the_use_on_record(
    run_tested: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = run_tested()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ablate.store.writing.Store.record_test_scores", killed)
    with pytest.raises(KeyboardInterrupt):
        score_chosen(place, again=False)
    assert len(results(place).test_uses) == 1
    with pytest.raises(BadInput, match="--again scores again"):
        score_chosen(place, again=False)


def test_a_test_that_failed_leaves_no_predictions_for_the_test_split(
    run_tested: Callable[..., Place],
) -> None:
    place = run_tested("name: accuracy")
    with pytest.raises(TrialError):
        score_chosen(place, again=False)
    assert not list(place.folder.glob("trials/*/predictions/test.*"))


MOVED = """\
study: moved
trainer: moved
factors: {gain: [1.0, 2.0]}
baseline: {gain: 1.0}
design: full
seeds: [1, 2]
metric: {name: dev/x}
"""
MOVED_TRAINER = """\
from pydantic import BaseModel
class Settings(BaseModel):
    gain: float = 1.0
def train(settings, context):
    return {"dev/x": settings.gain + context.seed}
def test(settings, context):
    return {"test/x": settings.gain}
"""


def test_a_study_whose_folder_was_moved_is_no_use(ablate: Ablate, tmp_path: Path) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "moved.yaml").write_text(MOVED)
    (tmp_path / "moved.py").write_text(MOVED_TRAINER)
    trainers = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    assert ablate("run", "there/moved.yaml", **trainers).returncode == 0
    folder.rename(tmp_path / "elsewhere")
    refused = ablate("test", "moved", **trainers)
    assert refused.returncode == 2, refused.stderr
    assert f"{folder}: the folder of the study's file is not there" in refused.stderr
    assert ablate("run", "elsewhere/moved.yaml", **trainers).returncode == 0
    done = ablate("test", "moved", "--json", **trainers)
    assert len(json.loads(done.stdout)["uses"]) == 1


def test_code_that_was_changed_since_is_named(ablate: Ablate, tmp_path: Path) -> None:
    (tmp_path / "moved.yaml").write_text(MOVED)
    (tmp_path / "moved.py").write_text(MOVED_TRAINER)
    assert ablate("run", "moved.yaml").returncode == 0
    assert json.loads(ablate("test", "moved", "--json").stdout)["other_code"] == []
    (tmp_path / "moved.py").write_text(MOVED_TRAINER + "unused = 1\n")
    done = ablate("test", "moved", "--again")
    assert "note: scored by code that differs from the recorded code: moved.py (changed; " in done.stdout


def test_whatever_ends_a_test_before_its_scores_is_no_use(
    run_tested: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = run_tested()

    def full_disk(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("ablate.runner.test_split.choose_device", full_disk)
    with pytest.raises(OSError, match="No space"):
        score_chosen(place, again=False)
    assert results(place).test_uses == ()


def test_a_failed_second_use_is_no_use_and_keeps_the_first(run_tested: Callable[..., Place]) -> None:
    place = run_tested()
    score_chosen(place, again=False)
    before = results(place)
    for model in place.folder.glob("trials/*/model"):
        model.unlink()
    with pytest.raises(Unavailable):
        score_chosen(place, again=True)
    assert results(place).test_uses == before.test_uses
    assert [trial.metrics for trial in results(place).trials] == [trial.metrics for trial in before.trials]
    assert len(list(place.folder.glob("trials/*/predictions/test.task.csv"))) == 4


def test_metrics_of_training_that_differ_from_test_in_case_stay(
    run_tested: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    import tested

    train = tested.train
    monkeypatch.setattr(tested, "train", lambda *given: {**train(*given), "Test/f1": 0.5})
    place = run_tested()
    score_chosen(place, again=False)
    assert all("Test/f1" in trial.metrics for trial in results(place).trials)
