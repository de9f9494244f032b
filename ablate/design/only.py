"""`--only`: the cells of a design that a user asks for, by level or by name."""

from collections.abc import Sequence

from ablate.design.model import Cell, Design
from ablate.errors import BadInput
from ablate.spec.model import Scalar
from ablate.spec.scalars import resolve
from ablate.spec.yaml_tree import same
from ablate.text import shown, suggestion

NAMES = ("baseline", "best")


def select(design: Design, only: Sequence[str]) -> list[Cell]:
    """Return the cells, in order, that meet every item of `only`.

    Args:
        design: The cells to choose from.
        only: `factor=level`, `factor=level,level` (either), `baseline` or `best`.

    Raises:
        BadInput: an item names no factor or level, or no cell meets all of them.
    """
    faults: list[str] = []
    chosen = list(design.cells)
    for item in only:
        try:
            hashes = _named(design, item) if "=" not in item else _with_level(design, item)
            chosen = [cell for cell in chosen if cell.hash in hashes]
        except BadInput as error:
            faults += [f"--only {item}: {fault}" for fault in error.faults]
    if faults:
        raise BadInput(*dict.fromkeys(faults))
    if not chosen:
        raise BadInput(f"--only {' --only '.join(only)}: no cell meets all of these; remove one of them")
    return chosen


def _named(design: Design, name: str) -> set[str]:
    if name in design.named:
        return {design.named[name]}
    if name in NAMES:
        what = (
            "this design has no such cell"
            if name == "baseline"
            else "the study names no `best`, or has no such cell"
        )
        raise BadInput(f"{what}; write factor=level")
    raise BadInput(f"no '='; write factor=level, {' or '.join(NAMES)}")


def _with_level(design: Design, item: str) -> set[str]:
    name, _, typed = item.partition("=")
    there = [levels for cell in design.cells for levels in cell.combinations]
    known = list(dict.fromkeys(levels[name] for levels in there if name in levels))
    if not known:
        factors = dict.fromkeys(factor for levels in there for factor in levels)
        raise BadInput(f"no factor {shown(name)}; {suggestion(name, factors)}")
    texts = [typed] if _level(typed, known) else [text.strip() for text in typed.split(",")]
    matches = {text: _level(text, known) for text in texts}
    if missing := [text for text, level in matches.items() if level is None]:
        raise BadInput(
            *(f"{shown(text)} is not a level of {name}; {suggestion(text, known)}" for text in missing)
        )
    levels = [level[0] for level in matches.values() if level]
    return {
        cell.hash
        for cell in design.cells
        if any(name in there and same(there[name], level) for there in cell.combinations for level in levels)
    }


def _level(typed: str, known: Sequence[Scalar]) -> tuple[Scalar] | None:
    """Return the level that `typed` means: the same YAML value, or else the same text, in quotes or not."""
    try:
        value: Scalar = resolve(typed)
    except ValueError:
        value = typed
    by_value = [level for level in known if same(level, value)]
    quoted = [level for level in known if isinstance(level, str) and f'"{level}"' == typed]
    by_text = [level for level in known if str(level) == typed]
    return next(((level,) for level in by_value + quoted + by_text), None)
