"""Sentence embeddings for the heads: computed by the encoder in each step, or only once if the encoder is frozen.

Embeddings of a frozen encoder are stored in the study's cache under a hash of everything they depend on.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ablate.files import write_file
from ablate.trainer.data.tokens import Indices, Ragged, TaskSplit, Tokens
from ablate.trainer.encoders.flat_parameters import ALL, Gradients
from ablate.trainer.encoders.loading import Encoder
from ablate.trainer.encoders.packed import PackedEncoder
from ablate.trainer.encoders.padded import Lengths
from ablate.trainer.settings import Settings

FORMAT = 1
TOKENS_AT_ONCE = 4096  # including padding, for encoders that pad

Pair = tuple[Tensor, Tensor | None]  # [n, hidden] of the first and of the second sentences
Pause = Callable[[], None]  # called regularly during long work, so that a run can be stopped


class Live:
    """Embeddings from an encoder that is being trained."""

    def __init__(self, encoder: Encoder, tokens: Tokens, settings: Settings, device: torch.device) -> None:
        self.encoder, self.tokens, self.settings, self.device = encoder, tokens, settings, device

    def batches(self, items: Mapping[str, Indices], gradients: Gradients | None) -> Iterator[dict[str, Pair]]:
        """Yield the embeddings of training items by task, with a graph if the encoder is trained.

        A packed encoder embeds all tasks in one pass; otherwise tasks come one after another: call backward on each before
        asking for the next. Afterwards `gradients` hold the encoder's gradients (per task, if gradients are kept per task);
        earlier values are overwritten. None: no backward pass will follow.
        """
        if isinstance(self.encoder.module, PackedEncoder):
            yield self._embed_together(items, gradients)
            return
        if gradients is not None:
            gradients.clear(gradients.owners)
        for task, indices in items.items():
            if gradients is not None:
                owner = task if task in gradients.owners else ALL
                self.encoder.flat.add_gradients_to(gradients.places(owner))
            yield self._embed_together({task: indices}, None)

    def _embed_together(self, items: Mapping[str, Indices], gradients: Gradients | None) -> dict[str, Pair]:
        """Embed items of several tasks: each task's first sentences, then its second ones."""
        taken = {
            task: [column.take(indices) for column in self.tokens.tasks[task]["train"].columns]
            for task, indices in items.items()
        }
        sentences = [column for columns in taken.values() for column in columns]
        counts = {task: len(items[task]) * len(columns) for task, columns in taken.items()}
        tokens, lengths = (np.concatenate(arrays) for arrays in zip(*sentences, strict=True))
        owners = {ALL: len(lengths)} if gradients is None or ALL in gradients.owners else counts
        types = None
        if any(self.tokens.tasks[task]["train"].first.types is not None for task in items):
            columns = [
                (column, items[task]) for task in items for column in self.tokens.tasks[task]["train"].columns
            ]
            types = np.concatenate([column.take_types(indices) for column, indices in columns])
        embedded = self._embed(tokens, lengths, types, gradients, owners)
        pieces = dict(zip(items, torch.split(embedded, list(counts.values())), strict=True))
        return {task: _pair(torch.split(piece, len(items[task]))) for task, piece in pieces.items()}

    def whole(self, task: str, split: str, pause: Pause) -> Pair:
        """Return the embeddings of all items of a split, without dropout and without a graph."""
        return _pair([self._embed_all(column, pause) for column in self.tokens.tasks[task][split].columns])

    def _embed_all(self, sentences: Ragged, pause: Pause) -> Tensor:
        lengths = sentences.lengths
        # Longest first, so that if memory runs out, it does so at the start.
        order = np.argsort(-lengths, kind="stable")
        embedded = torch.empty(len(sentences), self.encoder.hidden_size, device=self.device)
        self.encoder.module.eval()
        with torch.no_grad():
            while len(order):
                pause()
                count = max(1, TOKENS_AT_ONCE // int(lengths[order[0]]))
                now, order = order[:count], order[count:]
                types = None if sentences.types is None else sentences.take_types(now)
                embedded[torch.from_numpy(now).to(self.device)] = self._embed(*sentences.take(now), types)
        self.encoder.module.train()
        return embedded

    def _embed(
        self,
        tokens: Lengths,
        lengths: Lengths,
        token_types: Lengths | None,
        gradients: Gradients | None = None,
        counts: Mapping[str, int] = MappingProxyType({}),
    ) -> Tensor:
        module, pooling = self.encoder.module, self.settings.pooling
        types = None if token_types is None else torch.from_numpy(token_types)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16"):
            if isinstance(module, PackedEncoder):
                embedded: Tensor = module(
                    torch.from_numpy(tokens), lengths, pooling, gradients, counts, types
                )
            else:
                types = None if types is None else types.to(self.device)
                embedded = module(torch.from_numpy(tokens).to(self.device), lengths, pooling, types)
        return embedded.float()


class Frozen:
    """Embeddings from a frozen encoder, which embeds each sentence once per study.

    Args:
        live: computes what is not in the cache.
        cache: the study's cache folder.
    """

    def __init__(self, live: Live, cache: Path) -> None:
        self.live, self.cache = live, cache
        self._pairs: dict[tuple[str, str], Pair] = {}

    def batches(self, items: Mapping[str, Indices], gradients: Gradients | None) -> Iterator[dict[str, Pair]]:
        """Look up training items."""
        yield {task: self._rows(task, indices) for task, indices in items.items()}

    def _rows(self, task: str, indices: Indices) -> Pair:
        columns = [column for column in self.whole(task, "train", lambda: None) if column is not None]
        rows = torch.from_numpy(indices).to(self.live.device)
        return _pair([column[rows] for column in columns])

    def whole(self, task: str, split: str, pause: Pause) -> Pair:
        """Return all embeddings of a split from memory, else from the cache, else from the encoder."""
        if (task, split) not in self._pairs:
            self._pairs[task, split] = self._cached(task, split, pause)
        return self._pairs[task, split]

    def _cached(self, task: str, split: str, pause: Pause) -> Pair:
        items = self.live.tokens.tasks[task][split]
        file = self.cache / f"features-{self._key(items)[:16]}.safetensors"
        columns = _read(file)
        if columns is None:
            pair = self.live.whole(task, split, pause)
            columns = [column.cpu().contiguous() for column in pair if column is not None]
            named = dict(zip(_COLUMNS, columns, strict=False))
            write_file(file, save(named, metadata={"sha256": _digest(columns)}))
        return _pair([column.to(self.live.device) for column in columns])

    def _key(self, items: TaskSplit) -> str:
        settings = self.live.settings
        depends_on = (
            FORMAT,
            self.live.encoder.pristine_sha256,
            self.live.tokens.tokenizer_hash,
            items.data_hash,
            settings.pooling,
            settings.max_length,
            settings.precision,
            self.live.device.type,
            # `data_hash` is the hash of text that was read as pairs.
            *(["joined"] if items.first.types is not None else []),
        )
        return hashlib.sha256(repr(depends_on).encode()).hexdigest()


class Embedder(Protocol):
    """Where training gets its embeddings from."""

    def batches(self, items: Mapping[str, Indices], gradients: Gradients | None) -> Iterator[dict[str, Pair]]:
        """Yield the embeddings of training items by task, as `Live.batches` does."""

    def whole(self, task: str, split: str, pause: Pause) -> Pair:
        """Return the embeddings of all items of a split, without dropout and without a graph."""


def _pair(columns: Sequence[Tensor]) -> Pair:
    return columns[0], columns[1] if len(columns) > 1 else None


_COLUMNS = ("first", "second")


def _digest(columns: Sequence[Tensor]) -> str:
    digest = hashlib.sha256()
    for column in columns:
        digest.update(column.numpy().data)
    return digest.hexdigest()


def _read(file: Path) -> list[Tensor] | None:
    """Return the columns in `file` if every byte is as it was written; otherwise None."""
    try:
        with safe_open(file, "pt") as opened:
            names = [name for name in _COLUMNS if name in opened.keys()]  # noqa: SIM118
            # Copied, since products of numbers that do not begin at a multiple of 64 bytes can have other bits.
            columns = [opened.get_tensor(name).clone() for name in names]
            digest = (opened.metadata() or {}).get("sha256")
    except (OSError, SafetensorError):
        return None
    return columns if _digest(columns) == digest else None
