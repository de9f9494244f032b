"""`ablate analyze` and `ablate compare` as a terminal shows them: sentences first, then plain tables.

Returns text; prints nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tabulate import tabulate

from ablate.report.phrases import METHODS
from ablate.report.sections.summary import qualified_verdict
from ablate.report.words import (
    change_text,
    df_text,
    interval,
    number,
    one_line,
    p_equation,
    p_text,
    plural,
    signed,
)

ORDERS = {"1": "main effects", "2": "main effects and products of two", "full": "all products"}


def analysis_text(document: Mapping[str, Any]) -> str:
    """Return the document of `analyze_table` as text."""
    blocks = [
        _heading(document),
        "\n".join(_effect_sentence(row) for row in document["effects"]),
        "\n".join(f"Note: {one_line(warning)}." for warning in document["warnings"]),
        _table("Effects", _effect_rows(document["effects"])),
        _caption(document),
        _table(
            "Interactions (half the difference of the simple effects)",
            _interaction_rows(document["interactions"]),
        ),
        _table("Analysis of variance (type II)", _anova_rows(document["anova"])),
        _lenth_text(document["lenth"]),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def comparison_text(document: Mapping[str, Any]) -> str:
    """Return the document of `compare_files` as text."""
    blocks = [
        _comparison_sentence(document),
        "\n".join(f"Note: {one_line(warning)}." for warning in document["warnings"]),
        _table("Also", _sensitivity_rows(document["sensitivity"])),
        _noise_text(document.get("noise")),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _heading(document: Mapping[str, Any]) -> str:
    df = document["anova"][-1]["df"]
    rows, order = plural(document["n"], "row"), ORDERS[document["order"] if document["interactions"] else "1"]
    freedom = f"{df} degree{'' if df == 1 else 's'} of freedom"
    return f"{one_line(document['metric'])} over {rows}; {order}; {freedom} for noise."


def _effect_sentence(row: Mapping[str, Any]) -> str:
    change, verdict = one_line(change_text(row)), one_line(qualified_verdict(row))
    if row["ci95"] is None:
        return f"{change}: {signed(row['estimate'])}, without any measure of noise: {verdict}."
    numbers = f"{signed(row['estimate'])}, 95 % interval {interval(row['ci95'])}"
    if row["verdict"] == "inconclusive" and not row["qualifiers"]:
        return f"{change}: inconclusive ({numbers}); {_seen(row['mde80'])}, were it the only comparison."
    p = f", {p_equation(row['p_holm'])} after Holm" if row["p_holm"] is not None else ""
    return f"{change}: {verdict} ({numbers}{p})."


def _effect_rows(effects: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [
        {"effect": one_line(change_text(row))}
        | _numbers(row)
        | {"p Holm": p_text(row["p_holm"]), "verdict": row["verdict"]}
        for row in effects
    ]


def _interaction_rows(interactions: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [
        {"factors": one_line(" × ".join(row["factors"])), "to": one_line(", ".join(row["to"]))}
        | _numbers(row)
        | {"p BH": p_text(row["p_bh"])}
        for row in interactions
    ]


def _numbers(row: Mapping[str, Any]) -> dict[str, str]:
    return {
        "estimate": signed(row["estimate"]),
        "SE": number(row["se"]),
        "df": df_text(row["df"]),
        "95 % interval": interval(row["ci95"]),
        "p": p_text(row["p"]),
    }


def _anova_rows(anova: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "term": one_line(row["term"]),
            "df": str(row["df"]),
            "sum of squares": f"{row['ss']:.6g}",
            "mean square": "–" if row["ms"] is None else f"{row['ms']:.6g}",
            "F": "–" if row["F"] is None else f"{row['F']:.2f}",
            "p": p_text(row["p"]),
        }
        for row in anova
    ]


def _caption(document: Mapping[str, Any]) -> str:
    said = "Effects are differences of estimated marginal means, p Holm is corrected over the main effects"
    return (
        f"{said}; interactions are exploratory (Benjamini-Hochberg)."
        if document["interactions"]
        else f"{said}."
    )


def _lenth_text(lenth: Mapping[str, Any] | None) -> str:
    if not lenth:
        return ""
    beyond = [name for name, effect in lenth["effects"].items() if abs(effect) > lenth["sme"]]
    return (
        f"Lenth: pseudo standard error {number(lenth['pse'])}, margin of error {number(lenth['me'])}, "
        f"simultaneous margin {number(lenth['sme'])}; beyond it: {one_line(', '.join(beyond)) or 'nothing'}."
    )


def _comparison_sentence(document: Mapping[str, Any]) -> str:
    means = f"A {number(document['a'])}, B {number(document['b'])}; B − A = {signed(document['delta'])}"
    over = f"over {plural(document['n_items'], 'item')} and {plural(document['n_seeds'], 'seed')}"
    p = "no p" if document["p"] is None else p_equation(document["p"])
    sure = f"95 % interval {interval(document['ci95'])}, {p} ({_METHODS[document['method']]})"
    unsure = document["mde80"] and document["verdict"] == "inconclusive"
    seen = f"; {_seen(document['mde80'])}" if unsure else ""
    verdict = {"helps": "B is better", "hurts": "B is worse"}.get(document["verdict"], document["verdict"])
    return f"{document['metric']} {over}: {means}.\n{sure}: {verdict}{seen}."


def _seen(mde80: float) -> str:
    return f"a true effect of {number(mde80)} would have been seen four times out of five"


_METHODS: dict[str, str] = {
    **{str(method): name for method, name in METHODS.items()},
    "mcnemar_exact": "exact McNemar",
    "pseudo_values": "pseudo-values of the items",
}


def _sensitivity_rows(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [
        {
            "method": line["method"],
            "statistic": "–" if line["statistic"] is None else number(line["statistic"]),
            "p": p_text(line["p"]),
            "95 % interval": interval(line["ci95"]),
            "note": line["note"],
        }
        for line in lines
    ]


def _noise_text(noise: Mapping[str, float] | None) -> str:
    if not noise:
        return ""
    shown = ", ".join(f"{name} {number(noise[key])}" for key, name in NOISES.items())
    return f"Standard deviation of a difference: {shown}."


NOISES = {"seed": "seed", "item": "item", "seed_item": "seed × item"}


def _table(title: str, rows: Sequence[Mapping[str, str]]) -> str:
    if not rows:
        return ""
    cells = [list(row.values()) for row in rows]
    return f"{title}\n{tabulate(cells, list(rows[0]), tablefmt='simple', disable_numparse=True)}"
