"""Read the text of a study file; anything but a small UTF-8 file is refused at once."""

import stat
from pathlib import Path

from ablate.errors import BadInput
from ablate.text import printable, suggestion

# A long study has 10 kB; pure-Python YAML reads 256 kB in about half a second.
MAX_BYTES = 256 * 1024


def read_text(path: Path, what: str = "the study's YAML file") -> str:
    """Return the file's text. `what`: what the file should be, for messages.

    Raises:
        BadInput: missing, a folder or device, unreadable, larger than 256 kB, or not plain UTF-8.
    """
    return _decode(_read_bytes(path, what), printable(str(path)))


def _read_bytes(path: Path, what: str) -> bytes:
    shown = printable(str(path))
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise BadInput(f"{shown}: is a folder; name {what} in it")
        if not stat.S_ISREG(status.st_mode):
            raise BadInput(f"{shown}: is not a regular file; name {what}")
        if status.st_size > MAX_BYTES:
            raise BadInput(f"{shown}: {status.st_size:,} bytes; a study file has at most {MAX_BYTES:,}")
        with path.open("rb") as file:
            return file.read(MAX_BYTES)
    except FileNotFoundError as error:
        raise BadInput(f"{shown}: no such file; {_nearby(path)}") from error
    except OSError as error:
        raise BadInput(
            f"{shown}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from error
    # The path contains a NUL.
    except ValueError as error:
        raise BadInput(f"{shown}: is not a path; name {what}") from error


def _nearby(path: Path) -> str:
    files = sorted(path.parent.glob("*.yaml"))[:1000] if path.parent.is_dir() else []
    return (
        suggestion(path.name, (file.name for file in files))
        if files
        else "`ablate init` writes one to start from"
    )


def _decode(data: bytes, shown: str) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadInput(f"{shown}:1:1: UTF-16 text; save the file as UTF-8")
    if data.startswith(b"\xef\xbb\xbf"):
        raise BadInput(f"{shown}:1:1: starts with a byte order mark; save the file as UTF-8 without BOM")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        raise BadInput(
            f"{shown}:{line}:{column}: byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from error
