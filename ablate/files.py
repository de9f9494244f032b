"""Write files and folders that are there whole or not at all, even after a power cut.

The content is synced to the disk, then renamed into place, then the folder that holds the name is synced. Only then does the
caller go on: a database that says afterwards that the file is there is right for good. What a killed writer leaves behind is
hidden and ends in `.part`; `sweep` removes it."""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


def write_file(file: Path, *chunks: bytes) -> None:
    """Put `chunks` at `file`, in place of what is there.

    Raises:
        OSError: the disk is full or failing; what was there before is untouched.
    """
    make_folder(file.parent)
    part = _part_of(file)
    try:
        with part.open("xb") as opened:
            for chunk in chunks:
                opened.write(chunk)
            opened.flush()
            os.fsync(opened.fileno())
        part.replace(file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync(file.parent)


@contextmanager
def new_folder(folder: Path, keep: Callable[[], bool] = lambda: False) -> Iterator[Path]:
    """Yield an empty folder to fill, which then becomes `folder`, in place of what is there unless `keep()` says so.

    A kill between the two renames leaves no `folder` at all: fill it again."""
    make_folder(folder.parent)
    part = _part_of(folder)
    part.mkdir()
    try:
        yield part
        sync_tree(part)
        while not _renamed(part, folder) and not keep():
            # A rename replaces an empty folder only. Another process may have been faster each time.
            _remove(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it, unless they are there."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        sync(made.parent)


def sync_tree(folder: Path) -> None:
    """Make everything in a folder and below durable, whoever wrote it."""
    for place, _, names in os.walk(folder):
        for file in (Path(place, name) for name in names):
            # A pipe would be waited for.
            if file.is_file() and not file.is_symlink():
                sync(file)
        sync(Path(place))


def sweep(folder: Path) -> None:
    """Remove what killed writers left in a folder and below. The folder must be ours alone."""
    for part in list(folder.rglob(".*.part")):
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)


def _part_of(target: Path) -> Path:
    # A process's number may recur on another host that shares the folder.
    return target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.part")


def _renamed(part: Path, folder: Path) -> bool:
    try:
        part.rename(folder)
    except OSError:
        if not folder.exists():
            raise
        return False
    return True


def _remove(folder: Path) -> None:
    aside = _part_of(folder)
    try:
        folder.rename(aside)
    except FileNotFoundError:
        # Another process moved it first.
        return
    shutil.rmtree(aside, ignore_errors=True)


def sync(path: Path) -> None:
    """Make a file's content durable, or the names in a folder: those made, renamed and removed."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
