"""The built-in corpus: sentences from a small grammar for three tasks, with effects known by construction.

It needs no network and no file, is the same on every machine, and has no end: row n of a split is decided by
the task, the split and n alone. A text belongs to one split by its own hash, so no text is in two splits.

*Stories* have five slots (who, did, what, where, how); each slot holds one of eight concepts, and each
concept has two words for it: "the lad quickly found the crate near the harbour". *Reviews* judge one thing.

    sentiment    0-4: two below, one below, level, one above, two above. Polarity and strength of the one
                 judging phrase decide; "not" turns "good" into "bad". One label in ten is off by one.
    paraphrase   1: both stories have the same five concepts, told in another order and partly in other words.
                 0: the same, with three of the concepts changed. One label in twenty is wrong.
    similarity   0-5: in how many slots the two stories have the same concept, give or take a quarter.

A pair's label depends on *whether* the sentences agree and not on what they say: neither alone tells anything
of it. What must come out is therefore known:

    paraphrase_head: difference   helps much: |u−v| shows agreement; from [u, v] it has to be discovered
    similarity_head: siamese      helps much: the cosine is agreement
    l2: 0.0 against 0.0001        does nothing: a step shrinks a weight by lr × l2, one part in ten million
    training, reshuffle           nothing is planted here: rows are independent draws

With the `tiny` encoder, mean pooling and 150 steps of batch 16 at learning rate 1e-3, paraphrase goes from
accuracy .52 (concat) to .77 (difference), similarity from r = −.1 (concat) to .8 (siamese). With cls pooling a
model this young needs many more steps.
"""

import hashlib
import random
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ablate.trainer.data.sources import Examples

VERSION = 1  # raise it when any row changes: tokens are cached under it
ROWS = {"train": 1500, "dev": 400, "test": 400}
_SHARE = {"train": 0.6, "dev": 0.2, "test": 0.2}  # of all possible texts

WHO = "boy/lad girl/lass doctor/physician teacher/tutor dog/hound lawyer/attorney thief/burglar farmer/grower"
DID = "bought/purchased found/discovered fixed/repaired smashed/shattered grabbed/seized carried/hauled \
washed/cleaned watched/observed"
WHAT = "car/automobile boat/ship cup/mug sofa/couch coat/jacket picture/photo carpet/rug box/crate"
WHERE = "shop/store road/street forest/woods hill/slope house/home harbour/port field/meadow hospital/clinic"
HOW = "quickly/rapidly slowly/gradually quietly/silently angrily/furiously carefully/cautiously \
suddenly/abruptly rarely/seldom proudly/boldly"
CONCEPTS = [[tuple(words.split("/")) for words in slot.split()] for slot in (WHO, DID, WHAT, WHERE, HOW)]
ORDERS = (
    "the {who} {how} {did} the {what} near the {where}",
    "near the {where} the {who} {how} {did} the {what}",
    "{how} the {who} {did} the {what} near the {where}",
    "the {what} was {how} {did} by the {who} near the {where}",
    "near the {where} the {what} was {did} {how} by the {who}",
)
CHANGED = 3  # concepts of five that differ between two stories that do not mean the same
OTHER_WORD = 0.15  # how often the second story of a pair has a concept's other word

GOOD = "good great lovely funny clever moving charming fresh warm gripping"
BAD = "bad poor dull boring clumsy tiresome bland stale cold sloppy"
LEVEL = "average ordinary usual typical plain passable"
STRONG = "very truly deeply utterly remarkably"
WEAK = "rather fairly somewhat mildly slightly"
TOPIC = "plot story acting dialogue music ending camera pacing humour script cast direction editing lighting"
OPENING = "|i think|to me|for once|in short|all told|as expected|they say"
CLOSING = (
    "|in this film|in this movie|on the whole|at its heart|for two hours|in every scene|from start to finish"
)


class Row(NamedTuple):
    """One example before it has an id."""

    first: str
    second: str | None
    label: float


def generate(task: str, split: str, rows: int | None = None) -> "Examples":
    """Return the first `rows` rows of a split (by default 1500 to train on and 400 each for dev and test)."""
    import numpy as np

    from ablate.trainer.data.sources import Examples

    wanted = ROWS[split] if rows is None else rows
    made = [row for row, _ in zip(_rows(task, split), range(wanted), strict=False)]
    return Examples(
        ids=[f"{task}-{split}-{number}" for number in range(wanted)],
        first=[row.first for row in made],
        second=None if task == "sentiment" else [str(row.second) for row in made],
        labels=np.array([row.label for row in made], dtype=np.float64),
    )


def _rows(task: str, split: str) -> Iterator[Row]:
    """Yield rows without end, all of whose texts belong to `split`."""
    draw = random.Random(f"{VERSION} {task} {split}")
    make: Callable[[random.Random], Row] = {
        "sentiment": _review,
        "paraphrase": _pair,
        "similarity": _graded_pair,
    }[task]
    while True:
        row = make(draw)
        if _split_of(row.first) == split and (row.second is None or _split_of(row.second) == split):
            yield row


def _split_of(text: str) -> str:
    place = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest()) / 2**32
    return (
        "train" if place < _SHARE["train"] else "dev" if place < _SHARE["train"] + _SHARE["dev"] else "test"
    )


def _review(draw: random.Random) -> Row:
    value = draw.randrange(-2, 3)
    topics = draw.sample(TOPIC.split(), 2)
    words = [
        draw.choice(OPENING.split("|")),
        f"the {topics[0]} of the {topics[1]}" if draw.random() < 0.3 else f"the {topics[0]}",
        draw.choice(("is", "was", "seems", "looked")),
        _judgement(draw, value),
        draw.choice(CLOSING.split("|")),
    ]
    if draw.random() < 0.1:
        value += draw.choice((-1, 1))
    return Row(" ".join(word for word in words if word), None, float(min(4, max(0, value + 2))))


def _judgement(draw: random.Random, value: int) -> str:
    """Say `value`, from −2 to 2, in words."""
    good, bad, level = (draw.choice(words.split()) for words in (GOOD, BAD, LEVEL))
    same, opposite = (good, bad) if value > 0 else (bad, good)
    if value == 0:
        return level
    if abs(value) == 2:
        return f"{draw.choice(STRONG.split())} {same}"
    return draw.choice((f"{draw.choice(WEAK.split())} {same}", f"not {opposite}"))


def _pair(draw: random.Random) -> Row:
    same = draw.random() < 0.5
    row = _stories(draw, shared=5 if same else 5 - CHANGED)
    wrong = draw.random() < 0.05
    return Row(row[0], row[1], float(same != wrong))


def _graded_pair(draw: random.Random) -> Row:
    shared = draw.randrange(6)
    first, second = _stories(draw, shared)
    return Row(first, second, round(min(5.0, max(0.0, shared + draw.gauss(0, 0.25))), 2))


def _stories(draw: random.Random, shared: int) -> tuple[str, str]:
    """Tell two stories that have the same concept in `shared` of the five slots."""
    concepts = [draw.choice(slot) for slot in CONCEPTS]
    others = list(concepts)
    for slot in draw.sample(range(5), 5 - shared):
        others[slot] = draw.choice([concept for concept in CONCEPTS[slot] if concept != concepts[slot]])
    words = [draw.randrange(2) for _ in concepts]
    other_words = [word ^ (draw.random() < OTHER_WORD) for word in words]
    order, other_order = draw.sample(ORDERS, 2)
    return _told(order, concepts, words), _told(other_order, others, other_words)


def _told(order: str, concepts: list[tuple[str, ...]], words: list[int]) -> str:
    chosen = [concept[word] for concept, word in zip(concepts, words, strict=True)]
    return order.format(**dict(zip(("who", "did", "what", "where", "how"), chosen, strict=True)))
