"""Starts workers, watches them, restarts them when they are killed, and shows the progress.

Signals and the workers' events go through one queue and are handled one after another, so a signal never interrupts something
half done (two workers being started, a line being printed). Workers need nothing from it: when it dies, they notice and stop
cleanly, and a new `ablate run` resumes at once. The engine decides where workers run."""

import math
import os
import queue
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ablate.errors import Unavailable
from ablate.runner.engines.registry import Engine, WorkerProcess
from ablate.runner.process import EXPLAINED
from ablate.runner.progress import Bars, Lines
from ablate.runner.signals import ASKED_TO_STOP, catch, is_urgent
from ablate.runner.spot_notice import watch_for_notice

MAX_DEATHS_WITHOUT_A_TRIAL = 3  # stop restarting a worker that dies before it takes a trial


@dataclass
class Child:
    """One worker."""

    index: int
    process: WorkerProcess
    deaths: int = 0
    took_a_trial: bool = False


@dataclass
class Supervisor:
    """Runs `workers` workers on one job until they are done."""

    engine: Engine
    workers: int
    progress: Bars | Lines
    deadline: float = math.inf  # by time.monotonic(), when workers are asked to save and stop
    interrupted: signal.Signals | None = None
    out_of_time: bool = False
    errors: list[str] = field(default_factory=list)

    def run(self) -> int:
        """Return an exit code: 0 done or out of time, 1 an error, 128 + n interrupted by signal n.

        A second Ctrl-C or SIGTERM kills the workers.
        """
        # Not a Queue: a signal may arrive inside `get`, and its `put` would wait for the lock that `get` holds.
        self._news: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._alive: dict[int, Child] = {}
        self._seen: set[int] = set()
        before = catch(self._on_signal)
        watch_for_notice(lambda: os.kill(os.getpid(), signal.SIGTERM))
        try:
            for index in range(self.workers):
                self._start(index, deaths=0)
            while self._alive:
                self._hear()
        finally:
            for child in self._alive.values():
                child.process.kill()
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.interrupted is not None:
            return 128 + self.interrupted
        return 1 if self.errors else 0

    def _start(self, index: int, deaths: int) -> None:
        child = Child(index, self.engine.start(index), deaths)
        self._alive[index] = child
        threading.Thread(target=self._read, args=(child,), daemon=True).start()

    def _read(self, child: Child) -> None:
        try:
            for event in child.process.events():
                self._news.put(partial(self._on_event, child, event))
        finally:
            self._news.put(partial(self._on_exit, child, child.process.wait()))

    def _hear(self) -> None:
        try:
            act = self._news.get(timeout=0.5)
        except queue.Empty:
            act = self.progress.tick
        act()
        if time.monotonic() >= self.deadline and not self._stopping():
            self.out_of_time = True
            self._ask_to_stop("out of time")

    def _stopping(self) -> bool:
        return self.interrupted is not None or self.out_of_time

    def _on_event(self, child: Child, event: dict[str, Any]) -> None:
        if event["event"] == "error":
            self.errors.append(event["text"])
        else:
            child.took_a_trial |= event["event"] == "trial"
            self.progress.on_event(child.index, event)

    def _on_exit(self, child: Child, code: int) -> None:
        del self._alive[child.index]
        self.progress.on_exit(child.index)
        if code == 0 or code == EXPLAINED or self._stopping():
            return
        # A worker that was asked to stop, by the user or the cluster, has not died.
        deaths = (0 if child.took_a_trial else child.deaths) + (code != ASKED_TO_STOP)
        cause = child.process.cause or (signal.Signals(-code).name if code < 0 else f"exit code {code}")
        log = child.process.log
        if deaths > MAX_DEATHS_WITHOUT_A_TRIAL:
            self.errors.append(
                f"{log}: worker {child.index} died {deaths} times before it took a trial; {last_line(log)}"
            )
            return
        self.progress.say(f"worker {child.index} died ({cause}); starting it again")
        try:
            self._start(child.index, deaths)
        # The other workers continue.
        except Unavailable as error:
            self.errors += error.faults

    def _on_signal(self, number: int, _: Any) -> None:
        self._news.put(partial(self._stop, signal.Signals(number)))

    def _stop(self, number: signal.Signals) -> None:
        at_once = is_urgent(number, self._seen)
        self._seen.add(number)
        self.interrupted = self.interrupted or number
        if at_once:
            for child in self._alive.values():
                child.process.kill()
        elif len(self._seen) == 1:
            self._ask_to_stop("stopping")

    def _ask_to_stop(self, why: str) -> None:
        self.progress.say(
            f"{why}: trials first save what they can; press Ctrl-C {'twice' if self.out_of_time else 'again'} to stop at once"
        )
        for child in self._alive.values():
            child.process.stop()


def last_line(log: Path) -> str:
    """Return the last line of a log that is not blank."""
    lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
    return lines[-1] if lines else "its log is empty"
