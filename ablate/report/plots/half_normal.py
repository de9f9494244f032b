"""The half-normal plot of an unreplicated two-level design (Daniel 1959): effects off the line are more than noise."""

from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from ablate.evidence.models import Margins
from ablate.report.document import Report
from ablate.report.formatting import number, signed
from ablate.report.plots.labels import plot_text
from ablate.report.plots.style import BLACK, BLUE, Picture, draw
from ablate.text import listed, plural

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

MOST_CONTRASTS = 15  # the largest, in the table under the plot


def half_normal(report: Report) -> Picture | None:
    """Draw the contrasts of an unreplicated two-level design; None for other designs."""
    row = next((row for row in report.lenth if row.metric == report.metric.name), None)
    if row is None:
        return None
    sizes = sorted((abs(value), name) for name, value in row.contrasts.items())
    quantiles = special.ndtri(0.5 + 0.5 * (np.arange(1, len(sizes) + 1) - 0.5) / len(sizes))
    active = [name for size, name in sizes if size > row.me]

    def paint(body: "SubFigure") -> None:
        axis = body.subplots()
        top = float(quantiles[-1]) * 1.05
        axis.plot([0, top * row.pse], [0, top], color="0.6", lw=0.8)
        for bound, label in ((row.me, "ME"), (row.sme, "SME")):
            axis.axvline(bound, color="0.5", lw=0.8, ls="--")
            axis.text(bound, top, f" {label}", fontsize=7, va="top", color="0.35")
        for (size, name), quantile in zip(sizes, quantiles, strict=True):
            beyond = size > row.me
            axis.plot(
                size, quantile, "o", ms=4.5, mec=BLUE if beyond else BLACK, mfc=BLUE if beyond else "white"
            )
            if beyond:
                axis.annotate(
                    plot_text(name, 40),
                    (size, quantile),
                    (-6, 0),
                    textcoords="offset points",
                    ha="right",
                    va="center",
                    fontsize=7,
                )
        axis.set_xlim(0, 1.08 * max(sizes[-1][0], row.sme))
        axis.set_ylim(0, top)
        axis.set_xlabel(f"size of the effect on {plot_text(row.metric, 40)}")
        axis.set_ylabel("half-normal quantile")

    return draw(
        "half_normal",
        3.2,
        paint,
        title=f"{listed(reversed(active), 3) or 'None'} of {plural(len(sizes), 'contrast')} beyond the margin of error",
        caption=f"{plural(len(sizes) + 1, 'cell')}, each run once. Line: what noise alone would give (Lenth's pseudo "
        f"standard error {number(row.pse)}). ME: margin of error of one effect; SME: of all together.",
        alt=f"Half-normal plot. Beyond the margin of error: {', '.join(active) or 'none'}.",
        section="interactions",
        table=(
            ["contrast", "effect", "beyond"],
            [
                [n, signed(row.contrasts[n]), _beyond(size, row)]
                for size, n in sizes[: -1 - MOST_CONTRASTS : -1]
            ],
        ),
    )


def _beyond(size: float, row: Margins) -> str:
    return "SME" if size > row.sme else "ME" if size > row.me else ""
