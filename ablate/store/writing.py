"""The store for those who train: add trials, claim them, record what they gave. Every method is one transaction, and may
be tried again: a server that went away and came back is no reason to lose a trial.

Who may work on a trial is decided by ownership (a lock), not here: call these methods for trials you own. A claim carries
the number of its attempt; whoever lost a trial to a later attempt cannot record it any more (`Superseded`)."""

import functools
import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa

from ablate.design.model import Cell, Design
from ablate.errors import BadInput, StoreError
from ablate.spec.model import StudySpec
from ablate.store import engine as databases
from ablate.store import open_parts, planning, tables
from ablate.store import optuna_tables as optuna
from ablate.store.optuna_tables import TrialState
from ablate.store.reading import looks_taken
from ablate.store.results import Look, UseOfTest

UNFINISHED = (TrialState.WAITING, TrialState.RUNNING)
RECONNECT_S = 120.0  # how long a server may be away
RETRY_S = 0.2


class Superseded(Exception):
    """Another attempt has taken this trial: what was to be recorded is not ours to record."""


@dataclass(frozen=True)
class Queued:
    """A trial that has no result yet."""

    trial_id: int
    number: int
    cell: str
    seed: int


@dataclass(frozen=True)
class Claim:
    """A trial that is ours to work on."""

    trial_id: int
    attempt: int
    condemned: str | None = None  # why it would be no use


@dataclass(frozen=True)
class Trained:
    """What training a part gave."""

    metrics: dict[str, float]
    seconds: float
    steps: int
    facts: dict[str, Any]


@dataclass(frozen=True)
class NewPart:
    """A part that was just trained, with the points of its curves that are not written yet."""

    part: str
    seed: int
    trained: Trained
    points: Sequence[tuple[int, str, float]]


P = ParamSpec("P")
R = TypeVar("R")


def lasting(method: Callable[Concatenate["Store", P], R]) -> Callable[Concatenate["Store", P], R]:
    """Try a method again while the server is away, for up to RECONNECT_S or until asked to stop."""

    @functools.wraps(method)
    def call(self: "Store", /, *args: P.args, **kwargs: P.kwargs) -> R:
        give_up = time.monotonic() + RECONNECT_S
        while True:
            try:
                return method(self, *args, **kwargs)
            except databases.Disconnected:
                if time.monotonic() > give_up or self.stopping():
                    raise
                time.sleep(RETRY_S)

    return call


class Store:
    """One study in a database, open for writing."""

    def __init__(self, url: str, study: str) -> None:
        self.url = url
        self.study = study
        self.engine = databases.connect(url)
        self._reader = self.engine.execution_options(reading=True)
        self.stopping: Callable[[], bool] = lambda: False
        self._cells: dict[str, Cell] = {}
        self._mourned: set[tuple[str, int]] = set()  # parts begun here whose last owner died
        with self._reading() as connection:
            found = connection.execute(
                sa.select(tables.studies).where(tables.studies.c.name == study)
            ).first()
            old = not sa.inspect(connection).has_table(tables.open_parts.name)
        if found is None:
            raise BadInput(f"{databases.without_password(url)}: holds no study {study!r}")
        self._id: int = found.study_id
        self.spec = StudySpec.model_validate(found.spec)
        self.study_folder = Path(found.folder)  # relative paths in the study start there
        self.is_smoke = bool(found.design.get("smoke"))
        if old:
            with self._transaction() as connection:
                tables.open_parts.create(connection, checkfirst=True)

    def close(self) -> None:
        """Close the connections to the database."""
        self.engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with databases.explained(self.url), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with databases.explained(self.url), self._reader.begin() as connection:
            yield connection

    def _lock_study(self, connection: sa.Connection) -> None:
        """Let nobody else add or requeue trials until the commit. On SQLite every transaction has that lock."""
        ours = tables.studies.c
        connection.execute(sa.select(ours.study_id).where(ours.study_id == self._id).with_for_update())

    @lasting
    def home(self) -> str | None:
        """Return the name of the folder of artifacts that this study's trials belong to."""
        with self._reading() as connection:
            return self._home(connection)

    def _home(self, connection: sa.Connection) -> str | None:
        key = optuna.study_attributes.c
        found = connection.scalar(
            sa.select(key.value_json).where(key.study_id == self._id, key.key == "home")
        )
        return None if found is None else str(json.loads(found))

    @lasting
    def agree_on_home(self, proposed: str) -> str:
        """Name that folder, unless it is named; return its name."""
        with self._transaction() as connection:
            self._lock_study(connection)
            found = self._home(connection)
            if found is None:
                connection.execute(
                    sa.insert(optuna.study_attributes).values(
                        study_id=self._id, key="home", value_json=json.dumps(proposed)
                    )
                )
        return found or proposed

    # What is planned

    @lasting
    def cell(self, hash_: str) -> Cell:
        """Return a cell of the design by its hash."""
        if hash_ not in self._cells:
            ours = tables.cells.c
            with self._reading() as connection:
                rows = connection.execute(sa.select(tables.cells).where(ours.study_id == self._id)).all()
            self._cells = {row.cell: planning.cell_from_row(row) for row in rows}
        return self._cells[hash_]

    @lasting
    def add_trials(self, cells: Sequence[Cell], order: Sequence[tuple[str, int]]) -> int:
        """Add those (cell, seed) of `order` that are missing as WAITING trials, numbered in order; return how many."""
        with self._transaction() as connection:
            self._lock_study(connection)
            return planning.add_trials(connection, self._id, self.spec.factors, cells, order)

    @lasting
    def looks(self) -> tuple[Look, ...]:
        """Return the looks taken at results so far."""
        with self._reading() as connection:
            return looks_taken(connection, self._id)

    @lasting
    def record_look(self, look: Look, cells: Sequence[Cell], order: Sequence[tuple[str, int]]) -> None:
        """Record a look and add the trials that it calls for, in one commit; nothing if that look was taken before."""
        with self._transaction() as connection:
            self._lock_study(connection)
            tables.looks.create(connection, checkfirst=True)
            ours = tables.looks.c
            taken = connection.scalar(
                sa.select(sa.func.count()).where(ours.study_id == self._id, ours.number == look.number)
            )
            if taken:
                return
            connection.execute(
                sa.insert(tables.looks).values(
                    study_id=self._id,
                    number=look.number,
                    seeds=look.seeds,
                    cells=list(look.cells),
                    comparisons=list(look.comparisons),
                )
            )
            planning.add_trials(connection, self._id, self.spec.factors, cells, order)

    @lasting
    def take_over(
        self,
        spec: StudySpec,
        design: Design,
        defaults: Mapping[str, str],
        order: Sequence[tuple[str, int]],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Take over what the study's file says now and add the trials that it lacks, in one commit. A search adds its own.

        `check` raises what forbids it; until the commit nobody else takes anything over."""
        with self._transaction() as connection:
            self._lock_study(connection)
            check()
            planning.take_over(connection, self._id, spec, design, defaults)
            if spec.search is None:
                planning.add_trials(connection, self._id, spec.factors, design.cells, order)
        self.spec, self.study_folder = spec, spec.folder.resolve()
        self._cells = {}

    @lasting
    def delete(self) -> None:
        """Delete the study and all that is recorded of it."""
        mine = sa.select(tables.trials.c.trial_id).where(tables.trials.c.study_id == self._id)
        with self._transaction() as connection:
            self._lock_study(connection)
            connection.execute(sa.delete(tables.metrics).where(tables.metrics.c.trial_id.in_(mine)))
            for table in tables.metadata.sorted_tables:
                if "study_id" in table.c:
                    connection.execute(sa.delete(table).where(table.c.study_id == self._id))
            optuna.delete_study(connection, self._id)

    # Working on trials

    @lasting
    def queue(self, numbers: Iterable[int] | None = None) -> list[Queued]:
        """Return the trials without a result, in order; only those with one of `numbers`, if given."""
        with self._reading() as connection:
            rows = connection.execute(
                sa.select(
                    optuna.trials.c.trial_id,
                    optuna.trials.c.number,
                    tables.trials.c.cell,
                    tables.trials.c.seed,
                )
                .join(tables.trials, tables.trials.c.trial_id == optuna.trials.c.trial_id)
                .where(optuna.trials.c.study_id == self._id, optuna.trials.c.state.in_(UNFINISHED))
                .order_by(optuna.trials.c.number)
            ).all()
        wanted = None if numbers is None else set(numbers)
        return [Queued(*row) for row in rows if wanted is None or row.number in wanted]

    @lasting
    def trained(self, parts: Iterable[str], seed: int) -> dict[str, Trained]:
        """Return what those of `parts` gave that are trained to their end, by part."""
        key = tables.parts.c
        with self._reading() as connection:
            rows = connection.execute(
                sa.select(key.part, key.metrics, key.seconds, key.steps, key.facts).where(
                    key.study_id == self._id, key.part.in_(list(parts)), key.seed == seed
                )
            ).all()
        return {part: Trained(*gave) for part, *gave in rows}

    @lasting
    def claim(self, trial_id: int, part: tuple[str, int, int | None] | None = None) -> Claim | None:
        """Mark a trial that you own as RUNNING, and one of its parts as begun; None if it has a result by now.

        `part`: its hash, its seed, and how far whoever trained it before is known to have come (a step, or below zero). A trial
        found RUNNING, a part found begun, was left by an owner that died: it goes on in the same row."""
        ours = tables.trials.c
        with self._transaction() as connection:
            row = connection.execute(
                sa.select(
                    optuna.trials.c.state, optuna.trials.c.datetime_start, ours.attempts, ours.fruitless
                )
                .join(tables.trials, ours.trial_id == optuna.trials.c.trial_id)
                .where(optuna.trials.c.trial_id == trial_id)
                .with_for_update()  # both rows: one that is only read would be of the past
            ).one()
            if row.state not in UNFINISHED:
                return None
            condemned = self._begin(connection, *part) if part else None
            if not part and row.fruitless >= open_parts.MAX_DEATHS_THERE:
                condemned = f"its process died {row.fruitless} times after its parts were trained"
            attempt = row.attempts + (condemned is None)
            self._set(
                connection,
                trial_id,
                state=TrialState.RUNNING,
                datetime_start=row.datetime_start or optuna.utc_now(),
            )
            connection.execute(
                sa.update(tables.trials)
                .where(ours.trial_id == trial_id)
                .values(attempts=attempt, fruitless=0 if part else row.fruitless + 1)
            )
        return Claim(trial_id, attempt, condemned)

    @lasting
    def begin(self, part: str, seed: int, reached: int | None) -> str | None:
        """Mark a further part of a claimed trial as begun; return why it would be no use to train it, if so."""
        with self._transaction() as connection:
            return self._begin(connection, part, seed, reached)

    def _begin(self, connection: sa.Connection, part: str, seed: int, reached: int | None) -> str | None:
        condemned, its_owner_died = open_parts.begin(connection, self._id, part, seed, reached)
        if its_owner_died:
            self._mourned.add((part, seed))
        return condemned

    @lasting
    def progress(self, part: str, seed: int) -> None:
        """Note that more of this part became durable than was before."""
        if (part, seed) in self._mourned:
            self._update_open_part(part, seed, deaths=0, deaths_there=0)
            self._mourned.remove((part, seed))

    @lasting
    def set_aside(self, part: str, seed: int) -> None:
        """Note that a part is left as it is by an owner that did not die."""
        self._update_open_part(part, seed, begun=False)

    def _update_open_part(self, part: str, seed: int, **columns: Any) -> None:
        with self._transaction() as connection:
            open_parts.change(connection, self._id, part, seed, **columns)

    @lasting
    def release(self, claim: Claim) -> None:
        """Put a trial that stopped gracefully back in the queue."""
        with self._transaction() as connection:
            if self._still_running(connection, claim, then=TrialState.WAITING):
                self._set(connection, claim.trial_id, state=TrialState.WAITING)
                connection.execute(
                    sa.update(tables.trials)
                    .where(tables.trials.c.trial_id == claim.trial_id)
                    .values(fruitless=0)
                )

    @lasting
    def complete(
        self,
        claim: Claim,
        metrics: Mapping[str, float],
        part: NewPart | None = None,
        curve_of: str | None = None,
    ) -> None:
        """Record a trial's metrics and its state in one commit, together with the part trained last.

        `curve_of`: the part whose curve of the study's own metric dashboards are to show.

        Raises:
            KeyError: the study's own metric is not among `metrics`.
        """
        name = self.spec.metric.name
        value = metrics[name]
        with self._transaction() as connection:
            if not self._still_running(connection, claim, then=TrialState.COMPLETE):
                return
            if part is not None:
                self._record_part(connection, part)
            connection.execute(
                sa.insert(tables.metrics),
                [
                    {"trial_id": claim.trial_id, "name": name, "value": value}
                    for name, value in metrics.items()
                ],
            )
            connection.execute(
                sa.insert(optuna.values).values(
                    trial_id=claim.trial_id, objective=0, value=value, value_type=optuna.FINITE
                )
            )
            if curve_of is not None:
                self._show_curve(connection, claim.trial_id, curve_of)
            self._finish(connection, claim.trial_id, TrialState.COMPLETE)

    def _show_curve(self, connection: sa.Connection, trial_id: int, part: str) -> None:
        """Copy a curve to where dashboards look for it."""
        key, ours = tables.points.c, tables.trials.c
        of_trial = sa.select(ours.seed).where(ours.trial_id == trial_id).scalar_subquery()
        points = connection.execute(
            sa.select(key.step, key.value).where(
                key.study_id == self._id,
                key.part == part,
                key.seed == of_trial,
                key.name == self.spec.metric.name,
            )
        ).all()
        if points:
            connection.execute(
                sa.insert(optuna.curve),
                [
                    {
                        "trial_id": trial_id,
                        "step": step,
                        "intermediate_value": value,
                        "intermediate_value_type": optuna.CURVE_FINITE,
                    }
                    for step, value in points
                ],
            )

    @lasting
    def fail(self, claim: Claim, reason: str) -> None:
        """Record that a trial has no result, and why."""
        with self._transaction() as connection:
            if self._still_running(connection, claim, then=TrialState.FAIL):
                self._finish(connection, claim.trial_id, TrialState.FAIL, reason)

    @lasting
    def fail_part(self, part: str, seed: int, reason: str) -> None:
        """Remember that a part cannot be trained, so that no other trial that needs it tries."""
        self._update_open_part(part, seed, begun=False, error=reason)

    @lasting
    def prune(self, claim: Claim) -> None:
        """Record that a trial was given up by the pruner."""
        with self._transaction() as connection:
            if self._still_running(connection, claim, then=TrialState.PRUNED):
                self._finish(connection, claim.trial_id, TrialState.PRUNED)

    def _still_running(self, connection: sa.Connection, claim: Claim, then: TrialState) -> bool:
        """Say whether the trial is to be put into state `then`; it is there already if a commit's answer was lost.

        Raises:
            Superseded: another attempt has begun since.
        """
        row = connection.execute(
            sa.select(optuna.trials.c.state, tables.trials.c.attempts)
            .join(tables.trials, tables.trials.c.trial_id == optuna.trials.c.trial_id)
            .where(optuna.trials.c.trial_id == claim.trial_id)
            .with_for_update()  # both rows: one that is only read would be of the past
        ).one()
        if row.attempts != claim.attempt or row.state not in (TrialState.RUNNING, then):
            raise Superseded
        return bool(row.state is TrialState.RUNNING)

    @lasting
    def retry_failed(self, cells: Collection[str] | None = None) -> int:
        """Queue the failed trials (of `cells` only, if given) again, and forget which of their parts failed; return how many."""
        ours = tables.trials.c
        with self._transaction() as connection:
            self._lock_study(connection)
            rows = connection.execute(
                sa.select(ours.trial_id, ours.cell, ours.seed, tables.cells.c.parts)
                .join(optuna.trials, optuna.trials.c.trial_id == ours.trial_id)
                .join(
                    tables.cells,
                    sa.and_(tables.cells.c.study_id == ours.study_id, tables.cells.c.cell == ours.cell),
                )
                .where(ours.study_id == self._id, optuna.trials.c.state == TrialState.FAIL)
            )
            failed = [row for row in rows if cells is None or row.cell in cells]
            ids = [row.trial_id for row in failed]
            connection.execute(
                sa.update(optuna.trials)
                .where(optuna.trials.c.trial_id.in_(ids))
                .values(state=TrialState.WAITING, datetime_complete=None)
            )
            connection.execute(
                sa.update(tables.trials).where(ours.trial_id.in_(ids)).values(fruitless=0, error=None)
            )
            for part, seed in {(part["hash"], row.seed) for row in failed for part in row.parts.values()}:
                open_parts.remove(connection, self._id, part, seed)
        return len(failed)

    def _set(self, connection: sa.Connection, trial_id: int, **columns: Any) -> None:
        connection.execute(
            sa.update(optuna.trials).where(optuna.trials.c.trial_id == trial_id).values(**columns)
        )

    def _finish(
        self, connection: sa.Connection, trial_id: int, state: TrialState, error: str | None = None
    ) -> None:
        self._set(connection, trial_id, state=state, datetime_complete=optuna.utc_now())
        connection.execute(
            sa.update(tables.trials)
            .where(tables.trials.c.trial_id == trial_id)
            .values(error=error, fruitless=0 if error is None else tables.trials.c.fruitless)
        )

    def record_test(
        self, use: UseOfTest, uses_before: int, metrics: Mapping[int, Mapping[str, float]]
    ) -> None:
        """Record a use of the test split and its `test/...` metrics by seed, in one commit. Later scores replace earlier.

        Raises:
            StoreError: it was used by somebody else since there were `uses_before`.
        """
        ours, theirs = tables.trials.c, tables.metrics.c
        with self._transaction() as connection:
            tables.test_uses.create(connection, checkfirst=True)
            uses = connection.scalar(
                sa.select(sa.func.count()).where(tables.test_uses.c.study_id == self._id)
            )
            if uses != uses_before:
                raise StoreError(f"{self.study}: the test split was scored by another process just now")
            connection.execute(
                sa.insert(tables.test_uses).values(
                    study_id=self._id,
                    number=uses_before + 1,
                    cell=use.cell,
                    time=use.when,
                    who=use.who,
                    unfinished=use.unfinished,
                )
            )
            ids: dict[int, int] = {
                row.seed: row.trial_id
                for row in connection.execute(
                    sa.select(ours.seed, ours.trial_id).where(
                        ours.study_id == self._id, ours.cell == use.cell
                    )
                )
            }
            connection.execute(
                sa.delete(tables.metrics).where(
                    theirs.trial_id.in_(list(ids.values())), theirs.name.startswith("test/")
                )
            )
            rows = [
                {"trial_id": ids[seed], "name": name, "value": value}
                for seed, found in metrics.items()
                for name, value in found.items()
            ]
            if rows:
                connection.execute(sa.insert(tables.metrics), rows)

    # Parts and curves

    @lasting
    def record_part(self, new: NewPart) -> None:
        """Record a part that was trained to its end."""
        with self._transaction() as connection:
            self._record_part(connection, new)

    def _record_part(self, connection: sa.Connection, new: NewPart) -> None:
        self._add_points(connection, new.part, new.seed, new.points)
        connection.execute(
            _insert(connection, tables.parts)
            .values(
                study_id=self._id,
                part=new.part,
                seed=new.seed,
                metrics=new.trained.metrics,
                seconds=new.trained.seconds,
                steps=new.trained.steps,
                facts=new.trained.facts,
            )
            .on_conflict_do_nothing()  # recorded, and then the answer was lost
        )
        open_parts.remove(connection, self._id, new.part, new.seed)

    @lasting
    def add_points(self, part: str, seed: int, points: Sequence[tuple[int, str, float]]) -> None:
        """Add (step, name, value) points to a part's curves; a point recomputed after a kill replaces itself."""
        if points:
            with self._transaction() as connection:
                self._add_points(connection, part, seed, points)

    def _add_points(
        self, connection: sa.Connection, part: str, seed: int, points: Sequence[tuple[int, str, float]]
    ) -> None:
        if not points:
            return
        statement = _insert(connection, tables.points)
        rows = {
            (step, name): {
                "study_id": self._id,
                "part": part,
                "seed": seed,
                "step": step,
                "name": name,
                "value": value,
            }
            for step, name, value in points
        }
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=list(tables.points.primary_key), set_={"value": statement.excluded.value}
            ),
            list(rows.values()),
        )


def _insert(connection: sa.Connection, table: sa.Table) -> Any:
    """Return an INSERT that knows ON CONFLICT, in the database's own dialect."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
    return insert(table)
