"""Read a file that somebody else wrote as text, or refuse it by name.

UTF-8 with or without a byte-order mark, UTF-16 and UTF-32 with one (what Excel calls "Unicode text"). Refused before a byte is
read: a folder, a pipe, a device, a file too large to be a table of results. Refused by their first bytes: workbooks,
archives, databases."""

import codecs
import os
import stat
from pathlib import Path

from ablate.errors import BadInput

MOST_BYTES = 256 << 20  # ten million predictions are less
SQLITE = b"SQLite format 3\0"
# The longer marks first: UTF-32's begins with UTF-16's.
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8-sig",
}
OTHER_FORMATS = {  # first bytes -> what it is; what would do
    b"PK\x03\x04": "a zip archive or an Excel workbook; save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook; save the sheet as CSV",
    b"\x1f\x8b": "compressed with gzip; unpack it first",
    b"BZh": "compressed with bzip2; unpack it first",
    b"\xfd7zXZ": "compressed with xz; unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it first",
    b"PAR1": "a parquet file; write it as CSV, in Python: pandas.read_parquet(FILE).to_csv(NEW, index=False)",
    SQLITE: "an SQLite database; only `ablate analyze` reads one",
}


def read_text(path: Path) -> str:
    """Return the text of the file at `path`.

    Raises:
        BadInput: it is no file, it cannot be read, or it holds something else than text.
    """
    data = _read(path, MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise BadInput(_too_large(path))
    if not data.strip():
        raise BadInput(f"{path}: the file is empty")
    for start, what in OTHER_FORMATS.items():
        if data.startswith(start):
            raise BadInput(f"{path}: {what}")
    text = _decoded(path, data)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise BadInput(f"{path}:{line}: a NUL byte; {_what_has_nuls(data)}")
    return text


def is_database(source: str) -> bool:
    """Say whether `source` names a database: by a URL, or by a file that is SQLite's.

    Raises:
        BadInput: it is no file, or it cannot be read.
    """
    return "://" in source or _read(Path(source), len(SQLITE)) == SQLITE


def _read(path: Path, most: int) -> bytes:
    """Return the first bytes of a file, of a regular one only: a pipe would be waited for, a device may never end."""
    try:
        status = os.stat(path)
        if why := _no_file(path, status):
            raise BadInput(why)
        with open(path, "rb") as file:
            return file.read(most)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _no_file(path: Path, status: os.stat_result) -> str | None:
    if stat.S_ISDIR(status.st_mode):
        return f"{path}: a folder; name a CSV file"
    if stat.S_ISFIFO(status.st_mode):
        return f"{path}: a pipe; write what comes out of it into a file, and name that"
    if not stat.S_ISREG(status.st_mode):
        return f"{path}: a device or a socket; name a file"
    return None


def _too_large(path: Path) -> str:
    return f"{path}: more than {MOST_BYTES >> 20} MiB; a table of results is smaller: leave out what is not needed"


def _decoded(path: Path, data: bytes) -> str:
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"byte {data[error.start]:#04x}"
        told = "UTF-8" if encoding.startswith("utf-8") else f"{encoding.upper()}, as its first bytes say"
        raise BadInput(f"{path}:{line}: not {told} ({byte}); save the file as UTF-8") from None


def _what_has_nuls(data: bytes) -> str:
    if b"\0" in data[:2]:
        return "UTF-16 without a byte-order mark? Save the file as UTF-8"
    return "this is not a text file"
