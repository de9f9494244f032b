"""`ablate delete`: remove a study's records and files. Smoke runs are removed by whatever needs their name."""

import shutil
from contextlib import closing

from ablate.errors import BadInput
from ablate.runner.ownership import marker_in, nobody_works_on, refuse_other_home
from ablate.store.places import HOME_MARKER, Place, place_in
from ablate.store.reading import has_run, is_smoke
from ablate.store.writing import Store


def delete_study(place: Place) -> None:
    """Delete a study's records and files.

    Raises:
        BadInput: it is running, or its files are in a different folder.
    """
    with closing(Store(place)) as store, nobody_works_on(store):
        # With --storage, the folder may belong to a study of the same name in another database.
        if agreed := store.home():
            refuse_other_home(store, agreed)
        store.delete()
    # The marker goes first: if deleting is interrupted, it would say that the study's results are in another database.
    (place.folder / HOME_MARKER).unlink(missing_ok=True)
    shutil.rmtree(place.folder)


def refuse_real_study(place: Place) -> None:
    """Raise BadInput if there is a study of this name that is not a smoke run."""
    if has_run(place) and not is_smoke(place):
        raise BadInput(
            f"--smoke: a study {place.study!r} that is not a smoke run already exists ({place.folder}); move it away"
        )


def forget_smoke(place: Place) -> None:
    """Remove a smoke run of this name from the database, and from the study.db in the folder; it may have tested older code.

    Raises:
        BadInput: it is still running.
    """
    beside = place_in(place.folder.parent, place.study)
    for found in dict.fromkeys((place, beside)):
        if not is_smoke(found):
            continue
        with closing(Store(found)) as store, nobody_works_on(store):
            # Otherwise the files are those of another run.
            are_its_files = store.home() in (None, marker_in(found.folder))
            store.delete()
            if are_its_files:
                (found.folder / HOME_MARKER).unlink(missing_ok=True)
                for folder in (found.folder / "trials", found.folder / "logs", found.prefix_folder):
                    shutil.rmtree(folder, ignore_errors=True)
        if found != place:
            (found.folder / "study.db").unlink()
