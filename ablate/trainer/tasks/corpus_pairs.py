"""Stories, alone or in pairs that agree in a given number of five slots: who, did, what, where, how.

Each slot holds one of eight concepts, and each concept has two words: "the lad quickly found the crate near the harbour". The
preposition, here "near", is one of six. The more the stories of a pair agree, the more often each says "near", "beside" or
"behind" a place rather than "beyond", "past" or "outside" it, so that a single sentence says something about the label, as in
annotated pairs (Gururangan et al. 2018).
"""

from random import Random

WHO = "boy/lad girl/lass doctor/physician teacher/tutor dog/hound lawyer/attorney thief/burglar farmer/grower"
DID = "bought/purchased found/discovered fixed/repaired smashed/shattered grabbed/seized carried/hauled \
washed/cleaned watched/observed"
WHAT = "car/automobile boat/ship cup/mug sofa/couch coat/jacket picture/photo carpet/rug box/crate"
WHERE = "shop/store road/street forest/woods hill/slope house/home harbour/port field/meadow hospital/clinic"
HOW = "quickly/rapidly slowly/gradually quietly/silently angrily/furiously carefully/cautiously \
suddenly/abruptly rarely/seldom proudly/boldly"
CONCEPTS = [[tuple(words.split("/")) for words in slot.split()] for slot in (WHO, DID, WHAT, WHERE, HOW)]
ORDERS = (
    "the {who} {how} {did} the {what} {near} the {where}",
    "{near} the {where} the {who} {how} {did} the {what}",
    "{how} the {who} {did} the {what} {near} the {where}",
    "the {what} was {how} {did} by the {who} {near} the {where}",
    "{near} the {where} the {what} was {did} {how} by the {who}",
)
CLOSE = "near beside behind"
FAR = "beyond past outside"
OTHER_WORD = 0.15  # probability that the second story of a pair uses a concept's other word


def one_story(draw: Random) -> tuple[str, list[int]]:
    """Return a story and the number of the concept in each of its five slots."""
    numbers = [draw.randrange(len(slot)) for slot in CONCEPTS]
    concepts = [slot[number] for slot, number in zip(CONCEPTS, numbers, strict=True)]
    words = [draw.randrange(2) for _ in concepts]
    return _story(draw.choice(ORDERS), _near(draw, 0.5), concepts, words), numbers


def two_stories(draw: Random, shared: int) -> tuple[str, str]:
    """Return two stories that have the same concept in `shared` of the five slots.

    Each says "near", "beside" or "behind" a place with probability 0.2 to 0.8, which rises with `shared`."""
    concepts = [draw.choice(slot) for slot in CONCEPTS]
    others = list(concepts)
    for slot in draw.sample(range(5), 5 - shared):
        others[slot] = draw.choice([concept for concept in CONCEPTS[slot] if concept != concepts[slot]])
    words = [draw.randrange(2) for _ in concepts]
    other_words = [word ^ (draw.random() < OTHER_WORD) for word in words]
    order, other_order = draw.sample(ORDERS, 2)
    near, other_near = (_near(draw, 0.2 + 0.6 * shared / len(CONCEPTS)) for _ in range(2))
    return _story(order, near, concepts, words), _story(other_order, other_near, others, other_words)


def _near(draw: Random, close: float) -> str:
    return draw.choice((CLOSE if draw.random() < close else FAR).split())


def _story(order: str, near: str, concepts: list[tuple[str, ...]], words: list[int]) -> str:
    chosen = [concept[word] for concept, word in zip(concepts, words, strict=True)]
    slots = ("who", "did", "what", "where", "how")
    return order.format(near=near, **dict(zip(slots, chosen, strict=True)))
