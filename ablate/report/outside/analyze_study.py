"""`ablate analyze DATABASE`: the trials of an Optuna study as a table; its params are the factors.

Trials without a result are left out and counted. Refuses a param that takes too many values to be a factor."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from ablate.errors import BadInput
from ablate.report.answers import Analysis
from ablate.report.outside.analyze import analyze_runs
from ablate.report.outside.number_format import as_number
from ablate.report.outside.question import Question
from ablate.report.outside.runs import runs_of
from ablate.report.outside.tables import Table, check_names
from ablate.store.any_study import AnyStudy, AnyTrial, read_any_study
from ablate.tables import Faults
from ablate.text import listed, plural, sounds_like_a_loss

VALUE = "value"
# A numeric param with more than 12 values, or with more values than half the trials, was drawn from a range. Up to four values
# always count as levels.
MOST_LEVELS, FEW_LEVELS = 12, 4
# If one combination has more than this many times the trials of another, the study was not a grid.
UNEVEN = 2


def analyze_study(source: str, study: str | None, question: Question) -> Analysis:
    """Analyse the finished trials of an Optuna study.

    Args:
        source: a URL, or an SQLite file.
        study: its name; None if the database has only one.
        question: its metric is `value` (the default), `values.0` and so on for several objectives, or a user attribute.

    Raises:
        BadInput: the question, the database or the study.
    """
    any_study = read_any_study(source, study)
    metric = question.metric or VALUE
    objective = _objective(any_study, metric)
    trials, notes = _finished(any_study, objective)
    varied, same = _varied(trials, question.block)
    names = varied if question.factors is None else question.factors
    if question.factors is None:
        if not names:
            raise BadInput("--factors: no param varies; name user attributes")
        if same:
            notes.append(f"the same in all trials, and left out: {listed(same)}")
    if others := [name for name in varied if name not in names]:
        notes.append(f"these varied too and count as noise: {listed(others)}")
    if objective is None and question.goal is None and not sounds_like_a_loss(metric):
        notes.append(
            f"a larger {metric} counts as better: a user attribute has no direction of its own; pass --goal minimize if "
            "smaller is better"
        )
    question = replace(
        question, metric=metric, factors=names, goal=question.goal or _goal(any_study, objective)
    )
    question.check()
    faults = Faults(any_study.where, ": trial ")
    table = _table(trials, metric, objective, question.columns, faults)
    _refuse_continuous(any_study, table, names, faults)
    table.notes.extend([*notes, *_chosen_by_a_sampler(table, names)])
    analysis = analyze_runs(runs_of(table, question, faults), question)
    return replace(analysis, study=any_study.name, trials=len(any_study.trials))


def _finished(any_study: AnyStudy, objective: int | None) -> tuple[list[AnyTrial], list[str]]:
    """Return the trials that have a result, and notes on the others."""
    complete = [trial for trial in any_study.trials if trial.state == "COMPLETE"]
    finite = [trial for trial in complete if objective is None or trial.values.get(objective) is not None]
    lost = Counter(trial.state for trial in any_study.trials if trial.state != "COMPLETE")
    lost["infinite"] = len(complete) - len(finite)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(lost.items()) if count)
    if not finite:
        raise BadInput(
            f"{any_study.where}: {any_study.name}: no trial has a result ({counts or 'there is none'})"
        )
    notes = (
        [f"{sum(lost.values())} of {plural(len(any_study.trials), 'trial')} left out: {counts}"]
        if counts
        else []
    )
    if lost["PRUNED"]:
        notes.append("pruned trials did badly: without them, levels look better and more alike than they are")
    return finite, notes


def _objective(any_study: AnyStudy, metric: str) -> int | None:
    """Return the index of the objective that `metric` names; None if it names a user attribute."""
    count = len(any_study.directions)
    names = [VALUE] if count == 1 else []
    names += [f"values.{i}" for i in range(count)]
    if metric in names:
        return int(metric.rpartition(".")[2]) if "." in metric else 0
    attributes = dict.fromkeys(name for trial in any_study.trials for name in trial.attributes)
    if metric in attributes:
        return None
    if metric == VALUE:
        raise BadInput(f"--metric: {any_study.name} has {count} objectives; name one: {', '.join(names)}")
    missing = Faults(f"{any_study.where}: {any_study.name}")
    check_names([metric], [*names, *attributes], missing, None)
    raise AssertionError("not reached: the name is missing")


def _goal(any_study: AnyStudy, objective: int | None) -> str | None:
    """Return the direction of an objective; None for a user attribute, which has none."""
    if objective is None:
        return None
    return "minimize" if any_study.directions[objective] == "MINIMIZE" else "maximize"


def _varied(trials: Sequence[AnyTrial], block: str | None) -> tuple[list[str], list[str]]:
    """Return the params that vary, and those that do not."""
    names = dict.fromkeys(name for trial in trials for name in trial.params if name != block)
    varied = [name for name in names if len({trial.params.get(name) for trial in trials}) > 1]
    return varied, [name for name in names if name not in varied]


def _table(
    trials: Sequence[AnyTrial], metric: str, objective: int | None, requested: Sequence[str], faults: Faults
) -> Table:
    known = dict.fromkeys(name for trial in trials for name in (*trial.params, *trial.attributes))
    check_names(requested, list(known), faults, None)
    columns = {
        name: [trial.params.get(name, trial.attributes.get(name, "")) for trial in trials]
        for name in requested
    }
    if objective is None:
        columns[metric] = [trial.attributes.get(metric, "") for trial in trials]
    else:
        columns[metric] = [repr(trial.values[objective]) for trial in trials]
    return Table(columns, [trial.number for trial in trials])


def _refuse_continuous(any_study: AnyStudy, table: Table, factors: Sequence[str], faults: Faults) -> None:
    drawn = {}
    for name in factors:
        values = set(table.columns[name]) - {""}
        few = max(FEW_LEVELS, min(MOST_LEVELS, len(table) // 2))
        if (
            name not in any_study.categorical
            and len(values) > few
            and not any(as_number(v) is None for v in values)
        ):
            drawn[name] = len(values)
    rest = ",".join(name for name in factors if name not in drawn) or "OTHERS"
    for name, count in drawn.items():
        faults.add(
            f"{plural(count, 'value')} in {plural(len(table), 'trial')}, too many for a factor; leave it out "
            f"(--factors {rest}), or sample it from a few (suggest_categorical, or a step)",
            column=name,
        )
    faults.raise_any()


def _chosen_by_a_sampler(table: Table, factors: Sequence[str]) -> list[str]:
    """Return a note if some combinations have many more trials than others, as after a search."""
    counts = Counter(zip(*(table.columns[name] for name in factors), strict=True)).values()
    if max(counts) <= UNEVEN * min(counts):
        return []
    return [
        f"combinations have {min(counts)} to {max(counts)} trials: a sampler that favours good results makes trials depend "
        "on each other, so p is too small"
    ]
