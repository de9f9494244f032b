"""Learning curves of a few cells: thin lines for seeds, a thick line for their mean."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.lines import Line2D

from ablate.evidence.frames import Grid
from ablate.report.document import CellRow, Report
from ablate.report.formatting import distinct, number
from ablate.report.phrases import reference_name
from ablate.report.plots.labels import plot_text
from ablate.report.plots.style import SERIES, Picture, draw
from ablate.text import plural, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

MAX_CELLS, MAX_PANELS = 7, 4

_LINES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))

Curve = dict[int, float]  # step -> value
Curves = dict[tuple[str, str, int], Curve]  # (metric, cell, seed) -> curve


def learning_curves(grid: Grid, report: Report) -> Picture | None:
    """Draw the dev curves of the reference, the best and the most different cells; None without curves."""
    curves = _curves(grid, _shown_cells(report))
    # The first panel gives the title.
    names, chosen = _panels(grid, curves), _chosen_steps(grid, curves)
    if not names:
        return None
    drawn = {cell for name, cell, _ in curves if name in names}
    cells = [cell for cell in report.cells if cell.cell in drawn]
    ends = [[_end(curves, name, cell.cell, grid.seeds) for name in names] for cell in cells]
    first = [of_cell[0] for of_cell in ends]
    columns = len(names) if len(names) < 4 else 2
    lines = math.ceil(len(names) / columns)

    side_by_side = len(cells) > 1 and max(len(cell.name) for cell in cells) <= 52

    def paint(body: "SubFigure") -> None:
        panels = list(body.subplots(lines, columns, squeeze=False).flat)
        labels = distinct([cell.name for cell in cells], plot_text, 52 if side_by_side else 110)
        for axis, name in zip(panels, names, strict=True):
            _panel(axis, name, [cell.cell for cell in cells], curves, chosen, grid.seeds)
            axis.set_title(plot_text(name, 26 if columns > 2 else 40), loc="left")
        styles = map(line_style, range(len(labels)))
        handles = [
            Line2D([], [], lw=1.7, label=label, color=colour, ls=line)
            for label, (colour, line) in zip(labels, styles, strict=True)
        ]
        body.legend(
            handles=handles,
            loc="outside lower left",
            ncols=2 if side_by_side else 1,
            fontsize=7,
            handlelength=3.2,
        )

    return draw(
        "curves",
        0.3 + 2.2 * lines + 0.16 * math.ceil(len(cells) / (2 if side_by_side else 1)),
        paint,
        title=_title(
            names[0], [cell.name for cell in cells], first, grid.sign if names[0] == grid.primary else 1
        ),
        caption=(
            "Thin: one seed each; thick: their mean at steps that all seeds have."
            if names[0].startswith("dev/")
            else "Mean over seeds, smoothed: each value is the mean of the last points up to it (a twentieth of all points)."
        )
        + f" {plural(len(cells), 'cell')} of {len(report.cells)}"
        + _which(cells, report)
        + f" Each mean is over the seeds that the cell has, up to {len({seed for *_, seed in curves})}; equal curves are drawn "
        "once. Steps are optimizer steps of the part."
        + (" Diamonds: the step whose scores are reported." if chosen else ""),
        alt="Learning curves. "
        + " ".join(
            f"{cell.name} ends at {names[0]} {number(end)}."
            for cell, end in zip(cells, first, strict=True)
            if end is not None
        ),
        section="curves",
        table=(
            ["where the thick line ends", *names],
            [[cell.name, *map(number, of_cell)] for cell, of_cell in zip(cells, ends, strict=True)],
        ),
    )


def _which(cells: Sequence[CellRow], report: Report) -> str:
    """Return which cells are drawn, if not all of them are."""
    if len(cells) == len(report.cells):
        return "."
    reference = reference_name(report.design.kind)
    return f": of those with curves, the {reference}, the best, then those with the fewest changed levels."


def _shown_cells(report: Report) -> set[str]:
    """Return the cells to show: reference, best, then those with the fewest changed factors, the largest difference first."""

    def rank(cell: CellRow) -> tuple[bool, bool, int, float]:
        difference = cell.difference.get(report.metric.name)
        size = abs(difference.numbers.estimate or 0.0) if difference else 0.0
        return not cell.reference, not cell.best, cell.name.count("="), -size

    return {cell.cell for cell in sorted(report.cells, key=rank)[:MAX_CELLS]}


def _curves(grid: Grid, cells: set[str]) -> Curves:
    """Return the curves of `cells`; those of a cell's unfinished trials only if none has finished, since they end too early."""
    finished = {trial.cell for trial in grid.trials.values() if trial.state == "COMPLETE"}
    users: dict[tuple[str, int], list[str]] = defaultdict(list)
    for (row, _), trial in grid.trials.items():
        if grid.cells[row].hash in cells and (trial.state == "COMPLETE" or trial.cell not in finished):
            for part in trial.parts.values():
                users[part, trial.seed].append(trial.cell)
    curves: Curves = defaultdict(dict)
    for point in grid.results.points({part for part, _ in users}):
        if math.isfinite(point.value):
            for cell in users.get((point.part, point.seed), ()):
                curves[point.name, cell, point.seed][point.step] = point.value
    return curves


def _chosen_steps(grid: Grid, curves: Curves) -> dict[tuple[str, int], int]:
    """Return {(cell, seed): the step whose scores the trial reports}, if the trainer chose one (there are `…@last` metrics)."""
    chosen = {}
    for (row, _), trial in grid.trials.items():
        names = [name for name in trial.metrics if f"{name}@last" in trial.metrics]
        candidates = [
            {step for step, value in curve.items() if math.isclose(value, trial.metrics[name], rel_tol=1e-9)}
            for name in names
            if (curve := curves.get((name, grid.cells[row].hash, trial.seed)))
        ]
        if candidates and (steps := set.intersection(*candidates)):
            chosen[trial.cell, trial.seed] = min(steps)
    return chosen


def _panels(grid: Grid, curves: Curves) -> list[str]:
    """Return the names of the dev metrics' curves, those with the most cells first, the primary metric first among equals.

    Without any dev curve: all curves except those of surgery and balancing."""
    names = sorted({name for (name, _, _), curve in curves.items() if len(curve) > 1})
    dev = [name for name in names if name.startswith("dev/")] or [
        n for n in names if not n.startswith(("surgery/", "balancing/"))
    ]
    cells = {name: len({cell for other, cell, _ in curves if other == name}) for name in dev}
    return sorted(dev, key=lambda name: (-cells[name], name != grid.primary))[:MAX_PANELS]


def _panel(
    axis: "Axes",
    name: str,
    cells: list[str],
    curves: Curves,
    chosen: Mapping[tuple[str, int], int],
    seeds: Iterable[int],
) -> None:
    drawn: list[list[Curve]] = []
    for place, cell in enumerate(cells):
        of_cell = [curve for seed in seeds if (curve := curves.get((name, cell, seed)))]
        if not of_cell or of_cell in drawn:
            continue
        drawn.append(of_cell)
        colour, line = line_style(place)
        for curve in of_cell if name.startswith("dev/") else ():
            axis.plot(*xy(curve), color=colour, lw=0.6, alpha=0.45)
        for seed in seeds:
            step, curve = chosen.get((cell, seed)), curves.get((name, cell, seed), {})
            if step in curve:
                axis.plot(step, curve[step], "D", ms=3.5, mec=colour, mfc="white", mew=0.9, zorder=3)
        mean = _thick(name, of_cell)
        axis.plot(*xy(mean), lw=1.7, marker="o" if len(mean) == 1 else None, color=colour, ls=line)
    axis.set_xlabel("step")


def line_style(index: int) -> tuple[Any, Any]:
    """Return the colour and the dashes of a cell's line."""
    return SERIES[index % len(SERIES)], _LINES[index % len(_LINES)]


def _mean(curves: list[Curve]) -> Curve:
    if not curves:
        return {}
    common = sorted(set.intersection(*(set(curve) for curve in curves)))
    return {step: math.fsum(curve[step] for curve in curves) / len(curves) for step in common}


def _thick(name: str, curves: list[Curve]) -> Curve:
    return _mean(curves) if name.startswith("dev/") else smooth(_mean(curves))


def smooth(curve: Curve) -> Curve:
    """Return the running mean over a twentieth of the points: the loss of single batches is noisy."""
    steps, values = xy(curve)
    width = max(1, len(steps) // 20)
    return {steps[i]: math.fsum(values[i - width + 1 : i + 1]) / width for i in range(width - 1, len(steps))}


def xy(curve: Curve) -> tuple[list[int], list[float]]:
    """Return the steps of a curve in order, and its values."""
    steps = sorted(curve)
    return steps, [curve[step] for step in steps]


def _end(curves: Curves, name: str, cell: str, seeds: Iterable[int]) -> float | None:
    mean = _thick(name, [curve for seed in seeds if (curve := curves.get((name, cell, seed)))])
    return mean[max(mean)] if mean else None


def _title(metric: str, names: list[str], ends: list[float | None], sign: int) -> str:
    ended = [(name, end) for name, end in zip(names, ends, strict=True) if end is not None]
    if not ended or not metric.startswith("dev/"):
        return f"No curve of a dev metric was recorded: training losses of {plural(len(names), 'cell')}"
    some = f", recorded in {len(ended)} of {plural(len(names), 'cell')}," if len(ended) < len(names) else ""
    # Cells that share a part end at the same value: the first of them is named.
    name, end = max(ended, key=lambda pair: sign * pair[1])
    where = "highest" if sign > 0 else "lowest"
    return f"{metric}{some} ends {where} with {shortened(name, 70)} ({number(end)})"
