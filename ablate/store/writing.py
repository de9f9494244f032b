"""Write access to the store: add trials, claim them, record their results.

Every method is one transaction that is retried while the server is unreachable, so restarting the server loses no trial. If the
answer to a commit is lost, it is repeated, and must change nothing the second time.

Ownership (a lock) decides who may work on a trial, not this module: call these methods only for trials that you own. A claim
carries the number of its attempt; an attempt that lost its trial to a later one can no longer record it (`Superseded`)."""

import functools
import os
import platform
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa

from ablate.design.model import Cell, Design
from ablate.errors import BadInput
from ablate.spec.model import StudySpec
from ablate.store import parts, planning, tables, trials
from ablate.store.database_errors import explained, intact
from ablate.store.opening import connect
from ablate.store.optuna_tables import TrialState
from ablate.store.parts import NewPart, Points, Trained
from ablate.store.places import Place
from ablate.store.reading import looks_taken
from ablate.store.results import Look, UseOfTest
from ablate.store.retrying import lasting
from ablate.store.snapshot import Snapshot, add_changes, add_results, add_test_scores, add_uses_of_test
from ablate.store.trials import Claim, Queued
from ablate.store.upgrading import upgrade
from ablate.store.urls import without_password

P = ParamSpec("P")
R = TypeVar("R")
Transaction = Callable[Concatenate["Store", sa.Connection, P], R]
Method = Callable[Concatenate["Store", P], R]


def reads(method: Transaction[P, R]) -> Method[P, R]:
    """Turn a method that takes a connection into a transaction without a writer's lock."""
    return _transaction(method, lambda store: store._reader)


def writes(method: Transaction[P, R]) -> Method[P, R]:
    """Turn a method that takes a connection into a transaction that may write."""
    return _transaction(method, lambda store: store.engine)


def _transaction(method: Transaction[P, R], engine_of: Callable[["Store"], sa.Engine]) -> Method[P, R]:
    @functools.wraps(method)
    def call(self: "Store", /, *args: P.args, **kwargs: P.kwargs) -> R:
        def once() -> R:
            with explained(self.place.url), engine_of(self).begin() as connection:
                return method(self, connection, *args, **kwargs)

        return lasting(once, self.stopping)

    return call


class Store:
    """One study in a database, open for writing."""

    def __init__(self, place: Place, agreed: bool = False) -> None:
        """`agreed`: an older database on a server may be upgraded, since the user has made a backup."""
        self.place = place
        self.engine = connect(place.url)
        self._reader = self.engine.execution_options(reading=True)
        self.stopping: Callable[[], bool] = lambda: False
        self._cells: dict[str, Cell] = {}
        self._who = f"{platform.node()}, process {os.getpid()}, {secrets.token_hex(4)}"
        # Parts that were begun here after their last owner had died.
        self._begun_after_a_death: set[tuple[str, int]] = set()
        # The message about the upgrade, if the database was older.
        self.upgraded = lasting(lambda: self._upgrade(agreed))
        row = self._open()
        self._id: int = row.study_id
        with intact(place.url):
            self.spec = StudySpec.model_validate(row.spec)
            self.is_smoke = bool(row.design.get("smoke"))
        # Relative paths in the study start there.
        self.study_folder = Path(row.folder)

    def _upgrade(self, agreed: bool) -> str | None:
        with explained(self.place.url):
            return upgrade(self.engine, self.place.url, agreed)

    @writes
    def _open(self, connection: sa.Connection) -> sa.Row[Any]:
        """Return the study's row; create tables that the database lacks."""
        ours, url = tables.studies, without_password(self.place.url)
        version = connection.execute(
            sa.select(ours.c.schema_version).where(ours.c.name == self.place.study)
        ).first()
        if version is None:
            raise BadInput(f"{url}: contains no study {self.place.study!r}")
        tables.refuse_other_versions(connection, version.schema_version, url)
        tables.metadata.create_all(connection)
        with intact(self.place.url):
            return connection.execute(sa.select(ours).where(ours.c.name == self.place.study)).one()

    def close(self) -> None:
        """Close the connections to the database."""
        self.engine.dispose()

    # What is planned

    @reads
    def home(self, connection: sa.Connection) -> str | None:
        """Return the name of the folder of artifacts that this study's trials belong to."""
        return planning.home(connection, self._id)

    @writes
    def agree_on_home(self, connection: sa.Connection, proposed: str) -> str:
        """Name the folder of artifacts unless it has a name; return its name."""
        planning.lock_study(connection, self._id)
        return planning.agree_on_home(connection, self._id, proposed)

    def cell(self, hash_: str) -> Cell:
        """Return a cell of the design by its hash."""
        with intact(self.place.url):
            if hash_ not in self._cells:
                self._cells = self._read_cells()
            return self._cells[hash_]

    @reads
    def _read_cells(self, connection: sa.Connection) -> dict[str, Cell]:
        rows = connection.execute(sa.select(tables.cells).where(tables.cells.c.study_id == self._id))
        return {row.cell: planning.cell_from_row(row) for row in rows}

    @writes
    def add_trials(
        self, connection: sa.Connection, cells: Sequence[Cell], order: Sequence[tuple[str, int]]
    ) -> int:
        """Add the missing (cell, seed) pairs of `order` as WAITING trials, numbered in order; return how many."""
        planning.lock_study(connection, self._id)
        return planning.add_trials(connection, self._id, self.spec.factors, cells, order)

    @reads
    def looks(self, connection: sa.Connection) -> tuple[Look, ...]:
        """Return the looks taken at results so far."""
        return looks_taken(connection, self._id)

    @writes
    def record_look(
        self, connection: sa.Connection, look: Look, cells: Sequence[Cell], order: Sequence[tuple[str, int]]
    ) -> None:
        """Record a look and add the trials that it asks for; do nothing if the look is already recorded."""
        planning.lock_study(connection, self._id)
        if planning.add_look(connection, self._id, look):
            planning.add_trials(connection, self._id, self.spec.factors, cells, order)

    def take_over(
        self,
        spec: StudySpec,
        design: Design,
        defaults: Mapping[str, str],
        order: Sequence[tuple[str, int]],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Update the study from its file and add the missing trials, in one commit. A search adds its own trials.

        `check` raises if this is not allowed. No other process can update the study until the commit."""
        self._take_over(spec, design, defaults, order, check)
        self.spec, self.study_folder = spec, spec.folder.resolve()
        self._cells = {}

    @writes
    def _take_over(
        self,
        connection: sa.Connection,
        spec: StudySpec,
        design: Design,
        defaults: Mapping[str, str],
        order: Sequence[tuple[str, int]],
        check: Callable[[], None],
    ) -> None:
        planning.lock_study(connection, self._id)
        check()
        planning.take_over(connection, self._id, spec, design, defaults)
        if spec.search is None:
            planning.add_trials(connection, self._id, spec.factors, design.cells, order)

    @writes
    def delete(self, connection: sa.Connection) -> None:
        """Delete the study and everything recorded for it."""
        planning.lock_study(connection, self._id)
        planning.delete_study(connection, self._id)

    @writes
    def add_results(
        self,
        connection: sa.Connection,
        snapshot: Snapshot,
        wanted_parts: Collection[tuple[str, int]],
        wanted_trials: Collection[tuple[str, int]],
        test_scores: Mapping[tuple[str, int], Mapping[str, float]],
    ) -> None:
        """Record parts and trials of another run of this study, every use of the test split there with its scores, and the
        changes of its file after results."""
        planning.lock_study(connection, self._id)
        add_results(connection, self._id, snapshot, wanted_parts, wanted_trials)
        add_uses_of_test(connection, self._id, snapshot)
        add_test_scores(connection, self._id, test_scores)
        add_changes(connection, self._id, snapshot)

    # Working on trials

    @reads
    def queue(self, connection: sa.Connection, numbers: Iterable[int] | None = None) -> list[Queued]:
        """Return the trials without a result, in order; only those with one of `numbers`, if given."""
        wanted = None if numbers is None else set(numbers)
        every = trials.queue(connection, self._id)
        return [queued for queued in every if wanted is None or queued.number in wanted]

    @reads
    def next_number(self, connection: sa.Connection) -> int:
        """Return the number that the next added trial will have."""
        ours = tables.trials.c.study_id
        return connection.scalar(sa.select(sa.func.count()).where(ours == self._id)) or 0

    @writes
    def claim(
        self, connection: sa.Connection, trial_id: int, part: tuple[str, int, int | None] | None = None
    ) -> Claim | None:
        """Mark a trial that you own as RUNNING, and one of its parts as begun; None if it already has a result.

        `part`: its hash, its seed, and how far its last owner got (a step, or a negative number, as in `ProgressNote`). A trial
        that is RUNNING and a part that is begun were left by an owner that died; they continue in the same row."""
        row = trials.locked(connection, trial_id)
        if row.state not in trials.UNFINISHED:
            return None
        condemned = self._begin(connection, *part) if part else None
        if not part and row.fruitless >= parts.MAX_DEATHS_THERE:
            condemned = f"its process died {row.fruitless} times after its parts were trained"
        attempt = row.attempts + (condemned is None)
        trials.start(connection, trial_id, row, attempt, fruitless=0 if part else row.fruitless + 1)
        return Claim(trial_id, attempt, condemned)

    @writes
    def begin(self, connection: sa.Connection, part: str, seed: int, reached: int | None) -> str | None:
        """Mark a further part of a claimed trial as begun; return why training it again would be useless, or None."""
        return self._begin(connection, part, seed, reached)

    def _begin(self, connection: sa.Connection, part: str, seed: int, reached: int | None) -> str | None:
        condemned, its_owner_died = parts.begin(connection, self._id, part, seed, reached, self._who)
        if condemned is None:
            parts.note(connection, self._id, part, seed, "begun", self._who)
        if its_owner_died:
            self._begun_after_a_death.add((part, seed))
        return condemned

    @writes
    def release(self, connection: sa.Connection, claim: Claim) -> None:
        """Put a trial that stopped gracefully back in the queue."""
        if trials.still_running(connection, claim, then=TrialState.WAITING):
            trials.put_back(connection, [claim.trial_id])

    @writes
    def complete(
        self,
        connection: sa.Connection,
        claim: Claim,
        metrics: Mapping[str, float],
        part: NewPart | None = None,
        curve_of: str | None = None,
    ) -> None:
        """Record a trial's metrics and its state, together with the part trained last.

        `curve_of`: the part whose curve of the study's metric dashboards show.

        Raises:
            KeyError: the study's metric is not among `metrics`.
        """
        if not trials.still_running(connection, claim, then=TrialState.COMPLETE):
            return
        if part is not None:
            self._record(connection, part)
        primary = self.spec.metric.name
        trials.add_metrics(connection, claim.trial_id, metrics, primary)
        if curve_of is not None:
            trials.show_curve(connection, self._id, claim.trial_id, curve_of, primary)
        trials.finish(connection, claim.trial_id, TrialState.COMPLETE)

    @writes
    def fail(self, connection: sa.Connection, claim: Claim, reason: str) -> None:
        """Record that a trial has no result, and why."""
        if trials.still_running(connection, claim, then=TrialState.FAIL):
            trials.finish(connection, claim.trial_id, TrialState.FAIL, reason)

    @writes
    def prune(self, connection: sa.Connection, claim: Claim) -> None:
        """Record that the pruner stopped a trial."""
        if trials.still_running(connection, claim, then=TrialState.PRUNED):
            trials.finish(connection, claim.trial_id, TrialState.PRUNED)

    @writes
    def retry_failed(self, connection: sa.Connection, cells: Collection[str] | None = None) -> int:
        """Queue the failed trials (of `cells` only, if given) again, and forget which of their parts failed; return how many."""
        planning.lock_study(connection, self._id)
        return trials.retry_failed(connection, self._id, cells)

    @writes
    def train_again(self, connection: sa.Connection, keys: Collection[tuple[str, int]]) -> None:
        """Forget the results of these parts and of the trials that depend
        on them, and requeue these trials, including failed ones."""
        planning.lock_study(connection, self._id)
        trials.train_again(connection, self._id, keys)
        for key in keys:
            parts.note(connection, self._id, *key, "forgotten", self._who)

    def record_use_of_test(self, use: UseOfTest, uses_before: int) -> None:
        """Record a use of the test split, before anything is scored.

        Raises:
            StoreError: somebody else has used it since `uses_before` was read.
        """
        # Not retried: if the answer to the commit was lost, our own use would look like that of another process.
        with explained(self.place.url), self.engine.begin() as connection:
            planning.add_use_of_test(connection, self._id, use, uses_before)

    @writes
    def withdraw_use_of_test(self, connection: sa.Connection, number: int) -> None:
        """Forget a use of the test split that failed; `number` counts from 1."""
        ours = tables.test_uses.c
        connection.execute(
            sa.delete(tables.test_uses).where(ours.study_id == self._id, ours.number == number)
        )

    @writes
    def record_test_scores(
        self, connection: sa.Connection, cell: str, metrics: Mapping[int, Mapping[str, float]]
    ) -> None:
        """Record a cell's `test/...` metrics by seed. Later scores replace earlier ones."""
        trials.replace_test_scores(connection, self._id, cell, metrics)

    # Parts and curves

    @reads
    def trained(self, connection: sa.Connection, hashes: Iterable[str], seed: int) -> dict[str, Trained]:
        """Return the results of those of `parts` that are fully trained, by part."""
        return parts.trained(connection, self._id, hashes, seed)

    @writes
    def record_part(self, connection: sa.Connection, new: NewPart) -> None:
        """Record a fully trained part."""
        self._record(connection, new)

    def _record(self, connection: sa.Connection, new: NewPart) -> None:
        parts.record(connection, self._id, new)
        parts.note(connection, self._id, new.part, new.seed, "recorded", self._who)

    @writes
    def add_points(self, connection: sa.Connection, part: str, seed: int, points: Points) -> None:
        """Add points to a part's curves; a point that is computed again after a kill replaces the old one."""
        parts.add_points(connection, self._id, part, seed, points)

    def progress(self, part: str, seed: int) -> None:
        """Note that more of this part was saved."""
        if (part, seed) in self._begun_after_a_death:
            self._change_part(part, seed, {"deaths": 0, "deaths_there": 0})
            self._begun_after_a_death.remove((part, seed))

    def set_aside(self, part: str, seed: int) -> None:
        """Note that a part's owner stopped without dying."""
        self._change_part(part, seed, {"begun": False}, "left")

    @reads
    def owns(self, connection: sa.Connection, part: str, seed: int) -> bool:
        """Return whether no other process has begun this part since this process did."""
        return parts.last_begun_by(connection, self._id, part, seed) == self._who

    @reads
    def times_forgotten(self, connection: sa.Connection, part: str, seed: int) -> int:
        """Return how often a part's results were thrown away to train it again with other code."""
        return parts.times_forgotten(connection, self._id, part, seed)

    @writes
    def lost_part(self, connection: sa.Connection, part: str, seed: int) -> None:
        """Note that another process took over this part although this one is alive: the owner lost its lock and did not die."""
        parts.take_back_death(connection, self._id, part, seed)
        parts.note(connection, self._id, part, seed, "lost", self._who)

    def fail_part(self, part: str, seed: int, reason: str) -> None:
        """Record that a part cannot be trained, so that no other trial tries it."""
        self._change_part(part, seed, {"begun": False, "error": reason}, "failed")

    @writes
    def _change_part(
        self,
        connection: sa.Connection,
        part: str,
        seed: int,
        columns: dict[str, Any],
        event: str | None = None,
    ) -> None:
        parts.change(connection, self._id, part, seed, **columns)
        if event is not None:
            parts.note(connection, self._id, part, seed, event, self._who)
