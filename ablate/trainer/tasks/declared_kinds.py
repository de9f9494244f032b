"""The kinds of task that a study file can declare: what each reads, its heads and metrics, and a toy corpus for each.

A new head needs its description here and its function in `heads.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from random import Random

from ablate.trainer.tasks.corpus_pairs import CONCEPTS, one_story, two_stories
from ablate.trainer.tasks.metric_names import OF_CLASSES, OF_NUMBERS, OF_SEVERAL_LABELS
from ablate.trainer.tasks.task import (
    Label,
    Labels,
    Loss,
    LossOptions,
    Row,
    Task,
)

CROSS = "cross"

SENTENCE_HEADS = {"sentence": "u"}
PAIR_HEADS = {
    "concat": "[u, v] into the dense layer",
    "difference": "[u, v, |u - v|] into the dense layer",
    "product": "[u, v, |u - v|, u * v] into the dense layer",
    "siamese": "the cosine of u and v after one shared dense layer",
    CROSS: "both sentences read as one sequence, whose embedding goes into the dense layer",
}

_SQUARED_ERROR: dict[str, Loss] = {"mse": "squared_error"}
# The first is the default; the others are functions of the cosine of u and v.
_PAIR_LOSSES: dict[str, Loss] = {**_SQUARED_ERROR, "cosine": "cosine", "cosent": "cosent", "mnrl": "mnrl"}
_SLOTS, _CONCEPTS = len(CONCEPTS), len(CONCEPTS[0])


@dataclass(frozen=True)
class KindOfTask:
    """What tasks of one kind have in common."""

    heads: Mapping[str, str]  # name -> description; the first is the default
    metrics: tuple[str, ...]  # the first is the default
    losses: Mapping[str, Loss]  # their names in a study file; the first is the default
    draw: Callable[[Labels, Random], Row]
    numbers: bool = False  # labels are numbers in a range, not classes
    several: bool = False  # a sentence can have several labels, or none

    @property
    def pairs(self) -> bool:
        """Whether its items are pairs of sentences."""
        return self.heads is PAIR_HEADS

    def labels(self, low: float, top: float, names: tuple[str, ...]) -> Labels:
        """Return the labels of a task of this kind: numbers from `low` to `top`, or classes with or without names."""
        usual = ("gold_label", "score", "is_duplicate", "sentiment", "similarity")
        return Labels("label", top, not self.numbers, low, names, self.several, usual)

    def task(
        self,
        name: str,
        labels: Labels,
        head: str,
        metric: str,
        loss: str,
        loss_options: LossOptions,
        weight: float,
    ) -> Task:
        """Return the task."""
        others = (other for other in self.metrics if other != metric)
        return Task(
            name=name,
            columns=("sentence1", "sentence2") if self.pairs else ("sentence",),
            labels=labels,
            heads={head: self.heads[head]},
            loss=self._loss(labels, loss),
            metrics=(metric, *others),
            draw=partial(self.draw, labels),
            loss_options=loss_options,
            weight=weight,
            joined=head == CROSS,
        )

    def _loss(self, labels: Labels, chosen: str) -> Loss:
        # Two classes need only one logit.
        two = not self.numbers and labels.count == 2
        return "binary_cross_entropy" if two else self.losses[chosen]


# The toy corpus: stories of five slots, whose labels depend on the concepts in them.


def _class_of_story(labels: Labels, draw: Random) -> Row:
    story, concepts = one_story(draw)
    number = sum(concept * _CONCEPTS**slot for slot, concept in enumerate(concepts))
    return Row(story, None, float(number % labels.count))


def _number_of_story(labels: Labels, draw: Random) -> Row:
    story, concepts = one_story(draw)
    return Row(story, None, _in_range(labels, concepts[0] / (_CONCEPTS - 1)))


def _labels_of_story(labels: Labels, draw: Random) -> Row:
    """Label n is one bit of the concept's number in slot n % 5."""
    story, concepts = one_story(draw)
    bits = (concepts[n % _SLOTS] >> n // _SLOTS % 3 & 1 for n in range(labels.count))
    return Row(story, None, tuple(map(float, bits)))


def _class_of_pair(labels: Labels, draw: Random) -> Row:
    label = draw.randrange(labels.count)
    return Row(*two_stories(draw, label * _SLOTS // (labels.count - 1)), float(label))


def _number_of_pair(labels: Labels, draw: Random) -> Row:
    shared = draw.randrange(_SLOTS + 1)
    return Row(*two_stories(draw, shared), _in_range(labels, shared / _SLOTS))


def _in_range(labels: Labels, share: float) -> Label:
    return labels.low + share * (labels.top - labels.low)


_ENTROPY: dict[str, Loss] = {"cross_entropy": "cross_entropy"}
_OF_EACH_LABEL: dict[str, Loss] = {"cross_entropy": "binary_cross_entropy"}
KINDS = {
    "classification": KindOfTask(SENTENCE_HEADS, OF_CLASSES, _ENTROPY, _class_of_story),
    "pair_classification": KindOfTask(PAIR_HEADS, OF_CLASSES, _ENTROPY, _class_of_pair),
    "regression": KindOfTask(SENTENCE_HEADS, OF_NUMBERS, _SQUARED_ERROR, _number_of_story, numbers=True),
    "pair_regression": KindOfTask(PAIR_HEADS, OF_NUMBERS, _PAIR_LOSSES, _number_of_pair, numbers=True),
    "multilabel": KindOfTask(
        SENTENCE_HEADS, OF_SEVERAL_LABELS, _OF_EACH_LABEL, _labels_of_story, several=True
    ),
}
