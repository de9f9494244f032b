"""An engine whose one worker is a thread of the test: everything is real but the process, which takes a second to start."""

import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

from fixture_types import Json

from ablate.errors import AblateError
from ablate.runner.process import EXPLAINED, work

STOP_AFTER = float("inf")  # steps after which a worker is asked to stop


class ThreadWorker:
    cause = ""

    def __init__(self, job: Json) -> None:
        self.log = Path(os.devnull)
        self._stop = threading.Event()
        self._steps = 0
        self._events: queue.SimpleQueue[Json | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, args=(job,))
        self._thread.start()

    def _work(self, job: Json) -> None:
        self._code = 0
        try:
            work(job, lambda: self._stop.is_set() or self._steps >= STOP_AFTER, self._tell)
        except AblateError as error:
            for fault in error.faults:
                self._events.put({"event": "error", "text": fault})
            self._code = EXPLAINED
        finally:
            self._events.put(None)

    def _tell(self, event: str, **fields: object) -> None:
        self._steps += event == "step"
        self._events.put({"event": event, **fields})

    def events(self) -> Iterator[Json]:
        while event := self._events.get():
            yield event

    def wait(self) -> int:
        self._thread.join()
        return self._code

    def stop(self) -> None:
        self._stop.set()

    kill = stop


class ThreadEngine:
    def __init__(self, job: Json) -> None:
        self._job = job

    def start(self, index: int) -> ThreadWorker:
        assert index == 0, "kernel locks do not part the threads of one process"
        return ThreadWorker(self._job)


def open_engine(job: Json, workers: int, logs: Path, address: None) -> ThreadEngine:
    return ThreadEngine(job)
