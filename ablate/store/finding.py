"""Find a study that has run, from the STUDY argument."""

import os
from pathlib import Path

from ablate.errors import BadInput
from ablate.store.places import HOME_MARKER, Place, home_folder, place_in, place_of, storage_url
from ablate.text import closest


def find_study(typed: str | None, home: Path | None = None, storage: str | None = None) -> Place:
    """Return the place of a study that has run, from a path to its YAML, its name, or nothing when there is only one.

    Raises:
        BadInput: there is no such study, or nothing was typed and there are several.
    """
    root = home_folder(home)
    name = _only_study(root, storage_url(storage)) if typed is None else _study_name(typed)
    place = place_of(name, home, storage)
    if not place.exists():
        if (place.folder / HOME_MARKER).exists():
            raise BadInput(
                f"STUDY: the results of {name!r} in {root} are in another database; set ABLATE_STORAGE to its address"
            )
        close = closest(name, names_in(root))
        file = typed if typed and looks_like_path(typed) else "FILE.yaml"
        hint = f"did you mean {close!r}?" if close else f"run it first: ablate run {file}"
        # The default home is relative to the working directory.
        elsewhere = (
            "" if close or home else " (or, if it ran from another folder, go there or name its --home)"
        )
        raise BadInput(f"STUDY: {name!r} has no results in {root.absolute()}; {hint}{elsewhere}")
    return place


def _only_study(root: Path, url: str | None) -> str:
    """Return the name of the only study in the database at `url`, or in the home if there is no `url`.

    A smoke run does not count beside studies."""
    where, names = str(root), names_in(root)
    if url is not None or len(names) > 1:
        # Imported here, since a database library takes a while to load.
        from ablate.store.reading import is_smoke, study_names
        from ablate.store.urls import without_password

        if url is not None:
            where, names = without_password(url), study_names(url)
        if len(names) > 1:
            places = {name: Place(name, url, root) if url else place_in(root, name) for name in names}
            names = [name for name, place in places.items() if not is_smoke(place)] or names
    if len(names) != 1:
        held = "contains no study; `ablate run STUDY` starts one"
        if names:
            held = f"contains {', '.join(names)}; name one"
        raise BadInput(f"STUDY: none named, and {where} {held}")
    return names[0]


def looks_like_path(typed: str) -> bool:
    """Return whether the STUDY argument means a file rather than a name."""
    return typed.endswith((".yaml", ".yml")) or "/" in typed or os.sep in typed


def names_in(root: Path) -> list[str]:
    """Return the studies that have a file of their own in a home."""
    return sorted(file.parent.name for file in root.glob("*/study.db")) if root.is_dir() else []


def _study_name(typed: str) -> str:
    if not looks_like_path(typed):
        return typed
    # Imported here, since YAML takes a while to load.
    from ablate.spec.reading import read_study

    return read_study(Path(typed)).study
