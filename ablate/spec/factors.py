"""The `factors:` of a study file: levels in both notations, and the conditions under which a factor exists."""

import re
from itertools import combinations
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo

from ablate.spec.addresses import check_address, copied, overlap
from ablate.spec.model import Factor, Level, Scalar
from ablate.spec.rules import KEY, Errors, Written, expected, fault, write
from ablate.spec.yaml_tree import Key, same
from ablate.text import as_it_looks, shown

FACTOR_NAME = r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_-]*)*"
MAX_FACTOR_NAME = 64
MAX_FACTORS = 256

ListedLevels = Annotated[list[Scalar], Field(min_length=2, json_schema_extra={"uniqueItems": True})]
LevelSettings = Annotated[
    Any, Field(description="The level's settings by dotted address, or a value of the factor's own setting.")
]
NamedLevels = Annotated[dict[str, LevelSettings], Field(min_length=2)]


def _one_or_more(allowed: Any) -> tuple[Scalar, ...]:
    if isinstance(allowed, dict):
        raise expected("a level or a list of levels")
    if not isinstance(allowed, list):
        return (allowed,)
    if not allowed:
        raise fault("an empty list allows no level; name at least one")
    with Errors() as errors:
        for index, item in enumerate(allowed):
            if isinstance(item, list | dict):
                errors.add(expected("a level or a list of levels"), index)
    return tuple(allowed)


SomeLevels = Scalar | Annotated[list[Scalar], Field(min_length=1)]
Allowed = Annotated[tuple[Scalar, ...], BeforeValidator(_one_or_more, json_schema_input_type=SomeLevels)]


class SpelledFactor(Written):
    """A factor with named levels, or with conditions."""

    # Read by `_levels`, which knows the factor's name: a level in a list sets the setting that the factor is named after.
    levels: Annotated[
        Any, BeforeValidator(lambda value: value, json_schema_input_type=ListedLevels | NamedLevels)
    ] = Field(examples=[[0.0, 0.01]])
    """The values to compare, at least two."""
    only_when: Annotated[
        dict[str, Allowed], write("a mapping from another factor to its level, e.g. {training: joint}")
    ] = Field(default_factory=dict)
    """The levels of other factors under which this one exists."""


def _read(written: Any, info: ValidationInfo[dict[str, Any]]) -> tuple[Factor, ...]:
    """Return the factors. The valid ones also go into the context, so that later checks see them if others are wrong."""
    if not isinstance(written, dict):
        raise expected("a mapping from a factor's name to its levels")
    if not written:
        raise fault("there are no factors; add at least one with two levels")
    if len(written) > MAX_FACTORS:
        raise fault(f"{len(written)} factors; a study has at most {MAX_FACTORS}")
    factors: list[Factor] = []
    with Errors() as errors:
        for name, value in written.items():
            with errors.under(name):
                factors.append(_factor(name, value))
        info.context["factors"] = tuple(factors)
    return tuple(factors)


Factors = Annotated[
    tuple[Factor, ...],
    BeforeValidator(
        _read,
        json_schema_input_type=Annotated[
            dict[str, ListedLevels | SpelledFactor],
            Field(
                min_length=1,
                max_length=MAX_FACTORS,
                json_schema_extra={
                    "propertyNames": {"pattern": f"^{FACTOR_NAME}$", "maxLength": MAX_FACTOR_NAME}
                },
            ),
        ],
    ),
]


def _factor(name: str, written: Any) -> Factor:
    if not re.fullmatch(FACTOR_NAME, name) or len(name) > MAX_FACTOR_NAME:
        rule = f"use at most {MAX_FACTOR_NAME} letters, digits, '_' or '-', with '.' between parts"
        with Errors() as errors:
            errors.add(f"{shown(name)} cannot name a factor; {rule}", KEY)
    whole = written if isinstance(written, dict) else {"levels": written}
    levels: tuple[Level, ...] = ()
    only_when: dict[str, tuple[Scalar, ...]] = {}
    with Errors() as errors:
        with errors.under():
            only_when = SpelledFactor.model_validate(whole).only_when
        if "levels" in whole:
            with errors.under("levels"):
                levels = _levels(name, whole["levels"])
    return Factor(name=name, levels=levels, only_when=only_when)


def _levels(name: str, written: Any) -> tuple[Level, ...]:
    """Return at least two distinct levels that set the same settings."""
    if isinstance(written, list):
        items = [(value, value) for value in written]
    elif isinstance(written, dict):
        items = [(key.value if isinstance(key, Key) else key, value) for key, value in written.items()]
    else:
        raise expected("a list of levels, e.g. [0.0, 0.01], or {levels: ..., only_when: ...}")
    levels: dict[int, Level] = {}
    with Errors() as errors:
        for index, (level, value) in enumerate(items):
            with errors.under(index):
                settings = _level_settings(name, value, named=isinstance(written, dict))
                levels[index] = Level(name=level, settings=settings)
        _check_distinct(levels, errors)
        _check_same_settings(list(levels.items()), errors)
        if len(items) < 2:
            count = "has one level" if items else "has no level"
            errors.add(f"{count}; a factor needs two, or move it to settings")
    return tuple(levels.values())


def _level_settings(factor: str, value: Any, named: bool) -> dict[str, Any]:
    """Return what a level sets: its settings if it is named, otherwise the setting that the factor is named after."""
    if not named and isinstance(value, list | dict):
        raise expected("a single value, or name the levels: {levels: {small: {...}, large: {...}}}")
    if not isinstance(value, dict):
        return {factor: value}
    if not value:
        raise fault("sets nothing; write e.g. {batch_size.sentiment: 2}")
    with Errors() as errors:
        for address in value:
            with errors.under(address, KEY):
                check_address(address)
        for one, other in combinations(map(str, value), 2):
            if overlap(one, other):
                outer, inner = sorted((one, other), key=len)
                errors.add(
                    f"sets {shown(outer)} and {shown(inner)}, which is inside it; keep one of the two",
                    inner,
                    KEY,
                )
    return dict(copied(value))


def _check_distinct(levels: dict[int, Level], errors: Errors) -> None:
    seen: dict[Scalar, Scalar] = {}
    by_appearance: dict[Scalar, Scalar] = {}
    for index, level in levels.items():
        appearance = as_it_looks(level.name) if isinstance(level.name, str) else level.name
        earlier = by_appearance.setdefault(appearance, level.name)
        if isinstance(earlier, str) and isinstance(level.name, str) and earlier != level.name:
            both = f"{earlier!a} and {level.name!a}"
            errors.add(f"levels {both} look the same; rename one", index, KEY)
        elif level.name not in seen:
            seen[level.name] = level.name
        elif same(seen[level.name], level.name):
            errors.add(f"level {shown(level.name)} is given twice; keep one", index, KEY)
        else:
            # true == 1 in Python, in databases and in most trainers.
            both = f"{shown(seen[level.name])} and {shown(level.name)}"
            errors.add(f"levels {both} cannot be told apart; quote or rename one", index, KEY)


def _check_same_settings(levels: list[tuple[int, Level]], errors: Errors) -> None:
    for index, level in levels[1:]:
        first = levels[0][1]
        if lacking := sorted(first.settings.keys() - level.settings.keys()):
            what = f"does not set {shown(lacking[0])} as level {shown(first.name)} does"
        elif extra := sorted(level.settings.keys() - first.settings.keys()):
            what = f"sets {shown(extra[0])}, level {shown(first.name)} does not"
        else:
            continue
        errors.add(f"{what}; every level of a factor sets the same settings", index, KEY)
