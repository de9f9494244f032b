"""Where things live: from what a user typed to a study's database and folder."""

import os
from dataclasses import dataclass
from pathlib import Path

from ablate.errors import BadInput
from ablate.text import closest


@dataclass(frozen=True)
class Place:
    """Where one study keeps its trials and its files."""

    study: str
    url: str  # of the database
    folder: Path  # of artifacts

    @property
    def cache(self) -> Path:
        """Where trials share what is worth computing once."""
        return self.folder / "cache"

    def part_folder(self, part: str, seed: int) -> Path:
        """Return where a part keeps its files: named by hash and seed, never by user text."""
        return self.folder / "trials" / f"{part}-{seed}"

    def exists(self) -> bool:
        """Say whether there is a database to open; a server is always there to be asked."""
        if self.url == _own_file_url(self.folder):
            return (self.folder / "study.db").is_file()
        # A database library takes a while to load.
        from ablate.store.engine import sqlite_file

        file = sqlite_file(self.url)
        return file is None or file.is_file()


def _own_file_url(folder: Path) -> str:
    return _file_url(folder / "study.db")


def _file_url(file: Path) -> str:
    return "sqlite:///" + str(file).replace("%", "%25").replace("?", "%3F")


def home_folder(home: Path | None) -> Path:
    """Return the folder of all studies: the one given, ABLATE_HOME, or `runs`."""
    return home or Path(os.environ.get("ABLATE_HOME") or "runs")


def place_of(study: str, home: Path | None = None, storage: str | None = None) -> Place:
    """Return where the study of this name lives, whether or not it has run."""
    folder = home_folder(home).resolve() / study
    return Place(study, _storage_url(storage) or _own_file_url(folder), folder)


def _storage_url(storage: str | None) -> str | None:
    """Return the URL of the database that was named, by option or environment; a file's is made absolute."""
    url = storage or os.environ.get("ABLATE_STORAGE")
    if not url:
        return None
    from ablate.store.engine import sqlite_file

    file = sqlite_file(url)
    return url if file is None else _file_url(file.resolve())


def find_study(typed: str | None, home: Path | None = None, storage: str | None = None) -> Place:
    """Return the place of a study that has run, from a path to its YAML, its name, or nothing when there is only one.

    Raises:
        BadInput: there is no such study, or nothing was typed and there are several.
    """
    root = home_folder(home)
    name = _only_study(root, _storage_url(storage)) if typed is None else _study_name(typed)
    place = place_of(name, home, storage)
    if not place.exists():
        close = closest(name, _names(root))
        file = typed if typed and looks_like_path(typed) else "FILE.yaml"
        hint = f"did you mean {close!r}?" if close else f"run it first: ablate run {file}"
        raise BadInput(f"STUDY: {name!r} has no results in {root}; {hint}")
    return place


def _only_study(root: Path, url: str | None) -> str:
    """Return the name of the only study in the database at `url`, or in the home where none was named."""
    where, names = str(root), _names(root)
    if url is not None:
        from ablate.store.engine import without_password
        from ablate.store.reading import study_names

        where, names = without_password(url), study_names(url)
    if len(names) != 1:
        held = (
            f"holds {', '.join(names)}; name one"
            if names
            else "holds no study; `ablate run STUDY` starts one"
        )
        raise BadInput(f"STUDY: none named, and {where} {held}")
    return names[0]


def looks_like_path(typed: str) -> bool:
    """Say whether what was typed for STUDY means a file and not a name."""
    return typed.endswith((".yaml", ".yml")) or "/" in typed or os.sep in typed


def _names(root: Path) -> list[str]:
    return sorted(file.parent.name for file in root.glob("*/study.db")) if root.is_dir() else []


def _study_name(typed: str) -> str:
    if not looks_like_path(typed):
        return typed
    from ablate.spec.reading import read_study

    return read_study(Path(typed)).study
