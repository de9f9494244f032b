"""Text for people to read: safe to print, close matches, plurals, durations."""

import difflib
import re
import traceback
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

LONGEST_SHOWN = 60  # characters of a name or value in a message: a fault stays one readable line


def printable(text: str, escaped: Callable[[str], str] = lambda c: ascii(c)[1:-1]) -> str:
    """Return `text` with every character escaped that a terminal would act on instead of showing.

    A name or a field in a user's file may contain codes that clear the screen or reverse the direction of the text."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else escaped(c) for c in text)


_CODES = re.compile(
    r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)|\x9b[0-?]*[ -/]*[@-~]", re.DOTALL
)


def without_codes(line: str) -> str:
    """Return a line of a program's output as it can be printed: without colours and other codes, its tabs kept."""
    return "\t".join(map(printable, _CODES.sub("", line).split("\t")))


def one_line(text: object) -> str:
    """Return `text` on one line: line breaks and tabs become spaces, invisible characters are removed."""
    spaced = " ".join(str(text).split())
    return "".join(c for c in spaced if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co"))


def is_utf8(text: str) -> bool:
    """Say whether text can be written as UTF-8; names and arguments that the system cannot read as such hold stand-ins."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


def shortened(text: str, width: int = LONGEST_SHOWN) -> str:
    """Return at most `width` characters: the middle is cut out, since names usually differ at one of the ends."""
    if len(text) <= width:
        return text
    head = (width - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def shown(value: object) -> str:
    """Return a value for use in a message: as YAML spells it, text in quotes, on one line, shortened."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    return shortened(repr(value) if isinstance(value, str) else printable(str(value)))


def error_line(error: BaseException, folder: Path | None = None) -> str:
    """Return `TypeError: text (file.py:12)`: the innermost line, of the files in `folder` if that is given."""
    # A hostile or careless __str__ may raise anything.
    try:
        text = one_line(str(error).strip().partition("\n")[0])
    except Exception:
        text = "(its text cannot be read)"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({Path(error.filename).name}:{error.lineno})"
    lines = list(traceback.extract_tb(error.__traceback__))
    if folder is not None:
        lines = [line for line in lines if _is_own(Path(line.filename), folder)]
    place = f" ({Path(lines[-1].filename).name}:{lines[-1].lineno})" if lines else ""
    return f"{type(error).__name__}: {shortened(text, 500)}{place}"


def _is_own(file: Path, folder: Path) -> bool:
    return file.is_relative_to(folder) and "site-packages" not in file.relative_to(folder).parts


def closest(typed: str, known: Iterable[str]) -> str | None:
    """Return the name in `known` that is closest to `typed`; None if none is close."""
    # difflib takes minutes on long texts.
    return next(iter(difflib.get_close_matches(typed[:200], list(known), n=1)), None)


def suggestion(typed: str, known: Iterable[Any]) -> str:
    """Return `did you mean 'head'?`, or `known: ...` if nothing is close."""
    names = [str(name) for name in known]
    if near := closest(typed, names):
        return f"did you mean {shown(near)}?"
    return (
        f"known: {listed((shortened(printable(name)) for name in names), 12)}" if names else "there are none"
    )


def plural(count: int, noun: str) -> str:
    """Return `1 seed`, `3 seeds`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def listed(names: Iterable[object], most: int = 4, sep: str = ", ") -> str:
    """Return `a, b, c, d and 3 more`."""
    texts = [str(name) for name in names]
    rest = len(texts) - most
    return sep.join(texts[:most]) + (f" and {rest} more" if rest > 0 else "")


def duration(seconds: float | None) -> str:
    """Return `0.4 s`, `45 s`, `12 min`, `3.1 h`; an en dash for None."""
    if seconds is None:
        return "–"
    value, unit = (
        (seconds, "s") if seconds < 90 else (seconds / 60, "min") if seconds < 5400 else (seconds / 3600, "h")
    )
    return f"{value:.{int(value < 10)}f} {unit}"
