"""All rules, in order. A flag is based on what the store contains, never on a guess."""

from collections.abc import Callable, Iterator

from ablate.report.document import Flag
from ablate.report.flags import design, results, training
from ablate.report.flags.evidence import SEVERITIES, Evidence

RULES: tuple[Callable[[Evidence], Iterator[Flag]], ...] = (
    design.one_seed,
    design.two_seeds,
    design.seeds_not_planned,
    design.lost_runs,
    results.diverged_runs,
    design.unfinished,
    design.changed,
    design.study_file_edited,
    design.incomplete_grid,
    design.confounded,
    design.aliased_claim,
    design.best_of_many,
    results.best_of_epochs,
    results.worse_than_worst,
    results.test_metric_used,
    results.dev_rows_in_train,
    results.dropped_rows,
    results.many_metrics,
    results.seeds_without_effect,
    results.unaligned_items,
    results.clusters_not_named,
    results.few_clusters,
    results.predictions_unused,
    results.predictions_unmatched,
    training.other_code,
    training.drift,
    training.unequal_training,
    training.stopped_early,
    training.unequal_tuning,
    results.useless_predictions,
)


def flags(evidence: Evidence) -> tuple[Flag, ...]:
    """Return every flag, most severe first, then in the order of the rules."""
    raised = [flag for rule in RULES for flag in rule(evidence)]
    return tuple(flag for severity in SEVERITIES for flag in raised if flag.severity == severity)
