"""Escaping: names that users chose, written so that markdown and LaTeX show them unchanged."""

import re
import unicodedata

from ablate.report.formatting import MINUS
from ablate.text import one_line, printable

# Unicode's bidirectional controls, which can reverse the text that follows.
_BIDIRECTIONAL = re.compile("[\u202a-\u202e\u2066-\u2069]")


def escape_bidirectional(page: str) -> str:
    """Return a page with the bidirectional controls in names that users chose written as escapes."""
    return _BIDIRECTIONAL.sub(lambda match: printable(match[0]), page)


def markdown(text: object) -> str:
    """Return `text` escaped for a GitHub table, list or paragraph."""
    escaped = one_line(str(text)).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    escaped = re.sub(r"([\\`*_\[\]|~#])", r"\\\1", escaped)
    # GitHub reads text after a lone dollar as math, even with a backslash before it.
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
    # After \\ a bare bracket would be an optional argument.
    "[": r"{[}",
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
    """Return `text` escaped for LaTeX; characters that pdfTeX has no glyph for are replaced by their names.

    A word of more than 20 characters may break after each of them; otherwise TeX would run it into the next column."""
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
    """Return `text` as inline code, fenced by more backticks than it contains in a row."""
    line = one_line(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    pad = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{pad}{line}{pad}{fence}"
