"""The design map: the state of every cell × seed."""

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from ablate.evidence.frames import MISSING, SPARED, Grid
from ablate.report.document import Report
from ablate.report.formatting import distinct
from ablate.report.plots.labels import plot_text
from ablate.report.plots.style import BLUE, ORANGE, SKY, VERMILLION, Picture, draw
from ablate.report.sections.cells import cell_name
from ablate.report.sections.ledger import without_result
from ablate.text import plural

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

NAMED_CELLS = 30  # with more, rows have no names

# state -> colour, the letter in its square, a word
_STATES: dict[str, tuple[Any, str, str]] = {
    "COMPLETE": (BLUE, "", "done"),
    "RUNNING": (SKY, "r", "running"),
    "WAITING": ("0.88", "w", "waiting"),
    "PRUNED": (ORANGE, "p", "pruned"),
    "FAIL": (VERMILLION, "F", "failed"),
    SPARED: ("0.96", "", "not needed"),
    MISSING: ("white", "–", "missing"),
}


def design_map(grid: Grid, report: Report) -> Picture | None:
    """Draw the state of every trial; None for a finished study, where it would show nothing."""
    states = grid.states
    if states.size == 0 or np.isin(states, ["COMPLETE", SPARED]).all():
        return None
    kinds = list(_STATES)
    codes = np.array(
        [[kinds.index(state) if state in kinds else len(kinds) - 1 for state in row] for row in states]
    )
    named = len(grid.cells) <= NAMED_CELLS

    def paint(body: "SubFigure") -> None:
        axis = body.subplots()
        colours = ListedColormap([_STATES[kind][0] for kind in kinds])
        axis.imshow(
            codes, cmap=colours, vmin=-0.5, vmax=len(kinds) - 0.5, aspect="auto", interpolation="nearest"
        )
        axis.set_xticks(range(len(grid.seeds)), [str(seed) for seed in grid.seeds])
        axis.set_xlabel("seed")
        axis.grid(visible=False)
        # Lines between the squares.
        if named:
            for edge in range(1, len(grid.cells)):
                axis.axhline(edge - 0.5, color="white", lw=1)
            for edge in range(1, len(grid.seeds)):
                axis.axvline(edge - 0.5, color="white", lw=1)
        shown = [_STATES[kinds[code]] for code in np.unique(codes)]
        patches = [
            Patch(fc=c, ec="0.6", label=f"{word}{f' ({letter})' if letter else ''}")
            for c, letter, word in shown
        ]
        body.legend(handles=patches, loc="outside lower left", ncols=len(patches), fontsize=7)
        if named:
            names = [cell_name(grid, row) for row in range(len(grid.cells))]
            axis.set_yticks(range(len(names)), distinct(names, plot_text, 48), fontsize=7)
            for (row, column), code in np.ndenumerate(codes):
                axis.text(column, row, _STATES[kinds[code]][1], ha="center", va="center", fontsize=7)
        else:
            axis.set_ylabel("cell, in design order")

    counts = report.progress
    unfinished = ", ".join(f"{count} {state}" for state, count in without_result(counts).items() if count)
    return draw(
        "design",
        0.8 + (0.2 * len(grid.cells) if named else 4.0),
        paint,
        title=f"{counts.complete} of {plural(counts.planned, 'trial')} done{'; ' if unfinished else ''}{unfinished}",
        caption=f"One square per cell and seed. {report.design.raw_cells} combinations of levels make "
        f"{plural(len(grid.cells), 'cell')}.",
        alt=f"Map of {plural(len(grid.cells), 'cell')} by {plural(len(grid.seeds), 'seed')}: "
        f"{counts.complete} done{', ' if unfinished else ''}{unfinished}.",
        section="ledger",
    )
