"""PostgreSQL as the store of several hosts, on a real server: claims, restarts, one shared home, no password anywhere."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fixture_types import Ablate, RunHere, StartAblate, WalkStudy, not_none
from postgres_server import PASSWORD, PostgresServer, name_of
from test_runner_run import metrics, running_workers, trained, wait_for

from ablate.runner.cadence import Cadence
from ablate.runner.logs import Logbook
from ablate.runner.ownership import ServerLocks
from ablate.runner.prepare import prepare
from ablate.runner.run import run_order
from ablate.runner.searching import trials_tried, watch_of
from ablate.runner.worker import Worker
from ablate.store.creating import create_store
from ablate.store.database_errors import Disconnected
from ablate.store.opening import connect
from ablate.store.reading import read_results


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.new_database()


def test_a_run_gives_what_it_gives_on_sqlite(
    ablate: Ablate, walk_study: WalkStudy, url: str, run_here: RunHere
) -> None:
    study = walk_study(more=", shared: true")
    done = ablate("run", study, "--workers", 2, "--json", ABLATE_STORAGE=url)
    assert done.returncode == 0, done.stderr
    assert metrics(json.loads(done.stdout)) == metrics(run_here(study, home="reference"))


def test_a_database_without_an_encoding_holds_a_study(
    ablate: Ablate, walk_study: WalkStudy, url: str, postgres: PostgresServer
) -> None:
    """As `initdb` makes it where LC_ALL is C."""
    name = f"{name_of(url)}_ascii"
    postgres.sql(
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    url = url.replace(name_of(url), name)
    study = walk_study()
    study.write_text(f"{study.read_text()}question: Ist größer besser?\n")
    done = ablate("run", study, "--limit", 1, ABLATE_STORAGE=url)
    assert done.returncode == 0, done.stderr
    report = json.loads(ablate("report", "walk", "--json", ABLATE_STORAGE=url).stdout)
    assert report["question"] == "Ist größer besser?"


def test_the_script_of_the_documentation_starts_a_server_without_root(
    ablate: Ablate, walk_study: WalkStudy, postgres: PostgresServer, tmp_path: Path
) -> None:
    page = (Path(__file__).parent.parent / "docs/how_to/postgresql.md").read_text()
    folder = postgres.new_folder()
    script, data = folder / "database.sh", folder / "database"
    script.write_text(page.partition('```bash title="database.sh"\n')[2].partition("```")[0])
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    stop = folder / "stop.sh"
    stop.write_text(f"pg_ctl --pgdata {data} --mode immediate stop")
    try:
        printed = postgres.run_script(script, str(data), str(port))
        (last,) = printed.splitlines()[-1:]
        assert last == f"export ABLATE_STORAGE=$(cat {data}.url)"
        password, url = folder / "database.password", folder / "database.url"
        assert password.read_text() not in printed
        assert password.stat().st_mode & 0o77 == url.stat().st_mode & 0o77 == 0
        address = url.read_text().strip().replace(socket.gethostname(), "localhost")
        assert f"@localhost:{port}/postgres" in address
        assert ablate("run", walk_study(), "--limit", 1, ABLATE_STORAGE=address).returncode == 0
        # As after the machine was started again.
        postgres.run_script(stop)
        assert postgres.run_script(script, str(data), str(port)).splitlines()[-1] == last
        # While the server is running.
        assert postgres.run_script(script, str(data), str(port)).splitlines()[-1] == last
        assert json.loads(ablate("status", "walk", "--json", ABLATE_STORAGE=address).stdout)["complete"] == 1
    finally:
        postgres.run_script(stop)
        shutil.rmtree(folder)


def test_a_server_restarting_in_mid_trial_loses_nothing(
    ablate: Ablate,
    start_ablate: StartAblate,
    walk_study: WalkStudy,
    tmp_path: Path,
    url: str,
    postgres: PostgresServer,
    run_here: RunHere,
) -> None:
    study = walk_study(steps=60, seconds_per_step=0.02, slopes="[1.0, 2.0]", seeds="[1]")
    reference = metrics(run_here(study, home="reference"))
    run = start_ablate("run", study, ABLATE_STORAGE=url, ABLATE_CHECKPOINT_SECONDS="0.2")
    wait_for(lambda: list(tmp_path.glob("runs/walk/trials/*/step-*.checkpoint")))
    postgres.restart()
    output = run.communicate()
    assert run.returncode == 0, output
    assert metrics(json.loads(ablate("status", study, "--json", ABLATE_STORAGE=url).stdout)) == reference
    assert len(trained(tmp_path)) == 4, "nobody else took what was being trained, so it went on where it was"


def test_a_killed_worker_is_replaced(
    ablate: Ablate,
    start_ablate: StartAblate,
    walk_study: WalkStudy,
    tmp_path: Path,
    url: str,
    run_here: RunHere,
) -> None:
    study = walk_study(steps=30, seconds_per_step=0.02, slopes="[1.0, 2.0]", seeds="[1]")
    reference = metrics(run_here(study, home="reference"))
    run = start_ablate("run", study, ABLATE_STORAGE=url, ABLATE_CHECKPOINT_SECONDS="0.1")
    wait_for(lambda: list(tmp_path.glob("runs/walk/trials/*/step-*.checkpoint")))
    for pid in running_workers(tmp_path):
        os.kill(pid, signal.SIGKILL)
    assert run.wait() == 0
    assert metrics(json.loads(ablate("status", study, "--json", ABLATE_STORAGE=url).stdout)) == reference


def test_a_worker_joins_with_the_shared_home_only(ablate: Ablate, walk_study: WalkStudy, url: str) -> None:
    study = walk_study(slopes="[1.0, 2.0]", seeds="[1]")
    ablate("run", study, "--limit", 1, ABLATE_STORAGE=url)
    elsewhere = ablate("worker", "walk", "--home", "elsewhere", ABLATE_STORAGE=url)
    assert elsewhere.returncode == 2
    assert "elsewhere/walk is not where the files of 'walk' are" in elsewhere.stderr
    joined = ablate("worker", "walk", ABLATE_STORAGE=url)
    assert joined.returncode == 0, joined.stderr
    assert json.loads(ablate("status", study, "--json", ABLATE_STORAGE=url).stdout)["complete"] == 4


def test_the_only_study_of_a_server_needs_no_name(
    ablate: Ablate, run_here: RunHere, walk_study: WalkStudy, url: str
) -> None:
    run_here(walk_study(), limit=0, storage=url)
    done = ablate("status", "--home", "elsewhere", ABLATE_STORAGE=url)
    assert done.stdout.startswith("walk: 8 trials"), done.stderr


def test_a_smoke_run_starts_anew_on_a_server_too(run_here: RunHere, walk_study: WalkStudy, url: str) -> None:
    run_here(walk_study(steps=6, seeds="[1]"), smoke=True, storage=url)
    assert run_here(walk_study(seeds="[1]"), smoke=True, storage=url)["complete"] == 4


@pytest.mark.slow
def test_a_home_is_made_anew_as_the_refusal_says(ablate: Ablate, walk_study: WalkStudy, url: str) -> None:
    study = walk_study()
    ablate("run", study, "--limit", 1, ABLATE_STORAGE=url)
    refused = ablate("run", study, "--home", "elsewhere", "--limit", 1, ABLATE_STORAGE=url)
    subprocess.run(not_none(re.search(r"mkdir .*", refused.stderr))[0], shell=True, check=True)
    assert ablate("run", study, "--home", "elsewhere", "--limit", 1, ABLATE_STORAGE=url).returncode == 0


def test_the_password_is_nowhere(
    ablate: Ablate,
    start_ablate: StartAblate,
    walk_study: WalkStudy,
    tmp_path: Path,
    url: str,
    postgres: PostgresServer,
) -> None:
    study = walk_study(steps=30, seconds_per_step=0.05, slopes="[1.0, 2.0]", seeds="[1]")
    study.write_text(study.read_text().replace("noise: [0.1, 0.5]\nbase", "fault: [none, error]\nbase")
                     .replace("noise: 0.1}", "fault: none}"))  # fmt: skip
    run = start_ablate("run", study, ABLATE_STORAGE=url)
    wait_for(lambda: running_workers(tmp_path))
    (worker,) = running_workers(tmp_path)
    found = [Path(f"/proc/{worker}/{name}").read_bytes().decode() for name in ("cmdline", "environ")]
    found.append(Path(f"/proc/{run.pid}/cmdline").read_bytes().decode())
    found += run.communicate()
    found += [ablate(command, "walk", ABLATE_STORAGE=url).stdout for command in ("status", "report")]
    found.append(postgres.dump(url))
    files = [
        file for folder in ("runs", "reports") for file in (tmp_path / folder).rglob("*") if file.is_file()
    ]
    found += [file.read_bytes().decode(errors="replace") for file in files]
    assert "walk" in found[-1] or len(files) > 5
    assert not [text for text in found if PASSWORD in text]
    print(f"password in 0 of {len(found)} outputs, files, environments and dumps")


@pytest.mark.parametrize("wrong", ["password", "database"])
def test_a_server_that_does_not_let_us_in_is_named_without_the_password(
    ablate: Ablate, walk_study: WalkStudy, url: str, wrong: str
) -> None:
    bad = url.replace(PASSWORD, f"{PASSWORD}x") if wrong == "password" else url.replace("/db_", "/no_")
    done = ablate("run", walk_study(), ABLATE_STORAGE=bad)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "postgresql+psycopg://walker:***@/" in done.stderr
    assert PASSWORD not in done.stderr


def test_a_lost_session_is_noticed_and_its_locks_are_free(url: str, postgres: PostgresServer) -> None:
    mine = ServerLocks(url, "walk")
    assert mine.acquire("trial-1")
    assert not mine.lost()
    postgres.restart()
    wait_for(mine.lost)
    assert not mine.acquire("trial-2")
    other = ServerLocks(url, "walk")
    assert other.acquire("trial-1")
    mine.renew()
    assert not mine.acquire("trial-1")
    assert mine.acquire("trial-2")
    for locks in (mine, other):
        locks.close()


HOLD_AND_FORK = """
import os, sys, time
from ablate.runner.ownership import ServerLocks
assert ServerLocks(os.environ["HELD"], "walk").acquire("trial-1")
if child := os.fork():
    print(child, flush=True)
time.sleep(60)
"""


@pytest.fixture
def searching(walk_study: WalkStudy, tmp_path: Path, url: str) -> Iterator[Worker]:
    """A worker of a search that has tried nothing yet."""
    study = walk_study(seeds="[1, 2]")
    study.write_text(
        study.read_text().replace("design: full", "design: {kind: search, trials: 2, finalists: 1}")
    )
    prepared = prepare(study, home=tmp_path / "runs", storage=url)
    prepared.place.folder.mkdir(parents=True)
    with contextlib.closing(create_store(prepared.place, prepared.spec, prepared.design)) as store:
        worker = Worker(
            store=store,
            trainer=prepared.trainer,
            stopping=lambda: False,
            emit=lambda event, **fields: None,
            cadence=Cadence(60),
            logbook=Logbook(),
        )
        with contextlib.closing(worker.locks), contextlib.closing(worker.logbook):
            yield worker


def test_a_search_goes_on_after_the_server_restarted(searching: Worker, postgres: PostgresServer) -> None:
    postgres.restart()
    searching.run()
    results = read_results(searching.store.place)
    assert {trial.state for trial in results.trials} == {"COMPLETE"}
    assert len(trials_tried(results)) == 2


@pytest.mark.parametrize(
    "ask", [lambda worker: worker._chose((), None), lambda worker: watch_of(worker.store, 0)]
)
def test_a_search_waits_for_a_server_that_restarts(
    searching: Worker, postgres: PostgresServer, ask: Callable[[Worker], object]
) -> None:
    restart = threading.Thread(target=postgres.restart)
    restart.start()
    asked = 0
    while restart.is_alive():
        ask(searching)
        asked += 1
    assert asked


def test_a_killed_owner_loses_its_key_though_its_child_lives(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HELD", url)
    owner = subprocess.Popen([sys.executable, "-c", HOLD_AND_FORK], stdout=subprocess.PIPE, text=True)
    child = int(not_none(owner.stdout).readline())
    owner.kill()
    owner.wait()
    not_none(owner.stdout).close()
    with contextlib.closing(ServerLocks(url, "walk")) as mine:
        try:
            wait_for(lambda: mine.acquire("trial-1"))
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_stop_is_heard_while_the_server_is_away(
    walk_study: WalkStudy, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(walk_study(), home=tmp_path / "runs", storage=url)
    with contextlib.closing(create_store(prepared.place, prepared.spec, prepared.design)) as store:
        asked = []

        def stopping() -> bool:
            asked.append("stop")
            return len(asked) == 3

        monkeypatch.setattr(store, "stopping", stopping)
        monkeypatch.setattr(store, "_reader", connect(url.replace("host=", "host=/gone")))
        with pytest.raises(Disconnected, match="is the server up"):
            store.queue()
    assert len(asked) == 3


def test_one_trial_is_claimed_once_at_a_time(walk_study: WalkStudy, tmp_path: Path, url: str) -> None:
    prepared = prepare(walk_study(seeds="[1]"), home=tmp_path / "runs", storage=url)
    store = create_store(prepared.place, prepared.spec, prepared.design)
    store.add_trials(prepared.design.cells, run_order(prepared.design, prepared.spec))
    first = store.queue()[0]
    part = next(iter(store.cell(first.cell).parts.values())).hash
    attempts = []

    def claim(reached: int) -> None:
        attempts.append(not_none(store.claim(first.trial_id, (part, first.seed, reached))).attempt)

    claims = [threading.Thread(target=claim, args=(reached,)) for reached in range(8)]
    for thread in claims:
        thread.start()
    for thread in claims:
        thread.join()
    store.engine.dispose()
    assert sorted(attempts) == [1, 2, 3, 4, 5, 6, 7, 8]
