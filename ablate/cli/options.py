"""Arguments and options that several commands share, and how their values are parsed."""

import re
from pathlib import Path
from typing import Annotated

import typer

from ablate.cli.printing import complain
from ablate.errors import BadInput
from ablate.text import is_utf8, shown, split_list


def warn_of_password(option: str, url: str, instead: str) -> None:
    """Warn of a password in an argument."""
    if "@" in url and ":" in url.partition("://")[2].rpartition("@")[0]:
        complain(
            f"{option}: other users of this machine can read a password in an argument; set {instead} instead"
        )


def _storage_typed(url: str | None) -> str | None:
    warn_of_password("--storage", url or "", "ABLATE_STORAGE")
    return url


def _utf8(typed: list[str]) -> list[str]:
    for text in typed:
        if not is_utf8(text):
            raise BadInput(f"{shown(text)}: not valid UTF-8; type it again")
    return typed


def _studies(incomplete: str) -> list[str]:
    """Return the shell's completions: studies that have run here, and study files."""
    from ablate.store.places import home_folder

    names = [file.parent.name for file in home_folder(None).glob("*/study.db")]
    files = [
        str(file)
        for file in Path().glob(f"{incomplete}*")
        if file.is_dir() or file.suffix in (".yaml", ".yml")
    ]
    return sorted(name for name in {*names, *files} if name.startswith(incomplete))


Study = Annotated[Path, typer.Argument(metavar="STUDY", help="The study file.", show_default=False)]
StudyOrName = Annotated[
    str | None,
    typer.Argument(
        metavar="STUDY",
        help="A study file, or the name of a study that has run. [default: the only one]",
        show_default=False,
        autocompletion=_studies,
    ),
]
StudyName = Annotated[
    str,
    typer.Argument(
        metavar="STUDY", help="A study file, or the name of a study that has run.", autocompletion=_studies
    ),
]
Home = Annotated[
    Path | None, typer.Option(help="Folder that holds all studies. [env: ABLATE_HOME; default: runs]")
]
Storage = Annotated[
    str | None,
    typer.Option(
        help="Database URL, instead of an SQLite file in the home. [env: ABLATE_STORAGE]",
        show_default=False,
        callback=_storage_typed,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Decimal = Annotated[
    str | None,
    typer.Option(metavar=".|,", help="The decimal mark. [default: detected in the file]", show_default=False),
]
SmallestEffect = Annotated[float | None, typer.Option(help="The smallest difference that matters.")]
Set = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a setting that is not a factor. May be repeated.",
        callback=_utf8,
    ),
]
Only = Annotated[
    list[str],
    typer.Option(
        metavar="FACTOR=LEVEL",
        help="Only cells with this level, or `baseline`, or `best` (the study file's, not the best score). Repeated: cells that "
        "meet all of them.",
        callback=_utf8,
    ),
]


def count(option: str, typed: str) -> int | None:
    """Return a number of at least 1, or None for `auto`."""
    if typed == "auto":
        return None
    if not re.fullmatch("0*[1-9][0-9]{0,8}", typed):
        raise BadInput(f"{option}: found {shown(typed)}; write a number, 1 or more, or auto")
    return int(typed)


def names(option: str, typed: str) -> list[str]:
    """Return the names in a comma-separated list; a name with commas is in double quotes."""
    columns = split_list(typed)
    if not all(columns):
        raise BadInput(f"{option}: found {typed!r}; write column names with commas between them")
    return columns


def assignments(option: str, typed: str) -> dict[str, str]:
    """Return {factor: level} from a comma-separated list of `FACTOR=LEVEL`; one with commas is in double quotes."""
    pairs = [item.partition("=") for item in split_list(typed) if typed]
    if not all(name.strip() and equals for name, equals, _ in pairs):
        raise BadInput(f"{option}: found {typed!r}; write FACTOR=LEVEL with commas between them")
    levels = {name.strip(): level.strip() for name, _, level in pairs}
    if len(levels) < len(pairs):
        raise BadInput(f"{option}: found {typed!r}; name each factor once")
    return levels
