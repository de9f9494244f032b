"""Two things side by side: who took how long, and the ratio with its quartiles."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """A line of the table."""

    what: str
    ours: str
    peer: str
    ratio: str
    quartiles: str
    goal: str

    def __str__(self) -> str:
        return "| " + " | ".join(self) + " |"


HEADER = "| what | ours | peer | ratio | quartiles | goal |\n| --- | ---: | ---: | ---: | ---: | ---: |"


def seconds(act: Callable[[], object], wait: Callable[[], object] = lambda: None) -> float:
    """How long `act` takes, until `wait` returns."""
    began = time.perf_counter()
    act()
    wait()
    return time.perf_counter() - began


def ratios(ours: Sequence[float], peer: Sequence[float]) -> list[float]:
    """How many times as fast we were, round by round: neighbours in time are compared."""
    return [theirs / own for own, theirs in zip(ours, peer, strict=True)]


def row(
    what: str, ours: Sequence[float], peer: Sequence[float], times: Sequence[float], goal: str, unit: str = ""
) -> Row:
    """Medians of both, and of the ratio with its quartiles."""
    low, _, high = statistics.quantiles(times, n=4) if len(times) > 1 else [times[0]] * 3
    spread = f"{low:.3g} – {high:.3g}"
    return Row(what, middle(ours, unit), middle(peer, unit), f"{statistics.median(times):.3g}", spread, goal)


def middle(values: Sequence[float], unit: str = "") -> str:
    """The median, short."""
    found = statistics.median(values)
    return (f"{found:,.0f}" if found >= 1000 else f"{found:.3g}") + (f" {unit}" if unit else "")
