"""The tokenizer of an encoder: loaded from a folder or the hub; for `tiny`, built from the training text.

Only fast tokenizers are supported.
"""

import contextlib
import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ablate.errors import BadInput
from ablate.trainer.data.examples import Examples
from ablate.trainer.data.pretrained import TINY, load_pretrained

TINY_VOCABULARY = 8000  # the most words and letters in its vocabulary
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# The most sentences encoded in one call, which bounds the memory of intermediate objects.
_AT_ONCE = 20_000
_PARALLELISM = "TOKENIZERS_PARALLELISM"
_chosen = os.environ.get(_PARALLELISM)  # what the user chose, before we set it


class Tokenizer:
    """The part of a transformers tokenizer that the trainer uses."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped
        # Stands for a text without tokens: the tokenizers of causal models add no special ones.
        special = (wrapped.bos_token_id, wrapped.eos_token_id, wrapped.unk_token_id, wrapped.pad_token_id)
        self._blank = [next((token for token in special if token is not None), 0)]

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included."""
        return len(self._wrapped)

    def encode(self, texts: list[str], max_length: int) -> list[list[int]]:
        """Return the token ids of each text, special tokens included: at least one, at most `max_length` of them."""
        return [encoding.ids or self._blank for encoding in self._encoded(texts, max_length)]

    def encode_pairs(
        self, pairs: list[tuple[str, str]], max_length: int
    ) -> list[tuple[list[int], list[int]]]:
        """Return the token ids of each pair as one sequence, and their token types.

        If a pair is longer than `max_length`, the longer sentence is cut first."""
        return [(encoding.ids, encoding.type_ids) for encoding in self._encoded(pairs, max_length)]

    def _encoded(self, texts: Sequence[str | tuple[str, str]], max_length: int) -> Iterator[Any]:
        backend = self._wrapped.backend_tokenizer
        backend.no_padding()
        backend.enable_truncation(max_length)
        with _in_parallel():
            for start in range(0, len(texts), _AT_ONCE):
                yield from backend.encode_batch_fast(texts[start : start + _AT_ONCE])
        backend.no_truncation()

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the tokenizer in AutoTokenizer's format; return its hash and vocabulary size."""
        backend = self._wrapped.backend_tokenizer
        backend.no_padding()
        backend.no_truncation()
        self._wrapped.save_pretrained(folder)
        return {
            "hash": hashlib.sha256(backend.to_str().encode()).hexdigest()[:16],
            "vocab_size": self.vocab_size,
        }


def encoder_key(encoder: str) -> str:
    """Return a key that changes if the tokenizer may have changed: from a folder's files, or a hub name."""
    if encoder == TINY:
        return f"{TINY} {TINY_VOCABULARY}"
    folder = Path(encoder).expanduser()
    if not folder.is_dir():
        return encoder
    files = sorted(file for file in folder.iterdir() if file.suffix in (".json", ".txt", ".model"))
    return " ".join(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files)


def make_tokenizer(encoder: str, training: Iterable[Examples]) -> Tokenizer:
    """Load the tokenizer of `encoder`, or build one from the training text when it is `tiny`.

    Raises:
        BadInput: a folder without a tokenizer, or a model that has no fast tokenizer.
        Unavailable: a hub name that is neither cached nor downloadable.
    """
    wrapped = _tiny(training) if encoder == TINY else _loaded(encoder)
    if not getattr(wrapped, "is_fast", False):
        raise BadInput(f"encoder: {encoder}: it has no fast tokenizer; use a BERT-like model")
    return Tokenizer(wrapped)


def _tiny(training: Iterable[Examples]) -> Any:
    """Return a tokenizer with the most frequent words, and with every letter so that no word is unknown.

    `WordPieceTrainer` cannot be used: the order in which it numbers its pieces changes from run to run.
    """
    from tokenizers import normalizers, pre_tokenizers
    from transformers import BertTokenizer

    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words: Counter[str] = Counter()
    for text in itertools.chain.from_iterable(itertools.chain(e.first, e.second or ()) for e in training):
        words.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    letters: Counter[str] = Counter()
    for word, times in words.items():
        letters.update(dict.fromkeys(word, times))
    room = TINY_VOCABULARY - len(_SPECIAL)
    pieces = [piece for letter in _most_frequent(letters)[: room // 8] for piece in (letter, f"##{letter}")]
    rest = [word for word in _most_frequent(words) if len(word) > 1][: room - len(pieces)]
    vocabulary = {piece: number for number, piece in enumerate((*_SPECIAL, *pieces, *rest))}
    return BertTokenizer(vocab=vocabulary, do_lower_case=True)


def _most_frequent(counts: Counter[str]) -> list[str]:
    return sorted(counts, key=lambda piece: (-counts[piece], piece))


def _loaded(encoder: str) -> Any:
    from transformers import AutoTokenizer

    folder = Path(encoder).expanduser()
    names = ("tokenizer.json", "vocab.txt", "vocab.json")
    if folder.is_dir() and not any((folder / name).exists() for name in names):
        raise BadInput(
            f"encoder: {encoder}: the folder has no tokenizer (tokenizer.json or vocab.txt){_conversion(folder)}"
        )
    return load_pretrained(AutoTokenizer, encoder, "its tokenizer does not load")


def _conversion(folder: Path) -> str:
    """Return how to make a fast tokenizer from the SentencePiece model in `folder`; nothing if it has none."""
    models = sorted(file.name for file in folder.glob("*.model"))
    if not models:
        return ""
    make = f"from transformers import AutoTokenizer as T; T.from_pretrained('{folder}').save_pretrained('{folder}')"
    return (
        f"; {models[0]} belongs to a slow tokenizer. To convert it to tokenizer.json, run `pip install sentencepiece protobuf` "
        f'and `python -c "{make}"`'
    )


@contextlib.contextmanager
def _in_parallel() -> Iterator[None]:
    """Encode on all cores, then switch that off; otherwise the next fork of this process prints a warning."""
    os.environ[_PARALLELISM] = _chosen or "true"
    try:
        yield
    finally:
        os.environ[_PARALLELISM] = _chosen or "false"
