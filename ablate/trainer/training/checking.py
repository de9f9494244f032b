"""Check the data and the encoder before anything is trained. Checks that passed are not repeated in the same process."""

import json
from functools import partial
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ablate.errors import BadInput
from ablate.trainer.data.pretrained import TINY
from ablate.trainer.data.reading import check_sources
from ablate.trainer.settings import Settings

_INDEX = "model.safetensors.index.json"
_checked: set[tuple[str, int, str]] = set()  # encoders, lengths and poolings that passed in this process


def check(settings: Settings) -> None:
    """Read the train and dev data of the tasks and the encoder's configuration, tokenizer and weight headers.

    Raises:
        BadInput: every fault of the data and of the encoder.
        Unavailable: a hub name that is neither cached nor downloadable.
    """
    faults: list[str] = []
    for check_one in (partial(check_sources, settings.sources), partial(_check_encoder, settings)):
        try:
            check_one()
        except BadInput as error:
            faults += error.faults
    if faults:
        raise BadInput(*faults)


def _check_encoder(settings: Settings) -> None:
    key = (settings.encoder, settings.max_length, settings.pooling)
    if settings.encoder == TINY or key in _checked:
        return
    # These load torch.
    from ablate.trainer.data.tokenizer import make_tokenizer
    from ablate.trainer.encoders.configuration import read_config, refuse_misfits

    folder = Path(settings.encoder).expanduser()
    if folder.is_dir():
        _check_weights(settings.encoder, folder)
    config = read_config(settings.encoder)
    refuse_misfits(settings, config, make_tokenizer(settings.encoder, ()).vocab_size)
    _checked.add(key)


def _check_weights(encoder: str, folder: Path) -> None:
    """Refuse a folder without safetensors, and files whose header does not match their size."""
    files = _weight_files(folder)
    if not files:
        pickles = ", ".join(sorted(file.name for file in folder.glob("*.bin")))
        found = f"only {pickles} (pickles can run code, so they are not loaded)" if pickles else "no weights"
        raise BadInput(f"encoder: {encoder}: found {found}; give a folder with model.safetensors")
    for file in files:
        try:
            # Opening checks the header against the size of the file; no weights are read.
            with safe_open(file, "np"):
                pass
        except FileNotFoundError:
            raise BadInput(f"encoder: {file}: listed in {_INDEX}, but missing; copy it too") from None
        except (OSError, SafetensorError) as error:
            raise BadInput(f"encoder: {file}: damaged weights ({error}); copy the file again") from error


def _weight_files(folder: Path) -> list[Path]:
    """Return the files that transformers reads: one, or those listed in an index."""
    whole, index = folder / "model.safetensors", folder / _INDEX
    if whole.exists() or not index.exists():
        return [whole] if whole.exists() else []
    try:
        return sorted({folder / name for name in json.loads(index.read_text())["weight_map"].values()})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(
            f"encoder: {index}: not an index of weights ({error!r}); copy the file again"
        ) from error
