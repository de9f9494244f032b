"""The two questions that a search asks Optuna: which cell to try next, and whether to stop a trial early.

Each time, an in-memory study is built from the recorded trials. The answer depends on nothing else, so a search resumes after
any interruption. Nothing is claimed or written here."""

import itertools
import random
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import optuna
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import TrialState

from ablate.design.factorial import MAX_RAW_CELLS, Combination, Space, level_names, raw_count
from ablate.errors import Unavailable
from ablate.spec import conditions
from ablate.spec.model import Factor, StudySpec

# Proposals to ask for before an untried combination is drawn at random.
ASKED = 100


@dataclass(frozen=True)
class Tried:
    """One trial of a search so far."""

    combination: Combination
    state: str  # as Optuna names it
    value: float | None  # the study's metric
    curve: Mapping[int, float]  # the same metric by step


def next_combination(space: Space, tried: Sequence[Tried]) -> Combination | None:
    """Return a valid combination that was not tried, as the study's sampler proposes; None when all were tried."""
    seen = {_key(one.combination) for one in tried}
    study = _study(space.spec, len(tried))
    for one in tried:
        study.add_trial(_frozen(space, one))
    for _ in range(ASKED):
        trial = study.ask()
        proposed = _suggested(trial, space)
        if _key(proposed) not in seen:
            return proposed
        study.tell(trial, state=TrialState.FAIL)
    return _untried(space, seen, random.Random(f"{space.spec.study} {len(tried)}"))


def _study(spec: StudySpec, seed: int) -> optuna.Study:
    assert spec.search is not None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        samplers = optuna.samplers
        match spec.search.sampler:
            # constant_liar: do not propose cells again that are being tried.
            case "tpe":
                sampler: optuna.samplers.BaseSampler = samplers.TPESampler(seed=seed, constant_liar=True)
            case "gp":
                sampler = samplers.GPSampler(seed=seed)
            case "random":
                sampler = samplers.RandomSampler(seed=seed)
        return optuna.create_study(
            study_name=spec.study, direction=spec.metric.goal, sampler=sampler, pruner=_pruner(spec)
        )


def _pruner(spec: StudySpec) -> optuna.pruners.BasePruner:
    assert spec.search is not None
    pruners = optuna.pruners
    kinds: dict[str, type[optuna.pruners.BasePruner]] = {
        "median": pruners.MedianPruner,
        "asha": pruners.SuccessiveHalvingPruner,
        "hyperband": pruners.HyperbandPruner,
        "wilcoxon": pruners.WilcoxonPruner,
        "none": pruners.NopPruner,
    }
    return kinds[spec.search.pruner]()


def _frozen(space: Space, one: Tried) -> optuna.trial.FrozenTrial:
    """Return a trial for samplers: FAIL if it has no value to learn from, RUNNING if it is not done."""
    state = TrialState.RUNNING if one.state == "WAITING" else TrialState[one.state]
    if state is TrialState.PRUNED and not one.curve:
        state = TrialState.FAIL
    return optuna.trial.create_trial(
        state=state,
        value=one.value if state is TrialState.COMPLETE else None,
        params=dict(one.combination),
        distributions={name: _distribution(space.factors[name]) for name in one.combination},
        intermediate_values=dict(one.curve),
    )


def _distribution(factor: Factor) -> IntDistribution | CategoricalDistribution:
    """Return the distribution of a factor's level index: ordered if the levels are monotonic numbers, else categorical."""
    names = [level.name for level in factor.levels]
    if all(isinstance(name, int | float) and not isinstance(name, bool) for name in names):
        numbers = [float(name) for name in names if isinstance(name, int | float)]
        if numbers in (sorted(numbers), sorted(numbers, reverse=True)):
            return IntDistribution(0, len(names) - 1)
    return CategoricalDistribution(tuple(range(len(names))))


def _suggested(trial: optuna.Trial, space: Space) -> Combination:
    combination: Combination = {}
    for factor in space.parents_first:
        if conditions.exists(factor, level_names(space.factors, combination)):
            combination[factor.name] = _level(trial, factor)
    return {name: combination[name] for name in space.factors if name in combination}


def _level(trial: optuna.Trial, factor: Factor) -> int:
    known = _distribution(factor)
    try:
        if isinstance(known, IntDistribution):
            return trial.suggest_int(factor.name, known.low, known.high)
        return int(trial.suggest_categorical(factor.name, range(len(factor.levels))))
    except ImportError as error:
        raise Unavailable(f"design.sampler: needs {error.name}, which is not installed") from error


def _untried(space: Space, seen: set[tuple[tuple[str, int], ...]], rng: random.Random) -> Combination | None:
    if raw_count(space.spec.factors) <= MAX_RAW_CELLS:
        left = [one for one in space.full() if _key(one) not in seen]
        return rng.choice(left) if left else None
    drawn = (
        space.existing({name: rng.randrange(len(factor.levels)) for name, factor in space.factors.items()})
        for _ in itertools.repeat(None)
    )
    # Among more than 100,000 combinations, random draws soon give one that was not tried.
    return next(one for one in drawn if _key(one) not in seen)


def _key(combination: Combination) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(combination.items()))


class Watch:
    """Follows one trial of a search and reports when the study's pruner stops it."""

    def __init__(self, spec: StudySpec, before: Sequence[Tried], own: Mapping[int, float]) -> None:
        """`before`: the trials to compare with; `own`: the points that earlier attempts at this trial reported.

        Earlier curves are replayed point by point, since ASHA and Hyperband record on each trial the rungs it reached."""
        self._study = _study(spec, seed=0)
        self._study.sampler = optuna.samplers.RandomSampler(seed=0)
        for one in before:
            trial = self._study.ask()
            self._replay(trial, one.curve)
            if one.state == "COMPLETE":
                self._study.tell(trial, one.value)
            else:
                self._study.tell(trial, state=TrialState.PRUNED if one.state == "PRUNED" else TrialState.FAIL)
        self._trial = self._study.ask()
        self._replay(self._trial, own)

    def should_prune(self, step: int, value: float) -> bool:
        """Add a point to the trial's curve; return whether the pruner stops the trial here."""
        self._trial.report(value, step)
        return self._trial.should_prune()

    def _replay(self, trial: optuna.Trial, curve: Mapping[int, float]) -> None:
        for step, value in sorted(curve.items()):
            trial.report(value, step)
            trial.should_prune()
