"""Encoders that cannot do what the study asks are refused by `check`, before anything is trained."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_encoders import VOCABULARY, save_encoder
from trainer_context import small
from transformers import (
    AutoConfig,
    BertConfig,
    EncoderDecoderConfig,
    Gemma3TextConfig,
    RobertaConfig,
    T5EncoderModel,
)

from ablate.errors import BadInput
from ablate.trainer.encoders.configuration import is_causal, positions_of, refuse_misfits, set_dropout
from ablate.trainer.encoders.loading import load_encoder
from ablate.trainer.training.checking import check

LENGTH = 16


def refused(folder: Path, **settings: Any) -> str:
    with pytest.raises(BadInput) as caught:
        check(small(encoder=str(folder), **{"max_length": LENGTH, **settings}))
    return str(caught.value)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_the_first_token_of_a_causal_model_is_no_embedding(kind: str, tmp_path: Path) -> None:
    message = refused(save_encoder(tmp_path, kind))
    assert "is causal: its first token sees no other" in message
    assert "use `pooling: last` or `pooling: mean`" in message


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_other_tokens_of_a_causal_model_are(pooling: str, tmp_path: Path) -> None:
    check(small(encoder=str(save_encoder(tmp_path, "gpt2")), pooling=pooling, max_length=LENGTH))


def test_a_decoder_is_causal_whatever_its_family() -> None:
    assert is_causal(BertConfig(is_decoder=True))
    assert not is_causal(BertConfig())


@pytest.mark.parametrize("kind", ["xlnet", "bert-generation", "modernbert", "bart"])
def test_models_that_can_also_generate_are_not_causal(kind: str) -> None:
    assert not is_causal(AutoConfig.for_model(kind))


def test_a_language_model_that_attends_to_both_sides_is_an_encoder() -> None:
    assert is_causal(Gemma3TextConfig())
    assert not is_causal(Gemma3TextConfig(use_bidirectional_attention=True))


def test_an_encoder_without_positions_takes_sentences_of_any_length(tmp_path: Path) -> None:
    check(small(encoder=str(save_encoder(tmp_path, "xlnet")), max_length=8192))


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta", "camembert", "data2vec-text", "mpnet"])
def test_positions_begin_behind_the_padding_token(kind: str) -> None:
    assert positions_of(AutoConfig.for_model(kind, max_position_embeddings=34, pad_token_id=1)) == 32


def test_sentences_longer_than_the_positions_are_refused() -> None:
    config = RobertaConfig(max_position_embeddings=34, pad_token_id=1)
    with pytest.raises(BadInput, match="has 32 positions, found 33; use 32 or less"):
        refuse_misfits(small(max_length=33), config, vocab_size=50)


def test_an_encoder_decoder_is_called_one(tmp_path: Path) -> None:
    assert "t5 is an encoder-decoder, not a sentence encoder" in refused(save_encoder(tmp_path, "t5"))


def test_a_saved_half_of_one_too(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path, "t5")
    T5EncoderModel(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["is_encoder_decoder"] is False
    assert "t5 is an encoder-decoder, not a sentence encoder" in refused(folder)


def test_a_tokenizer_larger_than_the_embedding_is_refused(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path, "bert", vocab_size=VOCABULARY - 5)
    assert f"its tokenizer has {VOCABULARY} tokens but its weights have {VOCABULARY - 5}" in refused(folder)


def test_all_misfits_are_reported_at_once(tmp_path: Path) -> None:
    message = refused(save_encoder(tmp_path, "gpt2", vocab_size=VOCABULARY - 5), max_length=LENGTH + 1)
    assert all(part in message for part in ("is causal", "has 16 positions, found 17", "its tokenizer has"))


def test_a_sentencepiece_model_alone_is_named_with_what_makes_a_tokenizer_of_it(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path, "deberta-v2")
    for file in (*folder.glob("tokenizer*"), *folder.glob("vocab*")):
        file.unlink()
    (folder / "spm.model").write_bytes(b"a SentencePiece model")
    message = refused(folder)
    assert "no tokenizer (tokenizer.json or vocab.txt); spm.model belongs to a slow tokenizer" in message
    assert "pip install sentencepiece protobuf" in message


def test_weights_listed_in_an_index_must_be_there(tmp_path: Path) -> None:
    folder = save_encoder(tmp_path, "bert")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00002-of-00002.safetensors: listed in model.safetensors.index.json" in refused(folder)


@pytest.mark.parametrize("kind", ["funnel", "modernbert", "gpt2", "distilbert", "electra", "deberta-v2"])
def test_the_study_says_how_much_dropout(kind: str, tmp_path: Path) -> None:
    settings = small(
        encoder=str(save_encoder(tmp_path, kind)), max_length=LENGTH, dropout=0.3, pooling="mean"
    )
    module = load_encoder(settings, VOCABULARY, 0, torch.device("cpu")).module
    assert {part.p for part in module.modules() if isinstance(part, torch.nn.Dropout)} == {0.3}


def test_dropout_is_set_in_configurations_inside_a_configuration() -> None:
    config = EncoderDecoderConfig(encoder=BertConfig().to_dict(), decoder=BertConfig().to_dict())
    set_dropout(config, 0.3)
    assert config.to_dict()["encoder"]["hidden_dropout_prob"] == 0.3


def test_only_probabilities_are_set() -> None:
    config = AutoConfig.for_model("esm", token_dropout=True)
    set_dropout(config, 0.3)
    assert config.token_dropout is True


def test_a_sentence_without_any_token_gets_one(tmp_path: Path) -> None:
    """GPT-2's tokenizer puts no special tokens around a text, so that a blank one would be embedded from nothing."""
    from ablate.trainer.data.tokenizer import make_tokenizer

    tokenizer = make_tokenizer(str(save_encoder(tmp_path, "gpt2")), ())
    tokenizer._wrapped.backend_tokenizer.post_processor = None
    assert [len(row) for row in tokenizer.encode(["", "w1 w2"], 8)] == [1, 2]
