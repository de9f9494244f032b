"""What codes mean, in words. Nothing is decided by these texts: they may be changed freely."""

from enum import StrEnum

from ablate.evidence.effects import Scale
from ablate.evidence.looks import Stop
from ablate.evidence.predictions import Refusal
from ablate.evidence.verdicts import Qualifier
from ablate.stats.clustering import Sign
from ablate.stats.inference import Method


class Note(StrEnum):
    """What a reader must know beside the numbers of an effect."""

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
    Note.CONFOUNDED: "cannot be told from {others} by what has run",
    Note.NO_CELLS: "no two cells to compare",
    Note.NOTHING_YET: "nothing to compare yet",
    Note.SAME_PART: "the same trained part on both sides",
    Note.NO_NOISE: "the same in every seed: there is no noise to compare with",
    Note.PARTLY_SAME: "{identical} of {compared} comparisons are of a part with itself",
    Note.PARTIAL: "{done} of {matches} pairs of cells so far",
    Note.AVERAGED: "averaged over {factors} where it exists",
    Note.SLOPE: "straight line through {levels}{scale}; lack of fit p {p}",
    Note.BOUNDS: "in {bounds} if the lost trials had {ends}",
    Note.TURNS_AROUND: "{up} at {up_at}, {down} at {down_at}",
    Note.NOT_LOOKED_AT: "no look has been taken at this, so nothing is claimed",
}

BOUNDS_DECLARED = "the worst or the best possible value"
BOUNDS_SEEN = "the worst or the best value seen (theirs may lie beyond)"

SCALES = {Scale.LINEAR: "", Scale.LOG: " on a log scale"}

# Why a comparison got no more seeds.
STOPS = {
    Stop.DECIDED: "decided",
    Stop.NO_DIFFERENCE: "shown not to matter",
    Stop.FUTILE: "stopped as futile (more seeds would hardly decide it)",
    Stop.WIDTH: "narrow enough",
    Stop.SAME_PART: "found to be the same part",
}
OPEN = "still open"
UNTIL_DECIDED = "until every comparison is decided"
UNTIL_WIDTH = "until every 95 % interval is at most {width} wide"
LOOKS = (
    "Looks: alpha is spent over the looks by Lan and DeMets' function of O'Brien-Fleming type (1983), two-sided, on the "
    "information there is of that at the last look (what seeds add to the variance falls with their number, what items add "
    "stays). Holm's correction runs over sequential p (Maurer and Bretz 2013): the smallest alpha at which a look so far would "
    "have rejected. Intervals are repeated confidence intervals (Jennison and Turnbull 2000), which hold at every look, for "
    "one effect at a time. An effect that is decided, that is no difference that matters by its repeated 90 % interval, or "
    "whose chance to become either is below {futile:g} keeps its numbers as of that look. Other metrics, interactions and "
    "the analysis of variance are not corrected for the looks."
)
NAIVE_LOOKS = "looks at 3, 5 and 10 seeds make .12 of studies without an effect claim one, instead of .05"
# After the change of a slope in a sentence.
ALONG_A_LINE = " along a straight line{scale}"

# Beside the verdict in tables.
RESERVED = ", with a reservation"

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
    "moderated_t": "t with borrowed noise",
    "items": "t over items",
    "pseudo_values": "t over pseudo-values",
    "mcnemar_exact": "McNemar, exact",
    "williams": "Williams t, Zou's interval",
}

# One paragraph each, for the section on methods.
METHOD_TEXTS = {
    Method.SEEDS_AND_ITEMS: "Seeds × items: the contrast itself is computed for every seed and item, and both are treated as "
    "samples (Obuchowski and Rockette 1995), so that it speaks of other seeds and other items. What the effect does differently "
    "in each seed and on each item is in its error; nothing is pooled over cells. Items of one cluster (pairs that share a "
    "sentence) count as one. p and interval come from the Behrens-Fisher distribution (Fisher 1935): the seeds' variance has "
    "one degree of freedom less than there are seeds, the items' about twice the number of items on which the sides differ. "
    "Pearson's r enters by its pseudo-values; a composite by those of the metrics it is made of, items that several of them "
    "share added up. In a hundred kinds of simulated studies without an effect something was claimed in .02 of studies on "
    "average and in .05 at most, but for two: .053 to .057 with six to twenty clusters of very unequal sizes, and .053 with two "
    "seeds and one run in ten diverged (there 95 % intervals hold the truth in .94).",
    Method.SEEDS: "Paired t over seeds: the contrast of each seed is the data (Student 1908), so an effect may differ from seed "
    "to seed; it speaks of other seeds on these items.",
    Method.LEAST_SQUARES: "Least squares on one seed: the noise is estimated from the interactions that are left out; "
    "it speaks of these trained models on these items.",
    Method.LENTH: "An unreplicated two-level design: Lenth's pseudo standard error (1989), which takes most effects to be noise; "
    "it speaks of these trained models on these items.",
}

ANOVA = (
    "The analysis of variance describes where the variation lies. Its F tests take an effect to be the same under every seed "
    "and on every item, which the verdicts do not."
)

GATES = (
    "The levels of a numeric factor are tested where its slope is clear (Bretz, Maurer, Brannath and Posch 2009); the slope is "
    "the straight line of least squares, from the smallest level to the largest."
)

LARGER_P = (
    "Where the score is that of a chosen epoch, the last epoch is tested too, and the larger p decides."
)

INTERVALS = "95 % intervals are for one effect at a time, not simultaneous; the verdicts are corrected."

# The verdict of an effect that is less than it seems.
QUALIFIED = {
    Qualifier.ALIASED: "{verdict}, or seems to because of {aliases} (the design cannot tell them apart)",
    Qualifier.TURNS_AROUND: "depends on {other} ({turns}); on average {verdict}",
    Qualifier.LOST_RUNS: "{verdict} among the runs that finished",
}
# Where no more than this is left of it.
KEPT_BACK = {
    Qualifier.ALIASED: "{verdict}, as the design cannot tell it from {aliases}",
    Qualifier.LOST_RUNS: "{verdict}, as many more runs are lost on one side than on the other",
}

# After the numbers of such an effect.
RESERVATIONS = {
    Qualifier.LOST_RUNS: "{low} of the runs with {before} and {high} of those with {after} have no result: had they {ends}, the "
    "effect would lie in {bounds}",
    Qualifier.LAST_EPOCH: "the epoch was chosen by this very score, so the p is that of the last epoch, where it is {last}",
    Qualifier.BENT: "a straight line does not fit the levels (p {bend}): see them one by one",
    Qualifier.STOP_FLAG: "neither interval nor p can be trusted: {rules} (see the flags)",
}

# Predictions that are not used.
WHY_REFUSED = {
    Refusal.DAMAGED: "not whole rows of id, prediction, gold",
    Refusal.NOT_FINITE: "a prediction or a label is not a finite number",
    Refusal.TOO_FEW: "fewer than two items",
    Refusal.OTHER_METRIC: "neither their accuracy nor their Pearson's r is the recorded value",
}

# Items that hang together, and no cluster was named.
SIGNS = {Sign.IDS: "whose ids begin alike", Sign.NEIGHBOURS: "that are neighbours in the file"}

# Beside tests that see one seed alone.
THESE_MODELS = "about these trained models, not the method: other seeds are not part of it"

ONE_SEED = f"one seed: p and interval are {THESE_MODELS}"

# Beside the other tests of `ablate compare`.
HILLIS = (
    "seeds × items with the degrees of freedom of Hillis 2007: too often significant with two or three seeds"
)
INDEPENDENT_ITEMS = "takes the items for independent, clusters or not"
NORMAL_SCORES = "takes predictions and gold for bivariate normal: too often significant where tails are heavy"
NO_NOISE = "nothing varies between seeds or items: there is no noise to compare with, so no p"
BORROWED = (
    "noise borrowed from the other effects (Smyth 2004): finds more where all effects are equally noisy, and is wrong in .07 to "
    ".16 of studies where they are not"
)
UNNAMED_CLUSTERS = (
    "items {items} agree more than independent ones do: the variance of a mean is {times} times as large, and interval and p "
    "take them for independent; name what they belong to with --cluster COLUMN"
)
