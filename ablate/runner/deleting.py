"""`ablate delete`: remove a study's records and files."""

import shutil
from contextlib import closing

from ablate.runner.ownership import nobody_works_on, refuse_other_home
from ablate.store.places import HOME_MARKER, Place
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
    # First, since it says that the results of what is left of the folder are in another database.
    (place.folder / HOME_MARKER).unlink(missing_ok=True)
    shutil.rmtree(place.folder)
