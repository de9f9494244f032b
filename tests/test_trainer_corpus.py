"""The built-in corpus: deterministic, split apart, and with the effects its docstring claims."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from fixture_types import not_none
from torch import Tensor, nn

from ablate.trainer.data.corpus import ROWS, generate
from ablate.trainer.data.examples import Examples, overlap
from ablate.trainer.tasks.corpus_pairs import CLOSE, CONCEPTS
from ablate.trainer.tasks.registry import TASKS

PAIRS = ("paraphrase", "similarity")


@pytest.mark.parametrize("task", TASKS)
def test_the_same_rows_every_time(task: str) -> None:
    once, again = generate(TASKS[task], "dev"), generate(TASKS[task], "dev")
    assert (once.ids, once.first, once.second) == (again.ids, again.first, again.second)
    assert np.array_equal(not_none(once.labels), not_none(again.labels))


def test_rows_are_those_of_every_machine() -> None:
    found = generate(TASKS["paraphrase"], "train", 1)
    assert found.first == ["outside the shop the boat was fixed seldom by the teacher"]
    assert found.second == ["seldom the lawyer shattered the ship near the house"]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("split", ROWS)
def test_default_sizes(task: str, split: str) -> None:
    assert len(generate(TASKS[task], split)) == ROWS[split]


def test_more_rows_begin_with_the_same_rows() -> None:
    assert (
        generate(TASKS["sentiment"], "train", 50).first
        == generate(TASKS["sentiment"], "train", 3000).first[:50]
    )


@pytest.mark.parametrize("task", TASKS)
def test_no_row_is_in_two_splits(task: str) -> None:
    train, dev, test = (generate(TASKS[task], split) for split in ("train", "dev", "test"))
    assert overlap(train, dev) == overlap(train, test) == overlap(dev, test) == 0


def test_five_sentiments_in_even_shares() -> None:
    shares = (
        np.bincount(not_none(generate(TASKS["sentiment"], "train").labels).astype(int), minlength=5)
        / ROWS["train"]
    )
    assert shares.min() > 0.15


def test_half_of_the_pairs_are_paraphrases() -> None:
    assert not_none(generate(TASKS["paraphrase"], "train").labels).mean() == pytest.approx(0.5, abs=0.04)


def test_similarity_spans_its_scale() -> None:
    labels = not_none(generate(TASKS["similarity"], "train").labels)
    assert labels.min() == 0
    assert labels.max() == 5
    assert 1.2 < labels.std() < 2


def test_labels_are_noisy_so_that_no_model_can_be_perfect() -> None:
    words = {word: number for slot in CONCEPTS for number, concept in enumerate(slot) for word in concept}
    found = generate(TASKS["paraphrase"], "train")
    same = [
        sorted(words[word] for word in u.split() if word in words)
        == sorted(words[word] for word in v.split() if word in words)
        for u, v in zip(found.first, not_none(found.second), strict=True)
    ]
    assert 0.92 < (np.array(same) == found.labels).mean() < 0.97


def test_not_turns_a_judgement_round() -> None:
    found = generate(TASKS["sentiment"], "train")
    labels = [
        label for text, label in zip(found.first, not_none(found.labels), strict=True) if "not good" in text
    ]
    assert len(labels) > 5
    assert np.mean(np.array(labels) < 2) > 0.8


def test_difference_beats_concat_by_far() -> None:
    assert score("paraphrase", "difference") > score("paraphrase", "concat") + 0.1


def test_siamese_beats_concat_by_far() -> None:
    assert score("similarity", "siamese") > score("similarity", "concat") + 0.25


def test_a_single_sentence_hints_at_the_label_of_its_pair() -> None:
    found = generate(TASKS["paraphrase"], "train", 6000)
    close = np.array([any(word in CLOSE.split() for word in story.split()) for story in found.first])
    assert (close == found.labels).mean() == pytest.approx(0.66, abs=0.02)


def test_the_hint_is_worth_what_the_docstring_says() -> None:
    paraphrase, similarity = (generate(TASKS[task], "train", 6000) for task in PAIRS)
    both = close_places(paraphrase) == 2
    assert (both == paraphrase.labels).mean() == pytest.approx(0.7, abs=0.015)
    correlation = np.corrcoef(close_places(similarity), not_none(similarity.labels))[0, 1]
    assert correlation == pytest.approx(0.53, abs=0.015)


@pytest.mark.parametrize(("task", "least"), [("paraphrase", 0.62), ("similarity", 0.35)])
def test_the_default_head_learns_that_hint(task: str, least: float) -> None:
    assert score(task, "concat") > least


def close_places(found: Examples) -> npt.NDArray[np.int64]:
    """Return how many of the two stories of each pair say "near", "beside" or "behind" a place: [n]."""
    pairs = zip(found.first, not_none(found.second), strict=True)
    return np.array([sum(any(word in CLOSE.split() for word in s.split()) for s in pair) for pair in pairs])


class BagOfWords(nn.Module):
    """The smallest encoder there is: the mean of its words' embeddings, under the heads the trainer has."""

    def __init__(self, words: int, head: str) -> None:
        super().__init__()
        self.head = head
        self.embed = nn.EmbeddingBag(words, 64)
        self.dense = nn.Linear({"concat": 128, "difference": 192, "siamese": 64}[head], 64)
        self.out = nn.Linear(64, 1)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        u, v = self.embed(first), self.embed(second)
        if self.head == "siamese":
            return 5 * nn.functional.cosine_similarity(self.dense(u), self.dense(v))
        features = {"concat": [u, v], "difference": [u, v, (u - v).abs()]}[self.head]
        scores: Tensor = self.out(torch.relu(self.dense(torch.cat(features, 1))))
        return scores[:, 0]


def score(task: str, head: str, steps: int = 150, batch: int = 32) -> float:
    """Train on the corpus; return dev accuracy, or Pearson's r for similarity."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    train, dev = generate(TASKS[task], "train"), generate(TASKS[task], "dev")
    words = {word: number for number, word in enumerate(sorted({w for t in train.first for w in t.split()}))}
    model = BagOfWords(len(words) + 1, head)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    inputs, gold = numbered(train, words), torch.tensor(train.labels, dtype=torch.float32)
    loss_of = (
        nn.functional.mse_loss if task == "similarity" else nn.functional.binary_cross_entropy_with_logits
    )
    for _ in range(steps):
        rows = torch.randint(len(train), (batch,))
        optimizer.zero_grad()
        loss_of(model(*(side[rows] for side in inputs)), gold[rows]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        predicted = model(*numbered(dev, words)).numpy()
    if task == "similarity":
        return float(np.corrcoef(predicted, dev.labels)[0, 1])
    return float(np.mean((predicted > 0) == dev.labels))


def numbered(found: Examples, words: dict[str, int]) -> list[Tensor]:
    """Return both sides as word numbers [n, 11]; shorter stories are filled with one unused word."""
    unused = len(words)
    sides = []
    for texts in (found.first, found.second):
        rows = [[words.get(word, unused) for word in text.split()] for text in not_none(texts)]
        sides.append(torch.tensor([row + [unused] * (11 - len(row)) for row in rows]))
    return sides
