"""The supervisor with workers that only wait: what it does about signals and ends."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fixture_types import Json

from ablate.runner.progress import Lines
from ablate.runner.supervisor import Supervisor


class Idle:
    """A worker that does nothing until it is asked to stop, or ends with `code` at once."""

    log = Path(os.devnull)
    cause = ""

    def __init__(self, code: int | None) -> None:
        self.code, self._end = code, threading.Event()
        self.asked: list[str] = []
        if code is not None:
            self._end.set()

    def events(self) -> Iterator[Json]:
        self._end.wait()
        return iter([])

    def wait(self) -> int:
        return self.code or 0

    def stop(self) -> None:
        self.asked.append("stop")
        self._end.set()

    def kill(self) -> None:
        self.asked.append("kill")
        self._end.set()


class Engine:
    """Starts idle workers; `on_start` happens in the middle of the first start."""

    def __init__(
        self, *codes: int | None, on_start: Callable[[], object] = lambda: None, worker: type[Idle] = Idle
    ) -> None:
        self._codes, self._on_start, self._worker = list(codes), on_start, worker
        self.started: list[Idle] = []

    def start(self, index: int) -> Idle:
        if not self.started:
            self._on_start()
        self.started.append(self._worker(self._codes.pop(0)))
        return self.started[-1]


class Silent(Lines):
    """Progress that nobody watches."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, line: str) -> None:
        self.said.append(line)

    def tick(self) -> None: ...

    def on_exit(self, worker: int) -> None: ...

    def on_event(self, worker: int, event: Json) -> None: ...


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_between_two_starts_stops_every_worker(number: signal.Signals, code: int) -> None:
    engine = Engine(None, None, on_start=lambda: os.kill(os.getpid(), number))
    assert Supervisor(engine, 2, Silent()).run() == code
    assert [worker.asked for worker in engine.started] == [["stop"], ["stop"]]


def test_a_second_signal_kills() -> None:
    class Deaf(Idle):
        def stop(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    engine = Engine(None, on_start=lambda: os.kill(os.getpid(), signal.SIGINT), worker=Deaf)
    assert Supervisor(engine, 1, Silent()).run() == 130
    assert [worker.asked for worker in engine.started] == [["kill"]]


def test_a_worker_stopped_by_somebody_else_is_replaced() -> None:
    engine, progress = Engine(143, 0), Silent()
    assert Supervisor(engine, 1, progress).run() == 0
    assert len(engine.started) == 2
    assert progress.said == ["worker 0 died (exit code 143); starting it again"]


def test_a_worker_that_never_takes_a_trial_is_given_up() -> None:
    engine = Engine(-11, -11, -11, -11)
    supervisor = Supervisor(engine, 1, Silent())
    assert supervisor.run() == 1
    assert "worker 0 died 4 times before it took a trial" in supervisor.errors[0]
