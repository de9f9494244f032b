"""What a task is: all that distinguishes it from other tasks, as one value. Loads neither torch nor NumPy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple

Metric = Literal["accuracy", "pearson"]
CORRELATIONS: tuple[Metric, ...] = ("pearson",)  # from -1 to 1


class Row(NamedTuple):
    """One example of the built-in corpus, before it has an id."""

    first: str
    second: str | None
    label: float


@dataclass(frozen=True)
class Labels:
    """Numbers from 0 to `top`."""

    column: str  # its usual name in files; `label` is accepted too
    top: int
    whole: bool  # integers only

    @property
    def wanted(self) -> str:
        """What a label must be, in words."""
        return f"a{' whole' if self.whole else ''} number from 0 to {self.top}"

    def allow(self, value: float) -> bool:
        """Return whether `value` is a valid label."""
        return 0 <= value <= self.top and (not self.whole or value == int(value))


@dataclass(frozen=True, eq=False)
class Task:
    """One question about a sentence, or about a pair of sentences.

    A task with several `heads` gets a setting `<name>_head` to choose one.
    """

    name: str
    columns: tuple[str, ...]  # of text: `sentence`, or `sentence1` and `sentence2`
    labels: Labels
    heads: Mapping[str, str]  # name -> description; the first is the default
    loss: Literal["cross_entropy", "binary_cross_entropy", "squared_error"]
    metrics: tuple[Metric, ...]  # the first is reported as `dev/<name>`, the others as `dev/<name>.<metric>`
    draw: Callable[[Random], Row]  # draws one row of the built-in corpus

    def in_mean(self, value: float) -> float:
        """Return the first metric on the scale 0 to 1 of `dev/mean`: a correlation r as (r + 1) / 2."""
        return (value + 1) / 2 if self.metrics[0] in CORRELATIONS else value
