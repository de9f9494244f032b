"""`ablate compare`: two sets of prediction files against gold, item by item and seed by seed.

Several files of a side are seeds, paired in order. `prediction_files` reads them.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.errors import BadInput
from ablate.report.outside.prediction_files import METRICS, Keys, Predictions, read_predictions
from ablate.report.outside.tables import why_not_decimal, why_not_smallest
from ablate.report.phrases import (
    HILLIS,
    INDEPENDENT_ITEMS,
    NO_NOISE,
    NORMAL_SCORES,
    SIGNS,
    THESE_MODELS,
    UNNAMED_CLUSTERS,
)
from ablate.report.sections.sensitivity import other_test, sign_flip
from ablate.stats.clustering import clustering
from ablate.stats.correlations import pearson, pseudo_values, steiger_z, williams_t, zou_interval
from ablate.stats.inference import Inference, Method, contributions, infer, infer_from_items, item_noise
from ablate.stats.mcnemar import mcnemar, paired_interval
from ablate.stats.mrmc import mrmc
from ablate.stats.paired import bootstrap, bootstrap_mean, paired_t
from ablate.stats.power import mde
from ablate.stats.verdicts import Verdict, verdict, verdict_of_interval

Array = NDArray[np.float64]

ROUNDING = 1e-12  # a variance, in units of the whole sample's, that is none


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
) -> dict[str, Any]:
    """Compare B with A (differences are B minus A) by `metric`, accuracy or pearson; files of correctness by their mean.

    Raises:
        BadInput: the arguments or the files, all that can be found at once.
    """
    _check_arguments(gold, a, b, metric, smallest_effect, correct, decimal)
    sides = [Path(p) for p in a], [Path(p) for p in b]
    chosen = metric or "accuracy"
    predictions = read_predictions(
        Path(gold) if gold else None, *sides, chosen, keys or Keys(), correct, decimal
    )
    compare = _accuracy if chosen == "accuracy" else _pearson
    document = compare(predictions, smallest_effect)
    document["warnings"] += [*predictions.warnings, *_unnamed_clusters(predictions, chosen == "pearson")]
    what = {
        "metric": "score" if predictions.graded else chosen,
        "n_items": len(predictions.gold),
        "n_seeds": len(a),
    }
    if predictions.clusters is not None:
        what["n_clusters"] = len(set(predictions.clusters))
    return what | document


def _item_differences(p: Predictions, pearson: bool) -> Array:
    """Return what each item adds to B − A for each seed, [S, n]."""
    if not pearson:
        return p.scores(p.b) - p.scores(p.a)
    return np.array(
        [pseudo_values(y, p.gold) - pseudo_values(x, p.gold) for x, y in zip(p.a, p.b, strict=True)]
    )


def _unnamed_clusters(p: Predictions, pearson: bool) -> list[str]:
    """Return a warning where items depend on one another and no cluster was named."""
    if p.clusters is not None:
        return []
    found = clustering(_item_differences(p, pearson).mean(axis=0)[None, :], p.ids)
    return (
        [UNNAMED_CLUSTERS.format(items=SIGNS[found.sign], times=f"{found.design_effect:.1f}")]
        if found
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
            f"--metric: none given; write {' or '.join(METRICS)}, or --correct for files of correctness"
        )
    if metric is not None and metric not in METRICS:
        faults.append(f"--metric: {metric!r} is not one of {', '.join(METRICS)}")
    if metric == "pearson" and correct:
        faults.append(
            "--metric: a correlation needs predictions and gold, and --correct says that there are none"
        )
    if gold is None and not correct:
        faults.append(
            "--gold: none given; name the file of labels, or say --correct where the files hold correctness"
        )
    if not a or not b or len(a) != len(b):
        faults.append(
            f"{len(a)} files for --a and {len(b)} for --b; "
            "give each side the same seeds in the same order, one file a seed"
        )
    faults += [*why_not_smallest(smallest_effect), *why_not_decimal(decimal)]
    if faults:
        raise BadInput(*faults)


def _accuracy(p: Predictions, smallest_effect: float | None) -> dict[str, Any]:
    right_a, right_b = p.scores(p.a), p.scores(p.b)  # [S, n]
    by_seed_a, by_seed_b, d = right_a.mean(axis=1), right_b.mean(axis=1), right_b - right_a
    means = _means(by_seed_a, by_seed_b)
    if len(d) > 1:
        return means | _over_seeds(by_seed_a, by_seed_b, d, p.clusters, smallest_effect)
    if p.graded:
        return means | _graded(means["delta"], d, p.clusters, smallest_effect)
    n, only_a, only_b = d.shape[1], int(np.sum(d < 0)), int(np.sum(d > 0))
    test, resampled = mcnemar(only_a, only_b, n), bootstrap_mean(d[0])
    exact = {
        "ci95": list(test.ci95),
        "df": None,
        "p": test.p_exact,
        "method": "mcnemar_exact",
        "verdict": _verdict(
            means["delta"], test.p_exact, paired_interval(only_a, only_b, n, 0.90), smallest_effect
        ),
        "mde80": mde(math.sqrt(max(only_a + only_b, 1)) / n, math.inf),
    }
    sensitivity = [
        other_test("mcnemar_midp", None, test.p_mid, None),
        other_test("bootstrap", None, resampled.p, resampled.ci95),
    ]
    if p.clusters is not None:
        exact = _over_items(means["delta"], d, p.clusters, smallest_effect)
        sensitivity.insert(0, other_test("mcnemar_exact", None, test.p_exact, test.ci95, INDEPENDENT_ITEMS))
    return means | exact | {
        "sensitivity": sensitivity,
        "only_a": only_a,
        "only_b": only_b,
        "warnings": [f"one seed: p and interval are {THESE_MODELS}"],
    }  # fmt: skip


def _graded(
    delta: float, d: Array, clusters: Sequence[str] | None, smallest_effect: float | None
) -> dict[str, Any]:
    """Return the analysis of one seed whose answers may be right in part."""
    resampled = bootstrap_mean(d[0])
    return _over_items(delta, d, clusters, smallest_effect) | {
        "sensitivity": [other_test("bootstrap", None, resampled.p, resampled.ci95)],
        "warnings": [f"one seed: p and interval are {THESE_MODELS}"],
    }


def _pearson(p: Predictions, smallest_effect: float | None) -> dict[str, Any]:
    r_a, r_b = (np.array([pearson(x, p.gold) for x in side]) for side in (p.a, p.b))  # [S]
    means = _means(r_a, r_b)
    d = _item_differences(p, pearson=True)
    if len(d) > 1:
        return means | _over_seeds(r_a, r_b, d, p.clusters, smallest_effect)
    n = len(p.gold)
    triple = float(r_a[0]), float(r_b[0]), pearson(p.a[0], p.b[0])
    test, steiger, zou = williams_t(*triple, n), steiger_z(*triple, n), zou_interval(*triple, n)
    resampled = bootstrap(lambda drawn: _r(drawn, p.b[0], p.gold) - _r(drawn, p.a[0], p.gold), n)
    return means | _over_items(means["delta"], d, p.clusters, smallest_effect, "pseudo_values") | {
        "sensitivity": [
            other_test("williams", test.statistic, test.p, None, NORMAL_SCORES),
            *([other_test("steiger", steiger.statistic, steiger.p, None, NORMAL_SCORES)] if steiger else []),
            other_test("zou", None, None, zou, NORMAL_SCORES),
            other_test("bootstrap", None, resampled.p, resampled.ci95),
        ],
        "statistic": test.statistic,
        "r_ab": triple[2],
        "warnings": [f"one seed: p and interval are {THESE_MODELS}"],
    }  # fmt: skip


def _means(a: Array, b: Array) -> dict[str, float]:
    return {"a": float(a.mean()), "b": float(b.mean()), "delta": float((b - a).mean())}


def _over_seeds(
    a: Array, b: Array, d: Array, clusters: Sequence[str] | None, smallest_effect: float | None
) -> dict[str, Any]:
    """Return the seeds × items analysis: `a` and `b` [S] are the metric of each seed, `d` [S, n] differences of its items."""
    by_seed = b - a
    added, _ = contributions(d, clusters)
    main = infer(by_seed, item_noise(added), scale=float(np.abs([a, b]).max()))
    published = mrmc(d)
    resampled = bootstrap_mean(d.mean(axis=0))
    hillis = other_test("hillis", None, published.p, published.ci95, HILLIS)
    return _judged(main, smallest_effect) | {
        "delta": main.estimate,
        "method": main.method,
        "sensitivity": [
            *([hillis] if published.p is not None and published.se > 0 and clusters is None else []),
            _paired_t_line(by_seed),
            sign_flip(by_seed),
            other_test("bootstrap", None, resampled.p, resampled.ci95, f"items only: {THESE_MODELS}"),
        ],
        "deltas": by_seed.tolist(),
        "noise": {
            "seed": published.sigma_seed,
            "item": published.sigma_item,
            "seed_item": published.sigma_seed_item,
        },
        "warnings": [NO_NOISE] if main.p is None else [],
    }


def _over_items(
    delta: float,
    d: Array,
    clusters: Sequence[str] | None,
    smallest_effect: float | None,
    method: str = Method.ITEMS,
) -> dict[str, Any]:
    """Return the analysis of one seed by its items, or clusters of them."""
    added, _ = contributions(d, clusters)
    return _judged(infer_from_items(delta, added), smallest_effect) | {"method": method}


def _judged(found: Inference, smallest_effect: float | None) -> dict[str, Any]:
    ci95, df = found.interval(), found.df
    return {
        "ci95": ci95 and list(ci95),
        "df": df if df is not None and math.isfinite(df) else None,
        "p": found.p,
        "se": found.se,
        "verdict": verdict(found, found.p, smallest_effect),
        "mde80": found.mde80(),
    }


def _paired_t_line(by_seed: Array) -> dict[str, Any]:
    test = paired_t(by_seed)
    assert test is not None  # two seeds or more
    return other_test("paired_t", test.t, test.p, test.ci95, "seeds only: the items are taken as given")


def _verdict(delta: float, p: float, ci90: tuple[float, float], smallest_effect: float | None) -> Verdict:
    if p < 0.05:
        return Verdict.HELPS if delta > 0 else Verdict.HURTS
    return Verdict.INCONCLUSIVE if smallest_effect is None else verdict_of_interval(ci90, smallest_effect)


def _r(drawn: Array, x: Array, y: Array) -> Array:
    """Return Pearson's r [batch] of resamples; `drawn` [batch, n] says how often each item is in one."""
    x, y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    moments = drawn @ np.column_stack([x, y, x * x, y * y, x * y]) / len(x)
    mx, my, xx, yy, xy = moments.T
    spread = np.array([xx - mx**2, yy - my**2])
    spread[spread <= ROUNDING] = np.nan  # one item drawn n times has no r; left out later
    return np.asarray((xy - mx * my) / np.sqrt(spread.prod(axis=0)))
