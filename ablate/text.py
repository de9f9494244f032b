"""Text for people to read: safe to print, close matches, plurals, durations."""

import difflib
import re
import textwrap
import traceback
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

LONGEST_SHOWN = 60  # characters of a name or value in a message: a fault stays one readable line


def printable(text: str, escaped: Callable[[str], str] = lambda c: ascii(c)[1:-1]) -> str:
    """Return `text` with escapes for all characters that a terminal would act on instead of showing.

    A name or a field in a user's file may contain codes that clear the screen or reverse the direction of the text."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else escaped(c) for c in text)


_LAST_COLUMN = re.compile(r"\s*\S.* {2,}(?=\S)")
NARROWEST = 24  # characters; a last column that would be narrower goes below its row


def wrapped(line: str, width: int) -> list[str]:
    """Return a line as lines of at most `width` characters; a longer word, such as a path, stays whole so that it can be copied.

    What continues a line is indented: below its last column (after two spaces) if it has several, otherwise by two more spaces.
    """
    if len(line) <= width:
        return [line]
    indent = len(line) - len(line.lstrip(" "))
    columns = _LAST_COLUMN.match(line)
    start = columns.end() if columns else indent
    first, text, hang = line[:start], line[start:], start if columns else indent + 2
    above = []
    if columns and width - start < max(NARROWEST, *map(len, text.split())):
        above, hang = wrapped(first.rstrip(), width), indent + 4
        first = " " * hang
    return above + textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=" " * hang,
        break_long_words=False,
        break_on_hyphens=False,
    )


# Replacements for characters that a terminal cannot show.
_PLAIN = str.maketrans(
    {
        "−": "-",
        "–": "-",
        "—": "-",
        "×": "x",
        "→": "->",
        "…": "...",
        "±": "+-",
        "≥": ">=",
        "≤": "<=",
        "·": "*",
        "²": "^2",
    }
    | {"σ": "sigma", "Δ": "delta", "α": "alpha", "“": '"', "”": '"', "‘": "'", "’": "'", "\xa0": " "}
)


def plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """Handle characters that an encoding lacks: `->` for an arrow, an escape for what has no plain spelling."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    unencodable = error.object[error.start : error.end]
    return unencodable.translate(_PLAIN).encode("ascii", "backslashreplace").decode("ascii"), error.end


_CODES = re.compile(
    r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)|\x9b[0-?]*[ -/]*[@-~]", re.DOTALL
)


def without_codes(line: str) -> str:
    """Return a line of a program's output that is safe to print: without colours and other codes, but with its tabs."""
    return "\t".join(map(printable, _CODES.sub("", line).split("\t")))


def one_line(text: object) -> str:
    """Return `text` on one line: line breaks and tabs become spaces, invisible characters are removed."""
    spaced = " ".join(str(text).split())
    return "".join(c for c in spaced if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co"))


def as_it_looks(text: str) -> str:
    """Return text in a form that is equal for texts that look equal: with accents
    encoded in one way, one kind of space, and no invisible characters."""
    return unicodedata.normalize("NFC", one_line(text))


def is_utf8(text: str) -> bool:
    """Return whether text can be written as UTF-8; names and arguments that are not UTF-8 contain surrogates."""
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
    try:
        return shortened(repr(value) if isinstance(value, str) else printable(str(value)))
    # Python refuses to print an integer of more than 4,300 digits.
    except ValueError:
        return "(an integer too large to print)"


def error_line(error: BaseException, folder: Path | None = None) -> str:
    """Return `TypeError: text (file.py:12)`, with the innermost line (in `folder`, if given)."""
    # A user's __str__ may raise anything.
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


def split_list(typed: str) -> list[str]:
    """Return the items of a list with commas. As in CSV, an item in double quotes may contain commas."""
    items, end = [], 0
    while item := _ITEM.match(typed, end):
        items.append(item["plain"].strip() if item["quoted"] is None else item["quoted"].replace('""', '"'))
        if not item["comma"]:
            break
        end = item.end()
    return items


_ITEM = re.compile(r'(?:\s*"(?P<quoted>(?:[^"]|"")*)"\s*|(?P<plain>[^,]*))(?P<comma>,|\Z)')


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


_LOSS = re.compile(
    r"(?i)(?<![a-z])(loss|err|error|errors|mse|rmse|mae|nll|ppl|perplexity|wer|cer|bpc|bpb)(?![a-z])"
)


def sounds_like_a_loss(name: str) -> bool:
    """Return whether smaller values of a metric of this name are usually better."""
    return bool(_LOSS.search(name.replace("_", " ")))
