"""A study's text as token ids: tokenized once, stored end to end on disk, opened by memory map.

Each split of each task is one folder of arrays in the study's cache, named by a hash of everything its content depends on (the
data's bytes, the tokenizer, the maximum length), so all trials and parts share it. A folder is complete or absent, several
processes may build the same one at once, and one whose bytes do not match its digests is built again.
"""

import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ablate.errors import AblateError
from ablate.files import new_folder
from ablate.trainer.data.examples import Examples, clusters, overlap
from ablate.trainer.data.pretrained import TINY
from ablate.trainer.data.reading import examples, reading_key, source_key
from ablate.trainer.data.sources import Source, Sources
from ablate.trainer.data.tokenizer import Tokenizer, encoder_key, make_tokenizer
from ablate.trainer.tasks.registry import PAPER, TASKS
from ablate.trainer.tasks.task import Task

# Increase this number when the format of the files changes.
FORMAT = 2
Ints = npt.NDArray[np.int32]
Indices = npt.NDArray[np.int64]  # indices of rows


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths, end to end."""

    tokens: Ints  # [total]
    offsets: npt.NDArray[np.int64]  # [n + 1]; row i is tokens[offsets[i]:offsets[i + 1]]
    types: Ints | None = None  # [total] token types, of rows that are pairs; None: all 0

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Ints:
        """Tokens of each row: [n]."""
        return np.diff(self.offsets).astype(np.int32)

    def take(self, indices: Sequence[int] | Indices) -> tuple[Ints, Ints]:
        """Return the rows `indices` in that order, end to end: tokens [their total], lengths [rows]."""
        where, lengths = self._token_indices(indices)
        return self.tokens[where], lengths.astype(np.int32)

    def take_types(self, indices: Sequence[int] | Indices) -> Ints:
        """Return the token types of the rows `indices`, end to end: [their total]."""
        where, _ = self._token_indices(indices)
        return np.zeros(len(where), np.int32) if self.types is None else self.types[where]

    def _token_indices(self, indices: Sequence[int] | Indices) -> tuple[Indices, Indices]:
        """Return the indices in `tokens` of these rows' tokens, end to end, and the length of each row."""
        rows = np.asarray(indices, dtype=np.int64)
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if len(ends) else 0
        return np.repeat(starts - (ends - lengths), lengths) + np.arange(total), lengths


@dataclass(frozen=True)
class TaskSplit:
    """One split of one task, tokenized."""

    ids: list[str]
    first: Ragged
    second: Ragged | None  # None for single sentences, and for pairs in one sequence
    # [n], or [n, labels] if items can have several labels; None if they are hidden.
    labels: npt.NDArray[np.float64] | None
    clusters: npt.NDArray[np.int64] | None  # [n]; None if no two rows share a sentence
    data_hash: str  # hash of ids, texts and labels
    dropped: int  # rows left out because their label was blank

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.ids)

    @property
    def columns(self) -> list[Ragged]:
        """The text: one column, or two for pairs."""
        return [self.first] if self.second is None else [self.first, self.second]

    @property
    def total_tokens(self) -> int:
        """Tokens of all rows."""
        return sum(int(column.offsets[-1]) for column in self.columns)


@dataclass(frozen=True)
class Tokens:
    """All text of a study, or of a part of it."""

    tasks: dict[str, dict[str, TaskSplit]]  # task -> split
    vocab_size: int
    tokenizer_hash: str
    tokenizer_folder: Path
    dev_rows_in_train: dict[str, int]  # task -> dev rows whose text is also in the training data

    @property
    def facts(self) -> dict[str, Any]:
        """What the report needs to know about the data: hashes, dev
        rows that are also in train, rows dropped for a blank label."""
        splits = [
            (task, name, split) for task, by_name in self.tasks.items() for name, split in by_name.items()
        ]
        hashes: dict[str, dict[str, str]] = {}
        dropped: dict[str, dict[str, int]] = {}
        for task, name, split in splits:
            hashes.setdefault(task, {})[name] = split.data_hash
            if split.dropped:
                dropped.setdefault(task, {})[name] = split.dropped
        return {
            "data": _hash(json.dumps(hashes, sort_keys=True))[:16],
            "tokenizer": self.tokenizer_hash,
            "dev_rows_in_train": self.dev_rows_in_train,
            **({"dropped_rows": dropped} if dropped else {}),
        }

    def save_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer into `folder` as transformers' AutoTokenizer loads it."""
        folder.mkdir(parents=True, exist_ok=True)
        for file in self.tokenizer_folder.iterdir():
            if file.name != _MANIFEST:
                shutil.copyfile(file, folder / file.name)


def load_tokens(
    sources: Sources,
    encoder: str,
    max_length: int,
    cache: Path,
    splits: Sequence[str] = ("train", "dev"),
) -> Tokens:
    """Return the text of `sources` as tokens, from the cache if it is there.

    Args:
        sources: one per task.
        encoder: `tiny` (a vocabulary is built from the training text), a model's folder, or a hub name.
        max_length: tokens of a sentence at most, [CLS] and [SEP] included.
        cache: a folder that trials of the study share; created if missing.
        splits: the splits to load.

    Raises:
        BadInput: faults in the data, or a folder without a tokenizer.
        Unavailable: something on the hub that is neither cached nor downloadable.
        AblateError: the cache cannot be written.
    """
    vocabulary_sources = _vocabulary_sources(sources) if encoder == TINY else {}
    names = (
        source_key(source, "train") + task.name + reading_key(task)
        for task, source in vocabulary_sources.items()
    )
    key = _hash(FORMAT, encoder_key(encoder), *names)

    # The tokenizer is not loaded if everything is in the cache.
    @functools.cache
    def tokenizer() -> Tokenizer:
        texts = (examples(source, task, "train") for task, source in vocabulary_sources.items())
        return make_tokenizer(encoder, texts)

    folder, facts = _cached(cache / f"tokenizer-{key[:16]}", lambda new: tokenizer().save(new))

    def tokenized(task: Task, source: Source, split: str) -> TaskSplit:
        key = _hash(FORMAT, facts["hash"], max_length, _name(task), source_key(source, split))

        def build(new: Path) -> dict[str, Any]:
            return _tokenized(examples(source, task, split), task.joined, tokenizer(), max_length, new)

        return _opened(*_cached(cache / f"tokens-{key[:16]}", build))

    tasks = {
        task.name: {split: tokenized(task, source, split) for split in splits}
        for task, source in sources.items()
    }
    both = {"train", "dev"} <= {*splits}
    shared = {task.name: _overlap(task, source, cache) for task, source in sources.items() if both}
    return Tokens(tasks, facts["vocab_size"], facts["hash"], folder, shared)


def _name(task: Task) -> str:
    return task.name + reading_key(task)


def _overlap(task: Task, source: Source, cache: Path) -> int:
    """Return how many rows of dev are also in the training data."""
    key = _hash(FORMAT, _name(task), source_key(source, "train"), source_key(source, "dev"))

    def build(_: Path) -> dict[str, Any]:
        return {"rows": overlap(examples(source, task, "train"), examples(source, task, "dev"))}

    return int(_cached(cache / f"overlap-{key[:16]}", build)[1]["rows"])


def _vocabulary_sources(sources: Sources) -> Sources:
    """Return the sources whose training text a vocabulary is built from.

    On the built-in corpus they are always those of the three default tasks (`PAPER`): a part that trains one task must have the
    same tokens as a trial that trains three, or `training: separate` would differ from `joint` in its vocabulary too. Words that
    only other tasks use are spelled by their letters.
    """
    if all(source.is_built_in for source in sources.values()):
        return {TASKS[name]: Source() for name in PAPER}
    return dict(sorted(sources.items(), key=lambda pair: pair[0].name))


def _tokenized(
    split: Examples, joined: bool, tokenizer: Tokenizer, max_length: int, folder: Path
) -> dict[str, Any]:
    """Write a split's arrays; return the facts for its manifest."""
    if joined:
        pairs = list(zip(*split.columns.values(), strict=True))
        encoded = tokenizer.encode_pairs(pairs, max_length)
        columns = {"first": [row for row, _ in encoded]}
        np.save(
            folder / "first.types.npy", np.concatenate([np.asarray(types, np.int32) for _, types in encoded])
        )
    else:
        columns = {name: tokenizer.encode(texts, max_length) for name, texts in split.columns.items()}
    for name, rows in columns.items():
        offsets = np.cumsum([0, *(len(row) for row in rows)], dtype=np.int64)
        np.save(folder / f"{name}.tokens.npy", np.concatenate([np.asarray(row, np.int32) for row in rows]))
        np.save(folder / f"{name}.offsets.npy", offsets)
    for name, array in (("labels", split.labels), ("clusters", clusters(split))):
        if array is not None:
            np.save(folder / f"{name}.npy", array)
    ids = split.ids
    (folder / "ids.json").write_text(json.dumps(ids), encoding="utf-8")
    labels = None if split.labels is None else split.labels.tolist()
    content = json.dumps([ids, split.first, split.second, labels], ensure_ascii=False)
    return {"data_hash": _hash(content)[:16], "dropped": split.dropped}


def _opened(folder: Path, facts: dict[str, Any]) -> TaskSplit:
    def array(name: str) -> npt.NDArray[Any]:
        loaded: npt.NDArray[Any] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        return loaded

    def column(name: str) -> Ragged:
        types = array(f"{name}.types") if f"{name}.types.npy" in facts["files"] else None
        return Ragged(array(f"{name}.tokens"), np.array(array(f"{name}.offsets")), types)

    second = column("second") if "second.tokens.npy" in facts["files"] else None
    labels, shared = (
        np.array(array(name)) if f"{name}.npy" in facts["files"] else None for name in ("labels", "clusters")
    )
    ids: list[str] = json.loads((folder / "ids.json").read_text(encoding="utf-8"))
    return TaskSplit(ids, column("first"), second, labels, shared, facts["data_hash"], facts["dropped"])


# Folders that are complete or absent -----------------------------------------------------------------------------

_MANIFEST = "manifest.json"


def _cached(folder: Path, build: Callable[[Path], dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
    """Return `folder` and its manifest, after building it if it is missing or damaged."""
    if (facts := _whole(folder)) is not None:
        return folder, facts
    try:
        # Another process may finish the same folder first.
        with new_folder(folder, keep=lambda: _whole(folder) is not None) as new:
            facts = build(new)
            facts["files"] = {file.name: _digest(file) for file in sorted(new.iterdir())}
            facts["digest"] = _hash(json.dumps(facts, sort_keys=True))
            (new / _MANIFEST).write_text(json.dumps(facts, sort_keys=True), encoding="utf-8")
    except OSError as error:
        raise AblateError(
            f"{folder.parent}: the tokenized text cannot be stored there: {error.strerror or error}; "
            "free some space, or choose another --home"
        ) from error
    return folder, facts


def _whole(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of `folder` if every byte is as it was written; otherwise None."""
    try:
        facts: dict[str, Any] = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        digest = facts.pop("digest")
        whole = digest == _hash(json.dumps(facts, sort_keys=True)) and all(
            _digest(folder / name) == expected for name, expected in facts["files"].items()
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return facts if whole else None


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _hash(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode("utf-8", "surrogatepass")).hexdigest()
