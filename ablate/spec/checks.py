"""What the parts of a study file must say about each other: conditions, baseline, clashing settings."""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ablate.spec import conditions
from ablate.spec.addresses import leaves, overlap
from ablate.spec.factors import FactorNodes, known_level
from ablate.spec.faults import Faults, shown, suggestion
from ablate.spec.fields import mapping
from ablate.spec.model import Factor, Looking, Scalar, Search
from ablate.spec.yaml_tree import Node, ScalarNode


def check_conditions(read: Sequence[FactorNodes], faults: Faults) -> list[FactorNodes] | None:
    """Return the factors, conditions in their parents' own spelling; None when a condition is at fault."""
    before = len(faults)
    factors = {one.factor.name: one.factor for one in read}
    checked = [_with_known_parents(one, factors, faults) for one in read]
    if len(faults) > before:
        return None
    plain_factors = [one.factor for one in checked]
    keys = {one.factor.name: one.key for one in checked}
    for circle in conditions.circles(plain_factors):
        path = " needs ".join([*circle, circle[0]])
        at = keys[circle[0]]
        faults.add(at.place, f"{at.key}.only_when", f"conditions go in a circle ({path}); remove one of them")
    if len(faults) > before:
        return None
    for name, needs in conditions.needs(plain_factors).items():
        impossible = next((parent for parent, allowed in needs.items() if not allowed), None)
        if impossible:
            what = f"can never exist: its conditions contradict each other on {impossible}; relax one of them"
            faults.add(keys[name].place, f"{keys[name].key}.only_when", what)
    return checked if len(faults) == before else None


def _with_known_parents(one: FactorNodes, factors: Mapping[str, Factor], faults: Faults) -> FactorNodes:
    allowed: dict[str, tuple[Scalar, ...]] = {}
    for parent, (key, nodes) in one.conditions.items():
        if parent not in factors:
            others = [name for name in factors if name != one.factor.name]
            faults.add(key.place, key.key, f"no factor {shown(parent)}; {suggestion(parent, others)}")
            continue
        levels = [known_level(factors[parent], node, faults) for node in nodes]
        allowed[parent] = tuple(dict.fromkeys(level.name for level in levels if level is not None))
    return replace(one, factor=one.factor.model_copy(update={"only_when": allowed}))


def read_choice(
    node: Node, factors: Mapping[str, Factor], refused: Container[str], faults: Faults
) -> dict[str, Scalar]:
    """Return `baseline` or `best`: factor -> level, in the factor's own spelling.

    Of a factor in `refused`, which has faults of its own, nothing is said.
    """
    whole = mapping(node, "a mapping from factors to levels, e.g. {l2: 0.0}", faults)
    chosen: dict[str, Scalar] = {}
    for key, value in whole.pairs if whole else ():
        if key.text in refused:
            continue
        if key.text not in factors:
            faults.add(key.place, key.key, f"no factor {shown(key.text)}; {suggestion(key.text, factors)}")
        elif isinstance(value, ScalarNode):
            if level := known_level(factors[key.text], value, faults):
                chosen[key.text] = level.name
        elif type(value) is not Node:
            faults.add(value.place, value.key, "found a list or mapping; name one level")
    return chosen


def check_baseline_complete(
    node: Node,
    named: Iterable[str],
    baseline: Mapping[str, Scalar],
    factors: Sequence[Factor],
    faults: Faults,
) -> None:
    """Report each factor that exists under the baseline and is not `named` in it."""
    named = set(named)
    for factor in factors:
        if factor.name not in named and conditions.exists(factor, baseline):
            example = f"add e.g. {factor.name}: {_yaml(factor.levels[0].name)}"
            faults.add(node.place, f"{node.key}.{factor.name}", f"missing, but it exists here; {example}")


def check_fresh_seeds(node: Node, search: Search | None, seeds: Sequence[int] | None, faults: Faults) -> None:
    """Report a search that has no seeds left for its finalists."""
    if search and search.finalists and seeds and len(seeds) < 2:
        what = (
            "a search trains its finalists again on seeds that did not choose them; give two seeds or more, "
            "or finalists: 0"
        )
        faults.add(node.place, node.key, what)


def check_no_looks(node: Node, search: Search | None, looking: Looking | None, faults: Faults) -> None:
    """Report looks at a search, which has finalists to compare only when it is done."""
    if search and looking:
        what = "a search trains its finalists once on every seed; write a list of seeds, e.g. [11, 22, 33]"
        faults.add(node.place, node.key, what)


def check_settings_apart(
    settings: Mapping[str, Any], read: Sequence[FactorNodes], overridden: Mapping[str, str], faults: Faults
) -> None:
    """Report settings that a factor varies too, and settings that two factors vary in one cell.

    Args:
        settings: Nested, as the file and `--set` have them.
        read: The factors.
        overridden: Address -> the `--set` argument that gave it.
        faults: Where faults go.
    """
    fixed = list(dict.fromkeys([*leaves(settings), *overridden]))
    for one in read:
        for address in _addresses(one.factor):
            for clash in (setting for setting in fixed if overlap(setting, address)):
                _report_fixed(clash, address, one, overridden, faults)
    _check_factors_apart(read, faults)


def _report_fixed(
    clash: str, address: str, one: FactorNodes, overridden: Mapping[str, str], faults: Faults
) -> None:
    name = one.factor.name
    varied = f"factor {name}" if address == name else f"factor {name} (it sets {address})"
    given = next(
        (given for key, given in overridden.items() if overlap(key, clash) and overlap(key, address)), None
    )
    if given is not None:
        what = f"{varied} varies this; choose levels with --only {name}=..., or edit the study"
        faults.add((0, 0), f"--set {given}", what)
    else:
        what = f"varies what settings.{clash} fixes; keep one of the two"
        faults.add(one.key.place, one.key.key, what if address == name else f"{what} (it sets {address})")


def _check_factors_apart(read: Sequence[FactorNodes], faults: Faults) -> None:
    needs = conditions.needs([one.factor for one in read])
    owners: dict[str, list[FactorNodes]] = {}  # first part of an address -> factors
    for one in read:
        for root in dict.fromkeys(address.partition(".")[0] for address in _addresses(one.factor)):
            for other in owners.setdefault(root, []):
                together = conditions.both(needs[one.factor.name], needs[other.factor.name])
                if (address := _shared(one.factor, other.factor)) and conditions.possible(together):
                    what = f"sets {address}, and so does factor {other.factor.name}; keep one of the two"
                    faults.add(one.key.place, one.key.key, what)
            owners[root].append(one)


def _shared(one: Factor, other: Factor) -> str | None:
    return next((a for a in _addresses(one) for b in _addresses(other) if overlap(a, b)), None)


def _addresses(factor: Factor) -> list[str]:
    return list(factor.levels[0].settings)  # every level sets the same


def _yaml(name: Scalar) -> str:
    return name if isinstance(name, str) else shown(name)
