"""Bounds on what a bundle may unpack to: a small zip file can claim to hold terabytes, or millions of files.

A bundle is unpacked only after both functions have passed it. `zipfile` never unpacks more of a file than the directory says,
so these bounds hold."""

import struct
import zipfile
from pathlib import Path

from ablate.errors import BadInput

MOST_CONTENT = 1 << 30  # bytes of what is recorded, as JSON
MOST_DIRECTORY = 32 << 20  # bytes of the list of files: some 300,000
# A bundle may unpack to this many bytes, plus this multiple of its own size: predictions and models rarely shrink to a tenth.
MOST_UNPACKED, MOST_GROWTH = 1 << 30, 100

# Where the last records of a zip file start, in bytes before its end, if it has no comment (ours have none).
_END, _LOCATOR, _END_64 = 22, 22 + 20, 22 + 20 + 56


def refuse_long_directory(bundle: Path) -> None:
    """Refuse a zip file with more files than a study has; `zipfile` would read the whole list into memory.

    Raises:
        BadInput: there are too many files.
        BadZipFile: it does not end like a bundle.
    """
    size = bundle.stat().st_size
    with bundle.open("rb") as file:
        file.seek(max(0, size - _END_64))
        tail = file.read()
    end = tail[-_END:]
    if len(end) < _END or not end.startswith(b"PK\x05\x06"):
        raise zipfile.BadZipFile("File is not a zip file, or is cut off")
    (directory,) = struct.unpack_from("<L", end, 12)
    if tail[-_LOCATOR:].startswith(b"PK\x06\x07"):
        (place,) = struct.unpack_from("<Q", tail[-_LOCATOR:], 8)
        if place != size - _END_64:
            raise zipfile.BadZipFile("its end is damaged")
        (directory,) = struct.unpack_from("<Q", tail, 40)
    if directory > MOST_DIRECTORY:
        raise BadInput(
            f"{bundle}: lists more files than a study has ({directory >> 20} MiB of names); copy or download it again"
        )


def refuse_bomb(packed: zipfile.ZipFile, bundle: Path, content: str) -> None:
    """Refuse a bundle that would unpack to more than a study can have. `content`: the name of the file with what is recorded.

    Raises:
        BadInput: it would unpack to more.
        BadZipFile: it is compressed by a method that we do not write, for which `zipfile` does not bound the unpacked size.
    """
    files = packed.infolist()
    if any(file.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for file in files):
        raise zipfile.BadZipFile("compressed by another program")
    total = sum(file.file_size for file in files)
    recorded = sum(file.file_size for file in files if file.filename == content)
    if recorded > MOST_CONTENT or total > MOST_UNPACKED + MOST_GROWTH * bundle.stat().st_size:
        raise BadInput(
            f"{bundle}: {bundle.stat().st_size >> 20:,} MiB that would unpack to {total >> 20:,} MiB, more than a study has; "
            "copy or download it again"
        )
