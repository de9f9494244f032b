"""The sentiment of a sentence: from 0, very negative, to 4, very positive.

In the built-in corpus one phrase decides, by its polarity and strength;
"not" turns "good" into "bad". One label in ten is off by one.
"""

from random import Random

from ablate.trainer.tasks.task import Labels, Row, Task

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


def _review(draw: Random) -> Row:
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


def _judgement(draw: Random, value: int) -> str:
    """Put `value`, from −2 to 2, into words."""
    good, bad, level = (draw.choice(words.split()) for words in (GOOD, BAD, LEVEL))
    same, opposite = (good, bad) if value > 0 else (bad, good)
    if value == 0:
        return level
    if abs(value) == 2:
        return f"{draw.choice(STRONG.split())} {same}"
    return draw.choice((f"{draw.choice(WEAK.split())} {same}", f"not {opposite}"))


SENTIMENT = Task(
    name="sentiment",
    columns=("sentence",),
    labels=Labels("sentiment", top=4, whole=True),
    heads={"sentence": "u"},
    loss="cross_entropy",
    metrics=("accuracy",),
    draw=_review,
)
