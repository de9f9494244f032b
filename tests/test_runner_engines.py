"""Workers started by something else than us: the same trials, the same results, nothing lost."""

import contextlib
import importlib
import importlib.util
import io
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fixture_types import Ablate, Json, RunHere, StartAblate, WalkStudy
from postgres_server import PASSWORD, PostgresServer
from programs import write_program
from rich.console import Console
from test_runner_run import metrics, running_workers, trained, wait_for

from ablate.errors import BadInput, Unavailable
from ablate.runner.engines.checking import check_engine
from ablate.runner.process import job_for
from ablate.runner.run import Options, run_study
from ablate.runner.status import status_document
from ablate.store.places import place_of
from ablate.store.reading import read_results
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


@pytest.mark.slow
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
    wait_for(lambda: list(tmp_path.glob("runs/walk/trials/*/step-*.checkpoint")))
    for pid in running_workers(tmp_path):
        os.kill(pid if victim == "worker" else parent(pid), signal.SIGKILL)
    assert run.wait() == 0, run.communicate()
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
    wait_for(lambda: list(tmp_path.glob("runs/walk/trials/*/steps.log")))
    run.send_signal(signal.SIGTERM)
    assert run.wait() == 143, run.communicate()
    wait_for(lambda: not [pid for pid in running_workers(tmp_path) if Path(f"/proc/{pid}").exists()])
    document = json.loads(ablate("status", "walk", "--json", **environment).stdout)
    assert {trial["state"] for trial in document["trials"]} == {"WAITING"}
    assert list(tmp_path.glob("runs/walk/trials/*/step-*.checkpoint"))


@pytest.mark.parametrize(
    ("exported", "passed_on"),
    [
        ("NONE", "ABLATE_STORAGE"),
        ("NIL", "ABLATE_STORAGE"),
        ("ALL", "ALL"),
        ("ALL,SEED=1", "ALL,SEED=1"),
        ("HOME,PATH", "HOME,PATH,ABLATE_STORAGE"),
    ],
)
def test_what_sbatch_passes_on_is_as_little_as_asked_and_the_database(exported: str, passed_on: str) -> None:
    pytest.importorskip("submitit")
    slurm = importlib.import_module("ablate.runner.engines.slurm")
    assert slurm.with_storage(exported) == passed_on


@pytest.mark.parametrize("exported", [pytest.param("ALL", marks=pytest.mark.slow), "NONE"])
def test_jobs_of_a_slurm_that_exports_little_have_the_database(
    exported: str,
    ablate: Ablate,
    run_here: RunHere,
    walk_study: WalkStudy,
    tmp_path: Path,
    postgres: PostgresServer,
) -> None:
    pytest.importorskip("submitit")
    study = walk_study(seeds="[1]")
    (tmp_path / "jobs").mkdir()
    environment = {
        "ABLATE_STORAGE": postgres.new_database(),
        "PATH": f"{Path(__file__).parent / 'slurm'}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "SBATCH_EXPORT": exported,
        "SLURM_STAND_IN": str(tmp_path / "jobs"),
    }
    done = ablate("run", study, "--engine", "slurm", "--json", **environment)
    assert done.returncode == 0, done.stderr
    assert metrics(json.loads(done.stdout)) == metrics(run_here(study, home="reference"))


class StandIn:
    """A Slurm of this machine alone, and a run on it; see tests/slurm."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.jobs, self._url = folder, folder / "jobs", url
        self.jobs.mkdir()
        self.said = io.StringIO()

    def run(self, study: Path, meanwhile: Callable[[], object] | None = None) -> Json:
        """Run one trial of a study; return its status, and the exit code as `code`.

        `meanwhile` is called when its first job trains."""
        acting = threading.Thread(target=self._when_training, args=(meanwhile,), daemon=True)
        if meanwhile:
            acting.start()
        options = Options(home=self.folder / "runs", storage=self._url, engine="slurm", workers=1, limit=1)
        try:
            code, place = run_study(study, options, Console(file=self.said, width=300))
        finally:
            os.environ.pop("ABLATE_STORAGE", None)
        if meanwhile:
            acting.join(10)
        return status_document(read_results(place)) | {"code": code}

    def _when_training(self, act: Callable[[], object]) -> None:
        wait_for(lambda: list(self.folder.glob("runs/walk/trials/*/step-*.checkpoint")))
        act()

    @property
    def submitted(self) -> int:
        return len(list(self.jobs.glob("*.script")))

    def pids(self, job: int) -> list[int]:
        """The shell of a job, submitit's process, and the worker with what it started."""
        return tree(json.loads((self.jobs / f"{job}.job").read_text())["pid"])

    def says(self, job: int, state: str) -> None:
        """Let squeue show this state."""
        (self.jobs / f"{job}.state").write_text(state)

    def dies(self, job: int, state: str) -> None:
        """End every process of a job at once, as the cluster does."""
        self.says(job, state)
        for pid in self.pids(job):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def tree(pid: int) -> list[int]:
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [
        pid,
        *(inner for file in files for child in file.read_text().split() for inner in tree(int(child))),
    ]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: PostgresServer) -> StandIn:
    pytest.importorskip("submitit")
    monkeypatch.setattr(importlib.import_module("ablate.runner.engines.slurm_queue"), "ASK_S", 0.2)
    commands = Path(__file__).parent / "slurm"
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.setenv("SLURM_STAND_IN", str(tmp_path / "jobs"))
    monkeypatch.setenv("ABLATE_CHECKPOINT_SECONDS", "0")
    monkeypatch.setenv("ABLATE_STORAGE", "")
    return StandIn(tmp_path, postgres.new_database())


def stopped_by(number: signal.Signals, *pids: int) -> None:
    for pid in pids:
        os.kill(pid, number)


def steps_trained(folder: Path) -> list[str]:
    (log,) = folder.glob("runs/walk/trials/*/steps.log")
    return [line.split()[1] for line in log.read_text().splitlines()]


ENDS = ["NODE_FAIL"]
SLOW_ENDS = ["forgotten", "PREEMPTED", "TIMEOUT", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE", "CANCELLED"]


@pytest.mark.parametrize("state", [*ENDS, *(pytest.param(end, marks=pytest.mark.slow) for end in SLOW_ENDS)])
def test_a_job_that_slurm_ended_is_replaced(
    state: str, slurm: StandIn, walk_study: WalkStudy, run_here: RunHere
) -> None:
    study = walk_study(steps=40, seconds_per_step=0.05)
    ended = slurm.run(study, lambda: slurm.dies(1000, state))
    assert (ended["code"], slurm.submitted) == (0, 2)
    named = "no longer in the queue" if state == "forgotten" else state
    assert f"worker 0 died (Slurm's job 1000: {named}); starting it again" in slurm.said.getvalue()
    assert metrics(ended) == metrics(run_here(study, home="reference", limit=1))


def test_a_job_has_ended_when_two_answers_say_so(slurm: StandIn) -> None:
    queue = importlib.import_module("ablate.runner.engines.slurm_queue")
    (slurm.jobs / "7.job").write_text('{"pid": 0}')
    watched = queue.Watched(queue.Queue(), "7")
    ended = []
    for state in (
        "PREEMPTED",
        "REQUEUED",
        "PENDING",
        "NODE_FAIL",
        "COMPLETING",
        "RUNNING",
        "FAILED",
        "FAILED",
    ):
        slurm.says(7, state)
        ended.append(watched.has_ended(cancelled=False))
        time.sleep(0.25)
    assert ended == [False] * 7 + [True]


@pytest.mark.parametrize(
    "state", ["SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "CONFIGURING", "STOPPED", "STAGE_OUT"]
)
def test_states_that_end_no_job(state: str, slurm: StandIn) -> None:
    queue = importlib.import_module("ablate.runner.engines.slurm_queue")
    (slurm.jobs / "7.job").write_text('{"pid": 0}')
    slurm.says(7, state)
    watched = queue.Watched(queue.Queue(), "7")
    for _ in range(3):
        assert not watched.has_ended(cancelled=True)
        time.sleep(0.25)
    assert watched.state == state


@pytest.mark.slow
def test_a_controller_that_does_not_answer_ends_no_job(slurm: StandIn, walk_study: WalkStudy) -> None:
    (slurm.jobs / "silent").touch()
    assert slurm.run(walk_study(steps=40, seconds_per_step=0.05))["code"] == 0
    assert slurm.submitted == 1


@pytest.mark.slow
def test_a_time_limit_on_a_node_without_scontrol_takes_another_job(
    slurm: StandIn, walk_study: WalkStudy, tmp_path: Path
) -> None:
    study = walk_study(steps=40, seconds_per_step=0.05)
    ended = slurm.run(study, lambda: stopped_by(signal.SIGUSR2, slurm.pids(1000)[1]))
    assert (ended["code"], slurm.submitted) == (0, 2)
    assert "its node has no scontrol to queue the job again" in slurm.said.getvalue()
    assert steps_trained(tmp_path) == [str(step) for step in range(1, 41)]


def test_a_time_limit_queues_the_job_again(
    slurm: StandIn, walk_study: WalkStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(__file__).parent / 'slurm/with_scontrol'}:{os.environ['PATH']}")
    study = walk_study(steps=40, seconds_per_step=0.05)
    ended = slurm.run(study, lambda: stopped_by(signal.SIGUSR2, slurm.pids(1000)[1]))
    assert (ended["code"], slurm.submitted) == (0, 1)
    assert (slurm.jobs / "1000.requeued").exists()
    assert steps_trained(tmp_path) == [str(step) for step in range(1, 41)]


@pytest.mark.parametrize(
    "to", ["the process that Slurm knows", pytest.param("every process of the job", marks=pytest.mark.slow)]
)
def test_sigterm_to_a_job_loses_no_step(
    to: str, slurm: StandIn, walk_study: WalkStudy, tmp_path: Path
) -> None:
    def terminate() -> None:
        pids = slurm.pids(1000)[1:]
        stopped_by(signal.SIGTERM, *(pids if to.startswith("every") else pids[:1]))

    study = walk_study(steps=40, seconds_per_step=0.05)
    ended = slurm.run(study, terminate)
    assert (ended["code"], slurm.submitted) == (0, 2)
    assert steps_trained(tmp_path) == [str(step) for step in range(1, 41)]


@pytest.mark.parametrize(
    "when", ["at the start", pytest.param("when a worker is replaced", marks=pytest.mark.slow)]
)
def test_what_sbatch_refuses_is_said_in_its_words(when: str, slurm: StandIn, walk_study: WalkStudy) -> None:
    refuse = slurm.jobs / "refuse"
    study = walk_study(steps=40, seconds_per_step=0.05)
    if when == "at the start":
        refuse.write_text("Invalid partition specified: gpuu")
        with pytest.raises(Unavailable, match=r"--engine: Slurm rejected the job: .*Invalid partition"):
            slurm.run(study)
    else:

        def fail() -> None:
            refuse.write_text("Node down")
            slurm.dies(1000, "NODE_FAIL")

        ended = slurm.run(study, fail)
        assert ended["code"] == 1
        assert "--engine: Slurm rejected the job: sbatch: error" in slurm.said.getvalue()


def test_a_run_that_is_stopped_cancels_its_jobs_after_they_saved(
    slurm: StandIn, walk_study: WalkStudy, tmp_path: Path
) -> None:
    study = walk_study(steps=400, seconds_per_step=0.05)
    ended = slurm.run(study, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert (ended["code"], slurm.submitted) == (143, 1)
    assert {trial["state"] for trial in ended["trials"]} == {"WAITING"}
    assert list(tmp_path.glob("runs/walk/trials/*/step-*.checkpoint"))


def test_jobs_that_never_begin_to_work_end_the_run_with_what_their_node_said(
    slurm: StandIn, walk_study: WalkStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    srun = tmp_path / "bin/srun"
    # Of a node that has no such Python; the file for errors is its fifth word.
    file = 'file=$(echo "$5" | sed "s/%j/$SLURM_JOB_ID/g; s/%t/0/")'
    # submitit makes the job's folder once it knows its number.
    wait = 'until [ -d "${file%/*}" ]; do sleep 0.01; done'
    srun.write_text(f'#!/bin/sh\n{file}\n{wait}\necho "execve(): python: No such file" >> "$file"\nexit 2\n')
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    ended = slurm.run(walk_study())
    assert (ended["code"], slurm.submitted) == (1, 4)
    assert (
        "worker 0 died 4 times before it took a trial; execve(): python: No such file"
        in slurm.said.getvalue()
    )


def test_a_machine_with_srun_and_no_sbatch_cannot_submit(
    slurm: StandIn, walk_study: WalkStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/srun").symlink_to(Path(__file__).parent / "slurm/srun")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    with pytest.raises(Unavailable, match=r"--engine: Slurm rejected the job: .*sbatch"):
        slurm.run(walk_study())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gpus", "chosen", "asked"),
    [
        (2, None, True),
        (1, None, False),
        (2, "SBATCH_GRES", False),
    ],
)
def test_a_program_that_needs_several_gpus_asks_sbatch_for_them(
    gpus: int,
    chosen: str | None,
    asked: bool,
    slurm: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    if chosen:
        monkeypatch.setenv(chosen, "gpu:a100:2")
    study = write_program(tmp_path, 'print(json.dumps({"dev/accuracy": 1}))', settings={"gpus": gpus})
    assert slurm.run(study)["code"] == 0
    assert ("#SBATCH --gpus-per-node=2" in (slurm.jobs / "1000.script").read_text()) == asked
