"""Studies moved between homes and databases: deleted, merged, packed into one file and opened elsewhere."""

import importlib.metadata
import json
import re
import shutil
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ablate.errors import BadInput
from ablate.files import new_file, new_folder
from ablate.runner.identity import identity
from ablate.runner.ownership import nobody_works_on, share_home
from ablate.spec.model import levels_text
from ablate.store import tables
from ablate.store.creating import create_study
from ablate.store.finding import names_in
from ablate.store.places import Place, place_in, place_of
from ablate.store.reading import has_run
from ablate.store.snapshot import FINISHED, Row, Snapshot, add_results, add_study, take_snapshot
from ablate.store.writing import Store
from ablate.tables import refuse_no_file
from ablate.text import plural

CONTENT = "study.json"  # of a bundle, beside the files of trained parts
_FILE = re.compile(r"trials/[0-9a-f]{12}-[0-9]+/(?:[^/\0]+/)*[^/\0]+")
_OF_A_RUN = re.compile(
    r"step-.*\.checkpoint|reached\.txt|running\.lock|trained-with\.json|\..*\.part"
)  # of no use once a part is trained

Key = tuple[str, int]  # hash of a part or a cell, and seed


@dataclass(frozen=True)
class Merged:
    """What merging two homes did for one study."""

    study: str
    trials_added: int
    parts_added: int
    trials_in_both: int
    differing: tuple[str, ...]  # left as the first home has them


def delete(place: Place) -> None:
    """Delete a study: what is recorded of it, and its files.

    Raises:
        BadInput: it is running.
    """
    with closing(Store(place)) as store, nobody_works_on(store):
        store.delete()
    shutil.rmtree(place.folder)


def pack(place: Place, bundle: Path, models: bool) -> list[Path]:
    """Write a study into one file: what is recorded of it, predictions, tracebacks, and the files of its `models` if wanted.

    Return the folders of trained parts that are gone.
    """
    snapshot = take_snapshot(place)
    folders = [place.part_folder(*key) for key in sorted(_parts(snapshot))]
    tracebacks = [
        place.error_file(*key) for key, row in _finished(snapshot).items() if row["state"] == "FAIL"
    ]
    content = {"ablate": importlib.metadata.version("ablate-studies"), **asdict(snapshot)}
    with new_file(bundle) as opened, zipfile.ZipFile(opened, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(CONTENT, json.dumps(content, allow_nan=False))
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
        BadInput: the file is no bundle, or there is a study of that name.
    """
    refuse_no_file(bundle)
    try:
        with zipfile.ZipFile(bundle) as packed:
            snapshot = _snapshot_in(packed, bundle)
            place = place_of(snapshot.spec.study, home, storage)
            if has_run(place):
                raise BadInput(
                    f"{bundle}: {place.study!r} is there already ({place.folder}); import it into another --home, "
                    "and `ablate merge` the two"
                )
            names = [name for name in packed.namelist() if name != CONTENT]
            if strange := [name for name in names if not _FILE.fullmatch(name) or ".." in name.split("/")]:
                raise BadInput(f"{bundle}: holds {strange[0]!r}, which no bundle holds; get it again")
            with new_folder(place.folder / "trials") as folder:
                for name in names:
                    file = folder / Path(name).relative_to("trials")
                    file.parent.mkdir(parents=True, exist_ok=True)
                    with packed.open(name) as source, file.open("xb") as target:
                        shutil.copyfileobj(source, target)
    # Damaged or cut off; RuntimeError: another program's zip, encrypted or compressed in a way that Python cannot read.
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise BadInput(f"{bundle}: is no bundle ({error}); `ablate export --bundle` writes one") from error
    _create(place, snapshot)
    return place


def merge(first: Path, second: Path, keep_first: bool = False) -> Iterator[Merged]:
    """Add to the studies of the home `first` what those of `second` have beside it, one study after another.

    `keep_first`: where both have different results for one trial, keep those of `first`.

    Raises:
        BadInput: two studies of one name are not the same study, have different results for one trial, or one is running.
            What was yielded before is done.
    """
    if first.resolve() == second.resolve():
        raise BadInput(f"{second}: is the same home as {first}; name two")
    for home in (first, second):
        if not names_in(home):
            raise BadInput(f"{home}: holds no study; name two homes, such as runs and /mnt/other/runs")
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
    """Return a sentence for each trial, or part without a trial, that both have with different metrics."""
    found = {}
    levels = {cell.hash: levels_text(cell.levels) for cell in old.design}
    here, there = _finished(old), _finished(new)
    for key in here.keys() & there.keys():
        if difference := _difference(_dev(here[key]["metrics"]), _dev(there[key]["metrics"])):
            found[key] = f"{levels[key[0]]}, seed {key[1]}: {difference}"
    parts_here, parts_there = _parts(old), _parts(new)
    for key in parts_here.keys() & parts_there.keys():
        if difference := _difference(parts_here[key]["metrics"], parts_there[key]["metrics"]):
            found[key] = f"part {key[0]}, seed {key[1]}: {difference}"
    return dict(sorted(found.items()))


def _trials_to_add(old: Snapshot, new: Snapshot) -> set[Key]:
    """Return the trials that only the new study has a result of, all its parts being those that the merged study will have."""
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
    """Leave out the test split: it may have been scored in one home alone."""
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


def _snapshot_in(packed: zipfile.ZipFile, bundle: Path) -> Snapshot:
    try:
        content = json.loads(packed.read(CONTENT))
        version, written_by = content["schema_version"], content.pop("ablate")
    except (KeyError, ValueError, TypeError) as error:
        raise BadInput(
            f"{bundle}: is no bundle (no {CONTENT}, or a damaged one); `ablate export --bundle` writes one"
        ) from error
    if version != tables.SCHEMA_VERSION:
        raise BadInput(
            f"{bundle}: written by ablate {written_by} with tables {version}, this one has {tables.SCHEMA_VERSION}; "
            "use the version that wrote it"
        )
    try:
        snapshot = Snapshot(**content)
        # Read now, while nothing is written.
        _ = snapshot.spec, snapshot.design
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise BadInput(f"{bundle}: its {CONTENT} is damaged; export the study again") from error
    return snapshot


def merged_text(merged: Merged) -> str:
    """Return what was merged, for a person."""
    lines = [
        f"{merged.study}: {plural(merged.trials_added, 'trial')} and {plural(merged.parts_added, 'trained part')} added, "
        f"{plural(merged.trials_in_both, 'trial')} in both"
    ]
    return "\n".join([*lines, *(f"  kept as it was: {text}" for text in merged.differing)])
