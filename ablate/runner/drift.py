"""Is this still the study that its trials were run with?

Comments, order, the question, the budget and the seconds between checkpoints may change; anything that trials or
conclusions rest on may not. `--extend` adds levels, cells and seeds and nothing else."""

from collections.abc import Iterator, Sequence
from typing import Any

from ablate.design.model import Cell, Design
from ablate.errors import Drift
from ablate.spec.model import StudySpec
from ablate.store.places import Place
from ablate.store.reading import read_results, study_names
from ablate.store.results import Results

HARMLESS = ("question", "budget", "checkpoint_seconds", "hang_minutes")


def refuse_drift(spec: StudySpec, design: Design, place: Place, extend: bool) -> None:
    """Compare a study with what its store was made from.

    Raises:
        Drift: something differs, one fault per key: old → new.
    """
    if place.study not in study_names(place.url):
        return
    stored = read_results(place.url, place.study, place.folder)
    old, new = identity(stored.spec), identity(spec)
    where = spec.path or spec.study
    if old == new:
        _refuse_other_cells(stored, spec, design)
        return
    if extend:
        _refuse_losses(stored, spec, design)
        return
    raise Drift(
        *(
            f"{where}: {key}: {_shown(old.get(key))} → {_shown(new.get(key))} since trials of {spec.study!r} were run; "
            "put it back, or give the changed study another name (--extend adds levels or seeds)"
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key)
        )
    )


def _refuse_other_cells(stored: Results, spec: StudySpec, design: Design) -> None:
    """Refuse a trainer for which the same study means other settings than those its trials were run with."""
    planned = {cell.hash for cell in _kept_cells(stored, spec, design)}
    if gone := [cell for cell in stored.cells if cell.hash not in planned]:
        raise Drift(
            f"{spec.path or spec.study}: trainer: the Settings of {spec.trainer} changed since trials of {spec.study!r} "
            f"were run: {len(gone)} cells would have other settings; put them back, or give the study another name"
        )


def _refuse_losses(stored: Results, spec: StudySpec, design: Design) -> None:
    """Let an extension pass if every trial there is still planned, and is judged in the same way."""
    planned = {(cell.hash, seed) for cell in _kept_cells(stored, spec, design) for seed in spec.seeds}
    gone = [trial for trial in stored.trials if (trial.cell, trial.seed) not in planned]
    faults = []
    if gone:
        faults.append(
            f"{spec.path or spec.study}: --extend: {len(gone)} trials that exist are not in the changed study (first: "
            f"trial {gone[0].number}, seed {gone[0].seed}); an extension keeps every cell and seed"
        )
    for field in ("metric", "trainer", "baseline"):
        before, after = getattr(stored.spec, field), getattr(spec, field)
        if before != after:
            faults.append(
                f"{spec.path or spec.study}: {field}: {before} → {after}: an extension changes no {field}"
            )
    if faults:
        raise Drift(*faults)


def _kept_cells(stored: Results, spec: StudySpec, design: Design) -> Sequence[Cell]:
    """A search's cells are in its store alone; they stay what they are while its factors and settings do."""
    same = (stored.spec.factors, stored.spec.settings) == (spec.factors, spec.settings)
    return stored.cells if spec.search and stored.spec.search and same else design.cells


def identity(spec: StudySpec) -> dict[str, Any]:
    """Return what a study's trials and conclusions rest on, flat: dotted key -> value."""
    content = spec.model_dump(mode="json", exclude=set(HARMLESS))
    content["factors"] = {
        factor["name"]: {
            "levels": {str(level["name"]): level["settings"] for level in factor["levels"]},
            "only_when": factor["only_when"],
        }
        for factor in content["factors"]
    }
    return dict(_flat(content, ""))


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)
