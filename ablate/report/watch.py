"""`ablate report --watch`: keep a report fresh while its study runs, on a page that reloads by itself.

It only reads, and leaves the machine to the run: it has a lower priority, and pauses at least twenty times as long as it works.
The page shows the progress each time; the report below it changes when there are new results."""

import contextlib
import datetime
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ablate.errors import BadInput
from ablate.files import write_file
from ablate.report.document import Report
from ablate.report.plots.running import running_curves
from ablate.report.plots.style import Picture, style
from ablate.report.render.html import render_html
from ablate.report.report import drawn_report, refuse_unknown, write_files, write_report
from ablate.report.sections.live import live_of
from ablate.store.results import Results, is_going_on
from ablate.store.retrying import lasting

REST = 20  # seconds of pause for a second of work
NICENESS = 10


def watch_report(read: Callable[[], Results], out: Path, formats: Sequence[str], every: float) -> Report:
    """Write the report at most every `every` seconds until no trial is left to run; return the last one.

    The last page does not reload, even after an interruption.

    Raises:
        BadInput: an unknown format, or `formats` lacks html; there is no such study.
        StoreError: the database is damaged, or its server did not answer for too long.
        OSError: `out` cannot be written.
    """
    refuse_unknown(formats)
    if "html" not in formats:
        raise BadInput("--watch: report.html is the page that it updates; add --format html")
    page = _Page(out, formats, every)
    try:
        while is_going_on(results := lasting(read)):
            time.sleep(lasting(partial(page.refresh, results)))
        return write_report(results, out, formats)
    except BaseException:
        page.close()
        raise


@dataclass
class _Page:
    """The page, with the last report that was made."""

    out: Path
    formats: Sequence[str]
    every: float
    made: tuple[Report, list[Picture]] | None = None
    made_of: object = None  # identifies the results behind that report
    not_before: float = 0.0  # when the next report may be made, by time.monotonic()

    def refresh(self, results: Results) -> float:
        """Write the page again; return how many seconds to pause."""
        report, drawn = self._report(results)
        began = time.monotonic()
        live = live_of(results, datetime.datetime.now(datetime.UTC), self.every)
        with style():
            curves = running_curves(results, live)
        pictures = [*drawn, curves] if curves else drawn
        write_file(self.out / "report.html", render_html(report, pictures, live).encode())
        # After the first page, since the user is waiting for it.
        _lower_priority()
        return max(self.every, REST * (time.monotonic() - began))

    def _report(self, results: Results) -> tuple[Report, list[Picture]]:
        content = _fingerprint(results)
        if self.made is None or (content != self.made_of and time.monotonic() >= self.not_before):
            began = time.monotonic()
            self.made, self.made_of = drawn_report(results, self.formats), content
            # All files but the page, which `refresh` writes.
            write_files(*self.made, self.out, [name for name in self.formats if name != "html"])
            self.not_before = time.monotonic() + REST * (time.monotonic() - began)
        return self.made

    def close(self) -> None:
        """Write a last page, which does not reload."""
        if self.made:
            # The disk may be full, which may be why we stop.
            with contextlib.suppress(OSError):
                write_file(self.out / "report.html", render_html(*self.made).encode())


def _lower_priority() -> None:
    """Give this process a lower priority than the run's."""
    if hasattr(os, "setpriority") and os.getpriority(os.PRIO_PROCESS, 0) < NICENESS:
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)


def _fingerprint(results: Results) -> object:
    """Return a value that changes whenever the report may change."""
    states = Counter(trial.state for trial in results.trials)
    ended = [states[state] for state in ("COMPLETE", "FAIL", "PRUNED")]
    return ended, len(results.parts), len(results.looks), len(results.test_uses)
