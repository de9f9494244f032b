"""Export results: tables of all trials, and the model and predictions of one trial.

By default that trial has the best cell (the best mean of the primary metric over all planned seeds, as in the report) and the
first planned seed; `only` and `seed` choose another. The seed with the best score is not used, since that score is mostly
luck. Files that were not saved are noted, without an error. Nothing is written until everything has been read."""

import math
import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ablate.design.model import Cell, Design
from ablate.design.only import NAMES, select
from ablate.errors import BadInput
from ablate.evidence.contrasts import same_level
from ablate.evidence.frames import Grid, grid, tidy_frame
from ablate.evidence.predictions import Predicted, PredictionFiles, Refusal, predictions_in
from ablate.files import new_folder, write_file
from ablate.report.formatting import safe_field
from ablate.report.phrases import WHY_REFUSED
from ablate.report.sections.cells import cell_name, name_beside
from ablate.spec.model import Factor, Scalar
from ablate.spec.scalars import is_text
from ablate.store.results import PartResult, Results, TrialResult, best_cell
from ablate.text import listed, plural

FORMATS = ("csv", "cs224n")

# The files that Stanford's course CS 224N asks for; the spelling of "Similiary" and the spaces around tab and comma are part of
# the format.
CS224N = {
    "sentiment": ("sst", "Predicted_Sentiment"),
    "paraphrase": ("para", "Predicted_Is_Paraphrase"),
    "similarity": ("sts", "Predicted_Similiary"),
}


@dataclass(frozen=True)
class Exported:
    """The files written, their trial, and notes on what was not available."""

    study: str
    cell: str
    seed: int
    files: tuple[str, ...]
    notes: tuple[str, ...]


def export_study(
    results: Results, out: Path, format: str = "csv", only: Sequence[str] = (), seed: int | None = None
) -> Exported:
    """Write `results.csv`, `results.parquet`, `items.parquet`, and one trial's predictions and model into `out`.

    `format` is the format of the predictions: `csv` writes `<split>.<task>.csv` with columns id, prediction, gold, and
    cluster if the trainer recorded clusters; `cs224n` writes `sst-dev-output.csv`, `para-…` and `sts-…` in CS 224N's
    format. The model goes to `out/model`, or to `out/<part>/model` if a trial has several parts.

    Raises:
        BadInput: an unknown format or seed, `only` that does not name exactly one cell, a trial without a result, or
            no predictions of CS 224N's tasks for `cs224n`. Nothing was written.
    """
    if format not in FORMATS:
        raise BadInput(f"--format: {format!r} is not a format; use {' or '.join(FORMATS)}")
    trial = chosen_trial(results, only, seed)
    tables = results_tables(results) | item_tables(results)
    predictions = prediction_files(results, trial, format)
    models = model_folders(results, trial)
    for name, content in (tables | predictions).items():
        write_file(out / name, content)
    for name, source in models.items():
        with new_folder(out / name) as copy:
            shutil.copytree(source, copy, dirs_exist_ok=True)
    files = tuple(str(out / name) for name in (*tables, *predictions, *models))
    folders = [part.folder for part in _parts(results, trial).values()]
    return Exported(results.spec.study, trial.cell, trial.seed, files, _notes(predictions, models, folders))


def results_tables(results: Results) -> dict[str, bytes]:
    """Return `results.csv` and `results.parquet`: one row per trial (`tidy_frame`), levels as `_written` returns them."""
    import pandas
    from pandas.api.types import is_object_dtype

    frame = tidy_frame(results)
    trials = sorted(results.trials, key=lambda trial: trial.number)
    for at, factor in enumerate(results.spec.factors, start=list(frame).index("attempts") + 1):
        levels = [_written(factor, trial.factors) for trial in trials]
        frame[frame.columns[at]] = pandas.Series(levels, dtype=object)
    safe = frame.rename(columns=safe_field).map(safe_field)
    csv = safe.to_csv(index=False, lineterminator="\n").encode()
    # Levels of one factor may be of several types; a parquet column has one.
    for name in [name for name in frame if is_object_dtype(frame[name])]:
        frame[name] = frame[name].map(_as_text)
    return {"results.csv": csv, "results.parquet": frame.to_parquet(index=False)}


def item_tables(results: Results) -> dict[str, bytes]:
    """Return `items.parquet`: the score of each item behind each metric of each trial; empty if no predictions give a metric.

    The mean of the scores is the metric. `cluster` is null where items are independent."""
    import pyarrow
    from pyarrow import parquet

    tables = _items_by_trial(results)
    if (first := next(tables, None)) is None:
        return {}
    sink = pyarrow.BufferOutputStream()
    # Written trial by trial: a large study has tens of millions of items.
    with parquet.ParquetWriter(sink, first.schema) as writer:
        for table in chain([first], tables):
            writer.write_table(table)
    return {"items.parquet": sink.getvalue().to_pybytes()}


def _items_by_trial(results: Results) -> Iterator[Any]:
    """Yield a pyarrow table for each metric of each complete trial that has items."""
    import pyarrow

    text, number = pyarrow.string(), pyarrow.float64()
    schema = pyarrow.schema(
        {"cell": text, "seed": pyarrow.int64(), "metric": text, "id": text, "cluster": text}
        | dict.fromkeys(("prediction", "gold", "score"), number)
    )
    arranged = grid(results)
    files = PredictionFiles(arranged)
    for trial in sorted(arranged.trials.values(), key=lambda trial: trial.number):
        for metric in arranged.dev_metrics if trial.state == "COMPLETE" else ():
            if items := files.scores(trial, metric):
                count = len(items.ids)
                columns = {
                    "cell": [trial.cell] * count,
                    "seed": [trial.seed] * count,
                    "metric": [metric] * count,
                    "id": items.ids,
                    "cluster": items.clusters or [None] * count,
                    "prediction": items.predicted,
                    "gold": items.gold,
                    "score": items.scores,
                }
                yield pyarrow.table(columns, schema)


def prediction_files(results: Results, trial: TrialResult, format: str = "csv") -> dict[str, bytes]:
    """Return the per-item predictions of `trial` on every split as files; empty if its trainer saved none.

    Raises:
        BadInput: a damaged file, or `cs224n` and no predictions of CS 224N's tasks.
    """
    write = _cs224n_file if format == "cs224n" else _csv_file
    files: dict[str, bytes] = {}
    for part in _parts(results, trial).values():
        for path in sorted((part.folder / "predictions").glob("*.*.csv")):
            split, _, task = path.name.removesuffix(".csv").partition(".")
            content = predictions_in(path)
            if isinstance(content, Refusal):
                raise BadInput(f"{path}: {WHY_REFUSED[content]}; train the trial again, or remove the file")
            files |= write(split, task, content)
    if format == "cs224n" and not files:
        raise BadInput(
            f"--format cs224n: cell {trial.cell}, seed {trial.seed} has no predictions of {', '.join(CS224N)}; "
            "--format csv writes those of any task"
        )
    return files


def model_folders(results: Results, trial: TrialResult) -> dict[str, Path]:
    """Return {target name: source folder} for the models of all parts of `trial`; empty unless all were saved."""
    parts = _parts(results, trial)
    if len(parts) < len(trial.parts) or not all((part.folder / "model").is_dir() for part in parts.values()):
        return {}
    alone = len(parts) == 1
    return {
        "model" if alone else f"{_folder_name(name, part)}/model": part.folder / "model"
        for name, part in parts.items()
    }


def chosen_trial(results: Results, only: Sequence[str] = (), seed: int | None = None) -> TrialResult:
    """Return the trial to export: of the best cell unless `only` names one, of the first seed unless `seed` is given.

    Raises:
        BadInput: `only` does not name exactly one cell, there is no such
            seed or no result for it, or no cell has all its seeds done.
    """
    cell = named_cell(results, only) if only else best_cell(results)
    if cell is None:
        raise BadInput(
            f"{results.spec.study}: no cell has all of its planned seeds done, so there is no best cell; "
            "name one with --only factor=level"
        )
    arranged = grid(results)
    if cell not in arranged.index:
        raise BadInput(
            f"{results.spec.study}: cell {cell} is not a finalist of the search, so it ran on seed {results.spec.seeds[0]} only; "
            "choose a finalist (`ablate report` lists them)"
        )
    row, column = arranged.index[cell], _column(arranged, seed)
    trial = arranged.trials.get((row, column))
    if trial is None or trial.state != "COMPLETE":
        state = trial.state if trial else "missing"
        raise BadInput(
            f"{results.spec.study}: cell {cell} ({cell_name(arranged, row)}), "
            f"seed {arranged.seeds[column]} is {state}; choose a complete trial"
        )
    return trial


def named_cell(results: Results, only: Sequence[str]) -> str:
    """Return the hash of the one cell that meets all of `only`: `factor=level`, `baseline` or `best`."""
    spec = results.spec
    named = {name: cell.hash for name in NAMES if (cell := _with_levels(results, getattr(spec, name)))}
    design = Design(spec.design.kind, results.raw_cells, results.cells, results.reference, named=named)
    cells = select(design, only)
    if len(cells) > 1:
        reference = next((cell for cell in results.cells if cell.hash == results.reference), None)
        names = listed((name_beside(reference, cell, spec.design.kind) for cell in cells), 3)
        raise BadInput(
            f"--only {' --only '.join(only)}: {plural(len(cells), 'cell')} meet this ({names}); "
            "add factor=level until only one is left"
        )
    return cells[0].hash


def _column(arranged: Grid, seed: int | None) -> int:
    if seed is None:
        return 0
    if seed not in arranged.seeds:
        known = ", ".join(map(str, arranged.seeds))
        raise BadInput(f"seed: found {seed}; the study has {plural(len(arranged.seeds), 'seed')}: {known}")
    return arranged.seeds.index(seed)


def _with_levels(results: Results, levels: Mapping[str, Scalar]) -> Cell | None:
    """Return the cell whose levels are all in `levels`, which may also name factors that do not exist there."""
    return next(
        (
            cell
            for cell in results.cells
            if all(name in levels and same_level(levels[name], level) for name, level in cell.levels.items())
        ),
        None,
    )


def _parts(results: Results, trial: TrialResult) -> dict[str, PartResult]:
    """Return the parts that were trained, by the trainer's names for them."""
    trained = {name: results.parts.get((hash, trial.seed)) for name, hash in trial.parts.items()}
    return {name: part for name, part in trained.items() if part}


def _notes(
    predictions: Collection[str], models: Collection[str], folders: Collection[Path]
) -> tuple[str, ...]:
    gone = [
        f"{folder}: is gone, and with it what its trial predicted"
        for folder in folders
        if not folder.is_dir()
    ]
    if gone:
        return tuple(gone)
    notes = []
    if not predictions:
        notes.append("no predictions: the trainer saved none (`context.predictions` saves them)")
    if not models:
        notes.append(
            "no model: not every part of the trial has a folder `model` (the built-in trainer saves it with `settings: {keep: "
            "model}`, a trainer of your own in context.workdir; `ablate show` lists the files that there are)"
        )
    return tuple(notes)


def _cs224n_file(split: str, task: str, content: Predicted) -> dict[str, bytes]:
    if task not in CS224N:
        return {}
    short, header = CS224N[task]
    value: Callable[[float], str] = (
        (lambda p: str(int(p))) if task == "sentiment" else (lambda p: str(float(p)))
    )
    rows = [f"{id} , {value(p)} \n" for id, p in zip(content.ids, content.predicted, strict=True)]
    return {f"{short}-{split}-output.csv": "".join([f"id \t {header} \n", *rows]).encode()}


def _csv_file(split: str, task: str, content: Predicted) -> dict[str, bytes]:
    columns = {
        "id": map(_quoted, content.ids),
        "prediction": map(repr, content.predicted.tolist()),
        "gold": ("" if math.isnan(gold) else repr(gold) for gold in content.gold.tolist()),
    }
    if content.clusters is not None:
        columns["cluster"] = map(_quoted, content.clusters)
    lines = [",".join(row) + "\n" for row in (columns, *zip(*columns.values(), strict=True))]
    return {f"{split}.{task}.csv": "".join(lines).encode()}


def _quoted(text: str) -> str:
    text = str(safe_field(text))
    doubled = text.replace('"', '""')
    return f'"{doubled}"' if re.search('[",\r\n]', text) else text


def _written(factor: Factor, levels: Mapping[str, Scalar]) -> Scalar:
    """Return a trial's level of a factor for a table; None where the factor does not exist.

    A null level is written as the word null. If some levels of the factor are not text, a text that YAML would read as something
    else is quoted, so that null and "null", 0 and "0" stay different levels."""
    if factor.name not in levels:
        return None
    level = levels[factor.name]
    if not isinstance(level, str):
        return "null" if level is None else level
    is_mixed = any(not isinstance(other.name, str) for other in factor.levels)
    return f'"{level}"' if not level or (is_mixed and not is_text(level)) else level


def _as_text(level: object) -> str | None:
    if level is None or (isinstance(level, float) and np.isnan(level)):
        return None
    return str(level).lower() if isinstance(level, bool) else str(level)


def _folder_name(name: str, part: PartResult) -> str:
    """Return a part's name if it is a plain word, otherwise its hash, since trainers may use any text as a name."""
    return name if re.fullmatch(r"\w[\w-]{0,63}", name) else part.part
