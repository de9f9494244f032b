"""Workers as tasks of a Ray cluster. A task runs our worker process on its node and
passes its events on; Ray decides where, and gives it a share of cores and GPUs. When a
node dies the supervisor starts another task, and the trial resumes from the store."""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray

from ablate.errors import Unavailable
from ablate.runner.engines.local import LocalWorker

KILLED = -9


def work(job: dict[str, Any], log: str) -> Iterator[dict[str, Any]]:
    """Run a worker on this node; yield its events, then its exit code."""
    worker = LocalWorker(job, Path(log), workers=1)
    try:
        yield from worker.events()
        yield {"exit": worker.wait()}
    # The task was cancelled: the worker saves first.
    finally:
        worker.stop()
        worker.wait()


class RayWorker:
    """A task on the cluster."""

    cause = ""

    def __init__(self, task: Any, job: dict[str, Any], log: Path) -> None:
        self.log = log
        self._stream = task.remote(job, str(log))
        self._code = KILLED

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield its events until it ends."""
        # Its node or process died, or it was cancelled.
        with contextlib.suppress(ray.exceptions.RayError):
            for reference in self._stream:
                event = ray.get(reference)
                if "exit" in event:
                    self._code = event["exit"]
                else:
                    yield event

    def wait(self) -> int:
        """Wait for its end and return its exit code; -9 if that is unknown."""
        return self._code

    def stop(self) -> None:
        """Ask it to save and stop."""
        ray.cancel(self._stream)

    def kill(self) -> None:
        """End it at once."""
        ray.cancel(self._stream, force=True)


class Ray:
    """Starts workers that share the cluster's cores and GPUs evenly."""

    def __init__(self, job: dict[str, Any], logs: Path) -> None:
        has, workers = ray.cluster_resources(), job["workers"]
        cores = max(1, int(has.get("CPU", 1) / workers))
        # Fractions of a GPU mean that workers share its memory. A worker uses no more GPUs than the trainer asks for.
        gpus = min(1.0, int(1000 * has.get("GPU", 0) / workers) / 1000) if job["gpus"] < 2 else job["gpus"]
        self._task = ray.remote(num_cpus=cores, num_gpus=gpus, max_retries=0)(work)
        self._job, self._logs = job, logs

    def start(self, index: int) -> RayWorker:
        """Start worker `index`, or restart it."""
        return RayWorker(self._task, self._job, self._logs / f"worker-{index}.log")


def open_engine(job: dict[str, Any], _workers: int, logs: Path, address: str | None) -> Ray:
    """Return the engine on the cluster at `address`; without an address, on a cluster of only this machine.

    Raises:
        Unavailable: no cluster answers there.
    """
    # Send no usage statistics.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(
            address=address or "local",
            include_dashboard=False if address is None else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        text = str(error).strip().partition("\n")[0]
        raise Unavailable(
            f"--address: no Ray cluster answers at {address!r} ({text}); start one with `ray start --head`"
        ) from error
    os.chdir(job["study_folder"])
    return Ray(job, logs)
