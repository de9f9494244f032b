"""Check that a study file still describes the study that its trials were run with.

May change: comments, the question, the budget, checkpoint_seconds, hang_minutes, log_to, and the order of keys (in a fraction,
not that of factors and levels). metric.name, smallest_effect and worst may change until a trial has a result. Anything else that
trials or conclusions depend on may not, including the defaults of the trainer's settings. `--extend` only adds levels, cells and
seeds."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ablate.contract import Trainer
from ablate.design.cell_settings import defaults_of, flat
from ablate.design.model import Cell, Design
from ablate.errors import StudyChanged
from ablate.spec.model import StudySpec
from ablate.spec.seeds import MORE_SEEDS
from ablate.store.places import Place
from ablate.store.reading import has_run, read_results
from ablate.store.results import Results
from ablate.text import plural

HARMLESS = ("question", "budget", "checkpoint_seconds", "hang_minutes", "log_to")

# Those of them (harmless keys) that a report shows.
SHOWN = ("question", "budget")

# Advice on --extend for a change of these keys.
EXTENDED = {
    "factors": ", or add levels with --extend",
    "seeds": f"; {MORE_SEEDS}; --extend adds them anyway, and the report raises STOP",
}

# No trial has a result yet, so nothing is lost.
_START_OVER = (
    "no trial has a result yet, so delete what ran (ablate delete {study}) and run it again, or put it back"
)

# These may change until a trial has a result, so that a mistyped metric name can be corrected without training again.
UNTIL_JUDGED = ("metric.name", "metric.smallest_effect", "metric.worst")


def all_defaults(design: Design, trainer: Trainer) -> dict[str, str]:
    """Return every default that some cell relies on: hashes do not include them."""
    defaults: dict[str, str] = {}
    for cell in design.cells:
        with trainer.blamed("Settings"):
            defaults |= defaults_of(trainer.Settings.model_validate(cell.settings))
    return defaults


def refuse_changes(
    spec: StudySpec, design: Design, defaults: Mapping[str, str], place: Place, extend: bool
) -> None:
    """Compare a study, and the defaults of its trainer's settings, with what its store was made from.

    Raises:
        StudyChanged: something differs, one fault per key: old → new.
    """
    if not has_run(place):
        return
    stored = read_results(place)
    _refuse_other_defaults(stored, spec, defaults)
    changes = changes_since(stored, spec)
    if not changes:
        _refuse_other_cells(stored, spec, design)
    elif extend:
        _refuse_losses(stored, spec, design)
    else:
        late = _late_looks(stored, spec)
        raise StudyChanged(
            *late,
            *_other_overrides(stored, spec),
            *(
                f"{_where(spec)}: {change} since trials of {spec.study!r} were run; "
                + (
                    f"put it back, or give the changed study another name{EXTENDED.get(key, '')}"
                    if _judged(stored)
                    else _START_OVER.format(study=spec.study)
                )
                for change in changes
                for key in [re.split("[.:]", change)[0]]
                if not (late and key == "seeds")
            ),
        )


def changes_since(stored: Results, spec: StudySpec) -> tuple[str, ...]:
    """Return what `ablate run` refuses in a study file whose trials were run with another: `design.kind: full → fractional`."""
    old, new = identity(stored.spec), identity(spec)
    if not _judged(stored):
        for key in UNTIL_JUDGED:
            old.pop(key, None)
            new.pop(key, None)
    return tuple(_changes(old, new))


def edits(ran: StudySpec, file: StudySpec) -> tuple[str, ...]:
    """Return how a study file differs from the one that its trials were run with: `metric.smallest_effect: 0.01 → 0.02`."""
    old, new = (identity(spec) | spec.model_dump(mode="json", include=set(SHOWN)) for spec in (ran, file))
    return tuple(_changes(old, new))


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield `key: old → new` for each value that differs; in a file, the plan of looks is written under `seeds`."""
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            yield f"{key.replace('looking.', 'seeds.')}: {_shown(old.get(key))} → {_shown(new.get(key))}"


def _judged(stored: Results) -> bool:
    return any(trial.state in ("COMPLETE", "PRUNED") for trial in stored.trials)


def _refuse_other_defaults(stored: Results, spec: StudySpec, defaults: Mapping[str, str]) -> None:
    """Refuse changed defaults of settings that some cell relies on. New settings are allowed."""
    faults = [
        f"{_where(spec)}: trainer: the Settings of {spec.trainer} changed since trials of {spec.study!r} were run: "
        f"{key}: default {before} → {defaults[key]}; put it back, or give the study another name"
        for key, before in stored.defaults.items()
        if defaults.get(key, before) != before
    ]
    if faults:
        raise StudyChanged(*faults)


def _refuse_other_cells(stored: Results, spec: StudySpec, design: Design) -> None:
    """Refuse a design with other cells for the same study: a fraction depends on the order of factors and levels."""
    planned = {cell.hash for cell in _kept_cells(stored, spec, design)}
    if gone := [cell for cell in stored.cells if cell.hash not in planned]:
        raise StudyChanged(
            f"{_where(spec)}: {plural(len(gone), 'recorded cell')} of {spec.study!r} {'is' if len(gone) == 1 else 'are'} no "
            f"longer planned: the order of the factors or levels, or the Settings of {spec.trainer}, have changed since; undo "
            "that, or give the study another name"
        )


def _refuse_losses(stored: Results, spec: StudySpec, design: Design) -> None:
    """Refuse an extension unless every existing trial is still planned, and evaluated in the same way."""
    planned = {(cell.hash, seed) for cell in _kept_cells(stored, spec, design) for seed in spec.seeds}
    gone = [trial for trial in stored.trials if (trial.cell, trial.seed) not in planned]
    faults = []
    if gone:
        faults.append(
            f"{_where(spec)}: --extend: {len(gone)} trials that exist are not in the changed study (first: "
            f"trial {gone[0].number}, seed {gone[0].seed}); an extension must keep every cell and seed"
        )
    for field in ("metric", "trainer", "baseline"):
        before, after = getattr(stored.spec, field), getattr(spec, field)
        if before != after:
            faults.append(
                f"{_where(spec)}: {field}: {before} → {after}: an extension must not change {field}"
            )
    faults += _other_looks(stored, spec, design) if stored.looks else _late_looks(stored, spec)
    if faults:
        raise StudyChanged(*faults)


def _other_overrides(stored: Results, spec: StudySpec) -> list[str]:
    """Return how to give the study the settings that its trials were run with, if `--set` gave them."""
    if stored.spec.overrides == spec.overrides or not stored.spec.overrides:
        return []
    return [f"{_where(spec)}: to continue with its settings: {stored.run_command()}"]


def _late_looks(stored: Results, spec: StudySpec) -> list[str]:
    """Return a fault if looks were planned after there were results."""
    if spec.looking is None or stored.spec.looking or not _judged(stored):
        return []
    return [
        f"{_where(spec)}: seeds: looks are planned before the first result, and {spec.study!r} already has results; put the "
        "list of seeds back, or give the study with looks another name and fresh seeds"
    ]


def _other_looks(stored: Results, spec: StudySpec, design: Design) -> list[str]:
    """Return what an extension changes in a plan of looks that was used: it may only add looks after the last one."""
    taken = tuple(look.seeds for look in stored.looks)
    before, after = stored.spec.looking, spec.looking
    faults = []
    if before and (not after or (after.start, after.width) != (before.start, before.width)):
        faults.append(
            f"{_where(spec)}: seeds: the looks so far followed a different plan; keep `start` and `until` as they were"
        )
    elif after and after.looks[: len(taken)] != taken:
        faults.append(
            f"{_where(spec)}: seeds.looks: {list(after.looks)} leaves out looks already taken, at "
            f"{', '.join(map(str, taken))} seeds; begin with these"
        )
    if {cell.hash for cell in design.cells} != {cell.hash for cell in stored.cells}:
        faults.append(
            f"{_where(spec)}: --extend: cells cannot be added after a look, since decided comparisons got no more seeds; "
            "give the extended study another name"
        )
    return faults


def _kept_cells(stored: Results, spec: StudySpec, design: Design) -> Sequence[Cell]:
    """Return the planned cells; for a search, those in the store, which stay valid while factors and settings are unchanged."""
    same = (stored.spec.factors, stored.spec.settings) == (spec.factors, spec.settings)
    return stored.cells if spec.search and stored.spec.search and same else design.cells


def identity(spec: StudySpec) -> dict[str, Any]:
    """Return what a study's trials and conclusions depend on, flat: dotted key -> value."""
    content = spec.model_dump(mode="json", exclude=set(HARMLESS))
    content["factors"] = {
        factor["name"]: {
            "levels": {str(level["name"]): level["settings"] for level in factor["levels"]},
            "only_when": {name: sorted(levels, key=repr) for name, levels in factor["only_when"].items()},
        }
        for factor in content["factors"]
    }
    # A search's own seed is its first.
    searched = len(spec.seeds) - len(spec.deciding_seeds)
    content["seeds"] = [*spec.seeds[:searched], *sorted(spec.seeds[searched:])]
    return flat(content)


def _where(spec: StudySpec) -> str:
    return str(spec.path or spec.study)


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)
