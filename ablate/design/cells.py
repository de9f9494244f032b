"""From a study and its trainer to the ordered cells to run, each validated before anything is trained.

Pure: no clock, no files, no randomness. The same spec gives the same cells in the same order."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from ablate.contract import Trainer
from ablate.design.cell_settings import Validator, flat, settings_hash
from ablate.design.factorial import Combination, Space, level_names, raw_count
from ablate.design.model import Cell, Design, Part
from ablate.design.registry import choose, one_at_a_time
from ablate.errors import BadInput
from ablate.spec.faults import SHOWN_FAULTS
from ablate.spec.model import Scalar, StudySpec
from ablate.text import shown


def build_design(spec: StudySpec, trainer: Trainer) -> Design:
    """Return the study's cells in order: conditions applied, cells with equal settings collapsed.

    Raises:
        BadInput: the trainer refuses settings (each fault is reported
            once, at its place in the file), or there are too many cells.
    """
    space = Space(spec)
    chosen = choose(space)
    validator = Validator(spec, trainer)
    named = _named_cells(space, validator)
    # The sampler of a search has not chosen its cells yet, so each level is validated once.
    if spec.search:
        for combination in one_at_a_time(space).combinations:
            cell_of(combination, validator)
    _refuse_random_settings(space.baseline(), validator)
    built = (cell_of(combination, validator) for combination in chosen.combinations)
    valid = [cell for cell in built if cell is not None]
    if validator.faults:
        raise BadInput(*_with_advice(validator, valid)[:SHOWN_FAULTS])
    start = space.best() if spec.design.starts_at_best else space.baseline()
    cells = _distinct(valid, level_names(validator.factors, start))
    if len(cells) < 2 and not spec.search:
        what = "every combination has the same settings, so there is nothing to compare"
        raise BadInput(f"{spec.place('design')}: design: {what}; change the levels of a factor")
    return Design(
        kind=spec.design.kind,
        raw_cells=raw_count(spec.factors),
        cells=tuple(reversed(cells.values())),
        reference=named["best" if spec.design.starts_at_best else "baseline"],
        named={name: cell for name, cell in named.items() if cell in cells},
        resolution=chosen.resolution,
        aliases=chosen.aliases,
        warnings=[
            *chosen.warnings,
            *_warnings(len(valid) - len(cells), [] if spec.search else _constant(spec, cells.values())),
        ],
    )


def cell_of(combination: Combination, validator: Validator) -> Cell | None:
    """Return the cell of a combination; if the trainer refuses its settings, add faults to `validator` and return None."""
    settings = validator.settings(combination)
    if settings is None:
        return None
    identity = validator.identity(settings)
    return Cell(
        hash=settings_hash(identity),
        levels=level_names(validator.factors, combination),
        settings=identity,
        parts=parts_of(settings, validator),
    )


def part_counts(design: Design, seeds: int) -> tuple[int, int]:
    """Return how many parts are trained with `seeds` seeds: without sharing, and with each distinct part trained once."""
    naive = sum(len(cell.parts) for cell in design.cells)
    unique = {part.hash for cell in design.cells for part in cell.parts.values()}
    return naive * seeds, len(unique) * seeds


def parts_with_prefixes(design: Design, validator: Validator) -> int:
    """Return how many distinct parts share a prefix with another."""
    parts = {part.hash: part for cell in design.cells for part in cell.parts.values()}
    of_each = [{*prefixes_of(part, validator).values()} for part in parts.values()]
    counts = Counter(prefix for of_one in of_each for prefix in of_one)
    return sum(any(counts[prefix] > 1 for prefix in of_one) for of_one in of_each)


def parts_of(settings: Any, validator: Validator) -> dict[str, Part]:
    """Return the parts that the trainer makes of a Settings object.

    Raises:
        BadInput: the trainer's `parts` returns settings that its own `Settings` refuses.
    """
    parts: dict[str, Part] = {}
    for name, part_settings in validator.trainer.parts(settings).items():
        identity = validator.identity(accepted(part_settings, validator, f"parts: part {name!r}"))
        parts[str(name)] = Part(hash=settings_hash(identity), settings=identity)
    if not parts:
        raise BadInput(f"{validator.trainer.saying('parts')}: returned no part; a trial needs one or more")
    return parts


def prefixes_of(part: Part, validator: Validator) -> dict[str, str]:
    """Return the prefixes of a part's training in order: the trainer's name -> a hash of the name and the deciding settings.

    Raises:
        BadInput: the trainer's `prefixes` returns settings that its own `Settings` refuses.
    """
    prefixes: dict[str, str] = {}
    settings = validator.trainer.Settings.model_validate(part.settings)
    for name, deciding in validator.trainer.prefixes(settings).items():
        identity = validator.identity(accepted(deciding, validator, f"prefixes: {name!r}"))
        prefixes[str(name)] = settings_hash({"prefix": str(name), "settings": identity})
    return prefixes


def accepted(given: Any, validator: Validator, by: str) -> Any:
    """Return what the trainer's function `by` returned, validated as a fresh Settings object.

    Raises:
        BadInput: the trainer's `Settings` refuses it.
    """
    try:
        return validator.validated(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "settings"
        raise BadInput(f"{validator.trainer.saying(by)}: {where}: {first['msg']}") from error


def _named_cells(space: Space, validator: Validator) -> dict[str, str]:
    """Return the hashes of the cells that users can name, whether or not the design includes them."""
    named = {"baseline": space.baseline()}
    if space.spec.best or space.spec.design.starts_at_best:
        named["best"] = space.best()
    cells = {name: cell_of(combination, validator) for name, combination in named.items()}
    return {name: cell.hash for name, cell in cells.items() if cell is not None}


def _refuse_random_settings(combination: Combination, validator: Validator) -> None:
    """Refuse Settings that differ each time they are made (default: `uuid4()`): no later run could find their trials again."""
    one, other = (validator.settings(combination) for _ in range(2))
    if one is None or other is None:
        return
    before, after = flat(validator.identity(one)), flat(validator.identity(other))
    if changed := [address for address in before if before[address] != after.get(address)]:
        raise BadInput(
            f"{validator.trainer.saying('Settings')}: {changed[0]} has a different value each time "
            f"({shown(before[changed[0]])}, then {shown(after.get(changed[0]))}); "
            "give it a default that does not change, or make it in train"
        )


def _with_advice(validator: Validator, valid: list[Cell]) -> list[str]:
    """Return the faults; where every level of a factor is valid in some cell, suggest `only_when`."""
    accepted = {(name, repr(level)) for cell in valid for name, level in cell.levels.items()}
    always_valid = {
        f"factors.{name}"
        for name, factor in validator.factors.items()
        if all((name, repr(level.name)) in accepted for level in factor.levels)
    }
    keys = always_valid | {"settings"} if valid else always_valid
    advice = (
        "; if a factor only makes sense with some levels of another, give it `only_when: {other: [levels]}`"
    )
    return [fault + (advice if key in keys else "") for fault, key in validator.faults.items()]


def _distinct(valid: Sequence[Cell], start: Mapping[str, Scalar]) -> dict[str, Cell]:
    """Return the cells by hash, in reverse order, each with all combinations that have its settings.

    It is named after the one nearest to `start`; effects are matched over all of them."""

    def shared(cell: Cell) -> int:
        return sum(name in cell.levels and cell.levels[name] == level for name, level in start.items())

    cells: dict[str, Cell] = {}
    combinations: dict[str, list[dict[str, Scalar]]] = defaultdict(list)
    for cell in reversed(valid):
        combinations[cell.hash].insert(0, cell.levels)
        if cell.hash not in cells or shared(cell) >= shared(cells[cell.hash]):
            cells[cell.hash] = cell
    return {
        key: replace(cell, also=tuple(levels for levels in combinations[key] if levels is not cell.levels))
        for key, cell in cells.items()
    }


def _constant(spec: StudySpec, cells: Collection[Cell]) -> list[str]:
    """Return the factors with fewer than two levels in all cells."""
    return [
        factor.name
        for factor in spec.factors
        if len({repr(cell.levels[factor.name]) for cell in cells if factor.name in cell.levels}) < 2
    ]


def _warnings(collapsed: int, constant: Sequence[str]) -> list[str]:
    warnings = [
        f"{name} has fewer than two levels among the cells, so the study says nothing about it"
        for name in constant
    ]
    if collapsed:
        what = "combination has" if collapsed == 1 else "combinations have"
        warnings.append(
            f"{collapsed} {what} the same settings as another and will not run again: two levels of a factor mean the same there"
        )
    return warnings
