"""`ablate compare`: two sets of prediction files, item by item and seed by seed.

Several files on one side are seeds, paired in order. `prediction_files` reads them.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ablate.errors import BadInput
from ablate.report.answers import Comparison, Sides, Tested
from ablate.report.document import OtherTest
from ablate.report.outside.prediction_files import METRICS, Keys, Predictions, read_predictions
from ablate.report.outside.tables import why_not_decimal, why_not_smallest
from ablate.report.phrases import (
    HILLIS,
    INDEPENDENT_ITEMS,
    NO_NOISE,
    NORMAL_SCORES,
    ONE_SEED,
    SIGNS,
    THESE_MODELS,
    UNNAMED_CLUSTERS,
)
from ablate.report.sections.sensitivity import sign_flip
from ablate.stats.clustering import clustering
from ablate.stats.correlations import pearson, pseudo_values, steiger_z, williams_t, zou_interval
from ablate.stats.inference import Inference, Method, contributions, infer, infer_from_items, item_noise
from ablate.stats.mcnemar import mcnemar, paired_interval
from ablate.stats.mrmc import mrmc
from ablate.stats.paired import bootstrap, bootstrap_mean, paired_t
from ablate.stats.power import mde
from ablate.stats.verdicts import Verdict, direction, verdict, verdict_of_interval

Array = NDArray[np.float64]

ROUNDING = 1e-12  # a variance smaller than this share of the sample's is rounding error


def compare_files(
    gold: Path | None,
    a: Sequence[Path],
    b: Sequence[Path],
    metric: str | None,
    smallest_effect: float | None = None,
    *,
    keys: Keys | None = None,
    correct: bool = False,
    decimal: str | None = None,
) -> Comparison:
    """Compare B with A (differences are B minus A) by `metric`, accuracy or pearson; correctness files by their mean.

    Raises:
        BadInput: faults in the arguments or the files, as many as possible at once.
    """
    _check_arguments(gold, a, b, metric, smallest_effect, correct, decimal)
    sides = [Path(p) for p in a], [Path(p) for p in b]
    chosen = metric or "accuracy"
    predictions = read_predictions(
        Path(gold) if gold else None, *sides, chosen, keys or Keys(), correct, decimal
    )
    compare = _accuracy if chosen == "accuracy" else _pearson
    comparison = compare(predictions, smallest_effect)
    unnamed = _unnamed_clusters(predictions, chosen == "pearson")
    return replace(comparison, warnings=(*comparison.warnings, *predictions.warnings, *unnamed))


def _item_differences(p: Predictions, pearson: bool) -> Array:
    """Return the items' scores of B minus A for each seed, [S, n]: their mean is the difference of the metric."""
    if not pearson:
        return p.scores(p.b) - p.scores(p.a)
    return np.array(
        [pseudo_values(y, p.gold) - pseudo_values(x, p.gold) for x, y in zip(p.a, p.b, strict=True)]
    )


def _unnamed_clusters(p: Predictions, pearson: bool) -> list[str]:
    """Return a warning if items seem to depend on each other and no clusters were named."""
    if p.clusters is not None:
        return []
    dependence = clustering(_item_differences(p, pearson).mean(axis=0)[None, :], p.ids)
    return (
        [UNNAMED_CLUSTERS.format(items=SIGNS[dependence.sign], times=f"{dependence.design_effect:.1f}")]
        if dependence
        else []
    )


def _check_arguments(
    gold: Path | None,
    a: Sequence[Path],
    b: Sequence[Path],
    metric: str | None,
    smallest_effect: float | None,
    correct: bool,
    decimal: str | None,
) -> None:
    faults = []
    if metric is None and not correct:
        faults.append(
            f"--metric: none given; write {' or '.join(METRICS)}, or --correct if the files say which predictions are correct"
        )
    if metric is not None and metric not in METRICS:
        faults.append(f"--metric: {metric!r} is not one of {', '.join(METRICS)}")
    if metric == "pearson" and correct:
        faults.append(
            "--metric: a correlation needs predictions and gold, but --correct means there are none"
        )
    if gold is None and not correct:
        faults.append(
            "--gold: none given; name the file of labels, or pass --correct if the files already say what is correct"
        )
    if not a or not b or len(a) != len(b):
        faults.append(
            f"{len(a)} files for --a and {len(b)} for --b; "
            "give each side the same seeds in the same order, one file per seed"
        )
    faults += [*why_not_smallest(smallest_effect), *why_not_decimal(decimal)]
    if faults:
        raise BadInput(*faults)


def _accuracy(p: Predictions, smallest_effect: float | None) -> Comparison:
    right_a, right_b = p.scores(p.a), p.scores(p.b)  # [S, n]
    by_seed_a, by_seed_b, d = right_a.mean(axis=1), right_b.mean(axis=1), right_b - right_a
    sides = _sides(p, "score" if p.graded else "accuracy", by_seed_a, by_seed_b)
    if len(d) > 1:
        return _over_seeds(sides, by_seed_a, by_seed_b, d, p.clusters, smallest_effect)
    resampled = bootstrap_mean(d[0], clusters=p.clusters)
    bootstrapped = OtherTest("bootstrap", None, resampled.p, resampled.ci95, THESE_MODELS)
    if p.graded:
        result = _over_items(sides, d, p.clusters, smallest_effect)
        return Comparison(sides, result, (bootstrapped,), warnings=(ONE_SEED,))
    n, only_a, only_b = d.shape[1], int(np.sum(d < 0)), int(np.sum(d > 0))
    test = mcnemar(only_a, only_b, n)
    about = THESE_MODELS if p.clusters is None else INDEPENDENT_ITEMS
    others = (OtherTest("mcnemar_midp", None, test.p_mid, None, about), bootstrapped)
    if p.clusters is not None:
        exact = OtherTest("mcnemar_exact", None, test.p_exact, test.ci95, INDEPENDENT_ITEMS)
        result = _over_items(sides, d, p.clusters, smallest_effect)
        return Comparison(sides, result, (exact, *others), only_a, only_b, warnings=(ONE_SEED,))
    ci90 = paired_interval(only_a, only_b, n, 0.90)
    result = Tested(
        ci95=test.ci95,
        df=None,
        p=test.p_exact,
        se=None,
        verdict=_verdict(sides.delta, test.p_exact, ci90, smallest_effect),
        mde80=mde(math.sqrt(max(only_a + only_b, 1)) / n, math.inf),
        method="mcnemar_exact",
        ci90=ci90,
    )
    return Comparison(sides, result, others, only_a, only_b, warnings=(ONE_SEED,))


def _pearson(p: Predictions, smallest_effect: float | None) -> Comparison:
    r_a, r_b = (np.array([pearson(x, p.gold) for x in side]) for side in (p.a, p.b))  # [S]
    d, sides = _item_differences(p, pearson=True), _sides(p, "pearson", r_a, r_b)
    if len(d) > 1:
        return _over_seeds(sides, r_a, r_b, d, p.clusters, smallest_effect)
    n = len(p.gold)
    triple = float(r_a[0]), float(r_b[0]), pearson(p.a[0], p.b[0])
    williams, steiger, zou = williams_t(*triple, n), steiger_z(*triple, n), zou_interval(*triple, n)
    resampled = bootstrap(
        lambda drawn: _r(drawn, p.b[0], p.gold) - _r(drawn, p.a[0], p.gold), n, clusters=p.clusters
    )
    others = (
        OtherTest("williams", williams.statistic, williams.p, None, NORMAL_SCORES),
        *([OtherTest("steiger", steiger.statistic, steiger.p, None, NORMAL_SCORES)] if steiger else []),
        OtherTest("zou", None, None, zou, NORMAL_SCORES),
        OtherTest("bootstrap", None, resampled.p, resampled.ci95, THESE_MODELS),
    )
    return Comparison(
        sides,
        _over_items(sides, d, p.clusters, smallest_effect, "pseudo_values"),
        others,
        statistic=williams.statistic,
        r_ab=triple[2],
        warnings=(ONE_SEED,),
    )


def _sides(p: Predictions, metric: str, a: Array, b: Array) -> Sides:
    """Return the two sides: the means of the metric, `a` and `b` [S], over seeds."""
    clusters = None if p.clusters is None else len(set(p.clusters))
    delta = infer(b - a, scale=float(np.abs([a, b]).max())).estimate or 0.0
    return Sides(metric, len(p.gold), len(a), clusters, float(a.mean()), float(b.mean()), delta)


def _over_seeds(
    sides: Sides, a: Array, b: Array, d: Array, clusters: Sequence[str] | None, smallest_effect: float | None
) -> Comparison:
    """Return the seeds × items analysis: `a` and `b` [S] are the metric of each seed, `d` [S, n] differences of its items."""
    by_seed = b - a
    added, _ = contributions(d, clusters)
    main = infer(by_seed, item_noise(added), scale=float(np.abs([a, b]).max()))
    published = mrmc(d)
    hillis = OtherTest("hillis", None, published.p, published.ci95, HILLIS)
    t, resampled = paired_t(by_seed), bootstrap_mean(d.mean(axis=0), clusters=clusters)
    # There are at least two seeds.
    assert t is not None
    assert main.estimate is not None
    others = (
        *([hillis] if published.p is not None and published.se > 0 and clusters is None else []),
        OtherTest("paired_t", t.t, t.p, t.ci95, "seeds only: items are treated as fixed"),
        sign_flip(by_seed),
        OtherTest("bootstrap", None, resampled.p, resampled.ci95, f"over items only, so {THESE_MODELS}"),
    )
    return Comparison(
        replace(sides, delta=main.estimate),
        tested(main, smallest_effect, "maximize"),
        others,
        deltas=tuple(by_seed.tolist()),
        noise={
            "seed": published.sigma_seed,
            "item": published.sigma_item,
            "seed_item": published.sigma_seed_item,
        },
        warnings=(NO_NOISE,) if main.p is None else (),
    )


def _over_items(
    sides: Sides,
    d: Array,
    clusters: Sequence[str] | None,
    smallest_effect: float | None,
    method: str = Method.ITEMS,
) -> Tested:
    """Return the analysis of one seed by its items, or clusters of them."""
    added, _ = contributions(d, clusters)
    over_items = infer_from_items(sides.delta, added, scale=max(abs(sides.a), abs(sides.b)))
    return replace(tested(over_items, smallest_effect, "maximize"), method=method)


def tested(inference: Inference, smallest_effect: float | None, goal: str) -> Tested:
    """Return an inference with its verdict."""
    return Tested(
        ci95=inference.interval(),
        df=inference.df if inference.df is not None and math.isfinite(inference.df) else None,
        p=inference.p,
        se=inference.se,
        verdict=verdict(inference, inference.p, smallest_effect, goal),
        mde80=inference.mde80(),
        method=inference.method,
        ci90=inference.interval(0.90),
    )


def _verdict(delta: float, p: float, ci90: tuple[float, float], smallest_effect: float | None) -> Verdict:
    if p < 0.05:
        return direction(delta, "maximize")
    return Verdict.INCONCLUSIVE if smallest_effect is None else verdict_of_interval(ci90, smallest_effect)


def _r(drawn: Array, x: Array, y: Array) -> Array:
    """Return Pearson's r [batch] of resamples; `drawn` [batch, n] is how often each item was drawn."""
    x, y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    moments = drawn @ np.column_stack([x, y, x * x, y * y, x * y]) / len(x)
    mx, my, xx, yy, xy = moments.T
    spread = np.array([xx - mx**2, yy - my**2])
    # A resample of one item, drawn n times, has no r; `bootstrap` leaves NaN out.
    spread[spread <= ROUNDING] = np.nan
    return np.asarray((xy - mx * my) / np.sqrt(spread.prod(axis=0)))
