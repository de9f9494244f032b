"""Places in a study file: turn pydantic's errors into faults with line and column."""

from collections.abc import Iterable

from pydantic_core import ErrorDetails

from ablate.spec.faults import Faults
from ablate.spec.rules import KEY, Loc
from ablate.spec.yaml_tree import ListNode, MappingNode, Node, ScalarNode, kind

Places = dict[str, tuple[int, int]]  # key -> line, column


def report(errors: Iterable[ErrorDetails], root: Node, faults: Faults) -> None:
    """Add each error to `faults` at its place under `root`."""
    for error in errors:
        key, node = find(root, error["loc"])
        text = error.get("ctx", {}).get("text", "")
        if error["type"] == "absent":
            name = str(error["loc"][-1])
            faults.add(node.place, f"{node.key}.{name}" if node.key else name, text)
        elif error["type"] == "fault" and key and error["loc"][-1] == KEY:
            faults.add(key.place, node.key, text)
        # A bare Node was refused when the YAML was parsed, and has been reported.
        elif type(node) is not Node:
            found = f"found {kind(node)}; "
            text = text if error["type"] == "fault" else found + (f"write {text}" if text else error["msg"])
            faults.add(node.place, node.key, text)


def find(root: Node, loc: Loc) -> tuple[ScalarNode | None, Node]:
    """Return the key and the value at `loc`, or the nearest ones around it.

    Parts of `loc` that the file does not have are skipped: pydantic
    also names union members, and keys that a shorthand leaves out.
    """
    key: ScalarNode | None = None
    node = root
    for part in loc:
        match node:
            case ListNode() if isinstance(part, int):
                key, node = None, node.items[part]
            # Named levels are a mapping in the file, but a list here.
            case MappingNode() if isinstance(part, int):
                key, node = node.pairs[part]
            case MappingNode():
                key, node = next((pair for pair in node.pairs if pair[0].text == part), (key, node))
    return key, node


def places_of(root: MappingNode) -> Places:
    """Return the place of each key, setting and level. A level is `factors.l2.levels[0]` in either notation."""
    places = {key.text: key.place for key, _ in root.pairs}
    for name, value in _pairs(root):
        if name in ("settings", "factors"):
            _remember(value, places, name)
    for name, factor in _pairs(dict(_pairs(root)).get("factors")):
        levels = dict(_pairs(factor)).get("levels") if isinstance(factor, MappingNode) else factor
        if isinstance(levels, ListNode):
            places |= {f"factors.{name}.levels[{i}]": item.place for i, item in enumerate(levels.items)}
        elif isinstance(levels, MappingNode):
            for i, (key, settings) in enumerate(levels.pairs):
                places[f"factors.{name}.levels[{i}]"] = key.place
                _remember(settings, places, f"factors.{name}.levels[{i}]")
    return places


def _pairs(node: Node | None) -> list[tuple[str, Node]]:
    return [(key.text, value) for key, value in node.pairs] if isinstance(node, MappingNode) else []


def _remember(node: Node, places: Places, path: str) -> None:
    for key, value in node.pairs if isinstance(node, MappingNode) else ():
        places[f"{path}.{key.text}"] = key.place
        _remember(value, places, f"{path}.{key.text}")
