"""The trade-off plot: each cell at its values of two metrics, with a cross for the two intervals."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ablate.report.document import CellRow, Report, Tradeoff
from ablate.report.formatting import number
from ablate.report.phrases import reference_name
from ablate.report.plots.labels import plot_text
from ablate.report.plots.style import BLACK, BLUE, GREY, Picture, draw
from ablate.spec.model import quoted_level
from ablate.text import plural, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

MAX_METRICS = 3  # three pairs
CROWDED = 20  # cells; with more, only the reference and the best get their crosses


def tradeoff_scatter(report: Report) -> Picture | None:
    """Draw the cells by each pair of exploratory metrics; None with fewer than two such metrics or three cells."""
    metrics = _metrics(report)
    pairs = [(x, y) for i, x in enumerate(metrics) for y in metrics[i + 1 :]]
    cells = [cell for cell in report.cells if all(math.isfinite(_mean(cell, m)) for m in metrics)]
    if not pairs or len(cells) < 3:
        return None

    def paint(body: "SubFigure") -> None:
        axes = body.subplots(1, len(pairs), squeeze=False)[0]
        for axis, (x, y) in zip(axes, pairs, strict=True):
            _panel(axis, cells, x, y)

    of_two = " of the two that are marked" if len(cells) > CROWDED else ""
    return draw(
        "tradeoffs",
        2.6 if len(pairs) > 1 else 3.4,
        paint,
        title=_title(report.tradeoffs),
        caption=f"One mark per cell, the mean over seeds; {plural(len(cells), 'cell')}. Crosses: 95 % intervals{of_two}. "
        f"Square: the {reference_name(report.design.kind)}; triangle: the best by {report.metric.name}. Numbers: section 4.",
        alt="Cells by pairs of metrics. "
        + " ".join(
            f"{cell.name}: {', '.join(f'{m} {number(_mean(cell, m))}' for m in metrics)}."
            for cell in cells[:12]
        ),
        section="tradeoffs",
    )


def _mark(cell: CellRow) -> tuple[str, Any]:
    return ("s", BLACK) if cell.reference else ("^", BLUE) if cell.best else ("o", GREY)


def _metrics(report: Report) -> list[str]:
    metrics = dict.fromkeys(row.metric for row in report.effects if row.role == "exploratory")
    return list(metrics)[:MAX_METRICS]


def _mean(cell: CellRow, metric: str) -> float:
    """The mean over seeds, NaN where there is none."""
    over_seeds = cell.metrics.get(metric)
    return math.nan if over_seeds is None or over_seeds.mean is None else over_seeds.mean


def _panel(axis: "Axes", cells: Sequence[CellRow], x: str, y: str) -> None:
    crowded = len(cells) > CROWDED
    special = [cell for cell in cells if cell.reference or cell.best]
    plain = [cell for cell in cells if not (cell.reference or cell.best)]
    for cell in special if crowded else cells:
        for metric, other, line in ((x, y, axis.hlines), (y, x, axis.vlines)):
            if bounds := cell.metrics[metric].ci95:
                line(
                    _mean(cell, other),
                    *bounds,
                    color=_mark(cell)[1],
                    lw=0.8,
                    alpha=0.6,
                    zorder=2.5 if crowded else 1,
                )
    axis.plot(
        [_mean(c, x) for c in plain], [_mean(c, y) for c in plain], "o", ms=4, mfc=GREY, mec="white", mew=0.5
    )
    for cell in special:
        marker, colour = _mark(cell)
        axis.plot(_mean(cell, x), _mean(cell, y), marker, ms=5.5, mfc=colour, mec="white", mew=0.5, zorder=3)
    axis.set_xlabel(plot_text(x, 26))
    axis.set_ylabel(plot_text(y, 26))
    axis.locator_params(nbins=5)


def _title(tradeoffs: Sequence[Tradeoff]) -> str:
    if not tradeoffs:
        return "No choice has been shown to raise one metric and lower another"
    first = tradeoffs[0]
    up, down = (shortened(next(iter(side)), 30) for side in (first.raises, first.lowers))
    change = f"{shortened(first.change.factor, 40)} → {shortened(quoted_level(first.change.high), 30)}"
    return f"{change} raises {up} and lowers {down}"
