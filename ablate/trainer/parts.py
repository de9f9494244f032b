"""A trial as parts: what is trained independently, what trials share, and a trial's metrics from those of its parts.

Pure pydantic: torch is not loaded.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ablate.trainer.data.sources import Source
from ablate.trainer.settings import HEADS, BatchSize, Data, LoraSettings, Settings
from ablate.trainer.tasks.registry import TASKS, mean_of


def parts(settings: Settings) -> dict[str, Settings]:
    """Return the independent parts: one per task with `training: separate`, otherwise one, "all".

    In a part, the settings of other tasks are reset to their defaults, so that trials that differ only there share it.
    """
    settings = _without_idle(settings)
    if settings.training != "separate":
        return {"all": settings}
    return {name: only(settings, [name]) for name in settings.tasks}


def _without_idle(settings: Settings) -> Settings:
    """Reset settings that have no effect, so that trials that differ only there share their parts."""
    update: dict[str, Any] = {} if settings.lora.rank else {"lora": LoraSettings()}
    if settings.freeze_encoder:
        update |= {"micro_batch": 0, "lr": settings.lr.model_copy(update={"layer_decay": 1.0})}
    return settings.model_copy(update=update)


def only(settings: Settings, tasks: Sequence[str]) -> Settings:
    """Return the settings for some of the tasks, none of which is trained together with another."""
    default = Settings()
    settings = settings.model_copy(update={"mix": default.mix, "mix_temperature": default.mix_temperature})
    if isinstance(settings.tasks, dict):
        # With a single task, its weights in the mean and in the loss have no effect.
        equal = {"weight": 1.0, "loss_weight": 1.0}
        alone = {task: settings.tasks[task].model_copy(update=equal) for task in tasks}
        return settings.model_copy(update={"tasks": alone})
    return settings.model_copy(
        update={
            "tasks": tuple(tasks),
            "data": Data(**{task: getattr(settings.data, task) for task in tasks}),
            "batch_size": BatchSize(**{task: getattr(settings.batch_size, task) for task in tasks}),
            **{name: getattr(settings if of in tasks else default, name) for of, name in HEADS.items()},
        }
    )


def combine(settings: Settings, metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return a trial's metrics: those of its parts, and the mean over its tasks if all have a metric."""
    together = {name: value for part in metrics.values() for name, value in part.items()}
    for suffix in ("", "@last"):
        together |= mean_of(together, settings.trained, "dev", suffix)
    return together


def smoke(settings: Settings) -> Settings:
    """Return the same trial shrunk to a few steps of the tiny encoder on the built-in corpus."""
    few = Source(limit={"train": 48, "dev": 24, "test": 24})
    if isinstance(settings.tasks, dict):
        shrunk = {
            name: task.model_copy(update={**dict(few), "batch_size": min(4, task.batch_size)})
            for name, task in settings.tasks.items()
        }
        tasks: dict[str, Any] = {"tasks": shrunk}
    else:
        sizes = {task: min(4, size) for task, size in settings.batch_size}
        tasks = {"data": Data(**dict.fromkeys(TASKS, few)), "batch_size": BatchSize(**sizes)}
    return settings.model_copy(
        update={**tasks, "encoder": "tiny", "max_length": 32, "max_steps": 3, "eval_every": 0}
    )
