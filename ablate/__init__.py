"""Ablation studies for training: which choices help, by how much, how sure we are, and at what cost."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

    from ablate.store.places import Place

__version__ = "0.1.0"
__all__ = ["Study", "open_study"]


class Study:
    """A study that has been run, opened for reading."""

    def __init__(self, place: "Place") -> None:
        self.place = place

    def results(self) -> "pandas.DataFrame":
        """Return one row per trial as of now: cell, seed, number, state, each factor, each metric, seconds."""
        from ablate.evidence.frames import tidy_frame
        from ablate.store.reading import read_results

        return tidy_frame(read_results(self.place))


def open_study(study: str, home: Path | None = None, storage: str | None = None) -> Study:
    """Open a study by its name or the path of its YAML; `home` and `storage` as on the command line.

    Raises:
        BadInput: there is no such study.
    """
    from ablate.store.finding import find_study

    return Study(find_study(study, home, storage))
