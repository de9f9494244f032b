"""Hugging Face hub datasets as tables, without progress bars and without long waits for a missing network.

Without a network this machine's cache is used, so a study whose data was loaded once keeps working. The hub is tried once, for
a few seconds; the libraries themselves try for half a minute.
"""

import contextlib
import errno
import json
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from ablate.errors import BadInput, Unavailable
from ablate.tables import Faults
from ablate.text import one_line, shortened
from ablate.trainer.data.sources import Source
from ablate.trainer.data.tables import Table

_WITHOUT_SCRIPT = (
    "; the dataset is a program, and programs from a hub are not run. The hub may have a copy of its rows as data: "
    "try revision: refs/convert/parquet"
)
# pandas, which `datasets` uses, would read the id 01 as 1 and the sentence NA as missing. Columns are named by their place, so
# that the same options find the rows in the cache without the file.
_AS_WRITTEN: dict[str, Any] = {"converters": dict.fromkeys(range(1000), str), "keep_default_na": False}
# What `datasets` says when these options are not for this dataset: it is not CSV, or was cached without them.
_WITHOUT_OPTIONS = ("doesn't have a 'converters' key", "Couldn't find cache")
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
HUB_SECONDS = 4.0  # how long the hub may take to answer a HEAD request


def read_hub(source: Source, split: str) -> Table:
    """Read one split of a hub dataset; line n of the table is its row n, from 1.

    Raises:
        BadInput: there is no such dataset, configuration or split.
        Unavailable: the dataset is not cached and the hub does not answer.
    """
    columns = _split(source, split)
    rows = ([_text(value) for value in row] for row in zip(*columns.values(), strict=True))
    return Table(list(columns), Faults(f"{_name(source)}[{split}]"), list(enumerate(rows, 1)))


def _text(value: Any) -> str:
    """Return a value as text, as in a file; a list as JSON, a truth value as 0 or 1."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return json.dumps(value) if isinstance(value, list) else str(value)


@cache
def hub_answers() -> bool:
    """Return whether the hub can be reached. Tried once per process."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=HUB_SECONDS).close()
    except urllib.error.HTTPError:
        # An HTTP error is an answer too.
        return True
    except (OSError, ValueError):
        return False
    return True


def not_available(what: str, instead: str) -> Unavailable:
    """Return the error for something that is neither cached nor downloadable."""
    return Unavailable(
        f"{what} is not cached on this machine and the Hugging Face hub does not answer; load it once on a "
        f"machine with network access and point HF_HOME at that cache, or {instead}"
    )


def _split(source: Source, split: str) -> dict[str, list[Any]]:
    """Return the columns of a split."""
    with _quiet(), _offline_unless(not _is_folder(source) and hub_answers()):
        for name in source.names(split):
            try:
                return _loaded(source, name)
            except ValueError as error:
                if "Unknown split" not in str(error) and "Instruction" not in str(error):
                    raise _explained(error, source) from None
                reason = str(error)
            except Unavailable:
                raise
            except Exception as error:
                raise _explained(error, source) from None
    names = " or ".join(source.names(split))
    raise BadInput(
        f"{_name(source)}: {split}: no split called {names} ({shortened(one_line(reason), 200)}); "
        "name it with splits: {...}"
    )


def _loaded(source: Source, name: str) -> dict[str, list[Any]]:
    """Load a split; every column of CSV files as text, as it was written.

    Raises:
        Unavailable: the only cached copy is one in which pandas read words such as NA as missing.
    """
    try:
        written: dict[str, list[Any]] = _with_options(source, name, _AS_WRITTEN).to_dict()
        return written
    except ValueError as error:
        if not any(words in str(error) for words in _WITHOUT_OPTIONS):
            raise
    rows = _with_options(source, name, {})
    columns: dict[str, list[Any]] = rows.to_dict()
    if rows.info.builder_name == "csv" and any(None in column for column in columns.values()):
        raise Unavailable(
            f"hub: {_name(source)}: the copy on this machine may lack words such as NA, which were read as missing values; load "
            "it once with network access, or read the text from `files:`"
        )
    return columns


def _with_options(source: Source, name: str, options: Mapping[str, Any]) -> Any:
    """Load a split. `datasets` writes lock files beside what it reads;
    if the cache is read-only, it gets links in a scratch folder."""
    import datasets

    load = partial(
        datasets.load_dataset,
        source.hub,
        source.config,
        split=name,
        revision=source.revision,
        verification_mode="no_checks",
        **options,
    )
    try:
        return load()
    except OSError as error:
        if error.errno not in _NOT_WRITABLE:
            raise
    with tempfile.TemporaryDirectory() as scratch:
        _link_files(Path(datasets.config.HF_DATASETS_CACHE), Path(scratch))
        return load(cache_dir=scratch, keep_in_memory=True)


def _link_files(cache: Path, scratch: Path) -> None:
    """Make the folders of `cache` again in `scratch`, with links to its files."""
    for folder, _, files in os.walk(cache):
        copy = scratch / Path(folder).relative_to(cache)
        copy.mkdir(exist_ok=True)
        for file in files:
            if not file.endswith(".lock"):
                (copy / file).symlink_to(Path(folder, file))


def _explained(error: Exception, source: Source) -> BadInput | Unavailable:
    """Return BadInput if the study file is wrong, Unavailable if the network is the problem."""
    name, reason = _name(source), shortened(one_line(error), 200)
    if not _is_folder(source) and not hub_answers():
        return not_available(f"hub: {name}", "read the text from `files:`")
    if isinstance(error, OSError) and error.errno in _NOT_WRITABLE:
        return Unavailable(
            f"{name}: the cache cannot be written ({reason}); set HF_HOME to a folder that you can write to"
        )
    if isinstance(error, ConnectionError):
        return Unavailable(f"{name}: the connection to the hub was lost ({reason}); try again")
    advice = _WITHOUT_SCRIPT if "scripts are no longer supported" in reason else ""
    return BadInput(f"{name}: cannot be loaded: {reason}{advice}")


def _is_folder(source: Source) -> bool:
    return Path(source.hub or "").is_dir()


def _name(source: Source) -> str:
    return "/".join(part for part in (source.hub, source.config) if part)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' progress bars and retry messages off the terminal."""
    import datasets
    import huggingface_hub.utils.logging as hub_logging

    level, hub_level = datasets.logging.get_verbosity(), hub_logging.get_verbosity()
    bars = datasets.are_progress_bars_disabled()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    hub_logging.set_verbosity(datasets.logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        hub_logging.set_verbosity(hub_level)
        if not bars:
            datasets.enable_progress_bars()


@contextlib.contextmanager
def _offline_unless(online: bool) -> Iterator[None]:
    """Restrict the libraries to their cache unless `online`.

    Once the libraries are imported, environment variables no longer matter; only these two constants do."""
    import datasets.config
    import huggingface_hub.constants

    places: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    before = [place.HF_HUB_OFFLINE for place in places]
    for place in places:
        place.HF_HUB_OFFLINE = place.HF_HUB_OFFLINE or not online
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value
