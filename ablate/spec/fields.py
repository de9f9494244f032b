"""One value of a study file at a time: the node checked for its type and range, or a fault and None."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

from ablate.spec.faults import Faults, shown, suggestion
from ablate.spec.model import Budget, Design, Metric, Pruner, Sampler, Search
from ablate.spec.yaml_tree import ListNode, MappingNode, Node, ScalarNode, kind

Field = tuple[ScalarNode, Node]  # key, value

STUDY_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"  # it names folders: no leading dot or dash
FACTOR_NAME = r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_-]*)*"
TRAINER_NAME = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*"
MAX_FACTOR_NAME = 64
MAX_SEED = 2**32 - 1  # what NumPy's generator takes; torch takes more


def expected(node: Node, what: str, faults: Faults) -> None:
    """Report that `node` should have been `what`; a refused node has been reported already."""
    if type(node) is not Node:
        faults.add(node.place, node.key, f"found {kind(node)}; write {what}")


def mapping(node: Node, what: str, faults: Faults) -> MappingNode | None:
    """Return the node when it is a mapping."""
    if isinstance(node, MappingNode):
        return node
    expected(node, what, faults)
    return None


def fields(node: MappingNode, known: Iterable[str], faults: Faults) -> dict[str, Field]:
    """Return the known keys of `node` with key and value nodes; every other key is a fault."""
    known = list(known)
    for key, _ in node.pairs:
        if key.text not in known:
            faults.add(key.place, key.key, f"unknown key; {suggestion(key.text, known)}")
    return {key.text: (key, value) for key, value in node.pairs if key.text in known}


def text(node: Node, what: str, faults: Faults) -> str | None:
    """Return a text that is not blank."""
    if isinstance(node, ScalarNode) and isinstance(node.value, str) and node.value.strip():
        return node.value
    expected(node, what, faults)
    return None


def study_name(node: Node, faults: Faults) -> str | None:
    """Return a name that is safe as a folder's name."""
    name = text(node, "a name, e.g. full_grid; quote one that is a number", faults)
    if name is None or re.fullmatch(STUDY_NAME, name):
        return name
    rule = "use at most 64 letters, digits, '_', '-', '.', not starting with '.' or '-'"
    faults.add(node.place, node.key, f"{shown(name)} cannot name a study (it names folders); {rule}")
    return None


def trainer_name(node: Node, faults: Faults) -> str | None:
    """Return a dotted module name."""
    name = text(node, "a module's name: ablate.trainer, or your own", faults)
    if name is None or (re.fullmatch(TRAINER_NAME, name) and not name.endswith(".py") and len(name) <= 200):
        return name
    without = name.removesuffix(".py")
    hint = (
        f"write {without}"
        if re.fullmatch(TRAINER_NAME, without)
        else "write e.g. ablate.trainer or my_trainer"
    )
    faults.add(node.place, node.key, f"{shown(name)} is not a module's name; {hint}")
    return None


def design(node: Node, faults: Faults) -> dict[str, Any]:
    """Return what the study says of its design: the kind, a fraction's number of cells, how a search goes."""
    if not isinstance(node, MappingNode):
        kind = _design_kind(node, faults)
        return {"design": kind, "search": Search() if kind == "search" else None}
    found = fields(node, ("kind", "cells", *Search.model_fields), faults)
    if "kind" not in found:
        faults.add(node.place, f"{node.key}.kind", "missing; add e.g. kind: fractional")
        return {}
    kind = _design_kind(found["kind"][1], faults)
    owners = {"cells": "fractional"} | dict.fromkeys(Search.model_fields, "search")
    for name, (key, _) in found.items():
        if kind and name in owners and kind != owners[name]:
            what = f"design {kind} has no choice of {name}; remove it, or use kind: {owners[name]}"
            faults.add(key.place, key.key, what)
    cells = whole_number(found["cells"][1], 2, 100_000, faults) if "cells" in found else None
    search = Search(**_search_values(found, faults)) if kind == "search" else None
    return {"design": kind, "design_cells": cells, "search": search}


def _search_values(found: Mapping[str, Field], faults: Faults) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, (_, node) in found.items():
        if name == "sampler":
            values[name] = _one_of(node, name, get_args(Sampler), faults)
        elif name == "pruner":
            values[name] = _one_of(node, name, get_args(Pruner), faults)
        elif name in ("trials", "finalists"):
            values[name] = whole_number(node, 1 if name == "trials" else 0, 100_000, faults)
    return {name: value for name, value in values.items() if value is not None}


def whole_number(node: Node, least: int, most: int, faults: Faults) -> int | None:
    """Return a whole number of a range."""
    if isinstance(node, ScalarNode) and type(node.value) is int and least <= node.value <= most:
        return node.value
    expected(node, f"a whole number from {least} to {most:,}", faults)
    return None


def _one_of(node: Node, what: str, known: tuple[str, ...], faults: Faults) -> str | None:
    name = text(node, f"one of {', '.join(known)}", faults)
    if name is None or name in known:
        return name
    faults.add(node.place, node.key, f"no {what} {shown(name)}; {suggestion(name, known)}")
    return None


def _design_kind(node: Node, faults: Faults) -> Design | None:
    kinds: tuple[Design, ...] = get_args(Design)
    name = text(node, f"one of {', '.join(kinds)}", faults)
    for known in kinds:
        if name == known:
            return known
    if name is not None:
        faults.add(node.place, node.key, f"no design {shown(name)}; {suggestion(name, kinds)}")
    return None


def seeds(node: Node, faults: Faults) -> tuple[int, ...] | None:
    """Return distinct whole numbers from 0 to 2³² − 1, at least one."""
    if not isinstance(node, ListNode) or not node.items:
        expected(node, "a list of whole numbers, e.g. [11, 22, 33]", faults)
        return None
    found: dict[int, Node] = {}
    for item in node.items:
        if not (isinstance(item, ScalarNode) and type(item.value) is int and 0 <= item.value <= MAX_SEED):
            expected(item, f"a whole number from 0 to {MAX_SEED}", faults)
        elif item.value in found:
            first = found[item.value].key
            faults.add(item.place, item.key, f"seed {item.value} is given twice (see {first}); keep one")
        else:
            found[item.value] = item
    return tuple(found)


def metric(node: Node, faults: Faults) -> Metric | None:
    """Return what decides."""
    example = "e.g. {name: dev/mean, goal: maximize, smallest_effect: 0.005}"
    if (whole := mapping(node, example, faults)) is None:
        return None
    found = fields(whole, Metric.model_fields, faults)
    if "name" not in found:
        faults.add(node.place, f"{node.key}.name", "missing; add e.g. name: dev/mean")
        return None
    name = text(found["name"][1], "a metric's name, e.g. dev/mean", faults)
    if name is not None and not (name.isprintable() and len(name) <= 128):
        faults.add(
            found["name"][1].place,
            found["name"][1].key,
            f"{shown(name)} cannot name a metric; use a short name",
        )
    goal = _goal(found["goal"][1], faults) if "goal" in found else "maximize"
    smallest = _positive(found, "smallest_effect", faults)
    worst = _number(found["worst"][1], faults) if "worst" in found else None
    return Metric(name=name, goal=goal, smallest_effect=smallest, worst=worst) if name and goal else None


def _goal(node: Node, faults: Faults) -> Literal["maximize", "minimize"] | None:
    name = text(node, "maximize or minimize", faults)
    if name == "maximize" or name == "minimize":
        return "maximize" if name == "maximize" else "minimize"
    if name is not None:
        faults.add(
            node.place, node.key, f"no goal {shown(name)}; {suggestion(name, ('maximize', 'minimize'))}"
        )
    return None


def budget(node: Node, faults: Faults) -> Budget:
    """Return what the study may cost."""
    if (whole := mapping(node, "e.g. {hours: 40, usd_per_hour: 1.212}", faults)) is None:
        return Budget()
    found = fields(whole, Budget.model_fields, faults)
    return Budget(
        hours=_positive(found, "hours", faults), usd_per_hour=_positive(found, "usd_per_hour", faults)
    )


def _number(node: Node, faults: Faults) -> float | None:
    if isinstance(node, ScalarNode) and type(node.value) in (int, float):
        return float(node.value or 0)
    expected(node, "a number", faults)
    return None


def positive(node: Node, faults: Faults) -> float | None:
    """Return a number above zero."""
    if isinstance(node, ScalarNode) and type(node.value) in (int, float) and float(node.value or 0) > 0:
        return float(node.value or 0)
    expected(node, "a number above 0", faults)
    return None


def _positive(found: Mapping[str, Field], name: str, faults: Faults) -> float | None:
    return positive(found[name][1], faults) if name in found else None
