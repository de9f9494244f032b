"""The report: from a store's results to one document, and from the document to files.

`report_of` is pure; `write_report` replaces whole files, and writes the same bytes for the same results."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ablate.errors import BadInput
from ablate.evidence.aliases import Fraction, aliases, fraction_of, partial_aliases
from ablate.evidence.contrasts import condition_text
from ablate.evidence.effects import Effect, study_contrasts, study_effects, study_models
from ablate.evidence.frames import Grid, grid
from ablate.evidence.interactions import (
    Interaction,
    qualifier_of,
    simple_effects,
    study_interactions,
)
from ablate.evidence.items import Items
from ablate.evidence.looks import effects_at_last_look, judge_at_last_look
from ablate.evidence.models import Model
from ablate.evidence.noise import noise_of_metrics
from ablate.files import write_file
from ablate.report.as_json import to_json
from ablate.report.document import CellRow, Composite, Design, EffectRow, FactorRow, Flag, Report
from ablate.report.flags.evidence import Evidence
from ablate.report.flags.registry import flags
from ablate.report.render.csv import csv_tables
from ablate.report.sections.cells import best_row, cell_rows
from ablate.report.sections.cost import cost
from ablate.report.sections.effects import at_last_look, effect_row, interaction_row, judge, tradeoffs, undone
from ablate.report.sections.examples import disagreements
from ablate.report.sections.ledger import ledger, progress
from ablate.report.sections.looks import adding_of, look_rows
from ablate.report.sections.provenance import (
    default_settings,
    fact_counts,
    fixed_settings,
    provenance,
    settings_of_levels,
)
from ablate.report.sections.seeds_needed import with_seeds_needed
from ablate.report.sections.sensitivity import moderated
from ablate.report.sections.summary import sentences, test_scores
from ablate.spec.model import quoted_level
from ablate.store.results import Results
from ablate.text import suggestion

if TYPE_CHECKING:
    from ablate.report.plots.style import Picture

FORMATS = ("md", "html", "latex", "csv", "json")


def report_of(results: Results) -> Report:
    """Return what the report says."""
    return _report(grid(results))


def write_report(results: Results, out: Path, formats: Sequence[str] = ("md",)) -> Report:
    """Write `report.json` and the named formats into `out` and return the report.

    Raises:
        BadInput: a format that is not known.
        OSError: `out` cannot be written; files that were there before are complete.
    """
    refuse_unknown(formats)
    report, drawn = drawn_report(results, formats)
    write_files(report, drawn, out, formats)
    return report


def refuse_unknown(formats: Sequence[str]) -> None:
    """Raise BadInput for a format that is not known."""
    for name in formats:
        if name not in FORMATS:
            raise BadInput(f"--format: {name!r} is not a format; {suggestion(name, FORMATS)}")


def drawn_report(results: Results, formats: Sequence[str]) -> tuple[Report, list["Picture"]]:
    """Return the report, and its pictures if a format shows them."""
    arranged = grid(results)
    report = _report(arranged)
    if not {"md", "html"} & set(formats):
        return report, []
    from ablate.report.plots.registry import pictures

    return report, pictures(arranged, report)


def write_files(report: Report, drawn: Sequence["Picture"], out: Path, formats: Sequence[str]) -> None:
    """Write `report.json`, the pictures and the named formats into `out`.

    Raises:
        OSError: as in `write_report`.
    """
    out.mkdir(parents=True, exist_ok=True)
    for name, content in _files(report, drawn, formats).items():
        write_file(out / name, content)


def _report(arranged: Grid) -> Report:
    spec = arranged.results.spec
    items = Items(arranged)
    facts = fact_counts(arranged)
    models = study_models(arranged)
    partial = partial_aliases(arranged, models.get(arranged.primary))
    aliased = aliases(arranged, partial)
    interactions = {metric: study_interactions(items, metric, model) for metric, model in models.items()}
    effects, rows = [], []
    for metric in arranged.dev_metrics:
        of_metric = study_effects(arranged, items, metric, models.get(metric))
        if spec.looking and metric == arranged.primary:
            of_metric = effects_at_last_look(arranged, items, of_metric, models.get(metric))
        effects += of_metric
        rows += _effect_rows(items, of_metric, models.get(metric), interactions.get(metric, []), aliased)
    cells, done = cell_rows(items), progress(arranged)
    deciding = [effect for effect in effects if effect.metric == arranged.primary]
    raised = flags(Evidence(items, study_contrasts(arranged), models, deciding, facts, done, cells, rows))
    judged = [undone(row, effect.cells, raised) for row, effect in zip(rows, effects, strict=True)]
    report = Report(
        study=spec.study,
        question=spec.question,
        trainer=spec.trainer,
        metric=spec.metric,
        composite=_composite(items),
        design=_design(arranged, fraction_of(arranged, partial)),
        progress=done,
        cells=tuple(
            _flagged_cell(cell, place, arranged.reference, raised) for place, cell in enumerate(cells)
        ),
        effects=with_seeds_needed(judged, spec.metric.smallest_effect),
        interactions=tuple(
            interaction_row(interaction) for several in interactions.values() for interaction in several
        ),
        left_out=tuple(dict.fromkeys(term for model in models.values() for term in model.left_out)),
        anova=tuple(row for model in models.values() for row in model.anova),
        lenth=tuple(model.lenth for model in models.values() if model.lenth),
        noise=noise_of_metrics(items),
        examples=disagreements(items, best_row(arranged)),
        ledger=ledger(arranged),
        cost=cost(arranged),
        provenance=provenance(arranged, facts),
        test=test_scores(cells),
        tradeoffs=tradeoffs(judged, spec.metric.goal),
        flags=raised,
    )
    return replace(report, summary=sentences(report))


def _composite(items: Items) -> Composite | None:
    grid, primary = items.grid, items.grid.primary
    weights = items.made_of(primary) if primary in grid.values else {}
    if list(weights) in ([], [primary]):
        return None
    rest = grid.values[primary] - sum(share * grid.values[name] for name, share in weights.items())
    return Composite(weights, float(np.nanmean(rest)))


def _design(arranged: Grid, fraction: Fraction) -> Design:
    results = arranged.results
    spec = results.spec
    return Design(
        kind=spec.design.kind,
        raw_cells=results.raw_cells,
        cells=len(results.cells),
        seeds=spec.seeds,
        adding=adding_of(arranged),
        looks=look_rows(arranged),
        reference=results.reference,
        resolution=results.resolution,
        aliases=results.aliases,
        fraction=fraction,
        search=results.search,
        tried=Counter(trial.state for trial in results.tried),
        factors=tuple(
            FactorRow(
                factor.name,
                tuple(level.name for level in factor.levels),
                settings_of_levels(factor),
                condition_text(factor),
                {quoted_level(level.name): level.settings for level in factor.levels},
            )
            for factor in spec.factors
        ),
        settings=fixed_settings(spec),
        defaults=default_settings(results),
    )


def _effect_rows(
    items: Items,
    effects: Sequence[Effect],
    model: Model | None,
    interactions: Sequence[Interaction],
    aliased: Mapping[str, Sequence[str]],
) -> list[EffectRow]:
    """Return the rows of the effects on one metric, judged together."""
    grid = items.grid
    looks = grid.results.spec.looking is not None and effects[:1] and effects[0].metric == grid.primary
    judged = (
        judge_at_last_look(grid, effects, aliased)
        if looks
        else [(judgement, None) for judgement in judge(grid, effects, aliased)]
    )
    rows = []
    for effect, (verdict, seen), borrowed in zip(effects, judged, moderated(effects), strict=True):
        turns = simple_effects(items, effect, interactions, model) if model else ()
        if turns:
            verdict = replace(verdict, qualifiers=(*verdict.qualifiers, qualifier_of(turns)))
        row = effect_row(items, effect, verdict, aliased[effect.contrast.factor], turns, borrowed)
        rows.append(at_last_look(row, seen) if looks else row)
    return rows


def _flagged_cell(cell: CellRow, place: int, reference: int | None, raised: Sequence[Flag]) -> CellRow:
    compared = {place} if reference is None else {place, reference}
    differences = {name: undone(row, compared, raised) for name, row in cell.difference.items()}
    of_cell = tuple(flag.rule for flag in raised if place in flag.cells)
    return replace(cell, difference=differences, flags=of_cell)


def _files(report: Report, drawn: Sequence["Picture"], formats: Sequence[str]) -> dict[str, bytes]:
    """Return every file of the report by its name, always including report.json."""
    files = {"report.json": _json(report).encode()}
    files |= {name: content for picture in drawn for name, content in picture.files.items()}
    if "md" in formats:
        from ablate.report.render.markdown import render_markdown

        files["report.md"] = render_markdown(report, drawn).encode()
    if "html" in formats:
        from ablate.report.render.html import render_html

        files["report.html"] = render_html(report, drawn).encode()
    if "latex" in formats:
        from ablate.report.render.latex import render_latex

        files["report.tex"] = render_latex(report).encode()
    return files | (csv_tables(report) if "csv" in formats else {})


def _json(report: Report) -> str:
    """Return JSON with one line per entry of each section.

    This is readable, easy to diff, and fast: json's fast encoder cannot indent."""

    def text(value: object) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    def section(value: object) -> str:
        if not isinstance(value, list) or not value:
            return text(value)
        return "[\n  " + ",\n  ".join(map(text, value)) + "\n ]"

    sections = (f"{text(name)}: {section(value)}" for name, value in to_json(report).items())
    return "{\n " + ",\n ".join(sections) + "\n}\n"
