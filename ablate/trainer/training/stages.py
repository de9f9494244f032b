"""The stages of a part; each stage trains a fixed set of tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ablate.trainer.settings import Settings
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
        mixture = Mixture(trained, settings.batch_sizes, settings.mix, settings.reshuffle, seed)
        steps = settings.max_steps or settings.epochs * mixture.steps_per_epoch
        begins = stages[-1].begins + stages[-1].steps if stages else 0
        stages.append(Stage(tasks, mixture, steps, begins))
    return stages


def amounts(stages: Sequence[Stage], sizes: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """Return how many examples of each task the stages train on, and how many epochs that is."""
    examples: dict[str, float] = {
        task: n for stage in stages for task, n in stage.mixture.examples(stage.steps).items()
    }
    return {"examples": examples, "epochs": {task: round(n / sizes[task], 3) for task, n in examples.items()}}
