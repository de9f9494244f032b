"""Writing whole files, and fields that no spreadsheet takes for a formula."""

import os
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` at `path`, so that a reader sees the old file or the new one, never half of one.

    Raises:
        OSError: the folder cannot be written; what was there before is whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def safe_field(value: object) -> object:
    """Return texts that a spreadsheet would run as a formula with an apostrophe before them; numbers as they are.

    Source: OWASP, "CSV Injection".
    """
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") and not _is_number(value):
        return "'" + value
    return value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
