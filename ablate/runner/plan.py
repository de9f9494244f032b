"""`ablate plan`: what a study would run, what it costs and which effects it could detect, before anything is trained."""

import json
import math
import statistics
from typing import Any

from ablate.contract import Trainer
from ablate.design.cell_settings import Validator
from ablate.design.cells import part_counts, parts_with_prefixes
from ablate.design.model import Design
from ablate.design.search import most_trials, most_tried
from ablate.runner.detectable import (
    Noise,
    alternatives_rows,
    detectable_effect,
    noise_so_far,
    recommendation,
    sd_of_an_effect,
)
from ablate.runner.timing import Measured, parts_of_design
from ablate.spec.model import StudySpec
from ablate.spec.seeds import MORE_SEEDS
from ablate.store.places import Place
from ablate.store.results import Results
from ablate.text import duration, plural, sounds_like_a_loss

# The true time may differ by this fraction: only a few steps were timed, on a machine that may be busy.
MEASURED_WITHIN = 0.25


def plan_document(
    spec: StudySpec,
    design: Design,
    place: Place,
    measured: Measured | None = None,
    *,
    trainer: Trainer | None = None,
) -> dict[str, Any]:
    """Return the document of `plan --json`. `trainer`: the study's; without it, what depends on its code is left out."""
    can_measure = trainer is not None and trainer.measure is not None
    sharing = parts_with_prefixes(design, Validator(spec, trainer)) if trainer else 0
    cells, trials = size(spec, design)
    naive, unique = part_counts(design, len(spec.seeds))
    # For a search, only the baseline's parts are known.
    if spec.search:
        naive = unique = trials * len(design.cells[0].parts)
    earlier = _earlier(place)
    cost = estimate(spec, design, unique, earlier, measured, can_measure)
    noise = noise_so_far(earlier, spec.metric.name)
    designs = alternatives_rows(spec, design, noise)
    looks = _looks(spec, design, noise)
    return {
        "study": spec.study,
        "design": design.kind,
        "raw_cells": design.raw_cells,
        "cells": cells,
        "seeds": list(spec.seeds),
        "trials": trials,
        "trials_expected": looks["expected"][0]["trials"] if looks and looks["expected"] else None,
        "looks": looks,
        "parts": {"naive": naive, "unique": unique, "with_prefixes": sharing * len(spec.seeds)},
        "resolution": design.resolution,
        "aliases": design.aliases,
        "estimate": cost,
        "detectable_effect": detectable_effect(spec, design, noise),
        "alternatives": designs,
        "warnings": [
            *_refusal(earlier, spec),
            *design.warnings,
            *warnings(spec),
            *recommendation(spec, designs, noise),
            *([MORE_SEEDS] if noise and not (spec.looking or spec.search) else []),
            *over_budget(spec, cost),
        ],
    }


def size(spec: StudySpec, design: Design) -> tuple[int, int]:
    """Return how many cells and trials a study has (for a search, at most)."""
    if spec.search is None:
        return len(design.cells), len(design.cells) * len(spec.seeds)
    return most_tried(spec), most_trials(spec)


def _looks(spec: StudySpec, design: Design, noise: Noise | None) -> dict[str, Any] | None:
    """Return the plan of a study that adds seeds, with its expected numbers; None for a list of seeds."""
    if spec.looking is None:
        return None
    # SciPy takes a while to load.
    from ablate.runner.expected_trials import looks_document

    one_by_one = spec.design.from_reference
    sd = sd_of_an_effect(spec, design)
    return looks_document(spec, len(design.cells), one_by_one, sd, noise)


def _refusal(earlier: Results | None, spec: StudySpec) -> list[str]:
    """Return a note if `ablate run` will refuse the file."""
    if earlier is None:
        return []
    # Loads a database library, like `_earlier`.
    from ablate.runner.identity import changes_since

    changes = changes_since(earlier, spec)
    if not changes:
        return []
    return [
        f"`ablate run` will refuse this file: {plural(len(changes), 'change')} since trials of {spec.study!r} were run "
        f"({changes[0]}{', ...' if len(changes) > 1 else ''}); `ablate run` names them all, with what to do"
    ]


def _earlier(place: Place) -> Results | None:
    """Return this study's records, if it has run."""
    if not place.exists():
        return None
    # A database library takes a while to load.
    from ablate.store.reading import has_run, read_results

    return read_results(place) if has_run(place) else None


def estimate(
    spec: StudySpec,
    design: Design,
    unique_parts: int,
    earlier: Results | None,
    measured: Measured | None,
    can_measure: bool,
) -> dict[str, Any]:
    """Return the training time of all parts with a range, in hours and $; nulls if nothing is known.

    Trained parts count with the time they took, measured ones with their measured time, the rest with the mean of these."""
    planned = parts_of_design(design)
    trained = _seconds_trained(earlier)
    expected = {part: s for part, s in measured.seconds.items() if part in planned} if measured else {}
    known = expected | {part: statistics.fmean(seconds) for part, seconds in trained.items()}
    if not known:
        steps = "`ablate plan STUDY --measure` times a few steps, " if can_measure else ""
        basis = f"nothing measured yet: {steps}`ablate run STUDY --limit 1` trains one trial; use the --workers of the full run"
        return {"hours": None, "hours_low": None, "hours_high": None, "usd": None, "basis": basis}
    hours = statistics.fmean(known.values()) * unique_parts / 3600
    untrained = [seconds for part, seconds in expected.items() if part not in trained]
    if measured and untrained:
        spread = MEASURED_WITHIN * sum(untrained) / len(known) * unique_parts / 3600
        basis = _measured_text(measured, len(trained), len(planned.keys() - known.keys()))
    else:
        all_trained = [s for seconds in trained.values() for s in seconds]
        spread = 2 * _standard_error(all_trained) * unique_parts / 3600
        basis = f"mean of {plural(len(all_trained), 'trained part')} of this study, one worker"
        basis += "; the range is two standard errors" if len(all_trained) > 1 else "; the range is a guess"
    usd = spec.budget.usd_per_hour
    return {
        "hours": hours,
        "hours_low": max(0.0, hours - spread),
        "hours_high": hours + spread,
        "usd": None if usd is None else hours * usd,
        "basis": basis,
    }


def _seconds_trained(earlier: Results | None) -> dict[str, list[float]]:
    """Return part hash -> seconds that each seed took, without prefixes that others trained."""
    seconds: dict[str, list[float]] = {}
    for part in earlier.parts.values() if earlier else ():
        seconds.setdefault(part.part, []).append(part.own_seconds)
    return seconds


def _standard_error(seconds: list[float]) -> float:
    return statistics.stdev(seconds) / math.sqrt(len(seconds)) if len(seconds) > 1 else seconds[0] / 2


def _measured_text(measured: Measured, trained: int, unknown: int) -> str:
    before = f"recorded times of trained parts ({trained} so far); for the others, " if trained else ""
    after = f"; parts that are new since: {unknown}, --measure times them" if unknown else ""
    return (
        f"{before}{measured.what} measured on {measured.machine}, {measured.day}, one worker; "
        f"the range is {100 * MEASURED_WITHIN:g} % of what was measured{after}"
    )


def warnings(spec: StudySpec) -> list[str]:
    """Return what a reviewer would object to, before money is spent."""
    messages = []
    seeds = len(spec.deciding_seeds)
    if seeds == 1:
        messages.append(
            "one seed supports no claim about a method: differences may be due to the seed; plan 3 or more"
        )
    elif seeds == 2:
        messages.append(
            "two seeds leave one degree of freedom: an interval over seeds is ± 12.7 standard errors, with three seeds ± 4.3"
        )
    elif seeds <= 5:
        smallest = 2 ** (1 - seeds)
        messages.append(
            f"{seeds} seeds cannot reach p < .05 by the sign-flip test, whose smallest p is {smallest:g}; no verdict depends on "
            "that test"
        )
    if "goal" not in spec.metric.model_fields_set and sounds_like_a_loss(spec.metric.name):
        messages.append(
            f"metric.goal is not set, so a larger {spec.metric.name} counts as better; write goal: minimize if it is a loss"
        )
    if spec.trainer == "ablate.command" and not _names_seed(spec):
        messages.append(
            "no {seed} in the command: the program must read the variable ABLATE_SEED, or all seeds give the same result"
        )
    if spec.metric.smallest_effect is None:
        messages.append(
            "metric.smallest_effect is not set: the report can then never say that a difference does not matter; it cannot be "
            "set once there are results"
        )
    return messages


def _names_seed(spec: StudySpec) -> bool:
    """Return whether a setting or a level passes the seed to the program."""
    settings = [spec.settings, *(level.settings for factor in spec.factors for level in factor.levels)]
    return "{seed}" in json.dumps(settings, default=str)


def over_budget(spec: StudySpec, cost: dict[str, Any]) -> list[str]:
    """Return a warning if the expected hours, or the upper end of their range, exceed the budget."""
    most = spec.budget.hours
    if most is None or cost["hours"] is None or cost["hours_high"] <= most:
        return []
    over = "is over" if cost["hours"] > most else "may be over"
    return [
        f"{cost['hours']:.2f} h ({cost['hours_low']:.2f} to {cost['hours_high']:.2f}) {over} budget.hours {most:g}: "
        "this does not stop the run; plan fewer cells or seeds"
    ]


def plan_text(document: dict[str, Any]) -> str:
    """Return the document as text."""
    parts, estimate_, effect = document["parts"], document["estimate"], document["detectable_effect"]
    lines = [f"{document['study']}: {document['design']}, {_size_text(document)}"]
    if parts["unique"] < parts["naive"]:
        saved = 1 - parts["unique"] / parts["naive"]
        lines.append(
            f"parts: {parts['unique']} to train, {parts['naive']} without sharing ({saved:.0%} saved)"
        )
    if parts["with_prefixes"]:
        lines.append(
            f"prefixes: {parts['with_prefixes']} of these parts begin the same way as another part; each continues from the end "
            "of the shared beginning if that has already been trained"
        )
    lines += _expected_lines(document)
    if estimate_["hours"] is None:
        lines.append(f"cost: {estimate_['basis']}")
    else:
        usd = "" if estimate_["usd"] is None else f", ${estimate_['usd']:.2f}"
        hours, low, high = (duration(3600 * estimate_[name]) for name in ("hours", "hours_low", "hours_high"))
        lines.append(f"cost: {hours} ({low} to {high}){usd}: {estimate_['basis']}")
    value = "none" if effect["value"] is None else f"{effect['value']:.3g}"
    lines.append(f"smallest detectable effect on {effect['metric']}: {value} ({effect['basis']})")
    if document["resolution"]:
        lines.append(f"resolution {document['resolution']}")
    lines += [f"aliased: {' = '.join(chain)}" for chain in document["aliases"]]
    lines += [f"note: {warning}" for warning in document["warnings"]]
    return "\n".join([*lines, *_alternatives_lines(document["alternatives"])])


def _size_text(document: dict[str, Any]) -> str:
    cells = f"{document['cells']} cells (of {document['raw_cells']} combinations)"
    seeds = len(document["seeds"])
    if looks := document["looks"]:
        return (
            f"{cells} × {looks['start']} to {looks['at_most']} seeds: at most {document['trials']} trials, looks at "
            f"{', '.join(map(str, looks['looks']))} seeds"
        )
    if document["design"] != "search":
        return f"{cells} × {plural(seeds, 'seed')} = {document['trials']} trials"
    return (
        f"{cells} on the first seed, then finalists and baseline on {seeds - 1} more: "
        f"at most {document['trials']} trials"
    )


def _expected_lines(document: dict[str, Any]) -> list[str]:
    looks = document["looks"]
    if not looks:
        return []
    if not looks["expected"]:
        return [
            "expected trials: unknown until the noise can be estimated; `ablate run STUDY --limit N` gives a first estimate"
        ]
    return [
        f"expected: {row['trials']:.0f} of at most {document['trials']} trials, {row['seeds']:.1f} seeds per comparison, "
        + _if_effects_are(row["effect"], 100 * row["power"])
        for row in looks["expected"]
    ] + [
        f"  effects are in {looks['unit']}; assumed: {looks['assumed']}; the cost below is for the largest number of trials"
    ]


def _if_effects_are(effect: float, claimed: float) -> str:
    """Return the condition of an expected number, with the percentage of comparisons that would claim an effect."""
    if not effect:
        return f"if there is no effect ({claimed:.1f} % of comparisons would claim one, falsely)"
    return f"if effects are {effect:.3g} ({claimed:.0f} % of the effects would be claimed)"


def _alternatives_lines(rows: list[dict[str, Any]]) -> list[str]:
    seeds = list(rows[0]["detectable"])
    lines = [
        "designs of these factors, and the smallest main effect that each detects with this many seeds:",
        f"  {'':16}{'cells':>7}{'trials':>8}" + "".join(f"{f'{s} seeds':>10}" for s in seeds) + "  estimates",
    ]
    for row in rows:
        name = ("* " if row["chosen"] else "  ") + row["design"]
        lowest: list[str] = min(row["aliases"], key=_interaction_order, default=[])
        chain = f", e.g. {' = '.join(lowest)}" if lowest else ""
        lines.append(
            f"  {name:16}{row['cells']:>7}{row['trials']:>8}"
            + "".join(f"{row['detectable'][s]:>10.3g}" for s in seeds)
            + f"  {row['estimates']}{chain}"
        )
    return lines


def _interaction_order(chain: list[str]) -> int:
    return max(effect.count(":") for effect in chain)
