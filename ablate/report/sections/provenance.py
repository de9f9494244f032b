"""How the numbers were obtained (only the methods that this report uses), with what, and how to train a cell again."""

import hashlib
import json
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from ablate.evidence.effects import Kind
from ablate.evidence.frames import Grid
from ablate.report.document import Fact, Provenance, Report
from ablate.report.phrases import ANOVA, GATES, INTERVALS, LARGER_P, LOOKS, METHOD_TEXTS
from ablate.spec.model import Factor, StudySpec, level_text
from ablate.stats.sequential import FUTILE_BELOW
from ablate.text import plural

# Facts that differ from run to run without meaning anything for a comparison.
MEASURED = {"host", "hostname", "peak", "seconds", "energy", "time", "pid", "worker", "memory"}

MOST_VALUES = 3  # of a fact, the commonest

# Facts of the machine and the code, which no setting of a study changes.
MACHINE_FACTS = ("python", "platform", "cpu", "gpu", "threads", "versions", "git", "git_changed_files")


def provenance(grid: Grid, counts: Mapping[str, Counter[str]]) -> Provenance:
    """Return each recorded fact with its values, the commonest first, and the number of parts that have each."""
    return Provenance(
        facts={
            name: tuple(Fact(value, parts) for value, parts in _commonest(found))
            for name, found in counts.items()
        },
        further={
            name: len(found) - MOST_VALUES for name, found in counts.items() if len(found) > MOST_VALUES
        },
        peak_memory_bytes=_largest(grid, "peak_memory_bytes"),
        reproduce=_command(grid),
    )


def fixed_settings(spec: StudySpec) -> dict[str, str]:
    """Return {dotted setting: value} of what does not vary. Of a path only the name: folders are private."""
    return {name: _without_folders(value) for name, value in _flat(spec.settings)}


def settings_of_levels(factor: Factor) -> dict[str, dict[str, str]]:
    """Return {level: its settings} of the levels that do more than give the factor's name a value."""
    return {
        level_text(level.name): {name: _without_folders(value) for name, value in _flat(level.settings)}
        for level in factor.levels
        if level.settings != {factor.name: level.name}
    }


def methods(report: Report) -> list[str]:
    """Return a paragraph for each method, correction and rule that the report uses."""
    used = {row.numbers.method for row in report.effects}
    used |= {difference.numbers.method for cell in report.cells for difference in cell.difference.values()}
    smallest, metric = report.metric.smallest_effect, report.metric.name
    said = [text for name, text in METHOD_TEXTS.items() if name in used]
    if report.design.adding:
        said.append(LOOKS.format(futile=FUTILE_BELOW))
    if report.anova:
        said.append(ANOVA)
    if search := report.design.search:
        said.append(
            f"Search: Optuna's {search.sampler} sampler chose the cells (pruner: {search.pruner}) by {metric} on a seed "
            f"of its own. Its best {search.finalists} and the baseline were trained again on other seeds, on which all "
            "that is said here rests. All seeds are scored on the same items."
        )
    said.append(
        f"Holm's correction (1979) over the {'factor effects' if report.effects else 'differences of cells'} "
        f"on {metric}; all other metrics and the interactions are exploratory (Benjamini and Hochberg 1995)."
        + (" The differences in the table of cells are corrected among themselves." if report.effects else "")
    )
    if any(row.kind is Kind.SLOPE for row in report.effects):
        said.append(GATES)
    if any(row.last for row in report.effects):
        said.append(LARGER_P)
    verdicts = "Verdicts: helps or hurts when the corrected p is below .05"
    if smallest is not None:
        verdicts += f"; no difference that matters when the 90 % interval lies inside ±{smallest}"
    said.append(
        verdicts + "; otherwise inconclusive, with the true effect that 80 % of such studies would detect "
        "(corrected like the smallest p). " + INTERVALS
    )
    return said


def fact_counts(grid: Grid) -> dict[str, Counter[str]]:
    """Return {fact: {value: number of trained parts}} for the facts that say with what a part was trained."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for _, part in sorted(grid.results.parts.items()):
        for name, value in _flat(_with_code_in_short(part.facts)):
            seen[name][_without_kernel(value) if name == "platform" else value] += 1
    measured = {name for name in seen if set(re.split("[^a-z]+", name.lower())) & MEASURED}
    return {name: seen[name] for name in sorted(seen.keys() - measured)}


def _with_code_in_short(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return facts with one value for all files of the code: how many they are, and a hash."""
    if "code" not in facts:
        return facts
    files = json.dumps(facts["code"], sort_keys=True)
    digest = hashlib.sha256(files.encode()).hexdigest()[:12]
    return {**facts, "code": f"{digest} ({plural(len(facts['code']), 'file')})"}


def differs_within_a_part(grid: Grid, fact: str) -> bool:
    """Say whether `fact` has two values among the seeds of one part."""
    first: dict[str, str] = {}
    for (hash, _), part in grid.results.parts.items():
        value = dict(_flat(part.facts)).get(fact)
        if value is not None and first.setdefault(hash, value) != value:
            return True
    return False


def _commonest(found: Counter[str]) -> list[tuple[str, int]]:
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))[:MOST_VALUES]


def _without_folders(value: str) -> str:
    return PurePath(value).name if value.startswith("/") else value


def _without_kernel(platform: str) -> str:
    """As it is recorded now: `Linux-x86_64-glibc2.36`; older records have the kernel's release in the middle."""
    return re.sub(r"^Linux-.+-(\w+)-with-(glibc[\d.]+)$", r"Linux-\1-\2", platform)


def _largest(grid: Grid, fact: str) -> int | None:
    values = (part.facts.get(fact) for part in grid.results.parts.values())
    return max((value for value in values if isinstance(value, int)), default=None)


def _command(grid: Grid) -> str:
    """The command that trains the reference cell again; a search is run as a whole."""
    file = shlex.quote(grid.results.file)
    alone = grid.reference is not None and grid.results.spec.search is None
    levels = grid.cells[grid.reference].levels if grid.reference is not None and alone else {}
    only = (f"--only {shlex.quote(f'{name}={level_text(level)}')}" for name, level in levels.items())
    return " ".join(["ablate run", file, "--home again", *only])


def _flat(facts: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        elif value is not None:
            yield (
                f"{before}{name}",
                value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str),
            )
