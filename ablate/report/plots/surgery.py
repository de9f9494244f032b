"""Gradient surgery: the cosine between task gradients over training, and how many pairs were projected."""

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ablate.evidence.frames import Grid
from ablate.report.formatting import MINUS
from ablate.report.plots.labels import plot_text
from ablate.report.plots.style import SERIES, Picture, draw
from ablate.text import plural

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

MAX_PARTS = 200
COSINE, PROJECTED = "surgery/cosine.", "surgery/projected"
ORTHOGONAL = 0.05  # mean cosines closer to 0 than this count as orthogonal

Series = dict[int, list[float]]  # step -> the values of all parts and seeds


def task_gradients(grid: Grid) -> Picture | None:
    """Draw the mean over all parts and seeds that recorded these curves; None if none did."""
    series: dict[str, Series] = defaultdict(lambda: defaultdict(list))
    runs: set[tuple[str, int]] = set()
    for point in grid.results.points(_some_parts(grid)):
        if point.name.startswith((COSINE, PROJECTED)) and math.isfinite(point.value):
            series[point.name][point.step].append(point.value)
            runs.add((point.part, point.seed))
    cosines = sorted(name for name in series if name.startswith(COSINE))
    if not cosines:
        return None
    means = {name: _mean(values) for name, values in series.items()}
    parts = {part for part, _ in runs}

    def paint(body: "SubFigure") -> None:
        axes = body.subplots(1, 2 if PROJECTED in series else 1, squeeze=False)[0]
        for place, name in enumerate(cosines):
            steps = sorted(means[name])
            colour, line = SERIES[place % len(SERIES)], ("-", "--", "-.", ":")[place % 4]
            axes[0].plot(
                steps,
                [means[name][s] for s in steps],
                line,
                color=colour,
                lw=1.2,
                label=plot_text(_pair(name), 34),
            )
        axes[0].axhline(0, color="0.4", lw=0.8)
        axes[0].set_title("cosine between task gradients", loc="left")
        axes[0].set_xlabel("step")
        handles, labels = axes[0].get_legend_handles_labels()
        body.legend(handles, labels, loc="outside lower left", ncols=3, fontsize=7, handlelength=3.2)
        if PROJECTED in series:
            steps = sorted(means[PROJECTED])
            axes[1].plot(steps, [means[PROJECTED][s] for s in steps], color=SERIES[0], lw=1.2)
            axes[1].set_title("share of projected pairs", loc="left")
            axes[1].set_xlabel("step")
            axes[1].set_ylim(-0.03, 1.03)

    averages = {name: _average(means[name]) for name in series}
    return draw(
        "surgery",
        2.5,
        paint,
        title=_title(averages, cosines),
        caption=f"Mean over {plural(len(runs), 'training run')} that recorded these curves, of {plural(len(parts), 'part')} "
        "with different settings. Where the cosine is below 0, two tasks pull in opposite directions on the shared encoder, "
        "which surgery corrects.",
        alt="Cosines between task gradients. "
        + " ".join(f"{_pair(name)}: mean {_cosine(averages[name])}." for name in cosines),
        section="curves",
        table=(
            ["tasks", "mean cosine", "steps below 0"],
            [[_pair(name), _cosine(averages[name]), _share_below_0(series[name])] for name in cosines],
        ),
    )


def _title(averages: Mapping[str, float], cosines: list[str]) -> str:
    """Return a title that names the pair that agrees least, unless all pairs are close to orthogonal."""
    share = f"; {100 * averages[PROJECTED]:.0f} % of pairs were projected" if PROJECTED in averages else ""
    lowest, highest = (pick(cosines, key=averages.__getitem__) for pick in (min, max))
    if max(map(abs, (averages[lowest], averages[highest]))) < ORTHOGONAL:
        return f"Task gradients are close to orthogonal (mean cosines within ±{ORTHOGONAL}){share}"
    return (
        f"Task gradients agree least between {_pair(lowest)} (mean cosine {_cosine(averages[lowest])}){share}"
    )


def _pair(name: str) -> str:
    return name.removeprefix(COSINE).replace(".", " and ")


def _cosine(value: float) -> str:
    return f"{round(value, 3) + 0.0:.3f}".replace("-", MINUS)  # −0 is 0


def _share_below_0(series: Series) -> str:
    values = [value for at_step in series.values() for value in at_step]
    return f"{100 * sum(value < 0 for value in values) / len(values):.0f} %"


def _some_parts(grid: Grid) -> list[str]:
    """Return all parts, or an even selection if there are very many: the mean looks the same."""
    parts = sorted({part for part, _ in grid.results.parts})
    return parts[:: math.ceil(len(parts) / MAX_PARTS) or 1]


def _mean(series: Series) -> dict[int, float]:
    return {step: math.fsum(values) / len(values) for step, values in series.items()}


def _average(curve: dict[int, float]) -> float:
    return math.fsum(curve.values()) / len(curve)
