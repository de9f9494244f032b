"""`ablate run --smoke`: every cell of a study, each shrunk by its trainer to a few steps on toy data."""

from dataclasses import replace

from ablate.contract import Trainer
from ablate.design.cell_settings import Validator
from ablate.design.cells import accepted, parts_of
from ablate.design.model import Cell, Design
from ablate.spec.model import StudySpec
from ablate.store.places import SMOKE


def smoke_study(spec: StudySpec, design: Design, trainer: Trainer) -> tuple[StudySpec, Design]:
    """Return the study as NAME-smoke with its first seed, and its cells shrunk; a cell keeps its hash.

    A trainer without `smoke` runs with its normal settings."""
    small = spec.model_copy(
        update={"study": f"{spec.study[:58]}{SMOKE}", "seeds": spec.seeds[:1], "looking": None}
    )
    design = replace(design, smoke=True)
    if trainer.smoke is None:
        return small, design
    validator = Validator(spec, trainer)
    return small, replace(design, cells=tuple(_shrunk(cell, validator) for cell in design.cells))


def _shrunk(cell: Cell, validator: Validator) -> Cell:
    trainer = validator.trainer
    assert trainer.smoke is not None
    settings = accepted(trainer.smoke(trainer.Settings.model_validate(cell.settings)), validator, "smoke")
    return replace(cell, settings=validator.identity(settings), parts=parts_of(settings, validator))
