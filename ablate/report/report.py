"""The report: from a store's results to one document, and from the document to files.

`report_document` is pure; `write_report` replaces whole files, and writes the same bytes for the same results."""

import difflib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ablate.errors import BadInput
from ablate.evidence.contrasts import condition_text
from ablate.evidence.effects import Effect, study_contrasts, study_effects, study_models
from ablate.evidence.frames import Grid, grid
from ablate.evidence.interactions import Interaction, study_interactions, turned_around
from ablate.evidence.items import Items
from ablate.evidence.looks import judge_looked
from ablate.evidence.mixing import aliases, fraction_row, mixed_effects
from ablate.evidence.models import Model
from ablate.evidence.noise import noise_rows
from ablate.evidence.verdicts import Qualifier
from ablate.report.files import replace_file
from ablate.report.flags.evidence import Evidence, Flag, undone
from ablate.report.flags.rules import flags
from ablate.report.render.csv_tables import csv_tables
from ablate.report.sections.cells import best_row, cell_rows
from ablate.report.sections.effects import effect_row, interaction_row, judge, tradeoffs
from ablate.report.sections.examples import disagreements
from ablate.report.sections.ledger import cost, ledger, progress
from ablate.report.sections.looks import as_seen, look_rows, plan_row
from ablate.report.sections.provenance import fact_counts, fixed_settings, provenance, settings_of_levels
from ablate.report.sections.sensitivity import moderated
from ablate.report.sections.summary import sentences, test_scores
from ablate.store.results import Results

FORMATS = ("md", "html", "latex", "csv", "json")


def report_document(results: Results) -> dict[str, Any]:
    """Return what the report says, as plain JSON data."""
    return _document(grid(results))


def write_report(results: Results, out: Path, formats: Sequence[str] = ("md",)) -> dict[str, Any]:
    """Write `report.json` and the named formats into `out` and return the document.

    Raises:
        BadInput: a format that is not known.
        OSError: `out` cannot be written; what was there before is whole.
    """
    for name in formats:
        if name not in FORMATS:
            close = difflib.get_close_matches(name, FORMATS, n=1)
            raise BadInput(
                f"--format: found {name!r}; "
                + (f"did you mean {close[0]!r}?" if close else f"one of {', '.join(FORMATS)}")
            )
    arranged = grid(results)
    document = _document(arranged)
    out.mkdir(parents=True, exist_ok=True)
    for name, content in _files(arranged, document, formats).items():
        replace_file(out / name, content)
    return document


def _document(arranged: Grid) -> dict[str, Any]:
    results = arranged.results
    spec = results.spec
    items = Items(arranged)
    facts = fact_counts(arranged)
    models = study_models(arranged)
    mixed = mixed_effects(arranged, models.get(arranged.primary))
    aliased = aliases(arranged, mixed)
    interactions = {metric: study_interactions(items, metric, model) for metric, model in models.items()}
    effects = [
        row
        for metric in arranged.dev_metrics
        for row in _effect_rows(items, metric, models.get(metric), interactions.get(metric, []), aliased)
    ]
    document: dict[str, Any] = {
        "study": spec.study,
        "question": spec.question,
        "trainer": spec.trainer,
        "metric": spec.metric.model_dump(),
        "design": {
            "kind": spec.design,
            "raw_cells": results.raw_cells,
            "cells": len(results.cells),
            "seeds": list(spec.seeds),
            "adding": plan_row(arranged),
            "looks": look_rows(arranged),
            "reference": results.reference,
            "resolution": results.resolution,
            "aliases": results.aliases,
            **fraction_row(arranged, mixed),
            "search": results.search.model_dump() if results.search else None,
            "tried": dict(Counter(trial.state for trial in results.tried)),
            "factors": [
                {
                    "name": f.name,
                    "levels": [level.name for level in f.levels],
                    "settings": settings_of_levels(f),
                    "when": condition_text(f),
                }
                for f in spec.factors
            ],
            "settings": fixed_settings(spec),
        },
        "progress": progress(arranged),
        "cells": cell_rows(items),
        "effects": [row for row, _ in effects],
        "interactions": [interaction_row(one) for several in interactions.values() for one in several],
        "left_out": [list(t) for t in dict.fromkeys(t for model in models.values() for t in model.left_out)],
        "anova": [row for model in models.values() for row in model.anova],
        "lenth": [model.lenth for model in models.values() if model.lenth],
        "noise": noise_rows(items),
        "examples": disagreements(items, best_row(arranged)),
        "ledger": ledger(arranged),
        "cost": cost(arranged),
        "provenance": provenance(arranged, facts),
    }
    document["test"] = test_scores(document)
    document["tradeoffs"] = tradeoffs(document)
    raised = flags(
        Evidence(
            items,
            study_contrasts(arranged),
            models,
            [effect for _, effect in effects if effect.metric == arranged.primary],
            facts,
            document,
        )
    )
    document["flags"] = [flag.row() for flag in raised]
    document["cells"] = [_flagged_cell(cell, place, raised) for place, cell in enumerate(document["cells"])]
    document["effects"] = [undone(row, effect.cells, raised) for row, effect in effects]
    document["summary"] = sentences(document)
    return document


def _effect_rows(
    items: Items,
    metric: str,
    model: Model | None,
    interactions: Sequence[Interaction],
    aliased: Mapping[str, Sequence[str]],
) -> list[tuple[dict[str, Any], Effect]]:
    grid = items.grid
    effects = study_effects(grid, items, metric, model)
    rows = []
    looks = grid.results.spec.looking is not None and metric == grid.primary
    all_judged = (
        judge_looked(grid, effects, aliased)
        if looks
        else [(one, None) for one in judge(grid, effects, aliased)]
    )
    for effect, (judged, seen), borrowed in zip(effects, all_judged, moderated(effects), strict=True):
        turns = turned_around(items, effect, interactions, model) if model else None
        if turns:
            judged = replace(judged, qualifiers=(*judged.qualifiers, Qualifier.TURNS_AROUND))
        row = effect_row(items, effect, judged, aliased[effect.contrast.factor], turns, borrowed)
        rows.append((as_seen(row, seen) if looks else row | {"look": None}, effect))
    return rows


def _flagged_cell(cell: dict[str, Any], place: int, raised: Sequence[Flag]) -> dict[str, Any]:
    of_cell = [flag.rule for flag in raised if place in flag.cells]
    differences = {name: undone(row, {place}, raised) for name, row in cell["difference"].items()}
    return cell | {"difference": differences, "flags": of_cell}


def _files(arranged: Grid, document: dict[str, Any], formats: Sequence[str]) -> dict[str, bytes]:
    """Return every file of the report by its name; report.json always among them."""
    files: dict[str, bytes] = {}
    if {"md", "html"} & set(formats):
        from ablate.report.plots.pictures import pictures
        from ablate.report.render import documents as render

        drawn = pictures(arranged, document)
        files |= {name: content for picture in drawn for name, content in picture.files.items()}
        if "md" in formats:
            files["report.md"] = render.render_markdown(document, drawn).encode()
        if "html" in formats:
            files["report.html"] = render.render_html(document, drawn).encode()
    if "latex" in formats:
        from ablate.report.render.documents import render_latex

        files["report.tex"] = render_latex(document).encode()
    if "csv" in formats:
        files |= csv_tables(document)
    return files | {"report.json": _json(document).encode()}


def _json(document: dict[str, Any]) -> str:
    """One line per entry of each section: people can read and compare it, and json's fast encoder does not indent."""

    def text(value: object) -> str:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    def section(value: object) -> str:
        if not isinstance(value, list) or not value:
            return text(value)
        return "[\n  " + ",\n  ".join(map(text, value)) + "\n ]"

    sections = (f"{text(name)}: {section(value)}" for name, value in document.items())
    return "{\n " + ",\n ".join(sections) + "\n}\n"
