"""Where a study lives: its database and its folder."""

import os
from dataclasses import dataclass
from pathlib import Path

from ablate.errors import BadInput
from ablate.files import refuse_other_kinds
from ablate.text import is_utf8, shown

# The file in a study's folder that ties it to the one database with its results.
HOME_MARKER = "home.id"
SMOKE = "-smoke"  # ends the name of a study of `ablate run --smoke`


@dataclass(frozen=True)
class Place:
    """The database and the folder of one study."""

    study: str
    url: str  # of the database
    folder: Path  # of artifacts

    @property
    def cache(self) -> Path:
        """The folder for what trials share, such as tokenised text."""
        return self.folder / "cache"

    def part_folder(self, part: str, seed: int) -> Path:
        """Return where a part keeps its files: named by hash and seed, never by user text."""
        return self.folder / "trials" / f"{part}-{seed}"

    def error_file(self, cell: str, seed: int) -> Path:
        """Return where the traceback of a failed trial is."""
        return self.folder / "trials" / f"{cell}-{seed}" / "error.txt"

    def log_folder(self, part: str, seed: int) -> Path:
        """Return where the logs of the attempts at a part are."""
        return self.folder / "logs" / f"{part}-{seed}"

    @property
    def prefix_folder(self) -> Path:
        """The folder for the ends of prefixes that parts still have to continue from."""
        return self.folder / "prefixes"

    @property
    def is_in_folder(self) -> bool:
        """Whether the database is the file in the study's own folder."""
        return self.url == _own_file_url(self.folder)

    def exists(self) -> bool:
        """Return whether there is a database to open; true for any server."""
        if self.is_in_folder:
            return (self.folder / "study.db").is_file()
        # Imported here, since a database library takes a while to load.
        from ablate.store.urls import sqlite_file

        file = sqlite_file(self.url)
        return file is None or file.is_file()


def _own_file_url(folder: Path) -> str:
    return _file_url(folder / "study.db")


def _file_url(file: Path) -> str:
    return "sqlite:///" + str(file).replace("%", "%25").replace("?", "%3F")


def home_folder(home: Path | None) -> Path:
    """Return the folder of all studies: the one given, ABLATE_HOME, or `runs`; it need not exist.

    Raises:
        BadInput: the path cannot be a folder.
    """
    root = home or Path(os.environ.get("ABLATE_HOME") or "runs")
    if not str(root).strip():
        raise BadInput(f"--home: found {str(root)!r}; name a folder, or leave ABLATE_HOME unset")
    # A loop of links raises OSError or RuntimeError, depending on Python's version; a NUL raises ValueError.
    try:
        if not is_utf8(str(root.resolve())):
            raise ValueError("its path is not UTF-8, which databases need")
        # A plain file at this path is reported like any other error of the file system.
        is_other = root.exists() and not root.is_dir() and not root.is_file()
    except (OSError, RuntimeError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise BadInput(f"--home: {shown(str(root))}: {why}; name another folder") from error
    if is_other:
        raise BadInput(f"--home: {root}: a pipe, a device or a socket; name a folder")
    return root


def place_of(study: str, home: Path | None = None, storage: str | None = None) -> Place:
    """Return where the study of this name lives, whether or not it has run.

    Raises:
        BadInput: the home cannot be a folder, or something else is where the database should be.
    """
    folder, url = home_folder(home).resolve() / study, storage_url(storage)
    if url is None:
        refuse_other_kinds(folder / "study.db")
    return Place(study, url or _own_file_url(folder), folder)


def place_in(home: Path, study: str) -> Place:
    """Return the place of a study with its own file in a home, whatever ABLATE_STORAGE says."""
    folder = home.resolve() / study
    return Place(study, _own_file_url(folder), folder)


def storage_url(storage: str | None) -> str | None:
    """Return the database URL from the option or the environment (absolute, if it is a file); None if there is none."""
    url = storage or os.environ.get("ABLATE_STORAGE")
    if not url:
        return None
    from ablate.store.urls import sqlite_file

    file = sqlite_file(url)
    if file is None:
        return url
    refuse_other_kinds(file)
    return _file_url(file.resolve())
