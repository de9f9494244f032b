"""A delimited text file as rows with their line numbers, and every fault with its place.

UTF-8 (with or without a BOM), LF or CRLF, tab or comma as the header has it, fields in double quotes as
Python's csv reads them; plain, .gz or .xz. Refuses what would shift or swallow rows in silence: rows of the
wrong width, a quote that is never closed, NUL, bytes that are not UTF-8, a compressed file that ends too
early.
"""

import csv
import difflib
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ablate.errors import BadInput

MOST_FAULTS = 20  # told of one file; the rest are counted
MOST_BYTES = 1 << 29  # of text, decompressed; guards against a small file that unpacks without end
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\0": "xz",
    b"PK\x03\x04": "zip",
    b"BZh": "bzip2",
    b"(\xb5/\xfd": "zstd",
}
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")


@dataclass
class Table:
    """A header and rows, with the faults found in them so far."""

    place: str  # the file, or the hub dataset and its split
    header: list[str]
    rows: list[tuple[int, list[str]]] = field(
        default_factory=list
    )  # (line from 1, fields as wide as the header)
    faults: list[tuple[int, str]] = field(default_factory=list)  # (line, message)

    def fault(self, line: int, column: str, message: str) -> None:
        """Remember a fault."""
        self.faults.append((line, f"{self.place}:{line}: {column}: {message}"))

    def refuse_faults(self) -> None:
        """Tell the faults in the order of the file.

        Raises:
            BadInput: there are any.
        """
        if not self.faults:
            return
        told = [message for _, message in sorted(self.faults, key=lambda fault: fault[0])]
        more = len(told) - MOST_FAULTS
        raise BadInput(*told[:MOST_FAULTS], *([f"{self.place}: and {more:,} more"] if more > 0 else []))


def read_file(path: Path) -> Table:
    """Read a delimited file. Faults of single rows are left in the table, for the caller to add its own to.

    Raises:
        BadInput: the file cannot be read as a table at all.
    """
    text = _decoded(_contents(path), path)
    lines = text.split("\n")  # not splitlines(), which also splits at U+2028 and its like inside a sentence
    if not text.strip():
        raise BadInput(f"{path}: the file is empty; a header line and rows are needed")
    delimiter = _delimiter(next(line for line in lines if line.strip()), path)
    table = Table(str(path), [])
    for line, fields, problem in _records(lines, delimiter):
        if not table.header:
            table.header = [name.strip() for name in fields]
            if problem:
                raise BadInput(f"{path}:{line}: header: {problem}")
        elif problem := problem or _problem(fields, delimiter, len(table.header)):
            table.fault(line, "line", problem)
        else:
            table.rows.append((line, fields))
    return table


def number_or_none(written: str) -> float | None:
    """Return the finite number that `written` is. Python's own float() would also take nan, inf and 1_0."""
    return float(written) if _NUMBER.fullmatch(written) else None


def _contents(path: Path) -> bytes:
    """Read a file, decompressed."""
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise BadInput(f"{path}: there is no such file{_near(path)}") from None
    except IsADirectoryError:
        raise BadInput(f"{path}: this is a folder; a file is needed") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read: {getattr(error, 'strerror', error)}") from None
    kind = {".gz": "gzip", ".xz": "xz"}.get(path.suffix.lower(), "")
    found = next((name for magic, name in _MAGIC.items() if raw.startswith(magic)), "")
    if found != kind:
        what = f"a {found} file" if found else f"not a {kind} file"
        raise BadInput(f"{path}: this is {what}, whatever its name says; .csv, .tsv, .gz and .xz can be read")
    data = _unpacked(raw, kind, path) if kind else raw
    if len(data) > MOST_BYTES:
        raise BadInput(f"{path}: more than {MOST_BYTES >> 20} MiB of text; take a smaller part of it")
    return data


def _unpacked(raw: bytes, kind: str, path: Path) -> bytes:
    packed = io.BytesIO(raw)
    try:
        with gzip.GzipFile(fileobj=packed) if kind == "gzip" else lzma.LZMAFile(packed) as file:
            return file.read(MOST_BYTES + 1)
    except EOFError:
        raise BadInput(f"{path}: the {kind} file ends too early; copy or download it again") from None
    except (OSError, lzma.LZMAError, zlib.error) as error:
        raise BadInput(f"{path}: the {kind} file is damaged ({error}); copy or download it again") from None


def _decoded(data: bytes, path: Path) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise BadInput(f"{path}: the file is UTF-16; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadInput(*_bad_bytes(data, path)) from None
    if "\0" in text:
        lines = [number for number, line in enumerate(text.split("\n"), 1) if "\0" in line]
        more = [f"{path}: and {len(lines) - MOST_FAULTS:,} more"] if len(lines) > MOST_FAULTS else []
        told = [
            f"{path}:{line}: line: holds a NUL character; the file is binary or damaged" for line in lines
        ]
        raise BadInput(*told[:MOST_FAULTS], *more)
    return text.replace("\r\n", "\n")


def _bad_bytes(data: bytes, path: Path) -> list[str]:
    told = []
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            found = line[error.start : error.start + 1]
            told.append(
                f"{path}:{number}: line: byte {error.start + 1} (0x{found.hex()}) is not UTF-8; save as UTF-8"
            )
    more = len(told) - MOST_FAULTS
    return told[:MOST_FAULTS] + ([f"{path}: and {more:,} more"] if more > 0 else [])


def _delimiter(header: str, path: Path) -> str:
    for delimiter in "\t,":
        if delimiter in header:
            return delimiter
    for other, name in ((";", "semicolons"), ("|", "bars")):
        if other in header:
            raise BadInput(f"{path}:1: header: fields seem to be parted by {name}; tab or comma would do")
    shown = header if len(header) <= 60 else header[:57] + "..."
    raise BadInput(
        f"{path}:1: header: one column only ({shown!r}); columns parted by tab or comma are needed"
    )


_LONE_QUOTE = (
    'a double quote opens a field here and swallows the lines after it; write a quote inside a field as ""'
)


def _records(lines: list[str], delimiter: str) -> Iterator[tuple[int, list[str], str]]:
    """Yield (first line from 1, fields, what is wrong), going on at the next line after a fault."""
    start, faults = 0, 0  # lines before the next record; faults so far
    while start < len(lines) and faults <= MOST_FAULTS:
        reader = csv.reader((line + "\n" for line in lines[start:]), delimiter=delimiter, strict=True)
        base = start
        try:
            for fields in reader:
                if fields:
                    yield start + 1, fields, ""
                start = base + reader.line_num
            return
        except csv.Error as error:
            faults += 1
            yield start + 1, [], _explained(str(error), lines[start])
            start += 1


def _explained(error: str, line: str) -> str:
    if len(line) > csv.field_size_limit():
        return f"{len(line):,} characters long; a field may have {csv.field_size_limit():,}"
    if "\r" in line:
        return "a carriage return inside the line; end lines by LF or CRLF"
    if "expected after" in error:
        return 'a quoted field goes on after its closing quote; write a quote inside a field as ""'
    return _LONE_QUOTE


def _problem(fields: list[str], delimiter: str, width: int) -> str:
    """Say what is wrong with a record, if anything."""
    inner = [line for text in fields if "\n" in text for line in text.split("\n")[1:]]
    if inner and (len(fields) != width or any(_looks_like_a_row(line, delimiter, width) for line in inner)):
        return _LONE_QUOTE
    return "" if len(fields) == width else f"{len(fields)} fields where the header has {width}"


def _looks_like_a_row(line: str, delimiter: str, width: int) -> bool:
    cells = next(csv.reader(io.StringIO(line), delimiter=delimiter), [])
    if len(cells) < width - 1:  # the last line of a swallowed stretch has lost what followed its quote
        return False
    return delimiter == "\t" or any(_NUMBER.fullmatch(cell.strip()) for cell in cells)


def _near(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return f"; nor is there a folder {path.parent}"
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
