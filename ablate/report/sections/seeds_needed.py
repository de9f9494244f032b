"""Which comparisons are still open, and how many seeds would decide them."""

import math
from collections.abc import Sequence
from dataclasses import replace

from ablate.evidence.verdicts import Qualifier
from ablate.report.document import EffectRow, Numbers, Report, SeedsNeeded
from ablate.report.formatting import number
from ablate.report.phrases import Note
from ablate.report.sections.summary import with_sentence
from ablate.spec.seeds import MORE_SEEDS
from ablate.stats.distributions import variance_interval
from ablate.stats.power import mde
from ablate.stats.verdicts import Verdict
from ablate.text import listed

# Of a choice that changed nothing in any seed.
_IDENTICAL = "the same within rounding in every seed: does it have any effect at all?"
_PARTLY_SHARED = "the same within rounding in every seed: partly the same trained parts"
SEEDS_TRIED = (3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 75, 100)


def open_comparisons(report: Report) -> str | None:
    """Return a sentence on what is inconclusive, and how many seeds would detect the smallest effect of interest."""
    rows = [
        row
        for row in with_sentence(report)
        if row.judged.verdict == Verdict.INCONCLUSIVE and row.numbers.estimate is not None
    ]
    if not rows:
        return None
    smallest = report.metric.smallest_effect
    if smallest is None:
        return (
            f"Not decided: {listed([row.text for row in rows], 12, '; ')}. The study file names no "
            "smallest_effect, so the number of seeds needed is unknown."
        )
    needed: dict[str | None, list[str]] = {}
    for row in rows:
        needed.setdefault(_answer(row), []).append(row.text)
    groups = [
        listed(texts, 12, "; ") + (f" ({'each ' if len(texts) > 1 else ''}{seeds})" if seeds else "")
        for seeds, texts in needed.items()
    ]
    sentences = [f"Not decided: {'; '.join(groups)}."]
    answers = [text for text in needed if text and text not in (_IDENTICAL, _PARTLY_SHARED)]
    if answers:
        is_known = any(
            row.seeds_needed and row.seeds_needed.about and not row.seeds_needed.more_items for row in rows
        )
        ranges = "; ranges are for the 80 % interval of the noise between seeds"
        sentences.append(
            (
                f"With that many seeds, about 80 % of studies would detect an effect of {number(smallest)}"
                if is_known
                else f"That is what it takes to detect an effect of {number(smallest)} in about 80 % of studies"
            )
            + ", if the noise is as seen here"
            + f"{ranges if any(',' in text for text in answers) else ''}."
        )
    elif None in needed:
        sentences.append("The number of seeds needed is unknown, since the noise between seeds is unknown.")
    if any(" seeds" in text for text in answers):
        sentences.append(_how_to_add_seeds(report))
    return " ".join(sentences)


def _answer(row: EffectRow) -> str | None:
    """Return what would decide a comparison; None if that is unknown."""
    if row.seeds_needed:
        return _seeds_text(row.seeds_needed)
    if row.numbers.is_identical:
        return _PARTLY_SHARED if Note.PARTLY_SAME in row.notes else _IDENTICAL
    return None


def _how_to_add_seeds(report: Report) -> str:
    if report.design.adding:
        return f"This study uses at most {report.design.adding.at_most} seeds; more need a new study, with fresh seeds."
    return f"{MORE_SEEDS[0].upper()}{MORE_SEEDS[1:]}."


def with_seeds_needed(rows: Sequence[EffectRow], smallest: float | None) -> tuple[EffectRow, ...]:
    """Return the effects; inconclusive ones on the primary metric with the number of seeds that would detect `smallest`."""
    if smallest is None:
        return tuple(rows)
    return tuple(
        replace(row, seeds_needed=_seeds_needed(row.numbers, smallest, row.judged.alpha))
        if row.role == "primary"
        and row.judged.verdict == Verdict.INCONCLUSIVE
        # What a flag or an alias withdrew, no number of seeds brings back.
        and not {Qualifier.STOP_FLAG, Qualifier.ALIASED} & set(row.judged.qualifiers)
        else row
        for row in rows
    )


def _seeds_needed(numbers: Numbers, smallest: float, alpha: float) -> SeedsNeeded | None:
    """Return how many seeds detect the smallest effect, tested at `alpha`; None if that is unknown.

    More seeds do not reduce the items' noise. A variance over few seeds is a rough estimate, and so is a number of seeds
    computed from it (Browne 1995, Stat. Med. 14, 1933-1940)."""
    if numbers.v_seed is None or numbers.n < 2:
        return None
    now, v_item = numbers.n, numbers.v_item or 0.0

    def enough(seed_variance: float) -> int | None:
        return next(
            (
                seeds
                for seeds in SEEDS_TRIED
                # Conservative: there are more degrees of freedom if items add to the noise.
                if seeds >= now
                and mde((seed_variance / seeds + v_item) ** 0.5, seeds - 1, alpha=alpha) <= smallest
            ),
            None,
        )

    seed_variance = numbers.v_seed * now
    low, high = variance_interval(seed_variance, now - 1, 0.8)
    return SeedsNeeded(
        enough(seed_variance),
        enough(low),
        enough(high),
        mde(v_item**0.5, math.inf, alpha=alpha) > smallest,
    )


def _seeds_text(needed: SeedsNeeded) -> str:
    """Return `needs about 12 seeds, range 6 to 75`."""
    most = SEEDS_TRIED[-1]
    if needed.more_items:
        return "needs more dev items: their noise alone is too large"
    if needed.about is None:
        return f"needs more than {most} seeds" + (
            f", range {needed.low} to over {most}" if needed.low else ""
        )
    about = f"needs about {needed.about} seeds"
    return (
        about
        if needed.low == needed.high
        else f"{about}, range {needed.low} to {needed.high or f'over {most}'}"
    )
