"""What transformers loads by an encoder's name: from a folder, from the hub's cache, or else from the hub.

Runs no code from a hub: `trust_remote_code` is off.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ablate.errors import BadInput, Unavailable
from ablate.text import one_line, shortened
from ablate.trainer.data.hub import hub_answers, not_available

TINY = "tiny"  # the encoder that is built here


def load_pretrained(loader: Any, encoder: str, problem: str, advice: str = "", **options: Any) -> Any:
    """Return `loader.from_pretrained` of `encoder`, a folder or a hub name. `problem` and `advice` go into the error message.

    Raises:
        BadInput: there is no such folder, or it does not load.
        Unavailable: a hub name that is neither cached nor downloadable.
    """

    def load(name: str, *, local: bool) -> Any:
        try:
            with quiet():
                return loader.from_pretrained(
                    name, local_files_only=local, trust_remote_code=False, **options
                )
        except ConnectionError as error:
            raise Unavailable(f"encoder: {encoder}: the connection to the hub was lost; try again") from error
        # A damaged file can raise anything.
        except Exception as error:
            reason = shortened(one_line(error), 200)
            raise BadInput(
                f"encoder: {encoder}: {problem}: {type(error).__name__}: {reason}{advice}"
            ) from error

    folder = Path(encoder).expanduser()
    if folder.is_dir():
        return load(str(folder), local=True)
    if encoder.startswith((".", "/", "~")) or encoder.count("/") > 1:
        raise BadInput(f"encoder: {encoder}: there is no such folder; give a folder, a hub name or `{TINY}`")
    try:
        # Try the cache first, which needs no network.
        return load(encoder, local=True)
    except BadInput:
        if not hub_answers():
            instead = f"give a folder with the model, or `{TINY}`"
            raise not_available(f"encoder: {encoder}", instead) from None
    return load(encoder, local=False)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars and load reports off the terminal."""
    from transformers.utils import logging as hf_logging

    verbosity, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity(logging.CRITICAL)
    hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
