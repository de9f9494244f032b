"""PostgreSQL servers and poolers that take sessions away, refuse to write or limit everything: a right result or one sentence."""

import contextlib
import json
import shutil
import threading
import time
from pathlib import Path

import psycopg
import pytest
from conftest import TRAINERS
from fixture_types import Ablate, RunHere, StartAblate, WalkStudy
from history import assert_history
from postgres_server import PASSWORD, PostgresServer, name_of, role_of
from test_runner_run import metrics, wait_for

from ablate.errors import AblateError, BadInput
from ablate.runner import ownership
from ablate.runner.ownership import ServerLocks, regain
from ablate.store import retrying
from ablate.store.database_errors import Disconnected
from ablate.store.places import place_of
from ablate.store.reading import read_results
from ablate.store.retrying import lasting
from ablate.store.sessions import lock_session
from ablate.store.writing import Store

GATED = """\
study: gated
trainer: gated
factors: {slope: [1.0, 2.0]}
baseline: {slope: 1.0}
design: full
seeds: [1, 2]
metric: {name: dev/position}
"""


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.new_database()


def never() -> bool:
    return False


# Poolers


@pytest.fixture
def bouncer() -> None:
    if not shutil.which("pgbouncer"):
        pytest.skip("needs pgbouncer")


@pytest.mark.usefixtures("bouncer")
@pytest.mark.parametrize("size", [1, 2, 20])
def test_a_pooler_that_shares_sessions_is_refused(postgres: PostgresServer, url: str, size: int) -> None:
    with postgres.pooler(url, "transaction", size) as pooled:
        for _ in range(3):
            with pytest.raises(BadInput, match="a pooler that shares sessions between clients"):
                lock_session(pooled)


@pytest.mark.usefixtures("bouncer")
def test_a_pooler_that_others_keep_busy_is_refused(postgres: PostgresServer, url: str) -> None:
    done = threading.Event()

    def keep_busy() -> None:
        with psycopg.connect(pooled, autocommit=True, prepare_threshold=None) as connection:
            while not done.is_set():
                connection.execute("SELECT pg_sleep(0.001)")

    with postgres.pooler(url, "transaction", 3) as pooled:
        others = [threading.Thread(target=keep_busy) for _ in range(4)]
        for other in others:
            other.start()
        try:
            for _ in range(10):
                with pytest.raises(BadInput, match="a pooler that shares sessions"):
                    lock_session(pooled)
        finally:
            done.set()
            for other in others:
                other.join()


@pytest.mark.usefixtures("bouncer")
@pytest.mark.parametrize(("mode", "code"), [("transaction", 2), ("statement", 1)])
def test_a_run_behind_such_a_pooler_writes_nothing(
    ablate: Ablate, walk_study: WalkStudy, postgres: PostgresServer, url: str, mode: str, code: int
) -> None:
    with postgres.pooler(url, mode, 5) as pooled:
        done = ablate("run", walk_study(), ABLATE_STORAGE=pooled)
    assert done.returncode == code
    assert "name the server itself, or a pool with pool_mode = session" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "CREATE TABLE" not in postgres.dump(url)


@pytest.mark.usefixtures("bouncer")
def test_a_run_through_a_pool_of_whole_sessions_works(
    ablate: Ablate, walk_study: WalkStudy, postgres: PostgresServer, url: str
) -> None:
    with postgres.pooler(url, "session", 20) as pooled:
        done = ablate("run", walk_study(), "--workers", 2, "--json", ABLATE_STORAGE=pooled)
    assert done.returncode == 0, done.stderr


# Sessions that end


def test_a_server_that_ends_idle_sessions_takes_no_lock_away(url: str, postgres: PostgresServer) -> None:
    role = postgres.new_role(url, "")
    postgres.sql(f"ALTER ROLE {role_of(role)} SET idle_session_timeout = '300ms'")
    with contextlib.closing(ServerLocks(role, "walk")) as locks:
        assert locks.acquire("trial-1")
        time.sleep(1)
        assert not locks.lost()


def test_a_lock_that_was_lost_is_taken_again(url: str, postgres: PostgresServer) -> None:
    with contextlib.closing(ServerLocks(url, "walk")) as locks:
        locks.acquire("trial-1")
        postgres.restart()
        wait_for(locks.lost)
        assert regain(locks, never)
        assert (locks.lost(), locks.held()) == (False, ["trial-1"])


def test_a_lock_that_somebody_took_meanwhile_stays_lost(url: str, postgres: PostgresServer) -> None:
    with contextlib.closing(ServerLocks(url, "walk")) as mine:
        mine.acquire("trial-1")
        postgres.restart()
        wait_for(mine.lost)
        with contextlib.closing(ServerLocks(url, "walk")) as other:
            assert other.acquire("trial-1")
            assert not regain(mine, never)


def test_a_silent_owner_is_heard_now_and_then(
    url: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "ASK_S", 0.0)
    with contextlib.closing(ServerLocks(url, "walk")) as locks:
        before = locks._asked
        assert not locks.lost()
        assert locks._asked > before


@pytest.mark.slow
def test_sessions_ended_every_second_cost_no_trial(
    ablate: Ablate,
    start_ablate: StartAblate,
    walk_study: WalkStudy,
    tmp_path: Path,
    url: str,
    postgres: PostgresServer,
    run_here: RunHere,
) -> None:
    study = walk_study(steps=80, seconds_per_step=0.02, slopes="[1.0, 2.0]", seeds="[1]")
    reference = metrics(run_here(study, home="reference"))
    run = start_ablate("run", study, "--workers", 2, ABLATE_STORAGE=url)
    wait_for(lambda: list(tmp_path.glob("runs/walk/trials/*/steps.log")))
    with postgres.cutting_off(url, every_s=1.0):
        output = run.communicate()
    assert run.returncode == 0, output
    assert metrics(json.loads(ablate("status", study, "--json", ABLATE_STORAGE=url).stdout)) == reference
    assert_history(place_of("walk", tmp_path / "runs", url))


@pytest.mark.slow
def test_two_workers_that_rob_each_other_kill_no_trial(
    walk_study: WalkStudy, url: str, run_here: RunHere, tmp_path: Path
) -> None:
    """Whoever finds that somebody else has begun its part takes the death back that was counted for it."""
    run_here(walk_study(seeds="[1]"), storage=url)
    place = place_of("walk", tmp_path / "runs", url)
    key = next(iter(read_results(place).parts))
    with contextlib.closing(Store(place)) as one, contextlib.closing(Store(place)) as other:
        one.train_again([key])
        assert one.begin(*key, 3) is None
        for taker, robbed in [(other, one), (one, other)] * 8:
            assert taker.begin(*key, 3) is None
            robbed.lost_part(*key)
            assert not robbed.owns(*key)
            assert taker.owns(*key)


# Limits


# Three: reached while Optuna creates its tables.
@pytest.mark.parametrize(("command", "limit"), [("run", 1), ("run", 3), ("doctor", 1)])
def test_a_limit_of_connections_is_named(
    ablate: Ablate, walk_study: WalkStudy, url: str, postgres: PostgresServer, command: str, limit: int
) -> None:
    role = postgres.new_role(url, f"CONNECTION LIMIT {limit}")
    done = ablate(command, *[walk_study()][: command == "run"], ABLATE_STORAGE=role)
    assert "too many connections for role" in done.stdout + done.stderr
    assert (
        "start fewer workers or raise the limit (ALTER ROLE name CONNECTION LIMIT n"
        in done.stdout + done.stderr
    )
    if command == "run":
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1


def test_a_server_that_only_reads_is_named(
    ablate: Ablate, walk_study: WalkStudy, url: str, postgres: PostgresServer
) -> None:
    role = postgres.new_role(url, "")
    postgres.sql(f"ALTER ROLE {role_of(role)} SET default_transaction_read_only = on")
    done = ablate("run", walk_study(), ABLATE_STORAGE=role)
    assert done.returncode == 1
    assert "does not accept writes; name the primary server, not a standby" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_limit_of_time_for_a_statement_is_named(
    ablate: Ablate, walk_study: WalkStudy, url: str, postgres: PostgresServer
) -> None:
    role, study = postgres.new_role(url, ""), walk_study()
    assert ablate("run", study, "--limit", 1, ABLATE_STORAGE=role).returncode == 0
    postgres.sql(f"ALTER ROLE {role_of(role)} SET statement_timeout = '500ms'")
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE ablate_studies")
        done = ablate("run", study, ABLATE_STORAGE=role)
    assert done.returncode == 1
    assert "canceling statement due to statement timeout; its limit is too short" in done.stderr


def test_a_role_that_may_make_no_tables_is_named(
    ablate: Ablate, walk_study: WalkStudy, url: str, postgres: PostgresServer
) -> None:
    role = postgres.new_role(url, "")
    postgres.sql(f"ALTER DATABASE {name_of(url)} OWNER TO walker")
    done = ablate("run", walk_study(), ABLATE_STORAGE=role)
    assert done.returncode == 1
    assert "permission denied for schema public; let the role create tables: GRANT CREATE" in done.stderr


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_of_any_encoding_works(
    run_here: RunHere, walk_study: WalkStudy, url: str, postgres: PostgresServer, encoding: str
) -> None:
    name = f"{name_of(url)}_{encoding.lower()}"
    postgres.sql(
        f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    done = run_here(walk_study(), storage=url.replace(name_of(url), name))
    assert {trial["state"] for trial in done["trials"]} == {"COMPLETE"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ALTER ROLE {role} SET search_path = nowhere", "ALTER ROLE name SET search_path = public"),
        ("REVOKE CONNECT ON DATABASE {database} FROM PUBLIC", "GRANT CONNECT ON DATABASE name TO role"),
        ("ALTER ROLE {role} NOLOGIN", "ALTER ROLE name LOGIN"),
        ("DROP DATABASE {database}", "restore it from a copy, create it (createdb NAME), or correct the URL"),
    ],
)
def test_what_waiting_does_not_change_is_named_at_once(
    ablate: Ablate, walk_study: WalkStudy, url: str, postgres: PostgresServer, change: str, said: str
) -> None:
    role = postgres.new_role(url, "")
    postgres.sql(f"ALTER DATABASE {name_of(url)} OWNER TO walker")
    postgres.sql(change.format(role=role_of(role), database=name_of(url)))
    done = ablate("run", walk_study(), ABLATE_STORAGE=role)
    assert done.returncode == 1
    assert said in done.stderr
    assert "is the server up?" not in done.stderr
    with pytest.raises(AblateError) as caught:
        lasting(lambda: read_results(place_of("walk", walk_study().parent / "runs", role)))
    assert not isinstance(caught.value, Disconnected)


def test_a_server_that_stays_away_is_waited_for_and_named(
    url: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrying, "RECONNECT_S", 1.0)
    postgres.control("stop")
    try:
        with pytest.raises(
            Disconnected, match=r"waited 1.0 s: once it is back, the same command continues"
        ) as said:
            lasting(lambda: lock_session(url))
    finally:
        postgres.control("restart")
    assert PASSWORD not in str(said.value)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_server_away_for_longer_than_two_minutes_stops_the_run_and_the_next_goes_on(
    ablate: Ablate,
    start_ablate: StartAblate,
    walk_study: WalkStudy,
    tmp_path: Path,
    url: str,
    postgres: PostgresServer,
    run_here: RunHere,
) -> None:
    study = walk_study(steps=60, seconds_per_step=0.05, slopes="[1.0, 2.0]", seeds="[1]")
    reference = metrics(run_here(study, home="reference"))
    run = start_ablate("run", study, ABLATE_STORAGE=url, ABLATE_CHECKPOINT_SECONDS="0.2")
    wait_for(lambda: list(tmp_path.glob("runs/walk/trials/*/step-*.checkpoint")))
    postgres.control("stop")
    try:
        _, errors = run.communicate()
    finally:
        postgres.control("restart")
    assert run.returncode == 1
    assert "waited 2.0 min: once it is back, the same command continues" in errors
    assert "Traceback" not in errors
    done = ablate("run", study, "--json", ABLATE_STORAGE=url)
    assert done.returncode == 0, done.stderr
    assert metrics(json.loads(done.stdout)) == reference
    assert_history(place_of("walk", tmp_path / "runs", url))


def test_a_database_dropped_in_a_run_and_restored_keeps_its_finished_trials(
    ablate: Ablate,
    start_ablate: StartAblate,
    tmp_path: Path,
    url: str,
    postgres: PostgresServer,
) -> None:
    shutil.copy(TRAINERS / "gated.py", tmp_path)
    study = tmp_path / "gated.yaml"
    study.write_text(GATED)
    (tmp_path / "go").touch()
    assert ablate("run", study, "--limit", 1, ABLATE_STORAGE=url).returncode == 0
    (tmp_path / "go").unlink()
    run = start_ablate("run", study, ABLATE_STORAGE=url)
    place = place_of("gated", tmp_path / "runs", url)
    wait_for(lambda: [trial for trial in read_results(place).trials if trial.state == "RUNNING"])
    copy, before = postgres.dump(url), read_results(place)
    postgres.sql(f"DROP DATABASE {name_of(url)} WITH (FORCE)")
    _, errors = run.communicate()
    assert run.returncode == 1
    assert f'database "{name_of(url)}" does not exist; restore it from a copy' in errors
    assert "Traceback" not in errors
    postgres.sql(f"CREATE DATABASE {name_of(url)}")
    postgres.restore(url, copy)
    (tmp_path / "go").touch()
    done = ablate("run", study, ABLATE_STORAGE=url)
    assert done.returncode == 0, done.stderr
    results = read_results(place)
    assert [trial.state for trial in results.trials] == ["COMPLETE"] * 4
    # What was finished is as it was, to the second that it took.
    assert len(before.parts) == 1
    assert before.parts.items() <= results.parts.items()
    assert_history(place)
