"""The first section of a report: what helps, what hurts and what is inconclusive, in sentences."""

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from ablate.evidence.effects import Kind
from ablate.evidence.verdicts import UNLIKE, Judged, Qualifier
from ablate.report.document import CellRow, Difference, EffectRow, Report, SimpleEffect, TestScore
from ablate.report.formatting import interval, number, p_equation, p_text
from ablate.report.phrases import (
    ALONG_A_LINE,
    BOUNDS_DECLARED,
    BOUNDS_SEEN,
    CAVEATS,
    COVERS_ITEMS,
    COVERS_SEEDS,
    METHODS,
    NOTES,
    OPEN,
    QUALIFIED,
    SCALES,
    WITHDRAWN,
    Note,
)
from ablate.report.sections.ledger import without_result
from ablate.report.sections.looks import when_seen
from ablate.spec.model import quoted_level
from ablate.stats.inference import Method, infer
from ablate.stats.verdicts import Verdict
from ablate.text import listed, plural

# Verdict -> its words for one choice, and for several.
_COUNTED = {
    Verdict.HELPS: ("helps", "help"),
    Verdict.HURTS: ("hurts", "hurt"),
    Verdict.NO_DIFFERENCE: (f"makes {Verdict.NO_DIFFERENCE}", f"make {Verdict.NO_DIFFERENCE}"),
    Verdict.INCONCLUSIVE: (Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE),
}
# Flags that `_limits` has a sentence for.
_ALREADY_STATED = {"one_seed"}
# A verdict with one of these is not a plain "helps".
_QUALIFIED = {
    Qualifier.ALIASED,
    Qualifier.TURNS_AROUND,
    Qualifier.DEPENDS,
    Qualifier.LOST_RUNS,
    Qualifier.BENT,
}
# Beside a verdict such as "no difference" that holds only for the mean of unlike effects.
_ON_AVERAGE = "on average (but dependent on another factor)"


def sentences(report: Report) -> tuple[str, ...]:
    """Return the verdicts in plain language, warnings first."""
    smallest = report.metric.smallest_effect
    rows = with_sentence(report)
    waiting = [row for row in rows if row.notes == (Note.NOTHING_YET,)]
    return (
        *_limits(report),
        *_stops(report),
        *_searched(report),
        *(effect_sentence(row) + _slight(row, smallest) for row in rows if row not in waiting),
        *scope(report),
        *(
            [f"{NOTES[Note.NOTHING_YET].capitalize()}: {listed([r.text for r in waiting], 12, '; ')}."]
            if waiting
            else []
        ),
        *_best(report),
        *_test(report),
    )


def test_scores(cells: Iterable[CellRow]) -> tuple[TestScore, ...] | None:
    """Return the cells that were scored on the test split, with those scores; None if there are none."""
    scored = (
        TestScore(cell.cell, cell.name, scores)
        for cell in cells
        if (scores := {name: m for name, m in cell.metrics.items() if name.startswith("test/") and m.n})
    )
    return tuple(scored) or None


def headline(report: Report) -> str:
    """Return one line: `Of 6 choices: 2 help, 1 helps with a caveat, 3 inconclusive`; a search counts its finalists."""
    choices: Sequence[EffectRow | Difference] = _choices(report)
    noun = "choice"
    if report.design.search:
        choices, noun = [row for _, row in _compared_cells(report)], "finalist"
    effects = [row for row in choices if row.numbers.estimate is not None]
    parts = []
    for verdict, (singular, plural_form) in _COUNTED.items():
        rows = [row for row in effects if row.judged.verdict == verdict]
        weakening, caveat = (_QUALIFIED, "with a caveat") if verdict.is_decided else (UNLIKE, _ON_AVERAGE)
        plain = [row for row in rows if not weakening & set(row.judged.qualifiers)]
        slight = sum(_is_slight(row, report.metric.smallest_effect) for row in plain)
        some = "" if slight == len(plain) else f"{slight} "
        if plain:
            parts.append(
                f"{len(plain)} {singular if len(plain) == 1 else plural_form}"
                + (f" ({some}too small to matter)" if slight else "")
                + _so_far(plain, report)
            )
        if qualified := len(rows) - len(plain):
            parts.append(f"{qualified} {singular if qualified == 1 else plural_form} {caveat}")
    if len(effects) < len(choices):
        parts.append(f"{len(choices) - len(effects)} with nothing to compare yet")
    return f"Of {plural(len(choices), noun)}: {', '.join(parts)}" if effects else "Nothing to compare yet"


def _so_far(rows: Sequence[EffectRow | Difference], report: Report) -> str:
    """Return how many of these rows another look may still decide."""
    looks = len(report.design.adding.looks) if report.design.adding else 0
    coming = [
        row
        for row in rows
        if looks and (row.look is None or (row.look.stop is None and row.look.number < looks))
    ]
    if not coming:
        return ""
    return " so far" if len(coming) == len(rows) else f" ({len(coming)} {OPEN})"


def effect_sentence(row: EffectRow) -> str:
    """Return one factor's result in a sentence."""
    line = ALONG_A_LINE.format(scale=SCALES[row.slope.scale]) if row.slope else ""
    return _sentence(row.text + line, row, row.metric, _facts(row))


def caveats_of(row: EffectRow) -> list[str]:
    """Return the caveats that belong beside the numbers of an effect."""
    return _caveats(row.judged, _facts(row))


def _limits(report: Report) -> list[str]:
    limits = []
    done = report.progress
    if done.complete < done.planned:
        lost = [f"{count} {state}" for state, count in without_result(done).items() if count]
        limits.append(
            f"{done.complete} of {plural(done.planned, 'trial')} done ({', '.join(lost)}): what follows is provisional."
        )
    if len(report.design.seeds) == 1:
        limits.append(
            "One seed: the noise between seeds is unknown; the interactions, or the small effects, are used in its place."
            if any(row.numbers.p is not None for row in report.primary_effects)
            else "One seed: differences are between these trained models, not the methods; no verdict is possible."
        )
    measured = {metric for cell in report.cells for metric in cell.metrics}
    if done.complete and report.metric.name not in measured:
        limits.append(
            f"The primary metric is {report.metric.name}, which no trial has measured; "
            f"measured: {', '.join(sorted(measured)) or 'nothing'}."
        )
    return limits


def _stops(report: Report) -> list[str]:
    """Return the flags that invalidate claims, which come before the claims."""
    stops = [flag for flag in report.flags if flag.severity == "stop" and flag.rule not in _ALREADY_STATED]
    return [f"STOP ({flag.rule}): {flag.evidence}; {flag.fix}." for flag in stops]


def _searched(report: Report) -> list[str]:
    if not (tried := report.design.tried):
        return []
    lost = [f"{tried[state]} {state.lower()}" for state in ("PRUNED", "FAIL") if state in tried]
    return [
        f"A search tried {plural(sum(tried.values()), 'cell')} on the first seed"
        + (f" ({', '.join(lost)})" if lost else "")
        + ". Below, its finalists and the baseline are compared on other seeds; a search does not estimate effects.",
        *_finalists(report),
    ]


def _finalists(report: Report) -> list[str]:
    metric = report.metric
    return [
        _sentence(f"{name} against the baseline", row, metric.name, _facts_of_any(row))
        + _slight(row, metric.smallest_effect)
        for name, row in _compared_cells(report)
    ]


def _compared_cells(report: Report) -> list[tuple[str, Difference]]:
    """Return the name of each cell that could be compared with the reference, and its difference."""
    rows = [(cell.name, cell.difference.get(report.metric.name)) for cell in report.cells]
    return [(name, row) for name, row in rows if row]


def _choices(report: Report) -> list[EffectRow]:
    """Return the effects that are counted: for a numeric factor only its slope."""
    rows = report.primary_effects
    sloped = {row.change.factor for row in rows if row.kind is Kind.SLOPE}
    return [row for row in rows if row.kind is Kind.SLOPE or row.change.factor not in sloped]


def with_sentence(report: Report) -> list[EffectRow]:
    """Return the effects that get a sentence: those counted, and the levels of numeric factors that no straight line fits."""
    counted = _choices(report)
    bent = {row.change.factor for row in counted if row.slope and (row.slope.p_lack_of_fit or 1.0) < 0.05}
    return [row for row in report.primary_effects if row in counted or row.change.factor in bent]


def _sentence(change: str, row: EffectRow | Difference, metric: str, facts: Mapping[str, str]) -> str:
    numbers, judged = row.numbers, row.judged
    if numbers.estimate is None:
        return f"{change}: {row.note or NOTES[Note.NOTHING_YET]}."
    if Note.SAME_PART in row.notes:
        return f"{change}: no difference in {metric}: both sides use the same trained part."
    if numbers.is_identical:
        seeds = plural(numbers.n, "seed")
        is_copy = Note.PARTLY_SAME in row.notes
        why = (
            "partly because both sides use the same trained part"
            if is_copy
            else "as if the change did nothing"
        )
        return f"{change}: {judged.verdict}; {metric} is the same within rounding in {seeds}, {why}."
    shift = f"{metric} {numbers.delta}"
    if Note.NOT_LOOKED_AT in row.notes:
        return f"{change}: {shift} so far; {NOTES[Note.NOT_LOOKED_AT]}."
    verdict = qualified_verdict(judged.verdict, judged.qualifiers, facts)
    caveats = "".join(f"; but {text}" for text in _caveats(judged, facts))
    if numbers.ci95 is None:
        return f"{change}: {shift}, {verdict}: {METHODS[numbers.method]}, so there is no interval{caveats}."
    evidence = f"95 % interval {numbers.interval}, {plural(numbers.n, 'seed')}"
    if judged.verdict == Verdict.NO_DIFFERENCE:
        evidence = f"90 % interval {numbers.shown(judged.ci90)}, {evidence}"
    if judged.p_holm is not None:
        evidence += f", Holm {p_equation(judged.p_holm)}"
    if row.look:
        evidence += f"; {when_seen(row.look)}"
    sentence = f"{change}: {verdict}; {shift} ({evidence}){caveats}."
    if judged.verdict == Verdict.INCONCLUSIVE and judged.mde80 is not None and not judged.qualifiers:
        sentence += (
            f" This study could have detected {number(judged.mde80)} or more (80 % power after correction, if the noise is as "
            "estimated here)."
        )
    return sentence


def qualified_verdict(verdict: Verdict, qualifiers: Collection[Qualifier], facts: Mapping[str, str]) -> str:
    """Return the verdict of an effect in words, with the factors it depends on and its aliases."""
    text: str = verdict
    for qualifier in qualifiers:
        # The flag withdrew the verdict, not the lost runs.
        if qualifier is Qualifier.LOST_RUNS and Qualifier.STOP_FLAG in qualifiers:
            continue
        texts = QUALIFIED if verdict.is_decided or qualifier not in WITHDRAWN else WITHDRAWN
        if qualifier in texts:
            text = texts[qualifier].format(verdict=text, **facts)
    return text


def _caveats(judged: Judged, facts: Mapping[str, str]) -> list[str]:
    return [CAVEATS[qualifier].format(**facts) for qualifier in judged.qualifiers if qualifier in CAVEATS]


def _facts(row: EffectRow) -> dict[str, str]:
    """Return the values for the placeholders in the texts on qualifiers."""
    facts = _facts_of_any(row) | facts_of_qualifiers(row.aliased_with, row.turns)
    if row.bounds and row.lost:
        low, high = row.lost
        facts |= {
            "before": quoted_level(row.change.low),
            "after": quoted_level(row.change.high),
            "low": f"{100 * low:.0f} %",
            "high": f"{100 * high:.0f} %",
            "ends": BOUNDS_SEEN if row.bounds_as_seen else BOUNDS_DECLARED,
            "bounds": interval(row.bounds),
        }
    if row.slope:
        facts["bend"] = p_text(row.slope.p_lack_of_fit)
    return facts


def facts_of_qualifiers(aliased_with: Sequence[str], turns: Sequence[SimpleEffect]) -> dict[str, str]:
    """Return the values for the texts on aliases, and on effects that depend on other factors."""
    facts = {}
    if aliased_with:
        facts["aliases"] = listed(aliased_with)
    if turns:
        at: dict[str, list[str]] = {}
        for simple in turns:
            at.setdefault(simple.factor, []).append(f"{simple.numbers.delta} at {quoted_level(simple.level)}")
        facts["others"] = " and on ".join(f"{factor} ({', '.join(deltas)})" for factor, deltas in at.items())
    return facts


def _facts_of_any(row: EffectRow | Difference) -> dict[str, str]:
    facts = {}
    if row.last:
        facts["last"] = f"{row.last.delta} {row.last.interval}"
    if row.undone_by:
        facts["rules"] = listed(row.undone_by)
    return facts


def scope(report: Report) -> list[str]:
    """Return which variation the intervals cover: seeds, and also dev items if predictions were saved."""
    compared = [(row.text, row) for row in with_sentence(report)] or _compared_cells(report)
    with_items = [name for name, row in compared if row.numbers.method == Method.SEEDS_AND_ITEMS]
    without = [name for name, row in compared if row.numbers.method == Method.SEEDS and row.numbers.ci95]
    if not without:
        return [COVERS_ITEMS] if with_items else []
    whose = f"The intervals of {listed(without, 12, '; ')}" if with_items else "The intervals"
    return [f"{whose} {COVERS_SEEDS}"]


def _slight(row: EffectRow | Difference, smallest_effect: float | None) -> str:
    """Return a sentence if an effect is certainly too small to matter."""
    slight = _is_slight(row, smallest_effect)
    return " Its whole 95 % interval lies within ± the smallest effect of interest." if slight else ""


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
    # The cell was chosen by its mean over the planned seeds.
    inference = infer(np.array([by_seed[str(seed)] for seed in planned if str(seed) in by_seed]))
    ci95 = inference.interval()
    score = f"{number(inference.estimate)} ({plural(inference.seeds, 'seed')}"
    score += f", 95 % interval over seeds {interval(ci95, sign=False)})" if ci95 else ")"
    name = f"the {best.name} itself" if best.reference else best.name
    rivals = sum(cell.seeds_done >= cell.seeds_planned for cell in report.cells)
    tried = sum(report.design.tried.values())
    before = f", the best of {tried} tried and the baseline," if tried else ""
    picked = (
        f"It was picked from {rivals} complete cells{before} on the same data that it is scored on, so its score is optimistic."
        if rivals > 1
        else "No other cell is complete."
    )
    return [f"Best complete cell: {name}, with {metric} {score}. {picked}"]


def _test(report: Report) -> list[str]:
    cells = {cell.cell: cell for cell in report.cells}
    lines = []
    for scored in report.test or ():
        pairs = [
            f"{name} {number(score.mean)}" + (f" ({dev} {number(dev_score.mean)})" if dev_score else "")
            for name, score in scored.metrics.items()
            for dev in [name.replace("test/", "dev/", 1)]
            for dev_score in [cells[scored.cell].metrics.get(dev)]
        ]
        lines.append(f"On the test split, {scored.name}: {', '.join(pairs)}.")
    return lines
