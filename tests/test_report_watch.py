"""`ablate report --watch`: what its page says while a study runs, and how it ends."""

import datetime
import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import TRAINERS
from fixture_types import Ablate, StartAblate, not_none
from postgres_server import PostgresServer
from report_examples import cells_of, example, report_document, searched, spec
from test_runner_run import wait_for

from ablate.design.search import most_tried
from ablate.report.plots.running import running_curves
from ablate.report.render.html import render_html
from ablate.report.report import report_of
from ablate.report.sections.live import Live, live_of
from ablate.runner.status import status_document
from ablate.spec.model import Looking
from ablate.store.results import Look, Point, Results, TrialResult, is_going_on

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
RELOADS = 'http-equiv="refresh"'
GATED = """\
study: gated
trainer: gated
factors: {slope: [1.0, 2.0]}
baseline: {slope: 1.0}
design: full
seeds: [1, 2]
metric: {name: dev/position}
budget: {usd_per_hour: 3600}
"""


@pytest.fixture
def gated_study(tmp_path: Path) -> Path:
    """A study whose trials go on until there is a file `go`."""
    shutil.copy(TRAINERS / "gated.py", tmp_path)
    path = tmp_path / "gated.yaml"
    path.write_text(GATED)
    return path


def half_done(running: int = 1, seeds: tuple[int, ...] = (11, 22, 33)) -> Results:
    """A study of which one seed is done, and some trials of the next are running."""
    results = example(spec(seeds=seeds), keep=lambda cell, seed: seed == 11)
    waiting = [trial for trial in results.trials if trial.state == "WAITING"][:running]
    states = {trial.number: "RUNNING" for trial in waiting}
    trials = tuple(
        replace(trial, state=states.get(trial.number, trial.state), attempts=1) for trial in results.trials
    )
    return replace(results, trials=trials)


def live(results: Results) -> Live:
    return live_of(results, NOW, every=15)


def page_of(folder: Path) -> Callable[[], str]:
    page = folder / "report.html"
    return lambda: page.read_text() if page.is_file() else ""


def test_it_shows_the_curves_before_the_first_trial_is_done_and_ends_with_the_study(
    gated_study: Path, start_ablate: StartAblate, ablate: Ablate, tmp_path: Path
) -> None:
    run = start_ablate("run", gated_study, ABLATE_CHECKPOINT_SECONDS="0.1")
    wait_for(lambda: list(tmp_path.glob("runs/gated/trials/*/step-*.checkpoint")))
    page = page_of(tmp_path / "reports/gated")
    watch = start_ablate("report", "gated", "--watch", "--every", 1, "--json")
    wait_for(lambda: "Curves of running trials. Trial 0 is at step " in page())
    assert "<strong>0 of 4 trials done</strong>, 1 running, 3 waiting." in page()
    assert RELOADS in page()
    (tmp_path / "go").touch()
    document, _ = watch.communicate()
    assert (run.wait(), watch.returncode) == (0, 0)
    assert json.loads(document)["ledger"]["complete"] == 4
    assert RELOADS not in page()
    last = page()
    assert ablate("report", "gated").returncode == 0
    assert page() == last


@pytest.mark.slow
def test_ctrl_c_leaves_a_page_that_does_not_reload_and_the_run_alone(
    gated_study: Path, start_ablate: StartAblate, postgres: PostgresServer, tmp_path: Path
) -> None:
    url = postgres.new_database()
    run = start_ablate("run", gated_study, ABLATE_STORAGE=url)
    wait_for(lambda: list(tmp_path.glob("runs/gated/logs/*/attempt-1.log")))
    page = page_of(tmp_path / "reports/gated")
    watch = start_ablate("report", "gated", "--watch", "--every", 1, ABLATE_STORAGE=url)
    wait_for(lambda: RELOADS in page())
    watch.send_signal(signal.SIGINT)
    assert watch.wait() == 130
    assert page().endswith("</html>\n")
    assert RELOADS not in page()
    assert not list((tmp_path / "reports/gated").glob(".*"))
    (tmp_path / "go").touch()
    assert run.wait() == 0


def test_it_needs_the_page_that_it_keeps_fresh(gated_study: Path, ablate: Ablate, tmp_path: Path) -> None:
    (tmp_path / "go").touch()
    ablate("run", gated_study, "--limit", 1)
    refused = ablate("report", "gated", "--watch", "--format", "md")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.endswith("report.html is the page that it updates; add --format html\n")
    assert not (tmp_path / "reports").exists()


def test_the_time_left_is_that_of_the_parts_that_are_not_trained() -> None:
    results = half_done(running=2)
    # Each part takes as long as with the first seed, and two workers share them.
    one_seed = sum(part.seconds for part in results.parts.values())
    assert not_none(live(results).seconds_left) == pytest.approx(2 * one_seed / 2)


def test_without_a_trained_part_the_time_left_is_not_known() -> None:
    assert live(example(keep=lambda cell, seed: False)).seconds_left is None


def test_when_nothing_runs_the_page_names_the_command_that_goes_on() -> None:
    results = half_done(running=0)
    page = render_html(report_of(results), [], live(results))
    assert "Nothing is running: continue with <code>ablate run STUDY</code>." in page


def test_of_many_running_trials_the_page_shows_some() -> None:
    results = half_done(running=14, seeds=(11, 22, 33, 44))
    shown = live(results)
    assert len(shown.trials) == 12
    assert "<p>and 2 more.</p>" in render_html(report_of(results), [], shown)


def test_a_running_trial_is_at_the_last_step_that_it_saved() -> None:
    results = half_done()
    (trial,) = [trial for trial in results.trials if trial.state == "RUNNING"]
    part = next(iter(trial.parts.values()))
    saved = [Point(part, trial.seed, step, "train/loss", 1 / step) for step in (10, 20, 30)]
    known = results.points
    results = replace(results, points=lambda parts: [*known(parts), *(saved if part in parts else [])])
    (shown,) = live(results).trials
    assert (shown.number, shown.step, shown.latest) == (trial.number, 30, {"train/loss": 1 / 30})
    picture = not_none(running_curves(results, live(results)))
    assert f"Trial {trial.number} is at step 30, train/loss 0.0333." in picture.alt


def test_a_finished_study_does_not_go_on() -> None:
    assert not is_going_on(example())


def test_a_search_goes_on_between_two_trials() -> None:
    results = searched()
    first_seed = tuple(trial for trial in results.trials if trial.seed == 11)
    assert is_going_on(replace(results, trials=first_seed[:1]))
    # All cells are tried, and the finalists are not chosen yet.
    assert is_going_on(replace(results, trials=first_seed))
    assert not is_going_on(results)


def test_a_study_that_adds_seeds_goes_on_until_its_last_look() -> None:
    study = spec(looking=Looking(start=2, looks=(2, 4)), seeds=(1, 2, 3, 4))
    results = example(study)
    done = replace(results, trials=tuple(t for t in results.trials if t.seed < 3))
    assert is_going_on(done)
    cells = tuple(cell.hash for cell in cells_of(study))
    assert is_going_on(replace(done, looks=(Look(1, 2, cells, ()),)))
    assert not is_going_on(replace(done, looks=(Look(1, 2, (), ()),)))


def test_what_a_search_may_still_add_is_told_beside_what_is_planned() -> None:
    results = searched()
    first_seed = tuple(trial for trial in results.trials if trial.seed == 11)
    cells, fresh = len(first_seed), 2 * 3  # a finalist and the baseline on three seeds

    def counts(trials: tuple[TrialResult, ...]) -> tuple[int, int]:
        document = status_document(replace(results, trials=trials))
        assert document["may_add"] == report_document(replace(results, trials=trials))["progress"]["may_add"]
        return document["planned"], document["may_add"]

    assert counts(first_seed[:1]) == (1, most_tried(results.spec) - 1 + fresh)
    assert counts(first_seed)[1] == most_tried(results.spec) - cells + fresh
    assert counts(results.trials) == (len(results.trials), 0)


def test_what_coming_looks_may_add_is_told_beside_what_is_planned() -> None:
    study = spec(looking=Looking(start=2, looks=(2, 4)), seeds=(1, 2, 3, 4))
    results = example(study)
    done = replace(results, trials=tuple(t for t in results.trials if t.seed < 3))
    cells = tuple(cell.hash for cell in cells_of(study))

    def counts(*looks: Look) -> tuple[int, int]:
        document = status_document(replace(done, looks=looks))
        return document["complete"] - document["planned"], document["may_add"]

    assert counts() == (0, 2 * len(cells))
    assert counts(Look(1, 2, (), ())) == (0, 0)
    assert counts(Look(1, 2, cells[:2], ())) == (0, 4)
    assert status_document(example())["may_add"] == 0
