"""Sentence embeddings for heads: computed by the encoder each time, or once for all when the encoder is
frozen.

Embeddings of a frozen encoder are kept in the study's cache under a hash of everything that decides them."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ablate.trainer.data.tokens import Indices, Ragged, TaskSplit, Tokens
from ablate.trainer.encoders.flat import ALL, Gradients
from ablate.trainer.encoders.loading import Encoder
from ablate.trainer.encoders.packed import PackedBert
from ablate.trainer.encoders.padded import Lengths
from ablate.trainer.settings import Settings

FORMAT = 1
TOKENS_AT_ONCE = 4096  # padding included, for encoders that pad

Pair = tuple[Tensor, Tensor | None]  # [n, hidden] of the first and of the second sentences
Pause = Callable[[], None]  # called now and then in long work, so that a run can be stopped


class Embedder(Protocol):
    """Where embeddings come from."""

    def batches(self, items: Mapping[str, Indices], gradients: Gradients | None) -> Iterator[dict[str, Pair]]:
        """Yield the embeddings of training items by task, with a graph where the encoder is trained.

        Those of several tasks come at once, or in turns: call backward on each before the next one is asked for.
        Afterwards `gradients` hold the encoder's, of each task if they have tasks for owners, and nothing of
        what they held before. None: no backward pass will follow.
        """

    def whole(self, task: str, split: str, pause: Pause) -> Pair:
        """Return the embeddings of all items of a split, without dropout and without a graph."""


class Live:
    """Embeddings from an encoder that changes."""

    def __init__(self, encoder: Encoder, tokens: Tokens, settings: Settings, device: torch.device) -> None:
        self.encoder, self.tokens, self.settings, self.device = encoder, tokens, settings, device

    def batches(self, items: Mapping[str, Indices], gradients: Gradients | None) -> Iterator[dict[str, Pair]]:
        """Embed training items: all tasks' in one pass if the encoder is packed, else task by task."""
        if isinstance(self.encoder.module, PackedBert):
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
        """Embed items of some tasks: first sentences, then second ones, task after task."""
        taken = {}
        for task, indices in items.items():
            columns = self.tokens.tasks[task]["train"]
            taken[task] = [c.take(indices) for c in (columns.first, columns.second) if c is not None]
        sentences = [pair for columns in taken.values() for pair in columns]
        counts = {task: len(items[task]) * len(columns) for task, columns in taken.items()}
        tokens, lengths = (np.concatenate(arrays) for arrays in zip(*sentences, strict=True))
        owners = {ALL: len(lengths)} if gradients is None or ALL in gradients.owners else counts
        embedded = self._embed(tokens, lengths, gradients, owners)
        pieces = dict(zip(items, torch.split(embedded, list(counts.values())), strict=True))
        return {
            task: (piece[: len(items[task])], piece[len(items[task]) :] if len(taken[task]) > 1 else None)
            for task, piece in pieces.items()
        }

    def whole(self, task: str, split: str, pause: Pause) -> Pair:
        """Embed a split, sentences of similar length together."""
        items = self.tokens.tasks[task][split]
        first = self._embed_all(items.first, pause)
        return first, self._embed_all(items.second, pause) if items.second is not None else None

    def _embed_all(self, sentences: Ragged, pause: Pause) -> Tensor:
        lengths = sentences.lengths
        order = np.argsort(-lengths, kind="stable")  # long ones first: memory runs out at once or never
        embedded = torch.empty(len(sentences), self.encoder.hidden_size, device=self.device)
        self.encoder.module.eval()
        with torch.no_grad():
            while len(order):
                pause()
                count = max(1, TOKENS_AT_ONCE // int(lengths[order[0]]))
                now, order = order[:count], order[count:]
                embedded[torch.from_numpy(now).to(self.device)] = self._embed(*sentences.take(now))
        self.encoder.module.train()
        return embedded

    def _embed(
        self,
        tokens: Lengths,
        lengths: Lengths,
        gradients: Gradients | None = None,
        counts: Mapping[str, int] = MappingProxyType({}),
    ) -> Tensor:
        module, pooling = self.encoder.module, self.settings.pooling
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16"):
            if isinstance(module, PackedBert):
                embedded: Tensor = module(torch.from_numpy(tokens), lengths, pooling, gradients, counts)
            else:
                embedded = module(torch.from_numpy(tokens).to(self.device), lengths, pooling)
        return embedded.float()


class Frozen:
    """Embeddings from an encoder that does not change: each sentence once per study.

    Args:
        live: the encoder they are computed with where the cache lacks them.
        cache: the study's folder for what is worth computing once.
    """

    def __init__(self, live: Live, cache: Path) -> None:
        self.live, self.cache = live, cache
        self._pairs: dict[tuple[str, str], Pair] = {}

    def batches(self, items: Mapping[str, Indices], gradients: Gradients | None) -> Iterator[dict[str, Pair]]:
        """Look training items up."""
        yield {task: self._rows(task, indices) for task, indices in items.items()}

    def _rows(self, task: str, indices: Indices) -> Pair:
        first, second = self.whole(task, "train", lambda: None)
        rows = torch.from_numpy(indices).to(first.device)
        return first[rows], second[rows] if second is not None else None

    def whole(self, task: str, split: str, pause: Pause) -> Pair:
        """Return all embeddings of a split from memory, else from the cache, else from the encoder."""
        if (task, split) not in self._pairs:
            self._pairs[task, split] = self._cached(task, split, pause)
        return self._pairs[task, split]

    def _cached(self, task: str, split: str, pause: Pause) -> Pair:
        items = self.live.tokens.tasks[task][split]
        file = self.cache / f"features-{self._key(items)[:16]}.safetensors"
        pair = _read(file)
        if pair is None:
            pair = self.live.whole(task, split, pause)
            _write(file, pair)
        return pair[0].to(self.live.device), pair[1].to(self.live.device) if pair[1] is not None else None

    def _key(self, items: TaskSplit) -> str:
        settings = self.live.settings
        decided_by = (
            FORMAT,
            self.live.encoder.pristine_sha256,
            self.live.tokens.tokenizer_hash,
            items.data_hash,
            settings.pooling,
            settings.max_length,
            settings.precision,
            self.live.device.type,
        )
        return hashlib.sha256(repr(decided_by).encode()).hexdigest()


def _digest(pair: Pair) -> str:
    digest = hashlib.sha256()
    for embedded in pair:
        if embedded is not None:
            digest.update(embedded.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _write(file: Path, pair: Pair) -> None:
    """Write a file that is there whole or not at all; several processes may write the same."""
    named = {
        name: found.cpu().contiguous()
        for name, found in zip(("first", "second"), pair, strict=True)
        if found is not None
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    os.close(handle)
    try:
        save_file(named, temporary, metadata={"sha256": _digest(pair)})
        os.replace(temporary, file)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _read(file: Path) -> Pair | None:
    """Return what `file` holds if every byte is as it was written."""
    try:
        with safe_open(file, "pt") as opened:
            named = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            digest = (opened.metadata() or {}).get("sha256")
        pair: Pair = (named["first"], named.get("second"))
    except (OSError, SafetensorError, KeyError):
        return None
    return pair if _digest(pair) == digest else None
