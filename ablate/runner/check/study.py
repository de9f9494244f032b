"""`ablate check`: is the trainer of a study sound? Trains parts of it in a scratch folder, several times over, and compares.

Every level is trained once, in the cells nearest to the reference cell, shrunk if the trainer can do that. One part of each
kind is trained again: with the same seed, with another seed, killed halfway, and after another part in the same process. Two
parts are of the same kind if they have the same name and their settings differ only in numbers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ablate.contract import Trainer
from ablate.design.cell_settings import flat
from ablate.design.cells import build_design
from ablate.design.model import Cell, Design
from ablate.errors import AblateError
from ablate.runner.check.comparisons import (
    FAIL,
    NOT_CHECKED,
    PASS,
    Check,
    metric_returned,
    same_ids,
    seconds_per_step,
    trains,
)
from ablate.runner.check.one_run import Trace
from ablate.runner.check.runs import Bench, Probes, Tried, scratch_folder
from ablate.runner.outcome import checked
from ablate.runner.prepare import Prepared, prepare
from ablate.runner.requirements import check_cells, check_gpus
from ablate.runner.run import working_in
from ablate.runner.smoke import smoke_study
from ablate.spec.designs import OneAtATime
from ablate.spec.model import levels_text
from ablate.text import duration, plural


def check_study(
    study: Path, overrides: Sequence[str], minutes: float, say: Callable[[str], None]
) -> dict[str, Any]:
    """Check a study's trainer; return the document of `check --json`. `say` gets a line before each run.

    `minutes`: a run that takes longer is stopped, and only its beginning is checked.

    Raises:
        BadInput: the study, its trainer or a cell is invalid.
        Unavailable: what training needs is missing.
    """
    prepared = prepare(study, overrides=overrides)
    prepared = replace(prepared, design=_few_cells(prepared))
    with working_in(prepared.spec.folder):
        check_cells(prepared, prepared.design.cells)
    check_gpus(prepared, prepared.design.cells, workers=1)
    tried = _parts(prepared.design)
    with scratch_folder() as folder:
        bench = Bench(prepared, folder, 60 * minutes, say)
        traces = {one: bench.train(one) for one in tried}
        probes = [Probes(bench, one, traces) for one in _one_of_each_kind(tried, prepared.trainer)]
        probed = {probe.one: probe.checks() for probe in probes}
    checks = {one: [trains(trace, bench.limit_s), *probed.get(one, ())] for one, trace in traces.items()}
    parts = [_part_document(one, traces[one], found) for one, found in checks.items()]
    ended = _ended_cells(prepared.design, traces)
    of_cells = [_metric_check(prepared, ended), _ids_check(prepared.design, ended, probes)]
    return _document(prepared, parts, of_cells)


# What to train --------------------------------------------------------------------------------------------------


def _few_cells(prepared: Prepared) -> Design:
    """Return the cells of the study nearest to its reference that show each level, shrunk if the trainer can."""
    spec, design = prepared.spec, prepared.design
    if spec.search:
        spec = spec.model_copy(update={"design": OneAtATime()})
        design = build_design(spec, prepared.trainer)
    reference = _reference(design)
    chosen: list[Cell] = []
    shown: set[str] = set()
    for cell in sorted(design.cells, key=lambda cell: len(_apart(cell, reference))):
        levels = {repr(level) for level in cell.levels.items()}
        if not levels <= shown or not chosen:
            chosen.append(cell)
            shown |= levels
    return smoke_study(spec, replace(design, cells=tuple(chosen)), prepared.trainer)[1]


def _reference(design: Design) -> Cell:
    return next((cell for cell in design.cells if cell.hash == design.reference), design.cells[0])


def _apart(cell: Cell, reference: Cell) -> dict[str, Any]:
    """Return the levels of a cell that are not the reference's."""
    missing = object()
    return {
        name: level for name, level in cell.levels.items() if reference.levels.get(name, missing) != level
    }


def _parts(design: Design) -> list[Tried]:
    """Return each part of the cells once."""
    by_hash: dict[str, Tried] = {}
    for cell in design.cells:
        for name, part in cell.parts.items():
            by_hash.setdefault(part.hash, Tried(name, part, _where(cell, design)))
    return list(by_hash.values())


def _where(cell: Cell, design: Design) -> str:
    """Name a cell by the levels that are not the reference cell's."""
    reference = _reference(design)
    alike = "baseline" if reference.hash == design.named.get("baseline") else "full model"
    return levels_text(_apart(cell, reference)) or alike


def _one_of_each_kind(tried: Sequence[Tried], trainer: Trainer) -> list[Tried]:
    # Reversed, so that the first of each kind is kept.
    kinds = {_kind(one, trainer): one for one in reversed(tried)}
    return [one for one in tried if one in kinds.values()]


def _kind(one: Tried, trainer: Trainer) -> str:
    """Return the name of a part and its settings without their numbers, which hardly ever change what code runs."""
    settings = flat(trainer.Settings.model_validate(one.part.settings).model_dump(mode="json"))
    return repr(
        (one.name, [(key, value) for key, value in sorted(settings.items()) if not _is_number(value)])
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# Cells ----------------------------------------------------------------------------------------------------------

# Hash of a cell whose parts were all trained to the end -> name of a part -> its run.
EndedCells = dict[str, dict[str, Trace]]


def _ended_cells(design: Design, traces: Mapping[Tried, Trace]) -> EndedCells:
    by_part = {one.part.hash: trace for one, trace in traces.items()}
    cells = {
        cell.hash: {name: by_part[part.hash] for name, part in cell.parts.items()} for cell in design.cells
    }
    return {
        cell: parts
        for cell, parts in cells.items()
        if all(trace.metrics is not None for trace in parts.values())
    }


def _metric_check(prepared: Prepared, ended: EndedCells) -> Check:
    trainer, primary = prepared.trainer, prepared.spec.metric.name
    faults = []
    for cell in (cell for cell in prepared.design.cells if cell.hash in ended):
        metrics = {name: trace.metrics or {} for name, trace in ended[cell.hash].items()}
        try:
            with working_in(prepared.spec.folder):
                checked(trainer.combine(trainer.Settings.model_validate(cell.settings), metrics), primary)
        # Anything that a trainer's `combine` raises is a failed check.
        except Exception as error:
            text = str(error) if isinstance(error, AblateError) else f"{type(error).__name__}: {error}"
            faults.append(f"{_where(cell, prepared.design)}: {text}")
    return metric_returned(faults, len(ended), primary)


def _ids_check(design: Design, ended: EndedCells, probes: Sequence[Probes]) -> Check:
    cells = {
        _where(cell, design): {
            file: content
            for trace in ended[cell.hash].values()
            for file, content in trace.predictions.items()
        }
        for cell in design.cells
        if cell.hash in ended
    }
    others = {label: found for probe in probes for label, found in probe.predictions.items()}
    return same_ids(cells, others)


# Output ---------------------------------------------------------------------------------------------------------


def _part_document(one: Tried, trace: Trace, checks: Sequence[Check]) -> dict[str, Any]:
    return {
        "part": one.name,
        "hash": one.part.hash,
        "where": one.where,
        "checks": [vars(check) for check in checks],
        "steps": trace.last_step or 0,
        "seconds": round(trace.seconds, 6),
        "seconds_per_step": seconds_per_step(trace),
    }


def _document(prepared: Prepared, parts: Sequence[dict[str, Any]], checks: Sequence[Check]) -> dict[str, Any]:
    of_all = [vars(check) for check in checks]
    results = [check["result"] for part in [*parts, {"checks": of_all}] for check in part["checks"]]
    return {
        "study": prepared.spec.study,
        "trainer": prepared.trainer.name,
        "sound": FAIL not in results,
        "failed": results.count(FAIL),
        "not_checked": results.count(NOT_CHECKED),
        "cells": len(prepared.design.cells),
        "shrunk": prepared.trainer.smoke is not None,
        "parts": list(parts),
        "checks": of_all,
    }


def check_text(document: dict[str, Any]) -> str:
    """Return the document as text."""
    shrunk = ", shrunk by the trainer's smoke(settings)" if document["shrunk"] else ""
    counts = f"{plural(len(document['parts']), 'part')} of {plural(document['cells'], 'cell')}"
    advice_given: set[str] = set()
    lines = [f"{document['trainer']} in {document['study']}: {counts}, which contain every level{shrunk}"]
    for part in document["parts"]:
        # One of the parts that differ only in numbers stands for all of them.
        if len(part["checks"]) > 1 or part["checks"][0]["result"] != PASS:
            pace = part["seconds_per_step"]
            step = "" if pace is None else f", {_seconds(pace)} a step"
            lines += [
                "",
                f"part {part['part']} ({part['where']}){step}",
                *_check_lines(part["checks"], advice_given),
            ]
    lines += [
        "",
        "all cells together",
        *_check_lines(document["checks"], advice_given),
        "",
        _verdict(document),
    ]
    return "\n".join(lines)


def _seconds(seconds: float) -> str:
    return f"{1000 * seconds:.2g} ms" if seconds < 0.1 else duration(seconds)


def _check_lines(checks: Sequence[dict[str, Any]], given: set[str]) -> Iterator[str]:
    """Yield a line per check. `given`: the advice given so far, which is not repeated."""
    for check in checks:
        yield f"  {check['result']:11}  {check['name']:12}  {check['seen']}"
        if check["fix"] and check["fix"] not in given:
            given.add(check["fix"])
            yield f"  {'':11}  {'':12}  to fix it: {check['fix']}"


def _verdict(document: dict[str, Any]) -> str:
    left = document["not_checked"]
    unseen = f"; {plural(left, 'check')} could not be made" if left else ""
    if document["sound"]:
        return f"sound as far as checked{unseen}" if left else "sound"
    return f"NOT sound: {plural(document['failed'], 'check')} failed{unseen}"
