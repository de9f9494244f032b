"""The store for those who train: add trials, claim them, record what they gave. Every method is one transaction, and may
be tried again: a server that went away and came back is no reason to lose a trial.

Who may work on a trial is decided by ownership (a lock), not here: call these methods for trials you own. A claim carries
the number of its attempt; whoever lost a trial to a later attempt cannot record it any more (`Superseded`)."""

import fcntl
import functools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import sqlalchemy as sa

from ablate.design.model import Cell, Design, Part
from ablate.errors import BadInput, StoreError
from ablate.spec.model import StudySpec
from ablate.spec.yaml_tree import same
from ablate.store import engine as databases
from ablate.store import optuna_tables as optuna
from ablate.store import tables
from ablate.store.optuna_tables import TrialState
from ablate.store.results import UseOfTest

UNFINISHED = (TrialState.WAITING, TrialState.RUNNING)
MAX_DEATHS_THERE = 3  # at one and the same step: it is the trial's fault, and trying again would not help
MAX_DEATHS = 10  # with nothing saved between them
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
            raise BadInput(f"{databases.printable(url)}: holds no study {study!r}")
        self._id: int = found.study_id
        self.spec = StudySpec.model_validate(found.spec)
        self.study_folder = Path(found.folder)  # relative paths in the study start there
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
            self._cells = {row.cell: cell_from_row(row) for row in rows}
        return self._cells[hash_]

    @lasting
    def add_trials(self, cells: Sequence[Cell], order: Sequence[tuple[str, int]]) -> int:
        """Add those (cell, seed) of `order` that are missing as WAITING trials, numbered in order; return how many."""
        by_hash = {cell.hash: cell for cell in cells}
        with self._transaction() as connection:
            self._lock_study(connection)
            ours = tables.trials.c
            rows = connection.execute(
                sa.select(ours.cell, ours.seed, ours.trial_id).where(ours.study_id == self._id)
            )
            there = {(row.cell, row.seed): row.trial_id for row in rows}
            self._write_cells(connection, cells)
            missing = [(hash_, seed) for hash_, seed in order if (hash_, seed) not in there]
            if missing:
                new = [(by_hash[hash_], seed) for hash_, seed in missing]
                ids = self._insert_trials(connection, new, first=len(there))
                old = {id_: by_hash[hash_] for (hash_, _), id_ in there.items()}
                self._write_params(connection, old, dict(zip(ids, (cell for cell, _ in new), strict=True)))
        return len(missing)

    def _write_cells(self, connection: sa.Connection, cells: Sequence[Cell]) -> None:
        """Write the design's cells, unless they stand there already; an extended study gets its new order."""
        ours = tables.cells.c
        there = connection.scalars(
            sa.select(ours.cell).where(ours.study_id == self._id).order_by(ours.position)
        ).all()
        if there == [cell.hash for cell in cells]:
            return
        connection.execute(sa.delete(tables.cells).where(ours.study_id == self._id))
        connection.execute(
            sa.insert(tables.cells),
            [
                {
                    "study_id": self._id,
                    "cell": cell.hash,
                    "position": position,
                    "levels": cell.levels,
                    "settings": cell.settings,
                    "parts": {
                        name: {"hash": part.hash, "settings": part.settings}
                        for name, part in cell.parts.items()
                    },
                }
                for position, cell in enumerate(cells)
            ],
        )

    def _insert_trials(
        self, connection: sa.Connection, new: list[tuple[Cell, int]], first: int
    ) -> Sequence[int]:
        ids: Sequence[int] = connection.scalars(
            sa.insert(optuna.trials).returning(optuna.trials.c.trial_id, sort_by_parameter_order=True),
            [
                {"number": first + offset, "study_id": self._id, "state": TrialState.WAITING}
                for offset in range(len(new))
            ],
        ).all()
        connection.execute(
            sa.insert(tables.trials),
            [
                {"trial_id": id_, "study_id": self._id, "cell": cell.hash, "seed": seed}
                for id_, (cell, seed) in zip(ids, new, strict=True)
            ],
        )
        connection.execute(
            sa.insert(optuna.user_attributes),
            [
                {"trial_id": id_, "key": key, "value_json": json.dumps(value)}
                for id_, (cell, seed) in zip(ids, new, strict=True)
                for key, value in (("cell", cell.hash), ("seed", seed))
            ],
        )
        return ids

    def _write_params(
        self, connection: sa.Connection, old: Mapping[int, Cell], new: Mapping[int, Cell]
    ) -> None:
        """Write the levels of new trials, and those of the old ones again where a factor gained levels or changed their order:
        Optuna compares only trials whose parameters have one description."""
        choices = {factor.name: tuple(level.name for level in factor.levels) for factor in self.spec.factors}
        described = {name: optuna.choices_json(levels) for name, levels in choices.items()}
        key = optuna.params.c
        of_old = key.trial_id.in_(
            sa.select(tables.trials.c.trial_id).where(tables.trials.c.study_id == self._id)
        )
        standing = connection.execute(
            sa.select(key.param_name, key.distribution_json).where(of_old).distinct()
        ).all()
        if any(described.get(name) != description for name, description in standing):
            connection.execute(sa.delete(optuna.params).where(of_old))
            new = {**old, **new}
        rows = [
            {
                "trial_id": id_,
                "param_name": factor,
                "param_value": float(next(i for i, one in enumerate(choices[factor]) if same(one, level))),
                "distribution_json": described[factor],
            }
            for id_, cell in new.items()
            for factor, level in cell.levels.items()
        ]
        if rows:
            connection.execute(sa.insert(optuna.params), rows)

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
            if not part and row.fruitless >= MAX_DEATHS_THERE:
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
        key = tables.open_parts.c
        mine = (key.study_id == self._id, key.part == part, key.seed == seed)
        row = connection.execute(sa.select(tables.open_parts).where(*mine)).first()
        if row is None:
            connection.execute(
                sa.insert(tables.open_parts).values(
                    study_id=self._id, part=part, seed=seed, begun=True, deaths=0, deaths_there=0
                )
            )
            return None
        if row.error:
            return str(row.error)
        if not row.begun:
            connection.execute(sa.update(tables.open_parts).where(*mine).values(begun=True))
            return None
        self._mourned.add((part, seed))
        deaths = row.deaths + 1
        there = row.deaths_there + 1 if _is_same_place(reached, row.reached) else 1
        error = None
        if there >= MAX_DEATHS_THERE or deaths >= MAX_DEATHS:
            where = f"after step {reached}" if reached and reached > 0 else "before its first step"
            error = f"its process died {deaths} times without progress, the last time {where}; the workers' logs may say why"
        connection.execute(
            sa.update(tables.open_parts)
            .where(*mine)
            .values(deaths=deaths, deaths_there=there, reached=reached, error=error)
        )
        return error

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
        key = tables.open_parts.c
        with self._transaction() as connection:
            connection.execute(
                sa.update(tables.open_parts)
                .where(key.study_id == self._id, key.part == part, key.seed == seed)
                .values(**columns)
            )

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
    def retry_failed(self) -> int:
        """Queue the failed trials again, and forget which parts failed; return how many."""
        with self._transaction() as connection:
            self._lock_study(connection)
            failed = connection.scalars(
                sa.select(optuna.trials.c.trial_id).where(
                    optuna.trials.c.study_id == self._id, optuna.trials.c.state == TrialState.FAIL
                )
            ).all()
            connection.execute(
                sa.update(optuna.trials)
                .where(optuna.trials.c.trial_id.in_(failed))
                .values(state=TrialState.WAITING, datetime_complete=None)
            )
            connection.execute(
                sa.update(tables.trials)
                .where(tables.trials.c.trial_id.in_(failed))
                .values(fruitless=0, error=None)
            )
            connection.execute(sa.delete(tables.open_parts).where(tables.open_parts.c.study_id == self._id))
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
        key = tables.open_parts.c
        connection.execute(
            sa.delete(tables.open_parts).where(
                key.study_id == self._id, key.part == new.part, key.seed == new.seed
            )
        )

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


def _is_same_place(one: int | None, other: int | None) -> bool:
    """Say whether two attempts died at the same step, or after about the same CPU time before the first (below zero)."""
    if one is None or other is None or one > 0 or other > 0:
        return one == other
    return abs(one - other) <= max(2, 0.1 * max(-one, -other))


def _insert(connection: sa.Connection, table: sa.Table) -> Any:
    """Return an INSERT that knows ON CONFLICT, in the database's own dialect."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
    return insert(table)


def cell_from_row(row: Any) -> Cell:
    """Build a cell from its row in `ablate_cells`."""
    parts = {name: Part(part["hash"], part["settings"]) for name, part in row.parts.items()}
    return Cell(row.cell, row.levels, row.settings, parts)


def create_store(
    url: str, spec: StudySpec, design: Design, defaults: Mapping[str, str] | None = None
) -> Store:
    """Create what is missing of the database, its tables and the study; open it. `defaults`: of the trainer's settings.

    A study that is there takes over what `spec` says: whether it may is for the caller to know.
    Several processes may call this at once for one file: they take turns.

    Raises:
        StoreError: the database is locked, damaged or of another version.
    """
    file = databases.sqlite_file(url)
    with _taking_turns(url):
        if file is not None:
            databases.touch_private(file)
        engine = databases.connect(url)
        with databases.explained(url):
            if not sa.inspect(engine).has_table(tables.studies.name):
                optuna.create_schema(databases.parse_url(url))
            with engine.begin() as connection:
                tables.metadata.create_all(connection)
                there = connection.execute(
                    sa.select(tables.studies).where(tables.studies.c.name == spec.study)
                ).first()
                if there is None:
                    _insert_study(connection, spec, design, defaults)
                elif there.schema_version != tables.SCHEMA_VERSION:
                    raise StoreError(
                        f"{databases.printable(url)}: written by a version of ablate with tables {there.schema_version}, "
                        f"this one has {tables.SCHEMA_VERSION}; use the version that wrote it"
                    )
                else:
                    connection.execute(
                        sa.update(tables.studies)
                        .where(tables.studies.c.name == spec.study)
                        .values(
                            **_study_columns(
                                spec, design, defaults, _changes(connection, there, spec, design)
                            )
                        )
                    )
        engine.dispose()
    return Store(url, spec.study)


def _insert_study(
    connection: sa.Connection, spec: StudySpec, design: Design, defaults: Mapping[str, str] | None
) -> None:
    study_id = optuna.create_study(connection, spec.study, maximize=spec.metric.goal == "maximize")
    connection.execute(
        sa.insert(tables.studies).values(
            study_id=study_id,
            name=spec.study,
            schema_version=tables.SCHEMA_VERSION,
            **_study_columns(spec, design, defaults),
        )
    )


def _changes(
    connection: sa.Connection, there: sa.Row[Any], spec: StudySpec, design: Design
) -> list[dict[str, Any]]:
    """Return the recorded changes of a study, with this one if trials have results: conclusions rest on what changed."""
    past: list[dict[str, Any]] = there.design.get("changes", [])
    old = StudySpec.model_validate(there.spec)
    before = {
        name: value
        for name, value in there.spec.items()
        if name in ("metric", "baseline") and getattr(old, name) != getattr(spec, name)
    }
    if set(old.seeds) != set(spec.seeds):
        before["seeds"] = list(old.seeds)
    if there.design["raw_cells"] != design.raw_cells:
        before["combinations"] = there.design["raw_cells"]
    complete = connection.scalar(
        sa.select(sa.func.count()).where(
            optuna.trials.c.study_id == there.study_id, optuna.trials.c.state == TrialState.COMPLETE
        )
    )
    return [*past, {"complete": complete, "before": before}] if before and complete else past


def _study_columns(
    spec: StudySpec,
    design: Design,
    defaults: Mapping[str, str] | None,
    changes: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    return {
        "spec": spec.model_dump(mode="json"),
        "design": {
            "kind": design.kind,
            "raw_cells": design.raw_cells,
            "reference": design.reference,
            "resolution": design.resolution,
            "aliases": design.aliases,
            "defaults": dict(defaults or {}),
            "changes": list(changes),
            "file": str(spec.path) if spec.path else None,
        },
        "folder": str(spec.folder.resolve()),
    }


@contextmanager
def _taking_turns(url: str) -> Iterator[None]:
    """Hold the database's creation lock: first opens of one database race otherwise."""
    file = databases.sqlite_file(url)
    if file is None:
        with databases.explained(url), databases.lock_session(url) as session:
            session.execute(sa.select(sa.func.pg_advisory_lock(databases.advisory_key("create"))))
            yield
        return
    databases.refuse_network_file_system(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{file}.lock").open("w") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        yield
