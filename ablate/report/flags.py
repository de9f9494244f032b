"""All rules, and what they find. A flag is raised by what the store holds, never by a guess."""

from collections.abc import Callable, Iterator

from ablate.report import flags_design, flags_results, flags_training
from ablate.report.flags_evidence import SEVERITIES, Evidence, Flag

RULES: tuple[Callable[[Evidence], Iterator[Flag]], ...] = (
    flags_design.one_seed,
    flags_design.two_seeds,
    flags_design.seeds_not_planned,
    flags_design.lost_runs,
    flags_results.diverged_runs,
    flags_design.unfinished,
    flags_design.changed,
    flags_design.incomplete_grid,
    flags_design.confounded,
    flags_design.aliased_claim,
    flags_design.best_of_many,
    flags_results.best_of_epochs,
    flags_results.worse_than_worst,
    flags_results.test_metric_used,
    flags_results.dev_rows_in_train,
    flags_results.dropped_rows,
    flags_results.seeds_without_effect,
    flags_results.unaligned_items,
    flags_results.clusters_not_named,
    flags_results.few_clusters,
    flags_results.predictions_unused,
    flags_training.drift,
    flags_training.unequal_training,
    flags_training.unequal_tuning,
    flags_results.useless_predictions,
)


def flags(evidence: Evidence) -> list[Flag]:
    """Return every flag, the gravest first, within a severity in the order of the rules."""
    found = [flag for rule in RULES for flag in rule(evidence)]
    return [flag for severity in SEVERITIES for flag in found if flag.severity == severity]
