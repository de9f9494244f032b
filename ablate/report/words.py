"""Numbers and names as people read them."""

import re
import unicodedata
from collections.abc import Callable, Iterable

MINUS = "\N{MINUS SIGN}"


def number(value: float | None, digits: int = 4) -> str:
    """Return `0.8204`, `12.35`, `1.2e-06`; an en dash for what is not there."""
    if value is None:
        return "–"
    value += 0.0  # −0 is 0
    magnitude = abs(value)
    if magnitude != 0 and (magnitude < 10.0**-digits or magnitude >= 1e6):
        text = f"{value:.2e}"
    else:
        text = f"{value:.{digits if magnitude < 10 else 2}f}"
    return text.replace("-", MINUS)


def signed(value: float | None) -> str:
    """Return `+0.0123` or `−0.0123`."""
    if value is None:
        return "–"
    return ("+" if value > 0 else "") + number(value)


def interval(bounds: tuple[float, float] | None, *, sign: bool = True) -> str:
    """Return `[−0.0012, +0.0251]`; an en dash for what is not there."""
    show = signed if sign else number
    return f"[{show(bounds[0])}, {show(bounds[1])}]" if bounds else "–"


def p_text(p: float | None) -> str:
    """Return `.034`, `< .001`; an en dash for what is not there."""
    if p is None:
        return "–"
    return "< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def p_equation(p: float) -> str:
    """Return `p = .034` or `p < .001`."""
    return f"p {p_text(p)}" if p < 0.001 else f"p = {p_text(p)}"


def df_text(df: float | None) -> str:
    """Return `54`, `2.3`; an en dash for none."""
    return "–" if df is None else f"{df:.1f}".removesuffix(".0")


def duration(seconds: float | None) -> str:
    """Return `0.4 s`, `12 min`, `3.1 h`."""
    if seconds is None:
        return "–"
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def plural(count: int, noun: str) -> str:
    """Return `1 seed`, `3 seeds`."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def listed(names: Iterable[object], most: int = 4, sep: str = ", ") -> str:
    """Return `a, b, c, d and 3 more`."""
    every = [str(name) for name in names]
    rest = len(every) - most
    return sep.join(every[:most]) + (f" and {rest} more" if rest > 0 else "")


def one_line(text: str) -> str:
    """Return `text` without line breaks or invisible characters."""
    spaced = re.sub(r"\s+", " ", text).strip()
    return "".join(c for c in spaced if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co"))


def shortened(text: str, width: int) -> str:
    """Return at most `width` characters: the middle gives way, since both ends distinguish names."""
    text = one_line(text)
    if len(text) <= width:
        return text
    head = (width - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def distinct(names: list[str], shorten: Callable[[str, int], str], width: int) -> list[str]:
    """Return `names` shortened to `width`, numbered where shortening made two of them equal."""
    short = [shorten(name, width) for name in names]
    return [f"{s} ({place})" if short.count(s) > 1 else s for place, s in enumerate(short, 1)]
