"""Interaction lines: the metric at each level of one factor, one line per level of another. Parallel: no interaction."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ablate.evidence.frames import Grid
from ablate.report.document import InteractionRow, Report
from ablate.report.formatting import p_text, signed
from ablate.report.plots.labels import plot_text
from ablate.report.plots.style import SERIES, Picture, draw
from ablate.report.sections.effects import clearest_first
from ablate.spec.designs import Full
from ablate.spec.model import Scalar, quoted_level
from ablate.text import plural, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

MAX_PANELS = 4


def interaction_lines(grid: Grid, report: Report) -> Picture | None:
    """Draw the strongest interactions on the primary metric; None if none can be estimated."""
    rows = sorted(
        (row for row in report.interactions if row.metric == grid.primary and len(row.factors) == 2),
        key=clearest_first,
    )
    pairs = list(dict.fromkeys(row.factors for row in rows))[:MAX_PANELS]
    if not pairs:
        return None
    levels = {f.name: [level.name for level in f.levels] for f in grid.results.spec.factors}
    lines = max(min(len(levels[name]) for name in pair) for pair in pairs)

    def paint(body: "SubFigure") -> None:
        axes = body.subplots(1, len(pairs), sharey=True, squeeze=False)[0]
        for axis, pair in zip(axes, pairs, strict=True):
            # The factor with fewer levels becomes the lines, the other one the ticks.
            second, first = sorted(reversed(pair), key=lambda name: len(levels[name]))
            _lines(axis, grid, first, levels[first], second, levels[second])
        axes[0].set_ylabel(plot_text(grid.primary, 30))

    all_pairs = len({row.factors for row in rows})
    first = "largest estimates" if rows[0].numbers.p is None else "smallest p"
    shown = (
        f" The {len(pairs)} of {all_pairs} pairs of factors with the {first}."
        if all_pairs > len(pairs)
        else ""
    )
    return draw(
        "interactions",
        2.6 + 0.13 * lines,
        paint,
        title=_title(rows[0]),
        caption=f"Mean of {grid.primary} over all cells and seeds with both levels ({plural(len(grid.cells), 'cell')}, "
        f"{plural(len(grid.seeds), 'seed')}); {_reading(grid)}.{shown} Exploratory.",
        alt="Interaction lines. "
        + " ".join(
            f"{' × '.join(row.factors)}: {row.numbers.delta}, p (BH) {p_text(row.p_bh)}."
            for row in rows[:MAX_PANELS]
        ),
        section="interactions",
    )


def _title(strongest: InteractionRow) -> str:
    names = " × ".join(shortened(name, 30) for name in strongest.factors)
    if strongest.p_bh is None:
        return f"Largest interaction: {names}, {signed(strongest.numbers.estimate)}; the noise is unknown"
    if strongest.p_bh < 0.05:
        return f"{names} interact: {signed(strongest.numbers.estimate)}"
    return "No interaction stands out from the noise"


def _reading(grid: Grid) -> str:
    """Return how to read the lines: means are balanced only if every cell of a regular design has run."""
    results = grid.results
    regular = isinstance(results.spec.design, Full) or results.resolution is not None
    if regular and np.isfinite(grid.values[grid.primary]).all():
        return "parallel lines: no interaction"
    return "cells are missing, so lines may diverge without an interaction: the table has the estimates"


def _lines(
    axis: "Axes", grid: Grid, first: str, ticks: Sequence[Scalar], second: str, lines: Sequence[Scalar]
) -> None:
    """Draw the mean at each of `ticks` of the factor `first`, a line for each of `lines` of the factor `second`."""
    values = grid.values[grid.primary]
    for place, other in enumerate(lines):
        means = []
        for level in ticks:
            rows = grid.rows_at({first: level, second: other})
            finite = values[rows][np.isfinite(values[rows])] if rows else np.array([])
            means.append(float(finite.mean()) if finite.size else math.nan)
        colour = SERIES[(place + 1) % len(SERIES)]
        axis.plot(
            range(len(means)),
            means,
            "o^sDv<>"[place % 7] + "-",
            color=colour,
            ms=4,
            lw=1.2,
            label=plot_text(quoted_level(other), 14),
        )
    names = [plot_text(quoted_level(level), 9) for level in ticks]
    crowded = sum(map(len, names)) > 24
    axis.set_xticks(range(len(ticks)), names, fontsize=7, rotation=90 if crowded else 0)
    axis.set_xlim(-0.3, len(ticks) - 0.7)
    axis.set_title(plot_text(first, 24), loc="left", fontsize=7.5)
    axis.legend(
        title=plot_text(second, 24),
        fontsize=6.5,
        title_fontsize=6.5,
        handlelength=1.8,
        alignment="left",
        loc="upper left",
        # Below the panel, where it hides no line.
        bbox_to_anchor=(-0.03, -0.42 if crowded else -0.13),
    )
    axis.tick_params(axis="both", length=0)
