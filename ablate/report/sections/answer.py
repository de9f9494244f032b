"""The first screen besides the verdicts: the best configuration, open comparisons, and the cost."""

import json
import re
from typing import Any

from ablate.report.document import EffectRow, Report
from ablate.report.formatting import number
from ablate.report.sections.summary import with_sentence
from ablate.spec.model import quoted_level
from ablate.spec.scalars import resolve
from ablate.spec.seeds import MORE_SEEDS
from ablate.stats.power import mde
from ablate.stats.verdicts import Verdict
from ablate.text import duration, listed

SEEDS_TRIED = (3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 75, 100)


def best_configuration(report: Report) -> str | None:
    """Return the settings of the best cell's levels as YAML; None while no cell is complete."""
    if report.best is None:
        return None
    settings: dict[str, Any] = {}
    rows = {factor.name: factor for factor in report.design.factors}
    for name, level in report.best.levels.items():
        several = rows[name].settings.get(quoted_level(level))
        settings |= {name: level} if several is None else {key: _read(text) for key, text in several.items()}
    return "\n".join(["settings:", *(f"  {_yaml(name)}: {_yaml(value)}" for name, value in settings.items())])


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _yaml(value: Any) -> str:
    """Return a value as YAML without characters that could be markup."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w.-]*", value) and resolve(value) == value:
        return value
    # JSON is valid YAML.
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c").replace("`", "\\u0060")


def open_comparisons(report: Report) -> str | None:
    """Return a sentence on what is inconclusive, and how many seeds would detect the smallest effect of interest."""
    rows = [
        row
        for row in with_sentence(report)
        if row.judged.verdict == Verdict.INCONCLUSIVE and row.numbers.estimate is not None
    ]
    if not rows:
        return None
    smallest = report.metric.smallest_effect
    if smallest is None:
        return (
            f"Not decided: {listed([row.text for row in rows], 12, '; ')}. The study file names no "
            "smallest_effect, so the number of seeds needed is unknown."
        )
    several = len(report.primary_effects)
    needed: dict[str | None, list[str]] = {}
    for row in rows:
        needed.setdefault(_seeds_needed(row, smallest, several), []).append(row.text)
    groups = [
        listed(texts, 12, "; ") + (f" ({'each ' if len(texts) > 1 else ''}{seeds})" if seeds else "")
        for seeds, texts in needed.items()
    ]
    how_many = (
        f"With that, an effect of {number(smallest)} would be detected in about 80 % of studies, if the noise is as seen here."
        if needed.keys() - {None}
        else "The number of seeds needed is unknown, since the noise between seeds is."
    )
    if any(" seeds" in text for text in needed if text):
        how_many += f" {_how_to_add_seeds(report)}"
    return f"Not decided: {'; '.join(groups)}. {how_many}"


def _how_to_add_seeds(report: Report) -> str:
    if report.design.adding:
        return f"This study adds at most {report.design.adding.at_most} seeds; more need a new study, with fresh seeds."
    return f"{MORE_SEEDS[0].upper()}{MORE_SEEDS[1:]}."


def _seeds_needed(row: EffectRow, smallest: float, several: int) -> str | None:
    """Return how many seeds detect the smallest effect, corrected over `several` comparisons; None if that is unknown.

    More seeds do not reduce the items' noise."""
    numbers = row.numbers
    if numbers.v_seed is None or numbers.n < 2:
        return None
    of_a_seed, of_items = numbers.v_seed * numbers.n, numbers.v_item or 0.0
    for seeds in SEEDS_TRIED:
        # Conservative: there are more degrees of freedom if items add to the noise.
        se = (of_a_seed / seeds + of_items) ** 0.5
        if seeds >= numbers.n and mde(se, seeds - 1, alpha=0.05 / several) <= smallest:
            return f"needs about {seeds} seeds"
    floor = mde(of_items**0.5, float("inf"), alpha=0.05 / several)
    return (
        "needs more dev items: their noise alone is too large"
        if floor > smallest
        else f"needs more than {SEEDS_TRIED[-1]} seeds"
    )


def cost_sentence(report: Report) -> str:
    """Return what the study cost."""
    usd = f", ${report.cost.usd:.2f}" if report.cost.usd is not None else ""
    return f"Cost: {duration(report.cost.hours * 3600)} of training{usd}."
