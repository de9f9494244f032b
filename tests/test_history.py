"""The checker of histories finds violations of each kind that are planted in a real database, and none where there is none."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from fixture_types import RunHere, WalkStudy
from history import Key, Witness

from ablate.store import tables
from ablate.store.parts import NewPart, Trained
from ablate.store.places import Place, place_of
from ablate.store.reading import read_results
from ablate.store.writing import Store


@dataclass
class Done:
    """A study that has run, with two workers that could work on it."""

    place: Place
    one: Store
    other: Store
    key: Key

    def record(self, store: Store) -> None:
        store.record_part(NewPart(*self.key, Trained({"dev/position": 1.0}, 1.0, 5, {}), []))

    def violations(self, witness: Witness | None = None) -> list[str]:
        return (witness or Witness(self.place)).violations()


@pytest.fixture
def done(run_here: RunHere, walk_study: WalkStudy, tmp_path: Path) -> Iterator[Done]:
    run_here(walk_study(seeds="[1]"))
    place = place_of("walk", tmp_path / "runs")
    with contextlib.closing(Store(place)) as one, contextlib.closing(Store(place)) as other:
        yield Done(place, one, other, next(iter(read_results(place).parts)))


def forget(done: Done) -> None:
    done.one.train_again([done.key])


def test_nothing_is_found_where_nothing_happened(done: Done) -> None:
    assert done.violations() == []


def test_a_part_that_is_taken_over_from_a_dead_owner_is_fine(done: Done) -> None:
    forget(done)
    done.one.begin(*done.key, None)
    done.other.begin(*done.key, None)
    done.record(done.other)
    assert done.violations() == []


def test_an_owner_that_says_that_it_was_robbed_is_fine(done: Done) -> None:
    forget(done)
    done.one.begin(*done.key, None)
    done.other.begin(*done.key, None)
    done.one.lost_part(*done.key)
    done.record(done.other)
    done.one.begin("another", 1, None)
    assert done.violations() == []


@pytest.mark.parametrize("end", ["record", "set_aside"])
def test_two_owners_at_once_are_found(done: Done, end: str) -> None:
    forget(done)
    done.one.begin(*done.key, None)
    done.other.begin(*done.key, None)
    ends: dict[str, Callable[[], object]] = {
        "record": lambda: done.record(done.one),
        "set_aside": lambda: done.one.set_aside(*done.key),
    }
    ends[end]()
    assert any("was alive when somebody else began it" in line for line in done.violations())


def test_an_owner_that_goes_on_elsewhere_was_not_dead(done: Done) -> None:
    forget(done)
    done.one.begin(*done.key, None)
    done.other.begin(*done.key, None)
    done.record(done.other)
    done.one.begin("another", 1, None)
    (line,) = done.violations()
    assert "was alive when somebody else began it" in line


def test_training_what_is_recorded_is_found(done: Done) -> None:
    done.other.begin(*done.key, None)
    (line,) = done.violations()
    assert "and trained again by" in line


def test_a_lost_point_is_found(done: Done) -> None:
    witness = Witness(done.place)
    witness.look()
    with done.one.engine.begin() as connection:
        connection.execute(sa.delete(tables.points).where(tables.points.c.step == 3))
    assert len(done.violations(witness)) == 4
    assert all("point" in line and "is gone or changed" in line for line in done.violations(witness))


def test_a_changed_point_is_found(done: Done) -> None:
    witness = Witness(done.place)
    witness.look()
    done.one.add_points(*done.key, [(3, "dev/position", 17.0)])
    assert len(done.violations(witness)) == 1


def test_a_lost_part_is_found(done: Done) -> None:
    witness = Witness(done.place)
    witness.look()
    with done.one.engine.begin() as connection:
        connection.execute(sa.delete(tables.parts).where(tables.parts.c.part == done.key[0]))
    (line,) = done.violations(witness)
    assert "was recorded, and is gone or changed" in line


def test_a_result_without_a_history_is_found(done: Done) -> None:
    with done.one.engine.begin() as connection:
        connection.execute(sa.delete(tables.history))
    assert sum("the history does not say so" in line for line in done.violations()) == 4


def test_steps_of_a_process_that_began_nothing_are_found(done: Done) -> None:
    with (done.place.part_folder(*done.key) / "steps.log").open("a") as log:
        log.write("1 6\n")
    (line,) = done.violations()
    assert line.endswith("process 1 had not begun it")


def test_steps_that_alternate_are_found(done: Done) -> None:
    log = done.place.part_folder(*done.key) / "steps.log"
    steps = log.read_text()
    done.other.begin(*done.key, None)
    log.write_text(f"{steps}1 6\n{steps}")
    assert any("and others took turns" in line for line in done.violations())
