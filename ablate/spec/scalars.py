"""Scalars of YAML 1.2's core schema: what a plain text means, and which texts are only read as text if quoted."""

import math
import re

from ablate.text import shown

_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
# Texts that people and YAML 1.1 read as numbers, but that the core schema reads as text or as another number: 010 is 8 in YAML
# 1.1 and 10 in the core schema.
_MISREAD = re.compile(
    r"[-+]?(0[0-9]+|0b[01_]+|[0-9]{1,3}(_[0-9]{3})+(\.[0-9]*)?)|[-+]0[ox][0-9a-f]+|0[ox][0-9a-f]*_[0-9a-f_]*",
    re.IGNORECASE,
)
_SPECIAL = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{sign + name: float(sign + "inf") for sign in ("", "+", "-") for name in (".inf", ".Inf", ".INF")},
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}


def resolve(text: str) -> str | int | float | bool | None:
    """Return what the plain scalar `text` means under the YAML 1.2 core schema.

    Raises:
        ValueError: a whole number beyond 64 bits, NaN or infinity, a number too small to be told from 0, or a notation that
            YAML reads differently from people; the message says which, and how to fix it.
    """
    if text in _SPECIAL:
        value: str | int | float | bool | None = _SPECIAL[text]
    elif _MISREAD.fullmatch(text):
        raise ValueError(
            f"{shown(text)} could be text or a number; write a plain number, or quote it to mean text"
        )
    elif _INTEGER.fullmatch(text):
        # int() itself refuses more than 4,300 digits.
        value = int(text, 0 if text[:2] in ("0o", "0x") else 10) if len(text) <= 24 else 2**64
        if not -(2**63) <= value < 2**63:
            raise ValueError(
                f"{shown(text)} does not fit in 64 bits; use a smaller number, or quote it to mean text"
            )
    elif _FLOAT.fullmatch(text):
        value = float(text)
        if not value and re.search("[1-9]", re.split("[eE]", text)[0]):
            raise ValueError(
                f"{text} is too small to be told from 0; use a larger number, or quote it to mean text"
            )
    else:
        return text
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number; use a finite one, or quote it to mean text")
    return value


def is_text(text: str) -> bool:
    """Return whether the plain scalar `text` means itself, not a number, true, false or null."""
    try:
        return isinstance(resolve(text), str)
    except ValueError:
        return False
