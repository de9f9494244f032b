"""The curves of the trials that are running, over those of trials that are done."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.lines import Line2D

from ablate.report.formatting import number
from ablate.report.plots.curves import Curve, line_style, smooth, xy
from ablate.report.plots.labels import plot_text
from ablate.report.plots.style import GREY, Picture, draw
from ablate.report.sections.live import Live, RunningTrial
from ablate.store.results import Point, Results, TrialResult
from ablate.text import plural

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

MAX_TRIALS, MAX_DONE, MAX_PANELS = 7, 12, 2
# The most points of a line: more than there are pixels.
MOST_POINTS = 500

Curves = dict[str, Curve]  # metric -> curve


def running_curves(results: Results, live: Live) -> Picture | None:
    """Draw the curves that running trials have saved so far; None while there are none."""
    running = [(trial, _by_metric(trial.points)) for trial in live.trials[:MAX_TRIALS]]
    names = _panels([curves for _, curves in running], results.spec.metric.name)
    if not names:
        return None
    drawn = [(trial, curves) for trial, curves in running if curves.keys() & set(names)]
    last_done = sorted((t for t in results.trials if t.state == "COMPLETE"), key=lambda trial: -trial.number)
    last_done = last_done[:MAX_DONE]
    done = _curves_of(results, last_done)

    def paint(body: "SubFigure") -> None:
        panels = body.subplots(1, len(names), squeeze=False).flat
        for axis, name in zip(panels, names, strict=True):
            for curves in done:
                if name in curves:
                    axis.plot(*_line(name, curves[name]), color=GREY, lw=0.6, alpha=0.6)
            for place, (_, curves) in enumerate(drawn):
                if name in curves:
                    colour, line = line_style(place)
                    x, y = _line(name, curves[name])
                    axis.plot(x, y, color=colour, ls=line, lw=1.7, marker="o" if len(x) == 1 else None)
            axis.set_title(plot_text(name, 40), loc="left")
            axis.set_xlabel("step")
        body.legend(
            handles=[_handle(place, trial) for place, (trial, _) in enumerate(drawn)],
            loc="outside lower left",
            fontsize=7,
            handlelength=3.2,
        )

    return draw(
        "running",
        2.5 + 0.16 * len(drawn),
        paint,
        title=f"{names[0]} of {plural(len(drawn), 'running trial')}",
        caption=f"As of each trial's last checkpoint. Grey: the last {plural(len(last_done), 'trial')} done."
        if done
        else "As of each trial's last checkpoint.",
        alt="Curves of running trials. "
        + " ".join(
            f"Trial {trial.number} is at step {trial.step}"
            + "".join(f", {name} {number(xy(curves[name])[1][-1])}" for name in names if name in curves)
            + "."
            for trial, curves in drawn
        ),
        section="live",
    )


def _by_metric(points: Sequence[Point]) -> Curves:
    curves: Curves = defaultdict(dict)
    for point in points:
        curves[point.name][point.step] = point.value
    return dict(curves)


def _panels(running: Sequence[Curves], primary: str) -> list[str]:
    """Return at most two metrics: the dev metric and the other one (such as the loss) that most trials have."""
    counts: dict[str, int] = defaultdict(int)
    for curves in running:
        for name in curves:
            counts[name] += not name.startswith(("surgery/", "balancing/"))
    names = sorted(
        (name for name, trials in counts.items() if trials),
        key=lambda name: (not name.startswith("dev/"), -counts[name], name != primary, name),
    )
    return [*names[:1], *(name for name in names[1:] if not name.startswith("dev/"))][:MAX_PANELS]


def _curves_of(results: Results, trials: Sequence[TrialResult]) -> list[Curves]:
    """Return the curves of each part of some trials."""
    keys = {(part, trial.seed) for trial in trials for part in trial.parts.values()}
    points: dict[tuple[str, int], list[Point]] = defaultdict(list)
    for point in results.points({part for part, _ in keys}):
        if (point.part, point.seed) in keys:
            points[point.part, point.seed].append(point)
    return [_by_metric(points[key]) for key in sorted(points)]


def _line(name: str, curve: Curve) -> tuple[list[int], list[float]]:
    steps, values = xy(curve if name.startswith("dev/") else smooth(curve))
    every = max(1, len(steps) // MOST_POINTS)
    # Always keep the last point.
    return steps[::-1][::every][::-1], values[::-1][::every][::-1]


def _handle(place: int, trial: RunningTrial) -> Line2D:
    colour, line = line_style(place)
    label = plot_text(f"trial {trial.number}, seed {trial.seed}: {trial.cell}", 110)
    return Line2D([], [], lw=1.7, label=label, color=colour, ls=line)
