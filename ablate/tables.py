"""Read delimited text files strictly: the text of a file, its records with line numbers, every fault with its place.

Never guesses. Refuses everything but regular files of text (no workbooks, archives or databases), and a quote that would
swallow the lines after it."""

import codecs
import csv
import gzip
import io
import lzma
import os
import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path

from ablate.errors import BadInput
from ablate.files import other_kind
from ablate.text import closest

# The most text in a file, unpacked: a guard against small files that unpack to gigabytes.
MOST_BYTES = 512 << 20
SHOWN_FAULTS = 20  # how many faults of a file are listed; the rest are counted
NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
SQLITE = b"SQLite format 3\0"
UTF_8 = {codecs.BOM_UTF8: "utf-8-sig"}
# Longer marks come first, since UTF-32's begins with UTF-16's.
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
        self._found: dict[tuple[int, str], None] = {}

    def __len__(self) -> int:
        return len(self._found)

    def add(self, what: str, line: int | None = None, column: str | None = None) -> None:
        """Note one fault: `file:line: column: what`."""
        at = str(self.place) if line is None else f"{self.place}{self._each}{line}"
        self._found[line or 0, ": ".join(part for part in (at, column, what) if part)] = None

    @property
    def lines(self) -> list[str]:
        """The faults, one per line; after the first twenty, only their number."""
        messages = [message for _, message in sorted(self._found, key=lambda fault: fault[0])]
        more = len(messages) - SHOWN_FAULTS
        return [*messages[:SHOWN_FAULTS], f"{self.place}: and {more:,} more faults"] if more > 0 else messages

    def raise_any(self) -> None:
        """Raise BadInput if there is a fault."""
        if self._found:
            raise BadInput(*self.lines)


def read_text(path: Path, marks: Mapping[bytes, str] = BYTE_ORDER_MARKS) -> str:
    """Return the text of a file; if its name ends in .gz or .xz, it is unpacked.

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
    for start, what in _OTHER_FORMATS.items():
        if data.startswith(start):
            raise BadInput(f"{path}: {what}")
    text = _decoded(data, path, marks)
    if not text.strip():
        raise BadInput(f"{path}: the file is empty; a header and rows are needed")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        is_utf_16 = b"\0" in data[:2]
        what = (
            "UTF-16 without a byte-order mark? Save the file as UTF-8"
            if is_utf_16
            else "this is not a text file"
        )
        raise BadInput(f"{path}:{line}: a NUL byte; {what}")
    # Decoding has already removed the mark at the start of the file.
    at = 0 if text.startswith("\ufeff") else text.find("\n\ufeff") + 1
    if text.startswith("\ufeff", at):
        line = text.count("\n", 0, at) + 1
        what = "the line begins with a byte-order mark (were two files joined?); remove it"
        raise BadInput(f"{path}:{line}: {what}")
    return text


def read_bytes(path: Path, most: int) -> bytes:
    """Return at most `most` bytes of a regular file. A pipe could block and a device never end, so both are refused.

    Raises:
        BadInput: it is not a regular file, or cannot be read.
    """
    refuse_no_file(path)
    try:
        # Some files of /proc would wait for more to come.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            data = file.read(most)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror or error}") from None
    if data is None:
        raise BadInput(
            f"{path}: reading it does not end (it waits for more data); save a copy, and name the copy"
        )
    return data


def refuse_no_file(path: Path) -> None:
    """Refuse anything but a regular file, without opening it.

    Raises:
        BadInput: it is not a regular file, or does not exist.
    """
    try:
        if why := _why_no_file(path.stat().st_mode):
            raise BadInput(f"{path}: {why}")
    except FileNotFoundError:
        nearby = "; standard input is not read, save it to a file" if str(path) == "-" else _nearby(path)
        raise BadInput(f"{path}: no such file{nearby}") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def records(
    lines: Sequence[str],
    delimiter: str,
    faults: Faults,
    *,
    skip_blanks: bool = False,
    quotes: bool = True,
    advice: str = "",
) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number from 1, fields) of every record; after a line that is not valid CSV, continue with the next.

    Args:
        lines: the lines of the text, with their line ends.
        delimiter: one character.
        faults: collects what is wrong.
        skip_blanks: whether to drop blanks after a delimiter.
        quotes: whether a double quote at the start of a field opens it; else it is a character like any other.
        advice: added to messages about quotes.
    """
    start = 0
    single: list[list[str]] = []
    several: list[tuple[int, int]] = []  # first line from 0, line after the last
    for _ in range(SHOWN_FAULTS + 1):
        reader = csv.reader(
            lines[start:],
            delimiter=delimiter,
            skipinitialspace=skip_blanks,
            strict=True,
            quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
        )
        base = start
        try:
            for fields in reader:
                end = base + reader.line_num
                if end == start + 1:
                    single.append(fields)
                else:
                    several.append((start, end))
                yield start + 1, fields
                start = end
            break
        except csv.Error as error:
            what, is_quote = _explained(str(error), lines[start])
            faults.add(what + advice * is_quote, start + 1)
            start += 1
    for line in _swallowed(lines, several, single, delimiter):
        faults.add(LONE_QUOTE + advice, line)


def _swallowed(
    lines: Sequence[str], several: Sequence[tuple[int, int]], single: Sequence[list[str]], delimiter: str
) -> Iterator[int]:
    """Yield the first line of each record that is probably several rows, joined by a lone quote.

    Each of its lines would be a row by itself, and in at least one column they all look like the other rows. `single`: the
    header and the rows of one line."""
    width = max(Counter(map(len, single)).items(), key=itemgetter(1), default=(0, 0))[0]
    rows_of = {
        begin + 1: [[field.strip() for field in line.split(delimiter)] for line in lines[begin:end]]
        for begin, end in several
    }
    suspects = {line: rows for line, rows in rows_of.items() if all(len(row) == width > 1 for row in rows)}
    if suspects:
        columns = [{row[at].strip() for row in single[1:] if len(row) == width} for at in range(width)]
        numeric = [bool(column) and all(map(NUMBER.fullmatch, column)) for column in columns]
        for line, rows in suspects.items():
            if any(
                all(row[at] in column or (numeric[at] and NUMBER.fullmatch(row[at])) for row in rows)
                for at, column in enumerate(columns)
            ):
                yield line


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
    if near and unicodedata.normalize("NFC", near) == unicodedata.normalize("NFC", path.name):
        return f"; there is {near!a}, which looks the same but encodes its accents differently; rename one of the two"
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
            f"not {encoding.upper()}, although its first bytes say so"
            if encoding in ("utf-16", "utf-32")
            else "not UTF-8"
        )
        raise BadInput(f"{path}:{line}: {what} ({byte}); save the file as UTF-8") from None


def _explained(error: str, line: str) -> tuple[str, bool]:
    """Return what is wrong with a line, and whether it is a quote."""
    line = line.rstrip("\r\n")
    if len(line) > csv.field_size_limit():
        return f"{len(line):,} characters long; a field may have at most {csv.field_size_limit():,}", False
    if "\r" in line:
        return "a carriage return inside the line; end lines with LF or CRLF", False
    if "expected after" in error:
        return 'a quoted field continues after its closing quote; write a quote inside a field as ""', True
    return LONE_QUOTE, True
