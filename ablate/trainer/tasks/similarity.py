"""How much of their meaning two sentences share: from 0, nothing, to 5, all of it.

In the built-in corpus it is the number of slots in which the two stories have the same concept, plus noise of standard deviation
0.25. The more they share, the more often both say "near", "beside" or "behind" a place rather than "beyond", "past" or
"outside" it.
"""

from random import Random

from ablate.trainer.tasks.corpus_pairs import two_stories
from ablate.trainer.tasks.task import Labels, Row, Task


def _graded_pair(draw: Random) -> Row:
    shared = draw.randrange(6)
    first, second = two_stories(draw, shared)
    return Row(first, second, round(min(5.0, max(0.0, shared + draw.gauss(0, 0.25))), 2))


SIMILARITY = Task(
    name="similarity",
    columns=("sentence1", "sentence2"),
    labels=Labels("similarity", top=5, whole=False),
    heads={
        "concat": "regression on [u, v]",
        "siamese": "5 x the cosine of u and v after one shared dense layer",
    },
    loss="squared_error",
    metrics=("pearson",),
    draw=_graded_pair,
)
