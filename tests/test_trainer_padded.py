"""Encoders that are not packed: transformers' own models on micro-batches of sentences of similar length."""

from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_encoders import VOCABULARY, small_model
from test_trainer_packed import LENGTHS, assert_same_gradients, each_pooling, gradients, padded

from ablate.trainer.encoders import padded as padded_path
from ablate.trainer.encoders.padded import PaddedEncoder, cut

COUNTS = np.array(LENGTHS, dtype=np.int32)
KINDS = ["albert", "mpnet", "deberta-v2", "bert", "roberta", "modernbert"]


@pytest.fixture
def many_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every length gets a micro-batch of its own."""
    monkeypatch.setattr(padded_path, "CALL_TOKENS", {"cpu": 0})


@pytest.mark.usefixtures("many_pieces")
@each_pooling
@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_and_gradients_are_those_of_one_padded_batch(kind: str, pooling: str) -> None:
    torch.manual_seed(0)
    model, tokens = small_model(kind), torch.randint(5, VOCABULARY, (sum(LENGTHS),))
    theirs = padded(model, tokens, LENGTHS, pooling)
    ours = PaddedEncoder(model)(tokens, COUNTS, pooling)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-6)
    direction = torch.randn(theirs.shape)
    assert_same_gradients(gradients(model, ours, direction), gradients(model, theirs, direction), 5e-5)


@pytest.mark.usefixtures("many_pieces")
def test_a_causal_model_is_embedded_by_its_last_real_token() -> None:
    torch.manual_seed(0)
    model, tokens = small_model("gpt2"), torch.randint(5, VOCABULARY, (sum(LENGTHS),))
    together = PaddedEncoder(model)(tokens, COUNTS, "last")
    alone = [model(part[None]).last_hidden_state[0, -1] for part in torch.split(tokens, LENGTHS)]
    torch.testing.assert_close(together, torch.stack(alone), rtol=0, atol=5e-6)


def tokens_computed(lengths: list[int], cuts: tuple[int, ...], call_tokens: int) -> int:
    pieces = np.split(np.array(lengths), cuts)
    return sum(len(piece) * int(piece.max()) + call_tokens for piece in pieces)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=7), st.integers(0, 30))
def test_no_other_cuts_need_fewer_tokens(lengths: list[int], call_tokens: int) -> None:
    lengths, places = sorted(lengths), range(1, len(lengths))
    found = tuple(cut(np.array(lengths, dtype=np.int32), call_tokens))
    every = (cuts for count in range(len(lengths)) for cuts in combinations(places, count))
    fewest = min(tokens_computed(lengths, cuts, call_tokens) for cuts in every)
    assert tokens_computed(lengths, found, call_tokens) == fewest


def test_a_batch_of_one_length_stays_whole() -> None:
    assert cut(np.full(32, 9, dtype=np.int32), 64) == []


def test_a_long_sentence_does_not_pad_the_short_ones() -> None:
    assert cut(np.array([5] * 31 + [100], dtype=np.int32), 64) == [31]
