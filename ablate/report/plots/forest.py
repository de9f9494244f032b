"""The forest plot: every factor's effect with its interval, one panel per metric."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.ticker import MaxNLocator

from ablate.evidence.effects import Kind
from ablate.report.document import EffectRow, Report
from ablate.report.phrases import METHODS, verdict_text
from ablate.report.plots.labels import change_label, plot_text
from ablate.report.plots.style import BLACK, BLUE, GREY, VERMILLION, Picture, draw
from ablate.stats.verdicts import Verdict
from ablate.text import plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

MAX_ROWS, MAX_PANELS = 40, 4
LABEL = 34  # characters
CAVEAT = "†"

_COLOURS: dict[Verdict, Any] = {
    Verdict.HELPS: BLUE,
    Verdict.HURTS: VERMILLION,
    Verdict.RAISES: BLACK,
    Verdict.LOWERS: BLACK,
    Verdict.NO_DIFFERENCE: GREY,
    Verdict.INCONCLUSIVE: BLACK,
}


def forest(report: Report) -> Picture | None:
    """Draw the effects; None when nothing can be compared yet."""
    primary = report.metric.name
    metrics = list(dict.fromkeys(row.metric for row in report.effects if row.numbers.estimate is not None))
    if not metrics:
        return None
    shown = metrics[:MAX_PANELS]
    rows_of = {m: [row for row in report.effects if row.metric == m][:MAX_ROWS] for m in shown}
    changes = rows_of[shown[0]]
    smallest = {metric: report.metric.smallest_effect if metric == primary else None for metric in shown}
    limits = {metric: _limit(rows_of[metric], smallest[metric]) for metric in shown}

    def paint(body: "SubFigure") -> None:
        axes = body.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for axis, metric in zip(axes, shown, strict=True):
            _panel(axis, rows_of[metric], smallest[metric], limits[metric])
            weight = "bold" if metric == primary and len(shown) > 1 else "normal"
            axis.set_title(plot_text(metric, 20), loc="left", fontsize=8, fontweight=weight)
            axis.xaxis.set_major_locator(MaxNLocator(2 if len(shown) > 2 else 6, symmetric=True))
        axes[0].set_yticks(range(len(changes)), [_label(row) for row in changes])
        axes[0].set_ylim(len(changes) - 0.4, -0.6)

    clipped = any(abs(end) > limits[m] for m in shown for row in rows_of[m] for end in row.numbers.ci95 or ())
    return draw(
        "forest",
        0.6 + 0.36 * len(changes),
        paint,
        title=_finding(changes) if shown[0] == primary else "What each choice does to each metric",
        caption=_caption(report, rows_of[shown[0]], clipped, left_out=len(metrics) - len(shown)),
        alt=f"Forest plot of {shown[0]} with 95 % intervals. "
        + " ".join(
            f"{row.text}: {row.numbers.delta} {row.numbers.interval}, {verdict_text(row.judged, row.numbers.estimate)}."
            for row in changes
        ),
        section="says",
    )


def mark_of(verdict: Verdict, estimate: float) -> tuple[str, Any, bool]:
    """Return a verdict's marker (up, down or undecided), its colour, and whether it is filled."""
    undirected = {Verdict.NO_DIFFERENCE: "s", Verdict.INCONCLUSIVE: "o"}
    marker = undirected.get(verdict) or ("^" if estimate > 0 else "v")
    return marker, _COLOURS[verdict], verdict != Verdict.INCONCLUSIVE


def _panel(axis: "Axes", rows: Sequence[EffectRow], smallest: float | None, limit: float) -> None:
    if smallest:
        axis.axvspan(-smallest, smallest, color="0.90", lw=0, zorder=0)
    axis.axvline(0, color="0.3", lw=0.8, zorder=1)
    for place, row in enumerate(rows):
        estimate, ci95 = row.numbers.estimate, row.numbers.ci95
        if estimate is None:
            continue
        marker, colour, filled = mark_of(row.judged.verdict, estimate)
        if ci95:
            low, high = ci95
            axis.plot([max(low, -limit), min(high, limit)], [place, place], color=colour, lw=1.3, zorder=2)
            for out, edge, arrow in ((low < -limit, -limit, "<"), (high > limit, limit, ">")):
                if out:
                    axis.plot(0.97 * edge, place, marker=arrow, ms=4, color=colour, clip_on=False, zorder=3)
        axis.plot(
            estimate,
            place,
            marker=marker,
            ms=5.5,
            mec=colour,
            mfc=colour if filled else "white",
            ls="",
            zorder=4,
        )
    axis.set_xlim(-limit, limit)
    axis.grid(axis="y", visible=False)
    axis.tick_params(axis="y", length=0)


def _limit(rows: Sequence[EffectRow], smallest: float | None) -> float:
    """Return half the width of a panel.

    It is four times the largest estimate, or more if the narrowest interval needs it, or less if everything fits. Wider
    intervals are cut off: those of two seeds (t = 12.7) would dwarf the estimates."""
    numbers = [row.numbers for row in rows]
    largest = max((abs(n.estimate) for n in numbers if n.estimate is not None), default=0.0)
    reaches = [max(map(abs, n.ci95)) for n in numbers if n.ci95]
    enough = max(4 * max(largest, smallest or 0.0), min(reaches, default=0.0))
    return 1.08 * min(max([*reaches, largest, smallest or 0.0]), enough) or 1.0


def _finding(rows: Sequence[EffectRow]) -> str:
    """Return the largest effect that is shown; the headline of the page counts them."""
    decided = [row for row in rows if row.judged.verdict in (Verdict.HELPS, Verdict.HURTS)]
    if not decided:
        return f"No choice has been shown to help or to hurt {plot_text(rows[0].metric, LABEL)}"
    row = max(decided, key=lambda row: abs(row.numbers.estimate or 0.0))
    factor, metric = (plot_text(name, LABEL) for name in (row.change.factor, row.metric))
    return f"Largest clear effect: {factor}, {change_label(row.change, LABEL)}: {metric} {row.numbers.delta}"


def _label(row: EffectRow) -> str:
    change = row.change
    when = f" ({change.when})" if change.when else ""
    slope = " (slope)" if row.kind is Kind.SLOPE else ""
    caveat = f" {CAVEAT}" if row.judged.is_reserved else ""
    return f"{plot_text(change.factor + when + slope, LABEL)}{caveat}\n{change_label(change, LABEL)}"


def _caption(report: Report, rows: Sequence[EffectRow], clipped: bool, left_out: int) -> str:
    estimated = [row.numbers for row in rows if row.numbers.estimate is not None]
    counts = sorted({numbers.n for numbers in estimated})
    seeds = f"{counts[0]}–{counts[-1]} seeds" if len(counts) > 1 else plural(counts[0], "seed")
    cells = plural(sum(cell.seeds_done > 0 for cell in report.cells), "cell")
    methods = " / ".join(sorted({METHODS[numbers.method] for numbers in estimated if numbers.ci95}))
    sentences = [f"Difference with 95 % interval; {cells}, {seeds}; {methods or 'no estimate of noise'}."]
    if methods and any(not numbers.ci95 for numbers in estimated):
        sentences.append("Marks without an interval: one seed, or no variation at all.")
    if report.metric.smallest_effect:
        sentences.append("Grey band: smaller than the smallest effect of interest.")
    sentences.append(
        "Filled: decided after correction (▲ up, ▼ down, ■ no difference that matters; blue helps, vermillion hurts); "
        "hollow: inconclusive."
    )
    if any(row.judged.is_reserved for row in rows):
        sentences.append(f"{CAVEAT}: with a caveat, stated in the sentence about that choice.")
    if left_out or len({row.metric for row in report.effects}) > 1:
        sentences.append(f"{report.metric.name} decides.")
    if clipped:
        sentences.append("Arrows: the interval continues.")
    if left_out:
        sentences.append(f"{plural(left_out, 'further metric')} in the table.")
    if len(rows) == MAX_ROWS:
        sentences.append(f"The first {MAX_ROWS} effects.")
    return " ".join(sentences)
