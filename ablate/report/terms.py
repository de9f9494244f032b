"""Terms that not every reader of a report knows, with their explanations. A test checks that the glossary has the same."""

import re
from collections.abc import Callable

TERMS = {
    "baseline": "the level of each factor that effects are measured from; also the cell with all of these levels",
    "cell": "one valid combination of levels; combinations with equal settings are one cell",
    "trial": "one cell trained with one seed",
    "part": "one separately trained model of a trial; if several trials have equal parts, these are trained "
    "once and shared",
    "seed": "the number that fixes a trial's randomness; every cell uses the same seeds",
    "difference (Δ)": "the result of a cell minus that of the cell it is compared with, or the result at one level of "
    "a factor minus that at another; paired by seed",
    "95 % interval": "the values of the true difference that the data are compatible with; 95 % of such intervals contain "
    "the true difference",
    "90 % interval": "like the 95 % interval, at 90 %; if it lies within ± the smallest effect, two tests at the 5 % level "
    "show that the true difference does too",
    "smallest effect": "the smallest difference in the primary metric that matters to you",
    "detectable effect": "the true effect that a study like this detects with 80 % power",
    "p": "how often chance alone would give a difference at least this large if the true difference were 0",
    "Holm": 'a correction of p for the number of comparisons in a table, so that at most 5 % of studies report any "helps" or '
    '"hurts" in it that is false',
    "Benjamini-Hochberg (BH)": "a weaker correction of p: on average, at most 5 % of the differences that it calls "
    "real are false; for ideas, not for claims",
    "SE": "the standard error: how far the estimate typically is from the true difference",
    "df": "degrees of freedom: how much data the noise was estimated from; the fewer, the wider the interval",
    "noise between seeds": "how much a metric varies when only the seed changes, as a standard deviation",
    "noise of items": "how much the scores of single items vary, as a standard deviation; divided by the square root of "
    "the number of items, how much a metric would vary with other samples of items",
    "noise of seed × item": "how much the score of one item varies from seed to seed, beyond what the seed and the item alone "
    "explain, as a standard deviation",
    "inconclusive": "the study showed neither that there is a difference nor that any difference is too small to matter",
    "no difference that matters": "the 90 % interval lies within ± the smallest effect, or both sides use the same trained part",
    "sign-flip": "an exact test over seeds: how often random signs of the differences give a mean at least as large",
    "moderated t": "a test in which the noise of an effect is drawn towards that of the other effects",
    "repeated interval": "an interval that is valid at every look, however many there are",
    "futile": "more seeds are unlikely to decide the comparison: the chance is below .1",
    "look": "an analysis, planned in advance, after which the study may stop adding seeds",
    "alias": "an effect that the design cannot separate from another one",
    "flag": "a problem that the report found in the data: STOP, CAUTION or NOTE",
}

# Beginning of a table heading -> the term that explains it; the first match counts.
_HEADINGS = {
    "cell": "cell",
    "seeds": "seed",
    "Δ": "difference (Δ)",
    "95 % interval": "95 % interval",
    "p (Holm)": "Holm",
    "p (BH)": "Benjamini-Hochberg (BH)",
    "SE": "SE",
    "df of σ": "df",
    "detectable": "detectable effect",
    "σ between seeds": "noise between seeds",
    "σ of seed": "noise of seed × item",
    "σ of": "noise of items",
    "flags": "flag",
}
_WHOLE_HEADINGS = {"p": "p", "df": "df"}

# Wording in sentences -> term.
_IN_SENTENCES = {
    "95 % interval": "95 % interval",
    "90 % interval": "90 % interval",
    "Holm p": "Holm",
    "smallest effect": "smallest effect",
    "inconclusive": "inconclusive",
    "no difference that matters": "no difference that matters",
    "aliased": "alias",
    "the baseline": "baseline",
    "seeds": "seed",
}
_TERM_IN_TEXT = re.compile(rf"\b({'|'.join(map(re.escape, _IN_SENTENCES))})\b")


def of_heading(heading: str) -> str | None:
    """Return the explanation of a column's heading, if it needs one."""
    word = _WHOLE_HEADINGS.get(heading) or next(
        (word for start, word in _HEADINGS.items() if heading.startswith(start)), None
    )
    return TERMS[word] if word else None


def marker(mark: Callable[[str, str], str]) -> Callable[[str], str]:
    """Return a function that replaces the first use of each term in its texts with `mark(use, explanation)`."""
    seen: set[str] = set()

    def marked(match: re.Match[str]) -> str:
        word = _IN_SENTENCES[match[0]]
        if word in seen:
            return match[0]
        seen.add(word)
        return mark(match[0], TERMS[word])

    return lambda text: _TERM_IN_TEXT.sub(marked, text)
