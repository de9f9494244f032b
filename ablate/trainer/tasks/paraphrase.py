"""Whether two sentences mean the same: 0 or 1.

In the built-in corpus, 1 means that both stories have the same five concepts, in another order and partly in other words; with 0,
three of the concepts differ. One label in twenty is wrong. Stories that mean the same more often say "near",
"beside" or "behind" a place than "beyond", "past" or "outside" it.
"""

from random import Random

from ablate.trainer.tasks.corpus_pairs import two_stories
from ablate.trainer.tasks.task import Labels, Row, Task

CHANGED = 3  # concepts of five that differ between two stories that do not mean the same


def _pair(draw: Random) -> Row:
    same = draw.random() < 0.5
    first, second = two_stories(draw, shared=5 if same else 5 - CHANGED)
    wrong = draw.random() < 0.05
    return Row(first, second, float(same != wrong))


PARAPHRASE = Task(
    name="paraphrase",
    columns=("sentence1", "sentence2"),
    labels=Labels("is_duplicate", top=1, whole=True),
    heads={
        "concat": "[u, v] into the dense layer",
        "difference": "[u, v, |u - v|] into the dense layer",
    },
    loss="binary_cross_entropy",
    metrics=("accuracy",),
    draw=_pair,
)
