import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tracing import needs_strace, place, traced
from trainer_context import Notebook, small
from transformers import AutoModel, AutoTokenizer

from ablate import trainer
from ablate.errors import Unavailable
from ablate.trainer import train
from ablate.trainer.training.loop import Training
from ablate.trainer.training.saving import weights_sha256


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Training, Notebook]:
    context = Notebook(tmp_path_factory.mktemp("trained"))
    training = Training(small(), context)
    training.run()
    return training, context


def test_transformers_loads_the_trained_encoder(trained: tuple[Training, Notebook]) -> None:
    training, context = trained
    model = AutoModel.from_pretrained(context.workdir / "model", add_pooling_layer=False).eval()
    ids = AutoTokenizer.from_pretrained(context.workdir / "model")("a sentence", return_tensors="pt")[
        "input_ids"
    ]
    training.encoder.module.eval()
    with torch.no_grad():
        expected = model(ids).last_hidden_state[:, 0]
        found = training.encoder.module(ids[0], np.array([ids.shape[1]], dtype=np.int32), "cls")
    assert torch.allclose(found, expected, atol=1e-5)


def test_heads_and_their_settings_stand_beside_it(trained: tuple[Training, Notebook]) -> None:
    training, context = trained
    saved = load_file(context.workdir / "model" / "heads.safetensors")
    assert torch.equal(saved["sentiment.out.bias"], training.heads["sentiment"].get_parameter("out.bias"))
    about = json.loads((context.workdir / "model" / "heads.json").read_text())
    assert about["settings"] == training.settings.model_dump(mode="json")


def test_the_digest_notices_one_bit(trained: tuple[Training, Notebook]) -> None:
    training, _ = trained
    weights = {name: value.clone() for name, value in training.encoder.module.hf_state_dict().items()}
    before = weights_sha256(weights)
    assert weights_sha256(dict(reversed(weights.items()))) == before
    next(iter(weights.values())).view(torch.int32).view(-1)[0] ^= 1
    assert weights_sha256(weights) != before


def test_nothing_temporary_is_left(trained: tuple[Training, Notebook]) -> None:
    _, context = trained
    assert sorted(file.name for file in context.workdir.iterdir()) == ["model", "weights.json"]


@needs_strace
def test_model_and_weights_are_on_the_disk_before_they_get_their_names(tmp_path: Path) -> None:
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    code = f"""
import sys
sys.path[:0] = {paths}
from pathlib import Path
from tracing import needs_strace, place, traced
from trainer_context import Notebook, small
from ablate.trainer import train
train(small(max_steps=1), Notebook(Path("trial").resolve()))
"""
    calls = traced(tmp_path / "trace.txt", sys.executable, "-c", code)
    named = place(calls, r'rename.*/model"')
    for file in ("config.json", "model.safetensors", "tokenizer.json", "heads.safetensors", "heads.json"):
        assert place(calls, rf"fsync.*/{file}>") < named
    assert named < place(calls, r"fsync.*/\.weights\.json") < place(calls, r'rename.*/weights\.json"')


def test_a_model_that_was_not_kept_is_asked_for_in_words(tmp_path: Path) -> None:
    context = Notebook(tmp_path)
    train(small(keep="none"), context)
    assert [file.name for file in context.workdir.iterdir()] == ["weights.json"]
    with pytest.raises(Unavailable, match="keep: model"):
        trainer.test(small(keep="none"), context)


def test_a_large_model_is_kept_only_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ablate.trainer.training.saving.AUTO_BYTES", 1000)
    for keep, kept in (("auto", False), ("model", True)):
        context = Notebook(tmp_path / keep)
        train(small(keep=keep), context)
        assert (context.workdir / "model").exists() is kept
