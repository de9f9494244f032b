"""The first thing a reader sees: what helps, what hurts, what is open, in sentences. From the document alone."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ablate.evidence.effects import Kind, Scale
from ablate.evidence.verdicts import Qualifier
from ablate.report.phrases import (
    ALONG_A_LINE,
    BOUNDS_DECLARED,
    BOUNDS_SEEN,
    KEPT_BACK,
    METHODS,
    NOTES,
    QUALIFIED,
    RESERVATIONS,
    SCALES,
    Note,
)
from ablate.report.sections.looks import when_seen
from ablate.report.words import change_text, interval, listed, number, p_equation, p_text, plural, signed
from ablate.spec.model import level_text
from ablate.stats.inference import Method, infer
from ablate.stats.verdicts import Verdict

# Verdict -> of one choice, of several.
_COUNTED = {
    Verdict.HELPS: ("helps", "help"),
    Verdict.HURTS: ("hurts", "hurt"),
    Verdict.NO_DIFFERENCE: (f"makes {Verdict.NO_DIFFERENCE}", f"make {Verdict.NO_DIFFERENCE}"),
    Verdict.INCONCLUSIVE: (Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE),
}
# Flags that `_limits` says in its own words.
_SAID_ABOVE = {"one_seed"}
# A verdict with one of these is no plain "helps".
_QUALIFIED = {Qualifier.ALIASED, Qualifier.TURNS_AROUND, Qualifier.LOST_RUNS, Qualifier.BENT}


def sentences(document: Mapping[str, Any]) -> list[str]:
    """Return the verdicts in plain language, warnings first."""
    return [
        *_limits(document),
        *_stops(document),
        *_searched(document),
        *(
            effect_sentence(row) + _slight(row, document["metric"]["smallest_effect"])
            for row in _told(document)
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
    """Return one line: `Of 6 choices: 2 help, 1 helps with a reservation, 3 inconclusive`."""
    every = _choices(document)
    effects = [row for row in every if row["estimate"] is not None]
    said = []
    for verdict, (one, several) in _COUNTED.items():
        found = [row for row in effects if row["verdict"] == verdict]
        plain = [row for row in found if not (verdict.is_decided and _QUALIFIED & set(row["qualifiers"]))]
        slight = sum(_is_slight(row, document["metric"]["smallest_effect"]) for row in plain)
        some = "" if slight == len(plain) else f"{slight} "
        if plain:
            said.append(
                f"{len(plain)} {one if len(plain) == 1 else several}"
                + (f" ({some}too little to matter)" if slight else "")
            )
        if qualified := len(found) - len(plain):
            said.append(f"{qualified} {one if qualified == 1 else several} with a reservation")
    if len(effects) < len(every):
        said.append(f"{len(every) - len(effects)} with nothing to compare yet")
    return f"Of {plural(len(every), 'choice')}: {', '.join(said)}" if effects else "Nothing to compare yet"


def effect_sentence(row: Mapping[str, Any]) -> str:
    """Return one factor's result in a sentence."""
    scale = SCALES[Scale(row["slope"]["scale"])] if row["slope"] else ""
    line = ALONG_A_LINE.format(scale=scale) if row["slope"] else ""
    return _sentence(change_text(row) + line, row)


def _choices(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The effects that are counted: of a numeric factor its slope alone."""
    rows = primary_effects(document)
    sloped = {row["factor"] for row in rows if row["kind"] == Kind.SLOPE}
    return [row for row in rows if row["kind"] == Kind.SLOPE or row["factor"] not in sloped]


def _told(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The effects with a sentence: those that are counted, and the levels of a numeric factor that no straight line fits."""
    counted = _choices(document)
    bent = {
        row["factor"] for row in counted if row["slope"] and (row["slope"]["p_lack_of_fit"] or 1.0) < 0.05
    }
    return [row for row in primary_effects(document) if row in counted or row["factor"] in bent]


def _sentence(change: str, row: Mapping[str, Any]) -> str:
    if row["estimate"] is None:
        return f"{change}: {row['note'] or NOTES[Note.NOTHING_YET]}."
    if Note.SAME_PART in row["notes"]:
        return f"{change}: no difference in {row['metric']}, as both sides are the same trained part."
    if row["estimate"] == 0 and row["method"] == Method.NO_VARIANCE:
        seeds = plural(row["n"], "seed")
        return f"{change}: {row['verdict']}; {row['metric']} is exactly the same in {seeds}, as if nothing had been changed."
    shift = f"{row['metric']} {signed(row['estimate'])}"
    if Note.NOT_LOOKED_AT in row["notes"]:
        return f"{change}: {shift} so far; {NOTES[Note.NOT_LOOKED_AT]}."
    verdict = qualified_verdict(row)
    reservations = "".join(f"; but {text}" for text in reservations_of(row))
    if row["ci95"] is None:
        return (
            f"{change}: {shift}, {verdict}: {METHODS[row['method']]}, so there is no interval{reservations}."
        )
    evidence = f"95 % interval {interval(row['ci95'])}, {plural(row['n'], 'seed')}"
    if row["p_holm"] is not None:
        evidence += f", Holm {p_equation(row['p_holm'])}"
    if row.get("look"):
        evidence += f"; {when_seen(row['look'])}"
    said = f"{change}: {verdict}; {shift} ({evidence}){reservations}."
    if row["verdict"] == Verdict.INCONCLUSIVE and row["mde80"] is not None and not row["qualifiers"]:
        said += f" This study could have seen {number(row['mde80'])} or more (80 % power, after correction)."
    return said


def qualified_verdict(row: Mapping[str, Any]) -> str:
    """Return the verdict of an effect in words, with what it depends on or is mixed with."""
    verdict, facts = str(row["verdict"]), _facts(row)
    for one in map(Qualifier, row["qualifiers"]):
        words = QUALIFIED if _is_decided(row) or one not in KEPT_BACK else KEPT_BACK
        if one in words:
            verdict = words[one].format(verdict=verdict, **facts)
    return verdict


def reservations_of(row: Mapping[str, Any]) -> list[str]:
    """Return what must stand beside the numbers of an effect."""
    facts = _facts(row)
    return [RESERVATIONS[q].format(**facts) for q in map(Qualifier, row["qualifiers"]) if q in RESERVATIONS]


def _is_decided(row: Mapping[str, Any]) -> bool:
    return Verdict(row["verdict"]).is_decided


def _facts(row: Mapping[str, Any]) -> dict[str, str]:
    """What the texts on qualifiers name; of those that the row has."""
    facts = {}
    if row.get("aliased_with"):
        facts["aliases"] = listed(row["aliased_with"])
    if row.get("turns"):
        facts["other"] = row["turns"][0]["factor"]
        turns = (f"{signed(one['estimate'])} at {level_text(one['level'])}" for one in row["turns"])
        facts["turns"] = ", ".join(turns)
    if row.get("bounds"):
        low, high = row["lost"]
        facts |= {
            "before": level_text(row["from"]),
            "after": level_text(row["to"]),
            "low": f"{100 * low:.0f} %",
            "high": f"{100 * high:.0f} %",
            "ends": BOUNDS_SEEN if row["bounds_as_seen"] else BOUNDS_DECLARED,
            "bounds": interval(row["bounds"]),
        }
    if row.get("last"):
        facts["last"] = f"{signed(row['last']['estimate'])} {interval(row['last']['ci95'])}"
    if row.get("slope"):
        facts["bend"] = p_text(row["slope"]["p_lack_of_fit"])
    if row.get("undone_by"):
        facts["rules"] = listed(row["undone_by"])
    return facts


def _slight(row: Mapping[str, Any], smallest_effect: float | None) -> str:
    """Say so where an effect is sure and too small to matter."""
    slight = _is_slight(row, smallest_effect)
    return " Its whole interval is smaller than the smallest effect of interest." if slight else ""


def _is_slight(row: Mapping[str, Any], smallest_effect: float | None) -> bool:
    if smallest_effect is None or row["verdict"] not in (Verdict.HELPS, Verdict.HURTS) or row["ci95"] is None:
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


def _stops(document: Mapping[str, Any]) -> list[str]:
    """The flags with which claims fall, before the claims."""
    stops = [
        flag for flag in document["flags"] if flag["severity"] == "stop" and flag["rule"] not in _SAID_ABOVE
    ]
    return [f"STOP ({flag['rule']}): {flag['evidence']}; {flag['fix']}." for flag in stops]


def _best(document: Mapping[str, Any]) -> list[str]:
    best = next((cell for cell in document["cells"] if cell["best"]), None)
    if best is None:
        return []
    metric = document["metric"]["name"]
    by_seed, planned = best["metrics"][metric]["by_seed"], document["design"]["seeds"]
    # Those that it was chosen by.
    found = infer(np.array([by_seed[str(seed)] for seed in planned if str(seed) in by_seed]))
    ci95 = found.interval()
    bounds = f", 95 % interval {interval(list(ci95), sign=False)}" if ci95 else ""
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
        f"Best complete cell: {name}, with {metric} {number(found.estimate)} ({plural(found.seeds, 'seed')}{bounds}). {picked}"
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
