"""What training needs beyond its settings, checked before anything is trained: files and programs, and enough GPUs."""

from collections.abc import Sequence

from ablate.design.cell_settings import Validator
from ablate.design.cells import prefixes_of
from ablate.design.model import Cell
from ablate.errors import BadInput, BadSetting
from ablate.runner.machine import visible_gpus
from ablate.runner.prepare import Prepared, naming_link


def check_cells(prepared: Prepared, cells: Sequence[Cell]) -> None:
    """Let the trainer check that everything each cell needs is there.

    Raises:
        BadInput: from the trainer's `check` (a fault of a setting names its place), or what its `prefixes` returns is invalid.
        Unavailable: from the trainer's `check`.
    """
    validator = Validator(prepared.spec, prepared.trainer)
    faults = []
    with naming_link(prepared.spec):
        for cell in cells:
            try:
                prepared.trainer.check(prepared.trainer.Settings.model_validate(cell.settings))
            except BadSetting as error:
                faults.append(validator.fault_of(error, cell.levels))
        if faults:
            raise BadInput(*dict.fromkeys(faults))
    for part in {part.hash: part for cell in cells for part in cell.parts.values()}.values():
        prefixes_of(part, validator)


def gpus_of(prepared: Prepared, cells: Sequence[Cell]) -> int:
    """Return how many GPUs a worker needs: as many as the part that needs most."""
    trainer = prepared.trainer
    parts = (part.settings for cell in cells for part in cell.parts.values())
    return max((trainer.gpus(trainer.Settings.model_validate(settings)) for settings in parts), default=1)


def check_gpus(prepared: Prepared, cells: Sequence[Cell], workers: int) -> None:
    """Refuse a run that needs more GPUs than this machine has. Workers that need at most one may share it, or use the CPU.

    Raises:
        BadInput: there are fewer GPUs than the workers need together.
    """
    spec, gpus, here = prepared.spec, gpus_of(prepared, cells), len(visible_gpus())
    if gpus > max(1, here):
        raise BadInput(
            f"{spec.place('settings.gpus', 'factors.gpus', 'trainer')}: gpus: asks for {gpus}, and this machine has "
            f"{here or 'none'}; ask for fewer, or name more in CUDA_VISIBLE_DEVICES"
        )
    if gpus > 1 and gpus * workers > here:
        raise BadInput(
            f"--workers: {workers} workers with {gpus} GPUs each need {gpus * workers}, and this machine has {here}; "
            "start fewer"
        )
