"""The first thing a reader sees: what helps, what hurts and what is undecided, in sentences."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ablate.evidence.effects import Kind
from ablate.evidence.verdicts import Judged, Qualifier
from ablate.report.document import CellRow, Difference, EffectRow, Report, SimpleEffect, TestScore
from ablate.report.phrases import (
    ALONG_A_LINE,
    BOUNDS_DECLARED,
    BOUNDS_SEEN,
    KEPT_BACK,
    METHODS,
    NOTES,
    QUALIFIED,
    RESERVATIONS,
    SCALES,
    Note,
)
from ablate.report.sections.ledger import without_result
from ablate.report.sections.looks import when_seen
from ablate.report.words import interval, number, p_equation, p_text, signed
from ablate.spec.model import level_text
from ablate.stats.inference import Method, infer
from ablate.stats.verdicts import Verdict
from ablate.text import listed, plural

# Verdict -> of one choice, of several.
_COUNTED = {
    Verdict.HELPS: ("helps", "help"),
    Verdict.HURTS: ("hurts", "hurt"),
    Verdict.NO_DIFFERENCE: (f"makes {Verdict.NO_DIFFERENCE}", f"make {Verdict.NO_DIFFERENCE}"),
    Verdict.INCONCLUSIVE: (Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE),
}
# Flags that `_limits` says in its own words.
_SAID_ABOVE = {"one_seed"}
# A verdict with one of these is not a plain "helps".
_QUALIFIED = {
    Qualifier.ALIASED,
    Qualifier.TURNS_AROUND,
    Qualifier.DEPENDS,
    Qualifier.LOST_RUNS,
    Qualifier.BENT,
}


def sentences(report: Report) -> tuple[str, ...]:
    """Return the verdicts in plain language, warnings first."""
    smallest = report.metric.smallest_effect
    return (
        *_limits(report),
        *_stops(report),
        *_searched(report),
        *(effect_sentence(row) + _slight(row, smallest) for row in _with_sentence(report)),
        *_best(report),
        *_test(report),
    )


def test_scores(cells: Iterable[CellRow]) -> tuple[TestScore, ...] | None:
    """Return the cells that were scored on the test split with those scores; None when none was."""
    scored = (
        TestScore(cell.cell, cell.name, found)
        for cell in cells
        if (found := {name: m for name, m in cell.metrics.items() if name.startswith("test/") and m.n})
    )
    return tuple(scored) or None


def headline(report: Report) -> str:
    """Return one line: `Of 6 choices: 2 help, 1 helps with a caveat, 3 inconclusive`."""
    every = _choices(report)
    effects = [row for row in every if row.numbers.estimate is not None]
    said = []
    for verdict, (one, several) in _COUNTED.items():
        found = [row for row in effects if row.judged.verdict == verdict]
        plain = [row for row in found if not (verdict.is_decided and _QUALIFIED & set(row.judged.qualifiers))]
        slight = sum(_is_slight(row, report.metric.smallest_effect) for row in plain)
        some = "" if slight == len(plain) else f"{slight} "
        if plain:
            said.append(
                f"{len(plain)} {one if len(plain) == 1 else several}"
                + (f" ({some}too small to matter)" if slight else "")
            )
        if qualified := len(found) - len(plain):
            said.append(f"{qualified} {one if qualified == 1 else several} with a caveat")
    if len(effects) < len(every):
        said.append(f"{len(every) - len(effects)} with nothing to compare yet")
    return f"Of {plural(len(every), 'choice')}: {', '.join(said)}" if effects else "Nothing to compare yet"


def effect_sentence(row: EffectRow) -> str:
    """Return one factor's result in a sentence."""
    line = ALONG_A_LINE.format(scale=SCALES[row.slope.scale]) if row.slope else ""
    return _sentence(row.text + line, row, row.metric, _facts(row))


def reservations_of(row: EffectRow) -> list[str]:
    """Return the caveats that belong beside the numbers of an effect."""
    return _reservations(row.judged, _facts(row))


def _limits(report: Report) -> list[str]:
    said = []
    done = report.progress
    if done.complete < done.planned:
        lost = [f"{count} {state}" for state, count in without_result(done).items() if count]
        said.append(
            f"{done.complete} of {plural(done.planned, 'trial')} done ({', '.join(lost)}): what follows is provisional."
        )
    if len(report.design.seeds) == 1:
        said.append(
            "One seed: the noise between seeds is unknown; interactions of the factors stand in for it."
            if any(row.numbers.p is not None for row in report.primary_effects)
            else "One seed: differences are between these trained models, not the methods; no verdict is possible."
        )
    measured = {metric for cell in report.cells for metric in cell.metrics}
    if done.complete and report.metric.name not in measured:
        said.append(
            f"The study decides by {report.metric.name}, which no trial has measured; "
            f"measured: {', '.join(sorted(measured)) or 'nothing'}."
        )
    return said


def _stops(report: Report) -> list[str]:
    """The flags that invalidate claims, before the claims."""
    stops = [flag for flag in report.flags if flag.severity == "stop" and flag.rule not in _SAID_ABOVE]
    return [f"STOP ({flag.rule}): {flag.evidence}; {flag.fix}." for flag in stops]


def _searched(report: Report) -> list[str]:
    if not (tried := report.design.tried):
        return []
    lost = [f"{tried[state]} {state.lower()}" for state in ("PRUNED", "FAIL") if state in tried]
    return [
        f"A search tried {plural(sum(tried.values()), 'cell')} on a seed of its own"
        + (f" ({', '.join(lost)})" if lost else "")
        + ". Below, its finalists and the baseline are compared on other seeds; a search does not estimate effects.",
        *_finalists(report),
    ]


def _finalists(report: Report) -> list[str]:
    metric = report.metric
    found = [(cell.name, cell.difference.get(metric.name)) for cell in report.cells]
    return [
        _sentence(f"{name} against the baseline", row, metric.name, _facts_of_any(row))
        + _slight(row, metric.smallest_effect)
        for name, row in found
        if row
    ]


def _choices(report: Report) -> list[EffectRow]:
    """The effects that are counted: of a numeric factor its slope alone."""
    rows = report.primary_effects
    sloped = {row.change.factor for row in rows if row.kind is Kind.SLOPE}
    return [row for row in rows if row.kind is Kind.SLOPE or row.change.factor not in sloped]


def _with_sentence(report: Report) -> list[EffectRow]:
    """The effects that get a sentence: the counted ones, and the levels of a numeric factor that no straight line fits."""
    counted = _choices(report)
    bent = {row.change.factor for row in counted if row.slope and (row.slope.p_lack_of_fit or 1.0) < 0.05}
    return [row for row in report.primary_effects if row in counted or row.change.factor in bent]


def _sentence(change: str, row: EffectRow | Difference, metric: str, facts: Mapping[str, str]) -> str:
    numbers, judged = row.numbers, row.judged
    if numbers.estimate is None:
        return f"{change}: {row.note or NOTES[Note.NOTHING_YET]}."
    if Note.SAME_PART in row.notes:
        return f"{change}: no difference in {metric}: both sides use the same trained part."
    if numbers.estimate == 0 and numbers.method == Method.NO_VARIANCE:
        seeds = plural(numbers.n, "seed")
        return (
            f"{change}: {judged.verdict}; {metric} is exactly the same in {seeds}, as if nothing had changed."
        )
    shift = f"{metric} {signed(numbers.estimate)}"
    if Note.NOT_LOOKED_AT in row.notes:
        return f"{change}: {shift} so far; {NOTES[Note.NOT_LOOKED_AT]}."
    verdict = qualified_verdict(judged.verdict, judged.qualifiers, facts)
    reservations = "".join(f"; but {text}" for text in _reservations(judged, facts))
    if numbers.ci95 is None:
        return (
            f"{change}: {shift}, {verdict}: {METHODS[numbers.method]}, so there is no interval{reservations}."
        )
    evidence = f"95 % interval {interval(numbers.ci95)}, {plural(numbers.n, 'seed')}"
    if judged.p_holm is not None:
        evidence += f", Holm {p_equation(judged.p_holm)}"
    if row.look:
        evidence += f"; {when_seen(row.look)}"
    said = f"{change}: {verdict}; {shift} ({evidence}){reservations}."
    if judged.verdict == Verdict.INCONCLUSIVE and judged.mde80 is not None and not judged.qualifiers:
        said += (
            f" This study could have detected {number(judged.mde80)} or more (80 % power, after correction)."
        )
    return said


def qualified_verdict(verdict: Verdict, qualifiers: Iterable[Qualifier], facts: Mapping[str, str]) -> str:
    """Return the verdict of an effect in words, with what it depends on or is mixed with."""
    said: str = verdict
    for one in qualifiers:
        texts = QUALIFIED if verdict.is_decided or one not in KEPT_BACK else KEPT_BACK
        if one in texts:
            said = texts[one].format(verdict=said, **facts)
    return said


def _reservations(judged: Judged, facts: Mapping[str, str]) -> list[str]:
    return [RESERVATIONS[one].format(**facts) for one in judged.qualifiers if one in RESERVATIONS]


def _facts(row: EffectRow) -> dict[str, str]:
    """The values for the placeholders in the texts on qualifiers."""
    facts = _facts_of_any(row) | mixed_with(row.aliased_with, row.turns)
    if row.bounds and row.lost:
        low, high = row.lost
        facts |= {
            "before": level_text(row.change.low),
            "after": level_text(row.change.high),
            "low": f"{100 * low:.0f} %",
            "high": f"{100 * high:.0f} %",
            "ends": BOUNDS_SEEN if row.bounds_as_seen else BOUNDS_DECLARED,
            "bounds": interval(row.bounds),
        }
    if row.slope:
        facts["bend"] = p_text(row.slope.p_lack_of_fit)
    return facts


def mixed_with(aliased_with: Sequence[str], turns: Sequence[SimpleEffect]) -> dict[str, str]:
    """Return what the texts on aliases and on effects that turn around name."""
    facts = {}
    if aliased_with:
        facts["aliases"] = listed(aliased_with)
    if turns:
        facts["other"] = turns[0].factor
        facts["turns"] = ", ".join(
            f"{signed(one.numbers.estimate)} at {level_text(one.level)}" for one in turns
        )
    return facts


def _facts_of_any(row: EffectRow | Difference) -> dict[str, str]:
    facts = {}
    if row.last:
        facts["last"] = f"{signed(row.last.estimate)} {interval(row.last.ci95)}"
    if row.undone_by:
        facts["rules"] = listed(row.undone_by)
    return facts


def _slight(row: EffectRow | Difference, smallest_effect: float | None) -> str:
    """Say so where an effect is certain and too small to matter."""
    slight = _is_slight(row, smallest_effect)
    return " Its whole interval lies below the smallest effect of interest." if slight else ""


def _is_slight(row: EffectRow | Difference, smallest_effect: float | None) -> bool:
    ci95 = row.numbers.ci95
    if smallest_effect is None or row.judged.verdict not in (Verdict.HELPS, Verdict.HURTS) or ci95 is None:
        return False
    return all(abs(bound) < smallest_effect for bound in ci95)


def _best(report: Report) -> list[str]:
    best = report.best
    if best is None:
        return []
    metric = report.metric.name
    by_seed, planned = best.metrics[metric].by_seed, report.design.seeds
    # The mean that it was chosen by: over the planned seeds.
    found = infer(np.array([by_seed[str(seed)] for seed in planned if str(seed) in by_seed]))
    ci95 = found.interval()
    bounds = f", 95 % interval {interval(ci95, sign=False)}" if ci95 else ""
    name = f"the {best.name} itself" if best.reference else best.name
    rivals = sum(cell.seeds_done >= cell.seeds_planned for cell in report.cells)
    tried = sum(report.design.tried.values())
    before = f", the best of {tried} tried and the baseline," if tried else ""
    picked = (
        f"It was picked from {rivals} complete cells{before} by the same data it is scored on, so its score is optimistic."
        if rivals > 1
        else "No other cell is complete."
    )
    return [
        f"Best complete cell: {name}, with {metric} {number(found.estimate)} ({plural(found.seeds, 'seed')}{bounds}). {picked}"
    ]


def _test(report: Report) -> list[str]:
    cells = {cell.cell: cell for cell in report.cells}
    said = []
    for scored in report.test or ():
        pairs = [
            f"{name} {number(found.mean)}" + (f" ({dev} {number(known.mean)})" if known else "")
            for name, found in scored.metrics.items()
            for dev in [name.replace("test/", "dev/", 1)]
            for known in [cells[scored.cell].metrics.get(dev)]
        ]
        said.append(f"On the test split, {scored.name}: {', '.join(pairs)}.")
    return said
