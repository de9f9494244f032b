"""What bundles and merged homes copy: the records of a study, and the files of trained parts."""

import re
from contextlib import closing
from pathlib import Path
from typing import Any

from ablate.runner.ownership import share_home
from ablate.store.creating import create_study
from ablate.store.places import Place
from ablate.store.snapshot import Snapshot, add_results, add_study
from ablate.store.writing import Store

# Files that are useless once a part is trained.
_OF_A_RUN = re.compile(r"step-.*\.checkpoint|reached\.txt|running\.lock|trained-with\.json|\..*\.part")


def create_from(place: Place, snapshot: Snapshot) -> None:
    """Create a study with everything that a snapshot of it records."""

    def insert(connection: Any) -> None:
        study_id = add_study(connection, snapshot)
        add_results(connection, study_id, snapshot, snapshot.trained.keys(), snapshot.finished.keys())

    create_study(place, insert)
    with closing(Store(place)) as store:
        share_home(store)


def files_to_keep(folder: Path) -> list[Path]:
    """Return the files of a trained part, without those that are useless once it is trained."""
    return [
        file
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.is_symlink() and not _OF_A_RUN.fullmatch(file.name)
    ]
