"""The output of `ablate analyze` and `ablate compare` for a terminal: sentences first, then plain tables.

Returns text; prints nothing.
"""

from collections.abc import Mapping, Sequence

from tabulate import tabulate

from ablate.report.answers import (
    Analysis,
    Comparison,
    StudyComparison,
    TableEffect,
    TableInteraction,
    TableLenth,
)
from ablate.report.document import Numbers, OtherTest
from ablate.report.formatting import df_text, interval, number, p_equation, p_text, signed
from ablate.report.phrases import METHODS
from ablate.report.sections.summary import facts_of_qualifiers, qualified_verdict
from ablate.spec.model import levels_text
from ablate.stats.factorial import AnovaRow
from ablate.stats.inference import ROUNDING, Method
from ablate.stats.verdicts import Verdict
from ablate.text import one_line, plural

ORDERS = {
    "1": "main effects",
    "2": "main effects and two-factor interactions",
    "full": "main effects and all interactions",
}


def analysis_text(analysis: Analysis, width: int | None = None) -> str:
    """Return an analysis as text, with tables of at most `width` characters if that is given."""
    blocks = [
        _heading(analysis),
        "\n".join(_effect_sentence(row) for row in analysis.effects),
        "\n".join(f"Note: {one_line(warning)}." for warning in analysis.warnings),
        _table("Effects", _effect_rows(analysis.effects), width),
        _caption(analysis),
        _table(_interactions_title(analysis.interactions), _interaction_rows(analysis.interactions), width),
        _table("Analysis of variance (type II; decides no verdict)", _anova_rows(analysis.anova), width),
        _lenth_text(analysis.lenth),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def comparison_text(comparison: Comparison, width: int | None = None) -> str:
    """Return a comparison as text, with tables of at most `width` characters if that is given."""
    blocks = [
        _compared_cells(comparison) + _comparison_sentence(comparison),
        "\n".join(f"Note: {one_line(warning)}." for warning in comparison.warnings),
        _table("Other tests, which decide no verdict", _sensitivity_rows(comparison.sensitivity), width),
        _noise_text(comparison.noise),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _heading(analysis: Analysis) -> str:
    df = analysis.anova[-1].df
    rows, order = plural(analysis.n, "row"), ORDERS[analysis.order if analysis.interactions else "1"]
    # Within blocks, each effect has its own degrees of freedom.
    freedom = "" if _is_by_block(analysis) else f"; {df} degree{'' if df == 1 else 's'} of freedom for noise"
    return f"{one_line(analysis.metric)} over {rows}; model: {order}{freedom}."


def _is_by_block(analysis: Analysis) -> bool:
    return any(row.numbers.method == Method.SEEDS for row in analysis.effects)


def _effect_sentence(row: TableEffect) -> str:
    change, estimate, ci95 = one_line(row.change.text), row.numbers.delta, row.numbers.ci95
    facts = facts_of_qualifiers(row.aliased_with, row.turns)
    verdict = one_line(qualified_verdict(row.verdict, row.qualifiers, facts))
    if row.numbers.method == Method.NO_VARIANCE:
        return f"{change}: {estimate}, the same in every block, so its noise is unknown: {verdict}."
    if ci95 is None:
        return f"{change}: {estimate}, without any measure of noise: {verdict}."
    numbers = f"{estimate}, 95 % interval {row.numbers.interval}"
    if row.verdict == Verdict.NO_DIFFERENCE:
        numbers += f", 90 % interval {row.numbers.shown(row.ci90)}"
    p = f", {p_equation(row.p_holm)} after Holm" if row.p_holm is not None else ""
    if row.verdict == Verdict.INCONCLUSIVE and not row.qualifiers:
        return (
            f"{change}: inconclusive ({numbers}{p}); {_detectable(row.mde80)} if it were the only comparison."
        )
    return f"{change}: {verdict} ({numbers}{p})."


def _effect_rows(effects: Sequence[TableEffect]) -> list[dict[str, str]]:
    return [
        {"effect": one_line(row.change.text)}
        | _numbers(row.numbers)
        | {"p Holm": p_text(row.p_holm), "verdict": row.verdict}
        for row in effects
    ]


def _interactions_title(interactions: Sequence[TableInteraction]) -> str:
    most = max((len(row.factors) for row in interactions), default=0)
    if most < 3:
        return "Interactions (half of how much one factor's effect changes with the other factor's level)"
    further = ", and so on" if most > 3 else ""
    return (
        "Interactions (of two factors: half of how much one's effect changes with the other's level; of three: half of how much "
        f"that half changes with the third's level{further})"
    )


def _interaction_rows(interactions: Sequence[TableInteraction]) -> list[dict[str, str]]:
    return [
        {
            "factors": one_line(" × ".join(row.factors)),
            "levels": one_line(
                ", ".join(f"{low} → {high}" for low, high in zip(row.low, row.high, strict=True))
            ),
        }
        | _numbers(row.numbers)
        | {"p BH": p_text(row.p_bh)}
        for row in interactions
    ]


def _numbers(numbers: Numbers) -> dict[str, str]:
    return {
        "estimate": numbers.delta,
        "SE": numbers.error,
        "df": df_text(numbers.df),
        "95 % interval": numbers.interval,
        "p": p_text(numbers.p),
    }


def _anova_rows(anova: Sequence[AnovaRow]) -> list[dict[str, str]]:
    # A sum of squares that is only rounding error is shown as 0.
    least = ROUNDING**2 * sum(row.ss for row in anova)

    def shown(value: float | None) -> str:
        return "–" if value is None else f"{value if value > least else 0:.6g}"

    return [
        {
            "term": one_line(row.term),
            "df": str(row.df),
            "sum of squares": shown(row.ss),
            "mean square": shown(row.ms),
            "F": "–" if row.F is None else f"{row.F:.2f}",
            "p": p_text(row.p),
        }
        for row in anova
    ]


def _caption(analysis: Analysis) -> str:
    means = (
        "means of the differences within each block"
        if _is_by_block(analysis)
        else "differences of estimated marginal means"
    )
    caption = f"Effects are {means}; p Holm is corrected over the main effects"
    return (
        f"{caption}; interactions are exploratory (Benjamini-Hochberg)."
        if analysis.interactions
        else f"{caption}."
    )


def _lenth_text(lenth: TableLenth | None) -> str:
    if not lenth:
        return ""
    margins = lenth.margins
    beyond = [name for name, effect in lenth.effects.items() if abs(effect) > margins.sme]
    return (
        "Lenth's method, which judges noise by the small effects: "
        f"pseudo standard error {number(margins.pse)}, margin of error {number(margins.me)}, "
        f"simultaneous margin {number(margins.sme)}; effects beyond that: {one_line(', '.join(beyond)) or 'nothing'}."
    )


def _compared_cells(comparison: Comparison) -> str:
    if not isinstance(comparison, StudyComparison):
        return ""
    sides = (
        f"{side.upper()}: {one_line(', '.join((cell.study, levels_text(cell.levels))))}."
        for side, cell in comparison.cells.items()
    )
    return " ".join(sides) + "\n"


def _comparison_sentence(comparison: Comparison) -> str:
    sides, tested = comparison.sides, comparison.tested
    means = f"A {number(sides.a)}, B {number(sides.b)}; B − A = {signed(sides.delta)}"
    over = f"over {plural(sides.n_items, 'item')} and {plural(sides.n_seeds, 'seed')}"
    p = "no p" if tested.p is None else p_equation(tested.p)
    within = f", 90 % interval {interval(tested.ci90)}" if tested.verdict == Verdict.NO_DIFFERENCE else ""
    sure = f"95 % interval {interval(tested.ci95)}{within}, {p} ({_METHODS[tested.method]})"
    unsure = tested.mde80 and tested.verdict == Verdict.INCONCLUSIVE
    seen = f"; {_detectable(tested.mde80)}" if unsure else ""
    better = {Verdict.HELPS: "B is better", Verdict.HURTS: "B is worse"}
    verdict = better.get(tested.verdict, tested.verdict)
    return f"{sides.metric} {over}: {means}.\n{sure}: {verdict}{seen}."


def _detectable(mde80: float | None) -> str:
    return f"a true effect of {number(mde80)} would be detected in 80 % of such studies"


_METHODS: dict[str, str] = {
    **{str(method): name for method, name in METHODS.items()},
    "mcnemar_exact": "exact McNemar",
    "pseudo_values": "pseudo-values of the items",
}


def _sensitivity_rows(lines: Sequence[OtherTest]) -> list[dict[str, str]]:
    return [
        {
            "method": line.method,
            "statistic": number(line.statistic),
            "p": p_text(line.p),
            "95 % interval": interval(line.ci95),
            "note": line.note,
        }
        for line in lines
    ]


def _noise_text(noise: Mapping[str, float] | None) -> str:
    if not noise:
        return ""
    shown = ", ".join(f"{name} {number(noise[key])}" for key, name in NOISES.items())
    return f"Noise of a difference, as standard deviations: {shown}."


NOISES = {"seed": "between seeds", "item": "between items", "seed_item": "seed × item"}


# Columns of words, which can be wrapped; and columns that are left out in a narrow terminal, in this order.
_WORDS = ("effect", "factors", "levels", "term", "note")
_LEFT_OUT = ("mean square", "sum of squares", "SE", "df", "p", "statistic")
_NARROWEST = 20  # a column of words is not wrapped to fewer characters


def _table(title: str, rows: Sequence[Mapping[str, str]], width: int | None) -> str:
    """Return a table; one that is too wide loses columns and wraps words."""
    if not rows:
        return ""
    # tabulate leaves two spaces beside a header.
    widest = {name: max(len(name) + 2, *(len(row[name]) for row in rows)) for name in rows[0]}
    most = _widths_of_words(widest, width)
    without = [name for name in _LEFT_OUT if name in widest and name not in most]
    cells = [[row[name] for name in most] for row in rows]
    table = tabulate(
        cells, list(most), tablefmt="simple", disable_numparse=True, maxcolwidths=[*most.values()]
    )
    note = f"\nNot shown because the terminal is narrow: {', '.join(without)}." if without else ""
    return f"{title}\n{table}{note}"


def _widths_of_words(widest: Mapping[str, int], width: int | None) -> dict[str, int | None]:
    """Return the columns to show, each with its width in characters; None: as wide as its text."""
    columns = dict(widest)
    if width is None:
        return dict.fromkeys(columns)
    words = [name for name in _WORDS if name in columns]
    for unneeded in (*_LEFT_OUT, None):
        # Two spaces stand between columns.
        room = width + 2 - sum(2 + size for name, size in columns.items() if name not in words)
        each = room // max(1, len(words)) - 2
        if unneeded is None or all(min(columns[name], _NARROWEST) <= each for name in words):
            break
        columns.pop(unneeded, None)
    return {name: min(size, max(each, 8)) if name in words else None for name, size in columns.items()}
