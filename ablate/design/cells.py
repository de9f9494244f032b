"""From a study and its trainer to the ordered cells to run, every one of them validated before anything trains.

Pure: no clock, no files, no randomness. The same spec gives the same cells in the same order."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from ablate.contract import Trainer
from ablate.design import factorial
from ablate.design.factorial import Combination
from ablate.design.model import Cell, Design, Part
from ablate.design.settings import Validator, canonical, settings_hash
from ablate.errors import BadInput
from ablate.spec.faults import SHOWN_FAULTS
from ablate.spec.model import StudySpec


def build_design(spec: StudySpec, trainer: Trainer) -> Design:
    """Return the study's cells in order: conditions applied, duplicates (by what they set) collapsed.

    Raises:
        BadInput: settings that the trainer refuses, each fault once, at its place in the file; or too many cells.
    """
    combinations = _combinations(spec)
    reference = factorial.best(spec) if spec.design == "leave_one_out" else factorial.baseline(spec)
    validator = Validator(spec, trainer)
    cells: dict[str, Cell] = {}
    for combination in combinations:
        if (settings := validator.settings(combination)) is not None:
            cell = _cell(spec, combination, settings, validator)
            cells.setdefault(cell.hash, cell)
    settings = validator.settings(reference)
    if validator.faults:
        faults = list(validator.faults)
        raise BadInput(*faults[:SHOWN_FAULTS])
    return Design(
        kind=spec.design,
        raw_cells=factorial.raw_count(spec.factors),
        cells=tuple(cells.values()),
        reference=settings_hash(canonical(settings)),
    )


def part_counts(design: Design, seeds: int) -> tuple[int, int]:
    """Return how many parts `seeds` seeds need: one by one, and when equal parts are trained once."""
    naive = sum(len(cell.parts) for cell in design.cells)
    unique = {part.hash for cell in design.cells for part in cell.parts.values()}
    return naive * seeds, len(unique) * seeds


def _combinations(spec: StudySpec) -> Sequence[Combination]:
    if spec.design == "full":
        return factorial.full(spec)
    if spec.design == "one_at_a_time":
        return factorial.one_at_a_time(spec)
    if spec.design == "leave_one_out":
        return factorial.leave_one_out(spec)
    raise BadInput(
        f"{spec.place('design')}: design: {spec.design} is not available; "
        "use full, one_at_a_time, leave_one_out or fractional"
    )


def _cell(spec: StudySpec, combination: Combination, settings: Any, validator: Validator) -> Cell:
    own = canonical(settings)
    factors = {factor.name: factor for factor in spec.factors}
    return Cell(
        hash=settings_hash(own),
        levels=factorial.level_names(factors, combination),
        settings=own,
        parts=_parts(settings, validator),
    )


def _parts(settings: Any, validator: Validator) -> dict[str, Part]:
    trainer = validator.trainer
    parts: dict[str, Part] = {}
    for name, part_settings in trainer.parts(settings).items():
        try:
            own = canonical(validator.validated(part_settings))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise BadInput(
                f"trainer: {trainer.name}.parts gave part {name!r} bad settings: {where}: {first['msg']}"
            ) from error
        parts[str(name)] = Part(hash=settings_hash(own), settings=own)
    return parts
