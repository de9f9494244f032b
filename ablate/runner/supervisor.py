"""Starts workers, watches them, starts them again when they are killed, and tells a person how far the study is.

Holds nothing that a worker needs: when the supervisor dies its workers notice and stop cleanly, and a new
`ablate run` goes on at once."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from ablate.runner.process import EXPLAINED
from ablate.runner.progress import Progress

MAX_DEATHS_WITHOUT_A_TRIAL = 3  # a worker that cannot even take a trial is not started for ever


@dataclass
class Child:
    """One worker process."""

    index: int
    process: subprocess.Popen[bytes]
    log: Path
    deaths: int = 0
    took_a_trial: bool = False


@dataclass
class Supervisor:
    """Runs `workers` worker processes on one job until they are done."""

    job: dict[str, Any]
    workers: int
    logs: Path
    progress: Progress
    interrupted: signal.Signals | None = None
    errors: list[str] = field(default_factory=list)

    def run(self) -> int:
        """Return an exit code: 0 done, 1 an error, 130 or 143 interrupted (by the second signal, workers are killed)."""
        self._news: queue.Queue[tuple[Child, dict[str, Any] | None]] = queue.Queue()
        self._alive: dict[int, Child] = {}
        before = {
            number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            for index in range(self.workers):
                self._start(index, deaths=0)
            while self._alive:
                self._listen()
        finally:
            for child in self._alive.values():
                child.process.kill()
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.interrupted is not None:
            return 128 + self.interrupted
        return 1 if self.errors else 0

    def _start(self, index: int, deaths: int) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"worker-{index}.log"
        with log.open("ab") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "ablate.runner.process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=worker_environment(self.workers),
                start_new_session=True,  # a terminal's Ctrl-C reaches us alone; we pass it on
            )
        child = Child(index, process, log, deaths)
        self._alive[index] = child
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(self.job).encode() + b"\n")
            process.stdin.flush()  # and stays open: its end tells the worker that we are gone
        except BrokenPipeError:
            pass  # died at birth; its exit is handled like any other death
        threading.Thread(target=self._read, args=(child, process.stdout), daemon=True).start()

    def _read(self, child: Child, stdout: IO[bytes]) -> None:
        for line in stdout:
            self._news.put((child, json.loads(line)))
        self._news.put((child, None))

    def _listen(self) -> None:
        try:
            child, event = self._news.get(timeout=0.5)
        except queue.Empty:
            self.progress.tick()
            return
        if event is None:
            self._on_exit(child)
        elif event["event"] == "error":
            self.errors.append(event["text"])
        else:
            child.took_a_trial |= event["event"] == "trial"
            self.progress.on_event(child.index, event)

    def _on_exit(self, child: Child) -> None:
        code = child.process.wait()
        del self._alive[child.index]
        self.progress.on_exit(child.index)
        if code == 0 or code == EXPLAINED or self.interrupted is not None:
            return
        deaths = 1 if child.took_a_trial else child.deaths + 1
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        if deaths > MAX_DEATHS_WITHOUT_A_TRIAL:
            self.errors.append(
                f"{child.log}: worker {child.index} died {deaths} times before it took a trial; {last_line(child.log)}"
            )
            return
        self.progress.say(f"worker {child.index} died ({cause}); starting it again")
        self._start(child.index, deaths)

    def _on_signal(self, number: int, _: Any) -> None:
        again = self.interrupted is not None
        self.interrupted = self.interrupted or signal.Signals(number)
        if not again:
            self.progress.say("stopping: each worker saves its step first; once more to stop at once")
        for child in self._alive.values():
            child.process.send_signal(signal.SIGKILL if again else signal.SIGTERM)


def worker_environment(workers: int) -> dict[str, str]:
    """Return the environment of a worker: the machine's cores divided, and quiet libraries."""
    threads = str(max(1, len(os.sched_getaffinity(0)) // workers))
    environment = dict(os.environ)
    environment.pop("ABLATE_STORAGE", None)  # the job says it
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        environment.setdefault(name, threads)
    environment.setdefault("TOKENIZERS_PARALLELISM", "false")
    environment.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    return environment


def last_line(log: Path) -> str:
    """Return the last line of a log that says something."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "its log is empty"
