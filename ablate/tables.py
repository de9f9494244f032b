"""Read delimited text files strictly: the text of a file, its records with line numbers, every fault with its place.

Refuses what it would have to guess: anything but a regular file, workbooks, archives and databases, bytes that are not text, a
quote that would swallow the lines after it."""

import codecs
import csv
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ablate.errors import BadInput
from ablate.files import other_kind
from ablate.text import closest

MOST_BYTES = 512 << 20  # of text, unpacked: guards against a small file that unpacks without end
SHOWN_FAULTS = 20  # of one file; the rest are counted
SQLITE = b"SQLite format 3\0"
UTF_8 = {codecs.BOM_UTF8: "utf-8-sig"}
# The longer marks first: UTF-32's begins with UTF-16's.
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    **UTF_8,
}
_GZIP, _XZ = b"\x1f\x8b", b"\xfd7zXZ\0"
_PACKED = {".gz": ("gzip", _GZIP), ".xz": ("xz", _XZ)}
_OTHER_FORMATS = {  # first bytes -> what it is, and how to get a table out of it
    b"PK\x03\x04": "a zip archive or an Excel workbook; save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook; save the sheet as CSV",
    _GZIP: "compressed with gzip; unpack it first, or end its name in .gz",
    _XZ: "compressed with xz; unpack it first, or end its name in .xz",
    b"BZh": "compressed with bzip2; unpack it first",
    b"\x28\xb5\x2f\xfd": "compressed with zstd; unpack it first",
    b"PAR1": "a parquet file; write it as CSV, in Python: pandas.read_parquet(FILE).to_csv(NEW, index=False)",
    SQLITE: "an SQLite database; only `ablate analyze` reads one",
}
LONE_QUOTE = (
    'a double quote opens a field here and swallows the lines after it; write a quote inside a field as ""'
)


class Faults:
    """The faults of one file, raised together in the order of its lines."""

    def __init__(self, place: Path | str, each: str = ":") -> None:
        self.place = place
        self._each = each  # stands between the file and the line
        self._found: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, what: str, line: int | None = None, column: str | None = None) -> None:
        """Note one fault: `file:line: column: what`."""
        at = str(self.place) if line is None else f"{self.place}{self._each}{line}"
        self._found.append((line or 0, ": ".join(part for part in (at, column, what) if part)))

    @property
    def lines(self) -> list[str]:
        """The faults, one a line; beyond the first twenty only their number."""
        messages = [message for _, message in sorted(self._found, key=lambda fault: fault[0])]
        more = len(messages) - SHOWN_FAULTS
        return [*messages[:SHOWN_FAULTS], f"{self.place}: and {more:,} more faults"] if more > 0 else messages

    def raise_any(self) -> None:
        """Raise BadInput if there is a fault."""
        if self._found:
            raise BadInput(*self.lines)


def read_text(path: Path, marks: Mapping[bytes, str] = BYTE_ORDER_MARKS) -> str:
    """Return the text of a file; one whose name ends in .gz or .xz is unpacked.

    Args:
        path: the file.
        marks: the byte-order marks to accept, each with its encoding. A file without a mark is read as UTF-8.

    Raises:
        BadInput: it is not a regular file, cannot be read, or is not text.
    """
    data = read_bytes(path, MOST_BYTES + 1)
    kind, magic = _PACKED.get(path.suffix.lower(), ("", b""))
    if kind and not data.startswith(magic):
        raise BadInput(f"{path}: not a {kind} file, despite its name; rename it or compress it again")
    if kind:
        data = _unpacked(data, kind, path)
    if len(data) > MOST_BYTES:
        raise BadInput(f"{path}: more than {MOST_BYTES >> 20} MiB of text; leave out what is not needed")
    if not data.strip():
        raise BadInput(f"{path}: the file is empty; a header and rows are needed")
    for start, what in _OTHER_FORMATS.items():
        if data.startswith(start):
            raise BadInput(f"{path}: {what}")
    text = _decoded(data, path, marks)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        is_utf_16 = b"\0" in data[:2]
        what = (
            "UTF-16 without a byte-order mark? Save the file as UTF-8"
            if is_utf_16
            else "this is not a text file"
        )
        raise BadInput(f"{path}:{line}: a NUL byte; {what}")
    return text


def read_bytes(path: Path, most: int) -> bytes:
    """Return at most `most` bytes of a regular file. A pipe could block and a device never end, so both are refused.

    Raises:
        BadInput: it is not a regular file, or cannot be read.
    """
    refuse_no_file(path)
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from None


def refuse_no_file(path: Path) -> None:
    """Refuse what is not a regular file, without opening it.

    Raises:
        BadInput: it is none, or the path leads nowhere.
    """
    try:
        if why := _why_no_file(path.stat().st_mode):
            raise BadInput(f"{path}: {why}")
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file{_nearby(path)}") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def records(
    lines: Sequence[str], delimiter: str, faults: Faults, *, skip_blanks: bool = False
) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number from 1, fields) of every record; after a line that is not valid CSV, continue with the next.

    Args:
        lines: the lines of the text, with their line ends.
        delimiter: one character.
        faults: collects what is wrong.
        skip_blanks: whether to drop blanks after a delimiter.
    """
    start = 0
    for _ in range(SHOWN_FAULTS + 1):
        reader = csv.reader(lines[start:], delimiter=delimiter, skipinitialspace=skip_blanks, strict=True)
        base = start
        try:
            for fields in reader:
                yield start + 1, fields
                start = base + reader.line_num
            return
        except csv.Error as error:
            faults.add(_explained(str(error), lines[start]), start + 1)
            start += 1


def _why_no_file(mode: int) -> str:
    kind = other_kind(mode)
    if kind == "a pipe":
        return f"{kind}; save its output to a file, and name that file"
    return kind and f"{kind}; name a file"


def _nearby(path: Path) -> str:
    try:
        near = closest(path.name, (entry.name for entry in path.parent.iterdir()))
    except OSError:
        return f"; the folder {path.parent} does not exist either"
    return f"; did you mean {near!r}?" if near else ""


def _unpacked(data: bytes, kind: str, path: Path) -> bytes:
    packed = io.BytesIO(data)
    try:
        with gzip.GzipFile(fileobj=packed) if kind == "gzip" else lzma.LZMAFile(packed) as file:
            return file.read(MOST_BYTES + 1)
    except EOFError:
        raise BadInput(f"{path}: the {kind} file ends too early; copy or download it again") from None
    except (OSError, lzma.LZMAError, zlib.error) as error:
        raise BadInput(f"{path}: the {kind} file is damaged ({error}); copy or download it again") from None


def _decoded(data: bytes, path: Path, marks: Mapping[bytes, str]) -> str:
    mark = next((mark for mark in BYTE_ORDER_MARKS if data.startswith(mark)), b"")
    encoding = BYTE_ORDER_MARKS.get(mark, "utf-8")
    if mark and mark not in marks:
        raise BadInput(f"{path}: the file is {encoding.upper()}; save it as UTF-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        byte = f"byte {data[error.start]:#04x}"
        what = (
            f"not {encoding.upper()}, as its first bytes say"
            if encoding in ("utf-16", "utf-32")
            else "not UTF-8"
        )
        raise BadInput(f"{path}:{line}: {what} ({byte}); save the file as UTF-8") from None


def _explained(error: str, line: str) -> str:
    line = line.rstrip("\r\n")
    if len(line) > csv.field_size_limit():
        return f"{len(line):,} characters long; a field may have {csv.field_size_limit():,}"
    if "\r" in line:
        return "a carriage return inside the line; end lines by LF or CRLF"
    if "expected after" in error:
        return 'a quoted field goes on after its closing quote; write a quote inside a field as ""'
    return LONE_QUOTE
