import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from trainer_context import small
from transformers import AutoModel, DistilBertConfig, DistilBertModel

from ablate.errors import BadInput, Unavailable
from ablate.trainer.encoders.loading import load_encoder, tiny, wrap
from ablate.trainer.encoders.padded import PaddedEncoder
from ablate.trainer.training.checking import check

CPU = torch.device("cpu")
LENGTHS = np.array([5, 2, 7, 2], dtype=np.int32)
TOKENS = torch.randint(5, 50, (16,), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pretrained encoder of another kind than BERT, without a tokenizer."""
    torch.manual_seed(0)
    config = DistilBertConfig(
        vocab_size=50, dim=16, n_layers=1, n_heads=2, hidden_dim=32, max_position_embeddings=32
    )
    DistilBertModel(config).save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_each_sentence_is_embedded_as_if_alone(pooling: str, folder: Path) -> None:
    encoder = load_encoder(small(encoder=str(folder)), 50, 0, CPU)
    encoder.module.eval()
    with torch.no_grad():
        together = encoder.module(TOKENS, LENGTHS, pooling)
        alone = [
            encoder.module(sentence, LENGTHS[i : i + 1], pooling)
            for i, sentence in enumerate(torch.split(TOKENS, LENGTHS.tolist()))
        ]
    assert torch.allclose(together, torch.cat(alone), atol=1e-6)


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_bert_with_and_without_padding_agree(pooling: str) -> None:
    model = tiny(small(dropout=0.0), 50, 0)
    packed = wrap(model, CPU).module
    assert not isinstance(packed, PaddedEncoder)
    padded = PaddedEncoder(model)
    assert torch.allclose(packed(TOKENS, LENGTHS, pooling), padded(TOKENS, LENGTHS, pooling), atol=1e-6)


def test_a_second_trial_starts_from_pristine_weights_in_memory(folder: Path) -> None:
    first = load_encoder(small(encoder=str(folder)), 50, 0, CPU)
    loaded = first.flat.values.clone()
    first.flat.values.add_(1.0)
    second = load_encoder(small(encoder=str(folder)), 50, 1, CPU)
    assert second is first
    assert torch.equal(second.flat.values, loaded)


def test_tiny_is_drawn_from_the_seed_alone() -> None:
    first, again, other = (tiny(small(), 50, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(
        first["embeddings.word_embeddings.weight"], other["embeddings.word_embeddings.weight"]
    )


def test_what_is_trained_is_what_transformers_loads(folder: Path) -> None:
    encoder = load_encoder(small(encoder=str(folder)), 50, 0, CPU)
    theirs = AutoModel.from_pretrained(folder).state_dict()
    ours = encoder.module.hf_state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_frozen_encoder_asks_for_no_gradients(folder: Path) -> None:
    module = load_encoder(small(encoder=str(folder), freeze_encoder=True), 50, 0, CPU).module
    assert not any(parameter.requires_grad for parameter in module.parameters())


def refused(folder: Path | str, **settings: Any) -> str:
    with pytest.raises(BadInput) as caught:
        check(small(encoder=str(folder), **settings))
    return str(caught.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    assert "no such folder" in refused(tmp_path / "nowhere")


def test_a_pickle_is_not_opened(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weights": 1}))
    assert "only pytorch_model.bin (pickles can run code" in refused(folder)


def test_truncated_weights_are_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "damaged weights" in refused(folder)


def test_weights_that_are_not_in_the_file_are_not_drawn_at_random(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"n_layers": 2}))
    with pytest.raises(BadInput, match=r"16 of its weights are not in the file, first transformer\.layer\.1"):
        load_encoder(small(encoder=str(folder)), 50, 0, CPU)


def test_a_folder_without_a_tokenizer_is_refused(folder: Path) -> None:
    assert "no tokenizer" in refused(folder)


def test_weights_that_know_fewer_tokens_than_the_tokenizer_are_refused(folder: Path) -> None:
    with pytest.raises(BadInput, match="60 tokens but its weights have 50"):
        load_encoder(small(encoder=str(folder)), 60, 0, CPU)


def test_faults_of_data_and_encoder_are_told_together(tmp_path: Path) -> None:
    data = {"sentiment": {"files": str(tmp_path / "x-{split}.csv")}}
    told = refused(tmp_path / "nowhere", data=data)
    assert "x-train.csv" in told
    assert "encoder: " in told


def test_a_hub_name_without_network_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from ablate.trainer.data.hub import hub_answers

    hub_answers.cache_clear()
    with pytest.raises(Unavailable, match="HF_HOME"):
        check(small(encoder="nobody/has-this-encoder"))
    hub_answers.cache_clear()


@pytest.mark.assets
@pytest.mark.skipif("ABLATE_TEST_ASSETS" not in os.environ, reason="ABLATE_TEST_ASSETS names no folder")
def test_minilm_embeds_as_transformers_does() -> None:
    folder = Path(os.environ["ABLATE_TEST_ASSETS"]) / "weights" / "minilm-l6-h384"
    encoder = load_encoder(small(encoder=str(folder), dropout=0.0), 30522, 0, CPU)
    theirs = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.tensor([[101, 2023, 2003, 102]])
    with torch.no_grad():
        expected = theirs(input_ids=ids).last_hidden_state[:, 0]
        found = encoder.module(ids[0], np.array([4], dtype=np.int32), "cls")
    assert torch.allclose(found, expected, atol=1e-5)
