"""A worker process: `python -m ablate.runner.process`, started by the supervisor.

It reads its job as one JSON line from stdin, so that no database password appears in an argument list or an environment, and
writes events, one JSON object per line, to its original stdout. What a trainer prints goes to the log of its attempt, anything
else to the worker's log. When stdin closes, the supervisor is dead, and the worker stops as if asked to."""

import contextlib
import ctypes
import faulthandler
import io
import json
import os
import secrets
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from ablate.contract import load_trainer
from ablate.errors import AblateError, BadInput
from ablate.runner import leftovers
from ablate.runner.cadence import Cadence, checkpoint_seconds, most_share
from ablate.runner.logs import Logbook
from ablate.runner.logwriter import Screen
from ablate.runner.other_code import Recorded
from ablate.runner.ownership import let_go, share_home
from ablate.runner.progress import Lines, OwnCount
from ablate.runner.signals import catch, is_urgent
from ablate.runner.spot_notice import watch_for_notice
from ablate.runner.worker import Worker
from ablate.store.places import Place
from ablate.store.reading import has_run, read_results
from ablate.store.retrying import lasting
from ablate.store.urls import without_password
from ablate.store.writing import Store
from ablate.text import plural

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
# Exit code after an error that was sent as an event: restarting would not help.
EXPLAINED = 3
STEP_EVENT_S = 0.5  # send at most two step events per second
LAST_SECONDS = 20.0  # for threads and exit functions of a trainer, once the work is done
LAST_EVENTS_S = 10.0  # how long an ending worker waits for a supervisor that does not read


class Stop:
    """Whether this process was asked to stop."""

    def __init__(self, second_ends: bool = False) -> None:
        """`second_ends`: a second Ctrl-C or SIGTERM ends the process at once. A supervisor uses SIGKILL instead."""
        # No threading.Event: a signal may arrive inside its `set`, and the handler's `set` would wait for the lock for ever.
        # Slurm signals every process of a job, and the job passes its signal on: a worker gets two at once.
        self._asked = self._draining = False
        self.number = 0  # number of the first signal that asked to stop
        self._seen: set[int] = set()
        self._second_ends = second_ends
        catch(self._on_signal, drain=self._on_drain)
        # Forked children must die of SIGTERM, by which a trainer's pool ends its processes, and ignore a terminal's Ctrl-C,
        # which is meant for the worker. SIGTERM is blocked until the child has reset its handlers.
        waiting = {signal.SIGTERM}
        worker = os.getpid()
        os.register_at_fork(
            before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, waiting),
            after_in_child=lambda: _begin_as_child(worker),
            after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, waiting),
        )

    def _on_signal(self, number: int, _: object) -> None:
        if self._second_ends and is_urgent(number, self._seen):
            os._exit(128 + number)
        self._seen.add(number)
        self.number = self.number or number
        self.ask()

    def _on_drain(self, *_: object) -> None:
        self._draining = True

    def ask(self) -> None:
        """Ask this process to stop. Safe in threads and signal handlers."""
        self._asked = True

    def __call__(self) -> bool:
        """Return whether to stop."""
        return self._asked

    def draining(self) -> bool:
        """Return whether to stop after the trial."""
        return self._draining


def _begin_as_child(worker: int) -> None:
    """Make a forked child die on SIGTERM, and when its worker dies (even of SIGKILL)."""
    # PR_SET_PDEATHSIG refers to the thread that forked, which is the child's main thread. Children of a child may be daemons.
    if sys.platform == "linux" and os.getppid() == worker and threading.main_thread().name == "MainThread":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != worker:
            os._exit(1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


class Events:
    """Writes events to the supervisor. Never blocks training, even if the supervisor is gone, or frozen and reads nothing."""

    def __init__(self, descriptor: int) -> None:
        self._out = descriptor
        self._waiting = b""  # what the pipe had no room for
        self._last_step = 0.0
        self._room = select.poll()
        self._room.register(descriptor, select.POLLOUT)

    def __call__(self, event: str, **fields: Any) -> None:
        """Send an event with its fields. Step events are thinned out."""
        if event == "step":
            now = time.monotonic()
            if now - self._last_step < STEP_EVENT_S or self._waiting:
                return
            self._last_step = now
        self._waiting += json.dumps({"event": event, **fields}).encode() + b"\n"
        self._send(0)

    def _send(self, patience_s: float) -> None:
        # If poll reports room, writing this many bytes never blocks.
        while self._waiting and self._room.poll(1000 * patience_s):
            try:
                sent = os.write(self._out, self._waiting[: select.PIPE_BUF])
            except OSError:
                self._waiting = b""
                return
            self._waiting = self._waiting[sent:]

    def finish(self) -> None:
        """Send what is left, unless nobody reads it."""
        self._send(LAST_EVENTS_S)

    def let_go(self) -> None:
        """In a forked child: stop writing, so that the worker's end closes its stream of events."""
        let_go(self._out)


def main() -> int:
    """Do the job given on stdin; return the exit code."""
    # A crash in native code leaves a trace in the log.
    faulthandler.enable()
    stop = Stop()
    events = Events(os.dup(1))
    os.register_at_fork(after_in_child=events.let_go)
    os.dup2(2, 1)
    # Unbuffered, since a killed process would lose its buffer. UTF-8 whatever the locale, so that printing never fails.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    job = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=stop_when_stdin_ends, args=(stop,), daemon=True).start()
    try:
        work(job, stop, events, stop.draining)
    except AblateError as error:
        for fault in error.faults:
            events("error", text=fault)
        return EXPLAINED
    finally:
        events.finish()
    # If the signal did not come from the supervisor, the supervisor will start another worker.
    return 128 + stop.number if stop.number else 0


def work_here(place: Place, study_folder: Path | None = None, keep_code: bool = False) -> int:
    """`ablate worker`: work on a study in this process, logging to stderr; return the exit code.

    `study_folder`: where its file is on this machine; if not given, where the last `ablate run` had it.
    `keep_code`: continue even if the trainer's code differs from the recorded code.

    Raises:
        BadInput: the study's files are not in the folder that `place` names.
    """
    # Fail at once rather than after minutes of retries: if the server never answered, the address is probably wrong.
    if not has_run(place):
        raise BadInput(f"{without_password(place.url)}: contains no study {place.study!r}")
    store = Store(place)
    share_home(store)
    os.environ[leftovers.NAME] = secrets.token_hex(8)
    # The trainer must not see the password in the URL.
    os.environ.pop("ABLATE_STORAGE", None)
    stop = Stop(second_ends=True)
    watch_for_notice(stop.ask)
    # A copy of stderr, since descriptor 2 is redirected to the trainers' logs.
    screen = Screen(os.dup(2))
    with io.TextIOWrapper(screen, "utf-8", "backslashreplace", write_through=True) as stderr:  # type: ignore[type-var]
        count = OwnCount()
        lines = Lines(Console(file=stderr), count)
        # What a trainer prints must not go to stdout.
        if store.upgraded:
            lines.say(store.upgraded)
        with contextlib.redirect_stdout(sys.stderr):
            work(
                job_for(store, study_folder or store.study_folder, keep_code=keep_code),
                stop,
                lambda event, **fields: (
                    lines.on_event(0, {"event": event, **fields}) if event != "step" else None
                ),
                stop.draining,
                show=True,
            )
        store.stopping = stop
        # A server that is down by now must not change how the worker ends.
        with contextlib.suppress(AblateError):
            left = len(store.queue())
            lines.say(f"this worker finished {plural(count.done, 'trial')}; the study has {left} left")
    code = 128 + stop.number if stop.number else 0
    end_for_sure(code)
    return code


def job_for(
    store: Store, study_folder: Path, numbers: list[int] | None = None, keep_code: bool = False
) -> dict[str, Any]:
    """Return a worker's job as JSON. `numbers`: only these trials.
    `keep_code`: accept code that differs from the recorded code."""
    return {
        "url": store.place.url,
        "study": store.place.study,
        "folder": str(store.place.folder),
        "study_folder": str(study_folder.resolve()),
        "checkpoint_seconds": checkpoint_seconds(store.spec),
        "checkpoint_share": most_share(),
        "numbers": numbers,
        "keep_code": keep_code,
    }


def stop_when_stdin_ends(stop: Stop) -> None:
    """Wait until stdin closes: the supervisor is dead. Reading `sys.stdin`
    instead could abort Python at exit, because of its lock."""
    while os.read(0, 4096):
        continue
    stop.ask()


def work(
    job: dict[str, Any],
    stop: Callable[[], bool],
    events: Callable[..., None],
    draining: Callable[[], bool] = lambda: False,
    show: bool = False,
) -> None:
    """Open the job's study and work until nothing is left, or until asked to stop or to drain.

    `show`: print what trainers print to stderr too.
    """
    place = Place(job["study"], job["url"], Path(job["folder"]))
    with contextlib.closing(Store(place)) as store, contextlib.closing(Logbook(show)) as logbook:
        store.stopping = stop
        if not Path(job["study_folder"]).is_dir():
            raise BadInput(
                f"{job['study_folder']}: the folder of the study's file is not on this machine; put it there, or name "
                "the file where it is: ablate worker PATH.yaml"
            )
        loaded_before = list(sys.modules)
        trainer = load_trainer(store.spec.trainer, Path(job["study_folder"]))
        # Relative paths in a study start at its file.
        os.chdir(job["study_folder"])
        worker = Worker(
            store=store,
            trainer=trainer,
            stopping=stop,
            draining=draining,
            emit=events,
            cadence=Cadence(job["checkpoint_seconds"], job["checkpoint_share"]),
            logbook=logbook,
            loaded_before=loaded_before,
            recorded=None if job["keep_code"] else Recorded(lasting(lambda: read_results(place), stop)),
        )
        with contextlib.closing(worker.locks):
            worker.run(job["numbers"])


def end_for_sure(code: int) -> None:
    """End this process in a while with `code`, even if threads or exit functions of a trainer never end."""

    def end() -> None:
        time.sleep(LAST_SECONDS)
        print(
            f"[ablate] a thread or an exit function of the trainer did not end within {LAST_SECONDS:g} s; let `train` end it",
            flush=True,
        )
        os._exit(code)

    threading.Thread(target=end, daemon=True).start()


if __name__ == "__main__":
    exit_code = main()
    end_for_sure(exit_code)
    sys.exit(exit_code)
