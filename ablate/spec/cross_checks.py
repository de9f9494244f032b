"""Check the keys of a study file against each other: conditions, baseline, clashing settings, seeds."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

from ablate.spec import conditions
from ablate.spec.addresses import leaves, overlap
from ablate.spec.designs import Search
from ablate.spec.faults import Faults
from ablate.spec.model import Factor, Level, Scalar, level_text, levels_text
from ablate.spec.rules import KEY, Errors, Loc, absent, flow
from ablate.spec.seeds import AddedSeeds
from ablate.spec.yaml_tree import same
from ablate.text import closest, shown, suggestion


def check_conditions(factors: Sequence[Factor], text: str, errors: Errors) -> tuple[Factor, ...] | None:
    """Return the factors, with the levels in conditions spelled as their factors spell them; None if a condition is wrong."""
    before = len(errors.collected)
    by_name = {factor.name: factor for factor in factors}
    checked = tuple(_with_known_parents(factor, by_name, text, errors) for factor in factors)
    if len(errors.collected) > before:
        return None
    for cycle in conditions.cycles(checked):
        path = " needs ".join([*cycle, cycle[0]])
        what = f"conditions form a cycle ({path}); remove one of them"
        errors.add(what, "factors", cycle[0], "only_when", KEY)
    if len(errors.collected) > before:
        return None
    for name, needs in conditions.needs(checked).items():
        if impossible := next((parent for parent, allowed in needs.items() if not allowed), None):
            what = f"can never exist: its conditions contradict each other on {impossible}; relax one of them"
            errors.add(what, "factors", name, "only_when", KEY)
    return checked if len(errors.collected) == before else None


def _with_known_parents(factor: Factor, factors: Mapping[str, Factor], text: str, errors: Errors) -> Factor:
    allowed: dict[str, tuple[Scalar, ...]] = {}
    for parent, levels in factor.only_when.items():
        loc = ("factors", factor.name, "only_when", parent)
        if parent not in factors:
            others = [name for name in factors if name != factor.name]
            _unknown_factor(parent, others, text, errors, *loc)
            continue
        known = [known_level(factors[parent], level, text, errors, *loc, i) for i, level in enumerate(levels)]
        allowed[parent] = tuple(dict.fromkeys(level.name for level in known if level))
    return factor.model_copy(update={"only_when": allowed})


def known_level(factor: Factor, written: Scalar, text: str, errors: Errors, *loc: int | str) -> Level | None:
    """Return the level of `factor` that is `written` at `loc`; add an error and return None if it has no such level.

    `text` is that of the file."""
    for level in factor.levels:
        if same(level.name, written):
            return level
    names = [level.name for level in factor.levels]
    alike = [name for name in names if level_text(name).lower() == level_text(written).lower()]
    if alike:
        hint = f'write "{alike[0]}"' if isinstance(alike[0], str) else f"write {shown(alike[0])}"
    else:
        # Numbers with similar digits are not close to each other: only text gets a "did you mean".
        hint = suggestion(written if isinstance(written, str) else "", map(level_text, names))
    what = f"the text {shown(written)}" if isinstance(written, str) else shown(written)
    texts = [level_text(name) for name in names]
    meant = closest(written, texts) if isinstance(written, str) and not alike else None
    of_level = ("factors", factor.name, "levels", texts.index(meant), KEY) if meant else ()
    _blame(f"{what} is not a level of {factor.name}; {hint}", written, meant, text, errors, loc, of_level)
    return None


def check_choice(
    key: str,
    chosen: Mapping[str, Scalar],
    factors: Mapping[str, Factor],
    refused: Collection[str],
    text: str,
    errors: Errors,
) -> dict[str, Scalar]:
    """Return `baseline` or `best` as factor -> level, spelled as the factor spells it.

    Factors in `refused` are skipped: their own faults have been reported.
    """
    known: dict[str, Scalar] = {}
    for name, level in chosen.items():
        if name in factors:
            if named := known_level(factors[name], level, text, errors, key, name):
                known[name] = named.name
        elif name not in refused:
            _unknown_factor(name, factors, text, errors, key, name)
    return known


def _unknown_factor(name: str, factors: Collection[str], text: str, errors: Errors, *loc: int | str) -> None:
    meant = closest(name, factors)
    what = f"no factor {shown(name)}; {suggestion(name, factors)}"
    _blame(what, name, meant, text, errors, (*loc, KEY), ("factors", meant or "", KEY))


def _blame(
    what: str, written: Scalar, meant: str | None, text: str, errors: Errors, loc: Loc, of_meant: Loc
) -> None:
    """Report an unknown name, or the name that was probably `meant`: whichever is written less often in the file.

    If both are written equally often, report both."""
    words = _words(text)
    rarer = words[meant] - words[str(written)] if meant else 1
    if rarer >= 0:
        errors.add(what, *loc)
    if rarer <= 0:
        errors.add(f"called {shown(written)} elsewhere in the file; spell it the same everywhere", *of_meant)


@lru_cache(maxsize=1)
def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+(?:[.-]\w+)*", text))


def check_baseline_complete(
    named: Collection[str], baseline: Mapping[str, Scalar], factors: Sequence[Factor], errors: Errors
) -> None:
    """Report each factor that exists under the baseline and is not `named` in it, not even by a name that is close to its own."""
    names = [factor.name for factor in factors]
    meant = {closest(name, names) for name in named if name not in names}
    for factor in factors:
        if factor.name not in {*named, *meant} and conditions.exists(factor, baseline):
            example = f"{factor.name}: {flow(factor.levels[0].name)}"
            why = (
                ", although this factor exists under the baseline's other levels" if factor.only_when else ""
            )
            errors.add(absent(f"missing{why}; add e.g. {example}"), "baseline", factor.name)


def check_best_exists(best: Mapping[str, Scalar], factors: Sequence[Factor], errors: Errors) -> None:
    """Report each level in `best` of a factor that cannot exist there: no cell would have it."""
    for factor in factors:
        for parent, allowed in factor.only_when.items() if factor.name in best else ():
            if parent in best and not any(same(best[parent], level) for level in allowed):
                what = (
                    f"{factor.name} does not exist where {levels_text({parent: best[parent]})}; leave it out"
                )
                errors.add(f"{what}, or change {parent}", "best", factor.name, KEY)


def check_search(design: Any, seeds: Sequence[int] | AddedSeeds | None, errors: Errors) -> None:
    """Report a search that has no seeds for its finalists, or has looks: it has nothing to compare until it is done."""
    if not isinstance(design, Search):
        return
    if isinstance(seeds, AddedSeeds):
        what = "a search trains its finalists once on every seed; write a list of seeds, e.g. [11, 22, 33]"
        errors.add(what, "seeds")
    elif seeds and design.finalists and len(seeds) < 2:
        what = (
            "a search trains its finalists again on seeds that were not used to choose them; give two seeds or "
            "more, or finalists: 0"
        )
        errors.add(what, "design")
    elif seeds and not design.finalists and len(seeds) > 1:
        what = (
            "with finalists: 0 nothing is trained on the seeds after the first, so there would be nothing to compare; give one "
            "seed, or let finalists be 1 or more"
        )
        errors.add(what, "design")


def check_settings_apart(
    settings: Mapping[str, Any],
    factors: Sequence[Factor],
    overridden: Mapping[str, str],
    errors: Errors,
    faults: Faults,
) -> None:
    """Report settings that are both fixed and varied, and settings that two factors vary in the same cell.

    Args:
        settings: The fixed settings, nested, from the file and `--set`.
        factors: All factors of the study.
        overridden: Address -> the `--set` argument that set it.
        errors: Collects what is wrong in the file.
        faults: Collects what is wrong on the command line.
    """
    fixed = list(dict.fromkeys([*leaves(settings), *overridden]))
    for factor in factors:
        for address in _addresses(factor):
            for clash in (setting for setting in fixed if overlap(setting, address)):
                arguments = (
                    arg for key, arg in overridden.items() if overlap(key, clash) and overlap(key, address)
                )
                if (argument := next(arguments, None)) is not None:
                    varied = f"factor {factor.name}"
                    varied += "" if address == factor.name else f" (it sets {address})"
                    what = f"{varied} varies this; choose levels with --only {factor.name}=..., or edit the study"
                    faults.add((0, 0), f"--set {argument}", what)
                else:
                    what = f"varies what settings.{clash} fixes; keep one of the two"
                    what += "" if address == factor.name else f" (it sets {address})"
                    errors.add(what, "factors", factor.name, KEY)
    _check_factors_apart(factors, errors)


def _check_factors_apart(factors: Sequence[Factor], errors: Errors) -> None:
    needs = conditions.needs(factors)
    owners: dict[str, list[Factor]] = {}  # first part of an address -> factors
    for factor in factors:
        for root in dict.fromkeys(address.partition(".")[0] for address in _addresses(factor)):
            for other in owners.setdefault(root, []):
                together = conditions.intersection(needs[factor.name], needs[other.name])
                if (address := _shared(factor, other)) and conditions.possible(together):
                    what = f"sets {address}, and so does factor {other.name}; keep one of the two"
                    errors.add(what, "factors", factor.name, KEY)
            owners[root].append(factor)


def _shared(one: Factor, other: Factor) -> str | None:
    return next((a for a in _addresses(one) for b in _addresses(other) if overlap(a, b)), None)


def _addresses(factor: Factor) -> list[str]:
    # Every level of a factor sets the same addresses.
    return list(factor.levels[0].settings)
