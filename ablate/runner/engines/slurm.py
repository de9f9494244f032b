"""Workers as jobs of a Slurm cluster, through submitit: one array, a job per worker. Slurm's own SBATCH_... variables choose
partition, account, time and GPUs. A job that is preempted or reaches its time limit saves and is queued again.

No secret is written to a job's files: the database URL reaches it through ABLATE_STORAGE, which sbatch passes on."""

import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import submitit

from ablate.errors import Unavailable
from ablate.runner.engines.local import LocalWorker
from ablate.store.opening import without_password

POLL_S = 0.5
KILLED = -9
TIME_LIMIT_MIN = 24 * 60  # unless SBATCH_TIMELIMIT or the partition sets another
WARNED_S = 120  # before the time limit: enough to save


class Work(submitit.helpers.Checkpointable):  # type: ignore[misc]  # what it derives from has no types
    """The work of a job: run a worker on its node, and write its events to the file that the supervisor reads."""

    def __call__(self, job: dict[str, Any], log: str, events: str) -> int:
        """Work until nothing is left; return the worker's exit code."""
        self._worker = LocalWorker({**job, "url": os.environ["ABLATE_STORAGE"]}, Path(log), workers=1)
        try:
            with open(events, "a") as lines:
                for event in self._worker.events():
                    lines.write(json.dumps(event) + "\n")
                    lines.flush()
            return self._worker.wait()
        finally:
            self._save()

    def checkpoint(self, *arguments: Any) -> submitit.helpers.DelayedSubmission:
        """Be queued again: called by submitit before the time limit and on preemption."""
        self._save()
        return super().checkpoint(*arguments)

    def _save(self) -> None:
        self._worker.stop()
        self._worker.wait()


class SlurmWorker:
    """A job in the queue or running."""

    def __init__(self, job: Any, log: Path, events: Path) -> None:
        self.log = log
        self._job, self._events = job, events
        self._killed = False

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield its events until it ends."""
        self._events.touch()
        with self._events.open() as lines:
            ended = False
            while not ended:
                ended = self._killed or self._job.done()
                while (line := lines.readline()).endswith("\n"):
                    yield json.loads(line)
                time.sleep(POLL_S)
        self._events.unlink(missing_ok=True)

    def wait(self) -> int:
        """Return its exit code once it has ended; -9 if it is unknown."""
        try:
            return int(self._job.result()) if not self._killed else KILLED
        # submitit has several, for jobs that failed, timed out or were cancelled.
        except Exception:
            return KILLED

    def stop(self) -> None:
        """Ask it to save and to end: Slurm sends SIGTERM, and waits before it kills."""
        self._job.cancel(check=False)

    def kill(self) -> None:
        """Do not wait for it."""
        self._killed = True
        self._job.cancel(check=False)


class Slurm:
    """Submits workers, the first of each index together as one array."""

    def __init__(self, executor: Any, job: dict[str, Any], workers: int, logs: Path) -> None:
        self._executor, self._job = executor, {**job, "url": without_password(job["url"])}
        self._logs = [logs / f"worker-{index}.log" for index in range(workers)]
        self._events = [self._new_events(log) for log in self._logs]
        self._array = executor.map_array(
            Work(),
            [self._job] * workers,
            [str(log) for log in self._logs],
            [str(file) for file in self._events],
        )

    def start(self, index: int) -> SlurmWorker:
        """Start worker `index`, or restart it."""
        log, events = self._logs[index], self._events[index]
        first, self._array[index] = self._array[index], None
        if first is None:
            events = self._new_events(log)
            first = self._executor.submit(Work(), self._job, str(log), str(events))
        return SlurmWorker(first, log, events)

    def _new_events(self, log: Path) -> Path:
        """Return the file for a worker's events: a new one each time, or the events of earlier workers would be read again."""
        return log.with_suffix(f".{secrets.token_hex(4)}.events")


def open_engine(job: dict[str, Any], workers: int, logs: Path, address: str | None) -> Slurm:
    """Return the engine on this machine's Slurm; `address` may name another submitit cluster (`local` uses no Slurm).

    Raises:
        Unavailable: there is no Slurm here.
    """
    os.environ["ABLATE_STORAGE"] = job["url"]
    try:
        executor = submitit.AutoExecutor(folder=logs / "slurm" / "%j", cluster=address or "slurm")
    except (RuntimeError, ValueError) as error:
        raise Unavailable(f"--engine: no Slurm here ({error}); run this on a login node") from error
    executor.update_parameters(name=f"ablate-{job['study']}", timeout_min=TIME_LIMIT_MIN)
    if executor.cluster == "slurm":
        executor.update_parameters(slurm_signal_delay_s=WARNED_S)
    return Slurm(executor, job, workers, logs)
