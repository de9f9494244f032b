"""`ablate analyze`: the report's statistics on any table of results.

Refuses a table that cannot be trusted: an empty or non-finite metric, a factor with one level, a row with too few or
too many fields. Every fault is reported with file and line.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from ablate.errors import BadInput
from ablate.evidence.aliases import LEAST_SHARE
from ablate.evidence.contrasts import by_seed
from ablate.evidence.interactions import Simple, one_per_factor, qualifier_of, simple_effect, unlike
from ablate.evidence.models import Array, Coding, weights_by_seed
from ablate.evidence.verdicts import Qualifier
from ablate.report.answers import Analysis, TableEffect, TableInteraction, TableLenth
from ablate.report.document import Change, Numbers, SimpleEffect
from ablate.report.outside.levels import coded, order_levels
from ablate.report.outside.question import Question
from ablate.report.outside.read_table import read_columns
from ablate.report.outside.runs import Runs, runs_of
from ablate.spec.model import Verbatim
from ablate.stats.distributions import t_p
from ablate.stats.factorial import AnovaRow, Condition, Estimate, Factorial, Key, conditions, factorial
from ablate.stats.inference import Inference, Method, infer
from ablate.stats.linear import Factor, crossings, product_columns
from ablate.stats.multiple import benjamini_hochberg, holm
from ablate.stats.robust import bartlett_p
from ablate.stats.verdicts import Verdict, verdict
from ablate.tables import Faults
from ablate.text import as_it_looks, listed, sounds_like_a_loss

UNEQUAL = 0.001  # Bartlett's p below which the noise of combinations is called unequal
# The most columns of a model. A factor that needs more is probably a number or an id.
MOST_COLUMNS = 1024
# More levels than this, and than half the rows, are probably values drawn from a range.
FEW_LEVELS = 4


def analyze_table(path: Path, question: Question) -> Analysis:
    """Analyse the table at `path`.

    Raises:
        BadInput: the question or the file, every fault at once.
    """
    question.check()
    faults = Faults(path)
    table = read_columns(
        path,
        [question.metric, *question.columns],
        faults,
        several=question.metric,
        numbers=[question.metric],
        decimal=question.decimal,
    )
    return analyze_runs(runs_of(table, question, faults), question)


def analyze_runs(runs: Runs, question: Question) -> Analysis:
    """Analyse the runs of a table.

    Raises:
        BadInput: two factors that always change together, or too few rows.
    """
    baseline, order = question.baseline, question.order
    levels = {name: order_levels(column, baseline.get(name)) for name, column in runs.factors.items()}
    factors = [coded(name, column, levels[name]) for name, column in runs.factors.items()]
    blocks = coded(*runs.block, order_levels(runs.block[1])) if runs.block else None
    n = len(runs.y)
    _check_size(n, factors, blocks, order)
    result = factorial(runs.y, factors, blocks, order)
    _check_separable(result, factors, levels, blocks)
    repeated = n - len(crossings([*factors, blocks])) if blocks else 0
    estimator = _Inferences(runs.y, factors, None if repeated else blocks, result)
    inferences, pooled = estimator.of_estimates()
    names = _Names({name: tuple(map(Verbatim, texts)) for name, texts in levels.items()}, conditions(factors))
    interactions = _interactions(result, inferences, names, estimator.size)
    aliases = _aliases(estimator, factors, names.where)
    return Analysis(
        metric=question.metric,
        n=n,
        order=result.order,
        effects=_effects(estimator, inferences, names, aliases, interactions, question),
        interactions=interactions,
        anova=tuple(result.anova["II"]),
        anova_other=()
        if result.balanced
        else tuple(row for kind in ("I", "III") for row in result.anova[kind][:-1]),
        lenth=TableLenth(result.lenth, result.contrasts) if result.lenth else None,
        warnings=(
            *_direction_assumed(question),
            *runs.notes,
            *_alike(levels),
            *_warnings(result, blocks, pooled, repeated, simplified=order == "auto" and len(factors) > 1),
            *_without_noise(interactions),
            *([] if blocks else _unequal_noise(runs.y, factors)),
        ),
        dropped=runs.dropped,
        rows=runs.rows,
    )


def _without_noise(interactions: Sequence[TableInteraction]) -> list[str]:
    """Return a warning if interactions have an estimate but no error."""
    same = [row for row in interactions if row.numbers.method is Method.NO_VARIANCE]
    names = listed(dict.fromkeys(" × ".join(row.factors) for row in same))
    return [f"a term of {names} is the same in every block: without noise it has no p"] if same else []


def _alike(levels: Mapping[str, Sequence[str]]) -> list[str]:
    """Return a note for levels of a factor that differ only in upper or lower case, or in how their characters are encoded."""
    notes = []
    for name, texts in levels.items():
        groups: dict[str, list[str]] = {}
        for text in texts:
            groups.setdefault(as_it_looks(text).casefold(), []).append(text)
        notes += [
            f"{name}: {listed(map(ascii, group))} look alike but count as different levels; if they are one level, write them "
            "the same way"
            for group in groups.values()
            if len(group) > 1
        ]
    return notes


def _direction_assumed(question: Question) -> list[str]:
    if question.goal is not None or not sounds_like_a_loss(question.metric):
        return []
    return [f"a larger {question.metric} counts as better; pass --goal minimize if it is a loss"]


@dataclass(frozen=True)
class _Names:
    """The names of the levels; the statistics refer to levels by number."""

    levels: Mapping[str, Sequence[str]]
    where: Mapping[str, Condition | None]

    def when(self, factors: Sequence[str]) -> str | None:
        """Return the condition under which all of `factors` exist, as `parent = level or level`; None if they always do."""
        needed: dict[str, Sequence[int]] = {}
        for name in factors:
            for parent, seen in (self.where.get(name) or {}).items():
                needed[parent] = [level for level in needed.get(parent, seen) if level in seen]
        texts = (
            f"{name} = {' or '.join(self.levels[name][i] for i in seen)}" for name, seen in needed.items()
        )
        return " and ".join(texts) or None


class _Inferences:
    """Infers the effects, interactions and simple effects of one table.

    With blocks (seeds), as in the report, an effect is computed within each block and its error comes from its variation
    over the blocks. Without blocks, errors come from least squares. Rows that repeat a combination within a block have been
    averaged; with `--unit row` they are separate runs, and `blocks` is None here.
    """

    def __init__(self, y: Array, factors: Sequence[Factor], blocks: Factor | None, result: Factorial) -> None:
        self.result = result
        self.levels = {f.name: f.levels for f in factors}
        self._y = y
        self._by_block: tuple[dict[Key, Array], Array] | None = None
        if blocks is not None:
            cells, cell = np.unique(np.array([f.index for f in factors]), axis=1, return_inverse=True)
            total, count = np.zeros((2, cells.shape[1], blocks.levels))
            np.add.at(total, (cell, blocks.index), y)
            np.add.at(count, (cell, blocks.index), 1)
            present = np.asarray(count > 0)
            values = np.where(present, total / np.maximum(count, 1), np.nan)
            coding = Coding(
                {f.name: tuple(range(f.levels)) for f in factors},
                {f.name: index for f, index in zip(factors, cells, strict=True)},
            )
            self._by_block = weights_by_seed(present, coding, result.order)[0], values
            self._row = cell, blocks.index, count[cell, blocks.index]

    def of_estimates(self) -> tuple[dict[Key, Inference], list[str]]:
        """Return the inference of every estimate, and the names of those that cannot be estimated within a block."""
        method = Method.LEAST_SQUARES if self.result.lenth is None else Method.LENTH
        by_key, pooled = {}, []
        for e in (*self.result.effects, *self.result.interactions):
            key = e.factors, e.levels
            within = self._within(self._by_block[0].get(key)) if self._by_block else None
            if within is not None:
                by_key[key] = within
                continue
            by_key[key] = Inference(e.estimate, 1)
            if e.p is not None:
                by_key[key] = Inference(e.estimate, 1, method, e.se, e.df, e.p)
            if self._by_block:
                pooled.append(":".join(e.factors))
        return by_key, list(dict.fromkeys(pooled))

    def weights(self, key: Key) -> Array:
        """Return the weight [n] of each row in an estimate."""
        within = self._by_block[0].get(key) if self._by_block else None
        if self._by_block is None or within is None or self._within(within) is None:
            return self.result.weights[key]
        cell, block, rows_alike = self._row
        used = np.isfinite(by_seed(within, self._by_block[1]))
        return np.asarray(np.where(used[block], within[cell, block], 0.0) / rows_alike / used.sum())

    @property
    def size(self) -> float:
        """The largest absolute value of the metric."""
        return float(np.abs(self._y).max())

    def simple(self, effect: tuple[str, int], at: tuple[str, int]) -> Inference | None:
        """Return an effect at one level of another factor, both (factor, level index); None if it cannot be estimated.

        Over the blocks; if they cannot estimate it, by least squares, as `of_estimates` does with effects."""
        if self._by_block and (
            within := self._within(simple_effect(self._by_block[0], self.levels, effect, at))
        ):
            return within
        weights = simple_effect(self.result.weights, self.levels, effect, at)
        residual = self.result.anova["II"][-1]
        if weights is None or not residual.ms or self.result.degenerate:
            return None
        value, se = float(weights @ self._y), math.sqrt(residual.ms * float(weights @ weights))
        return Inference(value, 1, Method.LEAST_SQUARES, se, residual.df, t_p(value / se, residual.df))

    def _within(self, weights: Array | None) -> Inference | None:
        """Return the inference over blocks; None unless at least two blocks can estimate the contrast."""
        if weights is None or self._by_block is None:
            return None
        of_block = by_seed(weights, self._by_block[1])
        if np.isfinite(of_block).sum() < 2:
            return None
        return infer(of_block, scale=self.size)


def _effects(
    estimator: _Inferences,
    inferences: Mapping[Key, Inference],
    names: _Names,
    aliases: Mapping[str, Sequence[str]],
    interactions: Sequence[TableInteraction],
    question: Question,
) -> tuple[TableEffect, ...]:
    """Return the effects with their verdicts and the qualifiers of these."""
    estimates, p_bh, size = estimator.result.effects, [row.p_bh for row in interactions], estimator.size
    mains = [inferences[e.factors, e.levels] for e in estimates]
    rows = []
    for e, inference, p in zip(estimates, mains, holm([inference.p for inference in mains]), strict=True):
        (name,), (level,) = e.factors, e.levels
        turns = _simple_effects(e, estimator, names, p_bh)
        word, qualifiers = _judged(
            verdict(inference, p, question.smallest_effect, question.goal or "maximize"), aliases[name]
        )
        if turns:
            qualifiers = (*qualifiers, qualifier_of(turns))
        rows.append(
            TableEffect(
                change=Change(name, names.levels[name][0], names.levels[name][level], names.when([name])),
                numbers=Numbers.of(inference, size),
                mde80=inference.mde80(),
                p_holm=p,
                verdict=word,
                qualifiers=qualifiers,
                ci90=inference.interval(0.90),
                aliased_with=tuple(aliases[name]),
                turns=tuple(SimpleEffect(one.factor, one.level, Numbers.of(one.inference)) for one in turns),
            )
        )
    return tuple(rows)


def _judged(word: Verdict, aliases: Sequence[str]) -> tuple[Verdict, tuple[Qualifier, ...]]:
    """Return a verdict, weakened if the effect has aliases, as `evidence.verdicts` does for a study."""
    if not aliases or word is Verdict.INCONCLUSIVE:
        return word, ()
    return Verdict.INCONCLUSIVE if word is Verdict.NO_DIFFERENCE else word, (Qualifier.ALIASED,)


def _interactions(
    result: Factorial, inferences: Mapping[Key, Inference], names: _Names, size: float
) -> tuple[TableInteraction, ...]:
    estimates = result.interactions
    of_estimates = [inferences[e.factors, e.levels] for e in estimates]
    p_bh = benjamini_hochberg([inference.p for inference in of_estimates])
    return tuple(
        TableInteraction(
            factors=e.factors,
            low=tuple(names.levels[name][0] for name in e.factors),
            high=tuple(names.levels[name][level] for name, level in zip(e.factors, e.levels, strict=True)),
            when=names.when(e.factors),
            numbers=Numbers.of(inference, size),
            mde80=inference.mde80(),
            p_bh=p,
        )
        for e, inference, p in zip(estimates, of_estimates, p_bh, strict=True)
    )


def _simple_effects(
    e: Estimate, estimator: _Inferences, names: _Names, p_bh: Sequence[float | None]
) -> tuple[Simple, ...]:
    """Return an effect at two levels of each factor that it depends on, as `evidence.interactions` does for a study."""
    effect, pairs = (e.factors[0], e.levels[0]), []
    for pair, p in zip(estimator.result.interactions, p_bh, strict=True):
        at = dict(zip(pair.factors, pair.levels, strict=True))
        if p is None or p >= 0.05 or len(at) > 2 or at.pop(effect[0], None) != effect[1]:
            continue
        ((other, high),) = at.items()
        levels = (0, high)
        effects = [estimator.simple(effect, (other, level)) or Inference(None, 0) for level in levels]
        if differing := unlike(effects):
            pairs.append([Simple(other, names.levels[other][levels[k]], effects[k]) for k in differing])
    return one_per_factor(pairs)


def _aliases(
    estimator: _Inferences, factors: Sequence[Factor], where: Mapping[str, Condition | None]
) -> dict[str, list[str]]:
    """Return the products that bias each main effect: those of two factors with a large share, those of three with share 1.

    A product with one other factor biases a factor's own effect if combinations are missing: the effect is then that at some
    levels of the other only.

    Source: the alias matrix of Box & Wilson 1951, J. R. Statist. Soc. B 13, 1-45."""
    aliases: dict[str, list[str]] = {f.name: [] for f in factors}
    effects = [(key[0][0], estimator.weights(key)) for key in estimator.result.weights if len(key[0]) == 1]
    # A product of three factors is aliased with a main effect only in regular fractions, which have few levels.
    few = [f for f in factors if f.levels <= 3]
    for several in (*combinations(factors, 2), *combinations(few, 3)):
        names = [f.name for f in several]
        if any(set(names) & set(where.get(name) or {}) for name in names):
            continue
        shares: dict[str, float] = {}
        columns = product_columns(several)
        for name, weights in effects:
            # An interaction of k factors is a difference of differences times 1/2^(k − 1).
            share = 2 ** (len(several) - 1) * float(np.abs(weights @ columns).max())
            shares[name] = max(share, shares.get(name, 0.0))
        for name, share in shares.items():
            whole = abs(share - 1) < 1e-6
            of_two = len(several) == 2
            if (of_two and share >= LEAST_SHARE) or (whole and name not in names):
                aliases[name].append(":".join(names) if whole else f"{share:.2f} of {':'.join(names)}")
    return aliases


def _check_size(n: int, factors: Sequence[Factor], block: Factor | None, order: str) -> None:
    columns = [*factors, *([block] if block else [])]
    faults = [
        f"{f.name}: {f.levels} levels; is it a number or an id?" for f in columns if f.levels > MOST_COLUMNS
    ]
    needed = 1 + sum(f.levels - 1 for f in columns)
    if n < needed:
        few = f"{n} rows are too few for {needed - 1} effects; at least {needed} are needed"
        faults += _crowded(factors, n) or [few]
    possible = math.prod(f.levels for f in factors)
    if order == "full" and possible > MOST_COLUMNS:
        faults.append(f"--order full: {possible} combinations of levels; use --order 2")
    if faults:
        raise BadInput(*faults)


def _crowded(factors: Sequence[Factor], n: int) -> list[str]:
    """Return faults for factors with so many levels that they are values drawn from a range."""
    return [
        f"{f.name}: {f.levels} levels in {n} rows are too many: each different value of a factor is a level; round them to a few "
        "values, or leave the column out"
        for f in factors
        if max(FEW_LEVELS, n // 2) < f.levels <= MOST_COLUMNS
    ]


def _check_separable(
    result: Factorial, factors: Sequence[Factor], levels: Mapping[str, Sequence[str]], block: Factor | None
) -> None:
    faults = []
    n = len(factors[0].index)
    if any((factor.name,) in result.left_out for factor in factors) and (crowded := _crowded(factors, n)):
        raise BadInput(*crowded)
    for place, factor in enumerate(factors):
        if (factor.name,) not in result.left_out:
            continue
        if block and _is_nested(block, factor):
            faults.append(
                f"{factor.name}: every {block.name} occurs with one level of it only, so the two cannot be told apart; leave "
                f"--block {block.name} out"
            )
            continue
        missing = [repr(level) for level in levels[factor.name] if level.lower() in ("na", "nan", "null")]
        pairs = [pair for other in factors for pair in ((factor, other), (other, factor))]
        nested = [pair for pair in pairs if _is_nested(*pair)]
        if missing:
            why = (
                f"counted as a level: {', '.join(missing)}; leave a field empty where a factor does not exist"
            )
        elif nested:
            child, parent = (factor.name for factor in nested[0])
            columns = listed(f"{child}_{level}" for level in levels[parent])
            why = (
                f"each level of {child} occurs with one level of {parent} only: give {child} a column for each level of "
                f"{parent} ({columns}), empty in all other rows"
            )
        else:
            why = "leave one of them out"
        before = listed([*([block.name] if block else []), *(other.name for other in factors[:place])])
        faults.append(f"{factor.name}: changes together with {before}; {why}")
    if faults:
        raise BadInput(*faults)


def _is_nested(child: Factor, parent: Factor) -> bool:
    """Return whether each level of `child` occurs with just one level of `parent`, which has fewer levels."""
    together = set(zip(child.index.tolist(), parent.index.tolist(), strict=True))
    return child.levels > parent.levels and len(together) == len(set(child.index.tolist()))


def _unequal_noise(y: Array, factors: Sequence[Factor]) -> list[str]:
    """Return a warning if the repeated runs of some combinations vary much more than those of others."""
    groups = [y[rows] for rows in crossings(factors) if len(rows) > 1]
    if bartlett_p(groups) >= UNEQUAL:
        return []
    sds = sorted(float(group.std(ddof=1)) for group in groups)
    return [
        f"runs of one combination vary much more than those of another (standard deviation {sds[0]:.3g} to {sds[-1]:.3g}), but "
        "p and intervals assume equal noise: with unequal numbers of runs they may be far too certain; run every "
        "combination with the same seeds and name them with --block"
    ]


def _warnings(
    result: Factorial, blocks: Factor | None, pooled: Sequence[str], repeated: int, simplified: bool
) -> list[str]:
    warnings = []
    if result.degenerate:
        warnings.append(
            "repeated runs do not differ, or the model explains every row exactly: there is no noise, so no p"
        )
    residual: AnovaRow = result.anova["II"][-1]
    if residual.df == 0:
        source = (
            "standard errors are Lenth's pseudo standard error"
            if result.lenth
            else "no standard errors; repeat some combinations, or use --order 1"
        )
        warnings.append(f"no degrees of freedom are left for noise: {source}")
    elif not result.replicated and not blocks:
        warnings.append(
            "no combination ran twice: the noise is estimated from the interactions that the model leaves out"
        )
    if not result.balanced:
        why = "unequal numbers of rows or factors that exist in some rows only"
        warnings.append(
            f"the analysis of variance is of type II, since there are {why}; no verdict depends on its type"
        )
    estimated = {one.factors for one in result.interactions}
    products = [
        ("a part of " if names in estimated else "") + ":".join(names)
        for names in result.left_out
        if len(names) > 1
    ]
    if products:
        shown = ", ".join(products[:8]) + (f" and {len(products) - 8} more" if len(products) > 8 else "")
        why = "they cannot be separated from other terms (aliased, or combinations are missing)"
        warnings.append(f"left out because {why}: {shown}")
    warnings += [
        f"{name}: empty in some rows, and no other factor explains which; its effect is estimated on the other rows. If empty is "
        "a level, write a name such as none"
        for name in result.unexplained
    ]
    if blocks and pooled:
        warnings.append(
            f"{listed(pooled)} cannot be estimated within a {blocks.name}: only there, errors come from the residual over all "
            "blocks, which assumes that an effect is the same in every block"
        )
    if simplified and result.order == "1":
        why = "the table cannot separate two-factor interactions, or they would leave too little to estimate the noise"
        warnings.append(f"main effects only: {why}")
    if blocks and repeated:
        warnings.append(
            f"{repeated} rows repeat a combination within its {blocks.name}; each counts as a separate run, and errors come "
            "from the residual over all rows"
        )
    return warnings
