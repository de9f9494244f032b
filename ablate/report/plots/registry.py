"""The pictures of a report, in the order of its sections."""

from ablate.evidence.frames import Grid
from ablate.report.document import Report
from ablate.report.plots.curves import learning_curves
from ablate.report.plots.design import design_map
from ablate.report.plots.forest import forest
from ablate.report.plots.half_normal import half_normal
from ablate.report.plots.interactions import interaction_lines
from ablate.report.plots.seeds import paired_seeds
from ablate.report.plots.style import Picture, style
from ablate.report.plots.surgery import task_gradients
from ablate.report.plots.tradeoffs import tradeoff_scatter


def pictures(grid: Grid, report: Report) -> list[Picture]:
    """Draw the pictures that the data support."""
    with style():
        drawn = [
            forest(report),
            paired_seeds(grid, report),
            interaction_lines(grid, report),
            half_normal(report),
            tradeoff_scatter(report),
            learning_curves(grid, report),
            task_gradients(grid),
            design_map(grid, report),
        ]
    return [picture for picture in drawn if picture]
