"""Workers as jobs of a Slurm cluster, through submitit: one array, a job per worker. Slurm's own SBATCH_... variables choose
partition, account, time and GPUs. A job that is preempted or reaches its time limit saves and is queued again; if nobody
queues it again, another one is submitted in its place.

No secret is written to a job's files: the job gets the database URL from ABLATE_STORAGE, which sbatch passes on."""

import contextlib
import io
import json
import os
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import submitit

from ablate.errors import BadInput, Unavailable
from ablate.runner.engines.local import LocalWorker
from ablate.runner.engines.slurm_queue import TAKEN_AWAY, Queue, Watched
from ablate.runner.process import EXPLAINED
from ablate.runner.signals import ASKED_TO_STOP
from ablate.store.urls import without_password
from ablate.text import one_line, shortened

POLL_S = 0.5
KILLED = -9
# If one of these is set, the user has chosen the GPUs of a job.
GPU_VARIABLES = ("SBATCH_GPUS", "SBATCH_GPUS_PER_NODE", "SBATCH_GPUS_PER_TASK", "SBATCH_GRES")
TIME_LIMIT_MIN = 24 * 60  # unless SBATCH_TIMELIMIT sets another
# How often a job may reach its time limit: it is queued again each time.
TIMEOUTS = 1_000_000
WARNED_S = 120  # before the time limit: time to save


class Work(submitit.helpers.Checkpointable):  # type: ignore[misc]  # the base class has no types
    """A job: runs a worker on its node, and writes its events to the file that the supervisor reads."""

    def __call__(self, job: dict[str, Any], log: str, events: str) -> int:
        """Work until nothing is left; return the worker's exit code."""
        if (url := os.environ.get("ABLATE_STORAGE")) is None:
            text = "ABLATE_STORAGE did not reach the job; let the cluster's settings pass it on (SBATCH_EXPORT, SLURM_EXPORT_ENV)"
            Path(events).write_text(json.dumps({"event": "error", "text": f"--engine: {text}"}) + "\n")
            return EXPLAINED
        self._worker = LocalWorker({**job, "url": url}, Path(log), workers=1)
        terminated = False

        def stop(*_: object) -> None:
            nonlocal terminated
            terminated = True
            self._worker.stop()

        # submitit ignores SIGTERM. Slurm sends it to all processes of a job, or to this one alone, half a minute before it
        # kills them.
        signal.signal(signal.SIGTERM, stop)
        try:
            with open(events, "a") as lines:
                for event in self._worker.events():
                    lines.write(json.dumps(event) + "\n")
                    lines.flush()
            code = self._worker.wait()
        finally:
            self._worker.stop()
            self._worker.wait()
        # Return no result: only the queue knows whether Slurm ends the job or runs it again.
        if terminated:
            sys.exit(ASKED_TO_STOP)
        return code

    def checkpoint(self, *arguments: Any) -> submitit.helpers.DelayedSubmission:
        """Queue the job again; submitit calls this before the time limit and on preemption.

        Raises:
            Unavailable: this node cannot do that. The supervisor submits another job.
        """
        self._worker.stop()
        self._worker.join()
        if os.environ.get("SUBMITIT_EXECUTOR") == "slurm" and shutil.which("scontrol") is None:
            raise Unavailable("its node has no scontrol to queue the job again")
        # A new object, since this one has a running process, which cannot be pickled.
        return submitit.helpers.DelayedSubmission(Work(), *arguments)


class SlurmWorker:
    """A queued or running job."""

    def __init__(self, job: Any, log: Path, events: Path, queue: Queue) -> None:
        self.log, self.cause = log, ""
        self._job, self._events = job, events
        # With --address, the job may run on a cluster other than Slurm.
        self._watched = Watched(queue, job.job_id) if isinstance(job, submitit.SlurmJob) else None
        self._killed = self._cancelled = False

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield its events until it ends."""
        self._events.touch()
        with self._events.open() as lines:
            ended = False
            while not ended:
                ended = self._killed or self._has_ended()
                while (line := lines.readline()).endswith("\n"):
                    yield json.loads(line)
                time.sleep(POLL_S)
        self._events.unlink(missing_ok=True)

    def _has_ended(self) -> bool:
        if self._watched is None:
            return bool(self._job.done())
        return self._job.paths.result_pickle.exists() or self._watched.has_ended(self._cancelled)

    def wait(self) -> int:
        """Wait for its end and return its exit code; -9 if that is unknown, 143 if the cluster took the job away."""
        if self._killed:
            return KILLED
        if self._watched is None or self._job.paths.result_pickle.exists():
            return self._result()
        if not self.log.is_file() or not self.log.stat().st_size:
            self.log = self._job.paths.stderr
        self.cause = f"Slurm's job {self._job.job_id}: {self._watched.state}"
        return ASKED_TO_STOP if self._watched.state in TAKEN_AWAY else KILLED

    def _result(self) -> int:
        try:
            return int(self._job.result())
        # submitit has several exceptions, for jobs that failed, timed out or were cancelled.
        except Exception as error:
            # The job's traceback comes first, then a line of dashes and submitit's advice.
            lines = str(error).partition("\n\n-----")[0].strip().splitlines()
            self.cause = lines[-1] if lines else ""
            return KILLED

    def stop(self) -> None:
        """Ask it to save and stop: Slurm sends SIGTERM, and waits before it kills."""
        self._cancelled = True
        self._job.cancel(check=False)

    def kill(self) -> None:
        """Cancel it without waiting for its end."""
        self._killed = True
        self._job.cancel(check=False)


class Slurm:
    """Submits workers: the first ones together as one array, restarted ones as single jobs."""

    def __init__(self, executor: Any, job: dict[str, Any], workers: int, logs: Path) -> None:
        self._executor, self._job = executor, {**job, "url": without_password(job["url"])}
        self._queue = Queue()
        self._logs = [logs / f"worker-{index}.log" for index in range(workers)]
        self._waiting = dict(enumerate(self._submit(self._logs)))

    def start(self, index: int) -> SlurmWorker:
        """Start worker `index`, or restart it.

        Raises:
            Unavailable: Slurm rejected the job.
        """
        return self._waiting.pop(index, None) or self._submit([self._logs[index]])[0]

    def _submit(self, logs: list[Path]) -> list[SlurmWorker]:
        """Submit one job per log."""
        events = [self._new_events(log) for log in logs]
        columns = [[self._job] * len(logs), [str(log) for log in logs], [str(file) for file in events]]
        try:
            # submitit prints sbatch's messages.
            with contextlib.redirect_stderr(io.StringIO()):
                jobs = self._executor.map_array(Work(), *columns)
        except (
            OSError,
            submitit.core.utils.FailedSubmissionError,
            submitit.core.utils.FailedJobError,
        ) as error:
            reason = getattr(error.__cause__, "stderr", None) or str(error)
            raise Unavailable(
                f"--engine: Slurm rejected the job: {shortened(one_line(reason), 300)}"
            ) from error
        return [SlurmWorker(*each, self._queue) for each in zip(jobs, logs, events, strict=True)]

    def _new_events(self, log: Path) -> Path:
        """Return a new file for a worker's events, so that events of earlier workers are not read again."""
        return log.with_suffix(f".{secrets.token_hex(4)}.events")


def with_storage(exported: str) -> str:
    """Return a value of SBATCH_EXPORT (ALL, NONE, NIL or names with commas) that passes ABLATE_STORAGE on, too."""
    names = [name for name in exported.split(",") if name.upper() not in ("NONE", "NIL")]
    if "ALL" not in map(str.upper, names) and "ABLATE_STORAGE" not in names:
        names.append("ABLATE_STORAGE")
    return ",".join(names)


def open_engine(job: dict[str, Any], workers: int, logs: Path, address: str | None) -> Slurm:
    """Return the engine on this machine's Slurm; `address` may name another submitit cluster (`local` uses no Slurm).

    Raises:
        Unavailable: there is no Slurm here.
    """
    os.environ["ABLATE_STORAGE"] = job["url"]
    if exported := os.environ.get("SBATCH_EXPORT"):
        os.environ["SBATCH_EXPORT"] = with_storage(exported)
    try:
        executor = submitit.AutoExecutor(
            folder=logs / "slurm" / "%j", cluster=address or "slurm", slurm_max_num_timeout=TIMEOUTS
        )
    except (RuntimeError, ValueError) as error:
        if address:
            raise BadInput(
                f"--address: submitit has no cluster {address!r} ({error}); leave --address out for Slurm, or use local"
            ) from error
        raise Unavailable(f"--engine: no Slurm here ({error}); run this on a login node") from error
    executor.update_parameters(name=f"ablate-{job['study']}", timeout_min=TIME_LIMIT_MIN)
    if executor.cluster == "slurm":
        executor.update_parameters(slurm_signal_delay_s=WARNED_S)
        # One GPU or none is only the default, not a request: sbatch would refuse it on clusters without GPUs.
        if job["gpus"] > 1 and not any(name in os.environ for name in GPU_VARIABLES):
            executor.update_parameters(slurm_gpus_per_node=job["gpus"])
    return Slurm(executor, job, workers, logs)
