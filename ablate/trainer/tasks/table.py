"""All tasks, and the mean over those of a study."""

from collections.abc import Mapping, Sequence

from ablate.trainer.tasks.paraphrase import PARAPHRASE
from ablate.trainer.tasks.sentiment import SENTIMENT
from ablate.trainer.tasks.similarity import SIMILARITY

PAPER = ("sentiment", "paraphrase", "similarity")  # the tasks of a study that names none
TASKS = {task.name: task for task in (SENTIMENT, PARAPHRASE, SIMILARITY)}


def means(metrics: Mapping[str, float], tasks: Sequence[str]) -> dict[str, float]:
    """Return `<split>/mean` for every split that has all of a study's `tasks`; one task alone has none.

    A suffix is kept: `dev/sentiment@last` and its siblings make `dev/mean@last`.
    """
    found = {}
    for split, suffix in sorted({(name.partition("/")[0], name.partition("@")[2]) for name in metrics}):
        at = f"@{suffix}" if suffix else ""
        names = {task: f"{split}/{task}{at}" for task in tasks}
        if len(tasks) > 1 and metrics.keys() >= set(names.values()):
            found[f"{split}/mean{at}"] = mean_metric({task: metrics[name] for task, name in names.items()})
    return found


def mean_metric(by_task: Mapping[str, float]) -> float:
    """Return the mean of the tasks' metrics, correlations brought to 0..1."""
    return sum(TASKS[task].in_mean(value) for task, value in by_task.items()) / len(by_task)
