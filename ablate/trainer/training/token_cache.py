"""The study's tokens, kept in memory between trials of a process."""

from pathlib import Path

from ablate.trainer.data.reading import reading_key
from ablate.trainer.data.tokens import Tokens, load_tokens
from ablate.trainer.settings import Settings

_tokens: dict[tuple[str, ...], Tokens] = {}
# How many sets of tasks are kept: the parts of one study may train different tasks.
_KEPT = 8


def tokens_of(settings: Settings, cache: Path, splits: tuple[str, ...] = ("train", "dev")) -> Tokens:
    """Return the tokens of the tasks to train, from memory if this process has opened them before.

    Raises:
        BadInput, Unavailable: as in `load_tokens`.
    """
    sources = settings.sources
    written = [
        f"{task.name} {source.model_dump_json()} {reading_key(task)}" for task, source in sources.items()
    ]
    key = (*written, settings.encoder, str(settings.max_length), str(cache), *splits)
    if key not in _tokens:
        while len(_tokens) >= _KEPT:
            del _tokens[next(iter(_tokens))]
        _tokens[key] = load_tokens(sources, settings.encoder, settings.max_length, cache, splits)
    return _tokens[key]
