"""Paired dots: both sides of a choice for every seed, joined, and the difference on a separate axis beside them.

Gardner & Altman 1986 (BMJ 292, 746); Ho et al. 2019 (DABEST)."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ablate.evidence.contrasts import contrasts, same_level, side_means
from ablate.evidence.effects import Kind
from ablate.evidence.frames import Grid
from ablate.report.document import Change, Numbers, Report
from ablate.report.formatting import number, signed
from ablate.report.phrases import METHODS
from ablate.report.plots.forest import mark_of
from ablate.report.plots.labels import change_label, plot_text
from ablate.report.plots.style import GREY, Picture, draw
from ablate.spec.model import quoted_level
from ablate.stats.verdicts import Verdict
from ablate.text import plural, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

MAX_PANELS, COLUMNS = 12, 4


@dataclass(frozen=True)
class _Panel:
    change: Change
    numbers: Numbers
    estimate: float
    verdict: Verdict
    low: NDArray[np.float64]  # [seeds], NaN where a side is missing
    high: NDArray[np.float64]  # [seeds]


def paired_seeds(grid: Grid, report: Report) -> Picture | None:
    """Draw each primary effect seed by seed; None until some seed has both sides of one."""
    panels = _panels(grid, report)
    shown = panels[:MAX_PANELS]
    if not shown:
        return None
    lines = math.ceil(len(shown) / COLUMNS)
    columns = math.ceil(len(shown) / lines)
    points = np.concatenate([side for panel in shown for side in (panel.low, panel.high)])
    ends = [float(np.nanmean(p.low)) + end for p in shown for end in p.numbers.ci95 or ()]
    bottom, top = _range(points, ends)

    def paint(body: "SubFigure") -> None:
        axes = list(body.subplots(lines, columns, sharey=True, squeeze=False).flat)
        for axis, panel in zip(axes, shown, strict=False):
            _paint(axis, panel, bottom, top)
        for spare in axes[len(shown) :]:
            spare.set_visible(False)
        for left in axes[::columns]:
            left.set_ylabel(plot_text(grid.primary, 30))

    strongest = max(shown, key=lambda panel: abs(panel.estimate))
    left_out = (
        f" The first {len(shown)} of {plural(len(panels), 'choice')}." if len(panels) > len(shown) else ""
    )
    return draw(
        "seeds",
        2.3 * lines,
        paint,
        title=f"The largest shift in {grid.primary}: {_named(strongest)} {_agreement(strongest)}",
        caption="One dot per seed and side (the mean over matched cells if there are several), joined by seed. "
        f"To their right, the difference with its 95 % interval ({METHODS[strongest.numbers.method]}) on the same scale, "
        f"with 0 at the mean of the left side.{left_out}",
        alt="Paired dots per seed. "
        + " ".join(
            f"{panel.change.text}: {', '.join(signed(d, _differences(panel).tolist()) for d in _differences(panel).tolist())}."
            for panel in shown
        ),
        section="seeds",
        table=(
            ["change", *(f"seed {seed}" for seed in grid.seeds)],
            [[panel.change.text, *_sides(panel)] for panel in shown],
        ),
    )


def _sides(panel: _Panel) -> list[str]:
    pairs = zip(panel.low, panel.high, strict=True)
    return [f"{number(low)} → {number(high)}" if math.isfinite(high - low) else "–" for low, high in pairs]


def _named(panel: _Panel) -> str:
    level = shortened(quoted_level(panel.change.high), 40)
    return f"{shortened(panel.change.factor, 40)} → {level}, {signed(panel.estimate)}"


def _panels(grid: Grid, report: Report) -> list[_Panel]:
    panels = []
    known = contrasts(grid)
    for row in report.primary_effects:
        change, estimate = row.change, row.numbers.estimate
        if row.kind is Kind.SLOPE or estimate is None:
            continue
        contrast = next(
            c
            for c in known
            if c.factor == change.factor and same_level(c.high, change.high) and same_level(c.low, change.low)
        )
        low, high = side_means(grid, contrast, grid.primary)
        if np.isfinite(high - low).any():
            panels.append(_Panel(change, row.numbers, estimate, row.judged.verdict, low, high))
    return panels


def _differences(panel: _Panel) -> NDArray[np.float64]:
    differences = panel.high - panel.low
    return differences[np.isfinite(differences)]


def _agreement(panel: _Panel) -> str:
    differences = _differences(panel)
    if len(differences) == 1:
        return "(one seed)"
    same = int((np.sign(differences) == np.sign(panel.estimate)).sum())
    return f"({same} of {len(differences)} seeds in that direction)"


def _range(points: NDArray[np.float64], ends: list[float]) -> tuple[float, float]:
    """Return the limits of both axes: all dots, extended for the intervals by at most the dots' range on each side.

    Without that bound, the interval of two seeds would dwarf the dots."""
    low, high = float(np.nanmin(points)), float(np.nanmax(points))
    reach = (high - low) or abs(high) * 0.01 or 1.0
    bottom = max(min([low, *ends]), low - reach)
    top = min(max([high, *ends]), high + reach)
    # An axis of no length cannot be drawn.
    margin = 0.06 * (top - bottom) or 0.06 * abs(top) or 0.06
    return bottom - margin, top + margin


def _paint(axis: "Axes", panel: _Panel, bottom: float, top: float) -> None:
    left, right, delta = 0.0, 1.25, 2.25
    for low, high in zip(panel.low, panel.high, strict=True):
        axis.plot(
            [left, right],
            [low, high],
            color=GREY,
            lw=0.8,
            marker="o",
            ms=3.5,
            mfc="0.35",
            mec="white",
            mew=0.5,
        )
    marker, colour, filled = mark_of(panel.verdict, panel.estimate)
    start = float(np.nanmean(panel.low))
    axis.plot([left, delta + 0.5], [start, start], color="0.75", lw=0.7, ls="--", zorder=0)
    end = start + panel.estimate
    if panel.numbers.ci95:
        axis.plot([delta, delta], [start + bound for bound in panel.numbers.ci95], color=colour, lw=1.6)
    axis.plot(delta, end, marker=marker, ms=6, mec=colour, mfc=colour if filled else "white")
    axis.set_xlim(left - 0.5, delta + 0.5)
    axis.set_ylim(bottom, top)
    axis.set_xticks([left, right, delta], ["from", "to", "Δ"], fontsize=7)
    axis.grid(axis="x", visible=False)
    when = [f"when {panel.change.when}"] if panel.change.when else []
    lines = [
        plot_text(panel.change.factor, 27),
        change_label(panel.change, 27),
        *(plot_text(w, 27) for w in when),
    ]
    axis.set_title("\n".join(lines), loc="left", fontsize=7)
    axis.tick_params(axis="both", length=0)
    scale = axis.secondary_yaxis(
        "right", functions=(lambda y: np.asarray(y) - start, lambda d: np.asarray(d) + start)
    )
    scale.tick_params(labelsize=6, length=2)
    scale.yaxis.set_major_locator(MaxNLocator(4))
