"""A task as one value: everything that distinguishes it from other tasks. Loads neither torch nor NumPy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple

from ablate.text import listed
from ablate.trainer.tasks.metric_names import CORRELATIONS

Loss = Literal["cross_entropy", "binary_cross_entropy", "squared_error", "cosine", "cosent", "mnrl"]
# These losses compare the pairs of a batch with each other, and so learn a ranking, not values.
ORDERING: tuple[Loss, ...] = ("cosent", "mnrl")

# A number; with `Labels.several`, 1 or 0 for each of the labels.
Label = float | tuple[float, ...]


class Row(NamedTuple):
    """One example of the built-in corpus, before it has an id."""

    first: str
    second: str | None
    label: Label


@dataclass(frozen=True)
class Labels:
    """The valid labels: numbers from `low` to `top`. `names`: labels index it; `several`: items can have many labels."""

    column: str  # its usual name in files
    top: float
    whole: bool  # integers only
    low: float = 0
    names: tuple[str, ...] = ()
    several: bool = False
    other_columns: tuple[str, ...] = ("label",)  # names that are accepted too

    @property
    def count(self) -> int:
        """Number of classes."""
        return int(self.top - self.low) + 1

    @property
    def expected(self) -> str:
        """What a label must be, in words."""
        number = f"a{' whole' if self.whole else ''} number from {self.low:g} to {self.top:g}"
        one = f"one of {listed(self.names, 12)}" if self.names else number
        return f"labels separated by |, each {one}" if self.several else one

    def allow(self, value: float) -> bool:
        """Return whether `value` is a valid label."""
        return self.low <= value <= self.top and (not self.whole or value == int(value))


@dataclass(frozen=True)
class LossOptions:
    """Options of losses; each loss reads the ones it supports."""

    label_smoothing: float = 0.0
    class_weights: Literal["balanced"] | tuple[float, ...] | None = None
    scale: float = 20.0  # factor of the cosine in `ORDERING` losses
    positive_from: float = 0.8  # share of the labels' range from which a pair is a positive of `mnrl`


@dataclass(frozen=True, eq=False)
class Task:
    """One question about a sentence, or about a pair of sentences.

    A task with several `heads` gets a setting `<name>_head` to choose one.
    """

    name: str
    columns: tuple[str, ...]  # the text columns: `sentence`, or `sentence1` and `sentence2`
    labels: Labels
    heads: Mapping[str, str]  # name -> description; the first is the default
    loss: Loss
    metrics: tuple[str, ...]  # the first is reported as `dev/<name>`, the others as `dev/<name>.<metric>`
    draw: Callable[[Random], Row]  # draws one row of the built-in corpus
    loss_options: LossOptions = LossOptions()
    weight: float = 1.0  # in the mean over tasks
    joined: bool = False  # the encoder reads both sentences as one sequence, for the head `cross`

    @property
    def named_metrics(self) -> dict[str, str]:
        """The metrics by name: `<task>`, then `<task>.<metric>` for each further one."""
        first, *others = self.metrics
        return {self.name: first, **{f"{self.name}.{metric}": metric for metric in others}}

    def in_mean(self, value: float) -> float:
        """Return the first metric on the scale 0 to 1 of `dev/mean`: a correlation r as (r + 1) / 2, a negative R² as 0."""
        if self.metrics[0] in CORRELATIONS:
            return (value + 1) / 2
        return max(0.0, value) if self.metrics[0] == "r2" else value
