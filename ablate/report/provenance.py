"""What the results were made with, and how to make one of them again."""

import json
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from ablate.report.frames import Grid, level_text

# Facts that differ from run to run without meaning anything for a comparison.
MEASURED = ("host", "peak", "seconds", "energy", "time", "pid", "worker", "memory")

# Facts of the machine and the code, which no setting of a study changes.
MACHINE_FACTS = ("python", "platform", "cpu", "gpu", "threads", "versions", "git", "git_changed_files")


def provenance(grid: Grid) -> dict[str, Any]:
    """Return each recorded fact with its values, the commonest first, and the number of parts that have each."""
    counts = fact_counts(grid)
    return {
        "facts": {
            name: [{"value": value, "parts": parts} for value, parts in _commonest(found)]
            for name, found in counts.items()
        },
        "peak_memory_bytes": _largest(grid, "peak_memory_bytes"),
        "reproduce": _command(grid),
    }


def fact_counts(grid: Grid) -> dict[str, Counter[str]]:
    """Return {fact: {value: number of trained parts}} for the facts that say with what a part was trained."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for key in sorted(grid.results.parts):
        for name, value in _flat(grid.results.parts[key].facts):
            if not any(word in name.lower() for word in MEASURED):
                seen[name][value] += 1
    return dict(sorted(seen.items()))


def differs_within_a_part(grid: Grid, fact: str) -> bool:
    """Say whether `fact` has two values among the seeds of one part."""
    first: dict[str, str] = {}
    for (hash, _), part in grid.results.parts.items():
        value = dict(_flat(part.facts)).get(fact)
        if value is not None and first.setdefault(hash, value) != value:
            return True
    return False


def _commonest(found: Counter[str], most: int = 3) -> list[tuple[str, int]]:
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))[:most]


def _largest(grid: Grid, fact: str) -> int | None:
    values = (part.facts.get(fact) for part in grid.results.parts.values())
    return max((value for value in values if isinstance(value, int)), default=None)


def _command(grid: Grid) -> str:
    """The command that trains exactly the reference (another row: with its levels)."""
    if grid.reference is None:
        return f"ablate run {grid.results.spec.study}"
    levels = grid.cells[grid.reference].levels
    return f"ablate run {grid.results.spec.study} " + " ".join(
        f"--only {shlex.quote(f'{name}={level_text(level)}')}" for name, level in levels.items()
    )


def _flat(facts: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        elif value is not None:
            yield (
                f"{before}{name}",
                value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str),
            )
