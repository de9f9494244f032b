"""How far a training came before its first step, as its note says once its process is dead."""

import time
from pathlib import Path

from ablate.runner.watchdog import ProgressNote


def place_after(folder: Path, seconds: float, *, busy: bool) -> int:
    note, end = ProgressNote(folder), time.monotonic() + seconds
    if busy:
        # Spend the time on the processor instead of sleeping.
        start = time.process_time()
        while time.process_time() < start + seconds:
            pass
    else:
        time.sleep(end - time.monotonic())
    note.close()
    place = ProgressNote.take(folder)
    assert place is not None
    return place


def test_a_process_that_waits_is_placed_by_the_clock(tmp_path: Path) -> None:
    assert place_after(tmp_path, 1.0, busy=False) <= -9


def test_a_process_that_computes_is_placed_by_its_cpu_time(tmp_path: Path) -> None:
    # However busy the machine is.
    assert -14 <= place_after(tmp_path, 1.0, busy=True) <= -8
