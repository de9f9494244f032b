"""Rules about fair comparison: the same machine, code and data, equal training, equal tuning."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import PurePath
from typing import Any, NamedTuple

from ablate.evidence.contrasts import same_level
from ablate.report.document import Change, Flag
from ablate.report.flags.evidence import CAUTION, NOTE, STOP, Evidence
from ablate.report.sections.cells import cell_name
from ablate.report.sections.provenance import MACHINE_FACTS, differs_within_a_part
from ablate.spec.model import quoted_level
from ablate.store.results import PartResult, deciding_parts
from ablate.text import listed, one_line, plural, shortened

HARMLESS = ("git_changed_files", "threads", "platform")  # facts that rarely change a result

Match = tuple[list[int], list[int]]  # rows of the grid on either side, padded with −1
Amounts = dict[str, tuple[float, ...]]  # what -> (steps,) or (examples, epochs)


def drift(evidence: Evidence) -> Iterator[Flag]:
    """Libraries, data or hardware that changed between the trials of this study; and commits, if no code was recorded.

    A trainer's own facts (data hashes) may differ because a factor changes them, so they only count if they differ between
    the seeds of the same part. With early stopping, the scores decide how much each seed is trained on, so `examples` and
    `epochs` do not count.
    """
    grid = evidence.grid
    total = len(grid.results.parts)
    decided = ("stopped_early", "examples", "epochs") if any(map(_early, grid.results.parts.values())) else ()
    code_is_known = all("code" in part.facts for part in grid.results.parts.values())
    harmless = (*HARMLESS, "git") if code_is_known else HARMLESS
    for name, counts in evidence.facts.items():
        ours = name.partition(".")[0] in MACHINE_FACTS
        if name.partition(".")[0] in decided:
            continue
        if len(counts) > 1 and (ours or differs_within_a_part(grid, name)):
            values = (
                f"{shortened(one_line(value), 60)} ({plural(count, 'part')})"
                for value, count in counts.most_common()
            )
            yield Flag(
                NOTE if name in harmless else CAUTION,
                "drift",
                f"{'commit of the code' if name == 'git' else name} changed between the {total} trained parts: "
                f"{listed(values, 3)}",
                _SAME_WORKERS + _IF_IN_DOUBT
                if name == "threads"
                else f"it rarely changes a result; {_IF_IN_DOUBT}"
                if name in harmless
                else "do not compare across this change, or train the study again (`ablate run STUDY --home again`)",
            )


_SAME_WORKERS = (
    "it rarely changes a result; workers share the cores, so give every `ablate run` the same --workers; "
)
_IF_IN_DOUBT = "if in doubt, train the study again (`ablate run STUDY --home again`)"


def other_code(evidence: Evidence) -> Iterator[Flag]:
    """Two sides of a contrast that were trained with different code, as `ablate run --code keep` allows.

    If code changed only between seeds, both sides of every pair have the same code."""
    changed = _changed_files(evidence.grid.results.parts.values())
    codes = _codes(evidence, changed) if changed else {}
    flagged = False
    for name, matches in _comparisons(evidence):
        pairs = [pair for match in matches for pair in _pairs_of_code(codes, match)]
        differing = sorted({file for pair in pairs for file in pair.files})
        if not differing:
            continue
        flagged = True
        everywhere = all(pair.disjoint for pair in pairs)
        count = "all" if everywhere else sum(bool(pair.files) for pair in pairs)
        yield Flag(
            STOP if everywhere else CAUTION,
            "other_code",
            f"{name}: {count} of {plural(len(pairs), 'pair')} of trials compare different code: {listed(differing)}"
            + ("; the effect cannot be separated from that of the change" if everywhere else ""),
            _TRAIN_AGAIN,
        )
    if changed and not flagged:
        yield Flag(
            NOTE,
            "other_code",
            f"the code changed between trials: {listed(sorted(changed))}; both sides of every comparison have the same code",
            _TRAIN_AGAIN,
        )


_TRAIN_AGAIN = (
    "retrain the trials that used different code (`ablate run --code rerun`), or say with the claim why the change "
    "does not matter"
)
Codes = Mapping[tuple[int, int], Counter[tuple[str, str]]]  # (row, column) -> (file, version) of its parts


class PairOfCode(NamedTuple):
    """The code of two sides of a comparison, for one seed."""

    files: frozenset[str]  # files that differ
    disjoint: bool  # in at least one file, the two sides have no version in common


def _changed_files(parts: Iterable[PartResult]) -> set[str]:
    versions: dict[str, set[str]] = defaultdict(set)
    for part in parts:
        for file, version in part.facts.get("code", {}).items():
            versions[_shown_file(file)].add(version)
    return {file for file, of_file in versions.items() if len(of_file) > 1}


def _shown_file(file: str) -> str:
    # The folders may be private, so only the name is shown.
    return PurePath(file).name if file.startswith("/") else file


def _codes(evidence: Evidence, files: Collection[str]) -> Codes:
    """Return the versions of `files` that the parts behind the primary metric were trained with, where known."""
    grid = evidence.grid
    codes = {}
    for place, trial in grid.trials.items():
        keys = [(part, trial.seed) for part in deciding_parts(grid.results, trial, grid.primary)]
        parts = [grid.results.parts[key] for key in keys if key in grid.results.parts]
        every = (
            (_shown_file(file), version)
            for part in parts
            for file, version in part.facts.get("code", {}).items()
        )
        codes[place] = Counter(pair for pair in every if pair[0] in files and trial.state == "COMPLETE")
    return codes


def _pairs_of_code(codes: Codes, match: Match) -> Iterator[PairOfCode]:
    """Yield the code of both sides of a match, seed by seed, where both are known."""
    for column in sorted({column for _, column in codes}):
        low, high = (_shares(codes.get((row, column), Counter()) for row in rows) for rows in match)
        files = low.keys() & high.keys()
        changed = frozenset(file for file in files if low[file] != high[file])
        if files:
            yield PairOfCode(changed, any(not low[file].keys() & high[file].keys() for file in changed))


def _shares(codes: Iterable[Counter[tuple[str, str]]]) -> dict[str, dict[str, float]]:
    """Return {file: {version: share of the parts that have it}}."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for code in codes:
        for (file, version), count in code.items():
            counts[file][version] += count
    return {file: {v: n / of_file.total() for v, n in of_file.items()} for file, of_file in counts.items()}


def unequal_training(evidence: Evidence) -> Iterator[Flag]:
    """Two sides of a contrast that took different numbers of optimizer steps, examples or epochs.

    Examples and epochs are as the trainer reports them (`context.facts["examples"]` and `["epochs"]`, {task: count}). Where
    training stopped early, the planned steps count; `stopped_early` flags that."""
    amounts = _training_amounts(evidence)
    for name, matches in _comparisons(evidence):
        unequal: dict[str, str] = {}  # of the first match that differs
        for low, high in [[_most(amounts, side) for side in match] for match in matches]:
            for what in low:
                if what in high and low[what] != high[what]:
                    sides = f"{_amount(low[what])} on one side, {_amount(high[what])} on the other"
                    unequal.setdefault(what, f"{what}: {sides}")
        if unequal:
            yield Flag(
                NOTE,
                "unequal_training",
                f"{name}: {listed(unequal.values(), sep='; ')}",
                "state what is held equal (epochs, steps or examples); the effect includes the difference in training",
            )


def stopped_early(evidence: Evidence) -> Iterator[Flag]:
    """Trials that ended because dev no longer improved (`context.facts["stopped_early"]`, {"steps": taken, "of": planned})."""
    grid = evidence.grid
    complete = [(row, trial) for (row, _), trial in grid.trials.items() if trial.state == "COMPLETE"]
    shares, rows = [], []
    for row, trial in complete:
        parts = [grid.results.parts.get((part, trial.seed)) for part in trial.parts.values()]
        trained = [part for part in parts if part]
        if any(_early(part) for part in trained):
            shares.append(sum(part.steps for part in trained) / sum(map(_planned_steps, trained)))
            rows.append(row)
    if rows:
        span = " to ".join(dict.fromkeys(f"{100 * share:.3g}" for share in (min(shares), max(shares))))
        yield Flag(
            NOTE,
            "stopped_early",
            f"early stopping ended {len(rows)} of {plural(len(complete), 'trial')}, after {span} % of their steps",
            "state the patience: the dev split decided how long they trained, and effects include the difference in length",
            frozenset(rows),
        )


def unequal_tuning(evidence: Evidence) -> Iterator[Flag]:
    """Levels that a search tried at least twice as often as others of their factor."""
    results = evidence.grid.results
    uneven = []
    for factor in results.spec.factors if results.tried else ():
        levels = [trial.factors[factor.name] for trial in results.tried if factor.name in trial.factors]
        times = {
            known.name: sum(same_level(known.name, level) for level in levels) for known in factor.levels
        }
        most_first = sorted(times.items(), key=lambda item: -item[1])
        if most_first[0][1] >= 2 * max(most_first[-1][1], 1):
            uneven.append(
                f"{factor.name} " + listed(f"{quoted_level(level)} {n}×" for level, n in most_first)
            )
    if uneven:
        yield Flag(
            NOTE,
            "unequal_tuning",
            f"the search tried some levels more often than others ({plural(len(results.tried), 'cell')}): {'; '.join(uneven)}",
            "claim that a cell found here beats the baseline, not that one level beats another: "
            "compare levels in another design",
        )


def _training_amounts(evidence: Evidence) -> dict[int, Amounts]:
    """Row -> the steps of its longest part, and the examples of each task."""
    by_row: dict[int, Amounts] = {}
    for (row, _), trial in evidence.grid.trials.items():
        parts = [evidence.grid.results.parts.get((part, trial.seed)) for part in trial.parts.values()]
        trained = [part for part in parts if part]
        if not trained or trial.state != "COMPLETE":
            continue
        amounts = by_row.setdefault(row, {})
        amounts["optimizer steps of the longest part"] = (max(map(_planned_steps, trained)),)
        for part in trained:
            if _early(part):
                continue
            examples, epochs = (_counts(part.facts.get(name)) for name in ("examples", "epochs"))
            for task, count in examples.items():
                amounts[f"examples of {task}"] = (count, *([epochs[task]] if task in epochs else []))
    return by_row


def _early(part: PartResult) -> tuple[int, int] | None:
    """Return the steps taken and those planned, if the trainer reports that it stopped early."""
    match part.facts.get("stopped_early"):
        case {"steps": int(taken), "of": int(planned)} if 0 <= taken < planned:
            return taken, planned
    return None


def _planned_steps(part: PartResult) -> int:
    early = _early(part)
    return early[1] if early else part.steps


def _counts(fact: Any) -> dict[str, float]:
    items = fact.items() if isinstance(fact, Mapping) else ()
    return {str(task): count for task, count in items if isinstance(count, int | float)}


def _comparisons(evidence: Evidence) -> Iterator[tuple[str, list[Match]]]:
    """Yield each comparison with its matches: two levels of a factor, or a search's baseline and a finalist."""
    grid = evidence.grid
    for contrast in evidence.contrasts:
        matches = list(zip(contrast.rows_low.tolist(), contrast.rows_high.tolist(), strict=True))
        # In a fraction, no two cells may differ in this factor alone: compare all cells with either level.
        if not matches:
            low, high = (
                sorted(set(grid.rows_at({contrast.factor: level}))) for level in (contrast.low, contrast.high)
            )
            matches = [(low, high)]
        yield Change(contrast.factor, contrast.low, contrast.high, contrast.when).text, matches
    if grid.results.tried and grid.reference is not None:
        for row in range(len(grid.cells)):
            if row != grid.reference:
                yield f"{cell_name(grid, row)} against the baseline", [([grid.reference], [row])]


def _most(amounts: Mapping[int, Amounts], rows: list[int]) -> Amounts:
    most: Amounts = {}
    for row in rows:
        for what, amount in amounts.get(row, {}).items():
            most[what] = max(amount, most.get(what, amount))
    return most


def _amount(amount: tuple[float, ...]) -> str:
    return f"{amount[0]}" + (f" ({amount[1]:g} epochs)" if len(amount) > 1 else "")
