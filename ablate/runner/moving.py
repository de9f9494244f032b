"""Studies moved between homes and databases: deleted, merged, packed into one file and opened elsewhere."""

import errno
import importlib.metadata
import json
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import compress
from pathlib import Path
from typing import Any

from ablate.errors import BadInput
from ablate.files import new_file, new_folder
from ablate.runner.bundle_bounds import MOST_CONTENT, refuse_bomb, refuse_long_directory
from ablate.runner.identity import identity
from ablate.runner.ownership import nobody_works_on, share_home
from ablate.spec.model import levels_text
from ablate.store import tables
from ablate.store.creating import create_study
from ablate.store.finding import names_in
from ablate.store.places import Place, place_in, place_of
from ablate.store.reading import has_run, read_results
from ablate.store.snapshot import FINISHED, Row, Snapshot, add_results, add_study, take_snapshot
from ablate.store.urls import sqlite_file, without_password
from ablate.store.writing import Store
from ablate.tables import refuse_no_file
from ablate.text import one_line, plural, shortened, shown

CONTENT = "study.json"  # the file in a bundle with everything but the files of trained parts
# Limits of a path below the study's folder, in characters, and of each name in it, in bytes.
LONGEST_PATH, LONGEST_NAME = 2000, 255
_HASH = re.compile("[0-9a-f]{12}")
_FILE = re.compile(r"trials/[0-9a-f]{12}-[0-9]+/(?:[^/\0]+/)*[^/\0]+")
# Files that are useless once a part is trained.
_OF_A_RUN = re.compile(r"step-.*\.checkpoint|reached\.txt|running\.lock|trained-with\.json|\..*\.part")

Key = tuple[str, int]  # hash of a part or a cell, and seed


@dataclass(frozen=True)
class Merged:
    """What merging two homes did for one study."""

    study: str
    trials_added: int
    parts_added: int
    trials_in_both: int
    differing: tuple[str, ...]  # kept as in the first home


def delete(place: Place) -> None:
    """Delete a study's records and files.

    Raises:
        BadInput: it is running.
    """
    with closing(Store(place)) as store, nobody_works_on(store):
        store.delete()
    shutil.rmtree(place.folder)


def pack(place: Place, bundle: Path, models: bool) -> list[Path]:
    """Write a study into one file: its records, predictions, tracebacks, and the files of its `models` if requested.

    Return the folders of trained parts that are missing.
    """
    snapshot = take_snapshot(place)
    folders = [place.part_folder(*key) for key in sorted(_parts(snapshot))]
    tracebacks = [
        place.error_file(*key) for key, row in _finished(snapshot).items() if row["state"] == "FAIL"
    ]
    content = json.dumps(
        {"ablate": importlib.metadata.version("ablate-studies"), **asdict(snapshot)}, allow_nan=False
    )
    if len(content) > MOST_CONTENT:
        raise BadInput(
            f"{place.study}: {len(content) >> 20:,} MiB of results and curves are too much for a bundle; copy the study's folder "
            "(and, from a database server, a dump) instead"
        )
    with new_file(bundle) as opened, zipfile.ZipFile(opened, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(CONTENT, content)
        files = [
            file
            for folder in folders
            for file in _files_to_keep(folder if models else folder / "predictions")
        ]
        for file in dict.fromkeys([*files, *(file for file in tracebacks if file.is_file())]):
            packed.write(file, file.relative_to(place.folder))
    return [folder for folder in folders if not folder.is_dir()]


def unpack(bundle: Path, home: Path | None, storage: str | None) -> Place:
    """Open a bundle as a study of its name; return where it is.

    Raises:
        BadInput: the file is not a bundle, or there is a study of that name.
    """
    snapshot, names = _content_of(bundle)
    place = place_of(snapshot.spec.study, home, storage)
    if has_run(place):
        is_file = sqlite_file(place.url) is not None
        raise BadInput(
            f"{bundle}: {place.study!r} already exists ({place.folder if is_file else without_password(place.url)}); "
            + (
                "import it into another --home, and `ablate merge` the two"
                if is_file
                else "import it into another database (ABLATE_STORAGE)"
            )
        )
    with zipfile.ZipFile(bundle) as packed, new_folder(place.folder / "trials") as folder:
        if sum(packed.getinfo(name).file_size for name in names) > shutil.disk_usage(folder).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place.folder))
        for name in names:
            file = folder / Path(name).relative_to("trials")
            file.parent.mkdir(parents=True, exist_ok=True)
            with packed.open(name) as source, file.open("xb") as target:
                shutil.copyfileobj(source, target)
    _create(place, snapshot)
    return place


def _content_of(bundle: Path) -> tuple[Snapshot, list[str]]:
    """Return a bundle's study and the names of its files. Reads everything, so that nothing of a damaged bundle is written."""
    refuse_no_file(bundle)
    try:
        refuse_long_directory(bundle)
        with zipfile.ZipFile(bundle) as packed:
            refuse_bomb(packed, bundle, CONTENT)
            snapshot = _snapshot_in(packed, bundle)
            names = [name for name in packed.namelist() if name != CONTENT]
            folders = {str(folder) for name in names for folder in Path(name).parents}
            is_strange = (not _may_hold(name) or name in folders for name in names)
            if strange := [*compress(names, is_strange), *(Counter(names) - Counter(set(names)))]:
                raise BadInput(
                    f"{bundle}: contains {strange[0]!r}, which does not belong in a bundle; copy or export it again"
                )
            if damaged := packed.testzip():
                raise zipfile.BadZipFile(f"{damaged!r} is damaged")
    # Damaged or cut off; RuntimeError: another program's zip, encrypted or compressed in a way that Python cannot read.
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise BadInput(
            f"{bundle}: is not a bundle ({one_line(error)}); `ablate export --bundle` writes one"
        ) from error
    return snapshot, names


def merge(first: Path, second: Path, keep_first: bool = False) -> Iterator[Merged]:
    """Copy into home `first` what only home `second` has, one study after another.

    `keep_first`: where both have different results for one trial, keep those of `first`.

    Raises:
        BadInput: two studies of one name are not the same study, have different results for one trial, or one is running.
            Studies that were already yielded stay merged.
    """
    if first.resolve() == second.resolve():
        raise BadInput(f"{second}: is the same home as {first}; name two")
    for home in (first, second):
        if not names_in(home):
            raise BadInput(
                f"{home}: contains no study; name two homes, such as runs and /mnt/other/runs (for a study in PostgreSQL, "
                "move a bundle: ablate export --bundle)"
            )
    for name in names_in(second):
        yield _merge_study(place_in(first, name), place_in(second, name), keep_first)


def _merge_study(ours: Place, theirs: Place, keep_first: bool) -> Merged:
    new = take_snapshot(theirs)
    if not has_run(ours):
        for key in _parts(new):
            _copy_part(theirs, ours, key)
        _create(ours, new)
        return Merged(ours.study, len(_finished(new)), len(new.parts), 0, ())
    with closing(Store(ours)) as store, nobody_works_on(store):
        old = take_snapshot(ours)
        _refuse_another_study(old, new, ours, theirs)
        differing = _differing(old, new)
        if differing and not keep_first:
            raise BadInput(
                *(f"{theirs.folder}: {text}" for text in differing.values()),
                f"{theirs.study}: nothing was merged; --keep-first keeps what {ours.folder} has for these trials",
            )
        parts = _parts(new).keys() - _parts(old).keys()
        trials = _trials_to_add(old, new)
        for key in sorted(parts):
            _copy_part(theirs, ours, key)
        store.add_results(new, parts, trials)
        both = _finished(old).keys() & _finished(new).keys()
        return Merged(ours.study, len(trials), len(parts), len(both), tuple(differing.values()))


def _create(place: Place, snapshot: Snapshot) -> None:
    def insert(connection: Any) -> None:
        study_id = add_study(connection, snapshot)
        add_results(connection, study_id, snapshot, _parts(snapshot).keys(), _finished(snapshot).keys())

    create_study(place, insert)
    with closing(Store(place)) as store:
        share_home(store)


def _refuse_another_study(old: Snapshot, new: Snapshot, ours: Place, theirs: Place) -> None:
    before, after = identity(old.spec), identity(new.spec)
    differing = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
    if {cell.hash for cell in old.design} != {cell.hash for cell in new.design} and not differing:
        differing = ["cells"]
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


def _differing(old: Snapshot, new: Snapshot) -> dict[Key, str]:
    """Return a sentence for each trial, or part without a trial, whose metrics differ between the two."""
    differences = {}
    levels = {cell.hash: levels_text(cell.levels) for cell in old.design}
    here, there = _finished(old), _finished(new)
    for key in here.keys() & there.keys():
        if difference := _difference(_dev(here[key]["metrics"]), _dev(there[key]["metrics"])):
            differences[key] = f"{levels[key[0]]}, seed {key[1]}: {difference}"
    parts_here, parts_there = _parts(old), _parts(new)
    for key in parts_here.keys() & parts_there.keys():
        if difference := _difference(parts_here[key]["metrics"], parts_there[key]["metrics"]):
            differences[key] = f"part {key[0]}, seed {key[1]}: {difference}"
    return dict(sorted(differences.items()))


def _trials_to_add(old: Snapshot, new: Snapshot) -> set[Key]:
    """Return the trials with a result only in the new study, if the merged study will have all their parts."""
    here, parts_here, parts_there = _finished(old), _parts(old), _parts(new)

    def is_ours(part: Key) -> bool:
        return part not in parts_here or parts_here[part]["metrics"] == parts_there[part]["metrics"]

    parts_of = {cell.hash: [part.hash for part in cell.parts.values()] for cell in new.design}
    return {
        (cell, seed)
        for (cell, seed), trial in _finished(new).items()
        if (cell, seed) not in here or (here[cell, seed]["state"] == "FAIL" and trial["state"] == "COMPLETE")
        if trial["state"] != "COMPLETE" or all(is_ours((part, seed)) for part in parts_of[cell])
    }


def _difference(here: Mapping[str, float], there: Mapping[str, float]) -> str:
    names = [name for name in sorted(here.keys() | there.keys()) if here.get(name) != there.get(name)]
    return f"{names[0]} is {there.get(names[0])!r} there and {here.get(names[0])!r} here" if names else ""


def _dev(metrics: Mapping[str, float]) -> dict[str, float]:
    """Leave out metrics on the test split, which may have been scored in only one of the homes."""
    return {name: value for name, value in metrics.items() if not name.startswith("test/")}


def _finished(snapshot: Snapshot) -> dict[Key, Row]:
    return {(row["cell"], row["seed"]): row for row in snapshot.trials if row["state"] in FINISHED}


def _parts(snapshot: Snapshot) -> dict[Key, Row]:
    return {(row["part"], row["seed"]): row for row in snapshot.parts}


def _copy_part(source: Place, target: Place, key: Key) -> None:
    folder = source.part_folder(*key)
    with new_folder(target.part_folder(*key)) as copy:
        for file in _files_to_keep(folder):
            place = copy / file.relative_to(folder)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)


def _files_to_keep(folder: Path) -> list[Path]:
    return [
        file
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.is_symlink() and not _OF_A_RUN.fullmatch(file.name)
    ]


def _may_hold(name: str) -> bool:
    """Return whether a bundle may hold a file of this name; file systems bound the length of names and paths."""
    steps = name.split("/")
    is_short = len(name) <= LONGEST_PATH and all(len(os.fsencode(step)) <= LONGEST_NAME for step in steps)
    return bool(_FILE.fullmatch(name)) and ".." not in steps and is_short


def _refuse_constant(name: str) -> None:
    """Refuse NaN and infinity, which Python would read."""
    raise ValueError(f"{name} in it")


def _snapshot_in(packed: zipfile.ZipFile, bundle: Path) -> Snapshot:
    try:
        content = json.loads(packed.read(CONTENT), parse_constant=_refuse_constant)
        version, written_by = content["schema_version"], content.pop("ablate")
    # RecursionError: nested too deeply.
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise BadInput(
            f"{bundle}: is not a bundle (no {CONTENT}, or a damaged one); `ablate export --bundle` writes one"
        ) from error
    if isinstance(version, bool) or version not in range(tables.OLDEST_READ, tables.SCHEMA_VERSION + 1):
        raise BadInput(
            f"{bundle}: written by ablate {written_by} with tables {version}, this one has {tables.SCHEMA_VERSION}; "
            "use the version that wrote it"
        )
    try:
        snapshot = Snapshot(**content)
        _refuse_foreign(snapshot)
        # A dry run in a scratch folder, so that a bad row is found before anything is written.
        with tempfile.TemporaryDirectory() as scratch:
            place = place_in(Path(scratch), snapshot.spec.study)
            _create(place, snapshot)
            read_results(place)
    except MemoryError:
        raise
    except Exception as error:
        cause = error.__cause__ or error
        problem = f"{type(cause).__name__}: {shortened(one_line(cause))}"
        raise BadInput(f"{bundle}: its {CONTENT} is damaged ({problem}); export the study again") from error
    return snapshot


def _refuse_foreign(snapshot: Snapshot) -> None:
    """Refuse states that we do not write, and malformed hashes, which would name folders."""
    if other := {row["state"] for row in snapshot.trials} - {*FINISHED, "WAITING"}:
        raise ValueError(f"{shown(min(other))} is not a state")
    parts = [part.hash for cell in snapshot.design for part in cell.parts.values()]
    for name in (*parts, *(cell.hash for cell in snapshot.design), *(key[0] for key in _parts(snapshot))):
        if not _HASH.fullmatch(name):
            raise ValueError(f"{shown(name)} is not a hash")


def merged_text(merged: Merged) -> str:
    """Return what was merged as text."""
    lines = [
        f"{merged.study}: {plural(merged.trials_added, 'trial')} and {plural(merged.parts_added, 'trained part')} added, "
        f"{plural(merged.trials_in_both, 'trial')} in both"
    ]
    return "\n".join([*lines, *(f"  kept as it was: {text}" for text in merged.differing)])
