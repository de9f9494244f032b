"""Read a source: its text and labels, or a key that changes whenever they may have changed.

All faults are reported before anything is trained. Sources without faults are not read again.
"""

import hashlib
import sys
from collections.abc import Iterable
from itertools import product
from pathlib import Path

from ablate.errors import BadInput
from ablate.trainer.data import corpus
from ablate.trainer.data.columns import labelled, odd_labels
from ablate.trainer.data.examples import Examples, course_text
from ablate.trainer.data.hub import read_hub
from ablate.trainer.data.sources import Source, Sources
from ablate.trainer.data.tables import read_file
from ablate.trainer.tasks.registry import TASKS
from ablate.trainer.tasks.task import Task

_checked: set[str] = set()  # keys of the splits that this process has read without a fault


def examples(source: Source, task: Task, split: str) -> Examples:
    """Read one split of one task. A row without an `id` column gets its position, from 0.

    Raises:
        BadInput: one line per fault, `file:line: column: ...`, at most 20 for a file.
        Unavailable: a hub dataset that is neither cached nor downloadable.
    """
    if source.files is not None:
        rows = labelled(read_file(source.file_of(split), source.quotes == "double"), source, task, split)
    elif source.hub is not None:
        rows = labelled(read_hub(source, split), source, task, split)
    else:
        rows = corpus.generate(task, split, source.limit.get(split))
    return course_text(rows) if source.text == "course" else rows


def check_sources(sources: Sources, splits: Iterable[str] = ("train", "dev")) -> None:
    """Read every split of several tasks and report all faults together. A source without faults is not read again.

    Raises:
        BadInput: every fault of every split.
        Unavailable: a hub dataset that is neither cached nor downloadable.
    """
    faults: list[str] = []
    for (task, source), split in product(sources.items(), splits):
        key = f"{task.name}/{split}: {source_key(source, split)} {reading_key(task)}"
        if key in _checked:
            continue
        try:
            rows = examples(source, task, split)
        except BadInput as error:
            faults += error.faults
        else:
            _checked.add(key)
            if split == "train" and (note := odd_labels(rows, task)):
                print(f"note: {task.name}/{split}: {note}", file=sys.stderr)
    if faults:
        raise BadInput(*faults)


def source_key(source: Source, split: str) -> str:
    """Return a key that changes if `examples` may return something else; reads no rows.

    It depends on the bytes of local files (also those of a local folder under `hub`); for a hub dataset, on its name,
    configuration and revision.
    """
    # The default is left out, so that keys from before this setting existed stay valid.
    without = {"quotes"} if source.quotes == "double" else set()
    if source.files is not None:
        digest = _digest(source.file_of(split))
        return f"{source.model_dump_json(exclude=without | {'files', 'splits'})} {split} {digest}"
    described = source.model_dump_json(exclude=without)
    if source.hub is None:
        return f"{described} {split} {corpus.VERSION}"
    folder = Path(source.hub).expanduser()
    files = sorted(file for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else []
    return f"{described} {split} {' '.join(map(_digest, files))}"


def reading_key(task: Task) -> str:
    """Return a key that changes if the same rows may be read differently: "" for the built-in tasks."""
    return "" if TASKS.get(task.name) is task else repr((task.columns, task.labels, task.joined))


def _digest(path: Path) -> str:
    # A pipe or a device has no end; reading the rows will say what it is.
    if not path.is_file():
        return "unreadable"
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return "unreadable"
