"""`design: search`: which cells it tries, what it gives up, and who is trained on fresh seeds."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from operator import attrgetter
from pathlib import Path

import pytest
from design_examples import design_of, study, toy_trainer
from fixture_types import Ablate, RunHere, StartAblate, WalkStudy, not_none

from ablate.design.cells import build_design
from ablate.design.factorial import Space
from ablate.design.search import finalists, most_trials, most_tried
from ablate.errors import BadInput
from ablate.report.as_json import to_json
from ablate.report.report import report_of
from ablate.store.places import place_of
from ablate.store.reading import read_results
from ablate.store.results import Results, best_cell
from ablate.store.sampling import Tried, Watch, next_combination

FACTORS = "{a: [0, 1, 2, 3], b: [0, 1], c: {levels: [0, 1], only_when: {b: 1}}}"
HUNT = """\
study: hunt
trainer: walk
settings: {{steps: 8, seconds_per_step: {seconds}}}
factors:
  slope: [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
  noise: [0.1, 0.5, 0.9]
baseline: {{slope: 1.0, noise: 0.1}}
design: {{kind: search, trials: {trials}, finalists: 2, pruner: {pruner}}}
seeds: [1, 2, 3]
metric: {{name: dev/position}}
"""


def space(search: str = "search") -> Space:
    return Space(study(FACTORS, "{a: 0, b: 0}", search))


def tried(
    combination: dict[str, int], value: float = 0.0, state: str = "COMPLETE", curve: Iterable[float] = ()
) -> Tried:
    return Tried(combination, state, value if state == "COMPLETE" else None, dict(enumerate(curve, 1)))


@pytest.fixture
def hunt(walk_study: WalkStudy, tmp_path: Path) -> Callable[..., Path]:
    walk_study()  # puts the trainer there

    def write(seconds: float = 0.0, trials: int = 8, pruner: str = "median") -> Path:
        path = tmp_path / "hunt.yaml"
        path.write_text(HUNT.format(seconds=seconds, trials=trials, pruner=pruner))
        return path

    return write


def results(tmp_path: Path) -> Results:
    place = place_of("hunt", tmp_path / "runs")
    return read_results(place)


# The rules


def test_its_only_cell_beforehand_is_the_baseline() -> None:
    design = design_of(FACTORS, "{a: 0, b: 0}", "search")
    assert [cell.levels for cell in design.cells] == [{"a": 0, "b": 0}]
    assert design.reference == design.cells[0].hash


def test_a_level_that_the_trainer_refuses_is_told_before_anything_is_tried() -> None:
    with pytest.raises(BadInput, match=r"factors\.a: .*found 'x'"):
        build_design(study("{a: [0, x], b: [0, 1]}", "{a: 0, b: 0}", "search"), toy_trainer())


def test_finalists_are_the_best_and_the_baseline_in_blocks_of_fresh_seeds() -> None:
    spec = study(FACTORS, "{a: 0, b: 0}", "{kind: search, finalists: 2}").model_copy(
        update={"seeds": (1, 2, 3)}
    )
    order = finalists(spec, {"base": 0.1, "low": 0.0, "best": 0.9, "good": 0.5}, "base")
    assert order == [(cell, seed) for seed in (2, 3) for cell in ("best", "good", "base")]


def test_a_metric_to_minimize_has_the_smallest_as_finalists() -> None:
    spec = study(FACTORS, "{a: 0, b: 0}", "{kind: search, finalists: 1}")
    spec = spec.model_copy(update={"metric": spec.metric.model_copy(update={"goal": "minimize"})})
    assert finalists(spec, {"base": 0.5, "low": 0.1}, "base") == [("low", 2), ("base", 2)]


def test_the_choice_rests_on_seeds_that_took_no_part_in_it() -> None:
    assert study(FACTORS, "{a: 0, b: 0}", "search").deciding_seeds == (2,)
    assert study(FACTORS, "{a: 0, b: 0}", "full").deciding_seeds == (1, 2)


# What is tried next


@pytest.mark.parametrize("sampler", ["tpe", "random", pytest.param("gp", marks=pytest.mark.slow)])
def test_every_valid_cell_is_proposed_once_and_then_none(sampler: str) -> None:
    searched = space(f"{{kind: search, sampler: {sampler}}}")
    history: list[Tried] = []
    while (proposed := next_combination(searched, history)) is not None:
        history.append(tried(proposed, float(proposed["a"])))
    proposals = [one.combination for one in history]
    assert sorted(map(repr, proposals)) == sorted(map(repr, searched.full()))


def test_the_same_history_gives_the_same_proposal() -> None:
    history = [tried({"a": a, "b": 0}, float(a)) for a in range(3)]
    assert next_combination(space(), history) == next_combination(space(), history)


def test_tpe_looks_where_it_was_good() -> None:
    levels = "[" + ", ".join(map(str, range(20))) + "]"
    searched = Space(study(f"{{a: {levels}, b: {levels}}}", "{a: 0, b: 0}", "search"))
    history: list[Tried] = []
    for _ in range(60):
        proposed = not_none(next_combination(searched, history))
        history.append(tried(proposed, -abs(proposed["a"] - 15) - abs(proposed["b"] - 5)))
    late = [-not_none(one.value) for one in history[30:]]
    assert sum(late) / len(late) < 6  # a random cell is 11.5 away on average


def test_a_space_too_large_to_list_is_searched_all_the_same() -> None:
    ten = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]"
    names = "abcdefgh"
    spec = study(
        "{" + ", ".join(f"{n}: {ten}" for n in names) + "}",
        "{" + ", ".join(f"{n}: 0" for n in names) + "}",
        "search",
    )
    assert next_combination(Space(spec), [tried(Space(spec).baseline())]) is not None


# What is given up


@pytest.mark.parametrize("pruner", ["median", "asha", "hyperband", "wilcoxon"])
def test_a_pruner_gives_up_what_falls_behind_and_keeps_what_leads(pruner: str) -> None:
    searched = space(f"{{kind: search, pruner: {pruner}}}")
    rising = [
        tried({"a": 0, "b": 0}, float(n), curve=[n * step + n for step in range(1, 65)]) for n in range(2, 12)
    ]

    def given_up(slope: float) -> bool:
        watch = Watch(searched.spec, rising, {})
        return any(watch.should_prune(step, slope * step) for step in range(1, 65))

    assert given_up(-1.0)
    assert not given_up(100.0)


def test_a_trial_that_goes_on_is_judged_with_what_it_reported_before() -> None:
    searched = space("{kind: search, pruner: median}")
    before = [tried({"a": 0, "b": 0}, 5.0, curve=[5.0, 5.0]) for _ in range(5)]
    assert Watch(searched.spec, before, {}).should_prune(2, 4.0)
    assert not Watch(searched.spec, before, {1: 9.0}).should_prune(2, 4.0)  # the median pruner takes its best


# The whole of it


def test_a_search_tries_prunes_trains_its_finalists_again_and_compares_those(
    hunt: Callable[..., Path], ablate: Ablate, tmp_path: Path
) -> None:
    path = hunt(trials=12)
    done = ablate("run", path, "--json")
    assert done.returncode == 0, done.stderr
    found = results(tmp_path)
    by_seed = Counter(trial.seed for trial in found.trials)
    assert by_seed == {1: 12, 2: 3, 3: 3}
    assert len(found.trials) == most_trials(found.spec)
    assert json.loads(done.stdout)["pruned"] > 0
    slope = next(c for c in found.cells if c.hash == best_cell(found)).levels["slope"]
    assert isinstance(slope, float)
    assert slope >= 2.5
    document = to_json(report_of(found))
    assert document["design"]["tried"] == dict(Counter(t.state for t in found.trials if t.seed == 1))
    assert document["design"]["seeds"] == [2, 3]
    assert len(document["cells"]) == 3
    assert document["effects"] == []  # it estimates none
    shown = [(trial["cell"], trial["state"]) for trial in document["ledger"]["tried"]]
    assert shown == [
        (trial.cell, trial.state) for trial in sorted(found.trials, key=attrgetter("number"))[:12]
    ]
    again = ablate("run", path, "--json")
    assert json.loads(again.stdout) == json.loads(done.stdout)


def test_a_limit_changes_no_choice_of_a_search(hunt: Callable[..., Path], run_here: RunHere) -> None:
    """Each cell is still chosen from the results before it."""
    path = hunt(trials=14, pruner="none")
    whole = run_here(path, home="whole")["trials"]
    limited = run_here(path, home="limited", limit=13)
    assert [(one["cell"], one["state"]) for one in limited["trials"]] == [
        (one["cell"], one["state"]) for one in whole[:13]
    ]
    assert run_here(path, home="limited", limit=2)["complete"] == 15
    assert [one["cell"] for one in run_here(path, home="limited")["trials"]] == [one["cell"] for one in whole]


def test_a_small_space_has_no_more_trials_than_combinations() -> None:
    spec = study("{a: [0, 1, 2], b: {levels: [0, 1], only_when: {a: 1}}}", "{a: 0}", "search")
    assert len(Space(spec).full()) == most_tried(spec) == 4
    assert most_trials(spec) == 4 + 4 * (len(spec.seeds) - 1)


def test_killed_workers_and_supervisor_lose_nothing_and_repeat_nothing(
    hunt: Callable[..., Path], ablate: Ablate, start_ablate: StartAblate, tmp_path: Path
) -> None:
    path = hunt(seconds=0.05, pruner="none")
    supervisor = start_ablate("run", path, "--workers", 2, ABLATE_CHECKPOINT_SECONDS="0.1")
    while len(logs := list(tmp_path.glob("runs/hunt/trials/*/trained.log"))) < 4:
        time.sleep(0.02)
    workers = {int(line.split()[0]) for log in logs for line in log.read_text().splitlines()}
    for pid in [supervisor.pid, *workers]:
        os.kill(pid, signal.SIGKILL)
    done = ablate("run", path)
    assert done.returncode == 0, done.stderr
    found = results(tmp_path)
    assert Counter(trial.seed for trial in found.trials) == {1: 8, 2: 3, 3: 3}
    assert {trial.state for trial in found.trials} == {"COMPLETE"}
    assert max(Counter((trial.cell, trial.seed) for trial in found.trials).values()) == 1


@pytest.mark.slow
def test_a_limit_is_kept_and_the_rest_comes_later(
    hunt: Callable[..., Path], ablate: Ablate, tmp_path: Path
) -> None:
    path = hunt()
    ablate("run", path, "--limit", 3)
    assert len(results(tmp_path).trials) == 3
    ablate("run", path)
    assert len(results(tmp_path).trials) == 14


def test_a_search_may_be_extended_by_more_trials_and_by_nothing_else(
    hunt: Callable[..., Path], ablate: Ablate, tmp_path: Path
) -> None:
    ablate("run", hunt(trials=3))
    assert ablate("run", hunt(trials=5), "--extend").returncode == 0
    assert Counter(trial.seed for trial in results(tmp_path).trials)[1] == 5
    changed = hunt(trials=5)
    changed.write_text(changed.read_text().replace("2.5, 3.0]", "2.5]"))
    assert ablate("run", changed, "--extend").returncode == 2


def test_only_is_refused(hunt: Callable[..., Path], ablate: Ablate) -> None:
    done = ablate("run", hunt(), "--only", "slope=2.0")
    assert (done.returncode, done.stderr) == (
        2,
        "--only: a search chooses its cells itself; leave --only out\n",
    )
