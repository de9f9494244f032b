"""Look at the data and the encoder before anything is trained. What was fine is not looked at again."""

from pathlib import Path

from safetensors import SafetensorError, safe_open

from ablate.errors import BadInput
from ablate.trainer.data.pretrained import TINY
from ablate.trainer.data.reading import check_sources
from ablate.trainer.settings import Settings

_checked: set[tuple[str, int]] = set()  # encoders and lengths that were fine, in this process


def check(settings: Settings) -> None:
    """Read the training and dev data of the tasks and the encoder's configuration, tokenizer and weights'
    header.

    Raises:
        BadInput: every fault of the data and of the encoder.
        Unavailable: a hub name that is neither on this machine nor to be had.
    """
    faults: list[str] = []
    try:
        check_sources({task: getattr(settings.data, task) for task in settings.tasks})
    except BadInput as error:
        faults += error.faults
    try:
        _check_encoder(settings)
    except BadInput as error:
        faults += error.faults
    if faults:
        raise BadInput(*faults)


def _check_encoder(settings: Settings) -> None:
    key = (settings.encoder, settings.max_length)
    if settings.encoder == TINY or key in _checked:
        return
    from ablate.trainer.data.tokenizer import make_tokenizer
    from ablate.trainer.encoders.loading import read_config, refuse_long_sentences  # loads torch

    folder = Path(settings.encoder).expanduser()
    if folder.is_dir():
        _check_weights(settings.encoder, folder)
    refuse_long_sentences(settings, read_config(settings.encoder))
    make_tokenizer(settings.encoder, ())
    _checked.add(key)


def _check_weights(encoder: str, folder: Path) -> None:
    """Refuse a folder without safetensors, or with a damaged one: a header that does not fit the file's
    size."""
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        pickles = ", ".join(sorted(file.name for file in folder.glob("*.bin")))
        found = (
            f"only {pickles} (a pickle, which can run code and is not loaded)" if pickles else "no weights"
        )
        raise BadInput(f"encoder: {encoder}: found {found}; a folder with model.safetensors would do")
    for file in files:
        try:
            with safe_open(file, "np"):
                pass
        except (OSError, SafetensorError) as error:
            raise BadInput(f"encoder: {file}: damaged weights ({error}); copy the file again") from error
