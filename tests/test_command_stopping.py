"""A program is stopped as a trial is, goes on where it was, and leaves no process behind, whoever is killed."""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from chaos import Chaos, children
from fixture_types import Ablate, Json, RunHere, StartAblate
from history import Witness
from programs import workdirs, write_program
from test_runner_run import is_alive, wait_for

from ablate.command import guard
from ablate.runner import logwriter, signals
from ablate.store.places import place_of

# Saves its state after each step, and takes a random walk that another order of steps would change.
WALKS = """
import random
file = workdir / "state.json"
state = json.loads(file.read_text()) if file.exists() else {"step": 0, "x": 0.0, "rng": None}
rng = random.Random(os.environ["ABLATE_SEED"])
if state["rng"]: rng.setstate((state["rng"][0], tuple(state["rng"][1]), state["rng"][2]))
with (workdir / "attempts").open("a") as log:
    log.write(os.environ["ABLATE_ATTEMPT"] + " " + str(state["step"]) + "\\n")
while state["step"] < STEPS:
    time.sleep(PAUSE)
    state = {"step": state["step"] + 1, "x": state["x"] + rng.gauss(lr, 1), "rng": rng.getstate()}
    file.with_suffix(".new").write_text(json.dumps(state))
    file.with_suffix(".new").rename(file)
    print(json.dumps({"step": state["step"], "dev/accuracy": state["x"]}))
print(json.dumps({"dev/accuracy": state["x"]}))
"""


def walks(steps: int, pause: float, before: str = "") -> str:
    return before + WALKS.replace("STEPS", str(steps)).replace("PAUSE", str(pause))


def begun(folder: Path) -> bool:
    return any(folder.glob("runs/program/trials/*/state.json"))


def metrics(document: Json) -> dict[tuple[str, int], Json]:
    return {(trial["cell"], trial["seed"]): trial["metrics"] for trial in document["trials"]}


@pytest.mark.parametrize(
    "on_sigterm",
    [
        "",
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
    ],
    ids=["dies", "exits with 0", "ignores it"],
)
def test_a_stopped_program_waits_and_goes_on_to_the_same_bits(
    run_here: RunHere, start_ablate: StartAblate, tmp_path: Path, on_sigterm: str
) -> None:
    settings = {"grace_seconds": 0.5}
    study = write_program(tmp_path, walks(60, 0.03, on_sigterm), settings=settings)
    supervisor = start_ablate("run", study)
    wait_for(lambda: begun(tmp_path))
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait() == 143
    stopped = run_here(study, limit=0)
    assert [trial["state"] for trial in stopped["trials"]] == ["WAITING"] * 2
    assert stopped["trials"][0]["error"] is None
    done = run_here(study)
    # 60 steps of 0.03 s, in two attempts: the time of the first one counts.
    assert all(trial["seconds"] > 60 * 0.03 for trial in done["trials"])
    (log,) = [
        log for log in tmp_path.glob("runs/program/trials/*/attempts") if log.read_text().count("\n") == 2
    ]
    (first, step), (second, later) = map(str.split, log.read_text().splitlines())
    assert (first, step, second) == ("1", "0", "2")
    assert int(later) > 0
    write_program(tmp_path, walks(60, 0), settings=settings)
    assert metrics(done) == metrics(run_here(study, home="reference"))


def test_a_program_that_dies_with_its_machine_has_not_failed(
    run_here: RunHere, start_ablate: StartAblate, tmp_path: Path
) -> None:
    """A machine that shuts down signals all of its processes."""
    study = write_program(tmp_path, walks(60, 0.03, '(workdir / "pid").write_text(str(os.getpid()))\n'))
    supervisor = start_ablate("run", study, "--limit", "1")
    wait_for(lambda: begun(tmp_path))
    program = int((workdirs(tmp_path)[0] / "pid").read_text())
    for process in (*children(supervisor.pid), program, supervisor.pid):
        os.kill(process, signal.SIGTERM)
    assert supervisor.wait() == 143
    waiting, _ = run_here(study, limit=0)["trials"]
    assert (waiting["state"], waiting["attempts"], waiting["error"]) == ("WAITING", 1, None)
    done, _ = run_here(study, limit=1)["trials"]
    assert (done["state"], done["attempts"]) == ("COMPLETE", 2)


def test_signals_of_a_batch_system_to_every_process_leave_a_program_its_grace(
    start_ablate: StartAblate, tmp_path: Path
) -> None:
    script = """
def save(*_):
    time.sleep(0.5)
    (workdir / "saved").touch()
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
(workdir / "guard").write_text(str(os.getppid()))
(workdir / "state.json").touch()
while True: time.sleep(0.01)
"""
    supervisor = start_ablate("run", write_program(tmp_path, script), "--limit", "1")
    wait_for(lambda: begun(tmp_path))
    (folder,) = workdirs(tmp_path)
    for number in signals.STOPPING:
        os.kill(int((folder / "guard").read_text()), number)
    supervisor.send_signal(signal.SIGUSR2)
    assert supervisor.wait() == 128 + signal.SIGUSR2
    assert (folder / "saved").exists()


def test_scripts_that_import_nothing_of_the_package_know_the_same_signals() -> None:
    assert set(guard.STOPPING) == set(logwriter.STOPPING) == set(signals.STOPPING)


def test_a_program_that_ends_while_it_is_asked_to_stop_is_not_run_again(
    run_here: RunHere, start_ablate: StartAblate, tmp_path: Path
) -> None:
    """It prints a point and its result, and ends before its worker, which was asked to stop meanwhile, reads them."""
    script = (
        '(workdir / "guard").write_text(str(os.getppid()))\n'
        '(workdir / "state.json").touch()\n'
        'while not (workdir / "end").exists(): time.sleep(0.01)\n'
        'print(json.dumps({"step": 1, "dev/accuracy": 0.5}))'
    )
    study = write_program(tmp_path, script)
    supervisor = start_ablate("run", study, "--limit", "1")
    wait_for(lambda: begun(tmp_path))
    (worker,) = children(supervisor.pid)
    os.kill(worker, signal.SIGSTOP)
    (workdirs(tmp_path)[0] / "end").touch()
    pid = int((workdirs(tmp_path)[0] / "guard").read_text())
    wait_for(lambda: not is_alive(pid))
    supervisor.send_signal(signal.SIGTERM)
    os.kill(worker, signal.SIGTERM)
    os.kill(worker, signal.SIGCONT)
    assert supervisor.wait() == 143
    done, _ = run_here(study, limit=0)["trials"]
    assert (done["state"], done["attempts"], done["metrics"]) == ("COMPLETE", 1, {"dev/accuracy": 0.5})


def test_sigterm_reaches_the_whole_group_and_nobody_else_before_the_grace_is_over(
    start_ablate: StartAblate, tmp_path: Path
) -> None:
    """The program saves for a second after SIGTERM, and is let."""
    script = '''
def save(*_):
    time.sleep(1)
    (workdir / "saved").touch()
    sys.exit(1)
signal.signal(signal.SIGTERM, save)
child = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: pathlib.Path(sys.argv[1]).touch())
time.sleep(99)
"""
subprocess.Popen([sys.executable, "-c", child, str(workdir / "child_heard")])
time.sleep(1)
(workdir / "state.json").touch()
time.sleep(99)
'''
    supervisor = start_ablate("run", write_program(tmp_path, script))
    wait_for(lambda: begun(tmp_path))
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait() == 143
    assert {"saved", "child_heard"} <= {file.name for file in workdirs(tmp_path)[0].iterdir()}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(5))
def test_40_kills_at_random_instants_change_no_bit_of_a_script_that_saves(
    run_here: RunHere, tmp_path: Path, seed: int
) -> None:
    study = write_program(tmp_path, walks(1200, 0.05))
    # Three deaths in the same tenth of a second after a start look like a fault of the program.
    chaos = Chaos(study, workers=2, kills=40, seed=seed, mean_wait_s=1.0)
    chaos.run()
    assert chaos.killed >= 40, "done before its time"
    done = run_here(study)
    write_program(tmp_path, walks(1200, 0))
    assert metrics(done) == metrics(run_here(study, home="reference"))


# Children that stay, that lead a session, that nobody waits for, and that ignore SIGTERM, each with a note of its number.
FORKS = """
note = 'echo $$ >> "$NOTES"; exec sleep 600'
os.environ["NOTES"] = str(workdir.parent / "pids")
subprocess.Popen(["sh", "-c", note])
subprocess.Popen(["sh", "-c", note], start_new_session=True)
subprocess.run(["sh", "-c", '(setsid sh -c "$0" &)', note])
subprocess.Popen(["sh", "-c", 'trap "" TERM; ' + note])
with open(os.environ["NOTES"], "a") as file: file.write(f"{os.getpid()}\\n")
"""
PROCESSES = 5


class Killed:
    """A study whose program forks; its worker, its supervisor or both are killed again and again."""

    def __init__(self, start_ablate: StartAblate, folder: Path) -> None:
        self.folder, self._start = folder, start_ablate
        self._study = write_program(
            folder, walks(10**9, 0.02, FORKS), settings={"grace_seconds": 1}, lr=[0.1, 0.2]
        )
        self._notes = folder / "runs/program/trials/pids"
        self.witness = Witness(place_of("program", folder / "runs"))
        self.supervisor: subprocess.Popen[str] | None = None

    def round(self, victim: str) -> list[int]:
        """Wait for training, kill, and return the processes of the program."""
        before = len(self._pids())
        supervisor = self.supervisor or self._start(
            "run", self._study, "--limit", "1", ABLATE_CHECKPOINT_SECONDS="0.1"
        )
        wait_for(lambda: len(self._pids()) >= before + PROCESSES)
        steps = self._steps()
        wait_for(lambda: self._steps() > steps + 10)
        worker = children(supervisor.pid)[0]
        pids = self._pids()[before:]
        assert all(map(is_alive, pids))
        victims = {"worker": [worker], "supervisor": [supervisor.pid], "both": [worker, supervisor.pid]}
        for pid in victims[victim]:
            os.kill(pid, signal.SIGKILL)
        self.witness.look()
        if victim != "worker":
            supervisor.wait()
        self.supervisor = supervisor if victim == "worker" else None
        return pids

    def _pids(self) -> list[int]:
        return [int(line) for line in self._notes.read_text().split()] if self._notes.exists() else []

    def _steps(self) -> int:
        states = [
            json.loads(file.read_text())["step"]
            for file in self.folder.glob("runs/program/trials/*/state.json")
        ]
        return max(states, default=0)


def all_gone(pids: list[int]) -> bool:
    return not any(map(is_alive, pids))


def assert_no_orphans(start_ablate: StartAblate, folder: Path, victims: list[str]) -> None:
    killed = Killed(start_ablate, folder)
    for victim in victims:
        wait_for(partial(all_gone, killed.round(victim)))
    assert killed.witness.points
    assert killed.witness.violations() == []


def test_no_process_of_a_program_outlives_worker_or_supervisor(
    start_ablate: StartAblate, tmp_path: Path
) -> None:
    assert_no_orphans(start_ablate, tmp_path, ["worker", "supervisor", "both"])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_50_kills_leave_no_orphan(start_ablate: StartAblate, tmp_path: Path) -> None:
    assert_no_orphans(start_ablate, tmp_path, (["worker", "supervisor", "both"] * 17)[:50])


def test_a_program_that_hangs_after_a_point_is_killed_and_fails(ablate: Ablate, tmp_path: Path) -> None:
    script = 'print(json.dumps({"step": 1, "dev/loss": 1}))\ntime.sleep(600)'
    study = write_program(tmp_path, script, more="hang_minutes: 0.02\n")
    done = ablate("run", study, "--limit", "1", "--json")
    assert done.returncode == 1
    (failed,) = [trial for trial in json.loads(done.stdout)["trials"] if trial["state"] == "FAIL"]
    assert "its process died 3 times without progress, the last time after step 1" in failed["error"]


TORCHRUN = """
import torch.distributed as group
group.init_process_group("gloo")
seen = [None] * group.get_world_size()
group.all_gather_object(seen, os.environ["CUDA_VISIBLE_DEVICES"])
if group.get_rank() == 0: print(json.dumps({"dev/accuracy": len(seen)}))
group.destroy_process_group()
"""


@pytest.mark.slow
def test_torchrun_trains_one_trial_in_several_processes(ablate: Ablate, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "{gpus}"]
    study = write_program(tmp_path, TORCHRUN, command=[*torchrun, "train.py", "{lr}"], settings={"gpus": 2})
    done = ablate("run", study, "--limit", "1", "--json", CUDA_VISIBLE_DEVICES="0,1")
    (trial,) = [trial for trial in json.loads(done.stdout)["trials"] if trial["state"] == "COMPLETE"]
    assert trial["metrics"] == {"dev/accuracy": 2}
