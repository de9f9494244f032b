"""Which parts begin alike, and up to where.

    first pass    until an item is trained on for the second time, `reshuffle` has no effect
    stage K       the Kth stage of `training: sequential` ends in a state that depends on its first K tasks alone. Training on a
                  single task ends like stage 1, whatever `training` is

All settings count, including any that are added later, except those that are reset here. Pure pydantic: torch is not loaded.
"""

from ablate.trainer.data.pretrained import TINY
from ablate.trainer.parts import only
from ablate.trainer.settings import Settings

FIRST_PASS = "first pass"


def stage_name(number: int) -> str:
    """Return the name of the end of a stage, counted from 1."""
    return f"stage {number}"


def prefixes(settings: Settings) -> dict[str, Settings]:
    """Return the points up to which other parts may train in the same way, each with the settings that decide it."""
    tasks, default = len(settings.tasks), Settings()
    if settings.training == "separate" and tasks > 1:
        return {}
    ends = range(1, max(2, tasks)) if settings.training == "sequential" or tasks == 1 else ()
    first = _up_to_stage(settings, 1).model_copy(update={"reshuffle": default.reshuffle})
    return {FIRST_PASS: first} | {stage_name(number): _up_to_stage(settings, number) for number in ends}


def _up_to_stage(settings: Settings, number: int) -> Settings:
    """Reset the settings that have no effect up to the end of a stage, counted from 1."""
    tasks, default = list(settings.tasks), Settings()
    settings = settings.model_copy(update={"keep": default.keep})
    if settings.training == "joint" and len(tasks) > 1:
        return settings
    if number < len(tasks):
        # `select` concerns the last stage only.
        settings = settings.model_copy(update={"select": default.select})
    # The tiny encoder's vocabulary comes from the text of all tasks, unless all are built in.
    if settings.encoder == TINY and not all(source.is_built_in for source in settings.sources.values()):
        return settings
    if number == 1:
        settings = settings.model_copy(update={"training": default.training})
    return only(settings, tasks[:number])
