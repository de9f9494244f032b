"""How the numbers were obtained (only the methods that this report
uses), on what software and hardware, and how to train a cell again."""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

import numpy as np

from ablate.evidence.effects import Effect, Kind
from ablate.evidence.frames import Grid
from ablate.report.document import Fact, Provenance, Report
from ablate.report.phrases import (
    ANOVA,
    DEPENDENCE,
    DETECTABLE,
    GATES,
    INTERVALS,
    LARGER_P,
    LOOKS,
    METHOD_TEXTS,
    OTHER_ENVIRONMENT,
)
from ablate.report.references import cited
from ablate.spec.model import Factor, Scalar, StudySpec, quoted_level
from ablate.stats.sequential import FUTILE_BELOW
from ablate.store.results import Results
from ablate.text import plural

# A fact with one of these words in its name differs from run to run without affecting a comparison.
MEASURED = {"continued", "host", "hostname", "peak", "seconds", "energy", "time", "pid", "worker", "memory"}

MOST_VALUES = 3  # how many values of a fact are listed; the others are counted

# Facts of the machine and the code, which no setting of a study changes.
MACHINE_FACTS = ("python", "platform", "cpu", "gpu", "threads", "versions", "git", "git_changed_files")


def provenance(grid: Grid, counts: Mapping[str, Counter[str]]) -> Provenance:
    """Return each recorded fact with its values, the commonest first, and the number of parts that have each."""
    return Provenance(
        facts={
            name: tuple(Fact(value, parts) for value, parts in _commonest(values))
            for name, values in counts.items()
        },
        further={
            name: len(values) - MOST_VALUES for name, values in counts.items() if len(values) > MOST_VALUES
        },
        peak_memory_bytes=_largest(grid, "peak_memory_bytes"),
        reproduce=_command(grid),
    )


def fixed_settings(spec: StudySpec) -> dict[str, str]:
    """Return {dotted setting: value} of what does not vary. Paths lose their folders, which may be private."""
    return {name: without_folders(value) for name, value in _flat(spec.settings, nulls=True)}


def default_settings(results: Results) -> dict[str, str]:
    """Return {dotted setting: value} of the trainer's defaults that neither the study nor any level replaces."""
    chosen = [
        results.spec.settings,
        *(level.settings for factor in results.spec.factors for level in factor.levels),
    ]
    names = {name for settings in chosen for name, _ in _flat(settings, nulls=True)}
    return {
        name: without_folders(str(text if isinstance(text := json.loads(value), str) else value))
        for name, value in results.defaults.items()
        if not any(f"{name}.".startswith(f"{other}.") for other in names)
    }


def settings_of_levels(factor: Factor) -> dict[str, dict[str, str]]:
    """Return {level: its settings} for levels that set more than the setting named like the factor."""
    return {
        quoted_level(level.name): {
            name: without_folders(value) for name, value in _flat(level.settings, nulls=True)
        }
        for level in factor.levels
        if level.settings != {factor.name: level.name}
    }


def methods(report: Report) -> list[str]:
    """Return a paragraph for each method, correction and rule that the report uses."""
    used = {row.numbers.method for row in report.effects}
    used |= {difference.numbers.method for cell in report.cells for difference in cell.difference.values()}
    smallest, metric = report.metric.smallest_effect, report.metric.name
    paragraphs = [text for name, text in METHOD_TEXTS.items() if name in used]
    if report.design.adding:
        paragraphs.append(LOOKS.format(futile=FUTILE_BELOW))
    if report.anova:
        paragraphs.append(ANOVA)
    if search := report.design.search:
        paragraphs.append(
            f"Search: Optuna's {search.sampler} sampler chose the cells (pruner: {search.pruner}) by {metric} on the first "
            f"seed. Its best {search.finalists} and the baseline were trained again on the other seeds, and all results "
            "here come from these. All seeds are scored on the same items."
        )
    paragraphs.append(
        f"Holm's correction (1979) is applied over the {_family(report)} on {metric}; all other metrics and the interactions are "
        "exploratory (Benjamini and Hochberg 1995)."
        + " A comparison without a p, such as one that is the same within rounding in every seed, does not count."
        + (
            " The differences in the table of cells are corrected among themselves."
            if report.effects and not report.design.adding
            else ""
        )
    )
    if any(row.kind is Kind.SLOPE for row in report.effects):
        paragraphs.append(GATES)
    if any(row.last for row in report.effects):
        paragraphs.append(LARGER_P)
    if report.interactions:
        paragraphs.append(DEPENDENCE)
    verdicts = "Verdicts: helps or hurts when the corrected p is below .05"
    if smallest is not None:
        verdicts += f"; no difference that matters when the 90 % interval lies inside ±{smallest}"
        verdicts += (
            " (two one-sided tests, Schuirmann 1987; not corrected for multiple comparisons), or both sides use the same trained "
            "part"
        )
    paragraphs.append(
        verdicts
        + "; otherwise inconclusive"
        + ("" if report.design.adding else DETECTABLE)
        + ". "
        + INTERVALS
    )
    if report.trainer == "ablate.command" and report.provenance.facts:
        paragraphs.append(OTHER_ENVIRONMENT)
    return paragraphs


def _family(report: Report) -> str:
    """Return which comparisons Holm's correction counts, and how many: a slope and the levels behind it are one."""
    if not report.effects:
        return "differences of cells"
    tested = [row for row in report.effects if row.role == "primary" and row.judged.p_holm is not None]
    slopes = {row.change.factor for row in tested if row.kind is Kind.SLOPE}
    count = len(slopes) + sum(row.change.factor not in slopes for row in tested)
    return plural(count, "factor effect") + (" (a slope counts together with its levels)" if slopes else "")


def sources(report: Report) -> list[str]:
    """Return the publications that the report cites, in the order of their authors."""
    notes = [test.note for row in report.effects for test in row.sensitivity]
    flags = [flag.evidence for flag in report.flags]
    return cited([*methods(report), *(note for note in notes if note), *flags])


def fact_counts(grid: Grid) -> dict[str, Counter[str]]:
    """Return {fact: {value: number of trained parts}} for the facts that describe how parts were trained."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for _, part in sorted(grid.results.parts.items()):
        for name, value in _flat(_with_code_in_short(part.facts)):
            seen[name][_without_kernel(value) if name == "platform" else value] += 1
    measured = {name for name in seen if set(re.split("[^a-z]+", name.lower())) & MEASURED}
    return {name: seen[name] for name in sorted(seen.keys() - measured)}


def _with_code_in_short(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return facts in which all files of the code are one value: their number and a hash."""
    if "code" not in facts:
        return facts
    files = json.dumps(facts["code"], sort_keys=True)
    digest = hashlib.sha256(files.encode()).hexdigest()[:12]
    return {**facts, "code": f"{digest} ({plural(len(facts['code']), 'file')})"}


def differs_within_a_part(grid: Grid, fact: str) -> bool:
    """Return whether `fact` differs between the seeds of some part."""
    first: dict[str, str] = {}
    for (hash, _), part in grid.results.parts.items():
        value = dict(_flat(part.facts)).get(fact)
        if value is not None and first.setdefault(hash, value) != value:
            return True
    return False


def _commonest(values: Counter[str]) -> list[tuple[str, int]]:
    return sorted(values.items(), key=lambda item: (-item[1], item[0]))[:MOST_VALUES]


def without_folders(value: str) -> str:
    """Return a path without its folders, which may be private; anything else as it is."""
    return PurePath(value).name if value.startswith("/") else value


def _without_kernel(platform: str) -> str:
    """Return the platform as it is recorded now, `Linux-x86_64-glibc2.36`; older records include the kernel's release."""
    return re.sub(r"^Linux-.+-(\w+)-with-(glibc[\d.]+)$", r"Linux-\1-\2", platform)


def _largest(grid: Grid, fact: str) -> int | None:
    values = (part.facts.get(fact) for part in grid.results.parts.values())
    return max((value for value in values if isinstance(value, int)), default=None)


def _command(grid: Grid) -> str:
    """Return the command that trains the reference cell again, or repeats the whole search."""
    alone = grid.reference is not None and grid.results.spec.search is None
    levels = grid.cells[grid.reference].levels if grid.reference is not None and alone else {}
    return _train_again(grid, levels)


def command_of_effect(grid: Grid, effect: Effect) -> str | None:
    """Return the command that trains the cells of an effect again; None if `--only` or a table cannot hold its levels."""
    contrast = effect.contrast
    sides = np.unique([*contrast.rows_low.ravel(), *contrast.rows_high.ravel()])
    rows = [row for row in sides.tolist() if row >= 0]
    levels: list[Scalar] = [contrast.low, contrast.high]
    if effect.kind is Kind.SLOPE:
        levels = [level.name for level in grid.results.spec.factor(contrast.factor).levels]
    texts = [quoted_level(level) for level in levels]
    # `--only` splits at commas and drops blanks around a level.
    if not rows or any("," in text or text != text.strip() for text in texts):
        return None
    # Over several pairs of cells, an effect is a mean over the other factors.
    same = {
        name: level
        for name, level in grid.cells[rows[0]].levels.items()
        if len(contrast.rows_low) == 1 and all(row in grid.rows_at({name: level}) for row in rows)
    }
    command = _train_again(grid, {contrast.factor: ",".join(texts)} | same)
    # Such a command could not be copied from a table: these end a markdown field or start markup, others are invisible.
    return None if re.search(r"[|`<]", command) or not command.isprintable() else command


def _train_again(grid: Grid, levels: Mapping[str, Scalar]) -> str:
    """Return the command that trains the cells with these levels again, in a separate home."""
    only = [word for name, level in levels.items() for word in ("--only", f"{name}={quoted_level(level)}")]
    return grid.results.run_command("--home", "again", *only)


def _flat(facts: Mapping[str, Any], before: str = "", nulls: bool = False) -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.", nulls)
        elif value is not None or nulls:
            yield (
                f"{before}{name}",
                value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str),
            )
