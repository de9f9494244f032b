"""Seeds that are added after looks at the results: `seeds: {start: [11, 22, 33], at_most: 12, until: decided}`."""

import itertools
from collections.abc import Sequence
from typing import Any

from ablate.spec import fields
from ablate.spec.faults import Faults, shown, suggestion
from ablate.spec.fields import MAX_SEED, Field, expected, whole_number
from ablate.spec.model import Looking
from ablate.spec.yaml_tree import ListNode, MappingNode, Node, ScalarNode

KEYS = ("start", "at_most", "until", "looks")
REQUIRED = {"start": "start: [11, 22, 33]", "at_most": "at_most: 12"}  # with an example of what to add
MOST_SEEDS = 1000
LEAST_SEEDS = 2  # at a look: one seed has no noise to judge by
DECIDED = "decided"


def seeds(node: Node, faults: Faults) -> dict[str, Any]:
    """Return `seeds`, all that may be run, and `looking`, where the file has a plan of looks instead of a list."""
    if not isinstance(node, MappingNode):
        return {"seeds": fields.seeds(node, faults)}
    found = fields.fields(node, KEYS, faults)
    for key in (key for key in REQUIRED if key not in found):
        faults.add(node.place, f"{node.key}.{key}", f"missing; add e.g. {REQUIRED[key]}")
    start = (fields.seeds(found["start"][1], faults) if "start" in found else None) or ()
    at_most = (
        whole_number(found["at_most"][1], len(start) + 1, MOST_SEEDS, faults) if "at_most" in found else None
    )
    width = _width(found["until"][1], faults) if "until" in found else None
    looks = _looks(found["looks"][1], len(start), at_most or MOST_SEEDS, faults) if "looks" in found else ()
    if not start or at_most is None:
        return {}
    looking = Looking(start=len(start), looks=looks or default_looks(len(start), at_most), width=width)
    return {"seeds": start + further_seeds(start, at_most - len(start)), "looking": looking}


def further_seeds(start: Sequence[int], count: int) -> tuple[int, ...]:
    """Return the numbers that follow the largest of `start`, none of which is in it; after the largest seed comes 0."""
    following = (number % (MAX_SEED + 1) for number in itertools.count(max(start) + 1))
    return tuple(itertools.islice((seed for seed in following if seed not in start), count))


def default_looks(start: int, at_most: int) -> tuple[int, ...]:
    """Return when to look if the file does not say: with the seeds of `start`, then with half as many again each time."""
    looks = [max(start, LEAST_SEEDS)]
    while looks[-1] < at_most:
        looks.append(min(looks[-1] + (looks[-1] + 1) // 2, at_most))
    return tuple(looks)


def _looks(node: Node, start: int, at_most: int, faults: Faults) -> tuple[int, ...]:
    """Return rising numbers of seeds, the last of them `at_most`."""
    if not isinstance(node, ListNode) or not node.items:
        expected(node, f"a list of numbers of seeds, e.g. [{start}, {at_most}]", faults)
        return ()
    looks: list[int] = []
    for item in node.items:
        look = whole_number(item, max(start, LEAST_SEEDS), at_most, faults)
        if look is not None and looks and look <= looks[-1]:
            faults.add(item.place, item.key, f"found {look} after {looks[-1]}; write rising numbers of seeds")
        elif look is not None:
            looks.append(look)
    return tuple(looks if looks[-1:] == [at_most] else [*looks, at_most])


def _width(node: Node, faults: Faults) -> float | None:
    """Return how narrow intervals are to become; None: until decided."""
    if isinstance(node, MappingNode):
        found: dict[str, Field] = fields.fields(node, ("width",), faults)
        if "width" in found:
            return fields.positive(found["width"][1], faults)
        faults.add(node.place, f"{node.key}.width", "missing; add e.g. width: 0.01")
    elif not (isinstance(node, ScalarNode) and isinstance(node.value, str)):
        expected(node, f"{DECIDED}, or {{width: 0.01}}", faults)
    elif node.value != DECIDED:
        what = f"{shown(node.value)} is no end; {suggestion(node.value, (DECIDED, 'width'))}"
        faults.add(node.place, node.key, what)
    return None
