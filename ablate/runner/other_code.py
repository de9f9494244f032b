"""Compare the current code with the code that the study's trials were trained with.

It compares the files and packages of every part that is trained or has a checkpoint; parts without recorded code are ignored.
Where something differs, `--code keep` continues and leaves the comparison to the report, and `--code rerun` trains again what
was trained with other code."""

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablate.errors import BadInput, StudyChanged
from ablate.runner.ownership import nobody_works_on
from ablate.runner.trial_code import MISSING, PHASES, Code, Sources
from ablate.store.reading import read_results
from ablate.store.results import Results
from ablate.store.writing import Store
from ablate.text import listed, plural

NOTE = "trained-with.json"  # in the folder of an unfinished part: the code of its checkpoint


class Recorded:
    """The versions of files and packages that parts were trained with, and how many parts each."""

    def __init__(self, results: Results) -> None:
        assert results.place is not None
        self.files: dict[str, Counter[str]] = defaultdict(Counter)
        self.packages: dict[str, Counter[str]] = defaultdict(Counter)
        for part in results.parts.values():
            self.add(part.facts)
        for folder in {file.parent for file in results.place.folder.glob("trials/*/step-*.checkpoint")}:
            self.add(read_note(folder))

    def add(self, facts: Mapping[str, Any]) -> None:
        """Add what a part was trained with."""
        if "code" in facts:
            for counts, versions in ((self.files, facts["code"]), (self.packages, facts["versions"])):
                for name, joined in versions.items():
                    counts[name].update(joined.split(PHASES))

    def differences(self, code: Code) -> list[str]:
        """Return which files and packages of `code` have a version that no recorded part has."""
        files = [
            f"{name} ({'is gone' if version == MISSING else 'changed'}; "
            f"{plural(self.files[name].total(), 'part')} used it before)"
            for name, version in code.files.items()
            if name in self.files and version not in self.files[name]
        ]
        return files + [
            f"{name} ({listed(self.packages[name])} → {version})"
            for name, version in code.packages.items()
            if name in self.packages and version not in self.packages[name]
        ]


def refuse_other_code(code: Code, recorded: Recorded, where: str) -> None:
    """Compare code with what is recorded.

    Raises:
        StudyChanged: something differs.
    """
    if differences := recorded.differences(code):
        raise StudyChanged(
            f"{where}: trainer: its code differs from the recorded code: {listed(differences, 8)}; undo the change, or use "
            "`ablate run` with --code keep (continue; the report flags comparisons across versions) or --code rerun (train the "
            "trials of other versions again)"
        )


def present_code(sources: Sources, recorded: Recorded) -> Code:
    """Return the code as it is now, including recorded files that this process has not read."""
    if not recorded.files and not recorded.packages:
        return Code({}, {})
    code = sources.loaded()
    return Code({**code.files, **{name: sources.now(name) for name in recorded.files}}, code.packages)


def train_again(store: Store, sources: Sources) -> None:
    """Delete every result that was trained with other code, and queue its trials again.

    Raises:
        BadInput: the study is running, or its later trials were chosen from such results.
    """
    results = read_results(store.place)
    if results.spec.search or results.looks:
        raise BadInput(
            f"--code: trials of {results.spec.study!r} were chosen from results of other code; give the study another name, "
            "or use --code keep"
        )
    now = present_code(sources, Recorded(results))
    current = {key for key, part in results.parts.items() if _is_of(now, part.facts)}
    every = {(part, trial.seed) for trial in results.trials for part in trial.parts.values()}
    # Repeating the command continues what it began.
    notes = {key: read_note(store.place.part_folder(*key)) for key in every - results.parts.keys()}
    current |= {key for key, facts in notes.items() if facts and _is_of(now, facts)}
    with nobody_works_on(store):
        store.train_again(every - current)
        # After the commit: if killed in between, files without a result remain, and their checkpoints are refused.
        for part, seed in every - current:
            shutil.rmtree(store.place.part_folder(part, seed), ignore_errors=True)


def _is_of(now: Code, facts: Mapping[str, Any]) -> bool:
    return (
        "code" in facts
        and all(now.files.get(name) == version for name, version in facts["code"].items())
        and all(facts["versions"].get(name, version) == version for name, version in now.packages.items())
    )


def is_of_now(code: Code, sources: Sources, facts: Mapping[str, Any]) -> bool:
    """Return whether all files and packages in `facts` are as they are now: as in `code`, or as on disk if it lacks them."""
    files = {**{name: sources.now(name) for name in facts.get("code", ())}, **code.files}
    certain = not any(PHASES in version for version in (*files.values(), *code.packages.values()))
    return certain and _is_of(Code(files, code.packages), facts)


def begin_note(workdir: Path, code: Code, before: Mapping[str, Any] | None = None) -> None:
    """Record in a part's folder the code that trains it from now on, joined with the code `before`: that of its checkpoint."""
    if before is None:
        before = read_note(workdir) if next(workdir.glob("step-*.checkpoint"), None) else {}
    (workdir / NOTE).write_text(json.dumps(joined(before, code)))


def read_note(workdir: Path) -> dict[str, Any]:
    """Return the note in a part's folder; empty if there is none, or a power cut damaged it."""
    try:
        facts: dict[str, Any] = json.loads((workdir / NOTE).read_text())
    except (OSError, ValueError):
        return {}
    return facts


def joined(before: Mapping[str, Any], code: Code) -> dict[str, Any]:
    """Return the facts of a part that was trained with `before` and then with `code`."""
    return {
        "code": _in_phases(before.get("code", {}), code.files),
        "versions": _in_phases(before.get("versions", {}), code.packages),
    }


def _in_phases(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    phases = dict(before)
    for name, version in now.items():
        earlier = before.get(name, version).split(PHASES)
        phases[name] = PHASES.join(earlier if earlier[-1] == version else [*earlier, version])
    return phases
