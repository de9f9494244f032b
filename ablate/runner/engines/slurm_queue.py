"""The states of our jobs according to Slurm: in the queue, running, or ended, and how.

It asks `squeue`, which needs no accounting database, once for all jobs. submitit's own
watcher asks `sacct`: it would wait forever for a job that was preempted and cancelled,
and give up on a job that is suspended or was queued again after its node failed."""

import getpass
import math
import subprocess
import threading
import time

# Seconds between two queries: a busy controller serves thousands of jobs.
ASK_S = 10.0
ANSWER_S = 60.0  # how long squeue may take
GONE = "no longer in the queue"
ENDED = frozenset(
    [
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
        GONE,
    ]
)
# States that the cluster caused, not the worker.
TAKEN_AWAY = frozenset(["BOOT_FAIL", "NODE_FAIL", "PREEMPTED"])


class Queue:
    """The states of this user's jobs. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: dict[str, str] = {}
        self._asked = -math.inf
        self._answers = 0

    def state(self, job: str) -> tuple[int, str]:
        """Return the number of the latest answer, from 1, and the job's state in it; 0 and "" without any answer yet."""
        with self._lock:
            if time.monotonic() - self._asked >= ASK_S:
                self._ask()
                self._asked = time.monotonic()
            return (self._answers, self._states.get(job, GONE)) if self._answers else (0, "")

    def _ask(self) -> None:
        """Ask squeue about all jobs. If the controller does not answer,
        keep its last answer: silence does not mean that jobs ended."""
        # All states: a job is listed for some minutes after its end.
        command = [
            "squeue",
            "--noheader",
            "--array",
            "--states=all",
            "--format=%i|%T",
            "--user",
            getpass.getuser(),
        ]
        try:
            answer = subprocess.run(
                command, capture_output=True, text=True, timeout=ANSWER_S, check=True
            ).stdout
        except (OSError, subprocess.SubprocessError):
            return
        self._states = dict(line.strip().split("|", 1) for line in answer.splitlines() if "|" in line)
        self._answers += 1


class Watched:
    """One job in the queue."""

    def __init__(self, queue: Queue, job: str) -> None:
        self._queue, self._job = queue, job
        self._ended_in = 0  # number of the answer since which it counts as ended; 0: it has not ended
        self.state = ""

    def has_ended(self, cancelled: bool) -> bool:
        """Return whether it has ended for good: two answers must say so, or one if we cancelled it.

        A job that is queued again after a preemption or a dead node shows its old end for a moment."""
        answer, self.state = self._queue.state(self._job)
        if self.state not in ENDED:
            self._ended_in = 0
            return False
        self._ended_in = self._ended_in or answer
        return cancelled or answer > self._ended_in
