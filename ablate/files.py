"""Write files and folders atomically and durably: complete or absent, even after a power cut.

The content is synced to disk, then renamed into place, then the folder that holds the name is synced. Only then does the call
return, so that a database may record the file as present. A killed writer leaves only hidden files that end in `.part`; `sweep`
removes them. `refuse_other_kinds` refuses to put a database on anything but a file."""

import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ablate.errors import BadInput


def write_file(file: Path, *chunks: bytes) -> None:
    """Write `chunks` to `file`, replacing its content.

    Raises:
        OSError: the disk is full or failing; an existing file is left as it was.
    """
    with new_file(file) as opened:
        for chunk in chunks:
            opened.write(chunk)


@contextmanager
def new_file(file: Path) -> Iterator[BinaryIO]:
    """Yield a file to write to, which then replaces `file`; after an error, the old file is unchanged."""
    make_folder(file.parent)
    part = _part_of(file)
    try:
        with part.open("xb") as opened:
            yield opened
            opened.flush()
            os.fsync(opened.fileno())
        _put(part, file)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync(file.parent)


def _put(part: Path, file: Path) -> None:
    """Rename; an error names the file, not the one that was written first."""
    try:
        part.replace(file)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from error


@contextmanager
def new_folder(folder: Path, keep: Callable[[], bool] = lambda: False) -> Iterator[Path]:
    """Yield an empty folder to fill. It then replaces `folder`, unless `keep()` says to keep the existing one.

    A process killed between the two renames leaves no `folder` at all; the next one fills it again."""
    make_folder(folder.parent)
    part = _part_of(folder)
    part.mkdir()
    try:
        yield part
        sync_tree(part)
        while not _renamed(part, folder) and not keep():
            # rename() replaces only an empty folder. A loop, since another process may put a full one there again.
            _remove(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents, durably."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    # One after another: mkdir(parents=True) calls itself for each.
    for path in (*reversed(missing), folder):
        path.mkdir(exist_ok=True)
    for path in missing:
        sync(path.parent)


def sync_tree(folder: Path) -> None:
    """Make everything in a folder and below durable, whichever process wrote it."""
    for place, _, names in os.walk(folder):
        for file in (Path(place, name) for name in names):
            # Opening a pipe would block.
            if file.is_file() and not file.is_symlink():
                sync(file)
        sync(Path(place))


def sweep(folder: Path) -> None:
    """Remove the leftovers of killed writers in a folder and below. No other process may be writing there."""
    for part in list(folder.rglob(".*.part")):
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _part_of(target: Path) -> Path:
    # The process id alone is not unique: another host that shares the folder may use the same one.
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
        # Another process has moved it meanwhile.
        return
    shutil.rmtree(aside, ignore_errors=True)


def not_followed(path: str, flags: int) -> int:
    """Open a file, but do not follow a link (an opener for `open`)."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def sync(path: Path) -> None:
    """Sync to disk a file's content, or a folder's entries (what was created, renamed or removed in it)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def other_kind(mode: int) -> str:
    """Return the kind of file that `st_mode` describes: "a folder", "a pipe", "a device or a socket"; "" for a regular file."""
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISFIFO(mode):
        return "a pipe"
    return "" if stat.S_ISREG(mode) else "a device or a socket"


def refuse_no_folder(path: Path) -> None:
    """Refuse a path where a folder cannot be made, because something else is there.

    Raises:
        BadInput: it is a file, a pipe or a device, or a link that leads nowhere.
    """
    if path.is_dir() or not os.path.lexists(path):
        return
    kind = other_kind(path.stat().st_mode) or "a file" if path.exists() else "a link that leads nowhere"
    raise BadInput(f"{path}: {kind}, where a folder should be; move it away")


def refuse_other_kinds(file: Path, what: str = "the database", option: str = "--home or --storage") -> None:
    """Refuse a path that cannot be a file, such as a database.

    Opens nothing: a pipe would block, and closing a database would drop its locks.

    Raises:
        BadInput: it is a folder, a pipe or a device, or a link to nothing.
    """
    try:
        mode = file.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if file.is_symlink():
            gone = f"{file}: a link to {os.readlink(file)}, which is gone"
            raise BadInput(f"{gone}; put it back, or remove the link") from None
        return
    except (OSError, ValueError) as error:
        raise BadInput(f"{file}: {getattr(error, 'strerror', None) or error}; name another place") from error
    if kind := other_kind(mode):
        raise BadInput(f"{file}: {kind}, where {what} should be; move it away, or name another {option}")
