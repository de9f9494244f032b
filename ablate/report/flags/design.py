"""Rules about the plan and its execution: seeds, lost runs, missing cells, aliases, picking the best of many."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import special

from ablate.evidence.effects import Kind
from ablate.evidence.frames import LOST, SPARED
from ablate.evidence.noise import sd_beyond_seeds
from ablate.report.document import Change, Flag
from ablate.report.flags.evidence import CAUTION, NOTE, STOP, Evidence, rows_where
from ablate.report.formatting import number, p_equation, signed
from ablate.report.phrases import NAIVE_LOOKS, reference_name
from ablate.report.sections.cells import best_row, cell_name
from ablate.spec.model import Scalar, quoted_level
from ablate.stats.optimism import expected_best
from ablate.stats.verdicts import Verdict
from ablate.text import listed, plural


def one_seed(evidence: Evidence) -> Iterator[Flag]:
    """One seed: the noise between seeds is unknown."""
    seeds = evidence.grid.results.spec.seeds
    if len(seeds) == 1:
        yield Flag(
            STOP,
            "one_seed",
            f"every cell has only one planned seed, {seeds[0]}",
            "run a new study with at least three seeds (five to detect effects about as large as the noise); "
            "until then claim nothing beyond these models",
        )


def study_file_edited(evidence: Evidence) -> Iterator[Flag]:
    """The study file was edited after the run."""
    if edited := evidence.grid.results.edited:
        yield Flag(
            NOTE,
            "study_file_edited",
            f"the study file was edited after the run ({listed(edited, 12, '; ')}); this report describes what was run",
            "restore the file, or run the edited study under another name",
        )


def two_seeds(evidence: Evidence) -> Iterator[Flag]:
    """Two seeds: the noise between them has one degree of freedom."""
    if len(evidence.grid.results.spec.seeds) != 2:
        return
    methods = {row.numbers.method for row in evidence.rows}
    methods |= {row.numbers.method for cell in evidence.cells for row in cell.difference.values()}
    if any(method.is_over_seeds for method in methods):
        yield Flag(
            CAUTION,
            "two_seeds",
            "with two seeds the noise between seeds has one degree of freedom: where that is most of the noise, a 95 % "
            "interval extends 12.7 standard errors to each side; with three seeds, 4.3",
            "plan three seeds or more; with two, only large effects can be detected",
        )


def seeds_not_planned(evidence: Evidence) -> Iterator[Flag]:
    """Seeds that the plan does not name, or cells with different numbers of seeds."""
    grid = evidence.grid
    planned = len(grid.results.spec.seeds)
    if extra := grid.seeds[planned:]:
        yield Flag(
            CAUTION,
            "seeds_not_planned",
            f"results for {plural(len(extra), 'seed')} that the study file does not name: {listed(extra)}",
            "add them to `seeds` in the study file; if they were added after a look at the results, say so with the claim",
        )
    waiting = np.isin(grid.states[:, :planned], ["RUNNING", "WAITING"]).any()
    lacking = (~np.isin(grid.states[:, :planned], ["COMPLETE", SPARED])).sum(axis=1)
    if len(lacking) and not waiting and lacking.min() != lacking.max():
        most = cell_name(grid, int(lacking.argmax()))
        yield Flag(
            CAUTION,
            "seeds_unequal",
            f"cells lack {lacking.min()} to {lacking.max()} of their seeds; {most} lacks the most",
            "run the missing trials (`ablate run` again, with `--retry-failed` for failed trials)",
            rows_where(lacking > lacking.min()),
        )


def lost_runs(evidence: Evidence) -> Iterator[Flag]:
    """Failed, pruned or missing trials; more serious when concentrated at one level of a factor (Fisher's exact test)."""
    grid = evidence.grid
    lost = np.isin(grid.states[:, : len(grid.results.spec.seeds)], LOST)
    if not lost.any() or not (grid.states == "COMPLETE").any():
        return
    uneven = _uneven(evidence, lost)
    reasons = {t.error for t in grid.trials.values() if t.state in LOST and t.error}
    planned = int((grid.states[:, : lost.shape[1]] != SPARED).sum())
    text = f"{plural(int(lost.sum()), 'trial')} of {planned} failed, were pruned or never ran"
    if reasons:
        text += f"; reasons: {listed(sorted(reasons), 2)}"
    if uneven:
        text += f"; concentrated at {listed(uneven)}"
    elif gone := _without_result(evidence):
        text += f"; no result at {listed(gone)}"
    if bounds := _open_ends(evidence):
        text += f"; if they had scored the worst or the best value, {listed(bounds, 3)}"
    yield Flag(
        STOP if uneven else CAUTION,
        "lost_runs",
        text,
        "fix the cause (see the ledger) and run `ablate run --retry-failed`; results are rarely missing at random",
        rows_where(lost.any(axis=1)),
        undoes_p=bool(uneven),
    )


def unfinished(evidence: Evidence) -> Iterator[Flag]:
    """A run in progress: looking early is fine, but stopping because of the results so far is not."""
    done = evidence.progress
    if done.running + done.waiting > 0:
        yield Flag(
            NOTE,
            "unfinished",
            f"{done.complete} of {plural(done.planned, 'trial')} done",
            "wait for the run to finish before making claims: intervals computed during a run are too narrow to base a "
            "decision to stop on",
        )


def changed(evidence: Evidence) -> Iterator[Flag]:
    """A study file that changed after there were results."""
    for change in evidence.grid.results.changes:
        judged = [name for name in ("metric", "baseline") if name in change.before]
        added = "seeds" in change.before
        changes = ", ".join(f"{name} (before: {_before(value)})" for name, value in change.before.items())
        yield Flag(
            STOP if judged or added else NOTE,
            "changed_after_results",
            f"the study file changed when {plural(change.complete, 'trial')} already had a result: {changes}"
            + (
                f"; adding seeds after seeing results raises the rate of false positives: {NAIVE_LOOKS}"
                if added
                else ""
            ),
            "report the claim only together with this, or run a new study that plans looks, with fresh seeds: "
            "`seeds: {start: [101, 102, 103], at_most: 12}`"
            if added and not judged
            else "say what was added later; a choice made after seeing results needs fresh seeds"
            if not judged
            else "judge by what was declared first, or rerun the study under another name",
        )


def incomplete_grid(evidence: Evidence) -> Iterator[Flag]:
    """Missing trials make plain averages disagree with the estimates."""
    grid = evidence.grid
    for row in evidence.rows:
        estimate, se = row.numbers.estimate, row.numbers.se
        # A slope is no difference of two averages.
        if row.metric != grid.primary or row.kind is Kind.SLOPE or estimate is None:
            continue
        if grid.primary not in evidence.models:
            continue
        raw = _raw_margin(evidence, row.change)
        difference = abs(raw - estimate)
        holes = ~np.isfinite(grid.values[grid.primary][:, : len(grid.results.spec.seeds)])
        flips = raw * estimate < 0 and difference > 1e-9
        if holes.any() and (flips or (se and difference > se)):
            yield Flag(
                CAUTION,
                "incomplete_grid",
                f"{row.text}: plain averages over all trials differ by {signed(raw)}, matched trials of the same seed by "
                f"{signed(estimate)}: trials are missing unevenly",
                "trust the matched comparison, and run the missing trials before making a claim",
            )


def confounded(evidence: Evidence) -> Iterator[Flag]:
    """Factors that always changed together in the trials that have run."""
    together = {
        tuple(sorted({name, *others}))
        for metric, model in evidence.models.items()
        for name, others in model.confounded.items()
    }
    for names in sorted(together):
        yield Flag(
            STOP,
            "confounded",
            f"{listed(names)} cannot be separated with the trials that have run: a difference may come from any of them",
            "run the cells that differ in only one of them (`ablate run` again, with `--retry-failed` for failed trials); "
            "until then claim nothing about them",
        )


def aliased_claim(evidence: Evidence) -> Iterator[Flag]:
    """A verdict on an effect that the design cannot separate from another."""
    for row in evidence.rows:
        if row.judged.verdict in (Verdict.HELPS, Verdict.HURTS) and row.aliased_with:
            yield Flag(
                CAUTION,
                "aliased_claim",
                f"{row.text} {row.judged.verdict}, but the design cannot separate it from "
                f"{listed(row.aliased_with)}",
                "add the cells that break the alias, or argue that the other effect is absent",
            )


def best_of_many(evidence: Evidence) -> Iterator[Flag]:
    """The best of k cells looks better than it is, even if all are equal. Cells that share the same models count once."""
    grid = evidence.grid
    best = best_row(grid)
    if best is None or grid.reference in (None, best):
        return
    # Looks may have given other cells more seeds.
    seeds = len(grid.results.seeds_of(grid.cells[best].hash))
    values = grid.values[grid.primary][:, :seeds]
    complete = np.flatnonzero(np.isfinite(values).all(axis=1))
    _, first = np.unique(grid.sources(grid.primary)[complete, :seeds], axis=0, return_index=True)
    models = complete[first]
    sd = sd_beyond_seeds(values[models])
    if len(models) < 3 or not sd:
        return
    gain = expected_best(len(models), sd / math.sqrt(seeds))
    reference = reference_name(grid.results.spec.design.kind)
    leads = (values[best] - values[grid.reference]) * grid.sign
    if not np.isfinite(leads).any():
        return
    lead = float(np.nanmean(leads))
    yield Flag(
        CAUTION if not lead > 2 * gain else NOTE,
        "best_of_many",
        f"if {len(models)} cells were equal, the best of them would still beat their mean by about {number(gain)}, by chance "
        f"alone (σ {number(sd)}, what neither the cell nor the seed explains; {plural(seeds, 'seed')}; Tippett 1925); the best "
        f"cell here beats the {reference} by {number(lead)}",
        f"rerun the best cell and the {reference} on fresh seeds, or score the best cell once on the test split"
        + _by_ablate_test(evidence),
        frozenset({best}),
    )


def _by_ablate_test(evidence: Evidence) -> str:
    """Return a hint to `ablate test`; "" with `ablate.command`, since only the program itself can score its test split."""
    trainer = evidence.grid.results.spec.trainer
    hint = (
        " (`ablate test`)" if trainer == "ablate.trainer" else " (`ablate test`, if the trainer has `test`)"
    )
    return "" if trainer == "ablate.command" else hint


def _before(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {quoted_level(item)}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _uneven(evidence: Evidence, lost: np.ndarray) -> list[str]:
    """Return the levels at which losses are concentrated, Bonferroni-corrected over the levels tested."""
    grid = evidence.grid
    wanted = grid.states[:, : lost.shape[1]] != SPARED
    tested: list[tuple[float, str]] = []
    for factor in grid.results.spec.factors:
        for level in factor.levels:
            at = set(grid.rows_at({factor.name: level.name}))
            elsewhere = {row for one in factor.levels for row in grid.rows_at({factor.name: one.name})} - at
            inside, outside = (lost[rows][wanted[rows]] for rows in (sorted(at), sorted(elsewhere)))
            if inside.size and outside.size:
                p = _fisher_greater(int(inside.sum()), inside.size, int(outside.sum()), outside.size)
                tested.append((p, f"{factor.name}={quoted_level(level.name)}"))
    return [f"{name} ({p_equation(p)})" for p, name in sorted(tested) if p * len(tested) < 0.05]


def _without_result(evidence: Evidence) -> list[str]:
    """Return the levels at which no trial is complete, though some were to run."""
    grid = evidence.grid
    planned, complete = grid.states != SPARED, grid.states == "COMPLETE"
    rows = {
        f"{factor.name}={quoted_level(level.name)}": sorted(grid.rows_at({factor.name: level.name}))
        for factor in grid.results.spec.factors
        for level in factor.levels
    }
    return [name for name, at in rows.items() if planned[at].any() and not complete[at].any()]


def _fisher_greater(k: int, n: int, m: int, N: int) -> float:
    """Return Fisher's one-sided p (1922): the chance that at least k of n are lost if k + m of n + N are lost at random."""

    def log_choose(a: int, b: int) -> float:
        return float(special.gammaln(a + 1) - special.gammaln(b + 1) - special.gammaln(a - b + 1))

    total = log_choose(n + N, k + m)
    most = min(n, k + m)
    return math.fsum(
        math.exp(log_choose(n, i) + log_choose(N, k + m - i) - total)
        for i in range(k, most + 1)
        if k + m - i <= N
    )


def _open_ends(evidence: Evidence) -> list[str]:
    """Return the primary effects whose sign depends on the lost runs."""
    return [
        f"the effect of {row.change.factor} → {quoted_level(row.change.high)} would lie in [{signed(low)}, {signed(high)}]"
        for row in evidence.rows
        if row.role == "primary" and row.numbers.estimate is not None and row.bounds
        for low, high in [row.bounds]
        if low < 0 < high
    ]


def _raw_margin(evidence: Evidence, change: Change) -> float:
    grid = evidence.grid
    values = grid.values[grid.primary]

    def average(level: Scalar) -> float:
        rows = grid.rows_at({change.factor: level})
        finite = values[rows][np.isfinite(values[rows])]
        return float(finite.mean()) if finite.size else math.nan

    return average(change.high) - average(change.low)
