import itertools
import multiprocessing
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
import sqlalchemy as sa
from fixture_types import WalkStudy, not_none
from postgres_server import PostgresServer

from ablate.design.model import Design
from ablate.errors import BadInput, StoreError
from ablate.runner.prepare import Prepared, prepare
from ablate.runner.run import run_order
from ablate.spec.model import StudySpec
from ablate.store import opening, tables, urls
from ablate.store.creating import create_store
from ablate.store.places import Place, place_of
from ablate.store.reading import read_results
from ablate.store.results import Results
from ablate.store.trials import Queued, Superseded
from ablate.store.writing import Store


@pytest.fixture
def prepared(walk_study: WalkStudy, tmp_path: Path) -> Prepared:
    return prepare(walk_study(), home=tmp_path / "runs")


@pytest.fixture
def store(prepared: Prepared) -> Iterator[Store]:
    prepared.place.folder.mkdir(parents=True)
    store = create_store(prepared.place, prepared.spec, prepared.design)
    store.add_trials(prepared.design.cells, run_order(prepared.design, prepared.spec))
    yield store
    store.engine.dispose()


def part_of(store: Store, queued: Queued) -> str:
    return next(iter(store.cell(queued.cell).parts.values())).hash


def results(prepared: Prepared) -> Results:
    return read_results(prepared.place)


def test_adding_twice_adds_nothing(store: Store, prepared: Prepared) -> None:
    assert store.add_trials(prepared.design.cells, run_order(prepared.design, prepared.spec)) == 0
    assert len(store.queue()) == 8


def test_the_study_file_is_remembered_as_it_was_typed(store: Store, prepared: Prepared) -> None:
    assert results(prepared).file == str(prepared.spec.path)


def test_the_combinations_that_a_cell_stands_for_are_remembered(prepared: Prepared) -> None:
    first, *others = prepared.design.cells
    cells = (replace(first, also=({**first.levels, "slope": 2.0},)), *others)
    prepared.place.folder.mkdir(parents=True)
    store = create_store(prepared.place, prepared.spec, replace(prepared.design, cells=cells))
    store.add_trials(cells, run_order(prepared.design, prepared.spec))
    store.engine.dispose()
    assert results(prepared).cells == cells


def test_seeds_are_complete_blocks(prepared: Prepared) -> None:
    seeds = [seed for _, seed in run_order(prepared.design, prepared.spec)]
    assert seeds == [1, 1, 1, 1, 2, 2, 2, 2]


def test_one_row_per_cell_and_seed_is_enforced_by_the_database(store: Store) -> None:
    copy = sa.select(tables.trials).limit(1)
    with store.engine.connect() as connection:
        row = dict(connection.execute(copy).one()._mapping)
    with pytest.raises(sa.exc.IntegrityError), store.engine.begin() as connection:
        connection.execute(sa.insert(tables.trials), [row | {"trial_id": 999}])


def test_a_finished_trial_is_not_claimed(store: Store) -> None:
    first = store.queue()[0]
    store.complete(not_none(store.claim(first.trial_id)), {"dev/position": 1.0})
    assert store.claim(first.trial_id) is None


def test_an_orphan_goes_on_in_its_own_row(store: Store, prepared: Prepared) -> None:
    first = store.queue()[0]
    store.claim(first.trial_id, (part_of(store, first), first.seed, None))
    store.claim(
        first.trial_id, (part_of(store, first), first.seed, 4)
    )  # its owner died: same row, next attempt
    (trial,) = [trial for trial in results(prepared).trials if trial.number == first.number]
    assert (trial.state, trial.attempts) == ("RUNNING", 2)


def test_whoever_lost_a_trial_cannot_record_it(store: Store) -> None:
    first = store.queue()[0]
    lost = not_none(store.claim(first.trial_id))
    store.claim(first.trial_id)
    for record in (store.release, store.prune, lambda claim: store.complete(claim, {"dev/position": 1.0})):
        with pytest.raises(Superseded):
            record(lost)


def test_recording_twice_is_recording_once(store: Store, prepared: Prepared) -> None:
    claim = not_none(store.claim(store.queue()[0].trial_id))
    for _ in range(2):  # the first commit's answer was lost
        store.complete(claim, {"dev/position": 1.0})
    assert [trial.state for trial in results(prepared).trials].count("COMPLETE") == 1


PROCESSES = itertools.count()


def die(store: Store, queued: Queued, reached: int | None) -> str | None:
    """Claim a trial whose last owner died after step `reached`; return why it is condemned."""
    store._who = f"process {next(PROCESSES)}"
    return not_none(store.claim(queued.trial_id, (part_of(store, queued), queued.seed, reached))).condemned


def test_three_deaths_at_one_step_condemn_a_part(store: Store) -> None:
    first = store.queue()[0]
    assert [die(store, first, reached) for reached in (None, 7, 7)] == [None] * 3
    assert "died 3 times without progress, the last time after step 7" in not_none(die(store, first, 7))


def test_deaths_at_different_steps_are_accidents_up_to_a_point(store: Store) -> None:
    first = store.queue()[0]
    verdicts = [die(store, first, reached) for reached in range(11)]
    assert verdicts[:10] == [None] * 10
    assert "died 10 times" in not_none(verdicts[10])


@pytest.mark.parametrize(("ages", "is_condemned"), [((-31, -30, -32), True), ((-2, -30, -9), False)])
def test_deaths_before_the_first_step_are_told_apart_by_age(
    store: Store, ages: tuple[int, int, int], is_condemned: bool
) -> None:
    first = store.queue()[0]
    verdicts = [die(store, first, reached) for reached in (None, *ages)]
    assert verdicts[:3] == [None] * 3
    assert (verdicts[3] is not None) is is_condemned


def test_what_was_saved_forgives_deaths(store: Store) -> None:
    first = store.queue()[0]
    for _ in range(5):
        assert die(store, first, 7) is None
        store.progress(part_of(store, first), first.seed)


def test_a_stop_is_no_death(store: Store) -> None:
    first = store.queue()[0]
    for _ in range(5):
        assert die(store, first, 7) is None
        store.set_aside(part_of(store, first), first.seed)


def test_a_part_that_failed_is_not_trained_again_until_asked(store: Store) -> None:
    first = store.queue()[0]
    die(store, first, None)
    store.fail_part(part_of(store, first), first.seed, "loss is nan")
    assert die(store, first, None) == "loss is nan"
    store.fail(not_none(store.claim(first.trial_id)), "loss is nan")
    store.retry_failed()
    assert die(store, first, None) is None


def test_a_point_recomputed_after_a_kill_replaces_itself(store: Store, prepared: Prepared) -> None:
    part = part_of(store, store.queue()[0])
    store.add_points(part, 1, [(1, "loss", 2.0), (2, "loss", 1.0)])
    store.add_points(part, 1, [(2, "loss", 1.5), (3, "loss", 0.5)])
    points = results(prepared).points([part])
    assert [(point.step, point.value) for point in points] == [(1, 2.0), (2, 1.5), (3, 0.5)]


def test_a_study_that_is_not_there_is_named(store: Store, prepared: Prepared) -> None:
    with pytest.raises(BadInput, match="contains no study 'wlak'; it contains walk"):
        read_results(replace(prepared.place, study="wlak"))


def test_reading_creates_no_database(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such database"):
        read_results(Place("walk", f"sqlite:///{tmp_path}/none.db", tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_left_alone(prepared: Prepared, tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database at all")
    with pytest.raises(StoreError, match="not an SQLite database"):
        create_store(Place("walk", f"sqlite:///{file}", tmp_path), prepared.spec, prepared.design)
    assert file.read_text() == "not a database at all"


def test_the_database_is_private(store: Store, prepared: Prepared) -> None:
    assert (prepared.place.folder / "study.db").stat().st_mode & 0o777 == 0o600


def test_a_password_is_never_printable() -> None:
    assert "canary" not in urls.without_password("postgresql://me:canary@host/db")


@pytest.mark.parametrize("url", ["nonsense", "mysql://host/db", "sqlite://"])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(BadInput, match=r"^storage: "):
        urls.parse_url(url)


def _open(
    prepared_arguments: tuple[Place, StudySpec, Design],
    barrier: Barrier,
    outcomes: "Queue[str]",
) -> None:
    barrier.wait()
    try:
        create_store(*prepared_arguments).engine.dispose()
        outcomes.put("ok")
    except Exception as error:
        outcomes.put(repr(error))


def open_at_once(prepared: Prepared, processes: int) -> list[str]:
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["ablate.runner.process", "optuna", "numpy"])
    barrier, outcomes = server.Barrier(processes), server.Queue()
    arguments = (prepared.place, prepared.spec, prepared.design)
    openers = [server.Process(target=_open, args=(arguments, barrier, outcomes)) for _ in range(processes)]
    for opener in openers:
        opener.start()
    said = [outcomes.get() for _ in openers]
    for opener in openers:
        opener.join()
    return said


def test_eight_processes_may_open_a_fresh_database_at_once(prepared: Prepared) -> None:
    assert open_at_once(prepared, 8) == ["ok"] * 8


@pytest.mark.slow
def test_fifty_times_eight_first_opens(prepared: Prepared, tmp_path: Path) -> None:
    for turn in range(50):
        place = place_of("walk", tmp_path / f"turn{turn}")
        assert open_at_once(replace(prepared, place=place), 8) == ["ok"] * 8
    print("50 × 8 first opens: 0 errors")


def test_eight_processes_may_open_a_fresh_database_of_a_server_at_once(
    prepared: Prepared, postgres: PostgresServer
) -> None:
    place = replace(prepared.place, url=postgres.new_database())
    assert open_at_once(replace(prepared, place=place), 8) == ["ok"] * 8


def test_a_database_that_is_being_created_holds_no_study_yet(prepared: Prepared) -> None:
    file = not_none(urls.sqlite_file(prepared.place.url))
    opening.touch_private(file)
    opening.creation_lock(file).touch()
    with pytest.raises(BadInput, match=r"contains no study yet; if `ablate run` is creating it, try again"):
        results(prepared)


def test_a_database_of_somebody_else_is_none_of_ours(prepared: Prepared) -> None:
    opening.touch_private(not_none(urls.sqlite_file(prepared.place.url)))
    with pytest.raises(BadInput, match="not a database of ablate"):
        results(prepared)
