"""Commands for the installation and for whole studies: doctor, merge, delete, upgrade, import, schema."""

import json
import sys
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from ablate.cli.options import Home, Json, Storage, StudyName, StudyOrName
from ablate.cli.printing import complain, say, show


def doctor(home: Home = None, storage: Storage = None) -> None:
    """Show what works on this machine, and how to fix the rest. Checks GPU, driver, torch, disk, hub and database, and
    prints the next command to type.

    Example: ablate doctor
    """
    from ablate.runner.doctor import examine, findings_text, next_command
    from ablate.store.places import home_folder

    root = home_folder(home)
    findings_text(examine(root, storage), say)
    say(f"\nnext: {next_command(Path(), root)}")


def delete(
    study: StudyName,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    home: Home = None,
    storage: Storage = None,
) -> None:
    """Delete a study's records and files.

    Example: ablate delete quickstart-smoke
    """
    from ablate.runner.deleting import delete_study
    from ablate.store.finding import find_study
    from ablate.store.reading import read_results

    place = find_study(study, home, storage)
    trials = sum(trial.state == "COMPLETE" for trial in read_results(place).trials)
    if not yes and not _is_sure(f"Delete {place.study!r} with {trials} complete trials, in {place.folder}?"):
        complain("nothing was deleted; --yes deletes without asking")
        raise typer.Exit(1)
    delete_study(place)
    say(f"{place.study}: deleted")


def _is_sure(question: str) -> bool:
    try:
        return typer.confirm(question, err=True)
    # End of input, or Ctrl-C.
    except typer.Abort:
        print(file=sys.stderr)
        return False


def upgrade(study: StudyOrName = None, home: Home = None, storage: Storage = None) -> None:
    """Upgrade a study's database from an older version. For an SQLite file, `ablate run` does this too.

    A copy of an SQLite file is kept next to it. Back up a PostgreSQL database first (pg_dump).

    Example: ablate upgrade full_grid
    """
    from ablate.store.finding import find_study
    from ablate.store.writing import Store

    with closing(Store(find_study(study, home, storage), agreed=True)) as store:
        say(store.upgraded or f"{store.place.study}: its database is already up to date")


def merge(
    first: Annotated[Path, typer.Argument(metavar="HOME_A", help="The home to merge into.")],
    second: Annotated[Path, typer.Argument(metavar="HOME_B", help="Another home; it is only read.")],
    keep_first: Annotated[
        bool,
        typer.Option("--keep-first", help="Where results differ, keep those of HOME_A instead of refusing."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Merge the studies of two homes. HOME_A gets the trials that only HOME_B has.

    Example: ablate merge runs /mnt/other_machine/runs
    """
    from ablate.report.as_json import to_json
    from ablate.runner.merging import merge_homes, merged_text

    merged = list(merge_homes(first, second, keep_first))
    show({"merged": to_json(merged)}, "\n".join(map(merged_text, merged)), as_json)


def import_(
    bundle: Annotated[
        Path, typer.Argument(metavar="BUNDLE", help="A file that `ablate export --bundle` wrote.")
    ],
    home: Home = None,
    storage: Storage = None,
) -> None:
    """Open a study that was packed into one file. The home and the database need not be the original ones.

    Example: ablate import quickstart.zip --home runs
    """
    from ablate.runner.bundles import unpack

    place = unpack(bundle, home, storage)
    say(f"{place.study}: in {place.folder}")


def schema() -> None:
    """Print the JSON Schema of the study file."""
    from ablate.spec.schema import json_schema

    say(json.dumps(json_schema(), indent=2))
