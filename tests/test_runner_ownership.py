import multiprocessing
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from fixture_types import Json, WalkStudy, not_none
from test_runner_run import trained

from ablate.errors import BadInput, StoreError
from ablate.runner import spot_notice
from ablate.runner.ownership import FileLocks, share_home
from ablate.runner.prepare import prepare
from ablate.runner.process import job_for, work
from ablate.runner.run import run_order
from ablate.store.creating import create_store
from ablate.store.writing import Store

HOLD = """
import sys, time
from dataclasses import replace
from pathlib import Path
from ablate.runner.ownership import FileLocks
assert FileLocks(Path(sys.argv[1])).acquire("trial-1")
print("held", flush=True)
time.sleep(60)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert not_none(process.stdout).readline() == "held\n"
    return process


def test_a_key_is_given_once(tmp_path: Path) -> None:
    locks = FileLocks(tmp_path)
    assert locks.acquire("trial-1")
    assert not locks.acquire("trial-1")
    locks.release("trial-1")
    assert locks.acquire("trial-1")


def test_a_living_owner_keeps_its_key_and_a_killed_one_loses_it(tmp_path: Path) -> None:
    locks = FileLocks(tmp_path)
    process = holder(tmp_path)
    assert not locks.acquire("trial-1")
    process.kill()
    process.communicate()
    assert locks.acquire("trial-1")


def test_a_frozen_owner_keeps_its_key(tmp_path: Path) -> None:
    process = holder(tmp_path)
    process.send_signal(19)  # SIGSTOP
    time.sleep(0.2)
    assert not FileLocks(tmp_path).acquire("trial-1")
    process.kill()
    process.communicate()


def test_a_lock_whose_file_was_removed_is_lost(tmp_path: Path) -> None:
    locks = FileLocks(tmp_path / "locks")
    locks.acquire("trial-1")
    assert not locks.lost()
    (tmp_path / "locks" / "trial-1.lock").unlink()
    assert locks.lost()
    locks.renew()
    assert locks.acquire("trial-1")


def test_a_lock_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    locks = FileLocks(tmp_path)
    (tmp_path / "trial-1.lock").mkdir()
    with pytest.raises(
        StoreError,
        match=r"trial-1.lock: Is a directory; whoever runs the study must",
    ):
        locks.acquire("trial-1")


@pytest.fixture
def store(walk_study: WalkStudy, tmp_path: Path) -> Iterator[Store]:
    prepared = prepare(walk_study(steps=1, seeds=str(list(range(13)))), home=tmp_path / "runs")
    prepared.place.folder.mkdir(parents=True)
    store = create_store(prepared.place, prepared.spec, prepared.design)
    store.add_trials(prepared.design.cells, run_order(prepared.design, prepared.spec))
    yield store
    store.close()


def test_the_first_folder_is_the_home_and_any_other_is_refused(store: Store, tmp_path: Path) -> None:
    share_home(store)
    share_home(store)
    store.place = replace(store.place, folder=tmp_path / "elsewhere")
    with pytest.raises(BadInput, match="elsewhere is not where the files of 'walk' are"):
        share_home(store)
    assert not (tmp_path / "elsewhere").exists()


def _work(job: Json, barrier: Barrier) -> None:
    barrier.wait()
    work(job, lambda: False, lambda event, **fields: None)


def work_together(store: Store, processes: int) -> None:
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["ablate.runner.process", "optuna", "numpy"])
    barrier = server.Barrier(processes)
    job = job_for(store, store.study_folder)
    workers = [server.Process(target=_work, args=(job, barrier)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0


def assert_each_trained_once(store: Store, tmp_path: Path) -> None:
    assert store.queue() == []
    starts = Counter(log.parent.name for log in tmp_path.glob("runs/walk/trials/*/trained.log"))
    assert len(trained(tmp_path)) == len(starts)
    assert len({line.split()[0] for line in trained(tmp_path)}) > 1, "one process did it all"


def test_eight_processes_claim_no_trial_twice(store: Store, tmp_path: Path) -> None:
    work_together(store, 8)
    assert_each_trained_once(store, tmp_path)


@pytest.mark.slow
def test_eight_processes_claim_none_of_1000_twice(
    store: Store, tmp_path: Path, walk_study: WalkStudy
) -> None:
    prepared = prepare(walk_study(steps=1, seeds=str(list(range(250)))), home=tmp_path / "runs")
    store.add_trials(prepared.design.cells, run_order(prepared.design, prepared.spec))
    assert len(store.queue()) == 1000
    began = time.monotonic()
    work_together(store, 8)
    assert_each_trained_once(store, tmp_path)
    print(f"8 processes, 1000 trials: 0 claimed twice, {1000 / (time.monotonic() - began):.0f} trials/s")


# A spot instance's notice


@pytest.mark.parametrize(
    ("file", "text", "is_one"),
    [
        ("devices/virtual/dmi/id/sys_vendor", "Amazon EC2\n", True),
        ("hypervisor/uuid", "ec2e1916-9099-7caf-fd21-012345abcdef\n", True),
        ("devices/virtual/dmi/id/sys_vendor", "QEMU\n", False),
        ("other", "", False),
    ],
)
def test_firmware_says_whether_this_is_ec2(tmp_path: Path, file: str, text: str, is_one: bool) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    assert spot_notice.on_ec2(tmp_path) is is_one


class Metadata(BaseHTTPRequestHandler):
    """The metadata service of an instance, which wants a token."""

    notice = False

    def do_PUT(self) -> None:
        self._answer(200 if self.path == "/latest/api/token" else 404, b"token")

    def do_GET(self) -> None:
        asked = self.path == "/latest/meta-data/spot/instance-action"
        allowed = self.headers["X-aws-ec2-metadata-token"] == "token"
        self._answer(200 if asked and allowed and self.notice else 404, b'{"action": "terminate"}')

    def _answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("notice", [True, False])
def test_a_notice_is_a_page_that_is_there(monkeypatch: pytest.MonkeyPatch, notice: bool) -> None:
    monkeypatch.setattr(Metadata, "notice", notice)
    with ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever).start()
        found = spot_notice.has_notice(f"http://127.0.0.1:{server.server_port}/latest")
        server.shutdown()
    assert found is notice


def test_a_service_that_does_not_answer_has_no_notice() -> None:
    assert not spot_notice.has_notice("http://127.0.0.1:9/latest")


def test_lock_files_do_not_pile_up(tmp_path: Path) -> None:
    locks = FileLocks(tmp_path)
    for number in range(3):
        assert locks.acquire(f"trial-{number}")
    locks.release("trial-0")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["trial-1.lock", "trial-2.lock"]
    locks.close()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_was_lost_removes_no_file_of_its_new_owner(tmp_path: Path) -> None:
    locks = FileLocks(tmp_path)
    locks.acquire("trial-1")
    (tmp_path / "trial-1.lock").unlink()
    process = holder(tmp_path)
    locks.release("trial-1")
    assert not locks.acquire("trial-1")
    process.kill()
    process.communicate()


COUNT = """
import sys
from pathlib import Path
from ablate.runner.ownership import FileLocks
locks, inside = FileLocks(Path(sys.argv[1])), Path(sys.argv[1], "inside")
for _ in range(300):
    while not locks.acquire("trial-1"):
        continue
    inside.touch(exist_ok=False)
    inside.unlink()
    locks.release("trial-1")
"""


def test_processes_that_remove_each_other_s_lock_files_never_own_at_once(tmp_path: Path) -> None:
    racing = [subprocess.Popen([sys.executable, "-c", COUNT, str(tmp_path)]) for _ in range(4)]
    assert [process.wait() for process in racing] == [0] * 4
