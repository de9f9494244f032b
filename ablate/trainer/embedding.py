"""Sentence embeddings for heads: computed by the encoder each time, or once for all when the encoder is
frozen.

Embeddings of a frozen encoder are kept in the study's cache under a hash of everything that decides them."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ablate.trainer.encoder import Encoder, Lengths
from ablate.trainer.mixing import Indices
from ablate.trainer.settings import Settings
from ablate.trainer.tokens import Ragged, TaskSplit, Tokens

FORMAT = 1
SENTENCES_AT_ONCE = 64
SENTENCES_BETWEEN_PAUSES = 2048

Pair = tuple[Tensor, Tensor | None]  # [n, hidden] of the first and of the second sentences
Pause = Callable[[], None]  # called now and then in long work, so that a run can be stopped


class Embedder(Protocol):
    """Where embeddings come from."""

    def batch(self, task: str, indices: Indices) -> Pair:
        """Return the embeddings of training items, with a graph where the encoder is trained."""

    def whole(self, task: str, split: str, pause: Pause) -> Pair:
        """Return the embeddings of all items of a split, without dropout and without a graph."""


class Live:
    """Embeddings from an encoder that changes."""

    def __init__(self, encoder: Encoder, tokens: Tokens, settings: Settings, device: torch.device) -> None:
        self.encoder, self.tokens, self.settings, self.device = encoder, tokens, settings, device

    def batch(self, task: str, indices: Indices) -> Pair:
        """Embed training items; both sentences of the pairs go through the encoder together."""
        items = self.tokens.tasks[task]["train"]
        tokens, lengths = items.first.take(indices)
        if items.second is not None:
            more_tokens, more_lengths = items.second.take(indices)
            tokens, lengths = np.concatenate([tokens, more_tokens]), np.concatenate([lengths, more_lengths])
        embedded = self._embed(tokens, lengths)
        if items.second is None:
            return embedded, None
        return embedded[: len(indices)], embedded[len(indices) :]

    def whole(self, task: str, split: str, pause: Pause) -> Pair:
        """Embed a split, sentences of similar length together."""
        items = self.tokens.tasks[task][split]
        first = self._embed_all(items.first, pause)
        return first, self._embed_all(items.second, pause) if items.second is not None else None

    def _embed_all(self, sentences: Ragged, pause: Pause) -> Tensor:
        order = np.argsort(
            -sentences.lengths, kind="stable"
        )  # the longest first: memory runs out at once or never
        embedded = torch.empty(len(sentences), self.encoder.hidden_size, device=self.device)
        self.encoder.module.eval()
        with torch.no_grad():
            for start in range(0, len(order), SENTENCES_AT_ONCE):
                if start % SENTENCES_BETWEEN_PAUSES == 0:
                    pause()
                indices = order[start : start + SENTENCES_AT_ONCE]
                embedded[torch.from_numpy(indices).to(self.device)] = self._embed(*sentences.take(indices))
        self.encoder.module.train()
        return embedded

    def _embed(self, tokens: Lengths, lengths: Lengths) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16"):
            embedded: Tensor = self.encoder.module(
                torch.from_numpy(tokens).long().to(self.device),
                lengths,
                self.settings.pooling,
            )
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

    def batch(self, task: str, indices: Indices) -> Pair:
        """Look training items up."""
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
