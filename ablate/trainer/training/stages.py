"""The stages of a part; each stage trains a fixed set of tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ablate.trainer.settings import DEFAULT_TEMPERATURE, Settings
from ablate.trainer.training.mixing import Mixture


@dataclass(frozen=True)
class Stage:
    """Consecutive steps that train the same tasks."""

    tasks: tuple[str, ...]
    mixture: Mixture
    steps: int
    begins: int  # optimizer steps before it


def plan_stages(settings: Settings, sizes: Mapping[str, int], seed: int) -> list[Stage]:
    """Return the stages of a part: one per task with `training: sequential`, else one with all tasks.

    Args:
        settings: of the part.
        sizes: task -> its training examples.
        seed: of the trial.
    """
    together = tuple(settings.tasks)
    groups = [(task,) for task in together] if settings.training == "sequential" else [together]
    stages: list[Stage] = []
    for tasks in groups:
        trained = {task: sizes[task] for task in tasks}
        mixture = Mixture(
            trained,
            settings.batch_sizes,
            settings.mix,
            settings.reshuffle,
            seed,
            temperature=settings.mix_temperature or DEFAULT_TEMPERATURE,
            epochs=settings.epochs,
            max_steps=settings.max_steps,
        )
        steps = settings.max_steps or settings.epochs * mixture.steps_per_epoch
        begins = stages[-1].begins + stages[-1].steps if stages else 0
        stages.append(Stage(tasks, mixture, steps, begins))
    return stages


def steps_of(stages: Sequence[Stage]) -> int:
    """Return the optimizer steps of all stages together."""
    return sum(stage.steps for stage in stages)


def ended(stages: Sequence[Stage], number: int, steps: int) -> list[Stage]:
    """Return the stages if the one at `number` ends after `steps` steps, so that the later ones begin earlier."""
    fewer = stages[number].steps - steps
    later = (replace(stage, begins=stage.begins - fewer) for stage in stages[number + 1 :])
    return [*stages[:number], replace(stages[number], steps=steps), *later]


def amounts(stages: Sequence[Stage], sizes: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """Return how many examples of each task the stages train on, and how many epochs these are."""
    examples: dict[str, float] = {
        task: n for stage in stages for task, n in stage.mixture.examples(stage.steps).items()
    }
    return {"examples": examples, "epochs": {task: round(n / sizes[task], 3) for task, n in examples.items()}}
