"""Studies packed into one file, and opened elsewhere."""

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
from contextlib import closing
from dataclasses import asdict
from itertools import compress
from pathlib import Path

from ablate.errors import BadInput
from ablate.files import new_file, new_folder
from ablate.runner.bundle_bounds import MOST_CONTENT, refuse_bomb, refuse_long_directory
from ablate.runner.copying import create_from, files_to_keep
from ablate.runner.deleting import forget_smoke
from ablate.runner.ownership import refuse_anothers_files, share_home
from ablate.store import tables
from ablate.store.places import Place, place_in, place_of
from ablate.store.reading import has_run, is_smoke, read_results
from ablate.store.snapshot import FINISHED, Snapshot, take_snapshot
from ablate.store.urls import sqlite_file, without_password
from ablate.store.writing import Store
from ablate.tables import refuse_no_file
from ablate.text import one_line, shortened, shown

CONTENT = "study.json"  # the file in a bundle with everything but the files of trained parts
# Limits of a path below the study's folder, in characters, and of each name in it, in bytes.
LONGEST_PATH, LONGEST_NAME = 2000, 255
_HASH = re.compile("[0-9a-f]{12}")
_FILE = re.compile(r"trials/[0-9a-f]{12}-[0-9]+/(?:[^/\0]+/)*[^/\0]+")


def pack(place: Place, bundle: Path, models: bool) -> list[Path]:
    """Write a study into one file: its records, predictions, tracebacks, and the files of its `models` if requested.

    Return the folders of trained parts that are missing.
    """
    snapshot = take_snapshot(place)
    folders = [place.part_folder(*key) for key in sorted(snapshot.trained)]
    tracebacks = [place.error_file(*key) for key, row in snapshot.finished.items() if row["state"] == "FAIL"]
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
            file for folder in folders for file in files_to_keep(folder if models else folder / "predictions")
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
    if has_run(place) and not is_smoke(place):
        is_file = sqlite_file(place.url) is not None
        raise BadInput(
            f"{bundle}: {place.study!r} already exists ({place.folder if is_file else without_password(place.url)}); "
            + (
                "import it into another --home, and `ablate merge` the two"
                if is_file
                else "import it into another database (ABLATE_STORAGE)"
            )
        )
    forget_smoke(place)
    refuse_anothers_files(place)
    with zipfile.ZipFile(bundle) as packed, new_folder(place.folder / "trials") as folder:
        if sum(packed.getinfo(name).file_size for name in names) > shutil.disk_usage(folder).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place.folder))
        for name in names:
            file = folder / Path(name).relative_to("trials")
            file.parent.mkdir(parents=True, exist_ok=True)
            with packed.open(name) as source, file.open("xb") as target:
                shutil.copyfileobj(source, target)
    create_from(place, snapshot)
    with closing(Store(place)) as store:
        share_home(store)
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
            f"{bundle}: written by ablate {written_by}, whose tables have version {version}; the ablate installed here reads up "
            f"to version {tables.SCHEMA_VERSION}; use the version that wrote it"
        )
    try:
        snapshot = Snapshot(**content)
        _refuse_foreign(snapshot)
        # A dry run in a scratch folder, so that a bad row is found before anything is written.
        with tempfile.TemporaryDirectory() as scratch:
            place = place_in(Path(scratch), snapshot.spec.study)
            create_from(place, snapshot)
            read_results(place)
    except MemoryError:
        raise
    except Exception as error:
        cause = error.__cause__ or error
        problem = f"{type(cause).__name__}: {shortened(one_line(cause))}"
        raise BadInput(f"{bundle}: its {CONTENT} is damaged ({problem}); export the study again") from error
    return snapshot


def _refuse_constant(name: str) -> None:
    """Refuse NaN and infinity, which Python would read."""
    raise ValueError(f"{name} in it")


def _refuse_foreign(snapshot: Snapshot) -> None:
    """Refuse states that we do not write, and malformed hashes, which would name folders."""
    if other := {row["state"] for row in snapshot.trials} - {*FINISHED, "WAITING"}:
        raise ValueError(f"{shown(min(other))} is not a state")
    parts = [part.hash for cell in snapshot.design for part in cell.parts.values()]
    for name in (*parts, *(cell.hash for cell in snapshot.design), *(key[0] for key in snapshot.trained)):
        if not _HASH.fullmatch(name):
            raise ValueError(f"{shown(name)} is not a hash")


def _may_hold(name: str) -> bool:
    """Return whether a bundle may hold a file of this name; file systems bound the length of names and paths."""
    steps = name.split("/")
    is_short = len(name) <= LONGEST_PATH and all(len(os.fsencode(step)) <= LONGEST_NAME for step in steps)
    return bool(_FILE.fullmatch(name)) and ".." not in steps and is_short
