"""Text in pictures: short, on one line, with only characters that the font has."""

import textwrap
import unicodedata
from functools import cache

from matplotlib import font_manager

from ablate.report.document import Change
from ablate.spec.model import quoted_level
from ablate.text import one_line, shortened


def change_label(change: Change, width: int) -> str:
    """Return `concat → siamese` for matplotlib, each side shortened separately so that the arrow always remains."""
    sides = (plot_text(quoted_level(level), (width - 3) // 2) for level in (change.low, change.high))
    return " → ".join(sides)


def plot_text(text: str, width: int = 10_000) -> str:
    """Return `text` for matplotlib: short, on one line, with `$` escaped and only characters that the font has."""
    return shortened(_drawable(text), width).replace("$", r"\$")


def wrapped(text: str, columns: int) -> str:
    """Return `text` for matplotlib broken into lines; words longer than a line are broken too."""
    lines = textwrap.wrap(_drawable(text), columns, break_on_hyphens=False)
    return "\n".join(lines).replace("$", r"\$") or " "


def _drawable(text: str) -> str:
    return "".join(_glyph(character) for character in one_line(text))


def _glyph(character: str) -> str:
    if unicodedata.category(character) in ("Mn", "Me"):
        return ""
    return character if _has_glyph(character) else f"[{unicodedata.name(character, 'symbol').lower()}]"


@cache
def _has_glyph(character: str) -> bool:
    font = font_manager.get_font(font_manager.findfont("DejaVu Sans"))
    return font.get_char_index(ord(character)) != 0
