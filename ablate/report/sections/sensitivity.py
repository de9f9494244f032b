"""Other tests of the same difference, under other assumptions: the key `sensitivity`. None of them affects a verdict."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ablate.evidence.effects import Effect, Kind
from ablate.evidence.items import Items, scored
from ablate.evidence.predictions import ItemScores
from ablate.report.document import OtherTest
from ablate.report.formatting import p_text
from ablate.report.phrases import BORROWED, INDEPENDENT_ITEMS, NORMAL_SCORES, THESE_MODELS
from ablate.stats import behrens_fisher
from ablate.stats.correlations import pearson, williams_t, zou_interval
from ablate.stats.inference import Inference, Method, infer_from_items
from ablate.stats.mcnemar import mcnemar
from ablate.stats.moderated import moderate
from ablate.stats.paired import sign_flip_p, smallest_sign_flip_p


def sign_flip(by_seed: NDArray[np.float64]) -> OtherTest:
    """Return the exact sign-flip test of differences [seeds], and note the smallest p that it can give."""
    least = smallest_sign_flip_p(len(by_seed))
    note = f"over seeds only (Fisher 1935b), so with {len(by_seed)} seeds p cannot be below {p_text(least)}"
    return OtherTest("sign_flip", None, sign_flip_p(by_seed), None, note)


def moderated(effects: Sequence[Effect]) -> list[OtherTest | None]:
    """Return, for each effect of one metric, its test with the seeds' variance shrunk towards that of the other effects."""
    usable, length = [], []
    for k, e in enumerate(effects):
        if e.kind is Kind.LEVELS and not e.identical and e.weights is not None and e.inference.v_seed:
            usable.append(k)
            # An effect's variance divided by this (and times its seeds) is the variance of one run.
            length.append(float(np.nanmean((e.weights**2).sum(axis=0))))
    seeds = [effects[k].inference.seeds for k in usable]
    variances = [
        (effects[k].inference.v_seed or 0.0) * s / size
        for k, s, size in zip(usable, seeds, length, strict=True)
    ]
    shrunk = moderate(variances, [s - 1 for s in seeds])
    rows: list[OtherTest | None] = [None] * len(effects)
    if shrunk is None:
        return rows
    for k, s, size, variance, df in zip(usable, seeds, length, shrunk.variances, shrunk.df, strict=True):
        inference = effects[k].inference
        v_seed, v_item = variance * size / s, inference.v_item or 0.0
        se, shape = math.sqrt(v_seed + v_item), (v_seed / (v_seed + v_item), float(df), inference.item_df)
        t, half = (inference.estimate or 0.0) / se, se * behrens_fisher.critical(0.05, *shape)
        ci95 = (inference.estimate or 0.0) - half, (inference.estimate or 0.0) + half
        rows[k] = OtherTest("moderated_t", t, behrens_fisher.two_sided_p(t, *shape), ci95, BORROWED)
    return rows


def of_one_seed(items: Items, low: int, high: int, metric: str) -> list[OtherTest]:
    """Return tests of two cells over the items of one seed; none without items that align.

    For an accuracy: McNemar's exact test, or with clusters a t test over these. For Pearson's r: a t test over pseudo-values, and
    Williams' t with Zou's interval. For a composite: a t test over the items of all its metrics.
    """
    added = items.of_one_seed(low, high, metric)
    if added is None:
        return []
    made_of = items.made_of(metric)
    pairs = {name: items.pairs(low, high, name)[0] for name in made_of}
    value = sum(made_of[name] * (scored(y) - scored(x)) for name, (x, y) in pairs.items())
    scale = max(abs(made_of[name] * scored(side)) for name, pair in pairs.items() for side in pair)
    over_items = infer_from_items(value, added, scale)
    if list(made_of) != [metric]:
        return [_over_items(over_items)]
    x, y = pairs[metric]
    if x.kind == "pearson":
        return [_over_items(over_items, "pseudo_values"), _williams(x, y)]
    only_a, only_b = int((x.scores > y.scores).sum()), int((x.scores < y.scores).sum())
    exact = mcnemar(only_a, only_b, len(x.ids))
    if x.clusters is None:
        return [OtherTest("mcnemar_exact", None, exact.p_exact, exact.ci95, THESE_MODELS)]
    return [
        _over_items(over_items),
        OtherTest("mcnemar_exact", None, exact.p_exact, exact.ci95, INDEPENDENT_ITEMS),
    ]


def _over_items(inference: Inference, method: str = Method.ITEMS) -> OtherTest:
    """Return the analysis of one seed by its items as an entry of `sensitivity`."""
    t = None if inference.se is None or inference.estimate is None else inference.estimate / inference.se
    return OtherTest(method, t, inference.p, inference.interval(), THESE_MODELS)


def _williams(x: ItemScores, y: ItemScores) -> OtherTest:
    n, triple = len(x.ids), (scored(x), scored(y), pearson(x.predicted, y.predicted))
    test = williams_t(*triple, n)
    return OtherTest("williams", test.statistic, test.p, zou_interval(*triple, n), NORMAL_SCORES)
