"""Homes merged into one: the trials that only the other home has are added."""

import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ablate.errors import BadInput
from ablate.files import new_folder, write_file
from ablate.runner.copying import create_from, files_to_keep
from ablate.runner.deleting import forget_smoke
from ablate.runner.identity import identity
from ablate.runner.ownership import nobody_works_on, refuse_anothers_files
from ablate.spec.model import levels_text
from ablate.store.finding import names_in
from ablate.store.places import HOME_MARKER, Place, place_in
from ablate.store.reading import has_run, is_smoke
from ablate.store.snapshot import Key, Row, Snapshot, take_snapshot
from ablate.store.writing import Store
from ablate.text import listed, plural

_DEFAULT = "default of "


@dataclass(frozen=True)
class Merged:
    """What merging two homes did for one study."""

    study: str
    trials_added: int
    parts_added: int
    trials_in_both: int
    differing: tuple[str, ...]  # kept as in the first home


def merge_homes(first: Path, second: Path, keep_first: bool = False) -> Iterator[Merged]:
    """Copy into home `first` what only home `second` has, one study after another; smoke runs are left out.

    `keep_first`: where both have different results for one trial, keep those of `first`.

    Raises:
        BadInput: two studies of one name are not the same study, have different results for one trial, or one is running.
            Studies that were already yielded stay merged.
    """
    # `Path.resolve` raises RuntimeError for a loop of links.
    if os.path.realpath(first) == os.path.realpath(second):
        raise BadInput(f"{second}: is the same home as {first}; name two")
    for home in (first, second):
        if not names_in(home):
            if any(home.glob(f"*/{HOME_MARKER}")):
                raise BadInput(
                    f"{home}: the results of its studies are not in this folder, and only SQLite files are merged; to move them "
                    "into a new home, use ablate export --bundle, then ablate import without ABLATE_STORAGE"
                )
            raise BadInput(f"{home}: contains no study; name two homes, such as runs and /mnt/other/runs")
    for name in names_in(second):
        if is_smoke(place_in(second, name)):
            continue
        forget_smoke(place_in(first, name))
        yield _merge_study(place_in(first, name), place_in(second, name), keep_first)


def _merge_study(ours: Place, theirs: Place, keep_first: bool) -> Merged:
    new = take_snapshot(theirs)
    if not has_run(ours):
        refuse_anothers_files(ours)
        for key in new.trained:
            _copy_part(theirs, ours, key)
        _copy_tracebacks(theirs, ours, new.finished)
        create_from(ours, new)
        return Merged(ours.study, len(new.finished), len(new.parts), 0, ())
    with closing(Store(ours)) as store, nobody_works_on(store):
        old = take_snapshot(ours)
        _refuse_another_study(old, new, ours, theirs)
        differing = _differing(old, new)
        if differing and not keep_first:
            raise BadInput(
                *(f"{theirs.folder}: {text}" for text in differing.values()),
                f"{theirs.study}: nothing was merged; --keep-first keeps what {ours.folder} has for these trials",
            )
        parts = new.trained.keys() - old.trained.keys()
        trials = _trials_to_add(old, new)
        for key in sorted(parts):
            _copy_part(theirs, ours, key)
        _copy_tracebacks(theirs, ours, {key: new.finished[key] for key in trials})
        scores = _scores_to_add(old, new, differing)
        _copy_predictions_for_test(theirs, ours, _parts_of(new, scores) - parts)
        store.add_results(new, parts, trials, scores)
        both = old.finished.keys() & new.finished.keys()
        return Merged(ours.study, len(trials), len(parts), len(both), tuple(differing.values()))


def _refuse_another_study(old: Snapshot, new: Snapshot, ours: Place, theirs: Place) -> None:
    before, after = identity(old.spec) | _defaults(old), identity(new.spec) | _defaults(new)
    # A home that ran before a setting was added lacks its default.
    shared = before.keys() & after.keys()
    before, after = (
        {key: value for key, value in one.items() if key in shared or not key.startswith(_DEFAULT)}
        for one in (before, after)
    )
    differing = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
    if {cell.hash for cell in old.design} != {cell.hash for cell in new.design} and not differing:
        raise BadInput(
            f"{theirs.folder}: its cells are not those of {ours.folder}: the order of the factors or levels in the study file, "
            "or the class Settings in the trainer's code, differs; not the same study; rename one of them"
        )
    if differing:
        raise BadInput(
            *(
                f"{theirs.folder}: {key}: {after.get(key)}, and {before.get(key)} in {ours.folder}: not the same study; "
                "rename one of them"
                for key in differing
            )
        )
    if old.spec.search or old.spec.looking:
        raise BadInput(
            f"{theirs.folder}: a study that chooses its trials from its results cannot be merged with another run of it; "
            "keep one of the two"
        )


def _defaults(study: Snapshot) -> dict[str, str]:
    """Return the defaults that cells rely on: hashes of cells do not include them."""
    return {_DEFAULT + name: value for name, value in study.study["design"].get("defaults", {}).items()}


def _differing(old: Snapshot, new: Snapshot) -> dict[Key, str]:
    """Return a sentence for each trial whose metrics differ between the two, and for each other part that differs."""
    differences = {}
    numbers = {(row["cell"], row["seed"]): number for number, row in enumerate(old.trials)}
    levels = {cell.hash: levels_text(cell.levels) for cell in old.design}

    def named(trial: Key) -> str:
        return f"trial {numbers[trial]} ({levels[trial[0]]}, seed {trial[1]})"

    here, there = old.finished, new.finished
    for key in here.keys() & there.keys():
        # A failed trial has no result that could differ. If only one home has a result, `_trials_to_add` keeps it.
        if "FAIL" in (here[key]["state"], there[key]["state"]):
            continue
        if difference := _difference(_dev(here[key]["metrics"]), _dev(there[key]["metrics"])):
            differences[key] = f"{named(key)}: {difference}"
    parts_here, parts_there = old.trained, new.trained
    for key in parts_here.keys() & parts_there.keys():
        if difference := _difference(parts_here[key]["metrics"], parts_there[key]["metrics"]):
            part, seed = key
            cells = (cell.hash for cell in old.design if part in {its.hash for its in cell.parts.values()})
            trials = [(cell, seed) for cell in cells if (cell, seed) in numbers]
            if not any(trial in differences for trial in trials):
                where = listed(map(named, trials)) or f"part {part}, seed {seed}"
                differences[key] = f"{where}: {difference}"
    return dict(sorted(differences.items()))


def _trials_to_add(old: Snapshot, new: Snapshot) -> set[Key]:
    """Return the trials that only the new study has ended, and those that failed in the old one and are complete in the new one.

    Complete ones only if the merged study will have all their parts."""
    here, parts_here, parts_there = old.finished, old.trained, new.trained

    def is_ours(part: Key) -> bool:
        return part not in parts_here or parts_here[part]["metrics"] == parts_there[part]["metrics"]

    parts_of = {cell.hash: [part.hash for part in cell.parts.values()] for cell in new.design}
    return {
        (cell, seed)
        for (cell, seed), trial in new.finished.items()
        if (cell, seed) not in here or (here[cell, seed]["state"] == "FAIL" and trial["state"] == "COMPLETE")
        if trial["state"] != "COMPLETE" or all(is_ours((part, seed)) for part in parts_of[cell])
    }


def _scores_to_add(old: Snapshot, new: Snapshot, differing: Collection[Key]) -> dict[Key, dict[str, float]]:
    """Return the scores on the test split of trials that both have, where only the new study has them."""
    both = {
        key for key in old.finished.keys() & new.finished.keys() if old.finished[key]["state"] == "COMPLETE"
    }
    changed = {key for key in both if _parts_of(new, [key]) & set(differing)}
    return {
        key: scores
        for key in both - changed - set(differing)
        if not _of_test(old.finished[key]["metrics"])
        if (scores := _of_test(new.finished[key]["metrics"]))
    }


def _parts_of(study: Snapshot, trials: Collection[Key]) -> set[Key]:
    hashes = {cell.hash: [part.hash for part in cell.parts.values()] for cell in study.design}
    return {(part, seed) for cell, seed in trials for part in hashes[cell]}


def _difference(here: Mapping[str, float], there: Mapping[str, float]) -> str:
    names = [name for name in sorted(here.keys() | there.keys()) if here.get(name) != there.get(name)]
    return f"{names[0]} is {there.get(names[0])!r} there and {here.get(names[0])!r} here" if names else ""


def _dev(metrics: Mapping[str, float]) -> dict[str, float]:
    """Leave out metrics on the test split, which may have been scored in only one of the homes."""
    return {name: value for name, value in metrics.items() if not name.startswith("test/")}


def _of_test(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name.startswith("test/")}


def _copy_part(source: Place, target: Place, key: Key) -> None:
    folder = source.part_folder(*key)
    with new_folder(target.part_folder(*key)) as copy:
        for file in files_to_keep(folder):
            place = copy / file.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)


def _copy_tracebacks(source: Place, target: Place, trials: Mapping[Key, Row]) -> None:
    for key, trial in sorted(trials.items()):
        if trial["state"] == "FAIL" and source.error_file(*key).is_file():
            write_file(target.error_file(*key), source.error_file(*key).read_bytes())


def _copy_predictions_for_test(source: Place, target: Place, parts: Collection[Key]) -> None:
    for key in sorted(parts):
        for file in sorted((source.part_folder(*key) / "predictions").glob("test.*")):
            copy = target.part_folder(*key) / "predictions" / file.name
            if not copy.exists():
                write_file(copy, file.read_bytes())


def merged_text(merged: Merged) -> str:
    """Return what was merged as text."""
    lines = [
        f"{merged.study}: {plural(merged.trials_added, 'trial')} and {plural(merged.parts_added, 'trained part')} added, "
        f"{plural(merged.trials_in_both, 'trial')} in both"
    ]
    return "\n".join([*lines, *(f"  kept as it was: {text}" for text in merged.differing)])
