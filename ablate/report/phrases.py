"""The text for each note, stop, method and refusal. No code depends on the wording, so it can be changed freely."""

from enum import StrEnum

from ablate.evidence.effects import Scale
from ablate.evidence.looks import Stop
from ablate.evidence.predictions import Refusal
from ablate.evidence.verdicts import Judged, Qualifier
from ablate.spec.designs import KINDS
from ablate.stats.clustering import Sign
from ablate.stats.inference import Method


def reference_name(design: str) -> str:
    """Return the name of the cell that differences are taken from, by the kind of design."""
    return "full model" if KINDS[design].starts_at_best else "baseline"


class Note(StrEnum):
    """Remarks beside the numbers of an effect."""

    CONFOUNDED = "confounded"
    NO_CELLS = "no_cells"
    NOTHING_YET = "nothing_yet"
    SAME_PART = "same_part"
    NO_NOISE = "no_noise"
    PARTLY_SAME = "partly_same"
    PARTIAL = "partial"
    AVERAGED = "averaged"
    SLOPE = "slope"
    BOUNDS = "bounds"
    TURNS_AROUND = "turns_around"
    NOT_LOOKED_AT = "not_looked_at"


NOTES = {
    Note.CONFOUNDED: "cannot be separated from {others} with the trials that have run",
    Note.NO_CELLS: "no two cells to compare",
    Note.NOTHING_YET: "nothing to compare yet",
    Note.SAME_PART: "both sides use the same trained part",
    Note.NO_NOISE: "the same within rounding in every seed, so there is no noise to compare with",
    Note.PARTLY_SAME: "in {identical} of {compared} comparisons both sides use the same trained part",
    Note.PARTIAL: "{done} of {matches} pairs of cells so far",
    Note.AVERAGED: "averaged over {factors} on the side where that exists",
    Note.SLOPE: "straight line through {levels}{scale}; lack of fit p {p}",
    Note.BOUNDS: "the effect would lie in {bounds} if the lost trials had scored {ends}",
    Note.TURNS_AROUND: "{effects}",
    Note.NOT_LOOKED_AT: "no look has tested this difference, so nothing is claimed",
}

BOUNDS_DECLARED = "the worst or the best possible value"
BOUNDS_SEEN = "the worst or the best value observed (the true ones may be more extreme)"

SCALES = {Scale.LINEAR: "", Scale.LOG: " on a log scale"}

# Why no more seeds were added for a comparison.
STOPS = {
    Stop.DECIDED: "significant",
    Stop.NO_DIFFERENCE: "shown not to matter",
    Stop.FUTILE: "stopped as futile (more seeds are unlikely to decide it)",
    Stop.WIDTH: "narrow enough",
    Stop.SAME_PART: "identical (the same trained part)",
}
OPEN = "still open"
UNTIL_DECIDED = "until every comparison is decided"
UNTIL_WIDTH = "until every 95 % interval is at most {width} wide"
LOOKS = (
    "Looks: alpha is spent over the looks with Lan and DeMets' O'Brien-Fleming-type function (1983): two-sided, up to a share t "
    "of the information, 4 (1 − Φ(z / √t)), where z is the normal quantile of 1 − α/4. t is the variance at the final planned "
    "look divided by that at this look: more seeds shrink the variance due to seeds, but not that due to items. Where items "
    "contribute, the variance due to seeds is replaced by its upper 90 % confidence bound (χ²) for this. Of simulated studies "
    "without any effect, 4.3 to 5.7 % claimed one. Holm's correction is applied to sequential p-values (Maurer and Bretz 2013), "
    "each the smallest alpha at which any look so far would have rejected. Intervals are repeated confidence intervals (Jennison "
    "and Turnbull 2000), valid at every look for one effect at a time. An effect keeps the numbers of the look at which it is "
    "significant, at which its repeated 90 % interval shows no difference that matters, or at which the chance of reaching "
    "either at the final look falls below {futile:g} (predictive probability: Spiegelhalter, Freedman and Blackburn 1986); seeds "
    "that its cells were given since count in the means of cells and in the pictures of seeds and curves, but not in its "
    "numbers. Other metrics, interactions and the analysis of variance use all seeds and are not corrected for the looks. The "
    "commands that train only some cells again take no look, so they train the seeds of the first look only."
)
NAIVE_LOOKS = "with looks at 3, 5 and 10 seeds, 12 % of studies without an effect claim one, instead of 5 %"
# Follows a slope's change in a sentence.
ALONG_A_LINE = " along a straight line{scale}"

# What each section of the report is for.
PURPOSES = {
    "design": "What was asked, which combinations were trained, and what the design cannot separate.",
    "cells": "Every combination that was trained, and how far it is from the {reference}: look up a configuration here.",
    "effects": "Each choice by itself: how large its effect is, how sure that is, and what the study could have detected.",
    "interactions": "Whether the effect of one choice depends on another; to raise questions, not to settle them.",
    "noise": "How much results vary from seed to seed when nothing else changes.",
    "tradeoffs": "Choices that improve one metric at the expense of another.",
    "curves": "Whether training had converged, and whether a run went wrong on the way.",
    "examples": "The items behind a difference: read some before you believe it.",
    "flags": "What a reviewer would object to, how to fix it, and what became of every trial.",
    "cost": "What the study cost.",
    "methods": "How the numbers were computed, with sources, and how to train this again.",
}


def verdict_text(judged: Judged, estimate: float | None) -> str:
    """Return a verdict as tables and pictures show it; `estimate` is the difference that it is about."""
    if estimate is None:
        return "nothing to compare"
    return f"{judged.verdict}{', with a caveat' if judged.is_reserved else ''}"


# Short names, for captions and tables.
METHODS = {
    Method.NOTHING: "nothing to compare",
    Method.ONE_SEED: "one seed",
    Method.NO_VARIANCE: "no variance over seeds",
    Method.SEEDS: "paired t over seeds",
    Method.SEEDS_AND_ITEMS: "seeds × items",
    Method.ITEMS: "items of one seed",
    Method.LEAST_SQUARES: "least squares",
    Method.LENTH: "Lenth",
}

# Other tests of the same difference.
TESTS = {
    "sign_flip": "sign-flip",
    "moderated_t": "moderated t",
    "items": "t over items",
    "pseudo_values": "t over pseudo-values",
    "mcnemar_exact": "McNemar, exact",
    "williams": "Williams t, Zou's interval",
}

# One paragraph each, for the section on methods.
METHOD_TEXTS = {
    Method.SEEDS_AND_ITEMS: "Seeds × items: the difference is computed for every seed and every item, and both are treated "
    "as random samples (Obuchowski and Rockette 1995), so the result generalises to other seeds and to other items from the same "
    "source. The error includes how the effect varies from seed to seed and from item to item; nothing is pooled over cells. "
    "Items of one cluster (such as pairs that share a sentence) count as one if the predictions name clusters; other items count "
    "as independent, and a flag is raised if items that are neighbours or whose ids start alike agree too much. p and interval "
    "come from the Behrens-Fisher distribution (Fisher 1935a): the variance over seeds has one degree of freedom fewer than "
    "there are seeds; the variance over items has Satterthwaite's (1946), for accuracies about twice the number of items on "
    "which the sides differ, times the share of it that is left after subtracting the variance of seed × item. Pearson's r "
    "enters through its pseudo-values (Devlin, Gnanadesikan and Kettenring 1975); a composite metric through the contributions "
    "of the metrics that it is made of, summed where several of them score the same item. In a hundred kinds of simulated "
    "studies without looks and without any effect, 2 % of studies claimed one on average, and (as measured) in no kind more than "
    "5 %, with two exceptions: 5.3 to 5.7 % with six to twenty clusters of very unequal sizes, and 5.6 % with two seeds and one "
    "run in ten diverged (where 95 % intervals cover the truth in 94 %).",
    Method.SEEDS: "Paired t over seeds: the data are the differences, one for each seed (Student 1908), so an effect may vary "
    "from seed to seed; the result generalises to other seeds on these items.",
    Method.LEAST_SQUARES: "Least squares on one seed: the noise is estimated from the interactions left out of the model; "
    "the result holds only for these trained models on these items.",
    Method.LENTH: "An unreplicated two-level design: Lenth's pseudo standard error (1989), which assumes that most effects are "
    "noise; the result holds only for these trained models on these items.",
}

ANOVA = (
    "The analysis of variance describes where the variation lies. Its F tests assume that an effect is the same for every "
    "seed and every item; the verdicts do not."
)

GATES = (
    "Of a numeric factor's share of the .05, three quarters go to the test of its slope and one quarter to the tests of its "
    "levels; once the slope is significant, the levels get the whole share (Bretz, Maurer, Brannath and Posch 2009). The share "
    "of any other comparison that is significant goes to slopes and to factors without one, in equal parts. A corrected p is "
    "never below that of a comparison that was tested before it. The slope is a least-squares line from the smallest level to "
    "the largest."
)

DEPENDENCE = (
    "An effect depends on another factor if their interaction is significant (Benjamini-Hochberg) and the effect changes its "
    "sign, or is significant at only one of two levels of that factor (each p < .05, uncorrected). An effect that differs only "
    "in size keeps a plain verdict, which is about its average; section 6 has all interactions."
)

OTHER_ENVIRONMENT = (
    "The versions below are those of the environment that ablate ran in; those that begin with program are of the environment of "
    "the Python that the command starts. If the command starts its program in some other way, e.g. through a shell script, the "
    "versions there are not recorded."
)

LARGER_P = "Where a score comes from a chosen epoch, the last epoch is tested too, and the larger p counts."

DETECTABLE = (
    ", with the true effect that 80 % of such studies would detect (tested at the α of Holm's first step; for an exploratory "
    "metric, at .05)"
)
INTERVALS = "95 % intervals are for one effect at a time, not simultaneous; verdicts are corrected for multiple comparisons."
COVERS_ITEMS = "The intervals cover what varies between trainings (seeds) and between dev items."
COVERS_SEEDS = "cover only what varies between trainings (seeds), not what would vary with other dev items."
EQUIVALENCE = "No difference that matters: the 90 % interval, before rounding, lies within ±{smallest}."
REPEATED = (
    "The 95 % and 90 % intervals of Δ are repeated intervals, valid at every look (section 13), so they are wider than those of "
    "a single analysis."
)

# A verdict that is weaker than it looks.
QUALIFIED = {
    Qualifier.ALIASED: "{verdict}, or seems to because of {aliases} (the design cannot separate them)",
    Qualifier.TURNS_AROUND: "depends on {others}; on average {verdict}",
    Qualifier.DEPENDS: "{verdict} on average, but it depends on {others}",
    Qualifier.LOST_RUNS: "{verdict} among the runs that finished",
}
# The same if the verdict was withdrawn because of it.
WITHDRAWN = {
    Qualifier.ALIASED: "{verdict}, because the design cannot separate it from {aliases}",
    Qualifier.LOST_RUNS: "{verdict}, because many more runs were lost on one side than on the other",
}

# Caveats after the numbers of such an effect.
CAVEATS = {
    Qualifier.LOST_RUNS: "{low} of the runs with {before} and {high} of those with {after} have no result; if they had scored "
    "{ends}, the effect would lie in {bounds}",
    Qualifier.LAST_EPOCH: "the epoch was chosen by this same score; the p is that of the last epoch, where the effect is {last}",
    Qualifier.BENT: "a straight line does not fit the levels (p {bend}): look at the levels one by one",
    Qualifier.STOP_FLAG: "do not trust the interval or the p: {rules} (see the flags)",
}

# Why predictions are not used.
WHY_REFUSED = {
    Refusal.NO_FILE: "not a file, or it cannot be read",
    Refusal.DAMAGED: "rows are not all id, prediction, gold",
    Refusal.NOT_FINITE: "a prediction or a label is not a finite number, or 1e100 or more",
    Refusal.TOO_FEW: "fewer than two items",
    Refusal.OTHER_METRIC: "neither their accuracy nor their Pearson's r matches the recorded value",
    Refusal.STATED_OTHER: "a metric without a value for each item",
}

# Which items look dependent although no clusters were named.
SIGNS = {Sign.IDS: "whose ids start alike", Sign.NEIGHBOURS: "that are next to each other in the file"}

# Beside tests of a single seed.
THESE_MODELS = "about these trained models, not the method: variation between seeds is not included"

ONE_SEED = f"one seed: p and interval are {THESE_MODELS}"

# Beside the other tests of `ablate compare`.
HILLIS = "seeds × items with the degrees of freedom of Hillis 2007: rejects too often with two or three seeds"
INDEPENDENT_ITEMS = "treats items as independent even if they are clustered"
NORMAL_SCORES = "assumes bivariate normal predictions and gold: rejects too often with heavy tails"
NO_NOISE = "nothing varies between seeds or items, so there is no noise to compare with and no p"
BORROWED = (
    "also uses the noise of the other effects (Smyth 2004), which gives more power if all effects are equally noisy, but false "
    "positives in 7 to 16 % of studies if they are not"
)
UNNAMED_CLUSTERS = (
    "items {items} agree more than independent items do: the variance of a mean is {times} times as large, but the interval and "
    "p assume independence; name the clusters with --cluster COLUMN"
)
