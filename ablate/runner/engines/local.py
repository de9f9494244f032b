"""Workers as processes on this machine: `python -m ablate.runner.process`.

The job is sent through stdin, which stays open: when it closes, the
worker saves and stops: it was asked to, or its supervisor is gone."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ablate.runner import leftovers
from ablate.runner.machine import worker_environment

# A worker's log of this size is set aside when the next worker starts, and replaces the log that was set aside before.
LOG_BYTES = 1 << 20


class LocalWorker:
    """A worker process and its two pipes."""

    cause = ""

    def __init__(self, job: dict[str, Any], log: Path, workers: int, index: int = 0) -> None:
        self.log = log
        if log.is_file() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        environment = worker_environment(workers, index, max(1, job.get("gpus", 1)))
        self._word = environment[leftovers.NAME]
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                # -P: modules in the working directory are not imported.
                [sys.executable, "-P", "-m", "ablate.runner.process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
                # A terminal's Ctrl-C reaches only the supervisor, which passes it on.
                start_new_session=True,
            )
        assert self._process.stdin is not None
        # If the process is dead already, `wait` will report it.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.flush()

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield its events until it ends."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            # A kill may leave an incomplete line.
            with contextlib.suppress(ValueError):
                yield json.loads(line)

    def wait(self) -> int:
        """Wait for its end and return its exit code; minus the signal if it was killed."""
        code = self._process.wait()
        leftovers.end(self._word)
        leftovers.wait_for_logs(self._word)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            # A program that runs studies from Python lives on, and would otherwise keep these pipes open.
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        return code

    def join(self) -> None:
        """Wait for its end. Safe in a signal handler, which may have interrupted `events` or `wait`."""
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)

    def stop(self) -> None:
        """Ask it to save and stop."""
        self._process.send_signal(signal.SIGTERM)
        # A trainer may ignore signals.
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()


class Local:
    """Starts workers that share this machine's cores."""

    def __init__(self, job: dict[str, Any], logs: Path) -> None:
        self._job, self._logs = job, logs

    def start(self, index: int) -> LocalWorker:
        """Start worker `index`, or restart it."""
        return LocalWorker(self._job, self._logs / f"worker-{index}.log", self._job["workers"], index)


def open_engine(job: dict[str, Any], _workers: int, logs: Path, _address: str | None) -> Local:
    """Return the engine."""
    return Local(job, logs)
