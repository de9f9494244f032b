"""Whether training is alive, and where it died.

A watchdog kills a hanging process; a note tells the next owner of a part how far the last one got."""

import contextlib
import faulthandler
import math
import os
import threading
import time
from pathlib import Path

from ablate.files import remove

# A process that uses less than this share of a core is only waiting, for its program or for the network.
IDLE = 0.1


class Watchdog:
    """Ends a process whose trainer reported something and then nothing for too long; its stack goes to the log.

    A trainer that never reports anything looks the same as one that hangs, so it is left alone. A killed process is treated like
    any other dead owner. Not a Python thread, since the interpreter itself may hang."""

    def __init__(self, hang_minutes: float) -> None:
        self._hang_s = min(hang_minutes * 60, threading.TIMEOUT_MAX)
        # Setting the alarm at every step would cost too much.
        self._slack_s = min(1.0, self._hang_s / 10)
        self._set_at = -math.inf

    def heard(self) -> None:
        """Note that training is alive."""
        now = time.monotonic()
        if now - self._set_at > self._slack_s:
            faulthandler.dump_traceback_later(self._hang_s, exit=True, file=2)
            self._set_at = now

    def rest(self) -> None:
        """Note that nothing is being trained."""
        faulthandler.cancel_dump_traceback_later()
        self._set_at = -math.inf


class ProgressNote:
    """A note of how far an attempt has got. It survives a kill of the process, but not a crash of the machine.

    Before the first step it is a negative number: the tenths of a second of CPU time (of
    elapsed time, if the process mostly waits). After that it is the last step. Repeated
    crashes at the same value point to the trainer; kills from outside are spread out."""

    NAME = "reached.txt"

    def __init__(self, workdir: Path) -> None:
        remove(workdir / self.NAME)
        self._file = os.open(workdir / self.NAME, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._write(-1)
        self._stepped = threading.Event()
        self._preparing = threading.Thread(target=self._prepare, daemon=True)
        self._preparing.start()

    def _prepare(self) -> None:
        cpu, clock = time.process_time(), time.monotonic()
        while not self._stepped.wait(0.1):
            spent, passed = time.process_time() - cpu, time.monotonic() - clock
            self._write(-1 - int(10 * (spent if spent > IDLE * passed else passed)))

    def step(self, step: int) -> None:
        """Note that a step is done."""
        self._stepped.set()
        self._write(step)

    def _write(self, place: int) -> None:
        # A full disk is reported elsewhere, when a checkpoint fails.
        with contextlib.suppress(OSError):
            os.pwrite(self._file, b"%12d" % place, 0)

    def close(self) -> None:
        """Stop updating the note, and leave it for the next attempt."""
        self._stepped.set()
        self._preparing.join()
        os.close(self._file)

    @classmethod
    def take(cls, workdir: Path) -> int | None:
        """Return the previous attempt's note, and remove it."""
        file = workdir / cls.NAME
        try:
            return int(file.read_text())
        except (OSError, ValueError):
            return None
        finally:
            remove(file)
