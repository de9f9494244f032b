"""The first thing a reader sees: what helps, what hurts, what is open, in sentences. From the document alone."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ablate.evidence.estimates import HELPS, HURTS, INCONCLUSIVE, NO_DIFFERENCE, over_seeds
from ablate.report.words import change_text, interval, number, p_equation, plural, signed

_COUNTED = {  # verdict -> of one choice, of several
    HELPS: ("helps", "help"),
    HURTS: ("hurts", "hurt"),
    NO_DIFFERENCE: (f"makes {NO_DIFFERENCE}", f"make {NO_DIFFERENCE}"),
    INCONCLUSIVE: (INCONCLUSIVE, INCONCLUSIVE),
}


def sentences(document: Mapping[str, Any]) -> list[str]:
    """Return the verdicts in plain language, warnings first."""
    return [
        *_limits(document),
        *_searched(document),
        *(
            effect_sentence(row) + _slight(row, document["metric"]["smallest_effect"])
            for row in primary_effects(document)
        ),
        *_best(document),
        *_test(document),
    ]


def _searched(document: Mapping[str, Any]) -> list[str]:
    if not (tried := document["design"]["tried"]):
        return []
    lost = [f"{tried[state]} {state.lower()}" for state in ("PRUNED", "FAIL") if state in tried]
    return [
        f"A search tried {plural(sum(tried.values()), 'cell')} on a seed of its own"
        + (f" ({', '.join(lost)})" if lost else "")
        + ". Below are its finalists and the baseline on other seeds: it chose cells, it estimates no effect.",
        *_finalists(document),
    ]


def _finalists(document: Mapping[str, Any]) -> list[str]:
    metric = document["metric"]
    found = [(cell["name"], cell["difference"].get(metric["name"])) for cell in document["cells"]]
    return [
        _sentence(f"{name} against the baseline", {**row, "metric": metric["name"]})
        + _slight(row, metric["smallest_effect"])
        for name, row in found
        if row
    ]


def test_scores(document: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the cells that were scored on the test split with those scores; None when none was."""
    scored = [
        {"cell": cell["cell"], "name": cell["name"], "metrics": found}
        for cell in document["cells"]
        if (found := {name: m for name, m in cell["metrics"].items() if name.startswith("test/") and m["n"]})
    ]
    return scored or None


def primary_effects(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the effects on the metric that decides."""
    return [row for row in document["effects"] if row["role"] == "primary"]


def headline(document: Mapping[str, Any]) -> str:
    """Return one line: `2 choices help, 1 hurts, 3 inconclusive`."""
    every = primary_effects(document)
    effects = [row for row in every if row["estimate"] is not None]
    said = []
    for verdict, (one, several) in _COUNTED.items():
        found = [row for row in effects if row["verdict"] == verdict]
        slight = sum(_is_slight(row, document["metric"]["smallest_effect"]) for row in found)
        some = "" if slight == len(found) else f"{slight} "
        if found:
            said.append(
                f"{len(found)} {one if len(found) == 1 else several}"
                + (f" ({some}too little to matter)" if slight else "")
            )
    if len(effects) < len(every):
        said.append(f"{len(every) - len(effects)} with nothing to compare yet")
    return f"Of {plural(len(every), 'choice')}: {', '.join(said)}" if effects else "Nothing to compare yet"


def effect_sentence(row: Mapping[str, Any]) -> str:
    """Return one factor's result in a sentence."""
    return _sentence(change_text(row), row)


def _sentence(change: str, row: Mapping[str, Any]) -> str:
    if row["estimate"] is None:
        return f"{change}: {row['note'] or 'nothing to compare yet'}."
    if row["note"].startswith("same part"):
        return f"{change}: no difference in {row['metric']}, as both sides are the same trained part."
    if row["estimate"] == 0 and row["method"].startswith("no variance"):
        seeds = plural(row["n"], "seed")
        return f"{change}: {row['verdict']}; {row['metric']} is exactly the same in {seeds}, as if nothing had been changed."
    shift = f"{row['metric']} {signed(row['estimate'])}"
    if row["ci95"] is None:
        return f"{change}: {shift}, {row['verdict']}: {row['method']}, so there is no interval."
    corrected = row["p_holm"]
    evidence = f"95 % interval {interval(row['ci95'])}, {plural(row['n'], 'seed')}"
    if corrected is not None:
        evidence += f", Holm {p_equation(corrected)}"
    said = f"{change}: {row['verdict']}; {shift} ({evidence})."
    if row["verdict"] == INCONCLUSIVE:
        said += f" This study could have seen {number(row['mde80'])} or more (80 % power, after correction)."
    return said


def _slight(row: Mapping[str, Any], smallest_effect: float | None) -> str:
    """Say so where an effect is sure and too small to matter."""
    slight = _is_slight(row, smallest_effect)
    return " Its whole interval is smaller than the smallest effect of interest." if slight else ""


def _is_slight(row: Mapping[str, Any], smallest_effect: float | None) -> bool:
    if smallest_effect is None or row["verdict"] not in (HELPS, HURTS) or row["ci95"] is None:
        return False
    return all(abs(bound) < smallest_effect for bound in row["ci95"])


def _limits(document: Mapping[str, Any]) -> list[str]:
    said = []
    done = document["progress"]
    if done["complete"] < done["planned"]:
        lost = [
            f"{done[state]} {state}"
            for state in ("failed", "pruned", "running", "waiting", "missing")
            if done[state]
        ]
        said.append(
            f"{done['complete']} of {plural(done['planned'], 'trial')} done ({', '.join(lost)}): what follows is provisional."
        )
    if len(document["design"]["seeds"]) == 1:
        said.append(
            "One seed: the noise between seeds is unknown; what is called noise here are the interactions of the factors."
            if any(row["p"] is not None for row in primary_effects(document))
            else "One seed: differences are those of these trained models, not of the methods; no verdict is possible."
        )
    measured = {metric for cell in document["cells"] for metric in cell["metrics"]}
    if done["complete"] and document["metric"]["name"] not in measured:
        said.append(
            f"The study decides by {document['metric']['name']}, which no trial has measured; "
            f"found: {', '.join(sorted(measured)) or 'no metric'}."
        )
    return said


def _best(document: Mapping[str, Any]) -> list[str]:
    best = next((cell for cell in document["cells"] if cell["best"]), None)
    if best is None:
        return []
    metric = document["metric"]["name"]
    by_seed, planned = best["metrics"][metric]["by_seed"], document["design"]["seeds"]
    found = over_seeds(
        np.array([by_seed[str(seed)] for seed in planned if str(seed) in by_seed])
    )  # those that it was chosen by
    ci95 = found.interval(0.95)
    bounds = f", 95 % interval {interval(ci95, sign=False)}" if ci95 else ""
    name = "the reference itself" if best["reference"] else best["name"]
    rivals = sum(cell["seeds_done"] >= cell["seeds_planned"] for cell in document["cells"])
    tried = sum(document["design"]["tried"].values())
    before = f", the best of {tried} tried and the baseline," if tried else ""
    picked = (
        f"It was picked from {rivals} complete cells{before} on the data it is scored on, which flatters it."
        if rivals > 1
        else "No other cell is complete."
    )
    return [
        f"Best complete cell: {name}, with {metric} {number(found.value)} ({plural(found.n, 'seed')}{bounds}). {picked}"
    ]


def _test(document: Mapping[str, Any]) -> list[str]:
    cells = {cell["cell"]: cell for cell in document["cells"]}
    said = []
    for scored in document["test"] or ():
        pairs = [
            f"{name} {number(found['mean'])}" + (f" ({dev} {number(known['mean'])})" if known else "")
            for name, found in scored["metrics"].items()
            for dev in [name.replace("test/", "dev/", 1)]
            for known in [cells[scored["cell"]]["metrics"].get(dev)]
        ]
        said.append(f"On the test split, {scored['name']}: {', '.join(pairs)}.")
    return said
