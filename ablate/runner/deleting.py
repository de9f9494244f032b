"""`ablate delete`: remove a study's records and files."""

import shutil
from contextlib import closing

from ablate.runner.ownership import nobody_works_on
from ablate.store.places import Place
from ablate.store.writing import Store


def delete_study(place: Place) -> None:
    """Delete a study's records and files.

    Raises:
        BadInput: it is running.
    """
    with closing(Store(place)) as store, nobody_works_on(store):
        store.delete()
    shutil.rmtree(place.folder)
