"""The pictures of a report, in the order of its sections."""

from collections.abc import Mapping
from typing import Any

from ablate.evidence.frames import Grid
from ablate.report.plots.curves import learning_curves
from ablate.report.plots.design import design_map
from ablate.report.plots.forest import forest
from ablate.report.plots.interactions import half_normal, interaction_lines
from ablate.report.plots.seeds import paired_seeds
from ablate.report.plots.style import Picture, style
from ablate.report.plots.surgery import task_gradients
from ablate.report.plots.tradeoffs import tradeoff_scatter


def pictures(grid: Grid, document: Mapping[str, Any]) -> list[Picture]:
    """Draw what the data support; a study without results has no pictures of any."""
    with style():
        drawn = [
            forest(document),
            paired_seeds(grid, document),
            interaction_lines(grid, document),
            half_normal(document),
            tradeoff_scatter(document),
            learning_curves(grid, document),
            task_gradients(grid, document),
            design_map(grid, document),
        ]
    return [picture for picture in drawn if picture]
