"""The progress of a study: bars on a terminal, one plain line per event elsewhere. Always on stderr."""

import contextlib
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from ablate.spec.model import levels_text
from ablate.text import duration, printable, wrapped


class Messages(Console):
    """A console on stderr. If nobody reads it any more, or its disk is full, training continues."""

    def __init__(self) -> None:
        super().__init__(stderr=True)

    def on_broken_pipe(self) -> None:
        """Print no more; rich would exit."""
        self.quiet = True

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, if that is possible."""
        with contextlib.suppress(OSError):
            super().print(*objects, **options)


class Count:
    """How many trials are done, and how long the rest will take at the pace so far."""

    def __init__(self, done: int, total: int, workers: int) -> None:
        self.done, self.total, self.workers = done, total, workers
        self._done_before = done
        self._started = time.monotonic()

    def left(self) -> str:
        """Return the time left in words, once some trials are done."""
        here = self.done - self._done_before
        if not here or self.done >= self.total:
            return ""
        seconds = (time.monotonic() - self._started) / here * (self.total - self.done)
        return f"{duration(seconds)} left"

    def text(self) -> str:
        """Return all of this in words."""
        left = self.left()
        return f"{self.done}/{self.total}" + (f", {left}" if left else "")


class OwnCount(Count):
    """How many trials one worker has done, in a study that may have others."""

    def __init__(self) -> None:
        super().__init__(done=0, total=0, workers=1)

    def text(self) -> str:
        """Return it in words."""
        return f"{self.done} by this worker"


class Lines:
    """One plain line per event."""

    def __init__(self, console: Console, count: Count) -> None:
        self._console, self._count = console, count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """No-op."""

    def on_event(self, worker: int, event: dict[str, Any]) -> None:
        """Print what happened, unless it is a step."""
        kind = event["event"]
        number = event.get("number")
        if kind == "trial":
            self.say(f"trial {number}: {levels_text(event['factors'])}, seed {event['seed']}")
        elif kind == "complete":
            self._count.done += 1
            self.say(f"trial {number}: {values(event['metrics'])} ({self._count.text()})")
        elif kind == "failed":
            self.say(f"trial {number}: FAILED: {event['error']}")
        elif kind == "pruned":
            self._count.done += 1
            self.say(f"trial {number}: pruned")
        elif kind == "released":
            self.say(f"trial {number}: back in the queue, unfinished")
        elif kind == "notice":
            self.say(event["text"])

    def on_exit(self, worker: int) -> None:
        """No-op: the supervisor reports a worker's death."""

    def say(self, line: str) -> None:
        """Print a line as it is."""
        width, text = self._console.width, printable(line)
        lines = wrapped(text, width) if self._console.is_terminal else [text]
        self._console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)

    def tick(self) -> None:
        """No-op: plain lines show no clock."""


class Bars:
    """A study bar with the time left, and a line per running trial with its step, losses and metrics."""

    def __init__(self, console: Console, count: Count) -> None:
        self._lines = Lines(console, count)
        self._count = count
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
        )
        self._task = self._bar.add_task("trials", total=count.total, completed=count.done, left="")
        self._running: dict[int, dict[str, Any]] = {}
        self._live = Live(console=console, refresh_per_second=4, get_renderable=self._render, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def on_event(self, worker: int, event: dict[str, Any]) -> None:
        """Update the bar and the worker's line; print a permanent line for a trial that has ended."""
        kind = event["event"]
        if kind == "trial":
            self._running[worker] = {
                "number": event["number"],
                "what": levels_text(event["factors"]),
                "seed": event["seed"],
            }
        elif kind == "step":
            self._running.setdefault(worker, {"number": event["number"], "what": "", "seed": ""}).update(
                step=event["step"], part=event["part"], latest=event["latest"]
            )
        else:
            self._lines.on_event(worker, event)
            if kind != "notice":
                self._running.pop(worker, None)
        self.tick()

    def on_exit(self, worker: int) -> None:
        """Remove the worker's line."""
        self._running.pop(worker, None)

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self._lines.say(line)

    def tick(self) -> None:
        """Bring the bar up to date."""
        self._bar.update(self._task, completed=self._count.done, left=self._count.left())

    def _render(self) -> Group:
        table = Table.grid(padding=(0, 2))
        for trial in self._running.values():
            part = trial.get("part", "")
            table.add_row(
                Text(f"  trial {trial['number']}", style="cyan"),
                Text(f"seed {trial['seed']}"),
                Text(f"{part + ' ' if part not in ('', 'all') else ''}step {trial.get('step', 0)}"),
                Text(values(trial.get("latest", {})), style="green"),
                Text(trial["what"], style="dim", overflow="ellipsis", no_wrap=True),
            )
        return Group(self._bar.get_renderable(), table)


def values(metrics: Mapping[str, float]) -> str:
    """Return metrics on one line, dev metrics first."""
    ordered = sorted(metrics.items(), key=lambda item: (not item[0].startswith("dev/"), item[0]))
    return ", ".join(f"{name} {value:.4g}" for name, value in ordered[:6])
