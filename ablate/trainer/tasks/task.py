"""What a task is: all that tells it from other tasks, as one value. Loads neither torch nor NumPy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple


class Row(NamedTuple):
    """One example of the built-in corpus, before it has an id."""

    first: str
    second: str | None
    label: float


@dataclass(frozen=True)
class Labels:
    """Numbers from 0 to `top`."""

    column: str  # what files call them; `label` does as well
    top: int
    whole: bool  # no numbers in between

    @property
    def wanted(self) -> str:
        """What a label has to be, in words."""
        return f"a{' whole' if self.whole else ''} number from 0 to {self.top}"

    def allow(self, value: float) -> bool:
        """Tell whether `value` is one of them."""
        return 0 <= value <= self.top and (not self.whole or value == int(value))


@dataclass(frozen=True)
class Task:
    """One question about a sentence, or about two.

    Where `heads` has several, the setting `<name>_head` chooses.
    """

    name: str
    columns: tuple[str, ...]  # of text: `sentence`, or `sentence1` and `sentence2`
    labels: Labels
    heads: Mapping[str, str]  # what the head may see -> in words; the first is the default
    loss: Literal["cross_entropy", "binary_cross_entropy", "squared_error"]
    metric: Literal["accuracy", "pearson"]
    draw: Callable[[Random], Row]  # one row of the built-in corpus

    def in_mean(self, value: float) -> float:
        """Return the metric on the scale 0 to 1 of `<split>/mean`: r as (r + 1) / 2."""
        return (value + 1) / 2 if self.metric == "pearson" else value
