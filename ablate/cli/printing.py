"""Printing: results on stdout, messages on stderr, control characters escaped."""

import json
import sys
from typing import Any

from ablate.text import printable


def show(document: dict[str, Any], text: str, as_json: bool) -> None:
    """Print a result: one JSON document, or the text for a person."""
    if as_json:
        print(printable(json.dumps(document, ensure_ascii=False), lambda c: json.dumps(c)[1:-1]))
    else:
        say(text)


def complain(*lines: str) -> None:
    """Print to stderr."""
    for line in lines:
        print(printable(line), file=sys.stderr)


def say(text: str) -> None:
    """Print to stdout."""
    print("\n".join(map(printable, text.split("\n"))))
