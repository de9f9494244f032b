"""The pictures of a report, in the order of its sections."""

from collections.abc import Mapping
from typing import Any

from ablate.report.frames import Grid
from ablate.report.plot_curves import learning_curves
from ablate.report.plot_forest import forest
from ablate.report.plot_seeds import paired_seeds
from ablate.report.plot_style import Picture, style


def pictures(grid: Grid, document: Mapping[str, Any]) -> list[Picture]:
    """Draw what the data support; a study without results has no pictures."""
    with style():
        drawn = [forest(document), paired_seeds(grid, document), learning_curves(grid, document)]
    return [picture for picture in drawn if picture]
