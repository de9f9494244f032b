"""The `factors:` of a study file: names, levels in both notations, and conditions as written."""

import re
from dataclasses import dataclass
from typing import Any

from ablate.spec.faults import Faults, shown, suggestion
from ablate.spec.fields import FACTOR_NAME, MAX_FACTOR_NAME, expected, fields, mapping
from ablate.spec.model import Factor, Level, Scalar
from ablate.spec.yaml_tree import ListNode, MappingNode, Node, ScalarNode, kind, plain, same

EXAMPLE = "a list of levels, e.g. [0.0, 0.01], or {levels: ..., only_when: ...}"
MAX_FACTORS = 256
Places = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class FactorNodes:
    """A factor with the nodes it came from, for faults that concern several factors."""

    factor: Factor
    key: ScalarNode
    conditions: dict[str, tuple[ScalarNode, tuple[ScalarNode, ...]]]  # parent -> its key, its allowed levels


def read_factors(node: Node, faults: Faults, places: Places) -> list[FactorNodes]:
    """Return the factors that read well, and put the place of each name, level and setting into `places`."""
    whole = mapping(node, "a mapping from a factor's name to its levels", faults)
    if whole is None:
        return []
    if not whole.pairs:
        faults.add(node.place, node.key, "there are no factors; add at least one with two levels")
    if len(whole.pairs) > MAX_FACTORS:
        faults.add(node.place, node.key, f"{len(whole.pairs)} factors; a study has at most {MAX_FACTORS}")
        return []
    return [read for key, value in whole.pairs if (read := _factor(key, value, faults, places)) is not None]


def _factor(key: ScalarNode, node: Node, faults: Faults, places: Places) -> FactorNodes | None:
    name = key.text
    if not re.fullmatch(FACTOR_NAME, name) or len(name) > MAX_FACTOR_NAME:
        rule = f"use at most {MAX_FACTOR_NAME} letters, digits, '_' or '-', with '.' between parts"
        faults.add(key.place, key.key, f"{shown(name)} cannot name a factor; {rule}")
        return None
    places[f"factors.{name}"] = key.place
    levels_node, condition_node = node, None
    if isinstance(node, MappingNode):
        found = fields(node, ("levels", "only_when"), faults)
        if "levels" not in found:
            faults.add(node.place, f"{node.key}.levels", "missing; add e.g. levels: [0.0, 0.01]")
            return None
        levels_node = found["levels"][1]
        condition_node = found["only_when"][1] if "only_when" in found else None
    levels = _levels(name, levels_node, faults, places)
    conditions = _conditions(condition_node, faults) if condition_node else {}
    if levels is None:
        return None
    allowed = {parent: tuple(node.value for node in nodes) for parent, (_, nodes) in conditions.items()}
    return FactorNodes(Factor(name=name, levels=levels, only_when=allowed), key, conditions)


def _levels(name: str, node: Node, faults: Faults, places: Places) -> tuple[Level, ...] | None:
    """Return at least two distinct levels that set the same settings."""
    faults_before = len(faults)
    if isinstance(node, ListNode):
        levels = [(item, _listed_level(name, item, faults)) for item in node.items]
    elif isinstance(node, MappingNode):
        levels = [(key, _named_level(name, key, value, faults)) for key, value in node.pairs]
    else:
        expected(node, EXAMPLE, faults)
        return None
    read = [(at, level) for at, level in levels if level is not None]
    _check_distinct(read, faults)
    _check_same_settings(read, faults)
    if len(node.items if isinstance(node, ListNode) else node.pairs) < 2:
        faults.add(
            node.place,
            node.key,
            f"{_count(len(levels))}; a factor needs two, or move it to settings",
        )
    _remember(name, read, node, places)
    whole = len(read) == len(levels) and len(faults) == faults_before
    return tuple(level for _, level in read) if whole else None


def _listed_level(name: str, item: Node, faults: Faults) -> Level | None:
    if isinstance(item, ScalarNode):
        return Level(name=item.value, settings={name: item.value})
    expected(item, "a single value, or name the levels: {levels: {small: {...}, large: {...}}}", faults)
    return None


def _named_level(name: str, key: ScalarNode, value: Node, faults: Faults) -> Level | None:
    if type(value) is Node:
        return None
    if not isinstance(value, MappingNode):
        return Level(name=key.value, settings={name: plain(value)})
    if not value.pairs:
        faults.add(value.place, value.key, "sets nothing; write e.g. {batch_size.sentiment: 2}")
        return None
    settings: dict[str, Any] = {}
    for setting, inner in value.pairs:
        if check_address(setting, faults):
            settings[setting.text] = plain(inner)
    return Level(name=key.value, settings=settings)


def check_address(key: ScalarNode, faults: Faults) -> bool:
    """Tell whether a key can address a setting."""
    if key.text and all(key.text.split(".")) and key.text.isprintable() and len(key.text) <= 200:
        return True
    faults.add(
        key.place, key.key, f"{shown(key.text)} is no setting's address; write e.g. batch_size.sentiment"
    )
    return False


def _check_distinct(read: list[tuple[Node, Level]], faults: Faults) -> None:
    seen: dict[Scalar, Scalar] = {}
    for at, level in read:
        if level.name not in seen:
            seen[level.name] = level.name
            continue
        first = seen[level.name]
        if same(first, level.name):
            faults.add(at.place, at.key, f"level {shown(level.name)} is given twice; keep one")
        else:  # true == 1 in Python, in databases and in most trainers
            what = f"levels {shown(first)} and {shown(level.name)} cannot be told apart; quote or rename one"
            faults.add(at.place, at.key, what)


def _check_same_settings(read: list[tuple[Node, Level]], faults: Faults) -> None:
    if not read:
        return
    wanted = set(read[0][1].settings)
    for at, level in read[1:]:
        found = set(level.settings)
        if lacking := sorted(wanted - found):
            what = f"does not set {shown(lacking[0])} as level {shown(read[0][1].name)} does"
        elif extra := sorted(found - wanted):
            what = f"sets {shown(extra[0])}, level {shown(read[0][1].name)} does not"
        else:
            continue
        faults.add(at.place, at.key, f"{what}; every level of a factor sets the same settings")


def _remember(name: str, read: list[tuple[Node, Level]], node: Node, places: Places) -> None:
    values = {key.place: value for key, value in node.pairs} if isinstance(node, MappingNode) else {}
    for index, (at, _) in enumerate(read):
        level_key = f"factors.{name}.levels[{index}]"
        places[level_key] = at.place
        value = values.get(at.place)
        if isinstance(value, MappingNode):
            places.update({f"{level_key}.{setting.text}": setting.place for setting, _ in value.pairs})


def _conditions(node: Node, faults: Faults) -> dict[str, tuple[ScalarNode, tuple[ScalarNode, ...]]]:
    whole = mapping(node, "a mapping from another factor to its level, e.g. {training: joint}", faults)
    conditions: dict[str, tuple[ScalarNode, tuple[ScalarNode, ...]]] = {}
    for key, value in whole.pairs if whole else ():
        allowed = value.items if isinstance(value, ListNode) else (value,)
        if not allowed:
            faults.add(value.place, value.key, "an empty list allows no level; name at least one")
        for item in allowed:
            if not isinstance(item, ScalarNode):
                expected(item, "a level or a list of levels", faults)
        conditions[key.text] = (key, tuple(item for item in allowed if isinstance(item, ScalarNode)))
    return conditions


def known_level(factor: Factor, node: ScalarNode, faults: Faults) -> Level | None:
    """Return the level of `factor` that `node` names; a fault when there is none."""
    for level in factor.levels:
        if same(level.name, node.value):
            return level
    names = [level.name for level in factor.levels]
    alike = [name for name in names if str(name).lower() == node.text.lower()]
    # A number is never near another one by its digits.
    typed = node.text if isinstance(node.value, str) else ""
    hint = f"write {_as_yaml(alike[0])}" if alike else suggestion(typed, names)
    faults.add(node.place, node.key, f"{kind(node)} is not a level of {factor.name}; {hint}")
    return None


def _as_yaml(name: Scalar) -> str:
    return f'"{name}"' if isinstance(name, str) else shown(name)


def _count(levels: int) -> str:
    return "has no level" if levels == 0 else "has one level"
