"""YAML 1.2 text as a tree of nodes that know their key, line and column.

Refuses features that no study needs and that make YAML surprising or dangerous: anchors, aliases, tags, merge keys, directives,
a second document, duplicate keys, NaN and infinity, whole numbers beyond 64 bits, nesting deeper than 20, more than 20,000
values. Scalars follow the YAML 1.2 core schema: `1e-5` is a number, `off` is text."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from ruamel.yaml.reader import ReaderError

from ablate.spec.faults import Faults
from ablate.spec.model import Scalar
from ablate.spec.scalars import resolve
from ablate.text import shown

MAX_DEPTH = 20
MAX_NODES = 20_000

# People write `{files: data/sst-{split}.csv}`, where strict YAML wants quotes. A stand-in of the same length hides the
# inner braces from the parser and keeps the columns in messages right. `{split}` never stands for a mapping in a study.
SPLIT, STAND_IN = "{split}", "\ue000split\ue001"


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its place. A bare `Node` stands for a value that was refused and reported."""

    place: tuple[int, int]  # line, column, from 1
    key: str  # dotted, list items as [0]


@dataclass(frozen=True, slots=True)
class ScalarNode(Node):
    """Text, a number, true, false or null."""

    value: Scalar
    text: str  # as written, before resolution


@dataclass(frozen=True, slots=True)
class ListNode(Node):
    """A sequence."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class MappingNode(Node):
    """A mapping, in the order of the file."""

    pairs: tuple[tuple[ScalarNode, Node], ...]


def parse_tree(text: str, faults: Faults) -> Node | None:
    """Return the root node of `text`, or None when there is nothing but comments.

    Raises:
        BadInput: the text is not YAML, or too deep or too large to be a study. Lesser faults go to `faults`.
    """
    try:
        return _Builder(text.replace(SPLIT, STAND_IN), faults).document()
    except ReaderError as error:
        position = int(error.position or 0)
        before = text[:position]
        place = (before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1)
        faults.add(place, "", f"character {shown(text[position : position + 1])} is not allowed; remove it")
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = f"{error.problem or error.context}".replace("'<stream end>'", "the end of the file")
        what = f"{error.context}: {problem}" if error.context and error.problem else problem
        faults.add((mark.line + 1, mark.column + 1), "", f"not YAML: {what}; {_remedy(error, problem)}")
    faults.stop_if_any()
    raise AssertionError("a YAML error is a fault")


class Key(str):
    """A key that YAML does not read as text (`1`, `true`, `null`): as written, but unequal to the text `1`."""

    value: Scalar

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and str(self) == str(other)

    __hash__ = str.__hash__


def plain(node: Node) -> Any:
    """Return the node as dicts, lists and scalars; keys are text as written."""
    match node:
        case ScalarNode():
            return node.value
        case ListNode():
            return [plain(item) for item in node.items]
        case MappingNode():
            return {_plain_key(key): plain(value) for key, value in node.pairs}
    return None


def _plain_key(key: ScalarNode) -> str:
    if isinstance(key.value, str):
        return key.text
    written = Key(key.text)
    written.value = key.value
    return written


def kind(node: Node) -> str:
    """Return what a node is, for the message of a fault that expected something else."""
    match node:
        case ListNode():
            return "a list" if node.items else "an empty list"
        case MappingNode():
            return "a mapping" if node.pairs else "an empty mapping"
        case ScalarNode(value=str()):
            return f"the text {shown(node.value)}"
        case ScalarNode():
            return shown(node.value)
    return "something refused"


def same(a: Scalar, b: Scalar) -> bool:
    """Return whether two scalars are the same YAML value: 0 is 0.0, but neither false nor "0"."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


class _Builder:
    """Turns the parser's events into nodes. Recursive; `MAX_DEPTH` bounds the depth."""

    def __init__(self, text: str, faults: Faults) -> None:
        self.events: Iterator[Any] = iter(YAML(typ="safe", pure=True).parse(text))
        self.faults = faults
        self.nodes = 0

    def document(self) -> Node | None:
        next(self.events)  # stream start
        start = next(self.events)
        if isinstance(start, StreamEndEvent):
            return None
        self._check_start(start)
        root = self.node(next(self.events), "", 1)
        assert isinstance(next(self.events), DocumentEndEvent)
        if isinstance(second := next(self.events), DocumentStartEvent):
            self.faults.add(
                _place(second), "", "a second document starts here; a study is one document, so remove it"
            )
        return root

    def node(self, event: Any, key: str, depth: int) -> Node:
        self._check_size(event, key, depth)
        place = _place(event)
        if isinstance(event, AliasEvent):
            self.faults.add(place, key, f"alias *{event.anchor} is not allowed; write the value out")
            return Node(place, key)
        if event.anchor:
            self.faults.add(
                place, key, f"anchor &{event.anchor} is not allowed; write the value out where it is needed"
            )
        if event.tag:
            self.faults.add(place, key, f"tag {shown(str(event.tag))} is not allowed; remove it")
        if isinstance(event, ScalarEvent):
            node = self.scalar(event, key)
        elif isinstance(event, SequenceStartEvent):
            node = ListNode(place, key, tuple(self.items(key, depth)))
        else:
            node = MappingNode(place, key, tuple(self.pairs(key, depth)))
            if event.flow_style:
                self._refuse_bare_keys(node)
        return Node(place, key) if event.tag else node

    def scalar(self, event: Any, key: str) -> Node:
        place, text = _place(event), str(event.value).replace(STAND_IN, SPLIT)
        if "\0" in text or (not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text)):
            self.faults.add(
                place, key, f"{shown(text)} contains a character that cannot be stored; remove it"
            )
            return Node(place, key)
        # Quoted, or a block scalar: always text.
        if event.style:
            return ScalarNode(place, key, text, text)
        try:
            return ScalarNode(place, key, resolve(text), text)
        except ValueError as error:
            self.faults.add(place, key, str(error))
            return Node(place, key)

    def items(self, key: str, depth: int) -> Iterator[Node]:
        index = 0
        while not isinstance(event := next(self.events), SequenceEndEvent):
            yield self.node(event, f"{key}[{index}]", depth + 1)
            index += 1

    def pairs(self, key: str, depth: int) -> Iterator[tuple[ScalarNode, Node]]:
        first: dict[tuple[bool, Scalar], tuple[int, int]] = {}
        while not isinstance(event := next(self.events), MappingEndEvent):
            name = self.node(event, key, depth + 1)
            text = name.text if isinstance(name, ScalarNode) else "?"
            value = self.node(next(self.events), f"{key}.{text}" if key else text, depth + 1)
            if not isinstance(name, ScalarNode):
                if isinstance(name, ListNode | MappingNode):
                    self.faults.add(name.place, key, f"{kind(name)} cannot be a key; use text")
                continue
            if text == "<<" and event.style is None:
                self.faults.add(name.place, key, "merge key << is not allowed; write the settings out")
                continue
            # 0 and 0.0 are the same key, but 1 and true are two keys, although Python treats them as equal.
            identity = (isinstance(name.value, bool), name.value)
            if identity in first:
                line, column = first[identity]
                what = f"{shown(text)} is given twice, first at line {line}, column {column}; keep one"
                self.faults.add(name.place, value.key, what)
                continue
            first[identity] = name.place
            yield ScalarNode(name.place, value.key, name.value, text), value

    def _refuse_bare_keys(self, node: MappingNode) -> None:
        """Refuse `{name}`, which YAML reads as `{name: null}`: the program would silently not get what it stands for."""
        for key, value in node.pairs:
            if isinstance(value, ScalarNode) and value.value is None and not value.text:
                advice = f'put quotes around a placeholder: "{{{key.text}}}", or write the value: {{{key.text}: null}}'
                self.faults.add(key.place, value.key, f"has no value; {advice}")

    def _check_start(self, start: Any) -> None:
        if start.version or start.tags:
            self.faults.add((1, 1), "", "%YAML and %TAG directives are not allowed; remove them")

    def _check_size(self, event: Any, key: str, depth: int) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self.faults.add(_place(event), "", f"more than {MAX_NODES:,} values; a study needs far fewer")
            self.faults.stop_if_any()
        if depth > MAX_DEPTH:
            self.faults.add(
                _place(event), key, f"nested deeper than {MAX_DEPTH} levels; a study needs at most a few"
            )
            self.faults.stop_if_any()


def _place(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _remedy(error: MarkedYAMLError, problem: str) -> str:
    if "\\t" in problem:
        return "indent with spaces, not tabs"
    if "mapping values are not allowed" in problem:
        return "check the indentation, or quote a text that contains ': '"
    if "cannot start any token" in problem:
        return "quote a text that starts with this character"
    if error.context_mark and ("expected ',' or" in problem or "end of stream" in problem):
        opened = f"line {error.context_mark.line + 1}, column {error.context_mark.column + 1}"
        return f"close the bracket or quote opened at {opened}, or quote a text that contains one"
    return "check the indentation, brackets and quotes here"
