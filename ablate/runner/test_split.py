"""`ablate test`: score the best cell's models on the test split, for every seed, once, and record it.

The study's metric chooses the cell before anything is scored; nothing here can choose another. A second use is refused unless the
user asks for it, and is recorded too."""

import datetime
import getpass
import socket
import statistics
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from ablate.contract import Trainer, load_trainer
from ablate.design.model import Cell, Part
from ablate.errors import AblateError, BadInput, TrialError
from ablate.files import remove
from ablate.runner.cadence import Cadence
from ablate.runner.context import Owner, PartContext
from ablate.runner.machine import choose_device
from ablate.runner.other_code import Recorded, present_code
from ablate.runner.outcome import finite
from ablate.runner.run import working_in
from ablate.runner.trial_code import Sources
from ablate.spec.model import levels_text
from ablate.store.places import Place
from ablate.store.reading import read_results
from ablate.store.results import Results, UseOfTest, best_cell
from ablate.store.writing import Store
from ablate.text import listed, shown

PREFIX = "test/"
_STAYS = (
    "ablate test: the trainer had scores on the test split when this happened, so this use stays on record; correct the "
    "trainer, then score again with --again"
)


def score_chosen(place: Place, again: bool) -> dict[str, Any]:
    """Score the best cell on the test split, record it, and return the document of `test --json`.

    Raises:
        BadInput: no cell is complete, the trainer cannot test, the study's folder is gone, or the test split was used before and
            not `again`.
        Unavailable: a model was not saved.
        TrialError: the trainer gave no `test/...` metric, or failed after a part was scored; the use stays on record.
    """
    results = read_results(place)
    cell = _chosen(results)
    _refuse_second_look(results, again)
    _refuse_missing_folder(results)
    trainer = load_trainer(results.spec.trainer, results.spec.folder)
    recorded = Recorded(results)
    changed = recorded.differences(
        present_code(Sources(trainer, results.spec.folder, list(sys.modules)), recorded)
    )
    if trainer.test is None:
        raise BadInput(_why_not(trainer))
    unfinished = sum(trial.state in ("WAITING", "RUNNING") for trial in results.trials)
    use = UseOfTest(cell.hash, _now(), f"{getpass.getuser()}@{socket.gethostname()}", unfinished)
    before, kept = len(results.test_uses), set(_predictions(results, cell, place))
    with closing(Store(place)) as store:
        # Before scoring, since a kill before recording leaves predictions for the test split without a recorded use.
        store.record_use_of_test(use, before)
        of_parts: list[Mapping[str, float]] = []
        try:
            scores = _scores(results, cell, trainer, place, of_parts)
        except Exception as error:
            # Those that training, or an earlier use, wrote stay.
            for file in set(_predictions(results, cell, place)) - kept:
                remove(file)
            if not of_parts:
                store.withdraw_use_of_test(before + 1)
            # The trainer has seen scores, and may have printed them or put them into its error.
            elif isinstance(error, AblateError):
                raise TrialError(*error.faults, _STAYS) from error
            raise
        store.record_test_scores(cell.hash, scores)
    return _document(results, cell, scores, (*results.test_uses, use)) | {"other_code": changed}


def _predictions(results: Results, cell: Cell, place: Place) -> list[Path]:
    """Return the predictions for the test split that there are."""
    return [
        file
        for part in cell.parts.values()
        for seed in results.deciding_seeds_of(cell.hash)
        for file in (place.part_folder(part.hash, seed) / "predictions").glob("test.*")
    ]


def _chosen(results: Results) -> Cell:
    best = best_cell(results)
    if best is None:
        raise BadInput(
            f"{results.spec.study}: no cell has a result for each of its seeds, so there is "
            "no best cell yet; finish one with `ablate run`"
        )
    return next(cell for cell in results.cells if cell.hash == best)


def _refuse_second_look(results: Results, again: bool) -> None:
    if results.test_uses and not again:
        last = results.test_uses[-1]
        scored = any(name.startswith(PREFIX) for trial in results.trials for name in trial.metrics)
        scores = "`ablate report` has the scores" if scored else "it ended before its scores were recorded"
        raise BadInput(
            f"{results.spec.study}: the test split was used on {last.when} by {last.who} (cell {last.cell}); "
            f"{scores}, --again scores again and the report will say so"
        )


def _refuse_missing_folder(results: Results) -> None:
    if not results.spec.folder.is_dir():
        raise BadInput(
            f"{results.spec.folder}: the folder of the study's file is not there; put it back, or run `ablate run "
            "NEW/PATH.yaml`, which records where the file is now and trains nothing again that has a result"
        )


def _scores(
    results: Results, cell: Cell, trainer: Trainer, place: Place, of_parts: list[Mapping[str, float]]
) -> dict[int, dict[str, float]]:
    """Return the `test/...` metrics by seed; append those of each part to `of_parts` as they come."""
    settings = trainer.Settings.model_validate(cell.settings)
    scores = {}
    with working_in(results.spec.folder):
        for seed in results.deciding_seeds_of(cell.hash):
            parts = {}
            for name, part in cell.parts.items():
                parts[name] = _part_scores(part, seed, trainer, place, of_parts)
            scores[seed] = _of_test(trainer.combine(settings, parts), parts)
    return scores


def _why_not(trainer: Trainer) -> str:
    if trainer.is_built_in:
        return (
            f"trainer: {trainer.name} cannot score a test split; let your program score it once, with the settings of the best "
            "cell (`ablate show` has them)"
        )
    return (
        f"trainer: {trainer.name} ({trainer.file}) has no `test`; add test(settings, context) that scores the model "
        "it kept in context.workdir and returns {'test/...': value}"
    )


def _part_scores(
    part: Part, seed: int, trainer: Trainer, place: Place, of_parts: list[Mapping[str, float]]
) -> Mapping[str, float]:
    assert trainer.test is not None
    context = PartContext(
        Owner(),
        seed=seed,
        device=choose_device(),
        workdir=place.part_folder(part.hash, seed),
        cache=place.cache,
        cadence=Cadence(float("inf")),
    )
    scores = trainer.test(trainer.Settings.model_validate(part.settings), context)
    of_parts.append(scores)
    if not isinstance(scores, Mapping):
        raise TrialError(f"test: the trainer returned {shown(scores)}, not a dict of metrics")
    return scores


def _of_test(combined: Mapping[str, float], parts: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Keep the metrics called `test/...`. There may be none, if the test split's labels are hidden."""
    kept = {name: value for name, value in combined.items() if name.startswith(PREFIX)}
    returned = sorted({name for part in parts.values() for name in part})
    if returned and not kept:
        raise TrialError(
            f"test: the trainer returned no metric named {PREFIX}...; it returned {', '.join(returned)}"
        )
    return finite(kept, "test") if kept else {}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _document(
    results: Results, cell: Cell, scores: Mapping[int, Mapping[str, float]], uses: tuple[UseOfTest, ...]
) -> dict[str, Any]:
    names = sorted({name for found in scores.values() for name in found})
    per_seed = {
        name: {str(seed): found[name] for seed, found in scores.items() if name in found} for name in names
    }
    return {
        "study": results.spec.study,
        "cell": cell.hash,
        "factors": cell.levels,
        "seeds": list(scores),
        "metrics": {
            name: {"mean": statistics.fmean(values.values()), "per_seed": values}
            for name, values in per_seed.items()
        },
        "uses": [
            {"cell": use.cell, "when": use.when, "who": use.who, "unfinished": use.unfinished} for use in uses
        ],
    }


def scores_text(document: dict[str, Any]) -> str:
    """Return the document as text."""
    levels = levels_text(document["factors"])
    lines = [f"{document['study']}: cell {document['cell']} ({levels}) on the test split"]
    for name, found in document["metrics"].items():
        values = ", ".join(f"seed {seed} {value:.4g}" for seed, value in found["per_seed"].items())
        lines.append(f"{name}: {found['mean']:.4g} ({values})")
    if not document["metrics"]:
        lines.append("no labels to score with; the predictions are saved (`ablate export`)")
    *earlier, last = document["uses"]
    if document["other_code"]:
        lines.append(
            f"note: scored by code that differs from the recorded code: {listed(document['other_code'], 8)}"
        )
    if last["unfinished"]:
        lines.append(
            f"note: {last['unfinished']} trials of the study have no result yet; the report will say so"
        )
    if earlier:
        lines.append(
            f"note: the test split has now been used {len(document['uses'])} times; the report will say so"
        )
    return "\n".join(lines)
