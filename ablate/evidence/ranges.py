"""The range of a metric, which bounds what lost trials could have scored."""

from ablate.spec.model import StudySpec

Range = tuple[float | None, float | None]  # worst, best; None if unknown

_OF_KIND: dict[str | None, Range] = {
    **dict.fromkeys(("accuracy", "macro_f1"), (0.0, 1.0)),
    **dict.fromkeys(("pearson", "spearman", "mcc"), (-1.0, 1.0)),
    "r2": (None, 1.0),
}
# The trainer states what its tasks' metrics are; results of earlier versions lack that, and `dev/mean` mixes several kinds.
_OF_OUR_TRAINER: dict[str, Range] = {
    "sentiment": (0.0, 1.0),
    "paraphrase": (0.0, 1.0),
    "similarity": (-1.0, 1.0),
    "mean": (0.0, 1.0),
}


def metric_range(spec: StudySpec, metric: str, kind: str | None = None) -> Range:
    """Return the worst and the best value that `metric` can have, whatever values were observed.

    They are known for accuracies and Pearson's r (`kind`, inferred from the predictions), for other kinds that the trainer
    states, and for our trainer's metrics, including `…@last`. For the study's primary metric, the goal says which end is the
    worst, and a `worst` in the study file takes precedence.
    """
    name = metric.partition("@")[0]
    known = _OF_KIND.get(kind, (None, None))
    if spec.trainer == "ablate.trainer" and kind is None:
        known = _OF_OUR_TRAINER.get(name.partition("/")[2], known)
    if name != spec.metric.name:
        return known
    worst, best = known if spec.metric.goal == "maximize" else known[::-1]
    return worst if spec.metric.worst is None else spec.metric.worst, best
