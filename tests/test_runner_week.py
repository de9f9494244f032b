"""A week of a study in small: two machines, one server, one shared folder, and all that happens to them.

A machine is a host name and a network of its own, with processes of the same kernel: that their numbers could be the same on two
machines is left out, and so is a network file system with its own kind of locks (the server has the locks)."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from chaos import children
from fixture_types import Ablate, Json, WalkStudy
from history import Witness
from postgres_server import PostgresServer, name_of
from warm_cli import cold

from ablate.store.opening import connect
from ablate.store.places import place_of

# Of 25 slopes with and without noise.
CELLS, SEEDS = 50, 100
MISHAPS = 60
MACHINES = ("left", "right")


class Machine:
    """Runs the study with two workers, again and again, until it is done."""

    def __init__(self, name: str, study: Path, environment: dict[str, str]) -> None:
        self._name, self._study, self._environment = name, study, environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start unless it runs; a run that failed starts again."""
        if self.is_running():
            return
        run = cold("run", self._study, "--workers", "2")
        with (self._study.parent / f"{self._name}.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["unshare", "--uts", "--net", "sh", "-c", f'hostname {self._name} && exec "$@"', "sh", *run],
                cwd=self._study.parent,
                env=os.environ | self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def is_done(self) -> bool:
        return self._process is not None and self._process.poll() == 0

    def kill(self, rng: random.Random) -> None:
        """Kill one worker, the supervisor, or all of them."""
        if self._process is None or not self.is_running():
            return
        workers = children(self._process.pid)
        victim = rng.choices(["worker", "supervisor", "machine"], [6, 2, 1])[0]
        pids = rng.sample(workers, k=min(1, len(workers)))
        if victim != "worker":
            pids = [*(workers if victim == "machine" else []), self._process.pid]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """Ask to stop, and wait."""
        if self._process is not None and self.is_running():
            self._process.terminate()
            self._process.wait(120)

    def unplug(self) -> None:
        """Kill everything."""
        if self._process is not None:
            for pid in (*children(self._process.pid), self._process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 MB at runs/."""
    folder = tmp_path / "runs"
    folder.mkdir()
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("machines and disks need root and unshare")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", str(folder)])
    if made.returncode or subprocess.run(["unshare", "--uts", "--net", "true"]).returncode:
        pytest.skip("no file systems or name spaces of one's own here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte free; return the file that takes the room."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"0" * (1 << 20))
    return ballast


def change(url: str, *statements: str) -> None:
    """Run SQL on a database, all or nothing."""
    engine = connect(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


# The tables as they were; the history is kept aside until it can be taken back.
AS_VERSION_1 = (
    "CREATE SCHEMA aside",
    "ALTER TABLE ablate_history SET SCHEMA aside",
    "UPDATE ablate_studies SET schema_version = 1",
)
HISTORY_BACK = ("DROP TABLE ablate_history", "ALTER TABLE aside.ablate_history SET SCHEMA public")


def size_of(url: str) -> int:
    """Return the bytes of a database."""
    engine = connect(url)
    with engine.connect() as connection:
        found = connection.execute(sa.text(f"SELECT pg_database_size('{name_of(url)}')")).scalar_one()
    engine.dispose()
    return int(found)


def metrics(document: Json) -> dict[tuple[str, int], Json]:
    return {(trial["cell"], trial["seed"]): trial["metrics"] for trial in document["trials"]}


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_5000_trials_on_two_machines(
    ablate: Ablate, walk_study: WalkStudy, postgres: PostgresServer, small_disk: Path
) -> None:
    slopes = json.dumps([float(slope) for slope in range(1, CELLS // 2 + 1)])
    study = walk_study(slopes=slopes, seeds=json.dumps([*range(1, SEEDS + 1)]))
    url = postgres.new_database()
    witness = Witness(place_of("walk", small_disk, url))
    environment = {"ABLATE_STORAGE": url, "ABLATE_CHECKPOINT_SECONDS": "0"}
    machines, rng = [Machine(name, study, environment) for name in MACHINES], random.Random(1)
    try:
        for mishap in range(MISHAPS):
            for machine in machines:
                machine.start()
            time.sleep(2 + rng.expovariate(1 / 2))
            witness.look()
            if mishap % 20 == 5:
                postgres.restart()
            elif mishap % 20 == 15:
                ballast = fill(small_disk)
                time.sleep(3)
                ballast.unlink()
            elif mishap == MISHAPS // 2:
                for machine in machines:
                    machine.stop()
                change(url, *AS_VERSION_1)
                assert "ablate upgrade" in ablate("run", study, **environment).stderr
                assert ablate("upgrade", "walk", **environment).returncode == 0
                change(url, *HISTORY_BACK)
            else:
                rng.choice(machines).kill(rng)
        assert not all(machine.is_done() for machine in machines), "done before its time"
        while not all(machine.is_done() for machine in machines):
            for machine in machines:
                if not machine.is_done():
                    machine.start()
            time.sleep(0.5)
    finally:
        for machine in machines:
            machine.unplug()
    assert witness.violations() == []

    document = json.loads(ablate("status", "walk", "--json", **environment).stdout)
    undisturbed = subprocess.run(
        cold("run", study, "--workers", "2", "--home", "undisturbed", "--json"),
        cwd=study.parent,
        stdout=subprocess.PIPE,
        check=True,
    )
    assert document["planned"] == document["complete"] == len(document["trials"]) == CELLS * SEEDS
    assert metrics(document) == metrics(json.loads(undisturbed.stdout))
    files = [file for file in small_disk.rglob("*") if file.is_file()]
    home, database = sum(file.stat().st_size for file in files), size_of(url)
    print(
        f"{len(document['trials'])} trials, {MISHAPS} mishaps: {len(files)} files of {home / 1e6:.1f} MB, "
        f"a database of {database / 1e6:.1f} MB; {len(witness.points)} points seen before"
    )
    assert not list(small_disk.rglob("*.checkpoint"))
    assert len(files) < 6 * CELLS * SEEDS
    assert home < 10_000 * CELLS * SEEDS
    assert database < 10_000 * CELLS * SEEDS
