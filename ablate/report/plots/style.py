"""What all pictures share: size, colours, and rendering that gives the same bytes every time.

Figures are made without pyplot, so that making a report in a notebook leaves the notebook's settings alone."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.figure import Figure, SubFigure

from ablate.report.plots.labels import wrapped

WIDTH_INCHES = 7.2
DPI = 200

Table = tuple[Sequence[str], Sequence[Sequence[str]]]  # head, rows
# The sections in which the templates show pictures; `live` is on the page of a running study only.
Section = Literal[
    "says", "design", "cells", "effects", "seeds", "interactions", "noise", "tradeoffs", "curves", "examples", "ledger", "cost",
    "live",
]  # fmt: skip

_OKABE_ITO = matplotlib.color_sequences["okabe_ito"]
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILLION, PURPLE = _OKABE_ITO
GREY = (0.55, 0.55, 0.55)
SERIES = (BLACK, BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)  # in the order that is easiest to distinguish

_STYLE: dict[Any, Any] = {
    # Comes with matplotlib: the same letters on every machine.
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "axes.edgecolor": "0.4",
    "axes.facecolor": "none",
    "axes.grid": True,
    "grid.color": "0.92",
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "figure.facecolor": "white",
    # Without a salt, ids in the SVG are random.
    "svg.hashsalt": "ablate",
    "svg.fonttype": "path",
    "text.usetex": False,
}


@dataclass(frozen=True)
class Picture:
    """One figure as files, with its title, caption and alternative text."""

    name: str  # the name of its files, without suffix
    title: str  # the finding
    caption: str  # numbers of cells and seeds, method, meaning of the marks
    alt: str  # what the picture shows, for people who cannot see it
    section: Section  # the section of the report that shows it
    files: dict[str, bytes]
    table: Table | None = None  # the numbers in the picture, unless a table of the section has them


@contextmanager
def style() -> Iterator[None]:
    """Draw with our settings and none of the user's matplotlibrc."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def draw(
    name: str,
    body_inches: float,
    paint: Callable[[SubFigure], None],
    *,
    title: str,
    caption: str,
    alt: str,
    section: Section,
    table: Table | None = None,
) -> Picture:
    """Let `paint` fill the body of a figure, put the title above it, and render it as PNG and SVG.

    The caption is text under the picture, not in it. The SVG has no background, so that it fits dark pages too.
    """
    heading = wrapped(title, 82)
    heights = [0.08 + 0.18 * (heading.count("\n") + 1), body_inches]
    figure = Figure(figsize=(WIDTH_INCHES, sum(heights)), layout="constrained")
    top, body = figure.subfigures(2, 1, squeeze=False, height_ratios=heights).flat
    top.text(0.01, 0.92, heading, ha="left", va="top", fontsize=10, fontweight="bold")
    paint(body)
    _lay_out(figure)
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    figure.savefig(svg, format="svg", facecolor="none", metadata={"Date": None, "Creator": None})
    files = {f"{name}.png": png.getvalue(), f"{name}.svg": svg.getvalue()}
    return Picture(name, title, caption, alt, section, files, table)


def _lay_out(figure: Figure) -> None:
    """Lay out once, and round positions: the solver's last digits vary from run to run, and would change ids in the SVG."""
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)
    figure.set_layout_engine(None)
    for part in figure.subfigs:
        part.bbox_relative.set_points(np.round(part.bbox_relative.get_points(), 5))
    for axis in figure.axes:
        axis.set_position([round(edge, 5) for edge in axis.get_position().bounds])  # type: ignore[arg-type]
