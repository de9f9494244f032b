"""Numbers, names and sentences as people read them, and escaping for the places they are read in."""

import re
import textwrap
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from ablate.evidence.effects import Kind
from ablate.evidence.predictions import Refusal
from ablate.spec.model import level_text

WHY_REFUSED = {
    Refusal.DAMAGED: "not whole rows of id, prediction, gold",
    Refusal.NOT_FINITE: "a prediction or a label is not a finite number",
    Refusal.TOO_FEW: "fewer than two items",
    Refusal.OTHER_METRIC: "neither their accuracy nor their Pearson's r is the recorded value",
}

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


def interval(bounds: list[float] | None, *, sign: bool = True) -> str:
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


def markdown(text: object) -> str:
    """Return `text` so that it reads as itself in a GitHub table, list or paragraph."""
    escaped = one_line(str(text)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    escaped = re.sub(r"([\\`*_\[\]|~#])", r"\\\1", escaped)
    # What follows a lone dollar would be math; a backslash before it is not enough on GitHub.
    return escaped.replace("$", "<span>$</span>").replace("@", "&#64;")


_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_\allowbreak{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": r"{[}",  # after \\ a bare bracket would be an optional argument
    "]": r"{]}",
    MINUS: "$-$",
    "–": "--",
    "→": r"$\to$",
    "×": r"$\times$",
    "σ": r"$\sigma$",
    "Δ": r"$\Delta$",
    "±": r"$\pm$",
}


def latex(text: object) -> str:
    """Return `text` for LaTeX: markup as itself, characters that pdfTeX has no glyph for by their names.

    A word of more than 20 characters may break after each of them: TeX would run it into the next column."""
    parts = re.split(r"(\S{21,})", one_line(str(text)))
    return "".join(
        (r"\allowbreak{}" if at % 2 else "").join(_latex(character) for character in part)
        for at, part in enumerate(parts)
    )


def _latex(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    if ord(character) < 0x180 and character.isprintable():  # ASCII and Latin letters, which inputenc knows
        return character
    if unicodedata.category(character) in ("Mn", "Me"):
        return ""
    return f"{{[}}{unicodedata.name(character, 'symbol').lower()}{{]}}"


def code(text: str) -> str:
    """Return `text` as inline code, fenced by more backticks than it holds."""
    line = one_line(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def shortened(text: str, width: int) -> str:
    """Return at most `width` characters: the middle gives way, as both ends tell names apart."""
    text = one_line(text)
    if len(text) <= width:
        return text
    head = (width - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (width - 1 - head) :]}"


def change_label(effect: Mapping[str, Any], width: int) -> str:
    """Return `concat → siamese` for matplotlib: each side shortened by itself, so that the arrow is always there."""
    sides = (plot_text(level_text(effect[side]), (width - 3) // 2) for side in ("from", "to"))
    return " → ".join(sides)


def plot_text(text: str, width: int = 10_000) -> str:
    """Return `text` for matplotlib: short, on one line, `$` as itself, every character one that the font has."""
    return shortened(_drawable(text), width).replace("$", r"\$")


def wrapped(text: str, columns: int) -> str:
    """Return `text` for matplotlib broken into lines; words longer than a line are broken too."""
    lines = textwrap.wrap(_drawable(text), columns, break_on_hyphens=False)
    return "\n".join(lines).replace("$", r"\$") or " "


def distinct(names: list[str], shorten: Callable[[str, int], str], width: int) -> list[str]:
    """Return `names` shortened to `width`, numbered where shortening made two of them equal."""
    short = [shorten(name, width) for name in names]
    return [f"{s} ({place})" if short.count(s) > 1 else s for place, s in enumerate(short, 1)]


def change_text(effect: Mapping[str, Any]) -> str:
    """Return `similarity_head: concat → siamese`, with its condition; of a slope `width (slope): 1 → 5`."""
    when = f" (when {effect['when']})" if effect["when"] else ""
    slope = " (slope)" if effect.get("kind") == Kind.SLOPE else ""
    return f"{effect['factor']}{slope}: {level_text(effect['from'])} → {level_text(effect['to'])}{when}"


def _drawable(text: str) -> str:
    return "".join(_glyph(character) for character in one_line(text))


def _glyph(character: str) -> str:
    if unicodedata.category(character) in ("Mn", "Me"):
        return ""
    return character if _has_glyph(character) else f"[{unicodedata.name(character, 'symbol').lower()}]"


@cache
def _has_glyph(character: str) -> bool:
    from matplotlib import font_manager

    font = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    return font.get_char_index(ord(character)) != 0
