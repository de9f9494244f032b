"""Workers started by something else than us: the same trials, the same results, nothing lost."""

import contextlib
import importlib
import importlib.util
import json
import os
import signal
from pathlib import Path

import pytest
from fixture_types import Ablate, RunHere, StartAblate, WalkStudy
from postgres_server import PASSWORD, PostgresServer
from test_runner_run import metrics, running_workers, trained, wait_for

from ablate.errors import BadInput
from ablate.runner.engines.registry import check_engine
from ablate.runner.process import job_for
from ablate.store.places import place_of
from ablate.store.writing import Store


def test_an_unknown_engine_is_refused_with_the_nearest() -> None:
    with pytest.raises(BadInput, match="'slrum' is not an engine; did you mean 'slurm'"):
        check_engine("slrum", "sqlite:///study.db", None)


@pytest.mark.parametrize("name", ["ray", "slurm"])
def test_several_machines_on_sqlite_are_refused(name: str) -> None:
    with pytest.raises(
        BadInput, match=f"{name} starts workers on several machines, but SQLite works on only one"
    ):
        check_engine(name, "sqlite:///study.db", None)


def test_an_address_without_a_cluster_is_refused() -> None:
    with pytest.raises(BadInput, match="the local engine has no address"):
        check_engine("local", "sqlite:///study.db", "host:6379")


@pytest.fixture(params=[("slurm", "--address", "local"), ("ray",)], ids=["slurm", "ray"])
def engine(request: pytest.FixtureRequest) -> tuple[str, ...]:
    package = {"slurm": "submitit", "ray": "ray"}[request.param[0]]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}")
    return ("--engine", *request.param)


@pytest.mark.slow
def test_a_cluster_gives_what_one_process_gives(
    engine: tuple[str, ...],
    ablate: Ablate,
    run_here: RunHere,
    walk_study: WalkStudy,
    tmp_path: Path,
    postgres: PostgresServer,
) -> None:
    study = walk_study(more=", shared: true")
    url = postgres.new_database()
    done = ablate("run", study, *engine, "--workers", 2, "--json", ABLATE_STORAGE=url)
    assert done.returncode == 0, done.stderr
    assert metrics(json.loads(done.stdout)) == metrics(run_here(study, home="reference"))
    assert "8/8" in done.stderr
    files = [file for file in (tmp_path / "runs").rglob("*") if file.is_file()]
    assert not [file for file in files if PASSWORD.encode() in file.read_bytes()]
    print(f"{engine[1]}: 8/8 trials identical, password in 0 of {len(files)} files")


def test_a_slurm_worker_started_again_tells_only_what_it_did_itself(
    run_here: RunHere, walk_study: WalkStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitit = pytest.importorskip("submitit")
    slurm = importlib.import_module("ablate.runner.engines.slurm")
    study = walk_study(seeds="[1]")
    run_here(study, limit=1)
    place = place_of("walk", tmp_path / "runs")
    with contextlib.closing(Store(place)) as store:
        trials = [queued.number for queued in store.queue()][:2]
        job = job_for(store, study.parent, trials)
    monkeypatch.setenv("ABLATE_STORAGE", place.url)
    engine = slurm.Slurm(submitit.LocalExecutor(tmp_path / "slurm"), job, 1, place.folder / "logs")
    told = []
    for _ in range(2):
        worker = engine.start(0)
        told.append([event["number"] for event in worker.events() if event["event"] == "complete"])
        assert worker.wait() == 0
    assert told == [trials, []]


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["worker", "what the cluster started"])
def test_a_worker_killed_on_a_cluster_is_replaced(
    engine: tuple[str, ...],
    victim: str,
    ablate: Ablate,
    start_ablate: StartAblate,
    run_here: RunHere,
    walk_study: WalkStudy,
    tmp_path: Path,
    postgres: PostgresServer,
) -> None:
    study = walk_study(steps=40, seconds_per_step=0.05, seeds="[1]")
    environment = {"ABLATE_STORAGE": postgres.new_database(), "ABLATE_CHECKPOINT_SECONDS": "0.1"}
    run = start_ablate("run", study, *engine, **environment)
    wait_for(lambda: list(tmp_path.glob("runs/walk/trials/*/step-*.checkpoint")), seconds=60)
    for pid in running_workers(tmp_path):
        os.kill(pid if victim == "worker" else parent(pid), signal.SIGKILL)
    assert run.wait(100) == 0, run.communicate()
    document = json.loads(ablate("status", "walk", "--json", **environment).stdout)
    assert metrics(document) == metrics(run_here(study, home="reference"))
    resumed = [line for line in trained(tmp_path) if not line.endswith("from 0")]
    assert resumed
    print(
        f"{engine[1]}: {victim} killed, {document['complete']}/4 trials identical, one {resumed[0].split(' ', 1)[1]}"
    )


@pytest.mark.slow
def test_a_cluster_stops_as_one_process_does(
    engine: tuple[str, ...],
    ablate: Ablate,
    start_ablate: StartAblate,
    walk_study: WalkStudy,
    tmp_path: Path,
    postgres: PostgresServer,
) -> None:
    study = walk_study(steps=400, seconds_per_step=0.05, seeds="[1]")
    environment = {"ABLATE_STORAGE": postgres.new_database()}
    run = start_ablate("run", study, *engine, **environment)
    wait_for(lambda: list(tmp_path.glob("runs/walk/trials/*/steps.log")), seconds=60)
    run.send_signal(signal.SIGTERM)
    assert run.wait(60) == 143, run.communicate()
    wait_for(lambda: not [pid for pid in running_workers(tmp_path) if Path(f"/proc/{pid}").exists()])
    document = json.loads(ablate("status", "walk", "--json", **environment).stdout)
    assert {trial["state"] for trial in document["trials"]} == {"WAITING"}
    assert list(tmp_path.glob("runs/walk/trials/*/step-*.checkpoint"))
