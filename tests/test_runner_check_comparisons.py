"""What traces say about a trainer: when two trainings are equal, and where they are not."""

import math
from pathlib import Path

import pytest

from ablate.runner.check.comparisons import first_difference, resume, same_ids, same_seed, seconds_per_step
from ablate.runner.check.one_run import Job, Trace, Training, read_job, read_trace

NAN = math.nan


def trace(*losses: float, device: str = "cpu", metrics: dict[str, float] | None = None) -> Trace:
    points = {(step, "loss"): loss for step, loss in enumerate(losses, 1)}
    steps = [(step, 0.5 * step) for step, _ in points]
    return Trace(points, steps, metrics or {"dev/score": 1.0}, device=device)


def predictions(*rows: str) -> dict[str, bytes]:
    return {"dev.y.csv": "\n".join(["id,prediction,gold", *rows, ""]).encode()}


def test_values_that_are_no_numbers_are_equal() -> None:
    assert first_difference(trace(1.0, NAN), trace(1.0, float("nan"))) is None


@pytest.mark.parametrize(
    "name", ["train/seconds", "eval_runtime", "eval_samples_per_second", "time", "gpu_memory", "elapsed.s"]
)
def test_what_measures_time_or_memory_is_not_compared(name: str) -> None:
    assert first_difference(trace(metrics={name: 1.0}), trace(metrics={name: 2.0})) is None


@pytest.mark.parametrize("name", ["dev/loss", "sentiment", "times_correct_total", "dev/second_task"])
def test_other_names_are_compared(name: str) -> None:
    assert first_difference(trace(metrics={name: 1.0}), trace(metrics={name: 2.0})) is not None


def test_the_first_difference_is_that_of_the_earliest_step() -> None:
    found = first_difference(trace(1.0, 2.0, 3.0), trace(1.0, 2.5, 4.0))
    assert str(found) == "loss at step 2 is 2.0 and 2.5"


def test_predictions_are_compared_too() -> None:
    one, other = trace(), trace()
    one.predictions, other.predictions = predictions("a,1,1", "b,0,1"), predictions("a,1,1", "b,1,1")
    assert str(first_difference(one, other)) == "line 3 of predictions/dev.y.csv is b,0,1 and b,1,1"


@pytest.mark.parametrize(("device", "result"), [("cpu", "FAIL"), ("cuda:0", "PASS")])
def test_rounding_is_forgiven_on_a_gpu_alone(device: str, result: str) -> None:
    one, other = trace(1.0, 0.5, device=device), trace(1.0, 0.5000001, device=device)
    assert same_seed(one, other).result == result


def test_more_than_rounding_is_not_forgiven_on_a_gpu() -> None:
    assert same_seed(trace(1.0, device="cuda:0"), trace(1.001, device="cuda:0")).result == "FAIL"


def test_points_that_a_kill_lost_are_no_fault() -> None:
    killed, resumed = trace(3.0), trace()
    killed.saved, resumed.restored = 1, ["step"]
    resumed.points, resumed.steps = {(3, "loss"): 1.0}, [(3, 1.0)]
    found = resume(trace(3.0, 2.0, 1.0), killed, resumed)
    assert (found.result, found.seen) == ("PASS", "killed after step 1 and resumed: the same bits")


def test_a_start_from_the_first_step_is_not_called_resumed() -> None:
    killed, again = trace(3.0), trace(3.0, 2.0, 1.0)
    killed.saved, again.restored = 1, ["read", "step"]
    found = resume(trace(3.0, 2.0, 1.0), killed, again)
    assert (found.result, "resumed" in found.seen) == ("PASS", False)
    assert found.seen.startswith("killed after step 1 and started over")


def test_items_in_another_order_are_a_fault_since_the_report_does_not_pair_them() -> None:
    one, other = predictions("a,1,1", "b,0,1"), predictions("b,0,1", "a,1,1")
    found = same_ids({"one": one, "other": other}, {})
    assert found.result == "FAIL"
    assert "the same items in another order: items 'a' and 'b' are the first that differ" in found.seen
    assert found.fix is not None
    assert "write the items in the same order" in found.fix


def test_items_of_other_clusters_are_a_fault() -> None:
    one, other, none = (
        {"dev.y.csv": f"id,prediction,gold{rows}\n".encode()}
        for rows in (",cluster\na,1,1,x", ",cluster\na,1,1,y", "\na,1,1")
    )
    found = same_ids({"one": one, "other": other}, {})
    assert (found.result, "the cluster of item 'a' is 'x' and 'y'" in found.seen) == ("FAIL", True)
    found = same_ids({"one": one}, {"none": none})
    assert (found.result, "the cluster of item 'a' is 'x' and none" in found.seen) == ("FAIL", True)
    assert same_ids({"one": one, "other": one}, {}).result == "PASS"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (("a,1,1", "b,0,0"), "item 'b' is labelled 1 and 0"),
        (("a,1,1",), "items 'b' and '' are the first that differ; 2 and 1 items"),
        (("a,1,1", "c,0,1"), "items 'b' and 'c' are the first that differ"),
    ],
)
def test_other_items_are_a_fault(rows: tuple[str, ...], said: str) -> None:
    found = same_ids({"one": predictions("a,1,1", "b,0,1")}, {"other": predictions(*rows)})
    assert found.result == "FAIL"
    assert said in found.seen


def test_an_id_that_is_there_twice_is_a_fault() -> None:
    assert "twice" in same_ids({"one": predictions("a,1,1", "a,0,1")}, {}).seen


def test_predictions_that_some_cells_lack_are_named() -> None:
    found = same_ids({"one": predictions("a,1,1"), "other": {}}, {})
    assert (found.result, "1 item, missing in 1 cell" in found.seen) == ("PASS", True)


def test_a_step_takes_the_median_time() -> None:
    one = Trace(steps=[(1, 0.0), (2, 1.0), (4, 2.0), (5, 9.0)])
    assert seconds_per_step(one) == 1.0
    assert seconds_per_step(Trace(steps=[(1, 0.0)])) is None


def test_a_killed_process_leaves_what_its_checkpoint_covers(tmp_path: Path) -> None:
    file = tmp_path / "trace"
    file.write_text(
        '{"point": [1, {"loss": 2.0}]}\n{"step": 1, "at": 0.1}\n{"saved": 1}\n{"point": [2, {"loss": 1.0}]}\n{"st'
    )
    found = read_trace(file, killed=True)
    assert (found.points, found.saved, found.last_step) == ({(1, "loss"): 2.0}, 1, 1)
    file.write_text('{"point": [1, {"loss": 2.0}]}\n')
    assert read_trace(file, killed=True) == Trace()


def test_a_job_reads_back() -> None:
    training = Training({"lr": 0.1}, 1, "work", "cache", 60.0)
    job = Job("trainer", "folder", training, "trace", before=training, save_at=3)
    assert read_job(job.to_json().encode()) == job
