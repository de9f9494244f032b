"""The trained model in its folder: the encoder as transformers loads it, and the heads. Only safetensors and JSON.

model/config.json, model.safetensors, tokenizer files    the encoder, for AutoModel and AutoTokenizer
model/heads.safetensors                                  `<task>.<parameter>`
model/heads.json                                         the settings the heads were built with
weights.json                                             sha256 of all trained weights, kept even without the model
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ablate.errors import Unavailable
from ablate.files import new_folder, write_file
from ablate.trainer.data.pretrained import quiet
from ablate.trainer.data.tokens import Tokens
from ablate.trainer.encoders.loading import Encoder
from ablate.trainer.settings import Settings

AUTO_BYTES = 128 * 2**20  # the largest model that `keep: auto` keeps


def save_results(
    workdir: Path, settings: Settings, encoder: Encoder, heads: Mapping[str, nn.Module], tokens: Tokens
) -> None:
    """Write `weights.json` and, depending on `settings.keep`, `model/`."""
    weights = encoder.module.hf_state_dict()
    head_weights = {
        f"{task}.{name}": value for task, head in heads.items() for name, value in head.state_dict().items()
    }
    digest = weights_sha256({f"encoder.{name}": value for name, value in weights.items()} | head_weights)
    size = sum(value.nbytes for value in (*weights.values(), *head_weights.values()))
    if settings.keep == "model" or (settings.keep == "auto" and size <= AUTO_BYTES):
        with new_folder(workdir / "model") as folder:
            with quiet():
                encoder.config.save_pretrained(folder)
            save_file(_own_storage(weights), folder / "model.safetensors", metadata={"format": "pt"})
            save_file(_own_storage(head_weights), folder / "heads.safetensors")
            about = {"hidden_size": encoder.hidden_size, "settings": settings.model_dump(mode="json")}
            (folder / "heads.json").write_bytes(_json(about))
            tokens.save_tokenizer(folder)
    write_file(workdir / "weights.json", _json({"sha256": digest, "bytes": size}))


def weights_sha256(weights: Mapping[str, Tensor]) -> str:
    """Return a digest of names, shapes and bits that does not depend on their order."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(f"{name} {tuple(weights[name].shape)} {weights[name].dtype}\n".encode())
        digest.update(weights[name].detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def load_heads(folder: Path) -> dict[str, dict[str, Tensor]]:
    """Return task -> parameter -> value of a saved model.

    Raises:
        Unavailable: the model was not saved.
    """
    file = folder / "heads.safetensors"
    if not file.exists():
        raise Unavailable(
            f"{folder}: the trained model was not saved; train again with `keep: model` "
            f"(`keep: auto` saves models of at most {AUTO_BYTES >> 20} MiB)"
        )
    heads: dict[str, dict[str, Tensor]] = {}
    for name, value in load_file(file).items():
        task, _, parameter = name.partition(".")
        heads.setdefault(task, {})[parameter] = value
    return heads


def _own_storage(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # safetensors refuses shared storage.
    return {name: value.detach().cpu().clone() for name, value in weights.items()}


def _json(document: object) -> bytes:
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()
