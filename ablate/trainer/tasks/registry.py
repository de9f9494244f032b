"""The built-in tasks, and a study's mean metric."""

from collections.abc import Mapping, Sequence

from ablate.trainer.tasks.paraphrase import PARAPHRASE
from ablate.trainer.tasks.sentiment import SENTIMENT
from ablate.trainer.tasks.similarity import SIMILARITY
from ablate.trainer.tasks.task import Task

PAPER = ("sentiment", "paraphrase", "similarity")  # the tasks of a study that names none
TASKS = {task.name: task for task in (SENTIMENT, PARAPHRASE, SIMILARITY)}


def mean_score(metrics: Mapping[str, float], tasks: Sequence[Task]) -> float:
    """Return the weighted mean of the tasks' metrics ({task: value}), each on a scale from 0 to 1."""
    weighted = sum(task.weight * task.in_mean(metrics[task.name]) for task in tasks)
    return weighted / sum(task.weight for task in tasks)


def mean_of(
    metrics: Mapping[str, float], tasks: Sequence[Task], split: str, suffix: str = ""
) -> dict[str, float]:
    """Return `<split>/mean<suffix>` if there are several tasks and `metrics` has all of them; otherwise an empty dict."""
    names = {task.name: f"{split}/{task.name}{suffix}" for task in tasks}
    if len(tasks) < 2 or not metrics.keys() >= set(names.values()):
        return {}
    by_task = {task: metrics[name] for task, name in names.items()}
    return {f"{split}/mean{suffix}": mean_score(by_task, tasks)}
