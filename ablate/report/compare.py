"""`ablate compare`: two sets of prediction files against gold, item by item and seed by seed.

Several files of a side are seeds, paired in order. Refuses files whose ids are not those of the gold, labels
or predictions that are missing, and correlations that do not exist (constant predictions).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablate.errors import BadInput
from ablate.report.phrases import HILLIS, INDEPENDENT_ITEMS, NO_NOISE, NORMAL_SCORES, THESE_MODELS
from ablate.report.sensitivity import other_test, sign_flip
from ablate.report.strict_csv import Faults, read_columns
from ablate.report.words import plural
from ablate.stats.correlations import pearson, pseudo_values, steiger_z, williams_t, zou_interval
from ablate.stats.inference import Inference, Method, contributions, infer, infer_from_items, item_noise
from ablate.stats.mcnemar import mcnemar, paired_interval
from ablate.stats.mrmc import mrmc
from ablate.stats.paired import bootstrap, bootstrap_mean, paired_t
from ablate.stats.power import mde
from ablate.stats.verdicts import Verdict, verdict, verdict_of_interval

METRICS = ("accuracy", "pearson")

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Gold and predictions in the gold's order; labels as text for accuracy, numbers for Pearson."""

    gold: NDArray[Any]  # [n]
    a: list[NDArray[Any]]  # S of [n]
    b: list[NDArray[Any]]
    warnings: list[str]
    # Of each item in the gold's order, where items depend on one another.
    clusters: Sequence[str] | None = None


def compare_files(
    gold: Path,
    a: Sequence[Path],
    b: Sequence[Path],
    metric: str,
    smallest_effect: float | None = None,
) -> dict[str, Any]:
    """Compare B with A (differences are B minus A) by `metric`, accuracy or pearson.

    Raises:
        BadInput: the arguments or the files, all that can be found at once.
    """
    if metric not in METRICS:
        raise BadInput(f"--metric: {metric!r} is not one of {', '.join(METRICS)}")
    if not a or not b or len(a) != len(b):
        raise BadInput(
            f"{len(a)} files for --a and {len(b)} for --b; "
            "give each side the same seeds in the same order, one file a seed"
        )
    predictions = _read(Path(gold), [Path(p) for p in a], [Path(p) for p in b], metric)
    compare = _accuracy if metric == "accuracy" else _pearson
    document = compare(predictions, smallest_effect)
    document["warnings"] += predictions.warnings + _identical(predictions)
    return {"metric": metric, "n_items": len(predictions.gold), "n_seeds": len(a)} | document


def _accuracy(p: Predictions, smallest_effect: float | None) -> dict[str, Any]:
    right_a, right_b = (np.array([x == p.gold for x in side], dtype=float) for side in (p.a, p.b))  # [S, n]
    by_seed_a, by_seed_b, d = right_a.mean(axis=1), right_b.mean(axis=1), right_b - right_a
    means = _means(by_seed_a, by_seed_b)
    if len(d) > 1:
        return means | _over_seeds(by_seed_a, by_seed_b, d, p.clusters, smallest_effect)
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


def _pearson(p: Predictions, smallest_effect: float | None) -> dict[str, Any]:
    r_a, r_b = (np.array([pearson(x, p.gold) for x in side]) for side in (p.a, p.b))  # [S]
    means = _means(r_a, r_b)
    d = np.array([pseudo_values(y, p.gold) - pseudo_values(x, p.gold) for x, y in zip(p.a, p.b, strict=True)])
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
    with np.errstate(invalid="ignore", divide="ignore"):  # one item drawn n times has no r; left out later
        return np.asarray((xy - mx * my) / np.sqrt((xx - mx**2) * (yy - my**2)))


def _identical(p: Predictions) -> list[str]:
    said = []
    for side, name in ((p.a, "--a"), (p.b, "--b")):
        same = next(
            ((i, j) for j in range(len(side)) for i in range(j) if np.array_equal(side[i], side[j])), None
        )
        if same:
            files = f"files {same[0] + 1} and {same[1] + 1}"
            said.append(f"{name}: {files} predict exactly the same: did the seed do anything?")
    for i, (x, y) in enumerate(zip(p.a, p.b, strict=True), 1):
        if np.array_equal(x, y):
            said.append(f"seed {i}: A and B predict exactly the same")
    return said


def _read(gold: Path, a: Sequence[Path], b: Sequence[Path], metric: str) -> Predictions:
    """Read all files; every file's faults are reported together."""
    lines: list[str] = []
    try:
        ids, labels = _column(gold, "label", metric)
    except BadInput as error:
        ids, labels = None, []
        lines += error.faults
    sides: list[list[list[Any]]] = [[], []]
    for side, paths in zip(sides, (a, b), strict=True):
        for path in paths:
            try:
                own, values = _column(path, "prediction", metric)
                if ids is not None:
                    side.append(_in_order(path, own, values, gold, ids))
            except BadInput as error:
                lines += error.faults
    if lines:
        raise BadInput(*dict.fromkeys(lines))
    columns = [np.array(column) for column in (labels, *sides[0], *sides[1])]
    _check_values(columns, [gold, *a, *b], metric)
    warnings = _strangers(columns, [gold, *a, *b]) if metric == "accuracy" else []
    return Predictions(columns[0], columns[1 : 1 + len(a)], columns[1 + len(a) :], warnings)


def _column(path: Path, name: str, metric: str) -> tuple[dict[str, int], list[Any]]:
    """Return {id: place} and the values of one file."""
    faults = Faults(path)
    table = read_columns(path, ["id", name], faults)
    places: dict[str, int] = {}
    values: list[Any] = []
    for line, item, text in zip(table.lines, table.columns["id"], table.columns[name], strict=True):
        if not item:
            faults.add("empty", line, "id")
        elif item in places:
            faults.add(f"{item!r} stands twice, first in line {table.lines[places[item]]}", line, "id")
        elif not text:
            faults.add("empty", line, name)
        number = _number(text)
        if metric == "pearson" and text and number is None:
            faults.add(f"{text[:40]!r} is not a finite number", line, name)
        places.setdefault(item, len(values))
        # 2, 2.0 and "2" are one class; anything else is compared as text
        values.append(number if metric == "pearson" else text if number is None else repr(number))
    faults.raise_any()
    return places, values


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None


def _in_order(
    path: Path, places: dict[str, int], values: list[Any], gold: Path, gold_places: dict[str, int]
) -> list[Any]:
    """Return `values` in the order of the gold's ids."""
    missing = [item for item in gold_places if item not in places]
    extra = [item for item in places if item not in gold_places]
    faults = []
    if missing:
        faults.append(f"{path}: id: {_count(missing)} of {gold} missing, first {missing[0]!r}")
    if extra:
        faults.append(f"{path}: id: {_count(extra)} not in {gold}, first {extra[0]!r}")
    if faults:
        raise BadInput(*(fault + "; every file needs exactly the gold's items" for fault in faults))
    return [values[places[item]] for item in gold_places]


def _count(ids: Sequence[str]) -> str:
    return "1 id" if len(ids) == 1 else f"{len(ids)} ids"


def _check_values(columns: Sequence[NDArray[Any]], paths: Sequence[Path], metric: str) -> None:
    least = 4 if metric == "pearson" else 2
    if len(columns[0]) < least:
        raise BadInput(f"{paths[0]}: {len(columns[0])} items; {metric} needs at least {least}")
    files = dict(zip(paths, (set(values.tolist()) for values in columns), strict=True))
    if metric == "pearson":
        wrong = [path for path, values in files.items() if len(values) == 1]
        why = "all values are the same, so Pearson's r does not exist"
    else:
        wrong = [path for path, values in files.items() if _are_scores(values, files[paths[0]])]
        why = f"prediction: not the labels of {paths[0]}; accuracy compares classes"
    if wrong:
        raise BadInput(*(f"{path}: {why}" for path in wrong))


def _are_scores(values: set[str], labels: set[str]) -> bool:
    """Say whether predictions are not classes: a fraction where labels are whole numbers, or no label among them.

    A text among numbers is an answer that could not be read: a class of its own, and wrong."""
    numbers, labelled = (list(map(_number, texts)) for texts in (values, labels))
    whole = all(label is not None and label.is_integer() for label in labelled)
    fractions = whole and any(number is not None and not number.is_integer() for number in numbers)
    return fractions or (len(labels) > 1 and not labels & values)


def _strangers(columns: Sequence[NDArray[Any]], paths: Sequence[Path]) -> list[str]:
    """Return a warning for each file with predictions that are no label of the gold."""
    labels = list(set(columns[0].tolist()))
    counts = [int(np.sum(~np.isin(values, labels))) for values in columns[1:]]
    return [
        f"{path}: {plural(count, 'prediction')} counted as wrong: no label of the gold"
        for path, count in zip(paths[1:], counts, strict=True)
        if count
    ]
