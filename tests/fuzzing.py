"""Feeds a reader inputs that nobody would write: valid ones with random changes, and those changed again whose answer was new.

A finding is an exception that the reader does not document, a message that is not one clean line, more than LIMIT_S of processor
time or MEMORY of memory for one input. The same seed gives the same inputs."""

import contextlib
import io
import json
import random
import re
import resource
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ablate.errors import AblateError

LIMIT_S = 10
MEMORY = 2 << 30
LONGEST = 1 << 18  # of an input
KEPT = 300  # inputs whose answer was new
ABLATE = Path(__file__).parent.parent / "ablate"

Change = Callable[[random.Random, bytes], bytes]

# What has broken readers before: numbers at the edge, words that some format reads as something else, syntax, control characters.
ODD_TEXTS = [
    *("", " ", "0", "-0", "01", "1.0", "1_0", "0x1f", "0o17", "+1", ".5", "5.", "1,5", "87,512", "1.234,5", "50%", "−1"),
    *("٣", "²", "1" + "0" * 400, "2.5000000000000001", "%YAML 1.1\n---\n", "\\", "\\ud800", "\\u0000", "&amp;", "x: " * 200),
    *("nan", "NaN", "inf", "-inf", "Infinity", "1e999", "1e999999", "1e-999999", "5e-324", "1e308", "-1e308", "1e16", "9" * 400),
    *("9" * 5000, "1e" + "9" * 30, str(2**31), str(2**53 + 1), str(2**63), str(-(2**63) - 1),),
    *("true", "false", "null", "None", "NA", "~", "yes", "off", "<<", "*a", "&a 1", "!!python/object:os.system"),
    *("\n---\n", "\n...\n", ": ", "- ", "# ", "\t", "{", "}", "[", "]", ",", ";", "|", '"', "'", '""'),
    *("{split}", "{seed}", "{", "%", "%00", "@", "/", "//", "../", "../../etc/passwd", "C:\\", "=1+1", "$x", "`x`", "<b>"),
    *("\0", "\x07", "\x1b[31m", "\x1b]0;x\x07", "\r", "\r\n", "\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\u00a0"),
    *("\u202e", "\u200b", "\ufeff", "\ufffe", "\ue000", "\ue001", "\uf8ff", "e\u0301", "\U0001f600", "\U000e0001", "ß", "İ"),
    *("a" * 300, "a" * 5000, "[" * 500, "{" * 500, '{"a":' * 500, "- " * 300, "(" * 300, ", " * 2000, '"' * 2000),
]  # fmt: skip
ODD_BYTES = [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xff\xfe", b"\xef\xbb\xbf", b"\x1f\x8b", b"PK\x03\x04"]
ODD = [*(text.encode() for text in ODD_TEXTS), *ODD_BYTES]
ODD_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 0.5, -0.0, 2**31, 2**53 + 1, 2**63, 10**400, 1e308, 5e-324),
    *(float("nan"), float("inf"), "", "nan", "null", "1", "\x1b[31m", "a\nb", "a" * 5000, "\ud800", "\0", "../x"),
    *([], {}, [[]], [None], {"": None}, {"a": {"a": 1}}, [1, "1", 1.0, True], {"a.b": 1, "a": {"b": 2}}),
]  # fmt: skip
WORD = re.compile(rb"[^\s,;|:/@{}\[\]()\"'=]+")


@dataclass(frozen=True)
class Reader:
    """Something that reads what people or programs wrote."""

    name: str
    # Reads an input in an empty folder, and may assert what must hold then. It raises only `errors`.
    read: Callable[[bytes, Path], object]
    errors: tuple[type[AblateError], ...]
    corpus: Sequence[bytes]  # valid inputs
    inputs: int = 2000
    changes: Sequence[Change] = ()  # those of words, lines and bytes, if none are given


@dataclass
class Tried:
    """What fuzzing a reader gave."""

    inputs: int = 0
    refused: int = 0
    seconds: float = 0.0  # of the processor
    findings: dict[str, bytes] = field(default_factory=dict)  # where and what -> the first such input


def fuzz(reader: Reader, seed: int, inputs: int | None = None) -> Tried:
    """Feed `reader` its corpus and changed inputs, `inputs` in all."""
    rng = random.Random(f"{reader.name} {seed}")
    corpus, shapes, tried = list(reader.corpus), set[str](), Tried()
    # Most inputs stay close to valid ones: others are refused before much is read.
    accepted, refused = corpus[:1], corpus[:1]
    began = time.process_time()
    with tempfile.TemporaryDirectory() as scratch, _limited_memory():
        for number in range(inputs or reader.inputs):
            bases = accepted if rng.random() < 0.7 else refused
            data = corpus[number] if number < len(corpus) else changed(rng, bases, reader.changes or CHANGES)
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                refusal, finding = answer(reader, data, Path(folder))
            tried.inputs += 1
            tried.refused += refusal is not None
            if finding:
                tried.findings.setdefault(finding, data)
            if not finding and (number < len(corpus) or (refusal and _shape(refusal) not in shapes)):
                shapes.add(_shape(refusal or ""))
                kept = accepted if refusal is None else refused
                kept.append(data)
                del kept[:-KEPT]
    tried.seconds = time.process_time() - began
    return tried


def answer(reader: Reader, data: bytes, folder: Path) -> tuple[str | None, str | None]:
    """Return how the reader refuses an input, and what is wrong with that; None if it does not, or if nothing is."""
    try:
        with _limited_time(), contextlib.redirect_stdout(io.StringIO()):
            reader.read(data, folder)
    except reader.errors as error:
        return str(error), _unclean(error)
    # Also what a reader must never raise by itself, such as SystemExit.
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return None, f"{_place(error)}: {type(error).__name__}"
    return None, None


def changed(rng: random.Random, inputs: Sequence[bytes], changes: Sequence[Change]) -> bytes:
    """Return one of the inputs with a few random changes."""
    data = rng.choice(inputs)
    for _ in range(1 + min(int(rng.expovariate(1)), 10)):
        data = (
            rng.choice(changes)(rng, data) if rng.random() > 0.02 else _spliced(rng, data, rng.choice(inputs))
        )
    return data[:LONGEST]


def _word(rng: random.Random, data: bytes) -> bytes:
    """Replace a word by an odd one, or by another of the same text."""
    words = list(WORD.finditer(data))
    if not words:
        return rng.choice(ODD)
    at, other = rng.choice(words), rng.choice(words)
    return data[: at.start()] + (rng.choice(ODD) if rng.random() < 0.7 else other[0]) + data[at.end() :]


def _line(rng: random.Random, data: bytes) -> bytes:
    """Remove, repeat or move a line, or indent it."""
    lines = data.splitlines(keepends=True) or [b""]
    at, to = rng.randrange(len(lines)), rng.randrange(len(lines) + 1)
    line = lines[at]
    match rng.randrange(4):
        case 0:
            del lines[at]
        case 1:
            lines.insert(to, line)
        case 2:
            lines[at] = b" " * rng.randrange(1, 5) + line
        case 3:
            lines.insert(to, lines.pop(at))
    return b"".join(lines)


def _bytes(rng: random.Random, data: bytes) -> bytes:
    """Insert something odd, or change, remove or repeat a few bytes."""
    at = rng.randrange(len(data) + 1)
    end = min(at + 1 + int(rng.expovariate(0.1)), len(data))
    match rng.randrange(5):
        case 0:
            return data[:at] + rng.choice(ODD) + data[at:]
        case 1:
            return data[:at] + data[end:]
        case 2:
            return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        case 3:
            return data[:at] + data[at:end] * rng.choice([2, 3, 50, 1000]) + data[end:]
    return data[:at]


def _spliced(rng: random.Random, one: bytes, other: bytes) -> bytes:
    return one[: rng.randrange(len(one) + 1)] + other[rng.randrange(len(other) + 1) :]


CHANGES: tuple[Change, ...] = (_word, _word, _line, _bytes)


def in_json(rng: random.Random, data: bytes) -> bytes:
    """Change a value of a JSON document: replaced by an odd one or by another of the document, removed, renamed or repeated."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return _word(rng, data)
    places = [(inner, key) for inner in _nests(document) for key in _keys(inner)]
    if not places:
        return json.dumps(rng.choice(ODD_VALUES)).encode()
    inner, key = rng.choice(places)
    # JSON inside a text, as databases have it.
    if isinstance(inner[key], str) and inner[key][:1] in ("{", "[") and rng.random() < 0.8:
        inner[key] = in_json(rng, inner[key].encode()).decode()
        return json.dumps(document).encode()
    match rng.randrange(6):
        case 0 | 1:
            inner[key] = rng.choice(ODD_VALUES)
        case 2:
            other, there = rng.choice(places)
            inner[key] = json.loads(json.dumps(other[there]))
        case 3:
            del inner[key]
        case 4 if isinstance(inner, dict):
            inner[rng.choice([*map(str, inner), *ODD_TEXTS])] = inner.pop(key)
        case _:
            inner[key] = [inner[key]] if rng.random() < 0.5 else {"a": inner[key]}
    return json.dumps(document).encode()


def _keys(nest: Any) -> Iterable[Any]:
    return nest if isinstance(nest, dict) else range(len(nest))


def _nests(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        yield value
        for key in _keys(value):
            yield from _nests(value[key])


def _unclean(error: AblateError) -> str | None:
    for fault in error.faults:
        if not fault.strip() or "\n" in fault or "object at 0x" in fault:
            return f"{_place(error)}: its message is not one clean line"
    return None


def _shape(message: str) -> str:
    """Return a message without what it quotes from the input."""
    return re.sub(r"""'(\\.|[^'])*'|"(\\.|[^"])*"|[0-9]+""", "", message)[:200]


def _place(error: BaseException) -> str:
    """Return the innermost line of ours."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(ABLATE)] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}"


class TooLongError(BaseException):
    """Raised in the middle of what takes too long; no `except Exception` catches it."""


@contextlib.contextmanager
def _limited_time() -> Iterator[None]:
    """Limit the processor's time: how busy the machine is decides nothing."""

    def end(*_: object) -> None:
        raise TooLongError(f"more than {LIMIT_S} s")

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def _limited_memory() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
