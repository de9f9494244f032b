"""`ablate reproduce`: train a trial again in a scratch home, and compare it bit by bit with what is recorded.

It uses the recorded number of threads, since sums depend on it. The study itself is not touched."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console

from ablate.contract import load_trainer
from ablate.design.cell_settings import flat
from ablate.design.model import Cell, Design
from ablate.errors import BadInput
from ablate.files import make_folder
from ablate.runner.one_trial import UNFINISHED
from ablate.runner.ownership import share_home
from ablate.runner.prepare import Prepared
from ablate.runner.run import Options, supervise, working_in
from ablate.spec.designs import OneAtATime
from ablate.store.creating import create_store
from ablate.store.places import Place, place_of
from ablate.store.reading import read_results
from ablate.store.results import PartResult, Results, TrialResult
from ablate.text import is_utf8, plural, shown

# Facts that differ from run to run.
MEASURED = ("host", "peak_memory_bytes", "gpu_energy_joules", "git_changed_files")


def reproduce(
    results: Results, trial: TrialResult, console: Console, study_folder: Path | None = None
) -> tuple[int, dict[str, Any]]:
    """Train a trial again; return an exit code (0 equal, 1 not, 130 or 143 interrupted) and `reproduce --json`'s document.

    `study_folder`: where the study's file is on this machine; if not given, where the last `ablate run` had it.

    Raises:
        BadInput: the trial has no result to compare with, or the study's folder is not here.
    """
    if trial.state != "COMPLETE":
        raise BadInput(
            f"TRIAL: trial {trial.number} of {results.spec.study} is {trial.state}, so it has no result to compare with"
        )
    folder = (study_folder or results.spec.folder).resolve()
    if not folder.is_dir():
        raise BadInput(
            f"{folder}: the folder of the study's file is not on this machine; put it there, or name the file where it is: "
            f"ablate reproduce PATH.yaml {trial.number}"
        )
    cell = next(cell for cell in results.cells if cell.hash == trial.cell)
    before = _parts(results, trial)
    if threads := next(iter(before.values())).facts.get("threads"):
        os.environ["OMP_NUM_THREADS"] = str(threads)
    console.print(
        f"training trial {trial.number} again in a scratch home, where it is trial 0", highlight=False
    )
    if not is_utf8(tempfile.gettempdir()):
        raise BadInput(
            f"TMPDIR: {shown(tempfile.gettempdir())}: its path is not UTF-8, which databases need; name another folder"
        )
    with tempfile.TemporaryDirectory(prefix="ablate-reproduce-") as home:
        place = place_of(results.spec.study, Path(home), f"sqlite:///{home}/{results.spec.study}.db")
        code = _train(results, folder, cell, trial.seed, place, console)
        again = read_results(place)
        # Interrupted, or stopped by an error that was printed and says nothing about the trial.
        if code > 1 or again.trials[0].state in UNFINISHED:
            return code, {}
        document = _compared(results, trial, again, again.trials[0])
    return int(not document["equal"]), document


def _train(results: Results, folder: Path, cell: Cell, seed: int, place: Place, console: Console) -> int:
    """Run a study of this one trial; return an exit code."""
    alone = {
        "seeds": (seed,),
        "looking": None,
        "design": OneAtATime(),
        "path": folder / f"{results.spec.study}.yaml",
    }
    spec = results.spec.model_copy(update=alone)
    design = Design(kind=spec.design.kind, raw_cells=1, cells=(cell,), reference=cell.hash)
    trainer = load_trainer(spec.trainer, spec.folder)
    with working_in(spec.folder):
        trainer.check(trainer.Settings.model_validate(cell.settings))
    make_folder(place.folder)
    with closing(create_store(place, spec, design)) as store:
        share_home(store)
        store.take_over(spec, design, {}, [(cell.hash, seed)])
        return supervise(store, Prepared(spec, trainer, design, place), [cell], Options(), console)


def _parts(results: Results, trial: TrialResult) -> dict[str, PartResult]:
    """Return the trained parts of a trial by name."""
    keys = {name: (part, trial.seed) for name, part in trial.parts.items()}
    return {name: results.parts[key] for name, key in keys.items() if key in results.parts}


def _compared(results: Results, trial: TrialResult, again: Results, second: TrialResult) -> dict[str, Any]:
    before, after = _parts(results, trial), _parts(again, second)
    metrics = {
        name: {"recorded": value, "again": second.metrics.get(name)}
        for name, value in trial.metrics.items()
        # `ablate test` adds these after training.
        if not name.startswith("test/") or name in second.metrics
    }
    files = [
        (name, file, after[name].folder / "predictions" / file.name if name in after else None)
        for name, part in before.items()
        for file in sorted((part.folder / "predictions").glob("*.csv"))
    ]
    predictions = {
        f"{name}/{file.name}": other is not None and _same(file, other)
        for name, file, other in files
        # As above.
        if not (results.test_uses and file.name.startswith("test.") and other and not other.is_file())
    }
    return {
        "study": results.spec.study,
        "number": trial.number,
        "equal": second.state == "COMPLETE"
        and all(values["recorded"] == values["again"] for values in metrics.values())
        and all(predictions.values()),
        "error": second.error,
        "metrics": metrics,
        "predictions": predictions,
        "changed": {
            f"{name}: {fact}": [was, now]
            for name in before.keys() & after.keys()
            for fact, was, now in _changed(before[name].facts, after[name].facts)
        },
    }


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and one.read_bytes() == other.read_bytes()


def _changed(before: dict[str, Any], after: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield each fact that has changed."""
    old, new = flat(before), flat(after)
    for fact in sorted(old.keys() & new.keys()):
        if old[fact] != new[fact] and fact not in MEASURED:
            yield fact, old[fact], new[fact]


def reproduced_text(document: dict[str, Any]) -> str:
    """Return the document as text."""
    name = f"trial {document['number']} of {document['study']}"
    if document["error"]:
        return f"{name}: NOT reproduced: it failed: {document['error']}"
    of = f"{plural(len(document['metrics']), 'metric')}, {plural(len(document['predictions']), 'prediction file')}"
    if document["equal"]:
        return f"{name}: reproduced bit for bit ({of})"
    lines = [f"{name}: NOT equal ({of} compared)"]
    lines += [
        f"  {metric}: recorded {values['recorded']}, now {values['again']}"
        for metric, values in document["metrics"].items()
        if values["recorded"] != values["again"]
    ]
    lines += [
        f"  {file}: the predictions differ" for file, same in document["predictions"].items() if not same
    ]
    lines += [f"  changed since: {fact}: {was} → {now}" for fact, (was, now) in document["changed"].items()]
    if not document["changed"]:
        lines.append(
            "  no recorded code, package or fact about the machine changed; does something random not depend on context.seed?"
        )
    return "\n".join(lines)
